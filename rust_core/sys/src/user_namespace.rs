//! A user namespace with an id map of its own, held by a descriptor and by no process.
#![allow(unsafe_code)]

use std::ffi::c_void;
use std::fs;
use std::os::fd::OwnedFd;

use rustix::fs::{open, Mode, OFlags};
use rustix::io::Errno;

/// Stack of the process that lives while the namespace is made; it only makes one system call.
const STACK_BYTES: usize = 64 * 1024;

/// A new user namespace in which ids 0 to `count - 1` are `first_id` and those after it outside. It lives as long as
/// the descriptor (CLOEXEC). Blocking (0.2 ms).
///
/// Nothing is copied and nothing of this process changes: a child that shares its memory sleeps on a stack of its own
/// while the maps are written, and is killed and reaped before this returns. Safe in a process with many threads.
///
/// # Errors
/// ENOSPC at the limit in /proc/sys/user/max_user_namespaces, EPERM where the host forbids it.
///
/// Source: user_namespaces(7).
pub fn create(first_id: u32, count: u32) -> Result<OwnedFd, Errno> {
    let sleeper = Sleeper::start()?;
    let proc = format!("/proc/{}", sleeper.pid);
    let map = format!("0 {first_id} {count}\n");
    for file in ["uid_map", "gid_map"] {
        fs::write(format!("{proc}/{file}"), &map)
            .map_err(|error| Errno::from_io_error(&error).unwrap_or(Errno::INVAL))?;
    }
    open(format!("{proc}/ns/user"), OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())
}

struct Sleeper {
    pid: libc::pid_t,
    _stack: Vec<u8>,
}

extern "C" fn sleep_for_ever(_: *mut c_void) -> libc::c_int {
    loop {
        // SAFETY: ppoll(2) of nothing without a time only sleeps. It returns only after a handled signal, and all signals are blocked, so
        // the errno that this process shares with its parent is never written.
        unsafe {
            libc::syscall(libc::SYS_ppoll, std::ptr::null::<c_void>(), 0, std::ptr::null::<c_void>(), 0, 8)
        };
    }
}

impl Sleeper {
    fn start() -> Result<Self, Errno> {
        let mut stack = vec![0_u8; STACK_BYTES];
        // SAFETY: sigset_t is a plain array of integers that sigfillset fills.
        let mut all: libc::sigset_t = unsafe { std::mem::zeroed() };
        let mut before = all;
        // SAFETY: both sets are local; the mask is this thread's and is put back below.
        unsafe {
            libc::sigfillset(&raw mut all);
            libc::pthread_sigmask(libc::SIG_SETMASK, &raw const all, &raw mut before);
        }
        // The stack grows down and must be aligned to 16 bytes at its top.
        let top = (stack.as_mut_ptr() as usize + STACK_BYTES) & !15;
        // No exit signal: this process's SIGCHLD handling must not hear of it.
        let flags = libc::CLONE_VM | libc::CLONE_NEWUSER;
        // SAFETY: the child runs only `sleep_for_ever` on `stack`, which lives in the returned value and is freed after
        // the child is reaped; it takes no lock, allocates nothing and never returns.
        let pid = unsafe { libc::clone(sleep_for_ever, top as *mut c_void, flags, std::ptr::null_mut()) };
        let answer = std::io::Error::last_os_error();
        // SAFETY: `before` was filled above.
        unsafe { libc::pthread_sigmask(libc::SIG_SETMASK, &raw const before, std::ptr::null_mut()) };
        if pid < 0 {
            return Err(Errno::from_io_error(&answer).unwrap_or(Errno::INVAL));
        }
        Ok(Self { pid, _stack: stack })
    }
}

impl Drop for Sleeper {
    fn drop(&mut self) {
        // SAFETY: `pid` is our own unreaped child, so it names no other process; __WALL because it has no exit signal.
        unsafe {
            libc::kill(self.pid, libc::SIGKILL);
            while libc::waitpid(self.pid, std::ptr::null_mut(), libc::__WALL) < 0
                && std::io::Error::last_os_error().raw_os_error() == Some(libc::EINTR)
            {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_namespace_is_made_and_no_process_is_left() {
        if !rustix::process::geteuid().is_root() {
            eprintln!("SKIPPED: needs root");
            return;
        }
        let namespace = create(100_000, 65_536).unwrap();
        let link =
            fs::read_link(format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&namespace))).unwrap();
        assert!(link.to_str().unwrap().starts_with("user:["), "{link:?}");
        assert_ne!(link, fs::read_link("/proc/self/ns/user").unwrap());
    }
}
