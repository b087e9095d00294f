//! Owner, mode, extended attributes and times of one file, read and set by a handle on it, so that no name is looked up
//! again. They are set in the one order in which none undoes another: chown(2) clears set-user-id bits and file
//! capabilities, and a mode set after an access control list would change it.

use std::os::fd::{AsRawFd, BorrowedFd};

use errors::IoError;
use rustix::fs::{AtFlags, FileType, Gid, Mode, Stat, Timespec, Timestamps, Uid, XattrFlags, CWD};
use rustix::io::Errno;

/// The label that a host with SELinux puts on every file: the host's, never the data's.
const HOST_LABEL: &[u8] = b"security.selinux";
/// Bytes of all names, and of one value, of extended attributes. Source: linux/limits.h.
const MAX_XATTR_BYTES: usize = 65_536;

/// Names and values of extended attributes.
type Xattrs = Vec<(Vec<u8>, Vec<u8>)>;

/// What is set on a file once its content is there.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Attributes {
    pub mode: u32,
    pub uid: u32,
    pub gid: u32,
    /// Seconds and nanoseconds.
    pub mtime: (i64, i64),
    pub xattrs: Xattrs,
}

/// The file that a handle stands for, as a path that leads to it and no further.
fn path_of(file: BorrowedFd<'_>) -> String {
    format!("/proc/self/fd/{}", file.as_raw_fd())
}

impl Attributes {
    /// Those of the file that `file` is a handle on, whose status is `status`.
    pub fn of(file: BorrowedFd<'_>, status: &Stat) -> Result<Self, Errno> {
        Ok(Self {
            mode: status.st_mode & 0o7777,
            uid: status.st_uid,
            gid: status.st_gid,
            #[allow(clippy::unnecessary_cast)]
            mtime: (status.st_mtime, status.st_mtime_nsec as i64),
            xattrs: xattrs_of(&path_of(file))?,
        })
    }

    /// Sets them on the file that `file` is a handle on, of the kind `kind`.
    ///
    /// # Errors
    /// The call that failed. An attribute that this file system or kind of file cannot hold is left out, but for
    /// capabilities: a program without them does not work.
    pub fn set(&self, file: BorrowedFd<'_>, kind: FileType, name: &[u8]) -> Result<(), IoError> {
        let path = path_of(file);
        let fail = |operation| super::tree::io(operation, name);
        let (uid, gid) = (Some(Uid::from_raw(self.uid)), Some(Gid::from_raw(self.gid)));
        rustix::fs::chownat(CWD, &path, uid, gid, AtFlags::empty()).map_err(fail("fchownat"))?;
        if kind != FileType::Symlink {
            rustix::fs::chmodat(CWD, &path, Mode::from_raw_mode(self.mode), AtFlags::empty())
                .map_err(fail("fchmodat"))?;
        }
        for (attribute, value) in &self.xattrs {
            let can_hold_user = matches!(kind, FileType::RegularFile | FileType::Directory);
            match rustix::fs::setxattr(&path, attribute.as_slice(), value, XattrFlags::empty()) {
                Ok(()) => {}
                Err(Errno::NOTSUP) if attribute != b"security.capability" => {}
                // xattr(7): user attributes are for regular files and directories only.
                Err(Errno::PERM) if !can_hold_user && attribute.starts_with(b"user.") => {}
                Err(errno) => return Err(fail("setxattr")(errno)),
            }
        }
        let time = Timespec { tv_sec: self.mtime.0, tv_nsec: self.mtime.1 };
        let times = Timestamps { last_access: time, last_modification: time };
        rustix::fs::utimensat(CWD, &path, &times, AtFlags::empty()).map_err(fail("utimensat"))
    }
}

fn xattrs_of(path: &str) -> Result<Xattrs, Errno> {
    let mut names = vec![0_u8; 1024];
    let size = loop {
        match rustix::fs::listxattr(path, &mut names) {
            Ok(size) => break size,
            Err(Errno::NOTSUP | Errno::PERM) => return Ok(Vec::new()),
            Err(Errno::RANGE) if names.len() < MAX_XATTR_BYTES => names.resize(MAX_XATTR_BYTES, 0),
            Err(errno) => return Err(errno),
        }
    };
    let mut found = Vec::new();
    for name in names[..size].split(|byte| *byte == 0).filter(|name| !name.is_empty() && *name != HOST_LABEL)
    {
        let mut value = vec![0_u8; 256];
        let size = loop {
            match rustix::fs::getxattr(path, name, &mut value) {
                Ok(size) => break Some(size),
                Err(Errno::NODATA | Errno::NOTSUP) => break None,
                Err(Errno::RANGE) if value.len() < MAX_XATTR_BYTES => value.resize(MAX_XATTR_BYTES, 0),
                Err(errno) => return Err(errno),
            }
        };
        if let Some(size) = size {
            value.truncate(size);
            found.push((name.to_vec(), value));
        }
    }
    Ok(found)
}
