//! Children that do not end although they were killed, because they wait for a file system that does not answer: nobody
//! waits for them, and they are reaped when they have ended after all.

use std::os::fd::OwnedFd;
use std::sync::{Mutex, MutexGuard, PoisonError};

use rustix::io::{fcntl_dupfd_cloexec, Errno};

static STRAYS: Mutex<Vec<OwnedFd>> = Mutex::new(Vec::new());

/// The process is reaped if it is our child and has ended; else once it has. Never blocks.
pub(crate) fn leave(pidfd: &OwnedFd) {
    if is_over(pidfd) {
        return;
    }
    // Without a descriptor left it stays a zombie until this process ends.
    if let Ok(copy) = fcntl_dupfd_cloexec(pidfd, 3) {
        lock().push(copy);
    }
}

/// Those that have ended meanwhile are reaped. Never blocks; costs nothing while there are none.
pub(crate) fn reap() {
    lock().retain(|pidfd| !is_over(pidfd));
}

/// Nothing is to be reaped any more.
fn is_over(pidfd: &OwnedFd) -> bool {
    !matches!(sys::pidfd::try_wait(pidfd), Ok(None) | Err(Errno::INTR))
}

fn lock() -> MutexGuard<'static, Vec<OwnedFd>> {
    // Nothing panics while it holds this.
    STRAYS.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use rustix::process::{pidfd_open, Pid, PidfdFlags};

    use super::*;

    #[test]
    fn a_child_that_ends_late_is_reaped_by_and_by() {
        let mut child = Command::new("sleep").arg("100").spawn().expect("started");
        let pid = Pid::from_child(&child);
        let pidfd = pidfd_open(pid, PidfdFlags::empty()).expect("it is our child");
        leave(&pidfd);
        reap();
        let is_there = || std::path::Path::new(&format!("/proc/{}", pid.as_raw_nonzero())).exists();
        assert!(is_there());
        sys::pidfd::kill(&pidfd).expect("it is ours");
        for _ in 0..1000 {
            reap();
            if !is_there() {
                break;
            }
            std::thread::sleep(std::time::Duration::from_millis(10));
        }
        assert!(child.wait().is_err(), "it was left to be reaped");
    }
}
