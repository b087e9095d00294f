//! A tree of names and inodes, in as little memory as a million of them need: no allocation a name, numbers of 32 bits.

use std::hash::{BuildHasher, RandomState};

use hashbrown::HashTable;

use crate::chunks::ChunkMap;
use crate::error::{narrow, ImageError};
use crate::file::{Attributes, FileData, Kind, New, Special};
use crate::format::NAME_BYTES_MAX;
use crate::owner::{Owner, Owners};
use crate::time::{Time, Times};
use crate::xattr::{XattrSet, Xattrs};

/// What one name costs in memory beyond its bytes: the name, its inode, its place in the table of names, in the order
/// of writing and in the image, a far time.
pub const NAME_OVERHEAD_BYTES: u64 = 85;

const NONE: u32 = u32::MAX;

/// An inode of a [`Tree`]. It names the same inode as long as the tree lives, also once no name is left of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct InodeId(pub(crate) u32);

/// How a regular file's `place` is meant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Data {
    Hole,
    Device,
    Image,
    Chunks,
}

#[derive(Debug, Clone)]
pub(crate) struct Inode {
    /// A file's or link text's size; a device's number; a directory's size once it is laid out.
    pub size: u64,
    pub mtime: Time,
    /// A number of [`Owners`].
    pub owner: u32,
    /// A file's first block or chunk map, a link's text, a directory's number among the folders.
    pub place: u32,
    /// Names; for a directory its subdirectories and 2, once it is laid out.
    pub links: u32,
    pub kind: Kind,
    pub data: Data,
}

/// What directories have beside their inode.
#[derive(Debug, Clone)]
struct Folder {
    /// Its own name, `NONE` for the root.
    name: u32,
    /// The first name in it.
    first: u32,
}

#[derive(Debug, Clone)]
struct Name {
    parent: u32,
    /// `NONE` once removed.
    inode: u32,
    next: u32,
    /// Where its length stands, in one byte, and its bytes behind it.
    start: u32,
}

/// The tree of one image.
#[derive(Debug)]
pub struct Tree {
    pub(crate) inodes: Vec<Inode>,
    pub(crate) owners: Owners,
    pub(crate) times: Times,
    folders: Vec<Folder>,
    names: Vec<Name>,
    bytes: Vec<u8>,
    by_name: HashTable<u32>,
    hasher: RandomState,
    pub(crate) xattrs: Xattrs,
    pub(crate) maps: Vec<ChunkMap>,
}

fn hash(hasher: &RandomState, parent: u32, name: &[u8]) -> u64 {
    hasher.hash_one((parent, name))
}

/// The bytes of a name, by the place of its length.
fn name_at(bytes: &[u8], start: u32) -> &[u8] {
    let (length, rest) = bytes[start as usize..].split_first().unwrap_or((&0, &[]));
    &rest[..usize::from(*length)]
}

impl Tree {
    /// A tree that holds nothing but its root.
    #[must_use]
    pub fn new(root: Attributes) -> Self {
        let mut tree = Self {
            inodes: Vec::new(),
            owners: Owners::default(),
            times: Times::default(),
            folders: vec![Folder { name: NONE, first: NONE }],
            names: Vec::new(),
            bytes: Vec::new(),
            by_name: HashTable::new(),
            hasher: RandomState::new(),
            xattrs: Xattrs::default(),
            maps: Vec::new(),
        };
        let Attributes { mode, uid, gid, mtime_seconds, mtime_nanos, xattrs } = root;
        // The first number is always free, of owners as of times.
        let owner = tree.owners.number(Owner { uid, gid, xattrs, mode }).unwrap_or(0);
        if let Ok(mtime) = tree.times.keep(mtime_seconds, mtime_nanos, None) {
            tree.inodes.push(Inode { place: 0, ..Self::inode(Kind::Directory, owner, mtime) });
        }
        tree
    }

    fn inode(kind: Kind, owner: u32, mtime: Time) -> Inode {
        Inode { size: 0, mtime, owner, place: NONE, links: 0, kind, data: Data::Hole }
    }

    fn owner_of(&mut self, attributes: &Attributes) -> Result<u32, ImageError> {
        let Attributes { mode, uid, gid, xattrs, .. } = *attributes;
        self.owners.number(Owner { uid, gid, xattrs, mode })
    }

    /// How many distinct sets of owner, permissions and extended attributes there are; each takes [`OWNER_BYTES`].
    #[must_use]
    pub fn owner_count(&self) -> usize {
        self.owners.len()
    }

    /// The root directory.
    #[must_use]
    pub fn root(&self) -> InodeId {
        InodeId(0)
    }

    fn get(&self, id: InodeId) -> &Inode {
        &self.inodes[id.0 as usize]
    }

    fn name_bytes(&self, name: &Name) -> &[u8] {
        name_at(&self.bytes, name.start)
    }

    fn folder(&self, directory: u32) -> Option<&Folder> {
        let inode = &self.inodes[directory as usize];
        self.folders.get(inode.place as usize).filter(|_| inode.kind == Kind::Directory)
    }

    fn folder_mut(&mut self, directory: u32) -> Option<&mut Folder> {
        let inode = &self.inodes[directory as usize];
        self.folders.get_mut(inode.place as usize).filter(|_| inode.kind == Kind::Directory)
    }

    /// What `name` is in a directory.
    #[must_use]
    pub fn find(&self, directory: InodeId, name: &[u8]) -> Option<InodeId> {
        self.find_name(directory, name).map(|index| InodeId(self.names[index as usize].inode))
    }

    fn find_name(&self, directory: InodeId, name: &[u8]) -> Option<u32> {
        let is_it = |index: &u32| {
            let found = &self.names[*index as usize];
            found.parent == directory.0 && self.name_bytes(found) == name
        };
        self.by_name.find(hash(&self.hasher, directory.0, name), is_it).copied()
    }

    /// The type of a file.
    #[must_use]
    pub fn kind(&self, id: InodeId) -> Kind {
        self.get(id).kind
    }

    /// The size of a regular file, holes included.
    #[must_use]
    pub fn size(&self, id: InodeId) -> u64 {
        self.get(id).size
    }

    /// How many names a file that is no directory has.
    #[must_use]
    pub fn link_count(&self, id: InodeId) -> u32 {
        self.get(id).links
    }

    /// The text of a symbolic link; empty for anything else.
    #[must_use]
    pub fn target(&self, id: InodeId) -> &[u8] {
        let inode = self.get(id);
        match inode.kind {
            Kind::Symlink => &self.bytes[inode.place as usize..][..usize::try_from(inode.size).unwrap_or(0)],
            _ => &[],
        }
    }

    /// The directory above a directory and its name there; `None` for the root.
    #[must_use]
    pub fn parent(&self, directory: InodeId) -> Option<(InodeId, &[u8])> {
        let name = self.names.get(self.folder(directory.0)?.name as usize)?;
        Some((InodeId(name.parent), self.name_bytes(name)))
    }

    /// A set of extended attributes: `base` with `added` behind it.
    ///
    /// # Errors
    /// [`ImageError::XattrName`], [`ImageError::XattrSize`], [`ImageError::Full`].
    pub fn xattrs<'x>(
        &mut self,
        base: XattrSet,
        added: impl IntoIterator<Item = (&'x [u8], &'x [u8])>,
    ) -> Result<XattrSet, ImageError> {
        self.xattrs.extend(base, added)
    }

    /// The attributes of a file.
    #[must_use]
    pub fn attributes(&self, id: InodeId) -> Attributes {
        let Inode { mtime, owner, .. } = *self.get(id);
        let (mtime_seconds, mtime_nanos) = self.times.get(mtime);
        let Owner { uid, gid, xattrs, mode } = *self.owners.get(owner);
        Attributes { mode, uid, gid, mtime_seconds, mtime_nanos, xattrs }
    }

    /// Replaces the attributes of a file.
    ///
    /// # Errors
    /// [`ImageError::Full`].
    pub fn set_attributes(&mut self, id: InodeId, attributes: Attributes) -> Result<(), ImageError> {
        let owner = self.owner_of(&attributes)?;
        let Attributes { mtime_seconds, mtime_nanos, .. } = attributes;
        let inode = &mut self.inodes[id.0 as usize];
        let mtime = self.times.keep(mtime_seconds, mtime_nanos, Some(inode.mtime))?;
        *inode = Inode { owner, mtime, ..*inode };
        Ok(())
    }

    /// Adds a file under a name that is free in `directory`.
    ///
    /// # Errors
    /// [`ImageError::Full`].
    pub fn add(
        &mut self,
        directory: InodeId,
        name: &[u8],
        new: New<'_>,
        attributes: Attributes,
    ) -> Result<InodeId, ImageError> {
        let number = narrow("inodes", self.inodes.len() as u64)?;
        let kind = match &new {
            New::Directory => Kind::Directory,
            New::File(..) => Kind::File,
            New::Symlink(_) => Kind::Symlink,
            New::Special(Special::CharDevice(..)) => Kind::CharDevice,
            New::Special(Special::BlockDevice(..)) => Kind::BlockDevice,
            New::Special(Special::Fifo) => Kind::Fifo,
        };
        let owner = self.owner_of(&attributes)?;
        let mtime = self.times.keep(attributes.mtime_seconds, attributes.mtime_nanos, None)?;
        let mut inode = Self::inode(kind, owner, mtime);
        match new {
            New::Directory => {
                inode.place = narrow("directories", self.folders.len() as u64)?;
                let name = narrow("names", self.names.len() as u64)?;
                self.folders.push(Folder { name, first: NONE });
            }
            New::File(size, data) => {
                inode.size = size;
                (inode.data, inode.place) = match data {
                    FileData::Hole => (Data::Hole, NONE),
                    FileData::Device(block) => (Data::Device, block),
                    FileData::Image(block) => (Data::Image, block),
                    FileData::Chunks(map) => {
                        self.maps.push(map);
                        (Data::Chunks, narrow("files with holes", self.maps.len() as u64 - 1)?)
                    }
                };
            }
            New::Symlink(target) => {
                (inode.size, inode.place) = (target.len() as u64, self.keep(target)?);
            }
            New::Special(Special::CharDevice(major, minor) | Special::BlockDevice(major, minor)) => {
                inode.size = device_number(major, minor).into();
            }
            New::Special(Special::Fifo) => {}
        }
        self.inodes.push(inode);
        self.link(directory, name, InodeId(number))?;
        Ok(InodeId(number))
    }

    fn keep(&mut self, bytes: &[u8]) -> Result<u32, ImageError> {
        let start = narrow("bytes of names", (self.bytes.len() + bytes.len()) as u64)?;
        self.bytes.extend_from_slice(bytes);
        Ok(start - u32::try_from(bytes.len()).unwrap_or(0))
    }

    /// Gives a file one more name, free in `directory`. A directory must have only one.
    ///
    /// # Errors
    /// [`ImageError::Full`], also for a name longer than EROFS_NAME_LEN.
    pub fn link(&mut self, directory: InodeId, name: &[u8], id: InodeId) -> Result<(), ImageError> {
        debug_assert!(self.find(directory, name).is_none(), "the name is taken");
        let too_long = ImageError::Full { what: "bytes in a name", limit: NAME_BYTES_MAX as u64 };
        let len = u8::try_from(name.len()).map_err(|_| too_long)?;
        let number = narrow("names", self.names.len() as u64)?;
        let start = self.keep(&[len])?;
        self.keep(name)?;
        let next =
            self.folder_mut(directory.0).map_or(NONE, |folder| std::mem::replace(&mut folder.first, number));
        self.names.push(Name { parent: directory.0, inode: id.0, next, start });
        let (names, bytes, hasher) = (&self.names, &self.bytes, &self.hasher);
        let rehash = |index: &u32| {
            let name = &names[*index as usize];
            hash(hasher, name.parent, name_at(bytes, name.start))
        };
        self.by_name.insert_unique(hash(&self.hasher, directory.0, name), number, rehash);
        self.inodes[id.0 as usize].links += 1;
        Ok(())
    }

    /// The name is free: what it was, and for a directory all below it, has one name less. `gone` is told of each file
    /// that has no name left.
    pub fn remove(&mut self, directory: InodeId, name: &[u8], gone: &mut dyn FnMut(&Self, InodeId)) {
        let Some(index) = self.find_name(directory, name) else { return };
        let mut pending = vec![index];
        while let Some(index) = pending.pop() {
            let Name { parent, inode, start, .. } = self.names[index as usize];
            let hash = hash(&self.hasher, parent, name_at(&self.bytes, start));
            if let Ok(entry) = self.by_name.find_entry(hash, |found| *found == index) {
                entry.remove();
            }
            self.names[index as usize].inode = NONE;
            let removed = &mut self.inodes[inode as usize];
            removed.links -= 1;
            if removed.links == 0 {
                gone(self, InodeId(inode));
            }
            if self.inodes[inode as usize].kind == Kind::Directory {
                pending.extend(self.live_names(inode));
            }
        }
    }

    fn live_names(&self, directory: u32) -> impl Iterator<Item = u32> + '_ {
        let next = |index: u32| Some(index).filter(|index| *index != NONE);
        let first = self.folder(directory).and_then(|folder| next(folder.first));
        std::iter::successors(first, move |index| next(self.names[*index as usize].next))
            .filter(|index| self.names[*index as usize].inode != NONE)
    }

    /// Brings the names of a directory into the order of their bytes.
    pub(crate) fn sort(&mut self, directory: u32) {
        let mut order: Vec<u32> = self.live_names(directory).collect();
        order.sort_unstable_by(|a, b| {
            self.name_bytes(&self.names[*a as usize]).cmp(self.name_bytes(&self.names[*b as usize]))
        });
        let mut next = NONE;
        for index in order.into_iter().rev() {
            self.names[index as usize].next = next;
            next = index;
        }
        if let Some(folder) = self.folder_mut(directory) {
            folder.first = next;
        }
    }

    /// The names of a directory and their inodes, in the order of their bytes once it was sorted.
    pub(crate) fn children(&self, directory: u32) -> impl Iterator<Item = (&[u8], u32)> + '_ {
        self.live_names(directory).map(|index| {
            let name = &self.names[index as usize];
            (self.name_bytes(name), name.inode)
        })
    }

    /// The directory above, the root's being itself.
    pub(crate) fn above(&self, directory: u32) -> u32 {
        let name = self.folder(directory).and_then(|folder| self.names.get(folder.name as usize));
        name.map_or(0, |name| name.parent)
    }

    /// Forgets what is only needed to find names, before the image is laid out.
    pub(crate) fn close(&mut self) {
        self.by_name = HashTable::new();
    }
}

/// A device number as the kernel decodes it (new_decode_dev in include/linux/kdev_t.h).
fn device_number(major: u32, minor: u32) -> u32 {
    (minor & 0xff) | (major & 0xfff) << 8 | (minor & 0xf_ff00) << 12
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_found_removed_and_sorted() {
        let mut tree = Tree::new(Attributes::default());
        let root = tree.root();
        let d = tree.add(root, b"d", New::Directory, Attributes::default()).unwrap();
        let f = tree.add(d, b"f", New::File(7, FileData::Hole), Attributes::default()).unwrap();
        tree.link(root, b"hard", f).unwrap();
        let s = tree.add(d, b"s", New::Symlink(b"to"), Attributes::default()).unwrap();
        assert_eq!((tree.find(d, b"f"), tree.find(root, b"f"), tree.link_count(f)), (Some(f), None, 2));
        assert_eq!((tree.target(s), tree.parent(d)), (&b"to"[..], Some((root, &b"d"[..]))));
        let mut gone = Vec::new();
        tree.remove(root, b"d", &mut |_, id| gone.push(id));
        assert_eq!((gone, tree.link_count(f), tree.find(d, b"f")), (vec![d, s], 1, None));
        for name in ["b", "a", "c"] {
            tree.add(root, name.as_bytes(), New::Directory, Attributes::default()).unwrap();
        }
        tree.sort(0);
        let names: Vec<&[u8]> = tree.children(0).map(|(name, _)| name).collect();
        assert_eq!(names, [&b"a"[..], b"b", b"c", b"hard"]);
    }

    #[test]
    fn a_million_names_take_what_is_counted_for_them() {
        assert_eq!((size_of::<Inode>(), size_of::<Name>()), (32, 16));
        let arrays = size_of::<Inode>() + size_of::<Name>();
        // Its length, its place in the table of names (up to 16/7 of 5 bytes), in the order of writing and in the image,
        // and its time where that is a far one.
        assert!(arrays as u64 + 1 + 12 + 4 + 4 + 16 <= NAME_OVERHEAD_BYTES);
    }

    #[test]
    fn device_numbers_are_the_kernels() {
        assert_eq!(device_number(0, 0), 0);
        assert_eq!(device_number(7, 9), 0x709);
        assert_eq!(device_number(0xfff, 0xf_ffff), 0xffff_ffff);
    }
}
