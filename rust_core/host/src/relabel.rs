//! Giving a tree an SELinux label.

use std::ffi::CStr;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::Path;

use errors::IoError;
use rustix::fs::{fstat, getxattr, openat2, setxattr, FileType, Mode, OFlags, ResolveFlags, XattrFlags, CWD};
use rustix::io::Errno;
use sys::failpoint;

use crate::walk::{walk, Entry, Step, Visitor};

const ATTRIBUTE: &str = "security.selinux";
/// Longest label that is compared; a longer one is replaced. Source: include/uapi/linux/limits.h, XATTR_SIZE_MAX is more
/// than any policy's longest.
const MAX_LABEL_BYTES: usize = 4096;

/// Everything of the tree at `path`, or the file there, has the SELinux label `label`: links themselves and not what they
/// lead to, nothing on other file systems. Answers how many did not have it. What has its own label last is `path` itself:
/// a tree whose root has the label was once given it as a whole, and with `trusts_root` is left alone then. Without it the
/// tree is the caller's: no link on the way to it is followed, so that what is labelled is what was looked at by that path.
///
/// A file system that keeps no labels is left as it is. An entry that vanishes meanwhile is passed over. Blocking (some
/// microseconds an entry), idempotent, not durable.
///
/// # Errors
/// [`IoError`] naming the entry: ENOENT if `path` is not there, ELOOP for a link on an untrusted way, EINVAL for a label that the host's policy does not know,
/// EACCES for one that it does not let the caller give; what came before has the label then.
pub fn relabel(path: &Path, label: &str, trusts_root: bool) -> Result<u64, IoError> {
    let failed = |operation, errno: Errno| IoError::new(operation, path, errno.raw_os_error());
    let resolve = if trusts_root { ResolveFlags::empty() } else { ResolveFlags::NO_SYMLINKS };
    let root = openat2(CWD, path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty(), resolve)
        .map_err(|errno| failed("openat2", errno))?;
    let status = fstat(&root).map_err(|errno| failed("fstat", errno))?;
    let mut labeller = Labeller { label, changed: 0 };
    let has_label = labeller.has(root.as_fd()).map_err(|errno| failed("getxattr", errno))?;
    if trusts_root && has_label {
        return Ok(0);
    }
    if FileType::from_raw_mode(status.st_mode) == FileType::Directory {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let inside = openat2(&root, c".", flags, Mode::empty(), ResolveFlags::NO_XDEV)
            .map_err(|errno| failed("openat2", errno))?;
        if !walk(inside, path, &mut labeller)? {
            return Ok(labeller.changed);
        }
    }
    failpoint::hit("host.relabel.root");
    match labeller.give(root.as_fd()) {
        Ok(()) | Err(Errno::OPNOTSUPP) => Ok(labeller.changed),
        Err(errno) => Err(failed("setxattr", errno)),
    }
}

struct Labeller<'a> {
    label: &'a str,
    changed: u64,
}

impl Labeller<'_> {
    fn has(&self, file: BorrowedFd<'_>) -> Result<bool, Errno> {
        let mut found = [0_u8; MAX_LABEL_BYTES];
        match getxattr(link(file), ATTRIBUTE, &mut found) {
            Ok(length) => {
                let found = &found[..length];
                Ok(found.strip_suffix(b"\0").unwrap_or(found) == self.label.as_bytes())
            }
            Err(Errno::NODATA | Errno::RANGE | Errno::OPNOTSUPP) => Ok(false),
            Err(errno) => Err(errno),
        }
    }

    fn give(&mut self, file: BorrowedFd<'_>) -> Result<(), Errno> {
        if self.has(file)? {
            return Ok(());
        }
        setxattr(link(file), ATTRIBUTE, self.label.as_bytes(), XattrFlags::empty())?;
        self.changed += 1;
        Ok(())
    }
}

/// The file itself, be it a link: descriptors of places alone take no fsetxattr.
fn link(file: BorrowedFd<'_>) -> String {
    format!("/proc/self/fd/{}", file.as_raw_fd())
}

/// What `name` is in the directory, opened for nothing; None if it has vanished or another file system is mounted there.
fn place(directory: BorrowedFd<'_>, name: &CStr) -> Result<Option<OwnedFd>, Errno> {
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_XDEV | ResolveFlags::NO_SYMLINKS;
    loop {
        match openat2(directory, name, flags, Mode::empty(), resolve) {
            Ok(file) => return Ok(Some(file)),
            Err(Errno::NOENT | Errno::XDEV) => return Ok(None),
            Err(Errno::AGAIN | Errno::INTR) => {}
            Err(errno) => return Err(errno),
        }
    }
}

impl Visitor for Labeller<'_> {
    fn entry(&mut self, entry: &Entry<'_>) -> Result<Step, (&'static str, Errno)> {
        let file = place(entry.directory, entry.name).map_err(|errno| ("openat2", errno))?;
        let Some(file) = file else { return Ok(Step::Go) };
        failpoint::hit("host.relabel.entry");
        match self.give(file.as_fd()) {
            Ok(()) => Ok(Step::Go),
            Err(Errno::OPNOTSUPP) => Ok(Step::Stop),
            Err(errno) => Err(("setxattr", errno)),
        }
    }

    fn left(&mut self, _: BorrowedFd<'_>, _: &CStr) -> Result<(), (&'static str, Errno)> {
        Ok(())
    }

    fn mount_point(&mut self) -> Result<(), (&'static str, Errno)> {
        Ok(())
    }
}
