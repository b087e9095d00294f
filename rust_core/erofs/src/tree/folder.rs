//! Directories, which alone are kept in memory whole: every entry below one asks for it, and its attributes may change.

use super::{InodeId, Tree};
use crate::error::{narrow, ImageError};
use crate::file::{Attributes, Kind};
use crate::owner::Owner;
use crate::records::name_length;
use crate::slot::{Role, Slot, NONE};

/// What directories have beside their slot, instead of a record.
#[derive(Debug, Clone)]
pub(crate) struct Folder {
    pub(super) mtime_seconds: i64,
    pub(super) mtime_nanos: u32,
    /// A number of [`Owners`].
    pub(super) owner: u32,
    /// The directory above, the root's being itself.
    pub parent: u32,
    /// The first name in it.
    pub(super) first: u32,
    /// Where the length of its own name stands, in one byte, and its bytes behind it.
    name: u32,
    /// Its bytes in the image, once it is laid out.
    pub size: u32,
    /// The directories in it, once it is laid out.
    pub below: u32,
    mark: u8,
}

impl Folder {
    pub(super) fn new(attributes: &Attributes, owner: u32, parent: u32, name: u32) -> Self {
        let Attributes { mtime_seconds, mtime_nanos, .. } = *attributes;
        Self { mtime_seconds, mtime_nanos, owner, parent, first: NONE, name, size: 0, below: 0, mark: 0 }
    }
}

impl Tree {
    pub(crate) fn folder(&self, directory: u32) -> Option<&Folder> {
        let slot = self.slot(directory);
        self.folders.get(slot.place as usize).filter(|_| slot.is_directory())
    }

    pub(crate) fn folder_mut(&mut self, directory: u32) -> Option<&mut Folder> {
        let slot = self.slot(directory);
        self.folders.get_mut(slot.place as usize).filter(|_| slot.is_directory())
    }

    pub(super) fn folder_name(&self, folder: &Folder) -> &[u8] {
        let (length, rest) = self.bytes[folder.name as usize..].split_first().unwrap_or((&0, &[]));
        &rest[..usize::from(*length)]
    }

    pub(super) fn is_folder_of(&self, slot: Slot, directory: u32, name: &[u8]) -> bool {
        slot.is_directory() && {
            let folder = &self.folders[slot.place as usize];
            folder.parent == directory && self.folder_name(folder) == name
        }
    }

    /// The directory that `name` is in a directory, if it is one.
    #[must_use]
    pub fn find_directory(&self, directory: InodeId, name: &[u8]) -> Option<InodeId> {
        let key = self.key(directory.0, name);
        let is_it = |number| {
            let slot = self.slot(number);
            slot.key == key && self.is_folder_of(slot, directory.0, name)
        };
        self.table.find(key, is_it).map(InodeId)
    }

    /// The directory above a directory and its name there; `None` for the root.
    #[must_use]
    pub fn parent(&self, directory: InodeId) -> Option<(InodeId, &[u8])> {
        let folder = self.folder(directory.0).filter(|_| directory != self.root())?;
        Some((InodeId(folder.parent), self.folder_name(folder)))
    }

    /// The directories that have a name, and the root.
    pub fn directories(&self) -> impl Iterator<Item = InodeId> + '_ {
        let is_live = |slot: &Slot| slot.is_directory() && !slot.is_removed();
        (0..).zip(&self.slots).filter(move |(_, slot)| is_live(slot)).map(|(number, _)| InodeId(number))
    }

    /// What [`Tree::set_mark`] noted of a directory, at first 0.
    #[must_use]
    pub fn mark(&self, directory: InodeId) -> u8 {
        self.folder(directory.0).map_or(0, |folder| folder.mark)
    }

    /// Notes something of a directory that is the caller's to understand.
    pub fn set_mark(&mut self, directory: InodeId, mark: u8) {
        if let Some(folder) = self.folder_mut(directory.0) {
            folder.mark = mark;
        }
    }

    /// The attributes of a directory; `None` of anything else.
    #[must_use]
    pub fn attributes(&self, directory: InodeId) -> Option<Attributes> {
        let Folder { mtime_seconds, mtime_nanos, owner, .. } = *self.folder(directory.0)?;
        let Owner { uid, gid, xattrs, mode } = *self.owners.get(owner);
        Some(Attributes { mode, uid, gid, mtime_seconds, mtime_nanos, xattrs })
    }

    /// Replaces the attributes of a directory; those of other files are as they were added.
    ///
    /// # Errors
    /// [`ImageError::Full`].
    pub fn set_attributes(&mut self, directory: InodeId, attributes: Attributes) -> Result<(), ImageError> {
        debug_assert!(self.slot(directory.0).is_directory(), "only directories change");
        let owner = self.owner_of(&attributes)?;
        if let Some(folder) = self.folder_mut(directory.0) {
            (folder.mtime_seconds, folder.mtime_nanos) = (attributes.mtime_seconds, attributes.mtime_nanos);
            folder.owner = owner;
        }
        Ok(())
    }

    pub(super) fn add_directory(
        &mut self,
        directory: InodeId,
        name: &[u8],
        attributes: &Attributes,
        owner: u32,
    ) -> Result<InodeId, ImageError> {
        let place = narrow("directories", self.folders.len() as u64)?;
        let start = narrow("bytes of names", self.bytes.len() as u64)?;
        self.bytes.push(name_length(name)?);
        self.bytes.extend_from_slice(name);
        self.folders.push(Folder::new(attributes, owner, directory.0, start));
        self.insert(directory.0, name, Role::Inode(Kind::Directory), place).map(InodeId)
    }

    /// The first name of a directory, also a removed one until it is sorted.
    pub(crate) fn first(&self, directory: u32) -> Option<u32> {
        self.folder(directory).map(|folder| folder.first).filter(|first| *first != NONE)
    }

    pub(crate) fn set_first(&mut self, directory: u32, first: u32) {
        if let Some(folder) = self.folder_mut(directory) {
            folder.first = first;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::empty;
    use super::*;
    use crate::file::{FileData, New};

    #[test]
    fn directories_have_attributes_and_a_mark() {
        let mut tree = empty();
        let root = tree.root();
        let all = Attributes {
            mode: 0o711,
            uid: 1,
            gid: 2,
            mtime_seconds: i64::MIN,
            mtime_nanos: 999,
            ..Attributes::default()
        };
        let d = tree.add(root, b"d", New::Directory, Attributes::default()).unwrap();
        let f = tree.add(root, b"f", New::File(7, FileData::Hole), all).unwrap();
        tree.set_attributes(d, all).unwrap();
        tree.set_mark(d, 3);
        assert_eq!((tree.attributes(d), tree.attributes(root)), (Some(all), Some(Attributes::default())));
        assert_eq!((tree.attributes(f), tree.mark(d), tree.mark(root), tree.mark(f)), (None, 3, 0, 0));
        assert_eq!(tree.directories().collect::<Vec<_>>(), [root, d]);
    }
}
