//! A tree to copy from or into, and the walk along a path in it.

use std::collections::VecDeque;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;

use rustix::fs::{AtFlags, FileType, Mode, OFlags, ResolveFlags, Stat, StatVfsMountFlags, StatxFlags};
use rustix::io::Errno;

use super::{CopyError, Ids};
use crate::error::shown;
use crate::limits::{PATH_BYTES_MAX, SYMLINK_COUNT_MAX};
use crate::tree::{self, file_type};

/// An open directory as the root of all paths, with what is laid over places in it.
///
/// Mounts that the kernel has there are crossed by themselves; [`cover`](Self::cover) does the same for mounts of a
/// container that does not run.
#[derive(Debug, Clone)]
pub struct Root {
    fd: Arc<OwnedFd>,
    is_read_only: bool,
    covers: Vec<Cover>,
    ids: Option<Ids>,
}

#[derive(Debug, Clone)]
struct Cover {
    /// Device and number of what is covered.
    target: (u64, u64),
    place: Place,
}

/// A file or directory on the way, by a handle that opens nothing.
#[derive(Debug, Clone)]
pub(super) struct Place {
    pub fd: Arc<OwnedFd>,
    is_read_only: bool,
    /// It covers what has its name, as a mount would.
    is_cover: bool,
}

impl Place {
    pub fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }

    pub fn stat(&self, path: &[u8]) -> Result<Stat, CopyError> {
        rustix::fs::fstat(&self.fd).map_err(|errno| CopyError::call("fstat", path, errno))
    }

    /// Refuses a place where nothing can be written.
    pub fn check_writable(&self, path: &[u8]) -> Result<(), CopyError> {
        let status =
            rustix::fs::fstatvfs(&self.fd).map_err(|errno| CopyError::call("fstatvfs", path, errno))?;
        if self.is_read_only || status.f_flag.contains(StatVfsMountFlags::RDONLY) {
            return Err(CopyError::ReadOnly { path: shown(path) });
        }
        Ok(())
    }

    /// Another place in the same mount.
    pub fn at(&self, fd: OwnedFd) -> Self {
        Self { fd: Arc::new(fd), is_read_only: self.is_read_only, is_cover: false }
    }

    /// True for what is mounted on its name in `directory`. A name on which something is mounted in a mount namespace that
    /// is not ours must not be given to another file: the kernel would unmount it there rather than refuse.
    ///
    /// Source: `detach_mounts` of fs/namespace.c; statx(2), STATX_MNT_ID (Linux 5.8).
    pub fn is_mounted_on(&self, directory: &Self, path: &[u8]) -> Result<bool, CopyError> {
        let id = |place: &Self| {
            let flags = AtFlags::EMPTY_PATH | AtFlags::SYMLINK_NOFOLLOW;
            rustix::fs::statx(&place.fd, c"", flags, StatxFlags::MNT_ID)
                .map(|status| status.stx_mnt_id)
                .map_err(|errno| CopyError::call("statx", path, errno))
        };
        Ok(self.is_cover || id(self)? != id(directory)?)
    }

    /// A handle of its own to the same.
    pub fn handle(&self) -> Result<OwnedFd, CopyError> {
        self.fd.try_clone().map_err(|error| CopyError::io("fcntl", b"", &error))
    }
}

/// Where a path leads.
#[derive(Debug)]
pub(super) struct Found {
    /// The directories from the root to the one that holds it.
    pub parents: Vec<Place>,
    /// Its name there; empty for the root itself, and for a directory that the path ends at by `..`.
    pub name: Vec<u8>,
    /// What stands there; `None` if nothing does.
    pub place: Option<(Place, Stat)>,
    /// It is the root itself, which is its own parent.
    is_root: bool,
}

impl Found {
    /// The directory itself at the end of its parents; an error for anything else.
    pub fn into_directory(self, path: &[u8]) -> Result<Vec<Place>, CopyError> {
        let Some((place, status)) = self.place else { return Err(CopyError::NotFound { path: shown(path) }) };
        let kind = file_type(&status);
        if kind != FileType::Directory {
            let (found, wanted) = (name_of(kind), name_of(FileType::Directory));
            return Err(CopyError::WrongKind { path: shown(path), found, wanted });
        }
        let mut levels = self.parents;
        if !self.is_root {
            levels.push(place);
        }
        Ok(levels)
    }
}

impl Root {
    /// Over an open directory, which may be an `O_PATH` handle. `is_read_only`: nothing may be written but into what
    /// covers it.
    pub fn new(fd: OwnedFd, is_read_only: bool) -> Self {
        Self { fd: Arc::new(fd), is_read_only, covers: Vec::new(), ids: None }
    }

    /// The same tree, of a container whose owners show shifted by `ids` here.
    #[must_use]
    pub fn of_users(mut self, ids: Option<Ids>) -> Self {
        self.ids = ids;
        self
    }

    /// What owners show shifted by.
    pub(crate) fn ids(&self) -> Option<Ids> {
        self.ids
    }

    /// The root directory itself, without what covers places in it.
    pub fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }

    /// What stands at `target` is covered by `source`; links on the way are followed inside. Nothing if there is no
    /// such target. Covers of what is in other covers come after those.
    ///
    /// # Errors
    /// `IO_FAILED`.
    pub fn cover(&mut self, target: &[u8], source: OwnedFd, is_read_only: bool) -> Result<(), CopyError> {
        let found = match self.resolve(&self.top(), target, true) {
            Err(CopyError::NotFound { .. } | CopyError::WrongKind { .. }) => return Ok(()),
            found => found?,
        };
        if let Some((_, status)) = found.place {
            let place = Place { fd: Arc::new(source), is_read_only, is_cover: true };
            self.covers.push(Cover { target: (status.st_dev, status.st_ino), place });
        }
        Ok(())
    }

    /// The regular file at `path`, links followed, whole; `None` if there is none. For files such as /etc/passwd.
    ///
    /// # Errors
    /// `FILE_NOT_COPYABLE` for one longer than `limit_bytes`, `PATH_WRONG_KIND`, `IO_FAILED`.
    pub fn read_file(&self, path: &[u8], limit_bytes: u64) -> Result<Option<Vec<u8>>, CopyError> {
        let found = match self.resolve(&self.top(), path, true) {
            Err(CopyError::NotFound { .. }) => return Ok(None),
            found => found?,
        };
        let Some((place, status)) = found.place else { return Ok(None) };
        let kind = file_type(&status);
        if kind != FileType::RegularFile {
            let (found, wanted) = (name_of(kind), name_of(FileType::RegularFile));
            return Err(CopyError::WrongKind { path: shown(path), found, wanted });
        }
        let file = crate::diff::node::Node::of(place.handle()?, path)?.open_file(path)?;
        let mut bytes = Vec::new();
        let mut limited = std::io::Read::take(file, limit_bytes + 1);
        std::io::Read::read_to_end(&mut limited, &mut bytes).map_err(|e| CopyError::io("read", path, &e))?;
        if bytes.len() as u64 > limit_bytes {
            let rule = format!("it has more than {limit_bytes} bytes");
            return Err(CopyError::NotCopyable { path: shown(path), rule });
        }
        Ok(Some(bytes))
    }

    /// The root as the only level of a walk.
    pub(super) fn top(&self) -> Vec<Place> {
        vec![Place { fd: Arc::clone(&self.fd), is_read_only: self.is_read_only, is_cover: false }]
    }

    /// Follows `path` from the directory at the end of `from`, never above the first of `from`; an absolute link leads
    /// back to that one. `..`, `.` and empty components are taken as the kernel does, so that `a/` is a directory.
    ///
    /// # Errors
    /// `PATH_NOT_FOUND` for a missing directory on the way, `PATH_WRONG_KIND` for a file on the way, `IO_FAILED`: ELOOP
    /// for more links than the kernel follows.
    pub(super) fn resolve(&self, from: &[Place], path: &[u8], follow_last: bool) -> Result<Found, CopyError> {
        if path.len() as u64 > PATH_BYTES_MAX {
            return Err(CopyError::call("openat2", path, Errno::NAMETOOLONG));
        }
        let mut levels = from.to_vec();
        let mut left: VecDeque<Vec<u8>> = components(path).collect();
        let mut name_here = Vec::new();
        let mut link_count = 0;
        while let Some(name) = left.pop_front() {
            match name.as_slice() {
                b"." => continue,
                b".." => {
                    levels.truncate(levels.len().saturating_sub(1).max(1));
                    name_here.clear();
                    continue;
                }
                _ => {}
            }
            let Some(here) = levels.last() else { break };
            let Some((place, status)) = self.step(here, &name, path)? else {
                if left.is_empty() {
                    return Ok(Found { parents: levels, name, place: None, is_root: false });
                }
                return Err(CopyError::NotFound { path: shown(path) });
            };
            match file_type(&status) {
                FileType::Directory => {
                    levels.push(place);
                    name_here = name;
                }
                FileType::Symlink if follow_last || !left.is_empty() => {
                    link_count += 1;
                    if link_count > SYMLINK_COUNT_MAX {
                        return Err(CopyError::call("openat2", path, Errno::LOOP));
                    }
                    let text = match rustix::fs::readlinkat(place.as_fd(), c"", Vec::new()) {
                        Ok(text) => text.into_bytes(),
                        // Only the kernel's own links of /proc have a reader that may not: for him they lead nowhere.
                        // Source: fs/proc/base.c, proc_fd_access_allowed.
                        Err(Errno::ACCESS) => return Err(CopyError::NotFound { path: shown(path) }),
                        Err(errno) => return Err(CopyError::call("readlinkat", path, errno)),
                    };
                    if text.starts_with(b"/") {
                        levels.truncate(1);
                        name_here.clear();
                    }
                    for component in components(&text).collect::<Vec<_>>().into_iter().rev() {
                        left.push_front(component);
                    }
                }
                _ if left.is_empty() => {
                    let place = Some((place, status));
                    return Ok(Found { parents: levels, name, place, is_root: false });
                }
                kind => {
                    let (found, wanted) = (name_of(kind), name_of(FileType::Directory));
                    return Err(CopyError::WrongKind { path: shown(path), found, wanted });
                }
            }
        }
        let is_root = levels.len() < 2;
        let place = if is_root { levels.first().cloned() } else { levels.pop() };
        let Some(place) = place else { return Err(CopyError::NotFound { path: shown(path) }) };
        let status = place.stat(path)?;
        Ok(Found { parents: levels, name: name_here, place: Some((place, status)), is_root })
    }

    /// The root, and what is laid over places in it: all that a walk can come to.
    pub(super) fn all(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        std::iter::once(self.fd.as_fd()).chain(self.covers.iter().map(|cover| cover.place.as_fd()))
    }

    /// What `name` in `directory` is, covers taken into account, a link itself; `None` if there is nothing.
    pub(super) fn step(
        &self,
        directory: &Place,
        name: &[u8],
        path: &[u8],
    ) -> Result<Option<(Place, Stat)>, CopyError> {
        let mut resolve = ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS;
        let mut flags = OFlags::PATH | OFlags::NOFOLLOW;
        if sys::weakened::lacks("copies") {
            resolve = ResolveFlags::empty();
            flags = OFlags::PATH;
        }
        let fd = match tree::open_resolved(directory.as_fd(), name, flags, resolve) {
            Ok(fd) => fd,
            Err(Errno::NOENT) => return Ok(None),
            Err(errno) => return Err(CopyError::call("openat2", path, errno)),
        };
        let place = directory.at(fd);
        let status = place.stat(path)?;
        let identity = (status.st_dev, status.st_ino);
        match self.covers.iter().rev().find(|cover| cover.target == identity) {
            None => Ok(Some((place, status))),
            Some(cover) => {
                let status = cover.place.stat(path)?;
                Ok(Some((cover.place.clone(), status)))
            }
        }
    }

    /// Opens what `place` holds, which is a directory, to be listed.
    pub(super) fn open_listable(place: &Place, path: &[u8]) -> Result<OwnedFd, CopyError> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        rustix::fs::openat(place.as_fd(), c".", flags, Mode::empty())
            .map_err(|errno| CopyError::call("openat", path, errno))
    }
}

/// The components of a path; one that ends in `/` has `.` as its last, which only a directory has.
fn components(path: &[u8]) -> impl Iterator<Item = Vec<u8>> + '_ {
    let ends_in_slash = path.last() == Some(&b'/');
    let last = ends_in_slash.then(|| b".".to_vec());
    path.split(|b| *b == b'/').filter(|c| !c.is_empty()).map(<[u8]>::to_vec).chain(last)
}

/// What a kind of file is called in a sentence.
pub(super) fn name_of(kind: FileType) -> &'static str {
    match kind {
        FileType::Directory => "a directory",
        FileType::RegularFile => "a file",
        FileType::Symlink => "a symbolic link",
        FileType::Fifo => "a pipe",
        FileType::Socket => "a socket",
        FileType::BlockDevice | FileType::CharacterDevice => "a device",
        FileType::Unknown => "something else",
    }
}
