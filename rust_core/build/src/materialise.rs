//! A selection written out as files, for a mount of a step: below a directory that the engine made, by descriptor.

use std::fs::File;
use std::io::Write;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use errors::IoError;
use rustix::fs::{AtFlags, Gid, Mode, OFlags, Timespec, Timestamps, Uid};
use rustix::io::Errno;

use crate::content::Content;
use crate::select::{Match, Selection};
use crate::tree::{split_last, Meta, MetaKind};
use crate::BuildError;

/// The first match of `selection` is written out: a directory's content in `directory`, which exists and is empty; a
/// file as `directory/file`. Returns whether it is a directory. Blocking.
///
/// # Errors
/// `STORAGE_FULL`, `IO_FAILED`, `CANCELLED`; what was written so far stays, for the caller to remove.
pub fn materialise(
    selection: &Selection,
    directory: &Path,
    is_cancelled: &dyn Fn() -> bool,
) -> Result<bool, BuildError> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let root = rustix::fs::open(directory, flags, Mode::empty())
        .map_err(|errno| IoError::new("open", directory, errno.raw_os_error()))?;
    let Some(Match { top, below, .. }) = selection.matches.first() else { return Ok(true) };
    if !top.meta.is_directory() {
        write(root.as_fd(), b"file", &top.meta, &top.content, selection.has_owners)?;
        return Ok(false);
    }
    for picked in below {
        if is_cancelled() {
            return Err(BuildError::Cancelled { subject: "a mount of a step".to_owned() });
        }
        let (parent, name) = split_last(&picked.name);
        let opened;
        let parent = if parent.is_empty() {
            root.as_fd()
        } else {
            opened = open_below(root.as_fd(), parent)?;
            opened.as_fd()
        };
        write(parent, name, &picked.meta, &picked.content, selection.has_owners)?;
    }
    set_attributes(root.as_fd(), b".", &top.meta, selection.has_owners)?;
    Ok(true)
}

fn open_below(root: BorrowedFd<'_>, path: &[u8]) -> Result<OwnedFd, BuildError> {
    use rustix::fs::ResolveFlags;
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS;
    rustix::fs::openat2(root, path, flags, Mode::empty(), resolve)
        .map_err(|errno| failed("openat2", path, errno))
}

fn failed(operation: &'static str, path: &[u8], errno: Errno) -> BuildError {
    use std::os::unix::ffi::OsStrExt;
    IoError::new(operation, std::ffi::OsStr::from_bytes(path), errno.raw_os_error()).into()
}

fn write(
    parent: BorrowedFd<'_>,
    name: &[u8],
    meta: &Meta,
    content: &Content,
    has_owners: bool,
) -> Result<(), BuildError> {
    match &meta.kind {
        MetaKind::Directory => {
            rustix::fs::mkdirat(parent, name, Mode::from_raw_mode(0o700))
                .map_err(|e| failed("mkdirat", name, e))?;
        }
        MetaKind::Symlink { target } => {
            rustix::fs::symlinkat(target.as_slice(), parent, name)
                .map_err(|e| failed("symlinkat", name, e))?;
        }
        MetaKind::File { .. } => {
            let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            let fd = rustix::fs::openat(parent, name, flags, Mode::from_raw_mode(0o600))
                .map_err(|e| failed("openat", name, e))?;
            let (mut file, mut reader, mut buffer) = (File::from(fd), content.open()?, Vec::new());
            while reader.next(&mut buffer)? {
                file.write_all(&buffer).map_err(|e| IoError::from_std("write", "a mount of a step", &e))?;
                buffer.clear();
            }
        }
        // Devices and the like mean nothing in a mount of a step.
        MetaKind::Fifo | MetaKind::Device { .. } | MetaKind::Socket => return Ok(()),
    }
    set_attributes(parent, name, meta, has_owners)
}

fn set_attributes(
    parent: BorrowedFd<'_>,
    name: &[u8],
    meta: &Meta,
    has_owners: bool,
) -> Result<(), BuildError> {
    let (uid, gid) = if has_owners { (meta.uid, meta.gid) } else { (0, 0) };
    rustix::fs::chownat(
        parent,
        name,
        Some(Uid::from_raw(uid)),
        Some(Gid::from_raw(gid)),
        AtFlags::SYMLINK_NOFOLLOW,
    )
    .map_err(|errno| failed("fchownat", name, errno))?;
    if !matches!(meta.kind, MetaKind::Symlink { .. }) {
        rustix::fs::chmodat(parent, name, Mode::from_raw_mode(meta.mode), AtFlags::empty())
            .map_err(|errno| failed("fchmodat", name, errno))?;
    }
    let time = Timespec { tv_sec: meta.mtime.seconds, tv_nsec: meta.mtime.nanos.into() };
    let times = Timestamps { last_access: time, last_modification: time };
    rustix::fs::utimensat(parent, name, &times, AtFlags::SYMLINK_NOFOLLOW)
        .map_err(|errno| failed("utimensat", name, errno))
}
