//! File system calls of the store, each by directory fd and each failing with operation, path and errno.

use std::ffi::OsString;
use std::fs::File;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};

use errors::IoError;
use rustix::fs::{AtFlags, Mode, OFlags};
use rustix::io::Errno;

/// A directory held open, with the path it had, for error messages.
#[derive(Debug)]
pub(crate) struct Directory {
    fd: OwnedFd,
    path: PathBuf,
}

const DIRECTORY_MODE: Mode = Mode::from_raw_mode(0o700);
const FILE_MODE: Mode = Mode::from_raw_mode(0o600);

impl Directory {
    /// Opens an existing directory by path.
    pub fn open_path(path: &Path) -> Result<Self, IoError> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let fd = rustix::fs::open(path, flags, Mode::empty())
            .map_err(|e| IoError::new("open", path, e.raw_os_error()))?;
        Ok(Self { fd, path: path.to_path_buf() })
    }

    /// The path of `name` in this directory, for messages.
    pub fn join(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    fn error(&self, operation: &'static str, name: &str, errno: Errno) -> IoError {
        IoError::new(operation, self.join(name), errno.raw_os_error())
    }

    /// Opens the sub-directory `name`, or `None` if there is none.
    pub fn open_dir(&self, name: &str) -> Result<Option<Self>, IoError> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC | OFlags::NOFOLLOW;
        match rustix::fs::openat(&self.fd, name, flags, Mode::empty()) {
            Ok(fd) => Ok(Some(Self { fd, path: self.join(name) })),
            Err(Errno::NOENT) => Ok(None),
            Err(errno) => Err(self.error("openat", name, errno)),
        }
    }

    /// Opens the sub-directory `name`, made if absent.
    pub fn make_dir(&self, name: &str) -> Result<Self, IoError> {
        match rustix::fs::mkdirat(&self.fd, name, DIRECTORY_MODE) {
            Ok(()) | Err(Errno::EXIST) => {}
            Err(errno) => return Err(self.error("mkdirat", name, errno)),
        }
        self.open_dir(name)?.ok_or_else(|| self.error("openat", name, Errno::NOENT))
    }

    /// Opens `name` for reading, or `None` if there is none.
    pub fn open_file(&self, name: &str) -> Result<Option<File>, IoError> {
        let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NOFOLLOW;
        match rustix::fs::openat(&self.fd, name, flags, Mode::empty()) {
            Ok(fd) => Ok(Some(File::from(fd))),
            Err(Errno::NOENT) => Ok(None),
            Err(errno) => Err(self.error("openat", name, errno)),
        }
    }

    /// Opens `name` for reading and writing, made if absent; `flags` are added.
    pub fn create_file(&self, name: &str, flags: OFlags) -> Result<File, IoError> {
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::CLOEXEC | OFlags::NOFOLLOW | flags;
        rustix::fs::openat(&self.fd, name, flags, FILE_MODE)
            .map(File::from)
            .map_err(|errno| self.error("openat", name, errno))
    }

    /// The size of the regular file `name`, or `None` if there is none.
    pub fn file_size(&self, name: &str) -> Result<Option<u64>, IoError> {
        match rustix::fs::statat(&self.fd, name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => Ok(Some(u64::try_from(stat.st_size).unwrap_or(0))),
            Err(Errno::NOENT) => Ok(None),
            Err(errno) => Err(self.error("fstatat", name, errno)),
        }
    }

    /// Removes the file `name`; true if it was there.
    pub fn remove_file(&self, name: &str) -> Result<bool, IoError> {
        self.unlink(name, AtFlags::empty())
    }

    /// Removes the empty directory `name`; true if it was there.
    pub fn remove_dir(&self, name: &str) -> Result<bool, IoError> {
        self.unlink(name, AtFlags::REMOVEDIR)
    }

    fn unlink(&self, name: &str, flags: AtFlags) -> Result<bool, IoError> {
        match rustix::fs::unlinkat(&self.fd, name, flags) {
            Ok(()) => Ok(true),
            Err(Errno::NOENT) => Ok(false),
            Err(errno) => Err(self.error("unlinkat", name, errno)),
        }
    }

    /// Renames `name` to `new_name` in `target`, replacing what is there.
    pub fn rename_to(&self, name: &str, target: &Self, new_name: &str) -> Result<(), IoError> {
        rustix::fs::renameat(&self.fd, name, &target.fd, new_name)
            .map_err(|errno| self.error("renameat", name, errno))
    }

    /// Gives a file without a name the name `name`, which must be free.
    pub fn link(&self, file: BorrowedFd<'_>, name: &str) -> Result<(), IoError> {
        // By its link in procfs: AT_EMPTY_PATH needs CAP_DAC_READ_SEARCH. Source: open(2), O_TMPFILE.
        let link = format!("/proc/self/fd/{}", file.as_raw_fd());
        rustix::fs::linkat(rustix::fs::CWD, link, &self.fd, name, AtFlags::SYMLINK_FOLLOW)
            .map_err(|errno| self.error("linkat", name, errno))
    }

    /// Writes back everything of the file system that holds this directory.
    pub fn sync_file_system(&self) -> Result<(), IoError> {
        rustix::fs::syncfs(&self.fd).map_err(|errno| self.error("syncfs", "", errno))
    }

    /// Makes this directory's names durable.
    pub fn sync(&self) -> Result<(), IoError> {
        rustix::fs::fsync(&self.fd).map_err(|errno| self.error("fsync", "", errno))
    }

    /// The names in this directory that are UTF-8, in no order; others cannot be ours.
    pub fn names(&self) -> Result<Vec<String>, IoError> {
        let read = |errno| self.error("getdents64", "", errno);
        let mut names = Vec::new();
        for entry in rustix::fs::Dir::read_from(&self.fd).map_err(read)? {
            let name = OsString::from_vec(entry.map_err(read)?.file_name().to_bytes().to_vec());
            if let Some(name) = name.to_str().filter(|name| !matches!(*name, "." | "..")) {
                names.push(name.to_owned());
            }
        }
        Ok(names)
    }
}

impl AsFd for Directory {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}
