//! A tree of names and inodes, in as little memory as a million of them need: a slot and a place in a table for each name,
//! and more for directories only. The rest lies in a file.

mod folder;
mod sort;

use std::collections::HashMap;
use std::fs::File;
use std::hash::{BuildHasher, RandomState};

use folder::Folder;
pub(crate) use sort::Scratch;

use crate::chunks::ChunkMap;
use crate::error::{narrow, ImageError};
use crate::file::{Attributes, FileData, Kind, New, Special};
use crate::owner::{Owner, Owners};
use crate::records::{Data, Inode, Records, Window};
use crate::slot::{next_number, Role, Slot, Table, NONE};
use crate::xattr::{XattrSet, Xattrs};

/// What one name costs in memory at most, beyond its bytes: its slot, its place in the table of names, and what a
/// directory has beside them, or an inode of more than one name.
pub const NAME_OVERHEAD_BYTES: u64 = 64;

/// An inode of a [`Tree`]. It names the same inode as long as the tree lives, also once no name is left of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct InodeId(pub(crate) u32);

/// The tree of one image.
#[derive(Debug)]
pub struct Tree {
    slots: Vec<Slot>,
    folders: Vec<Folder>,
    /// Names of the first directories, each behind its length.
    bytes: Vec<u8>,
    /// What they may take, at most [`folder::NAMES_BYTES`].
    kept_names_bytes: usize,
    table: Table,
    hasher: RandomState,
    /// How many names inodes have beside their first one.
    more_names: HashMap<u32, u32>,
    pub(crate) records: Records,
    pub(crate) owners: Owners,
    pub(crate) xattrs: Xattrs,
    pub(crate) maps: Vec<ChunkMap>,
}

impl Tree {
    /// A tree that holds nothing but its root. `records` is an empty file for what the tree does not keep in memory, of
    /// no use to anyone else.
    #[must_use]
    pub fn new(root: Attributes, records: File) -> Self {
        let mut tree = Self {
            slots: vec![Slot::new(Role::Inode(Kind::Directory), 0, 0, NONE)],
            folders: Vec::new(),
            bytes: vec![0],
            kept_names_bytes: folder::NAMES_BYTES as usize,
            table: Table::default(),
            hasher: RandomState::new(),
            more_names: HashMap::new(),
            records: Records::new(records),
            owners: Owners::default(),
            xattrs: Xattrs::default(),
            maps: Vec::new(),
        };
        // The first number is always free.
        let owner = tree.owner_of(&root).unwrap_or(0);
        tree.folders.push(Folder::new(&root, owner, 0, 0));
        tree
    }

    fn owner_of(&mut self, attributes: &Attributes) -> Result<u32, ImageError> {
        let Attributes { mode, uid, gid, xattrs, .. } = *attributes;
        self.owners.number(Owner { uid, gid, xattrs, mode })
    }

    /// How many distinct sets of owner, permissions and extended attributes there are; each takes
    /// [`OWNER_BYTES`](crate::OWNER_BYTES).
    #[must_use]
    pub fn owner_count(&self) -> usize {
        self.owners.len()
    }

    /// The root directory.
    #[must_use]
    pub fn root(&self) -> InodeId {
        InodeId(0)
    }

    pub(crate) fn slot(&self, number: u32) -> Slot {
        self.slots[number as usize]
    }

    pub(crate) fn slot_mut(&mut self, number: u32) -> &mut Slot {
        &mut self.slots[number as usize]
    }

    fn key(&self, directory: u32, name: &[u8]) -> u32 {
        u32::try_from(self.hasher.hash_one((directory, name)) >> 32).unwrap_or(0)
    }

    /// What `name` is in a directory.
    ///
    /// # Errors
    /// [`ImageError::Records`].
    pub fn find(&self, directory: InodeId, name: &[u8]) -> Result<Option<InodeId>, ImageError> {
        let found = self.find_name(directory.0, name)?;
        found.map(|number| self.resolve(number, &mut Window::default()).map(InodeId)).transpose()
    }

    fn find_name(&self, directory: u32, name: &[u8]) -> Result<Option<u32>, ImageError> {
        self.search(directory, name, |slot| {
            if slot.is_directory() {
                return self.is_folder_of(slot, directory, name);
            }
            self.records.is_of(slot.place, directory, name)
        })
    }

    /// The name of this key for which `is_it` holds.
    fn search(
        &self,
        directory: u32,
        name: &[u8],
        is_it: impl Fn(Slot) -> Result<bool, ImageError>,
    ) -> Result<Option<u32>, ImageError> {
        let key = self.key(directory, name);
        let mut failure = None;
        let found = self.table.find(key, |number| {
            let slot = self.slot(number);
            // A failure ends the search.
            slot.key == key
                && is_it(slot).unwrap_or_else(|error| {
                    failure = Some(error);
                    true
                })
        });
        failure.map_or(Ok(found), Err)
    }

    /// The inode that a name leads to; `window` is where the name's record is looked for.
    pub(crate) fn resolve(&self, number: u32, window: &mut Window) -> Result<u32, ImageError> {
        let slot = self.slot(number);
        match slot.role() {
            Role::Inode(_) => Ok(number),
            Role::Alias => Ok(window.get(&self.records, slot.place)?.original()),
        }
    }

    /// The type of a file.
    #[must_use]
    pub fn kind(&self, id: InodeId) -> Kind {
        match self.slot(id.0).role() {
            Role::Inode(kind) => kind,
            Role::Alias => unreachable!("a further name is no inode"),
        }
    }

    /// How many names a file has; the root counts as having one.
    #[must_use]
    pub fn link_count(&self, id: InodeId) -> u32 {
        let more = self.more_names.get(&id.0).copied().unwrap_or(0);
        more + u32::from(!self.slot(id.0).is_removed())
    }

    /// The text of a symbolic link; empty for anything else.
    ///
    /// # Errors
    /// [`ImageError::Records`].
    pub fn target(&self, id: InodeId) -> Result<Vec<u8>, ImageError> {
        match self.kind(id) {
            Kind::Symlink => {
                Ok(Window::default().get(&self.records, self.slot(id.0).place)?.target().to_vec())
            }
            _ => Ok(Vec::new()),
        }
    }

    /// An inode; `window` is where its record is looked for.
    pub(crate) fn inode(&self, number: u32, window: &mut Window) -> Result<Inode, ImageError> {
        let kind = self.kind(InodeId(number));
        if let Some(folder) = self.folder(number) {
            let Folder { mtime_seconds, owner, size, .. } = *folder;
            let (size, mtime_nanos) = (size.into(), folder.nanos());
            return Ok(Inode { kind, size, mtime_seconds, mtime_nanos, owner, place: 0, data: Data::Hole });
        }
        Ok(window.get(&self.records, self.slot(number).place)?.inode(kind))
    }

    /// A set of extended attributes: `base` with `added` behind it.
    ///
    /// # Errors
    /// [`ImageError::XattrName`], [`ImageError::XattrSize`], [`ImageError::Full`], [`ImageError::Records`].
    pub fn xattrs<'x>(
        &mut self,
        base: XattrSet,
        added: impl IntoIterator<Item = (&'x [u8], &'x [u8])>,
    ) -> Result<XattrSet, ImageError> {
        self.xattrs.extend(base, added, &mut self.records)
    }

    /// Adds a file under a name that is free in `directory`.
    ///
    /// # Errors
    /// [`ImageError::Full`], [`ImageError::Records`].
    pub fn add(
        &mut self,
        directory: InodeId,
        name: &[u8],
        new: New<'_>,
        attributes: Attributes,
    ) -> Result<InodeId, ImageError> {
        let owner = self.owner_of(&attributes)?;
        let (mut size, mut place, mut data, mut target) = (0, 0, Data::Hole, &[][..]);
        let kind = match new {
            New::Directory => return self.add_directory(directory, name, &attributes, owner),
            New::File(bytes, file) => {
                size = bytes;
                (data, place) = match file {
                    FileData::Hole => (Data::Hole, 0),
                    FileData::Device(block) => (Data::Device, block),
                    FileData::Image(block) => (Data::Image, block),
                    FileData::Chunks(map) => {
                        self.maps.push(map);
                        (Data::Chunks, narrow("files with holes", self.maps.len() as u64 - 1)?)
                    }
                };
                Kind::File
            }
            New::Symlink(text) => {
                (size, target) = (text.len() as u64, text);
                Kind::Symlink
            }
            New::Special(Special::CharDevice(major, minor)) => {
                size = device_number(major, minor).into();
                Kind::CharDevice
            }
            New::Special(Special::BlockDevice(major, minor)) => {
                size = device_number(major, minor).into();
                Kind::BlockDevice
            }
            New::Special(Special::Fifo) => Kind::Fifo,
        };
        let Attributes { mtime_seconds, mtime_nanos, .. } = attributes;
        let inode = Inode { kind, size, mtime_seconds, mtime_nanos, owner, place, data };
        let place = self.records.add(directory.0, name, &inode, target)?;
        self.insert(directory.0, name, Role::Inode(kind), place).map(InodeId)
    }

    /// Gives a file that is no directory one more name, free in `directory`.
    ///
    /// # Errors
    /// [`ImageError::Full`], also for a name longer than EROFS_NAME_LEN; [`ImageError::Records`].
    pub fn link(&mut self, directory: InodeId, name: &[u8], id: InodeId) -> Result<(), ImageError> {
        debug_assert!(!self.slot(id.0).is_directory(), "a directory has one name");
        let place = self.records.add_alias(directory.0, name, id.0)?;
        self.insert(directory.0, name, Role::Alias, place)?;
        *self.more_names.entry(id.0).or_insert(0) += 1;
        Ok(())
    }

    fn insert(&mut self, directory: u32, name: &[u8], role: Role, place: u32) -> Result<u32, ImageError> {
        debug_assert!(matches!(self.find_name(directory, name), Ok(None)), "the name is taken");
        let number = next_number(self.slots.len())?;
        let key = self.key(directory, name);
        let folder = self.folder_mut(directory);
        let next = folder.map_or(NONE, |folder| std::mem::replace(&mut folder.first, number));
        self.slots.push(Slot::new(role, key, place, next));
        let slots = &self.slots;
        self.table.insert(key, number, |number| slots[number as usize].key);
        Ok(number)
    }

    /// The name is free: what it was, and for a directory all below it, has one name less. `gone` is told of each file
    /// that has no name left, with a regular file's size.
    ///
    /// # Errors
    /// [`ImageError::Records`].
    pub fn remove(
        &mut self,
        directory: InodeId,
        name: &[u8],
        gone: &mut dyn FnMut(InodeId, Kind, u64),
    ) -> Result<(), ImageError> {
        let mut window = Window::default();
        let mut pending: Vec<u32> = self.find_name(directory.0, name)?.into_iter().collect();
        while let Some(number) = pending.pop() {
            self.table.remove(self.slot(number).key, number);
            self.slot_mut(number).set_removed();
            let inode = self.resolve(number, &mut window)?;
            if inode != number {
                self.forget_alias(inode);
            }
            let (id, slot) = (InodeId(inode), self.slot(inode));
            if self.link_count(id) == 0 {
                let kind = self.kind(id);
                let size = if kind == Kind::File { self.inode(inode, &mut window)?.size } else { 0 };
                gone(id, kind, size);
            }
            if slot.is_directory() {
                pending.extend(self.live_names(inode));
            }
        }
        Ok(())
    }

    fn forget_alias(&mut self, inode: u32) {
        if let Some(count) = self.more_names.get_mut(&inode) {
            *count -= 1;
            if *count == 0 {
                self.more_names.remove(&inode);
            }
        }
    }

    /// The names of a directory, the one that was added last first; sorted, in the order of their bytes.
    pub(crate) fn live_names(&self, directory: u32) -> impl Iterator<Item = u32> + '_ {
        std::iter::successors(self.first(directory), |number| self.slot(*number).next())
            .filter(|number| !self.slot(*number).is_removed())
    }

    /// The bytes of a name; `window` is where its record is looked for.
    pub(crate) fn name<'a>(&'a self, number: u32, window: &'a mut Window) -> Result<&'a [u8], ImageError> {
        match self.folder(number) {
            Some(folder) => self.folder_name(folder, window),
            None => Ok(window.get(&self.records, self.slot(number).place)?.name),
        }
    }

    /// The records of a directory's names are in `window`, if they lie near each other.
    pub(crate) fn load(&self, directory: u32, window: &mut Window) -> Result<(), ImageError> {
        let places = || self.live_names(directory).filter_map(|number| self.record_place(self.slot(number)));
        match (places().min(), places().max()) {
            (Some(first), Some(last)) => window.load(&self.records, first, last),
            _ => Ok(()),
        }
    }

    /// Forgets what is only needed to find names, before the image is laid out: keys become places.
    pub(crate) fn close(&mut self) {
        self.table = Table::default();
        self.slots.iter_mut().for_each(|slot| slot.key = 0);
    }
}

/// A device number as the kernel decodes it (new_decode_dev in include/linux/kdev_t.h).
fn device_number(major: u32, minor: u32) -> u32 {
    (minor & 0xff) | (major & 0xfff) << 8 | (minor & 0xf_ff00) << 12
}

#[cfg(test)]
mod tests {
    use super::*;

    pub(super) fn empty() -> Tree {
        Tree::new(Attributes::default(), tempfile::tempfile().unwrap())
    }

    #[test]
    fn names_are_found_and_removed() {
        let mut tree = empty();
        let root = tree.root();
        let d = tree.add(root, b"d", New::Directory, Attributes::default()).unwrap();
        let f = tree.add(d, b"f", New::File(7, FileData::Hole), Attributes::default()).unwrap();
        tree.link(root, b"hard", f).unwrap();
        let s = tree.add(d, b"s", New::Symlink(b"to"), Attributes::default()).unwrap();
        let find = |tree: &Tree, directory, name: &str| tree.find(directory, name.as_bytes()).unwrap();
        assert_eq!((find(&tree, d, "f"), find(&tree, root, "f"), tree.link_count(f)), (Some(f), None, 2));
        assert_eq!((find(&tree, root, "hard"), find(&tree, root, "d")), (Some(f), Some(d)));
        let directory = |here, name: &str| tree.find_directory(here, name.as_bytes()).unwrap();
        assert_eq!((directory(root, "d"), directory(d, "f")), (Some(d), None));
        assert_eq!(tree.target(s).unwrap(), b"to");
        assert_eq!(
            (tree.parent(d).unwrap(), tree.parent(root).unwrap()),
            (Some((root, b"d"[..].into())), None)
        );
        let mut gone = Vec::new();
        tree.remove(root, b"d", &mut |id, kind, size| gone.push((id, kind, size))).unwrap();
        gone.sort_unstable_by_key(|(id, ..)| *id);
        assert_eq!(gone, [(d, Kind::Directory, 0), (s, Kind::Symlink, 0)]);
        assert_eq!((tree.link_count(f), find(&tree, d, "f"), find(&tree, root, "hard")), (1, None, Some(f)));
        assert_eq!(tree.directories().collect::<Vec<_>>(), [root]);
        gone.clear();
        tree.remove(root, b"hard", &mut |id, kind, size| gone.push((id, kind, size))).unwrap();
        assert_eq!((gone, tree.link_count(f)), (vec![(f, Kind::File, 7)], 0));
        assert!(tree.more_names.is_empty());
    }

    #[test]
    fn a_million_names_take_what_is_counted_for_them() {
        // A place in a table of numbers is 5 bytes, in one of pairs 9, and up to 16/7 places are there for each used one.
        let (table, more) = (12, 21);
        assert_eq!((size_of::<Slot>(), size_of::<Folder>()), (12, 32));
        assert!((size_of::<Slot>() + table + size_of::<Folder>()) as u64 <= NAME_OVERHEAD_BYTES);
        assert!((size_of::<Slot>() + table + more) as u64 <= NAME_OVERHEAD_BYTES);
    }

    #[test]
    fn device_numbers_are_the_kernels() {
        assert_eq!(device_number(0, 0), 0);
        assert_eq!(device_number(7, 9), 0x709);
        assert_eq!(device_number(0xfff, 0xf_ffff), 0xffff_ffff);
    }
}
