//! Directories by fd: opened one component at a time and never through a symbolic link.

use std::ffi::CStr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use errors::IoError;
use rustix::fs::{AtFlags, FileType, Mode, OFlags, ResolveFlags, Stat};
use rustix::io::Errno;

/// Wraps an errno with the operation and the name it met.
pub(crate) fn io(operation: &'static str, name: &[u8], errno: Errno) -> IoError {
    IoError::new(operation, bytes_path(name), errno.raw_os_error())
}

/// Bytes as a path, for messages and single-component calls.
pub(crate) fn bytes_path(name: &[u8]) -> PathBuf {
    use std::os::unix::ffi::OsStrExt;
    PathBuf::from(std::ffi::OsStr::from_bytes(name))
}

/// How often openat2 is tried again when a rename elsewhere makes it answer EAGAIN.
const MAX_OPEN_ATTEMPTS: u32 = 128;

/// As openat2(2), close-on-exec.
pub(crate) fn open_resolved(
    directory: BorrowedFd<'_>,
    path: &[u8],
    flags: OFlags,
    resolve: ResolveFlags,
) -> Result<OwnedFd, Errno> {
    for _ in 0..MAX_OPEN_ATTEMPTS {
        match rustix::fs::openat2(directory, path, flags | OFlags::CLOEXEC, Mode::empty(), resolve) {
            Err(Errno::AGAIN | Errno::INTR) => {}
            answer => return answer,
        }
    }
    Err(Errno::AGAIN)
}

/// Opens the root of a tree by its path, which the store made itself.
pub(crate) fn open_root(path: &Path) -> Result<OwnedFd, IoError> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC | OFlags::NOFOLLOW;
    rustix::fs::open(path, flags, Mode::empty()).map_err(|e| IoError::new("open", path, e.raw_os_error()))
}

/// Opens the sub-directory `name` as a handle for look-ups. `NOTDIR` if it is a link or anything else.
pub(crate) fn open_dir(parent: BorrowedFd<'_>, name: &[u8]) -> Result<OwnedFd, Errno> {
    let mut flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC | OFlags::NOFOLLOW;
    if sys::weakened::lacks("layer-links") {
        flags.remove(OFlags::NOFOLLOW);
    }
    rustix::fs::openat(parent, name, flags, Mode::empty())
}

/// Opens the sub-directory `name` so that it can be listed and its attributes read by fd.
pub(crate) fn open_dir_readable(parent: BorrowedFd<'_>, name: &[u8]) -> Result<OwnedFd, Errno> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC | OFlags::NOFOLLOW;
    rustix::fs::openat(parent, name, flags, Mode::empty())
}

/// The status of `name` itself, never of a link's target; `None` if it is absent.
pub(crate) fn stat(parent: BorrowedFd<'_>, name: &[u8]) -> Result<Option<Stat>, Errno> {
    match rustix::fs::statat(parent, name, AtFlags::SYMLINK_NOFOLLOW) {
        Ok(stat) => Ok(Some(stat)),
        Err(Errno::NOENT) => Ok(None),
        Err(errno) => Err(errno),
    }
}

/// The type in a status.
pub(crate) fn file_type(stat: &Stat) -> FileType {
    FileType::from_raw_mode(stat.st_mode)
}

/// Removes `name` with all that lies below it, entering no symbolic link and no other mount; nothing if it is absent.
pub(crate) fn remove(parent: BorrowedFd<'_>, name: &[u8]) -> Result<(), IoError> {
    remove_seen(parent, name, &mut |_, _| Ok(()))
}

/// Told of each file, by its directory and name, before it is removed.
pub(crate) type Seen<'a> = dyn FnMut(BorrowedFd<'_>, &[u8]) -> Result<(), IoError> + 'a;

/// As `remove`, telling `seen` of each file below the directory `name` before it goes.
///
/// The walk keeps one fd a level and no recursion; layers are bounded in depth by `path_depth`.
pub(crate) fn remove_seen(parent: BorrowedFd<'_>, name: &[u8], seen: &mut Seen<'_>) -> Result<(), IoError> {
    match rustix::fs::unlinkat(parent, name, AtFlags::empty()) {
        Ok(()) | Err(Errno::NOENT) => return Ok(()),
        Err(Errno::ISDIR | Errno::PERM) => {}
        Err(errno) => return Err(io("unlinkat", name, errno)),
    }
    // What is mounted below is not the tree's, and stays.
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_XDEV;
    let open = |parent: BorrowedFd<'_>, name: &[u8]| {
        open_resolved(parent, name, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW, resolve)
            .map_err(|errno| io("openat2", name, errno))
    };
    let mut levels = vec![Level::new(name.to_vec(), open(parent, name)?)?];
    while let Some(level) = levels.last_mut() {
        let Some(child) = level.next_subdirectory(seen)? else {
            let name = levels.pop().map(|level| level.name).unwrap_or_default();
            let above = levels.last().map_or(parent, |level| level.fd.as_fd());
            rustix::fs::unlinkat(above, name.as_slice(), AtFlags::REMOVEDIR)
                .map_err(|errno| io("unlinkat", &name, errno))?;
            continue;
        };
        let fd = open(level.fd.as_fd(), &child)?;
        levels.push(Level::new(child, fd)?);
    }
    Ok(())
}

struct Level {
    name: Vec<u8>,
    fd: OwnedFd,
    entries: rustix::fs::Dir,
}

impl Level {
    fn new(name: Vec<u8>, fd: OwnedFd) -> Result<Self, IoError> {
        let entries = rustix::fs::Dir::read_from(&fd).map_err(|errno| io("getdents64", &name, errno))?;
        Ok(Self { name, fd, entries })
    }

    /// Unlinks what is no directory until a directory comes.
    fn next_subdirectory(&mut self, seen: &mut Seen<'_>) -> Result<Option<Vec<u8>>, IoError> {
        while let Some(entry) = self.entries.read() {
            let entry = entry.map_err(|errno| io("getdents64", &self.name, errno))?;
            let name: &CStr = entry.file_name();
            if matches!(name.to_bytes(), b"." | b"..") {
                continue;
            }
            if entry.file_type() != FileType::Directory {
                seen(self.fd.as_fd(), name.to_bytes())?;
                match rustix::fs::unlinkat(&self.fd, name, AtFlags::empty()) {
                    Ok(()) | Err(Errno::NOENT) => continue,
                    // Some file systems tell no type: then it may be a directory after all.
                    Err(Errno::ISDIR | Errno::PERM) if entry.file_type() == FileType::Unknown => {}
                    Err(errno) => return Err(io("unlinkat", name.to_bytes(), errno)),
                }
            }
            return Ok(Some(name.to_bytes().to_vec()));
        }
        Ok(None)
    }
}
