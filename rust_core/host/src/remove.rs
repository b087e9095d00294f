//! Removing a tree.

use std::ffi::{CStr, CString};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use errors::IoError;
use rustix::fs::{open, unlinkat, AtFlags, Mode, OFlags};
use rustix::io::Errno;
use sys::failpoint;

use crate::walk::{open_below, walk, Entry, Step, Visitor};

/// The tree at `path` is gone. Links are removed and not followed; a mount point in it is neither entered nor removed
/// and fails the call (EBUSY), after which part of the tree may be gone. An absent path is no error. Any depth.
/// Blocking, idempotent, not durable.
///
/// # Errors
/// [`IoError`] naming the entry: EBUSY for a mount point, EINVAL for a path without a last name (`/`, `..`).
pub fn remove_tree(path: &Path) -> Result<(), IoError> {
    let failed = |operation, errno: Errno| IoError::new(operation, path, errno.raw_os_error());
    let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else {
        return Err(failed("remove_tree", Errno::INVAL));
    };
    let name = CString::new(name.as_bytes()).map_err(|_| failed("remove_tree", Errno::INVAL))?;
    let parent = if parent.as_os_str().is_empty() { Path::new(".") } else { parent };
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let parent = match open(parent, flags, Mode::empty()) {
        Ok(parent) => parent,
        Err(Errno::NOENT) => return Ok(()),
        Err(errno) => return Err(failed("open", errno)),
    };
    failpoint::hit("host.remove_tree");
    match open_below(parent.as_fd(), &name) {
        Ok(root) => {
            walk(root, path, &mut Remover)?;
            remove(parent.as_fd(), &name, AtFlags::REMOVEDIR).map_err(|errno| failed("unlinkat", errno))
        }
        Err(Errno::NOENT) => Ok(()),
        Err(Errno::XDEV) => Err(failed("openat2", Errno::BUSY)),
        // A link or a file.
        Err(Errno::LOOP | Errno::NOTDIR) => {
            remove(parent.as_fd(), &name, AtFlags::empty()).map_err(|errno| failed("unlinkat", errno))
        }
        Err(errno) => Err(failed("openat2", errno)),
    }
}

fn remove(directory: BorrowedFd<'_>, name: &CStr, flags: AtFlags) -> Result<(), Errno> {
    match unlinkat(directory, name, flags) {
        Err(Errno::NOENT) => Ok(()),
        answer => answer,
    }
}

struct Remover;

impl Visitor for Remover {
    fn entry(&mut self, entry: &Entry<'_>) -> Result<Step, (&'static str, Errno)> {
        if !entry.is_directory {
            remove(entry.directory, entry.name, AtFlags::empty()).map_err(|errno| ("unlinkat", errno))?;
        }
        Ok(Step::Go)
    }

    fn left(&mut self, parent: BorrowedFd<'_>, name: &CStr) -> Result<(), (&'static str, Errno)> {
        failpoint::hit("host.remove_directory");
        remove(parent, name, AtFlags::REMOVEDIR).map_err(|errno| ("unlinkat", errno))
    }

    fn mount_point(&mut self) -> Result<(), (&'static str, Errno)> {
        Err(("openat2", Errno::BUSY))
    }
}
