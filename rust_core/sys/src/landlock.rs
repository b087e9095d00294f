//! Landlock: one thread gives up, for good, to open anything outside of some directories.
//!
//! Source: Documentation/userspace-api/landlock.rst; include/uapi/linux/landlock.h.
#![allow(unsafe_code)]

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use rustix::fs::FileType;
use rustix::io::Errno;

const CREATE_RULESET_VERSION: u32 = 1;
const RULE_PATH_BENEATH: u32 = 1;

const EXECUTE: u64 = 1;
const WRITE_FILE: u64 = 1 << 1;
const READ_FILE: u64 = 1 << 2;
const READ_DIR: u64 = 1 << 3;
const TRUNCATE: u64 = 1 << 14;
const IOCTL_DEV: u64 = 1 << 15;

const READ: u64 = READ_FILE | READ_DIR;
/// What can be said of a file that is no directory.
const OF_FILES: u64 = EXECUTE | WRITE_FILE | READ_FILE | TRUNCATE | IOCTL_DEV;
/// BIND_TCP, CONNECT_TCP.
const NETWORK: u64 = 0b11;
/// ABSTRACT_UNIX_SOCKET, SIGNAL.
const SCOPES: u64 = 0b11;

/// Before this version no rule can allow a hard link from one directory into another.
pub const MIN_VERSION: u32 = 2;

#[repr(C)]
struct RulesetAttr {
    handled_access_fs: u64,
    handled_access_net: u64,
    scoped: u64,
}

#[repr(C, packed)]
struct PathBeneathAttr {
    allowed_access: u64,
    parent_fd: i32,
}

/// What the calling thread may open from now on: anything beneath these.
#[derive(Debug, Clone, Copy)]
pub struct Reach<'a> {
    /// To be read.
    pub readable: &'a [BorrowedFd<'a>],
    /// To be read, written, made and removed, but not executed; a file may stand here too.
    pub writable: &'a [BorrowedFd<'a>],
}

/// The version of Landlock that this kernel has.
///
/// # Errors
/// ENOSYS where it has none, EOPNOTSUPP where it was switched off at boot, EPERM where an outer filter forbids it.
pub fn version() -> Result<u32, Errno> {
    // SAFETY: with this flag the call takes no structure.
    let answer = unsafe {
        libc::syscall(
            libc::SYS_landlock_create_ruleset,
            std::ptr::null::<u8>(),
            0_usize,
            CREATE_RULESET_VERSION,
        )
    };
    checked(answer).map(|version| u32::try_from(version).unwrap_or(0))
}

/// The calling thread, and what it starts, opens nothing outside of `reach`, mounts nothing, makes no TCP connection
/// and signals no other process, until it ends; what is open stays so. Not so, and false, where the kernel's Landlock is
/// missing or too old ([`MIN_VERSION`]). One without CAP_SYS_ADMIN gives up to gain privileges by what it executes, too, as
/// the kernel asks. Never blocks.
///
/// # Errors
/// The kernel's. What the thread may open is as it was then.
pub fn confine(reach: Reach<'_>) -> Result<bool, Errno> {
    let Ok(version @ MIN_VERSION..) = version() else { return Ok(false) };
    let (all, size) = match version {
        2 => ((1 << 14) - 1, 8_usize),
        3 => ((1 << 15) - 1, 8),
        4 => ((1 << 15) - 1, 16),
        5 => ((1 << 16) - 1, 16),
        _ => ((1 << 16) - 1, 24),
    };
    let attr = RulesetAttr { handled_access_fs: all, handled_access_net: NETWORK, scoped: SCOPES };
    // SAFETY: the structure is larger than `size` and holds the fields of every version up to it.
    let ruleset = unsafe {
        let fd = libc::syscall(libc::SYS_landlock_create_ruleset, &raw const attr, size, 0_u32);
        OwnedFd::from_raw_fd(i32::try_from(checked(fd)?).map_err(|_| Errno::BADF)?)
    };
    for place in reach.readable {
        allow(&ruleset, *place, READ)?;
    }
    for place in reach.writable {
        allow(&ruleset, *place, all & !(EXECUTE | IOCTL_DEV))?;
    }
    match restrict(&ruleset) {
        Err(Errno::PERM) => {
            rustix::thread::set_no_new_privs(true)?;
            restrict(&ruleset)?;
        }
        answer => answer?,
    }
    Ok(true)
}

fn restrict(ruleset: &OwnedFd) -> Result<(), Errno> {
    // SAFETY: it takes a descriptor and changes this thread alone.
    checked(unsafe { libc::syscall(libc::SYS_landlock_restrict_self, ruleset.as_raw_fd(), 0_u32) }).map(drop)
}

fn allow(ruleset: &OwnedFd, place: BorrowedFd<'_>, access: u64) -> Result<(), Errno> {
    let kind = FileType::from_raw_mode(rustix::fs::fstat(place)?.st_mode);
    let allowed_access = if kind == FileType::Directory { access } else { access & OF_FILES };
    let attr = PathBeneathAttr { allowed_access, parent_fd: place.as_fd().as_raw_fd() };
    // SAFETY: the structure is the one of this kind of rule, and its descriptor is open.
    let answer = unsafe {
        libc::syscall(
            libc::SYS_landlock_add_rule,
            ruleset.as_raw_fd(),
            RULE_PATH_BENEATH,
            &raw const attr,
            0_u32,
        )
    };
    checked(answer).map(drop)
}

fn checked(answer: libc::c_long) -> Result<libc::c_long, Errno> {
    if answer < 0 {
        return Err(Errno::from_io_error(&std::io::Error::last_os_error()).unwrap_or(Errno::IO));
    }
    Ok(answer)
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::path::Path;

    use super::*;

    fn in_a_thread<T: Send>(reach: Reach<'_>, work: impl FnOnce() -> T + Send) -> Option<T> {
        std::thread::scope(|scope| {
            let confined = scope.spawn(|| confine(reach).unwrap().then(work));
            confined.join().unwrap()
        })
    }

    fn tree() -> (tempfile::TempDir, [File; 3]) {
        let keep = tempfile::tempdir().unwrap();
        let open = |name: &str| {
            let path = keep.path().join(name);
            std::fs::create_dir(&path).unwrap();
            std::fs::write(path.join("file"), name).unwrap();
            std::fs::create_dir(path.join("deep")).unwrap();
            File::open(path).unwrap()
        };
        let opened = [open("outside"), open("read"), open("written")];
        (keep, opened)
    }

    fn denied<T>(result: std::io::Result<T>) -> bool {
        result.is_err_and(|error| error.kind() == std::io::ErrorKind::PermissionDenied)
    }

    #[test]
    fn a_confined_thread_opens_what_it_may_and_nothing_else() {
        let (keep, [outside, read, written]) = tree();
        let at = |path: &str| keep.path().join(path);
        let reach = Reach { readable: &[read.as_fd()], writable: &[written.as_fd()] };
        let ran = in_a_thread(reach, || {
            assert_eq!(std::fs::read(at("read/file")).unwrap(), b"read");
            assert!(denied(std::fs::write(at("read/file"), "")));
            assert!(denied(std::fs::write(at("read/deep/new"), "")));
            std::fs::write(at("written/deep/new"), "x").unwrap();
            // REFER: between directories of what may be written, not beyond.
            std::fs::hard_link(at("written/file"), at("written/deep/link")).unwrap();
            assert!(std::fs::hard_link(at("written/file"), at("outside/link")).is_err());
            std::fs::rename(at("written/file"), at("written/deep/file")).unwrap();
            std::fs::remove_dir_all(at("written/deep")).unwrap();
            assert!(denied(std::fs::read(at("outside/file"))));
            assert!(denied(std::fs::read_dir(at("outside"))));
            assert!(denied(std::fs::read_to_string(Path::new("/etc/passwd"))));
            // By what was open before, too.
            assert_eq!(open_below(&outside).err(), Some(Errno::ACCESS));
        });
        // Others of this process are as free as they were.
        assert!(std::fs::read(at("outside/file")).is_ok());
        if ran.is_none() {
            assert!(!matches!(version(), Ok(MIN_VERSION..)), "the thread was not confined");
        }
    }

    fn open_below(directory: &File) -> Result<OwnedFd, Errno> {
        rustix::fs::openat(directory, "file", rustix::fs::OFlags::RDONLY, rustix::fs::Mode::empty())
    }

    #[test]
    fn a_file_may_be_written_alone() {
        let (keep, [_, read, written]) = tree();
        let path = keep.path().join("read/file");
        let file = File::open(&path).unwrap();
        let reach = Reach { readable: &[], writable: &[file.as_fd(), written.as_fd()] };
        in_a_thread(reach, || {
            std::fs::write(&path, "anew").unwrap();
            assert!(open_below(&written).is_ok());
            assert!(denied(std::fs::write(keep.path().join("read/other"), "")));
        });
        drop(read);
    }

    #[test]
    fn a_thread_without_privileges_is_confined_too() {
        let (keep, [_, _, written]) = tree();
        in_a_thread_of_nobody(|| {
            let confined = confine(Reach { readable: &[], writable: &[written.as_fd()] }).unwrap();
            assert_eq!(confined, matches!(version(), Ok(MIN_VERSION..)));
            std::fs::write(keep.path().join("written/new"), "x").unwrap();
            assert_eq!(denied(std::fs::read(keep.path().join("read/file"))), confined);
        });
    }

    fn in_a_thread_of_nobody(work: impl FnOnce() + Send) {
        std::thread::scope(|scope| {
            let without = || {
                use rustix::thread::{capabilities, set_capabilities, CapabilitySet};
                let mut held = capabilities(None).unwrap();
                held.effective.remove(CapabilitySet::SYS_ADMIN);
                set_capabilities(None, held).unwrap();
                work();
            };
            scope.spawn(without).join().unwrap();
        });
    }

    #[test]
    fn nothing_is_mounted_and_no_connection_made() {
        let (keep, [..]) = tree();
        let listener = std::net::TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let address = listener.local_addr().unwrap();
        in_a_thread(Reach { readable: &[], writable: &[] }, || {
            let flags = rustix::mount::MountFlags::empty();
            let mounted = rustix::mount::mount("none", keep.path().join("read"), "tmpfs", flags, None);
            assert_eq!(mounted, Err(Errno::PERM));
            if version().is_ok_and(|version| version >= 4) {
                assert!(denied(std::net::TcpStream::connect(address)));
            }
        });
    }
}
