//! Questions to the kernel whose answer is an errno: whether a call exists, asked without any effect.
#![allow(unsafe_code)]

use rustix::io::Errno;

const CLONE_INTO_CGROUP: u64 = 0x2_0000_0000;
/// SECCOMP_GET_ACTION_AVAIL of linux/seccomp.h.
const SECCOMP_GET_ACTION_AVAIL: libc::c_uint = 2;
/// SECCOMP_RET_ERRNO of linux/seccomp.h.
const SECCOMP_RET_ERRNO: u32 = 0x0005_0000;

/// Whether clone3 can make a child inside a v2 group. No child is made: the group given is no descriptor, which a
/// kernel that knows the flag refuses by another errno than one that does not.
///
/// # Errors
/// The kernel's refusal: ENOSYS or EINVAL.
pub fn clone_into_cgroup() -> Result<(), Errno> {
    // SAFETY: clone_args is a plain structure of integers, for which all zeroes is "nothing asked".
    let mut args: libc::clone_args = unsafe { std::mem::zeroed() };
    args.flags = CLONE_INTO_CGROUP | libc::CLONE_VFORK as u64;
    args.exit_signal = libc::SIGCHLD as u64;
    args.cgroup = i32::MAX as u64;
    // SAFETY: fork semantics (no stack, no shared memory); the only child this could ever make ends at once.
    let answer =
        unsafe { libc::syscall(libc::SYS_clone3, &raw mut args, std::mem::size_of::<libc::clone_args>()) };
    match answer {
        0 => crate::inherited::exit_now(0),
        -1 => match last_errno() {
            Errno::BADF => Ok(()),
            errno => Err(errno),
        },
        _ => Ok(()),
    }
}

/// Whether seccomp filters can answer with an errno.
///
/// # Errors
/// ENOSYS without seccomp, EOPNOTSUPP without the action.
pub fn seccomp_filter() -> Result<(), Errno> {
    let action = SECCOMP_RET_ERRNO;
    // SAFETY: the kernel reads the 4 bytes of `action` and changes nothing.
    let answer = unsafe { libc::syscall(libc::SYS_seccomp, SECCOMP_GET_ACTION_AVAIL, 0, &raw const action) };
    if answer == 0 {
        Ok(())
    } else {
        Err(last_errno())
    }
}

fn last_errno() -> Errno {
    Errno::from_io_error(&std::io::Error::last_os_error()).unwrap_or(Errno::INVAL)
}
