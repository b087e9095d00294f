//! mount_setattr(2): changes a mount's flags through a descriptor, one mount or a whole tree at once.
#![allow(unsafe_code)]

use std::os::fd::{AsFd, AsRawFd};

use rustix::io::Errno;

/// MOUNT_ATTR_RDONLY of linux/mount.h.
pub const READ_ONLY: u64 = 0x1;
/// MOUNT_ATTR_NOSUID.
pub const NO_SUID: u64 = 0x2;
/// MOUNT_ATTR_NODEV.
pub const NO_DEV: u64 = 0x4;
/// MOUNT_ATTR_NOEXEC.
pub const NO_EXEC: u64 = 0x8;

const AT_EMPTY_PATH: libc::c_uint = 0x1000;
const AT_RECURSIVE: libc::c_uint = 0x8000;

/// struct mount_attr of linux/mount.h, first version (MOUNT_ATTR_SIZE_VER0).
#[repr(C)]
struct MountAttr {
    set: u64,
    clear: u64,
    propagation: u64,
    user_namespace_fd: u64,
}

/// The flags of `set` are on for the mount of this descriptor, every other flag is as it was; with `recursive`
/// also for each mount below it.
///
/// # Errors
/// ENOSYS before Linux 5.12, EINVAL if the descriptor is not a mount's root, EPERM for a locked flag.
pub fn add(mount: impl AsFd, set: u64, recursive: bool) -> Result<(), Errno> {
    change(mount, MountAttr { set, clear: 0, propagation: 0, user_namespace_fd: 0 }, recursive)
}

/// As [`add`] on the whole tree, which in the same call stops sending and receiving mount events.
///
/// # Errors
/// As in [`add`].
pub fn add_and_make_private(tree: impl AsFd, set: u64) -> Result<(), Errno> {
    let propagation = libc::MS_PRIVATE;
    change(tree, MountAttr { set, clear: 0, propagation, user_namespace_fd: 0 }, true)
}

fn change(mount: impl AsFd, attributes: MountAttr, recursive: bool) -> Result<(), Errno> {
    let flags = AT_EMPTY_PATH | if recursive { AT_RECURSIVE } else { 0 };
    // SAFETY: the path is an empty C string and `attributes` is the structure whose size is given; the kernel only
    // reads both.
    let answer = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            mount.as_fd().as_raw_fd(),
            c"".as_ptr(),
            flags,
            &raw const attributes,
            std::mem::size_of::<MountAttr>(),
        )
    };
    if answer == 0 {
        Ok(())
    } else {
        Err(Errno::from_io_error(&std::io::Error::last_os_error()).unwrap_or(Errno::INVAL))
    }
}

/// MOUNT_ATTR_IDMAP.
const ID_MAP: u64 = 0x0010_0000;

/// The mount of this descriptor, and with `recursive` every mount below it, has the propagation `propagation`
/// (MS_PRIVATE, MS_SLAVE, MS_SHARED or MS_UNBINDABLE of mount(2)).
///
/// # Errors
/// As in [`add`].
pub fn set_propagation(mount: impl AsFd, propagation: u64, recursive: bool) -> Result<(), Errno> {
    change(mount, MountAttr { set: 0, clear: 0, propagation, user_namespace_fd: 0 }, recursive)
}

/// The detached mount of this descriptor, with `recursive` each mount below it too, shows owners as the id maps of
/// `user_namespace` shift them.
///
/// # Errors
/// As in [`add`]; EINVAL also for a file system that cannot be idmapped, and for a mount that is already attached.
pub fn map_ids(mount: impl AsFd, user_namespace: impl AsFd, recursive: bool) -> Result<(), Errno> {
    let user_namespace_fd = user_namespace.as_fd().as_raw_fd() as u64;
    change(mount, MountAttr { set: ID_MAP, clear: 0, propagation: 0, user_namespace_fd }, recursive)
}
