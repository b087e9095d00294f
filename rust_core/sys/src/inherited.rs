//! What an executed program inherits: descriptors, signal dispositions, the signal mask.
#![allow(unsafe_code)]

use std::ffi::{CStr, CString};

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

/// struct sigaction as the kernel takes it; all zeroes is SIG_DFL with no flags.
#[repr(C)]
struct KernelSigaction {
    handler: usize,
    flags: libc::c_ulong,
    restorer: usize,
    mask: u64,
}

/// Every signal is at its default action and none is blocked.
///
/// An ignored signal would stay ignored over exec (Rust's own start-up ignores SIGPIPE, nohup SIGHUP), and shells
/// in the container could then never trap it. The call goes past the C library, which keeps two numbers to itself
/// and would leave them as some ancestor set them.
pub fn reset_signals() {
    let default = KernelSigaction { handler: libc::SIG_DFL, flags: 0, restorer: 0, mask: 0 };
    let none_blocked = 0_u64;
    for number in 1..=LAST_SIGNAL {
        // SAFETY: SIG_DFL installs no code; the structure is the kernel's and outlives the call, and 8 is the size
        // of its mask. A refused number (SIGKILL, SIGSTOP) changes nothing.
        unsafe {
            libc::syscall(libc::SYS_rt_sigaction, number, &raw const default, 0_usize, size_of::<u64>());
        }
    }
    // SAFETY: the kernel reads 8 bytes, the size given.
    unsafe {
        libc::syscall(
            libc::SYS_rt_sigprocmask,
            libc::SIG_SETMASK,
            &raw const none_blocked,
            0_usize,
            size_of::<u64>(),
        );
    }
}

/// This process ends at once: no destructor, no exit handler and no buffer of the parent's runs a second time.
pub fn exit_now(code: i32) -> ! {
    // SAFETY: _exit(2) takes an integer and does not return.
    unsafe { libc::_exit(code) }
}

/// The program at `path` replaces this one; the answer is only ever the error.
///
/// # Errors
/// As execve(2).
pub fn execute(path: &CStr, args: &[CString], env: &[CString]) -> Errno {
    let pointers = |strings: &[CString]| -> Vec<*const libc::c_char> {
        strings.iter().map(|text| text.as_ptr()).chain([std::ptr::null()]).collect()
    };
    let (args, env) = (pointers(args), pointers(env));
    // SAFETY: both arrays end with a null pointer and point to C strings that outlive the call.
    unsafe { libc::execve(path.as_ptr(), args.as_ptr(), env.as_ptr()) };
    Errno::from_io_error(&std::io::Error::last_os_error()).unwrap_or(Errno::INVAL)
}
