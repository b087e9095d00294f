//! A whole tree copied into an empty directory that nobody else sees yet.

use std::collections::HashMap;
use std::ffi::CString;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{fstat, AtFlags, FileType, Mode, OFlags, Stat};
use rustix::io::Errno;
use sys::cancel::CancelToken;

use crate::attributes::Attributes;
use crate::{data, tree, VolumeError};

/// Entries of one tree that is copied.
pub const MAX_COPIED_ENTRIES: u64 = 20_000_000;
/// Directories above an entry that is copied; each holds two descriptors meanwhile.
pub const MAX_COPIED_DEPTH: u64 = 200;

/// What was copied.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Copied {
    /// Files, links, directories, all names counted.
    pub entries: u64,
    /// Sizes of the regular files, each hard-linked one once.
    pub bytes: u64,
}

struct Level {
    from: OwnedFd,
    to: OwnedFd,
    pending: Vec<CString>,
    attributes: Attributes,
    /// Its name, for errors; its length in `path` before it.
    path_len: usize,
}

struct Copy<'a> {
    /// The directory that is filled.
    root: BorrowedFd<'a>,
    cancel: &'a CancelToken,
    copied: Copied,
    /// Where the first name of a file with several stands below `root`.
    links: HashMap<(u64, u64), Vec<u8>>,
    path: Vec<u8>,
}

/// All that is below `from` is below `to`, which is empty and has the attributes of `from`: content with its holes,
/// owners, modes, times, extended attributes, hard links, devices, pipes. Links are copied, never followed; what is
/// mounted below `from` is left out, and so are sockets and what vanishes meanwhile. Blocking.
///
/// # Errors
/// [`VolumeError::Limit`] for [`MAX_COPIED_ENTRIES`] and [`MAX_COPIED_DEPTH`], [`VolumeError::Cancelled`],
/// [`VolumeError::Io`].
pub fn copy_tree(from: OwnedFd, to: BorrowedFd<'_>, cancel: &CancelToken) -> Result<Copied, VolumeError> {
    let own = to.try_clone_to_owned().map_err(|_| tree::io("fcntl", b"")(Errno::MFILE))?;
    let mut copy =
        Copy { root: to, cancel, copied: Copied::default(), links: HashMap::new(), path: Vec::new() };
    let mut levels = vec![copy.level(from, own, 0)?];
    while let Some(level) = levels.last_mut() {
        let Some(name) = level.pending.pop() else {
            if let Some(done) = levels.pop() {
                done.attributes.set(done.to.as_fd(), FileType::Directory, &copy.path)?;
                copy.path.truncate(done.path_len);
            }
            continue;
        };
        let path_len = copy.path.len();
        if path_len > 0 {
            copy.path.push(b'/');
        }
        copy.path.extend_from_slice(name.to_bytes());
        if let Some((from, to)) = copy.entry(level, name.to_bytes())? {
            let depth = levels.len() as u64;
            if depth > MAX_COPIED_DEPTH {
                return Err(copy.limit("MAX_COPIED_DEPTH", MAX_COPIED_DEPTH, depth));
            }
            let level = copy.level(from, to, path_len)?;
            levels.push(level);
        } else {
            copy.path.truncate(path_len);
        }
    }
    Ok(copy.copied)
}

impl Copy<'_> {
    fn limit(&self, limit: &'static str, value: u64, actual: u64) -> VolumeError {
        VolumeError::Limit { limit, value, actual, subject: String::from_utf8_lossy(&self.path).into_owned() }
    }

    fn level(&self, from: OwnedFd, to: OwnedFd, path_len: usize) -> Result<Level, VolumeError> {
        let fail = |operation| tree::io(operation, &self.path);
        let status = fstat(&from).map_err(fail("fstat"))?;
        let attributes = Attributes::of(from.as_fd(), &status).map_err(fail("listxattr"))?;
        let pending = tree::names(from.as_fd()).map_err(fail("getdents64"))?;
        Ok(Level { from, to, pending, attributes, path_len })
    }

    /// Copies one entry; the pair of directories to go on with if it is one.
    fn entry(&mut self, level: &Level, name: &[u8]) -> Result<Option<(OwnedFd, OwnedFd)>, VolumeError> {
        if self.cancel.is_cancelled() {
            return Err(VolumeError::Cancelled);
        }
        self.copied.entries += 1;
        if self.copied.entries > MAX_COPIED_ENTRIES {
            return Err(self.limit("MAX_COPIED_ENTRIES", MAX_COPIED_ENTRIES, self.copied.entries));
        }
        let path = self.path.clone();
        let fail = |operation| tree::io(operation, &path);
        let found = match tree::handle(&level.from, name) {
            Err(Errno::NOENT) => return Ok(None),
            found => found.map_err(fail("openat"))?,
        };
        let status = fstat(&found).map_err(fail("fstat"))?;
        let kind = FileType::from_raw_mode(status.st_mode);
        if kind == FileType::Directory {
            return match tree::open_dir(&level.from, name) {
                Err(Errno::NOENT | Errno::XDEV | Errno::NOTDIR | Errno::LOOP) => Ok(None),
                from => {
                    let from = from.map_err(fail("openat2"))?;
                    rustix::fs::mkdirat(&level.to, name, Mode::RWXU).map_err(fail("mkdirat"))?;
                    Ok(Some((from, tree::open_dir(&level.to, name).map_err(fail("openat2"))?)))
                }
            };
        }
        if status.st_nlink > 1 {
            if let Some(first) = self.links.get(&(status.st_dev, status.st_ino)) {
                rustix::fs::linkat(self.root, first.as_slice(), &level.to, name, AtFlags::empty())
                    .map_err(fail("linkat"))?;
                return Ok(None);
            }
            self.links.insert((status.st_dev, status.st_ino), path.clone());
        }
        if !self.make(level, name, &status, kind)? {
            self.links.remove(&(status.st_dev, status.st_ino));
            return Ok(None);
        }
        let attributes = Attributes::of(found.as_fd(), &status).map_err(fail("listxattr"))?;
        let made = tree::handle(&level.to, name).map_err(fail("openat"))?;
        attributes.set(made.as_fd(), kind, &path)?;
        Ok(None)
    }

    /// Makes what is no directory, with its content; false if it is nothing that can be copied.
    fn make(
        &mut self,
        level: &Level,
        name: &[u8],
        status: &Stat,
        kind: FileType,
    ) -> Result<bool, VolumeError> {
        let fail = |operation| tree::io(operation, &self.path);
        match kind {
            FileType::RegularFile => {
                // Not to wait where a pipe has taken the file's place.
                let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
                let from = match rustix::fs::openat(&level.from, name, flags, Mode::empty()) {
                    Err(Errno::NOENT | Errno::LOOP) => return Ok(false),
                    from => from.map_err(fail("openat"))?,
                };
                let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
                let to = rustix::fs::openat(&level.to, name, flags, Mode::RUSR | Mode::WUSR)
                    .map_err(fail("openat"))?;
                let size = u64::try_from(status.st_size).unwrap_or(0);
                data::copy(from.as_fd(), to.as_fd(), size, &self.path, self.cancel)?;
                self.copied.bytes += size;
            }
            FileType::Symlink => {
                let target =
                    rustix::fs::readlinkat(&level.from, name, Vec::new()).map_err(fail("readlinkat"))?;
                rustix::fs::symlinkat(target.as_c_str(), &level.to, name).map_err(fail("symlinkat"))?;
            }
            FileType::CharacterDevice | FileType::BlockDevice | FileType::Fifo => {
                rustix::fs::mknodat(&level.to, name, kind, Mode::RUSR | Mode::WUSR, status.st_rdev)
                    .map_err(fail("mknodat"))?;
            }
            _ => return Ok(false),
        }
        Ok(true)
    }
}
