//! A descriptor that becomes readable when a log may have grown.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use errors::IoError;
use rustix::fs::inotify;
use rustix::io::Errno;
use rustix::time::{Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec};

/// How often a follower looks where the host has no inotify instance left (`fs.inotify.max_user_instances`).
pub const POLL_FALLBACK_MILLIS: u32 = 50;

/// An inotify instance on the log's directory, or a timer in its place.
#[derive(Debug)]
pub struct Watch {
    fd: OwnedFd,
}

impl Watch {
    /// Watches a directory: a segment in it is written to, made or unlinked.
    pub fn new(dir: &Path) -> Result<Self, IoError> {
        let flags = inotify::CreateFlags::NONBLOCK | inotify::CreateFlags::CLOEXEC;
        let fd = match inotify::init(flags) {
            Ok(fd) => fd,
            Err(Errno::MFILE) => return Self::timer(),
            Err(errno) => return Err(IoError::new("inotify_init1", dir, errno.raw_os_error())),
        };
        // A watch on the directory reports writes to the files in it too.
        let events = inotify::WatchFlags::MODIFY | inotify::WatchFlags::CREATE | inotify::WatchFlags::DELETE;
        match inotify::add_watch(&fd, dir, events) {
            Ok(_) => Ok(Self { fd }),
            Err(Errno::NOSPC) => Self::timer(),
            Err(errno) => Err(IoError::new("inotify_add_watch", dir, errno.raw_os_error())),
        }
    }

    fn timer() -> Result<Self, IoError> {
        let wrap = |operation| move |errno: Errno| IoError::new(operation, "", errno.raw_os_error());
        let flags = TimerfdFlags::NONBLOCK | TimerfdFlags::CLOEXEC;
        let fd =
            rustix::time::timerfd_create(TimerfdClockId::Monotonic, flags).map_err(wrap("timerfd_create"))?;
        let every = Timespec { tv_sec: 0, tv_nsec: i64::from(POLL_FALLBACK_MILLIS) * 1_000_000 };
        let interval = Itimerspec { it_interval: every, it_value: every };
        rustix::time::timerfd_settime(&fd, TimerfdTimerFlags::empty(), &interval)
            .map_err(wrap("timerfd_settime"))?;
        Ok(Self { fd })
    }

    /// Takes all pending events, so that the descriptor is readable only after the next one.
    pub fn drain(&self) -> Result<(), IoError> {
        let mut events = [0u8; 4096];
        loop {
            match rustix::io::read(&self.fd, &mut events) {
                Ok(count) if count == events.len() => {}
                Ok(_) | Err(Errno::AGAIN) => return Ok(()),
                Err(Errno::INTR) => {}
                Err(errno) => return Err(IoError::new("read", "inotify", errno.raw_os_error())),
            }
        }
    }
}

impl AsFd for Watch {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}
