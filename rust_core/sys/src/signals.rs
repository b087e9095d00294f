//! Ignoring signals, and taking them one by one.
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

/// A signal that was taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Taken {
    /// Its number.
    pub number: libc::c_int,
    /// The kernel sent it by itself, as a terminal does to all of its foreground group.
    pub is_from_kernel: bool,
}

impl Taken {
    /// Whether it tells that a child ended or stopped.
    #[must_use]
    pub fn is_child(&self) -> bool {
        self.number == libc::SIGCHLD
    }
}

/// From now on no signal but SIGKILL and SIGSTOP interrupts this thread; they wait until [`wait`] takes them.
pub fn block_all() {
    let set = full_set();
    // SAFETY: the set is initialised and outlives the call; no old mask is asked for. JUSTIFICATION: the standard library
    // and rustix have no call for it. The call fails only for an unknown first argument.
    unsafe { libc::pthread_sigmask(libc::SIG_SETMASK, &raw const set, std::ptr::null_mut()) };
}

/// From now on every signal interrupts this thread as its disposition says.
pub fn unblock_all() {
    // SAFETY: all zeros are a valid, empty sigset_t on Linux. JUSTIFICATION: as in `block_all`.
    unsafe {
        let set: libc::sigset_t = std::mem::zeroed();
        libc::pthread_sigmask(libc::SIG_SETMASK, &raw const set, std::ptr::null_mut());
    }
}

/// The next signal of those that [`block_all`] holds back. Blocking.
#[must_use]
pub fn wait() -> Taken {
    let set = full_set();
    loop {
        // SAFETY: all zeros are a valid siginfo_t.
        let mut info: libc::siginfo_t = unsafe { std::mem::zeroed() };
        // SAFETY: both pointers are to values that outlive the call. JUSTIFICATION: as in `block_all`.
        let number = unsafe { libc::sigwaitinfo(&raw const set, &raw mut info) };
        if number > 0 {
            return Taken { number, is_from_kernel: info.si_code == libc::SI_KERNEL };
        }
    }
}

/// The signal of this number to a process of this program's own.
///
/// # Errors
/// ESRCH if it has ended and was reaped, EINVAL for a number that is none, EPERM if it is not ours to signal.
pub fn send(pid: u32, number: libc::c_int) -> Result<(), rustix::io::Errno> {
    let Ok(pid) = libc::pid_t::try_from(pid) else { return Err(rustix::io::Errno::SRCH) };
    // SAFETY: kill(2) takes two numbers. JUSTIFICATION: rustix refuses the real-time signals, which commands do use.
    if unsafe { libc::kill(pid, number) } == 0 {
        return Ok(());
    }
    let errno = std::io::Error::last_os_error().raw_os_error().unwrap_or(libc::EINVAL);
    Err(rustix::io::Errno::from_raw_os_error(errno))
}

fn full_set() -> libc::sigset_t {
    // SAFETY: all zeros are a valid sigset_t, and sigfillset initialises it besides; it fails only for a bad pointer.
    unsafe {
        let mut set: libc::sigset_t = std::mem::zeroed();
        libc::sigfillset(&raw mut set);
        set
    }
}
