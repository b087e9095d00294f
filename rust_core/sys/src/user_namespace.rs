//! A user namespace with an id map of its own, held by a descriptor and by no process.
#![allow(unsafe_code)]

use std::ffi::c_void;
use std::fs;
use std::os::fd::OwnedFd;

use rustix::fs::{open, Mode, OFlags};
use rustix::io::Errno;

/// Stack of the process that lives while the namespace is made; it only makes two system calls.
const STACK_BYTES: usize = 64 * 1024;

/// A new user namespace in which ids 0 to `count - 1` are `first_id` and those after it outside. It lives as long as
/// the descriptor (CLOEXEC). Blocking (0.2 ms).
///
/// # Errors
/// As [`Draft::new`] and [`Draft::map`].
pub fn create(first_id: u32, count: u32) -> Result<OwnedFd, Errno> {
    Ok(Draft::new(false)?.map(first_id, count)?.namespace)
}

/// A user namespace with its ids. It lives as long as the descriptor (CLOEXEC).
#[derive(Debug)]
pub struct Mapped {
    /// It.
    pub namespace: OwnedFd,
    /// Not needed any more; its end is waited for where this is dropped (0.05 ms), which is why it is kept until then.
    _sleeper: Sleeper,
}

/// A user namespace whose ids are not mapped yet, and which other namespaces may belong to already.
///
/// Nothing is copied and nothing of this process changes: a child that shares its memory sleeps on a stack of its own
/// until the ids are mapped or this is dropped, and dies with the thread that made it. Safe in a process with many
/// threads.
#[derive(Debug)]
pub struct Draft {
    sleeper: Sleeper,
}

impl Draft {
    /// A new one; with `has_network`, a network namespace belongs to it. Blocking (0.1 ms, 0.5 with a network).
    ///
    /// # Errors
    /// ENOSPC at the limit in /proc/sys/user/max_user_namespaces, EPERM where the host forbids it.
    ///
    /// Source: user_namespaces(7).
    pub fn new(has_network: bool) -> Result<Self, Errno> {
        let network = if has_network { libc::CLONE_NEWNET } else { 0 };
        Ok(Self { sleeper: Sleeper::start(network, std::process::id())? })
    }

    /// Its network namespace (CLOEXEC); that of the caller if it has none.
    ///
    /// # Errors
    /// As open(2).
    pub fn network(&self) -> Result<OwnedFd, Errno> {
        self.open("ns/net")
    }

    /// Ids 0 to `count - 1` in it are `first_id` and those after it outside, for users and groups.
    ///
    /// # Errors
    /// EINVAL for a range that does not end below 2^32 - 1, EPERM without CAP_SETUID and CAP_SETGID.
    pub fn map(self, first_id: u32, count: u32) -> Result<Mapped, Errno> {
        let map = format!("0 {first_id} {count}\n");
        for file in ["uid_map", "gid_map"] {
            fs::write(format!("/proc/{}/{file}", self.sleeper.pid), &map)
                .map_err(|error| Errno::from_io_error(&error).unwrap_or(Errno::INVAL))?;
        }
        Ok(Mapped { namespace: self.open("ns/user")?, _sleeper: self.sleeper })
    }

    fn open(&self, file: &str) -> Result<OwnedFd, Errno> {
        open(format!("/proc/{}/{file}", self.sleeper.pid), OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())
    }
}

#[derive(Debug)]
struct Sleeper {
    pid: libc::pid_t,
    _stack: Vec<u8>,
}

/// `parent`: the id of the process that makes this one, as a number.
extern "C" fn sleep_for_ever(parent: *mut c_void) -> libc::c_int {
    // SAFETY: prctl(2), getppid(2) and exit(2) with numbers only. The first two cannot fail, so that the errno that this
    // process shares with its parent is never written; the last does not return.
    unsafe {
        libc::syscall(libc::SYS_prctl, libc::PR_SET_PDEATHSIG, libc::SIGKILL, 0, 0, 0);
        // It may have been killed before that call: nobody would end this process then.
        if libc::syscall(libc::SYS_getppid) != parent as libc::c_long {
            libc::syscall(libc::SYS_exit, 0);
        }
    }
    loop {
        // SAFETY: ppoll(2) of nothing without a time only sleeps. It returns only after a handled signal, and all signals are blocked, so
        // errno is not written here either.
        unsafe {
            libc::syscall(libc::SYS_ppoll, std::ptr::null::<c_void>(), 0, std::ptr::null::<c_void>(), 0, 8)
        };
    }
}

impl Sleeper {
    /// It ends by itself if its parent is not the process `parent`.
    fn start(further_namespaces: libc::c_int, parent: u32) -> Result<Self, Errno> {
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
        // It shares the descriptors, so that what this process closes meanwhile is closed.
        let flags = libc::CLONE_VM | libc::CLONE_FILES | libc::CLONE_NEWUSER | further_namespaces;
        // SAFETY: the child runs only `sleep_for_ever` on `stack`, which lives in the returned value and is freed after
        // the child is reaped; it takes no lock, allocates nothing and never returns.
        let pid =
            unsafe { libc::clone(sleep_for_ever, top as *mut c_void, flags, parent as usize as *mut c_void) };
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

/// `work` runs in this thread with files owned as `uid` and `gid` would own them, and with every right that the thread
/// has; afterwards the thread is root again. For mounts that remember who made them.
///
/// # Errors
/// Those of `work`; EPERM without CAP_SETUID and CAP_SETGID, or for a thread that is not root.
///
/// Source: setfsuid(2); credentials(7).
pub fn as_owner<T, E: From<Errno>>(uid: u32, gid: u32, work: impl FnOnce() -> Result<T, E>) -> Result<T, E> {
    let before = rustix::thread::capabilities(None)?;
    set_owner(uid, gid)?;
    // The kernel took the rights over files with the id.
    let answer = rustix::thread::set_capabilities(None, before).map_err(E::from).and_then(|()| work());
    let back = set_owner(0, 0).and_then(|()| rustix::thread::set_capabilities(None, before));
    match back {
        Ok(()) => answer,
        Err(errno) => Err(errno.into()),
    }
}

fn set_owner(uid: u32, gid: u32) -> Result<(), Errno> {
    // SAFETY: both change only ids of the calling thread; an id that is none (-1) changes nothing and asks.
    let has_changed = unsafe {
        libc::setfsgid(gid);
        libc::setfsuid(uid);
        libc::setfsgid(u32::MAX) as u32 == gid && libc::setfsuid(u32::MAX) as u32 == uid
    };
    has_changed.then_some(()).ok_or(Errno::PERM)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn is_root() -> bool {
        let is_root = rustix::process::geteuid().is_root();
        if !is_root {
            eprintln!("SKIPPED: needs root");
        }
        is_root
    }

    #[test]
    fn a_namespace_is_made_and_no_process_is_left() {
        if !is_root() {
            return;
        }
        let namespace = create(100_000, 65_536).unwrap();
        let link =
            fs::read_link(format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&namespace))).unwrap();
        assert!(link.to_str().unwrap().starts_with("user:["), "{link:?}");
        assert_ne!(link, fs::read_link("/proc/self/ns/user").unwrap());
    }

    #[test]
    fn a_keeper_whose_parent_was_gone_before_it_could_ask_for_a_signal_ends_by_itself() {
        if !is_root() {
            return;
        }
        let state = |keeper: &Sleeper| {
            let text = fs::read_to_string(format!("/proc/{}/stat", keeper.pid)).unwrap();
            text.rsplit(')').next().unwrap().trim_start().chars().next()
        };
        // As if the process that made it were another one than its parent, which init is for an orphan.
        let orphan = Sleeper::start(0, std::process::id() + 1).unwrap();
        let kept = Sleeper::start(0, std::process::id()).unwrap();
        let deadline = std::time::Instant::now() + std::time::Duration::from_secs(10);
        while state(&orphan) != Some('Z') {
            assert!(std::time::Instant::now() < deadline, "it stays");
            std::thread::sleep(std::time::Duration::from_millis(1));
        }
        assert_ne!(state(&kept), Some('Z'));
    }

    #[test]
    fn a_draft_has_a_network_of_its_own_and_is_mapped_once() {
        if !is_root() {
            return;
        }
        let link = |fd: &OwnedFd| {
            fs::read_link(format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(fd))).unwrap()
        };
        let draft = Draft::new(true).unwrap();
        let network = draft.network().unwrap();
        assert_ne!(link(&network), fs::read_link("/proc/self/ns/net").unwrap());
        let keeper = std::path::PathBuf::from(format!("/proc/{}", draft.sleeper.pid));
        let mapped = draft.map(100_000, 65_536).unwrap();
        assert!(keeper.exists());
        let Mapped { namespace, _sleeper: sleeper } = mapped;
        drop(sleeper);
        assert!(!keeper.exists());
        assert!(link(&namespace).to_str().unwrap().starts_with("user:["));
        assert!(Draft::new(false).unwrap().map(u32::MAX - 10, 100).is_err());
    }

    #[test]
    fn files_are_made_as_the_owner_and_the_thread_is_root_again() {
        if !is_root() {
            return;
        }
        use std::os::unix::fs::MetadataExt;
        let path = std::env::temp_dir().join(format!("fluyt-as-owner-{}", std::process::id()));
        let owner = |path| fs::metadata(path).unwrap().uid();
        as_owner(70_000, 70_001, || fs::write(&path, "").map_err(|_| Errno::IO)).unwrap();
        assert_eq!(owner(&path), 70_000);
        fs::remove_file(&path).unwrap();
        fs::write(&path, "").unwrap();
        assert_eq!(owner(&path), 0);
        fs::remove_file(&path).unwrap();
    }
}
