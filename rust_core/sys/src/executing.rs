//! Another program as a child of this process, which may have many threads; its memory is not copied.
//!
//! `std::process::Command` leaves all of this process's descriptors open in the child until the exec, and returns a moment
//! before they are closed there: a port that is closed meanwhile is not free. Here the child closes them itself, and
//! [`wait_for_children`] waits until no child has any.
#![allow(unsafe_code)]

use std::ffi::{c_void, CStr, CString};
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::sync::{PoisonError, RwLock};

use rustix::io::Errno;
use rustix::process::{waitpid, Pid, WaitOptions};

use crate::inherited;

/// Held for reading while a child may have this process's descriptors.
static SPAWNING: RwLock<()> = RwLock::new(());
/// The child makes some system calls on it.
const STACK_BYTES: usize = 32 * 1024;
/// The first descriptor that a program does not get.
const FIRST_CLOSED: libc::c_int = 3;
/// What the shell answers where a program could not be executed; nobody sees it.
const NOT_EXECUTED: libc::c_int = 127;

/// What is executed.
#[derive(Debug, Clone, Copy)]
pub enum File<'a> {
    /// This one, open with CLOEXEC or O_PATH; no script.
    Open(BorrowedFd<'a>),
    /// What is found there.
    At(&'a CStr),
}

/// A program and what it gets. No other descriptor and no signal disposition of this process reaches it.
#[derive(Debug)]
pub struct Execution<'a> {
    /// It.
    pub file: File<'a>,
    /// Its arguments, the first of which is its name.
    pub args: &'a [CString],
    /// Its environment, `NAME=value` each.
    pub env: &'a [CString],
    /// Its descriptors 0, 1 and 2.
    pub stdio: [BorrowedFd<'a>; 3],
    /// Its working directory; this process's if there is none.
    pub directory: Option<&'a CStr>,
    /// Whether it leads a process group of its own.
    pub is_group_leader: bool,
}

/// A child that runs its program, to be reaped by whoever has this.
#[derive(Debug)]
pub struct Executed {
    /// Its process id.
    pub pid: Pid,
    /// Readable once it has ended (CLOEXEC).
    pub pidfd: OwnedFd,
}

impl Execution<'_> {
    /// The program runs. Blocking (half a millisecond).
    ///
    /// # Errors
    /// As clone(2), chdir(2) and execve(2); no child is left then.
    pub fn spawn(&self) -> Result<Executed, Errno> {
        let pointers = |strings: &[CString]| -> Vec<*const libc::c_char> {
            strings.iter().map(|text| text.as_ptr()).chain([std::ptr::null()]).collect()
        };
        let (args, env) = (pointers(self.args), pointers(self.env));
        // Those that the child puts into place are none of the places.
        let mut kept = Vec::new();
        let mut above = |fd: BorrowedFd<'_>| -> Result<libc::c_int, Errno> {
            if fd.as_raw_fd() >= FIRST_CLOSED {
                return Ok(fd.as_raw_fd());
            }
            kept.push(rustix::io::fcntl_dupfd_cloexec(fd, FIRST_CLOSED)?);
            Ok(kept.last().map_or(-1, AsRawFd::as_raw_fd))
        };
        let [stdin, stdout, stderr] = self.stdio;
        let stdio = [above(stdin)?, above(stdout)?, above(stderr)?];
        let (program, path) = match self.file {
            File::Open(fd) => (Some(above(fd)?), c"".as_ptr()),
            File::At(path) => (None, path.as_ptr()),
        };
        let mut plan = Plan {
            program,
            path,
            args: args.as_ptr(),
            env: env.as_ptr(),
            stdio,
            directory: self.directory.map(CStr::as_ptr),
            is_group_leader: self.is_group_leader,
            errno: 0,
        };
        let _spawning = SPAWNING.read().unwrap_or_else(PoisonError::into_inner);
        let (pid, pidfd) = share_memory(&mut plan)?;
        if plan.errno == 0 {
            return Ok(Executed { pid, pidfd });
        }
        // It has ended, or is about to.
        while let Err(Errno::INTR) = waitpid(Some(pid), WaitOptions::empty()) {}
        Err(Errno::from_raw_os_error(plan.errno))
    }
}

/// No child has a descriptor any more that this process closed before: a port that one held is free. Blocking while a
/// child is made (half a millisecond), else not at all.
pub fn wait_for_children() {
    drop(SPAWNING.write().unwrap_or_else(PoisonError::into_inner));
}

/// For the child: numbers and pointers alone, so that it allocates and frees nothing.
struct Plan {
    program: Option<libc::c_int>,
    path: *const libc::c_char,
    args: *const *const libc::c_char,
    env: *const *const libc::c_char,
    stdio: [libc::c_int; 3],
    directory: Option<*const libc::c_char>,
    is_group_leader: bool,
    /// Why it has ended without becoming the program.
    errno: libc::c_int,
}

/// A child in the same memory carries out the plan; this thread goes on once it has executed, or ended with `errno`.
fn share_memory(plan: &mut Plan) -> Result<(Pid, OwnedFd), Errno> {
    let mut stack = vec![0_u8; STACK_BYTES];
    // The stack grows down and must be aligned to 16 bytes at its top.
    let top = (stack.as_mut_ptr() as usize + STACK_BYTES) & !15;
    // SAFETY: sigset_t is a plain array of integers that sigfillset fills.
    let mut all: libc::sigset_t = unsafe { std::mem::zeroed() };
    let mut before = all;
    // SAFETY: both sets are local; the mask is this thread's and is put back below. No handler of this process may run
    // in the child.
    unsafe {
        libc::sigfillset(&raw mut all);
        libc::pthread_sigmask(libc::SIG_SETMASK, &raw const all, &raw mut before);
    }
    let flags = libc::CLONE_VM | libc::CLONE_VFORK | libc::CLONE_PIDFD | libc::SIGCHLD;
    let mut pidfd: libc::c_int = -1;
    // SAFETY: the child runs only `become_program` on `stack`. By CLONE_VFORK this thread sleeps until the child has left
    // this memory, so `stack`, `plan` and what that points to outlive its use of them; the kernel writes `pidfd` only.
    let pid = unsafe {
        libc::clone(
            become_program,
            top as *mut c_void,
            flags,
            std::ptr::from_mut(plan).cast(),
            &raw mut pidfd,
        )
    };
    let answer = Errno::from_io_error(&std::io::Error::last_os_error()).unwrap_or(Errno::INVAL);
    // SAFETY: `before` was filled above.
    unsafe { libc::pthread_sigmask(libc::SIG_SETMASK, &raw const before, std::ptr::null_mut()) };
    let pid = Pid::from_raw(pid).filter(|_| pid > 0).ok_or(answer)?;
    // SAFETY: the call succeeded with CLONE_PIDFD, so `pidfd` is a descriptor that nobody else owns.
    Ok((pid, unsafe { OwnedFd::from_raw_fd(pidfd) }))
}

/// `plan`: a [`Plan`].
extern "C" fn become_program(plan: *mut c_void) -> libc::c_int {
    // SAFETY: `share_memory` gives its exclusive reference and sleeps meanwhile.
    let plan = unsafe { &mut *plan.cast::<Plan>() };
    inherited::reset_signals();
    // SAFETY: system calls with numbers, and with pointers to strings that end with NUL and to arrays that end with a
    // null pointer, which their owners in the sleeping thread keep. They change what is this process's own: it shares
    // memory alone. errno is that of the sleeping thread, which reads it after its call only.
    unsafe {
        plan.errno = match prepare(plan) {
            0 => match plan.program {
                Some(fd) => {
                    libc::syscall(
                        libc::SYS_execveat,
                        fd,
                        plan.path,
                        plan.args,
                        plan.env,
                        libc::AT_EMPTY_PATH,
                    );
                    last_errno()
                }
                None => {
                    libc::syscall(libc::SYS_execve, plan.path, plan.args, plan.env);
                    last_errno()
                }
            },
            errno => errno,
        };
        libc::_exit(NOT_EXECUTED)
    }
}

/// Descriptors, directory and group are the program's. Returns 0 or an errno.
///
/// # Safety
/// As `become_program`: only in its process.
unsafe fn prepare(plan: &Plan) -> libc::c_int {
    // SAFETY: the caller's.
    unsafe {
        for (place, fd) in (0..).zip(plan.stdio) {
            if libc::syscall(libc::SYS_dup3, fd, place, 0) < 0 {
                return last_errno();
            }
        }
        if plan.directory.is_some_and(|path| libc::syscall(libc::SYS_chdir, path) < 0)
            || (plan.is_group_leader && libc::syscall(libc::SYS_setpgid, 0, 0) < 0)
        {
            return last_errno();
        }
        // Before Linux 5.9 they go at the exec, as all are CLOEXEC.
        match plan.program {
            Some(program) => {
                close_range(FIRST_CLOSED, program - 1);
                close_range(program + 1, libc::c_int::MAX);
            }
            None => close_range(FIRST_CLOSED, libc::c_int::MAX),
        }
    }
    0
}

/// # Safety
/// Only in a process whose descriptors nobody else uses.
unsafe fn close_range(first: libc::c_int, last: libc::c_int) {
    if first <= last {
        // SAFETY: the caller's.
        unsafe { libc::syscall(libc::SYS_close_range, first, last, 0) };
    }
}

fn last_errno() -> libc::c_int {
    std::io::Error::last_os_error().raw_os_error().unwrap_or(libc::EINVAL)
}

#[cfg(test)]
mod tests {
    use std::fs::File as StdFile;
    use std::io::Read;
    use std::os::fd::AsFd;

    use super::*;

    fn null() -> OwnedFd {
        StdFile::options().read(true).write(true).open("/dev/null").unwrap().into()
    }

    /// What `sh -c script` prints, and its wait status.
    fn printed(script: &str, file: Option<BorrowedFd<'_>>) -> (String, i32) {
        let (reader, writer) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC).unwrap();
        let null = null();
        let args = ["sh", "-c", script].map(|text| CString::new(text).unwrap());
        let executed = Execution {
            file: file.map_or(File::At(c"/bin/sh"), File::Open),
            args: &args,
            env: &[c"NAME=value".to_owned()],
            stdio: [null.as_fd(), writer.as_fd(), null.as_fd()],
            directory: Some(c"/proc"),
            is_group_leader: true,
        }
        .spawn()
        .unwrap();
        drop(writer);
        let mut text = String::new();
        StdFile::from(reader).read_to_string(&mut text).unwrap();
        let (_, status) = waitpid(Some(executed.pid), WaitOptions::empty()).unwrap().unwrap();
        (text, status.as_raw())
    }

    #[test]
    fn a_program_gets_what_it_is_given_and_nothing_else() {
        let inherited = null();
        rustix::io::fcntl_setfd(&inherited, rustix::io::FdFlags::empty()).unwrap();
        // Built into the shell, which therefore has no pipes or children of its own meanwhile.
        let script = "echo $NAME; pwd; n=0; while [ $n -lt 99 ]; do [ -e /proc/$$/fd/$n ] && echo $n; n=$((n+1)); done; \
                      while read -r key value; do case $key in SigBlk:|SigIgn:) echo $value;; esac; done < /proc/$$/status";
        let shell: OwnedFd = StdFile::open("/bin/sh").unwrap().into();
        for file in [None, Some(shell.as_fd())] {
            let (text, status) = printed(script, file);
            let none = "0000000000000000";
            assert_eq!(text, format!("value\n/proc\n0\n1\n2\n{none}\n{none}\n"), "{file:?}");
            assert_eq!(status, 0);
        }
        let (text, _) = printed("ps -o pid=,pgid= -p $$ 2>/dev/null || cut -d' ' -f1,5 /proc/$$/stat", None);
        let numbers: Vec<&str> = text.split_whitespace().collect();
        assert_eq!(numbers[0], numbers[1], "it leads its group");
    }

    #[test]
    fn what_cannot_be_executed_is_an_error_and_leaves_no_child() {
        let null = null();
        let stdio = [null.as_fd(); 3];
        let spawn = |path: &CStr, directory| {
            Execution { file: File::At(path), args: &[], env: &[], stdio, directory, is_group_leader: false }
                .spawn()
                .map(|executed| executed.pid)
        };
        assert_eq!(spawn(c"/no/such/program", None), Err(Errno::NOENT));
        assert_eq!(spawn(c"/proc", None), Err(Errno::ACCESS));
        assert_eq!(spawn(c"/bin/sh", Some(c"/no/such/directory")), Err(Errno::NOENT));
        let children = std::fs::read_to_string(format!("/proc/self/task/{}/children", gettid())).unwrap();
        assert_eq!(children, "");
    }

    fn gettid() -> i32 {
        rustix::thread::gettid().as_raw_nonzero().get()
    }
}
