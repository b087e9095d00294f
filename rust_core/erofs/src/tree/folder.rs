//! Directories, which alone are kept in memory: every entry below one asks for it, and its attributes may change. Names
//! of very many of them lie in the file of records.

use std::borrow::Cow;

use super::{InodeId, Tree};
use crate::error::{narrow, ImageError};
use crate::file::{Attributes, Kind};
use crate::owner::Owner;
use crate::records::{name_length, Window};
use crate::slot::{Role, Slot, NONE};

/// What directories have beside their slot, instead of a record.
#[derive(Debug, Clone)]
pub(crate) struct Folder {
    pub(super) mtime_seconds: i64,
    /// Nanoseconds, which are below 2^30, and above them the mark.
    nanos_and_mark: u32,
    /// A number of [`Owners`].
    pub(super) owner: u32,
    /// The directory above, the root's being itself.
    pub parent: u32,
    /// The first name in it.
    pub(super) first: u32,
    /// Where its own name stands: below [`NAMES_BYTES`] in memory, its length in one byte and its bytes behind it; from
    /// there on in the record at the place so much lower.
    name: u32,
    /// Its bytes in the image, once it is laid out.
    pub size: u32,
}

/// The directory above another one, and what that one is named there.
type NamedIn<'t> = (InodeId, Cow<'t, [u8]>);

/// Bits of a [`Folder`]'s nanoseconds.
const NANOS_BITS: u32 = 30;
/// Names of directories that are kept in memory, together: those of some 150,000.
pub(super) const NAMES_BYTES: u32 = 512 * 1024;
/// Marks are below this.
const MARK_COUNT: u8 = 1 << (u32::BITS - NANOS_BITS);

impl Folder {
    pub(super) fn new(attributes: &Attributes, owner: u32, parent: u32, name: u32) -> Self {
        let Attributes { mtime_seconds, mtime_nanos, .. } = *attributes;
        let mut folder = Self { mtime_seconds, nanos_and_mark: 0, owner, parent, first: NONE, name, size: 0 };
        folder.set_nanos(mtime_nanos);
        folder
    }

    pub(super) fn nanos(&self) -> u32 {
        self.nanos_and_mark & ((1 << NANOS_BITS) - 1)
    }

    fn set_nanos(&mut self, nanos: u32) {
        self.nanos_and_mark = self.nanos_and_mark >> NANOS_BITS << NANOS_BITS | nanos.min(999_999_999);
    }

    /// The place of the record of its name, if it has one.
    fn record(&self) -> Option<u32> {
        self.name.checked_sub(NAMES_BYTES)
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

    /// The name of a directory; `window` is where its record is looked for.
    pub(super) fn folder_name<'a>(
        &'a self,
        folder: &Folder,
        window: &'a mut Window,
    ) -> Result<&'a [u8], ImageError> {
        match folder.record() {
            Some(place) => Ok(window.get(&self.records, place)?.name),
            None => Ok(self.kept_name(folder)),
        }
    }

    /// A name that is in memory.
    fn kept_name(&self, folder: &Folder) -> &[u8] {
        let (length, rest) = self.bytes[folder.name as usize..].split_first().unwrap_or((&0, &[]));
        &rest[..usize::from(*length)]
    }

    pub(super) fn is_folder_of(&self, slot: Slot, directory: u32, name: &[u8]) -> Result<bool, ImageError> {
        let Some(folder) = self.folders.get(slot.place as usize).filter(|_| slot.is_directory()) else {
            return Ok(false);
        };
        Ok(folder.parent == directory
            && match folder.record() {
                Some(place) => self.records.is_of(place, directory, name)?,
                None => self.kept_name(folder) == name,
            })
    }

    /// The place of a name's record, if it has one.
    pub(super) fn record_place(&self, slot: Slot) -> Option<u32> {
        if slot.is_directory() {
            return self.folders.get(slot.place as usize).and_then(Folder::record);
        }
        Some(slot.place)
    }

    /// The directory that `name` is in a directory, if it is one.
    ///
    /// # Errors
    /// [`ImageError::Records`].
    pub fn find_directory(&self, directory: InodeId, name: &[u8]) -> Result<Option<InodeId>, ImageError> {
        let found = self.search(directory.0, name, |slot| self.is_folder_of(slot, directory.0, name))?;
        Ok(found.map(InodeId))
    }

    /// The directory above a directory and its name there; `None` for the root.
    ///
    /// # Errors
    /// [`ImageError::Records`].
    pub fn parent(&self, directory: InodeId) -> Result<Option<NamedIn<'_>>, ImageError> {
        let Some(folder) = self.folder(directory.0).filter(|_| directory != self.root()) else {
            return Ok(None);
        };
        let name = match folder.record() {
            Some(place) => Window::default().get(&self.records, place)?.name.to_vec().into(),
            None => self.kept_name(folder).into(),
        };
        Ok(Some((InodeId(folder.parent), name)))
    }

    /// The directories that have a name, and the root.
    pub fn directories(&self) -> impl Iterator<Item = InodeId> + '_ {
        let is_live = |slot: &Slot| slot.is_directory() && !slot.is_removed();
        (0..).zip(&self.slots).filter(move |(_, slot)| is_live(slot)).map(|(number, _)| InodeId(number))
    }

    /// What [`Tree::set_mark`] noted of a directory, at first 0.
    #[must_use]
    pub fn mark(&self, directory: InodeId) -> u8 {
        let mark = self.folder(directory.0).map_or(0, |folder| folder.nanos_and_mark >> NANOS_BITS);
        u8::try_from(mark).unwrap_or(0)
    }

    /// Notes something of a directory that is the caller's to understand, a number below 4.
    pub fn set_mark(&mut self, directory: InodeId, mark: u8) {
        debug_assert!(mark < MARK_COUNT, "a mark has two bits");
        if let Some(folder) = self.folder_mut(directory.0) {
            folder.nanos_and_mark = folder.nanos() | u32::from(mark % MARK_COUNT) << NANOS_BITS;
        }
    }

    /// The attributes of a directory; `None` of anything else.
    #[must_use]
    pub fn attributes(&self, directory: InodeId) -> Option<Attributes> {
        let folder = self.folder(directory.0)?;
        let Owner { uid, gid, xattrs, mode } = *self.owners.get(folder.owner);
        let (mtime_seconds, mtime_nanos) = (folder.mtime_seconds, folder.nanos());
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
            (folder.mtime_seconds, folder.owner) = (attributes.mtime_seconds, owner);
            folder.set_nanos(attributes.mtime_nanos);
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
        let start = if self.bytes.len() + 1 + name.len() <= self.kept_names_bytes {
            let start = self.bytes.len() as u64;
            self.bytes.push(name_length(name)?);
            self.bytes.extend_from_slice(name);
            start
        } else {
            u64::from(self.records.add_directory(directory.0, name)?) + u64::from(NAMES_BYTES)
        };
        let name_place = narrow("bytes of names", start)?;
        self.folders.push(Folder::new(attributes, owner, directory.0, name_place));
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
        // A mark and a time are each as they were, whichever came last.
        tree.set_attributes(d, Attributes::default()).unwrap();
        assert_eq!((tree.attributes(d), tree.mark(d)), (Some(Attributes::default()), 3));
    }

    #[test]
    fn names_of_very_many_directories_lie_in_the_file() {
        let mut tree = empty();
        let (mut here, mut made) = (tree.root(), Vec::new());
        let name = |n: u32| format!("{n:0>250}").into_bytes();
        let count = NAMES_BYTES / 250 + 10;
        for n in 0..count {
            let added = tree.add(here, &name(n), New::Directory, Attributes::default()).unwrap();
            made.push((here, added));
            if n % 100 == 0 {
                here = added;
            }
        }
        assert!(tree.bytes.len() <= NAMES_BYTES as usize && !tree.records.is_empty());
        for (n, (above, id)) in (0..).zip(&made) {
            let (found, all) =
                (tree.find_directory(*above, &name(n)).unwrap(), tree.find(*above, &name(n)).unwrap());
            assert_eq!((found, all), (Some(*id), Some(*id)), "{n}");
            assert_eq!(tree.parent(*id).unwrap(), Some((*above, name(n).into())));
            assert_eq!(tree.find_directory(*id, &name(n)).unwrap(), None);
        }
        let (above, last) = made[made.len() - 1];
        tree.remove(above, &name(count - 1), &mut |_, _, _| {}).unwrap();
        assert_eq!((tree.find(above, &name(count - 1)).unwrap(), tree.link_count(last)), (None, 0));
    }
}
