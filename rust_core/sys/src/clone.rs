//! clone3(2) with fork semantics: a child in new namespaces, with a pidfd, born in a v2 cgroup where one is given.
#![allow(unsafe_code)]

use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use rustix::io::Errno;

/// CLONE_NEWNS of clone(2): a mount namespace of its own.
pub const NEW_MOUNT: u64 = 0x0002_0000;
/// CLONE_NEWUTS: host name and domain name of its own.
pub const NEW_UTS: u64 = 0x0400_0000;
/// CLONE_NEWIPC: System V IPC and POSIX message queues of its own.
pub const NEW_IPC: u64 = 0x0800_0000;
/// CLONE_NEWPID: the child is process 1 of a new pid namespace.
pub const NEW_PID: u64 = 0x2000_0000;
/// CLONE_NEWNET: network devices, addresses and routes of its own.
pub const NEW_NETWORK: u64 = 0x4000_0000;

/// CLONE_PARENT: the child is the caller's parent's, and the parent's to reap.
pub const SIBLING: u64 = 0x0000_8000;

const CLONE_PIDFD: u64 = 0x0000_1000;
const CLONE_CLEAR_SIGHAND: u64 = 0x1_0000_0000;
const CLONE_INTO_CGROUP: u64 = 0x2_0000_0000;

/// Which side of [`fork_into`] this is.
#[derive(Debug)]
pub enum Side {
    /// The caller, with the child's pid as it sees it and a CLOEXEC pidfd.
    Parent {
        /// The child's pid in the caller's pid namespace.
        pid: u32,
        /// Readable once the child has ended.
        pidfd: OwnedFd,
    },
    /// The new process, in a copy of the caller's memory.
    Child,
}

/// A copy of this process runs from here in the given new namespaces, a child of the caller unless `namespaces` has
/// [`SIBLING`]; handled signals are back at their defaults
/// in it (ignored ones stay ignored), and SIGCHLD tells its end.
///
/// With `cgroup` (a directory of a v2 hierarchy) the child is born in that group.
///
/// # Errors
/// As clone3(2): EPERM without CAP_SYS_ADMIN, ENOSYS before Linux 5.3, EBADF for a group that is not of v2,
/// EAGAIN at the pid limit.
///
/// # Safety
/// Only one thread may exist in this process: in the child no other thread runs to release the locks it held.
pub unsafe fn fork_into(namespaces: u64, cgroup: Option<BorrowedFd<'_>>) -> Result<Side, Errno> {
    let mut pidfd: libc::c_int = -1;
    // SAFETY: clone_args is a plain structure of integers, for which all zeroes is "nothing asked".
    let mut args: libc::clone_args = unsafe { std::mem::zeroed() };
    args.flags = namespaces | CLONE_PIDFD | CLONE_CLEAR_SIGHAND;
    args.pidfd = std::ptr::from_mut(&mut pidfd) as u64;
    // A sibling ends as the caller would.
    args.exit_signal = if namespaces & SIBLING == 0 { libc::SIGCHLD as u64 } else { 0 };
    if let Some(group) = cgroup {
        args.flags |= CLONE_INTO_CGROUP;
        args.cgroup = group.as_raw_fd() as u64;
    }
    // SAFETY: no stack and no CLONE_VM are given, so the child goes on with a copy of this memory as after fork(2);
    // the kernel writes the pidfd to `pidfd` only; that no second thread exists is the caller's promise.
    let answer =
        unsafe { libc::syscall(libc::SYS_clone3, &raw mut args, std::mem::size_of::<libc::clone_args>()) };
    match answer {
        0 => Ok(Side::Child),
        pid if pid > 0 => {
            // SAFETY: the call succeeded with CLONE_PIDFD, so `pidfd` is a descriptor that nobody else owns.
            let pidfd = unsafe { OwnedFd::from_raw_fd(pidfd) };
            Ok(Side::Parent { pid: pid as u32, pidfd })
        }
        _ => Err(last_errno()),
    }
}

fn last_errno() -> Errno {
    Errno::from_io_error(&std::io::Error::last_os_error()).unwrap_or(Errno::INVAL)
}
