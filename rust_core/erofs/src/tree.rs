//! A tree of names and inodes, in as little memory as a million of them need: no allocation a name, numbers of 32 bits.

use std::hash::{BuildHasher, RandomState};

use hashbrown::HashTable;

use crate::chunks::ChunkMap;
use crate::error::{narrow, ImageError};
use crate::format::NAME_BYTES_MAX;
use crate::xattr::{XattrSet, Xattrs};

/// What one name costs in memory beyond its bytes: the name, its inode, its place in the table of names and in the
/// order of writing, with the slack of growing arrays.
pub const NAME_OVERHEAD_BYTES: u64 = 100;

const NONE: u32 = u32::MAX;

/// An inode of a [`Tree`]. It names the same inode as long as the tree lives, also once no name is left of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct InodeId(pub(crate) u32);

/// The types of file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A directory.
    Directory,
    /// A regular file.
    File,
    /// A symbolic link.
    Symlink,
    /// A character device; 0:0 is overlayfs's whiteout.
    CharDevice,
    /// A block device.
    BlockDevice,
    /// A named pipe.
    Fifo,
}

impl Kind {
    /// The type bits of a mode (S_IFMT) and the type in a directory entry (EROFS_FT_*).
    pub(crate) fn codes(self) -> (u16, u8) {
        match self {
            Self::File => (0o100_000, 1),
            Self::Directory => (0o040_000, 2),
            Self::CharDevice => (0o020_000, 3),
            Self::BlockDevice => (0o060_000, 4),
            Self::Fifo => (0o010_000, 5),
            Self::Symlink => (0o120_000, 7),
        }
    }
}

/// Owner, permissions, time and extended attributes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Attributes {
    /// Permission bits, at most 07777.
    pub mode: u16,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Seconds since 1970.
    pub mtime_seconds: i64,
    /// 0 to 999,999,999.
    pub mtime_nanos: u32,
    /// From [`Tree::xattrs`].
    pub xattrs: XattrSet,
}

/// Where a regular file's bytes are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FileData {
    /// Nowhere: all zeros.
    Hole,
    /// One after another in the device, from this block on.
    Device(u32),
    /// One after another in the image, from this block on.
    Image(u32),
    /// Chunk by chunk, none to be copied any more.
    Chunks(ChunkMap),
}

/// The special files.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Special {
    /// Major and minor number.
    CharDevice(u32, u32),
    /// Major and minor number.
    BlockDevice(u32, u32),
    /// No numbers.
    Fifo,
}

/// A file to be added.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum New<'a> {
    /// An empty directory.
    Directory,
    /// A regular file of this size.
    File(u64, FileData),
    /// A symbolic link with this text.
    Symlink(&'a [u8]),
    /// A device or pipe.
    Special(Special),
}

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
    pub mtime_seconds: i64,
    pub mtime_nanos: u32,
    pub uid: u32,
    pub gid: u32,
    /// A file's first block or chunk map, a link's text, a directory's own name.
    pub place: u32,
    /// A directory's first name.
    pub first: u32,
    pub xattrs: XattrSet,
    /// Names; for a directory its subdirectories and 2, once it is laid out.
    pub links: u32,
    /// Where it stands in the image, once it is laid out; 0 before.
    pub nid: u32,
    pub mode: u16,
    pub kind: Kind,
    pub data: Data,
}

#[derive(Debug, Clone)]
struct Name {
    parent: u32,
    /// `NONE` once removed.
    inode: u32,
    next: u32,
    start: u32,
    len: u8,
}

/// The tree of one image.
#[derive(Debug)]
pub struct Tree {
    pub(crate) inodes: Vec<Inode>,
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

impl Tree {
    /// A tree that holds nothing but its root.
    #[must_use]
    pub fn new(root: Attributes) -> Self {
        let mut tree = Self {
            inodes: Vec::new(),
            names: Vec::new(),
            bytes: Vec::new(),
            by_name: HashTable::new(),
            hasher: RandomState::new(),
            xattrs: Xattrs::default(),
            maps: Vec::new(),
        };
        tree.inodes.push(Self::inode(Kind::Directory, root));
        tree
    }

    fn inode(kind: Kind, attributes: Attributes) -> Inode {
        let (size, place, first) = (0, NONE, NONE);
        let Attributes { mode, uid, gid, mtime_seconds, mtime_nanos, xattrs } = attributes;
        let (links, nid, data) = (0, 0, Data::Hole);
        Inode {
            size,
            mtime_seconds,
            mtime_nanos,
            uid,
            gid,
            place,
            first,
            xattrs,
            links,
            nid,
            mode,
            kind,
            data,
        }
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
        &self.bytes[name.start as usize..][..usize::from(name.len)]
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
        let name = self.names.get(self.get(directory).place as usize)?;
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
        let Inode { mode, uid, gid, mtime_seconds, mtime_nanos, xattrs, .. } = *self.get(id);
        Attributes { mode, uid, gid, mtime_seconds, mtime_nanos, xattrs }
    }

    /// Replaces the attributes of a file.
    pub fn set_attributes(&mut self, id: InodeId, attributes: Attributes) {
        let Attributes { mode, uid, gid, mtime_seconds, mtime_nanos, xattrs } = attributes;
        let inode = &mut self.inodes[id.0 as usize];
        *inode = Inode { mode, uid, gid, mtime_seconds, mtime_nanos, xattrs, ..*inode };
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
        let mut inode = Self::inode(kind, attributes);
        match new {
            New::Directory => inode.place = narrow("names", self.names.len() as u64)?,
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
        let start = self.keep(name)?;
        let parent = &mut self.inodes[directory.0 as usize];
        let next = std::mem::replace(&mut parent.first, number);
        self.names.push(Name { parent: directory.0, inode: id.0, next, start, len });
        let (names, bytes, hasher) = (&self.names, &self.bytes, &self.hasher);
        let rehash = |index: &u32| {
            let name = &names[*index as usize];
            hash(hasher, name.parent, &bytes[name.start as usize..][..usize::from(name.len)])
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
            let Name { parent, inode, start, len, .. } = self.names[index as usize];
            let hash = hash(&self.hasher, parent, &self.bytes[start as usize..][..usize::from(len)]);
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
        let first = next(self.inodes[directory as usize].first);
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
        self.inodes[directory as usize].first = next;
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
        self.names.get(self.inodes[directory as usize].place as usize).map_or(0, |name| name.parent)
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
    fn device_numbers_are_the_kernels() {
        assert_eq!(device_number(0, 0), 0);
        assert_eq!(device_number(7, 9), 0x709);
        assert_eq!(device_number(0xfff, 0xf_ffff), 0xffff_ffff);
    }
}
