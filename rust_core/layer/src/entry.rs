//! The entries of a layer, validated and typed, independent of the archive they came from and of where they go.

use crate::LayerError;

/// A path below the layer's root: components without `.`, `..`, empty ones or NUL, joined by `/`; empty for the root.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub struct EntryPath(Vec<u8>);

impl EntryPath {
    /// Wraps bytes that hold to the rules of this type.
    pub(crate) fn from_normalised(bytes: Vec<u8>) -> Self {
        Self(bytes)
    }

    /// The path of these bytes.
    ///
    /// # Errors
    /// `DATA_CORRUPT` if they do not hold to the rules of this type: the caller has checked them.
    pub fn new(bytes: Vec<u8>) -> Result<Self, LayerError> {
        let is_sound = |part: &[u8]| !matches!(part, b"" | b"." | b"..") && !part.contains(&0);
        if bytes.is_empty() || bytes.split(|b| *b == b'/').all(is_sound) {
            return Ok(Self(bytes));
        }
        let detail = "the path is not normalised".to_owned();
        Err(LayerError::DataCorrupt { path: crate::error::shown(&bytes), detail })
    }

    /// The path's bytes, without a leading `/`.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// True for the root itself.
    pub fn is_root(&self) -> bool {
        self.0.is_empty()
    }

    /// The components, from the root down; none for the root.
    pub fn components(&self) -> impl Iterator<Item = &[u8]> {
        components(&self.0)
    }

    /// The parent's path and the last component; `None` for the root.
    pub fn split_last(&self) -> Option<(&[u8], &[u8])> {
        (!self.is_root()).then(|| split_last(&self.0))
    }
}

/// The components of a normalised path.
pub(crate) fn components(path: &[u8]) -> impl Iterator<Item = &[u8]> {
    path.split(|b| *b == b'/').filter(|c| !c.is_empty())
}

/// Parent and last component of a normalised path that is not the root.
pub(crate) fn split_last(path: &[u8]) -> (&[u8], &[u8]) {
    match path.iter().rposition(|b| *b == b'/') {
        Some(slash) => (&path[..slash], &path[slash + 1..]),
        None => (&[], path),
    }
}

/// Adds a component to a normalised path.
pub(crate) fn push(path: &mut Vec<u8>, name: &[u8]) {
    if !path.is_empty() {
        path.push(b'/');
    }
    path.extend_from_slice(name);
}

/// The path of `name` in `directory`.
pub(crate) fn join(directory: &[u8], name: &[u8]) -> Vec<u8> {
    let mut path = Vec::with_capacity(directory.len() + 1 + name.len());
    path.extend_from_slice(directory);
    push(&mut path, name);
    path
}

/// The directories above `path`, the nearest first and the root last; none for the root.
pub(crate) fn ancestors(path: &[u8]) -> impl Iterator<Item = &[u8]> {
    std::iter::successors(Some(path), |path| (!path.is_empty()).then(|| split_last(path).0)).skip(1)
}

/// A time with nanoseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct Time {
    /// Seconds since 1970, negative before.
    pub seconds: i64,
    /// 0 to 999,999,999, counted forwards.
    pub nanos: u32,
}

/// A run of bytes of a sparse file that are stored; what lies between runs is zeros.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Extent {
    /// Where it begins in the file.
    pub offset_bytes: u64,
    /// How long it is.
    pub size_bytes: u64,
}

/// Name and value of an extended attribute.
pub type Xattr = (Vec<u8>, Vec<u8>);

/// What an entry is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum EntryKind {
    /// A directory.
    Directory,
    /// A regular file, its data to be read from [`EntryData`].
    File {
        /// The file's size, holes included.
        size_bytes: u64,
        /// For a sparse file: where the data goes, ascending, not overlapping, within the size.
        extents: Option<Vec<Extent>>,
    },
    /// A symbolic link; the target's text is kept as it is.
    Symlink {
        /// Not empty, no NUL.
        target: Vec<u8>,
    },
    /// A hard link to another path of the merged tree.
    Hardlink {
        /// A path from the layer's root.
        target: EntryPath,
    },
    /// A character device; never 0:0, which would be a whiteout.
    CharDevice {
        /// Below 4096.
        major: u32,
        /// Below 2^20.
        minor: u32,
    },
    /// A block device.
    BlockDevice {
        /// Below 4096.
        major: u32,
        /// Below 2^20.
        minor: u32,
    },
    /// A named pipe.
    Fifo,
    /// The name at `path` is hidden in the layers below; what this layer has there itself is not touched.
    Whiteout,
    /// All that the layers below have in the directory `path` is hidden.
    Opaque,
}

/// One entry of a layer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Where it goes. For a whiteout the hidden name, for an opaque marker its directory.
    pub path: EntryPath,
    /// What it is.
    pub kind: EntryKind,
    /// Permission, setuid, setgid and sticky bits: at most 07777.
    pub mode: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Modification time.
    pub mtime: Time,
    /// Extended attributes in the archive's order, each name once, without those that steer overlayfs.
    pub xattrs: Vec<Xattr>,
    /// Where the entry's data begins in the uncompressed stream.
    pub data_offset_bytes: u64,
    /// How many bytes of data the stream holds for it; below the file's size for a sparse file.
    pub data_size_bytes: u64,
}

/// The data of the current entry, read in place.
pub trait EntryData {
    /// The next bytes, empty at the end of the entry's data. The same bytes come again until consumed.
    ///
    /// # Errors
    /// `LAYER_CORRUPT` if the stream ends early, and what reading the source raises.
    fn chunk(&mut self) -> Result<&[u8], LayerError>;
    /// Marks `count` bytes of the last chunk as used.
    fn consume(&mut self, count: usize);
}
