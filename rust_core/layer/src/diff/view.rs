//! A container's tree as overlayfs merges it, read in place: the writable layer above the stored ones, each held by fd.
//!
//! Nothing is mounted. A directory is opened from the roots anew by its whole path, no link followed, no mount crossed,
//! so that at most one directory of each layer is open at a time, however deep the tree is.

use std::collections::BTreeSet;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use errors::IoError;
use rustix::fs::{FileType, OFlags, ResolveFlags, Stat};
use rustix::io::Errno;

use super::node::Steering;
use crate::tree::{file_type, io, stat};

/// Which root in [`Roots`]; 0 is the writable layer.
pub(crate) type RootIndex = usize;

/// The writable layer.
pub(super) const UPPER: RootIndex = 0;

/// Layer roots, highest first; the writable layer is the first.
#[derive(Debug)]
pub(crate) struct Roots(Vec<OwnedFd>);

/// A directory of one layer.
#[derive(Debug)]
pub(crate) struct Member {
    pub root: RootIndex,
    pub fd: OwnedFd,
    /// Its files may be whiteouts by an attribute.
    pub has_attribute_whiteouts: bool,
}

/// What the merged layers have at a name.
#[derive(Debug)]
pub(crate) enum Found {
    Absent,
    /// The roots whose directories merge, highest first; never empty.
    Directory(Vec<RootIndex>),
    /// Anything else, in this root.
    Leaf(RootIndex, Box<Stat>),
}

impl Found {
    pub fn is_absent(&self) -> bool {
        matches!(self, Self::Absent)
    }
}

impl Roots {
    pub fn new(upper: OwnedFd, lowers_highest_first: Vec<OwnedFd>) -> Self {
        let mut roots = vec![upper];
        roots.extend(lowers_highest_first);
        Self(roots)
    }

    /// The roots of the layers below the writable one.
    pub fn lowers(&self) -> Vec<RootIndex> {
        (1..self.0.len()).collect()
    }

    /// The directory `path` in each of `roots`, in their order. One that has vanished meanwhile is left out.
    pub fn open(&self, path: &[u8], roots: &[RootIndex]) -> Result<Vec<Member>, IoError> {
        let mut members = Vec::with_capacity(roots.len());
        for root in roots {
            let fd = match open_beneath(self.0[*root].as_fd(), path, OFlags::RDONLY | OFlags::DIRECTORY) {
                Ok(fd) => fd,
                Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => continue,
                Err(errno) => return Err(io("openat2", path, errno)),
            };
            let steering =
                Steering::of_directory(fd.as_fd()).map_err(|errno| io("fgetxattr", path, errno))?;
            let has_attribute_whiteouts = steering.has_attribute_whiteouts;
            members.push(Member { root: *root, fd, has_attribute_whiteouts });
        }
        Ok(members)
    }
}

/// Opens `path` below `directory` with `flags`, no component a link or a mount point.
pub(super) fn open_beneath(directory: BorrowedFd<'_>, path: &[u8], flags: OFlags) -> Result<OwnedFd, Errno> {
    let path: &[u8] = if path.is_empty() { b"." } else { path };
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_XDEV;
    crate::tree::open_resolved(directory, path, flags | OFlags::NOFOLLOW, resolve)
}

/// What `members` merged have at `name`.
///
/// Source: kernel, Documentation/filesystems/overlayfs.rst, "whiteouts and opaque directories".
pub(super) fn find(members: &[Member], name: &[u8]) -> Result<Found, IoError> {
    let mut directories = Vec::new();
    for member in members {
        let Some(status) = stat(member.fd.as_fd(), name).map_err(|errno| io("fstatat", name, errno))? else {
            continue;
        };
        if file_type(&status) != FileType::Directory {
            let is_hidden = !directories.is_empty() || is_whiteout(member, name, &status)?;
            if !is_hidden {
                return Ok(Found::Leaf(member.root, Box::new(status)));
            }
            break;
        }
        directories.push(member.root);
        if is_opaque(member.fd.as_fd(), name)? {
            break;
        }
    }
    Ok(if directories.is_empty() { Found::Absent } else { Found::Directory(directories) })
}

/// True for what hides `name` in the layers below: a character device 0:0, or an empty file with the attribute, in a
/// directory that says that it may hold such files.
pub(super) fn is_whiteout(member: &Member, name: &[u8], status: &Stat) -> Result<bool, IoError> {
    if file_type(status) == FileType::CharacterDevice && status.st_rdev == 0 {
        return Ok(true);
    }
    let may_be =
        member.has_attribute_whiteouts && file_type(status) == FileType::RegularFile && status.st_size == 0;
    if !may_be {
        return Ok(false);
    }
    match open_beneath(member.fd.as_fd(), name, OFlags::PATH) {
        Ok(file) => Steering::of_handle(file.as_fd())
            .map(|steering| steering.is_whiteout)
            .map_err(|errno| io("getxattr", name, errno)),
        Err(Errno::NOENT) => Ok(false),
        Err(errno) => Err(io("openat2", name, errno)),
    }
}

fn is_opaque(directory: BorrowedFd<'_>, name: &[u8]) -> Result<bool, IoError> {
    match open_beneath(directory, name, OFlags::RDONLY | OFlags::DIRECTORY) {
        Ok(fd) => Steering::of_directory(fd.as_fd())
            .map(|steering| steering.is_opaque)
            .map_err(|errno| io("fgetxattr", name, errno)),
        Err(Errno::NOENT) => Ok(false),
        Err(errno) => Err(io("openat2", name, errno)),
    }
}

/// The names in a directory, without `.` and `..`, counted against `left_bytes`; `None` if there are too many of them.
pub(crate) fn names(
    directory: BorrowedFd<'_>,
    path: &[u8],
    left_bytes: &mut u64,
) -> Result<Option<BTreeSet<Vec<u8>>>, IoError> {
    let failed = |errno| io("getdents64", path, errno);
    let mut names = BTreeSet::new();
    for entry in rustix::fs::Dir::read_from(directory).map_err(failed)? {
        let entry = entry.map_err(failed)?;
        let name = entry.file_name().to_bytes();
        if matches!(name, b"." | b"..") {
            continue;
        }
        let Some(left) = left_bytes.checked_sub(weight(name)) else { return Ok(None) };
        *left_bytes = left;
        names.insert(name.to_vec());
    }
    Ok(Some(names))
}

/// What a remembered name takes in memory.
pub(crate) fn weight(name: &[u8]) -> u64 {
    const OVERHEAD_BYTES: u64 = 48;
    name.len() as u64 + OVERHEAD_BYTES
}
