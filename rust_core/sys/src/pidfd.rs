//! Waiting for and signalling a process through its pidfd, which cannot be mistaken for another process.
#![allow(unsafe_code)]

use std::os::fd::{AsFd, AsRawFd};

use rustix::io::Errno;
use rustix::process::{waitid, Signal, WaitId, WaitIdOptions};

/// How a process ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ExitStatus {
    /// It called exit with this code, 0 to 255.
    Exited(u8),
    /// This signal killed it.
    Killed(u8),
}

/// The status of our child once it has ended; it is reaped by this. Blocking.
///
/// # Errors
/// ECHILD if it is not our child or was reaped already.
pub fn wait(pidfd: impl AsFd) -> Result<ExitStatus, Errno> {
    loop {
        match wait_with(pidfd.as_fd(), WaitIdOptions::EXITED) {
            Ok(Some(status)) => return Ok(status),
            Ok(None) | Err(Errno::INTR) => {}
            Err(errno) => return Err(errno),
        }
    }
}

/// The status of our child if it has ended (it is reaped then), None if it runs. Never blocks.
///
/// # Errors
/// ECHILD as in [`wait`].
pub fn try_wait(pidfd: impl AsFd) -> Result<Option<ExitStatus>, Errno> {
    wait_with(pidfd.as_fd(), WaitIdOptions::EXITED | WaitIdOptions::NOHANG)
}

fn wait_with(
    pidfd: std::os::fd::BorrowedFd<'_>,
    options: WaitIdOptions,
) -> Result<Option<ExitStatus>, Errno> {
    let Some(status) = waitid(WaitId::PidFd(pidfd), options)? else { return Ok(None) };
    if let Some(code) = status.exit_status() {
        return Ok(Some(ExitStatus::Exited(code as u8)));
    }
    Ok(status.terminating_signal().map(|number| ExitStatus::Killed(number as u8)))
}

/// The signal of this number, 1 to 64, to the process of this pidfd. Real-time signals are sent too, also those that a
/// C library keeps for itself: what they mean is the other process's affair.
///
/// # Errors
/// ESRCH if it has ended, EINVAL for another number, EPERM if it is not ours to signal.
///
/// Source: pidfd_send_signal(2).
pub fn send(pidfd: impl AsFd, number: i32) -> Result<(), Errno> {
    // The kernel takes 0 as a question whether the process exists.
    if number == 0 {
        return Err(Errno::INVAL);
    }
    let no_info = std::ptr::null::<libc::siginfo_t>();
    let fd = pidfd.as_fd().as_raw_fd();
    // SAFETY: the descriptor is borrowed for the call; the kernel reads no memory of ours, as the info is null.
    let answer = unsafe { libc::syscall(libc::SYS_pidfd_send_signal, fd, number, no_info, 0) };
    if answer == 0 {
        Ok(())
    } else {
        Err(Errno::from_io_error(&std::io::Error::last_os_error()).unwrap_or(Errno::INVAL))
    }
}

/// SIGKILL to the process of this pidfd; one that has ended already is no error.
///
/// # Errors
/// EPERM if it is not ours to signal.
pub fn kill(pidfd: impl AsFd) -> Result<(), Errno> {
    match rustix::process::pidfd_send_signal(pidfd, Signal::KILL) {
        Err(Errno::SRCH) | Ok(()) => Ok(()),
        Err(errno) => Err(errno),
    }
}

#[cfg(test)]
mod tests {
    use std::process::{Child, Command};

    use rustix::process::{pidfd_open, Pid, PidfdFlags};

    use super::*;

    fn sleeper() -> (Child, std::os::fd::OwnedFd) {
        let child = Command::new("sleep").arg("100").spawn().expect("started");
        let pidfd = pidfd_open(Pid::from_child(&child), PidfdFlags::empty()).expect("it is our child");
        (child, pidfd)
    }

    #[test]
    // Not 1, 2 or 3: a shell that sends its work to the background lets it ignore them.
    fn t04_every_signal_can_be_sent_the_real_time_ones_too() {
        for number in [10, 15, 34, 37, 64] {
            let (_child, pidfd) = sleeper();
            assert_eq!(send(&pidfd, number), Ok(()), "{number}");
            assert_eq!(wait(&pidfd), Ok(ExitStatus::Killed(number as u8)));
            assert_eq!(send(&pidfd, number), Err(Errno::SRCH), "{number}");
        }
    }

    #[test]
    fn what_is_no_signal_is_refused_and_the_process_runs_on() {
        let (_child, pidfd) = sleeper();
        for number in [-1, 0, 65, i32::MAX, i32::MIN] {
            assert_eq!(send(&pidfd, number), Err(Errno::INVAL), "{number}");
        }
        assert_eq!(try_wait(&pidfd), Ok(None));
        kill(&pidfd).expect("it is ours");
        assert_eq!(wait(&pidfd), Ok(ExitStatus::Killed(9)));
    }
}
