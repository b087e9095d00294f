//! Making a mount the root of everything, and letting go of the old one.

use std::os::fd::BorrowedFd;

use rustix::mount::{mount_change, unmount, MountPropagationFlags, UnmountFlags};
use rustix::process::{chdir, fchdir, pivot_root};

use crate::{MountError, Propagation};

/// Every mount of the caller's mount namespace has this propagation; with Private or Slave nothing that the caller
/// mounts from now on is seen by the namespace it was copied from.
///
/// # Errors
/// [`MountError::Failed`] without CAP_SYS_ADMIN.
pub fn set_root_propagation(propagation: Propagation) -> Result<(), MountError> {
    let flag = match propagation {
        Propagation::Private => MountPropagationFlags::PRIVATE,
        Propagation::Slave => MountPropagationFlags::DOWNSTREAM,
        Propagation::Shared => MountPropagationFlags::SHARED,
    };
    mount_change("/", flag | MountPropagationFlags::REC)
        .map_err(|errno| MountError::failed("mount_propagation", "/", errno))
}

/// `root`, the root directory of an attached mount, is `/` of the caller's mount namespace and its working
/// directory; the old root and everything below it is gone from this namespace.
///
/// The caller's mounts must not be shared ([`set_root_propagation`]), or the host would lose its mounts too.
///
/// # Errors
/// [`MountError::Failed`]: EINVAL for a root that is not a mount point or whose parent mount is shared.
///
/// Source: pivot_root(2), NOTES: `pivot_root(".", ".")`.
pub fn pivot_into(root: BorrowedFd<'_>) -> Result<(), MountError> {
    fchdir(root).map_err(|errno| MountError::failed("fchdir", "/", errno))?;
    pivot_root(c".", c".").map_err(|errno| MountError::failed("pivot_root", "/", errno))?;
    // The old root now lies over the new one at the same place, and "." is the old one.
    unmount(c".", UnmountFlags::DETACH).map_err(|errno| MountError::failed("umount2", "/", errno))?;
    chdir(c"/").map_err(|errno| MountError::failed("chdir", "/", errno))
}
