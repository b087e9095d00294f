//! Copies of existing mounts, attached nowhere.

use std::os::fd::{BorrowedFd, OwnedFd};
use std::path::Path;

use rustix::fs::{fstat, FileType, CWD};
use rustix::mount::{open_tree, OpenTreeFlags};

use crate::{MountError, Want};

fn flags(recursive: bool) -> OpenTreeFlags {
    let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
    if recursive {
        flags | OpenTreeFlags::AT_RECURSIVE
    } else {
        flags
    }
}

/// A detached mount of the file or directory that `source` is, which must be in the caller's mount namespace; with
/// `recursive` the mounts below it come along. It has the flags of the mount it is taken from.
///
/// # Errors
/// [`MountError::Failed`]: EINVAL for a source in another mount namespace or marked unbindable.
pub fn bind_detached(source: BorrowedFd<'_>, recursive: bool) -> Result<OwnedFd, MountError> {
    open_tree(source, c"", flags(recursive) | OpenTreeFlags::AT_EMPTY_PATH)
        .map_err(|errno| MountError::failed("open_tree", "", errno))
}

/// As [`bind_detached`] for a path of the host, whose links are followed.
///
/// # Errors
/// [`MountError::Failed`]: ENOENT if there is no such path.
pub fn bind_path_detached(source: &Path, recursive: bool) -> Result<OwnedFd, MountError> {
    open_tree(CWD, source, flags(recursive)).map_err(|errno| MountError::failed("open_tree", source, errno))
}

/// Which kind of target this file or mount needs.
///
/// # Errors
/// [`MountError::Failed`] as fstat(2).
pub fn want_of(source: BorrowedFd<'_>) -> Result<Want, MountError> {
    let status = fstat(source).map_err(|errno| MountError::failed("fstat", "", errno))?;
    match FileType::from_raw_mode(status.st_mode) {
        FileType::Directory => Ok(Want::Directory),
        _ => Ok(Want::File),
    }
}
