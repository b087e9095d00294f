//! Copies of existing mounts, attached nowhere.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use rustix::fs::{fstat, FileType, Mode, OFlags, CWD};
use rustix::io::Errno;
use rustix::mount::{open_tree, OpenTreeFlags};

use crate::private::in_private_mounts;
use crate::{attach, MountError, Want};

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

/// A detached mount of `part`, which lies in `whole`, a mount that is attached nowhere.
///
/// # Errors
/// [`MountError::Failed`] as [`bind_detached`].
pub fn bind_part_detached(whole: BorrowedFd<'_>, part: BorrowedFd<'_>) -> Result<OwnedFd, MountError> {
    match bind_detached(part, false) {
        Err(error) if error.errno() == Errno::INVAL.raw_os_error() => bind_part_classic(whole, part),
        answer => answer,
    }
}

/// As [`bind_part_detached`], for kernels that copy no mount that is attached nowhere (before 6.15): the whole is attached
/// for that time, where nobody sees it. It is of no use any more then.
///
/// # Errors
/// As [`bind_part_detached`]; EPERM without CAP_SYS_ADMIN.
///
/// Source: fs/namespace.c, `__do_loopback`, `may_copy_tree`.
pub fn bind_part_classic(whole: BorrowedFd<'_>, part: BorrowedFd<'_>) -> Result<OwnedFd, MountError> {
    let root = Path::new("/");
    in_private_mounts(root, || {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let target = rustix::fs::open(root, flags, Mode::empty())
            .map_err(|errno| MountError::failed("open", root, errno))?;
        attach(whole, target.as_fd(), root)?;
        bind_detached(part, false)
    })
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
