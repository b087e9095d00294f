//! Extended attributes by fd, and which of them a layer may carry.

use std::os::fd::{AsRawFd, BorrowedFd};

use rustix::fs::XattrFlags;
use rustix::io::Errno;

use crate::Xattr;

/// The attribute by which overlayfs hides all that the lower layers have in a directory.
/// Source: kernel, Documentation/filesystems/overlayfs.rst, "whiteouts and opaque directories".
pub(crate) const OPAQUE: &str = "trusted.overlay.opaque";

/// The value of [`OPAQUE`].
pub(crate) const OPAQUE_VALUE: &[u8] = b"y";

/// True for attributes that steer overlayfs: an image must not hide or redirect what lies below it (Z14).
pub(crate) fn steers_overlay(name: &[u8]) -> bool {
    if sys::weakened::lacks("layer-attributes") {
        return false;
    }
    let after = |prefix: &[u8]| name.strip_prefix(prefix);
    after(b"trusted.")
        .or_else(|| after(b"user."))
        .is_some_and(|rest| rest == b"overlay" || rest.starts_with(b"overlay."))
}

/// The value of one attribute, or `None` if the file or the file system has none.
pub(crate) fn get(fd: BorrowedFd<'_>, name: &str) -> Result<Option<Vec<u8>>, Errno> {
    let mut value = vec![0u8; 256];
    loop {
        match rustix::fs::fgetxattr(fd, name, &mut value) {
            Ok(size) => {
                value.truncate(size);
                return Ok(Some(value));
            }
            Err(Errno::NODATA | Errno::NOTSUP) => return Ok(None),
            Err(Errno::RANGE) if value.len() < 65_536 => value.resize(65_536, 0),
            Err(errno) => return Err(errno),
        }
    }
}

/// The label that a host with SELinux puts on every file: the host's, never the layer's.
pub(crate) const HOST_LABEL: &[u8] = b"security.selinux";

/// True for an attribute that a layer may carry: none that steers overlayfs, and no label of the host.
pub fn may_carry_xattr(name: &[u8]) -> bool {
    !name.is_empty() && !steers_overlay(name) && name != HOST_LABEL
}

/// All attributes of a file that a layer may carry.
pub(crate) fn get_all(fd: BorrowedFd<'_>) -> Result<Vec<Xattr>, Errno> {
    let mut names = vec![0u8; 4096];
    let size = loop {
        match rustix::fs::flistxattr(fd, &mut names) {
            Ok(size) => break size,
            Err(Errno::NOTSUP) => return Ok(Vec::new()),
            Err(Errno::RANGE) if names.len() < 65_536 => names.resize(65_536, 0),
            Err(errno) => return Err(errno),
        }
    };
    let mut all = Vec::new();
    for name in names[..size].split(|b| *b == 0).filter(|name| may_carry_xattr(name)) {
        let Ok(text) = std::str::from_utf8(name) else { continue };
        if let Some(value) = get(fd, text)? {
            all.push((name.to_vec(), value));
        }
    }
    Ok(all)
}

/// How many bytes attributes take in memory.
pub(crate) fn weight(xattrs: &[Xattr]) -> u64 {
    xattrs.iter().map(|(name, value)| (name.len() + value.len()) as u64).sum()
}

/// Sets an attribute of an open file.
pub(crate) fn set(fd: BorrowedFd<'_>, name: &[u8], value: &[u8]) -> Result<(), Errno> {
    rustix::fs::fsetxattr(fd, name, value, XattrFlags::empty())
}

/// Sets an attribute of `name` in `parent` itself, for what cannot be opened (links, devices).
///
/// The path goes through procfs to the directory held by fd and then takes one component that is not followed, so
/// nothing outside can be reached. `setxattrat` does the same without procfs, from Linux 6.13 on only.
pub(crate) fn set_at(
    parent: BorrowedFd<'_>,
    name: &[u8],
    attribute: &[u8],
    value: &[u8],
) -> Result<(), Errno> {
    let mut path = format!("/proc/self/fd/{}/", parent.as_raw_fd()).into_bytes();
    path.extend_from_slice(name);
    rustix::fs::lsetxattr(path, attribute, value, XattrFlags::empty())
}
