//! A tree of files as copies see it, whatever it is made of, and paths in it: followed inside, never out of it.

use std::fmt::Debug;

use layer::{Time, Xattr};

use crate::content::Content;
use crate::error::{shown, CopyRule};
use crate::limits::MAX_SYMLINKS;
use crate::BuildError;

/// What an entry is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum MetaKind {
    /// A regular file.
    File {
        /// Its size.
        size_bytes: u64,
    },
    /// A directory.
    Directory,
    /// A symbolic link and its text.
    Symlink {
        /// As it is written.
        target: Vec<u8>,
    },
    /// A named pipe.
    Fifo,
    /// A device.
    Device {
        /// It is a block device.
        is_block: bool,
        /// Major number.
        major: u32,
        /// Minor number.
        minor: u32,
    },
    /// What no copy takes along.
    Socket,
}

/// What is known of an entry without reading it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Meta {
    /// What it is.
    pub kind: MetaKind,
    /// At most 07777.
    pub mode: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// When its content last changed.
    pub mtime: Time,
    /// By name.
    pub xattrs: Vec<Xattr>,
    /// The same for all names of one file with several.
    pub link_identity: Option<(u64, u64)>,
}

impl Meta {
    /// A directory as the engine makes one.
    pub(crate) fn directory(uid: u32, gid: u32, mtime: Time) -> Self {
        let kind = MetaKind::Directory;
        Self { kind, mode: 0o755, uid, gid, mtime, xattrs: Vec::new(), link_identity: None }
    }

    /// True for a directory.
    pub fn is_directory(&self) -> bool {
        self.kind == MetaKind::Directory
    }
}

/// A tree of files that does not change. Paths are relative to its root, without `.`, `..` or links on the way; empty
/// for the root.
pub trait Tree: Debug + Send + Sync {
    /// What stands at `path`, the last part not followed; `None` if nothing does, or a parent is no directory.
    ///
    /// # Errors
    /// `IO_FAILED`.
    fn stat(&self, path: &[u8]) -> Result<Option<Meta>, BuildError>;

    /// Names in the directory `path`, sorted.
    ///
    /// # Errors
    /// `IO_FAILED`.
    fn list(&self, path: &[u8]) -> Result<Vec<Vec<u8>>, BuildError>;

    /// The bytes of the file at `path`.
    ///
    /// # Errors
    /// `IO_FAILED`.
    fn content(&self, path: &[u8], meta: &Meta) -> Result<Content, BuildError>;

    /// What errors call it.
    fn name(&self) -> &str;

    /// Owners in it mean something in an image; those of a context do not.
    fn has_owners(&self) -> bool;
}

/// `directory/name`.
pub(crate) fn join(directory: &[u8], name: &[u8]) -> Vec<u8> {
    if directory.is_empty() {
        return name.to_vec();
    }
    [directory, b"/", name].concat()
}

/// The parent's path and the last part.
pub(crate) fn split_last(path: &[u8]) -> (&[u8], &[u8]) {
    match path.iter().rposition(|b| *b == b'/') {
        Some(slash) => (&path[..slash], &path[slash + 1..]),
        None => (&[], path),
    }
}

/// The parts of a path as it is written, without empty ones and `.`.
pub(crate) fn parts(path: &[u8]) -> impl DoubleEndedIterator<Item = &[u8]> {
    path.split(|b| *b == b'/').filter(|part| !part.is_empty() && *part != b".")
}

/// A path as it is written, made absolute at the root: `..` above the root is the root.
pub(crate) fn clean(path: &[u8]) -> Vec<u8> {
    let mut stack: Vec<&[u8]> = Vec::new();
    for part in parts(path) {
        if part == b".." {
            stack.pop();
        } else {
            stack.push(part);
        }
    }
    stack.join(&b'/')
}

/// Where `path` leads when links are followed inside the tree, with what stands there. `None` if nothing does.
///
/// # Errors
/// `BUILD_COPY_REJECTED` for too many links; what the tree raises.
pub(crate) fn follow(tree: &dyn Tree, path: &[u8]) -> Result<Option<(Vec<u8>, Meta)>, BuildError> {
    let mut rest: Vec<Vec<u8>> = parts(path).rev().map(<[u8]>::to_vec).collect();
    let mut here: Vec<u8> = Vec::new();
    let Some(mut meta) = tree.stat(b"")? else { return Ok(None) };
    let mut link_count = 0;
    while let Some(part) = rest.pop() {
        if part == b".." {
            here.truncate(split_last(&here).0.len());
            match tree.stat(&here)? {
                Some(found) => meta = found,
                None => return Ok(None),
            }
            continue;
        }
        if !meta.is_directory() {
            return Ok(None);
        }
        let next = join(&here, &part);
        let Some(found) = tree.stat(&next)? else { return Ok(None) };
        if let MetaKind::Symlink { target } = &found.kind {
            link_count += 1;
            if link_count > MAX_SYMLINKS {
                return Err(BuildError::rejected(path, CopyRule::SymlinkLoop));
            }
            if target.first() == Some(&b'/') {
                here.clear();
            }
            match tree.stat(&here)? {
                Some(found) => meta = found,
                None => return Ok(None),
            }
            rest.extend(parts(target).rev().map(<[u8]>::to_vec));
            continue;
        }
        here = next;
        meta = found;
    }
    Ok(Some((here, meta)))
}

/// The bytes of the file that `path` leads to; `None` if there is none.
///
/// # Errors
/// `LIMIT_EXCEEDED` (`limit`); what the tree raises.
pub fn read_file(
    tree: &dyn Tree,
    path: &[u8],
    max_bytes: u64,
    limit: &'static str,
) -> Result<Option<Vec<u8>>, BuildError> {
    match follow(tree, path)? {
        Some((found, meta)) if matches!(meta.kind, MetaKind::File { .. }) => {
            tree.content(&found, &meta)?.read(max_bytes, limit, path).map(Some)
        }
        _ => Ok(None),
    }
}

/// Refuses what passes a named limit.
pub(crate) fn check(limit: &'static str, value: u64, actual: u64, subject: &[u8]) -> Result<(), BuildError> {
    if actual > value {
        return Err(BuildError::limit(limit, value, actual, &shown(subject)));
    }
    Ok(())
}
