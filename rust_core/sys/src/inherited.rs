//! What an executed program inherits: descriptors, signal dispositions, the signal mask.
#![allow(unsafe_code)]

use rustix::io::Errno;

const CLOSE_RANGE_CLOEXEC: libc::c_uint = 4;
/// SIGRTMAX of signal(7): the highest signal number of Linux on x86-64 and aarch64.
const LAST_SIGNAL: libc::c_int = 64;

/// Every descriptor from `first` on is closed at the next successful exec.
///
/// # Errors
/// ENOSYS before Linux 5.9, EINVAL before 5.11 (no CLOSE_RANGE_CLOEXEC).
pub fn close_on_exec_from(first: u32) -> Result<(), Errno> {
    // SAFETY: only flags of descriptors change; nothing in memory is read or written.
    let answer =
        unsafe { libc::syscall(libc::SYS_close_range, first, libc::c_uint::MAX, CLOSE_RANGE_CLOEXEC) };
    if answer == 0 {
        Ok(())
    } else {
        Err(Errno::from_io_error(&std::io::Error::last_os_error()).unwrap_or(Errno::INVAL))
    }
}

/// Every signal is at its default action and none is blocked.
///
/// An ignored signal would stay ignored over exec (Rust's own start-up ignores SIGPIPE, nohup SIGHUP), and shells
/// in the container could then never trap it. SIGKILL, SIGSTOP and the numbers the C library keeps are skipped.
pub fn reset_signals() {
    for number in 1..=LAST_SIGNAL {
        // SAFETY: SIG_DFL installs no code; a refused number (SIGKILL, SIGSTOP) changes nothing.
        unsafe { libc::signal(number, libc::SIG_DFL) };
    }
    // SAFETY: the set is initialised by sigemptyset before it is read.
    unsafe {
        let mut empty: libc::sigset_t = std::mem::zeroed();
        libc::sigemptyset(&raw mut empty);
        libc::sigprocmask(libc::SIG_SETMASK, &raw const empty, std::ptr::null_mut());
    }
}
