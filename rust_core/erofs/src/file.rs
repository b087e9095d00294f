//! What a file of an image is: its type, attributes and data.

use crate::chunks::ChunkMap;
use crate::xattr::XattrSet;

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
