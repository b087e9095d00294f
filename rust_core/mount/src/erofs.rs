//! An EROFS image that lies in a file, mounted without a block device.

use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};
use std::path::Path;

use rustix::io::Errno;

use crate::fs_context::FsContext;
use crate::{Attributes, MountError};

/// A detached, read-only mount of the image in the open file `image`, whose extra devices are the open files `devices`
/// in the order of the image's device table. The files may be closed and unlinked afterwards: the mount holds them.
/// Closing the mount, and all that was made of it, lets them go. All its files have the SELinux label `label`, unless that is empty. Blocking (70 µs with a warm cache).
///
/// The kernel opens the files again through their links in /proc/self/fd, so that no path is resolved a second time
/// and none is too long for fsconfig(2).
///
/// # Errors
/// [`MountError::FeatureMissing`]: `erofs` on a kernel without it, `erofs_file_mount` on one that mounts it only from
/// block devices (before 6.12). [`MountError::Failed`] with the kernel's message: EINVAL or EUCLEAN for a file that is
/// no sound image.
///
/// Source: Documentation/filesystems/erofs.rst, "device="; fs/erofs/super.c, erofs_fc_get_tree().
pub fn erofs_detached(
    image: BorrowedFd<'_>,
    devices: &[BorrowedFd<'_>],
    attributes: Attributes,
    label: &str,
) -> Result<OwnedFd, MountError> {
    let context = FsContext::open("erofs")?;
    let link = |file: &BorrowedFd<'_>| format!("/proc/self/fd/{}", file.as_raw_fd());
    context.set("source", link(&image), Path::new("source"))?;
    for device in devices {
        context.set("device", link(device), Path::new("device"))?;
    }
    context.label(label)?;
    context.mount(attributes.read_only(), Path::new("erofs")).map_err(|error| match error {
        MountError::Failed { operation, path, errno, .. } if errno == Errno::NOTBLK.raw_os_error() => {
            MountError::FeatureMissing { operation, path, errno, feature: "erofs_file_mount" }
        }
        other => other,
    })
}
