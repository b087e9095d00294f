//! Entries of trees by descriptor: never through a link, never onto another mount.

use std::ffi::CString;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use errors::IoError;
use rustix::fs::{openat, openat2, Dir, Mode, OFlags, ResolveFlags};
use rustix::io::Errno;

/// How often openat2 is tried again when a rename elsewhere makes it answer EAGAIN.
const MAX_OPEN_ATTEMPTS: u32 = 128;

/// Wraps an errno with the operation and the name it met.
pub(crate) fn io(operation: &'static str, name: &[u8]) -> impl Fn(Errno) -> IoError {
    use std::os::unix::ffi::OsStrExt;
    let path = std::path::PathBuf::from(std::ffi::OsStr::from_bytes(name));
    move |errno| IoError::new(operation, &path, errno.raw_os_error())
}

/// Opens `path` beneath `root` with `flags`; what `resolve` says besides holds for every component.
///
/// # Errors
/// As openat2(2).
pub(crate) fn open_beneath(
    root: impl AsFd,
    path: &[u8],
    flags: OFlags,
    resolve: ResolveFlags,
) -> Result<OwnedFd, Errno> {
    // openat2 takes no empty path.
    let path = if path.is_empty() { b"." } else { path };
    for _ in 0..MAX_OPEN_ATTEMPTS {
        match openat2(root.as_fd(), path, flags | OFlags::CLOEXEC, Mode::empty(), resolve) {
            Err(Errno::AGAIN | Errno::INTR) => {}
            answer => return answer,
        }
    }
    Err(Errno::AGAIN)
}

/// Opens the directory that is `name` itself, to be listed; EXDEV for one that something is mounted on.
pub(crate) fn open_dir(parent: impl AsFd, name: &[u8]) -> Result<OwnedFd, Errno> {
    let resolve = ResolveFlags::NO_XDEV | ResolveFlags::NO_SYMLINKS | ResolveFlags::BENEATH;
    open_beneath(parent, name, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW, resolve)
}

/// A handle on what is `name` itself, whatever it is.
pub(crate) fn handle(parent: impl AsFd, name: &[u8]) -> Result<OwnedFd, Errno> {
    openat(parent, name, OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty())
}

/// The names in a directory, in no order.
pub(crate) fn names(directory: BorrowedFd<'_>) -> Result<Vec<CString>, Errno> {
    let mut found = Vec::new();
    for entry in Dir::read_from(directory)? {
        let entry = entry?;
        if !matches!(entry.file_name().to_bytes(), b"." | b"..") {
            found.push(entry.file_name().to_owned());
        }
    }
    Ok(found)
}

/// Whether a directory has no entries.
pub(crate) fn is_empty(directory: BorrowedFd<'_>) -> Result<bool, Errno> {
    for entry in Dir::read_from(directory)? {
        if !matches!(entry?.file_name().to_bytes(), b"." | b"..") {
            return Ok(false);
        }
    }
    Ok(true)
}
