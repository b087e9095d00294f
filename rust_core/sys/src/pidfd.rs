//! Waiting for and signalling a child through its pidfd, which cannot be mistaken for another process.

use std::os::fd::AsFd;

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
