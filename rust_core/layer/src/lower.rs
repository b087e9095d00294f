//! A read-only view of stored layers as overlayfs would merge them, by fd, following no symbolic link.

use std::collections::BTreeSet;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use errors::IoError;
use rustix::fs::{AtFlags, FileType, Mode, OFlags, Stat};
use rustix::io::Errno;

use crate::entry::components;
use crate::tree::{file_type, io, open_dir_readable, stat};
use crate::xattr::{self, OPAQUE};
use crate::Xattr;

/// Stored layers, as one tree: whiteouts and opaque directories of the higher ones hide what the lower ones have.
#[derive(Debug)]
pub struct LowerView {
    /// Highest first.
    roots: Vec<OwnedFd>,
}

/// What the view has at a path.
#[derive(Debug)]
pub(crate) enum LowerNode {
    /// Nothing, or a parent is no directory.
    Absent,
    /// A directory, opened in the highest layer that has it: that one's attributes show.
    Directory(OwnedFd),
    /// A symbolic link, its status and its text.
    Symlink(Box<Stat>, Vec<u8>),
    /// A regular file, opened for reading.
    File(OwnedFd),
    /// A device, fifo or socket.
    Other(Box<Stat>),
}

impl LowerView {
    /// A view over layer roots, given lowest first.
    pub fn new(mut roots: Vec<OwnedFd>) -> Self {
        roots.reverse();
        Self { roots }
    }

    /// The layers' roots, highest first.
    pub(crate) fn into_roots(self) -> Vec<OwnedFd> {
        self.roots
    }

    /// As `into_roots`, to look at.
    pub(crate) fn roots(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        self.roots.iter().map(AsFd::as_fd)
    }

    /// True if there is no layer below.
    pub fn is_empty(&self) -> bool {
        self.roots.is_empty()
    }

    /// The names in the merged root, hidden ones included, each once.
    pub(crate) fn root_names(&self) -> Result<BTreeSet<Vec<u8>>, IoError> {
        let mut names = BTreeSet::new();
        for root in &self.roots {
            for entry in rustix::fs::Dir::read_from(root).map_err(|errno| io("getdents64", b"", errno))? {
                let entry = entry.map_err(|errno| io("getdents64", b"", errno))?;
                let name = entry.file_name().to_bytes();
                if !matches!(name, b"." | b"..") {
                    names.insert(name.to_vec());
                }
            }
        }
        Ok(names)
    }

    /// What the merged tree has at `path` (normalised), the last component not followed.
    pub(crate) fn find(&self, path: &[u8]) -> Result<LowerNode, IoError> {
        let mut names = components(path).peekable();
        let Some(first) = names.next() else {
            let Some(root) = self.roots.first() else { return Ok(LowerNode::Absent) };
            return root
                .try_clone()
                .map(LowerNode::Directory)
                .map_err(|e| IoError::from_std("fcntl", "", &e));
        };
        let mut step = step(&self.roots, first, names.peek().is_none())?;
        while let Some(name) = names.next() {
            let Step::Directories(merged) = step else { return Ok(LowerNode::Absent) };
            step = self::step(&merged, name, names.peek().is_none())?;
        }
        Ok(match step {
            Step::Directories(merged) => {
                merged.into_iter().next().map_or(LowerNode::Absent, LowerNode::Directory)
            }
            Step::Leaf(node) => node,
        })
    }
}

enum Step {
    /// The directories of this name that merge, highest first; none if the name is absent.
    Directories(Vec<OwnedFd>),
    /// Something else.
    Leaf(LowerNode),
}

fn step(merged: &[OwnedFd], name: &[u8], is_last: bool) -> Result<Step, IoError> {
    let mut found = Vec::new();
    for directory in merged {
        let Some(status) = stat(directory.as_fd(), name).map_err(|errno| io("fstatat", name, errno))? else {
            continue;
        };
        if file_type(&status) != FileType::Directory {
            if found.is_empty() && is_last && !is_whiteout(&status) {
                return leaf(directory.as_fd(), name, &status).map(Step::Leaf);
            }
            break;
        }
        let fd = open_dir_readable(directory.as_fd(), name).map_err(|errno| io("openat", name, errno))?;
        let is_opaque =
            xattr::get(fd.as_fd(), OPAQUE).map_err(|errno| io("fgetxattr", name, errno))?.is_some();
        found.push(fd);
        if is_opaque {
            break;
        }
    }
    Ok(Step::Directories(found))
}

/// A character device 0:0 hides the name. Source: kernel, Documentation/filesystems/overlayfs.rst, "whiteouts".
fn is_whiteout(status: &Stat) -> bool {
    file_type(status) == FileType::CharacterDevice && status.st_rdev == 0
}

fn leaf(parent: BorrowedFd<'_>, name: &[u8], status: &Stat) -> Result<LowerNode, IoError> {
    match file_type(status) {
        FileType::Symlink => {
            let target = rustix::fs::readlinkat(parent, name, Vec::new())
                .map_err(|errno| io("readlinkat", name, errno))?;
            Ok(LowerNode::Symlink(Box::new(*status), target.into_bytes()))
        }
        FileType::RegularFile => {
            let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NOFOLLOW;
            rustix::fs::openat(parent, name, flags, Mode::empty())
                .map(LowerNode::File)
                .map_err(|errno| io("openat", name, errno))
        }
        _ => Ok(LowerNode::Other(Box::new(*status))),
    }
}

/// The status and extended attributes of an open file, which `name` names in errors.
pub(crate) fn attributes_of(fd: BorrowedFd<'_>, name: &[u8]) -> Result<(Stat, Vec<Xattr>), IoError> {
    let status = status_of(fd).map_err(|errno| io("fstat", name, errno))?;
    let xattrs = xattr::get_all(fd).map_err(|errno| io("flistxattr", name, errno))?;
    Ok((status, xattrs))
}

/// The status of an open file.
pub(crate) fn status_of(fd: BorrowedFd<'_>) -> Result<Stat, Errno> {
    rustix::fs::statat(fd, c"", AtFlags::EMPTY_PATH)
}
