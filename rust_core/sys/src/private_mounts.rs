//! A mount namespace for one thread, so that mounts can be made and tried where nobody else sees them.
#![allow(unsafe_code)]

use rustix::io::Errno;
use rustix::mount::{mount_change, MountPropagationFlags};
use rustix::thread::{unshare_unsafe, UnshareFlags};

/// The calling thread, and it alone, is in a copy of its mount namespace from which nothing spreads; it also has a
/// working directory of its own. It stays there until it ends, and so do the mounts it makes.
///
/// # Errors
/// EPERM without CAP_SYS_ADMIN.
pub fn enter() -> Result<(), Errno> {
    // SAFETY: CLONE_NEWNS and CLONE_FS are per thread in the kernel; no descriptor table is split (which is what
    // makes unshare unsafe), so every descriptor of the process stays valid.
    unsafe { unshare_unsafe(UnshareFlags::NEWNS | UnshareFlags::FS)? };
    mount_change("/", MountPropagationFlags::PRIVATE | MountPropagationFlags::REC)
}
