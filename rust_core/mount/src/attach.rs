//! Putting a detached mount in its place.

use std::os::fd::BorrowedFd;
use std::path::Path;

use rustix::mount::{move_mount, MoveMountFlags};

use crate::MountError;

/// The detached mount stands on `target`, a descriptor of [`crate::resolve_in_root`]; no path is resolved.
/// `subject` is the path that an error names. `mount` goes on being the mount's root.
///
/// # Errors
/// [`MountError::Failed`]: ENOTDIR for a directory on a file or the reverse, EINVAL for a target outside the
/// caller's mount namespace.
pub fn attach(mount: BorrowedFd<'_>, target: BorrowedFd<'_>, subject: &Path) -> Result<(), MountError> {
    let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH | MoveMountFlags::MOVE_MOUNT_T_EMPTY_PATH;
    move_mount(mount, c"", target, c"", flags)
        .map_err(|errno| MountError::failed("move_mount", subject, errno))
}
