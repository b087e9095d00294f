//! Ignoring signals.
#![allow(unsafe_code)]

/// SIGTERM, SIGINT, SIGHUP, SIGPIPE, SIGQUIT, SIGUSR1, SIGUSR2: what may be sent to a whole session or by mistake.
const MEANT_FOR_OTHERS: [libc::c_int; 7] =
    [libc::SIGTERM, libc::SIGINT, libc::SIGHUP, libc::SIGPIPE, libc::SIGQUIT, libc::SIGUSR1, libc::SIGUSR2];

/// From now on this process ignores the signals that end programs by request. A program it executes inherits that.
pub fn ignore_requests_to_end() {
    for number in MEANT_FOR_OTHERS {
        // SAFETY: SIG_IGN installs no code. JUSTIFICATION: the standard library has no call for it.
        unsafe { libc::signal(number, libc::SIG_IGN) };
    }
}
