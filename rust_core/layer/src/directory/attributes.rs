//! Owner, mode, extended attributes and times, in the one order in which none undoes another.
//!
//! chown(2) clears setuid, setgid and file capabilities, so the mode comes after the owner (X11) and the extended
//! attributes after both (X12); a mode set after an access control list would change it.

use std::os::fd::{AsRawFd, BorrowedFd};

use rustix::fs::{AtFlags, Gid, Mode, OFlags, Stat, Timespec, Timestamps, Uid};
use rustix::io::Errno;

use crate::xattr::HOST_LABEL;
use crate::{Entry, Time, Xattr};

/// What is set on a file once its content is there.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Attributes {
    pub mode: u32,
    pub uid: u32,
    pub gid: u32,
    /// `None` leaves the time of writing.
    pub mtime: Option<Time>,
    pub xattrs: Vec<Xattr>,
}

/// A step that failed.
#[derive(Debug)]
pub(crate) enum Failure {
    /// A system call.
    Call(&'static str, Errno),
    /// An extended attribute that the kernel does not take.
    Xattr,
}

impl Attributes {
    pub fn of_entry(entry: &mut Entry) -> Self {
        Self {
            mode: entry.mode,
            uid: entry.uid,
            gid: entry.gid,
            mtime: Some(entry.mtime),
            xattrs: std::mem::take(&mut entry.xattrs),
        }
    }

    /// Those of a file of a lower layer.
    pub fn of_status(status: &Stat, xattrs: Vec<Xattr>) -> Self {
        let nanos = u32::try_from(status.st_mtime_nsec).unwrap_or(0);
        Self {
            mode: status.st_mode & 0o7777,
            uid: status.st_uid,
            gid: status.st_gid,
            mtime: Some(Time { seconds: status.st_mtime, nanos }),
            xattrs,
        }
    }

    fn mode(&self) -> Mode {
        Mode::from_raw_mode(self.mode)
    }

    fn owner(&self) -> (Option<Uid>, Option<Gid>) {
        (Some(Uid::from_raw(self.uid)), Some(Gid::from_raw(self.gid)))
    }

    fn times(&self) -> Option<Timestamps> {
        let time = self.mtime?;
        let time = Timespec { tv_sec: time.seconds, tv_nsec: time.nanos.into() };
        Some(Timestamps { last_access: time, last_modification: time })
    }

    /// Without a label of SELinux, which is this host's to give: a layer's files have that of the store's folder.
    fn kept_xattrs(&self) -> impl Iterator<Item = &Xattr> {
        self.xattrs.iter().filter(|(name, _)| name != HOST_LABEL)
    }

    /// Sets them on an open file that `owner` (user and group) made.
    pub fn set(&self, fd: BorrowedFd<'_>, maker: (u32, u32)) -> Result<(), Failure> {
        if (self.uid, self.gid) != maker {
            let (uid, gid) = self.owner();
            rustix::fs::fchown(fd, uid, gid).map_err(|e| Failure::Call("fchown", e))?;
        }
        rustix::fs::fchmod(fd, self.mode()).map_err(|e| Failure::Call("fchmod", e))?;
        for (name, value) in self.kept_xattrs() {
            taken(fd, name, true, crate::xattr::set(fd, name, value))?;
        }
        if let Some(times) = self.times() {
            rustix::fs::futimens(fd, &times).map_err(|e| Failure::Call("utimensat", e))?;
        }
        Ok(())
    }

    /// Sets them on what `name` in `parent` is itself, for what cannot be opened: links, devices, pipes. Links have no
    /// mode of their own.
    pub fn set_at(&self, parent: BorrowedFd<'_>, name: &[u8], is_link: bool) -> Result<(), Failure> {
        let (uid, gid) = self.owner();
        rustix::fs::chownat(parent, name, uid, gid, AtFlags::SYMLINK_NOFOLLOW)
            .map_err(|e| Failure::Call("fchownat", e))?;
        if !is_link {
            self.set_mode_at(parent, name).map_err(|e| Failure::Call("fchmodat", e))?;
        }
        for (attribute, value) in self.kept_xattrs() {
            let result = crate::xattr::set_at(parent, name, attribute, value);
            taken(parent, attribute, false, result)?;
        }
        if let Some(times) = self.times() {
            rustix::fs::utimensat(parent, name, &times, AtFlags::SYMLINK_NOFOLLOW)
                .map_err(|e| Failure::Call("utimensat", e))?;
        }
        Ok(())
    }
}

impl Attributes {
    /// Through a handle: the name may be a link by now, and chmod(2) by name would follow it out of the tree.
    fn set_mode_at(&self, parent: BorrowedFd<'_>, name: &[u8]) -> Result<(), Errno> {
        let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let handle = rustix::fs::openat(parent, name, flags, Mode::empty())?;
        rustix::fs::chmod(format!("/proc/self/fd/{}", handle.as_raw_fd()), self.mode())
    }
}

/// Whether the outcome of setting an extended attribute may stand; `fd` is on the file's file system.
///
/// What the file system or the file's type cannot hold is left out, as containerd does: images made on other systems
/// carry such attributes.
/// Capabilities are no decoration: a program without them does not work, so they must hold.
fn taken(
    fd: BorrowedFd<'_>,
    name: &[u8],
    can_hold_user: bool,
    result: Result<(), Errno>,
) -> Result<(), Failure> {
    match result {
        Ok(()) => Ok(()),
        Err(Errno::NOTSUP) if name != b"security.capability" => Ok(()),
        // xattr(7): user attributes are for regular files and directories only.
        Err(Errno::PERM) if !can_hold_user && name.starts_with(b"user.") => Ok(()),
        // ext4 answers so too for a value that does not fit its block, however empty the disk is.
        Err(Errno::NOSPC) if has_space(fd) => Err(Failure::Xattr),
        Err(errno @ (Errno::NOSPC | Errno::DQUOT | Errno::IO | Errno::NOTSUP)) => {
            Err(Failure::Call("setxattr", errno))
        }
        Err(_) => Err(Failure::Xattr),
    }
}

fn has_space(fd: BorrowedFd<'_>) -> bool {
    // Without an answer the errno is believed.
    rustix::fs::fstatvfs(fd).is_ok_and(|space| space.f_bavail > 0 && space.f_favail > 0)
}
