//! A tree that the kernel shows: layers merged by a detached overlay mount that nothing else can see. Every path is
//! opened beneath the mount's root without following a link.

use std::fs::File;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use errors::IoError;
use layer::{Time, Xattr};
use rustix::fs::{Dir, FileType, Mode, OFlags, ResolveFlags, Stat};
use rustix::io::Errno;

use crate::content::Content;
use crate::tree::{Meta, MetaKind, Tree};
use crate::BuildError;

const BENEATH: ResolveFlags =
    ResolveFlags::BENEATH.union(ResolveFlags::NO_SYMLINKS).union(ResolveFlags::NO_XDEV);
/// As `chroot` would: links lead no further than the root.
const INSIDE: ResolveFlags =
    ResolveFlags::IN_ROOT.union(ResolveFlags::NO_MAGICLINKS).union(ResolveFlags::NO_XDEV);
/// How often openat2 is tried again when a rename elsewhere makes it answer EAGAIN.
const MAX_ATTEMPTS: u32 = 128;

/// Layers as one tree. Dropped, the mount goes.
#[derive(Debug)]
pub struct MountedTree {
    root: Arc<OwnedFd>,
    name: String,
    has_owners: bool,
}

/// A regular file of such a tree.
#[derive(Debug, Clone)]
pub struct MountedFile {
    root: Arc<OwnedFd>,
    path: Vec<u8>,
    size_bytes: u64,
}

impl MountedFile {
    /// Its size.
    pub fn size_bytes(&self) -> u64 {
        self.size_bytes
    }

    pub(crate) fn open(&self) -> Result<File, BuildError> {
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK;
        open(self.root.as_fd(), &self.path, flags)
            .map(File::from)
            .map_err(|errno| failed("openat2", &self.path, errno).into())
    }
}

impl MountedTree {
    /// The layers below these directories, top-most first, as one tree that cannot be written. `name` is what errors
    /// call it. Blocking (0.2 ms for 5 layers).
    ///
    /// # Errors
    /// `KERNEL_FEATURE_MISSING`, `IO_FAILED`.
    pub fn new(lower_dirs: &[PathBuf], name: &str) -> Result<Self, BuildError> {
        let root = mount::image_detached(lower_dirs)?;
        Ok(Self { root: Arc::new(root), name: name.to_owned(), has_owners: true })
    }

    /// A directory that the engine made as a tree whose owners mean nothing; nobody else writes to it. `below` is a
    /// folder in it, found with all links taken inside the directory; empty for all of it.
    ///
    /// # Errors
    /// `BUILD_SOURCE_NOT_FOUND` if `below` leads to no directory, `IO_FAILED`.
    pub fn of_directory(path: &Path, below: &[u8], name: &str) -> Result<Self, BuildError> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let mut root = rustix::fs::open(path, flags, Mode::empty())
            .map_err(|errno| IoError::new("open", path, errno.raw_os_error()))?;
        if !below.is_empty() {
            let flags = OFlags::PATH | OFlags::DIRECTORY;
            root = match resolve(root.as_fd(), below, flags, INSIDE) {
                Ok(found) => found,
                Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP | Errno::NAMETOOLONG) => {
                    let path = crate::error::shown(below);
                    return Err(BuildError::SourceNotFound { path, tree: name.to_owned() });
                }
                Err(errno) => return Err(failed("openat2", below, errno).into()),
            };
        }
        Ok(Self { root: Arc::new(root), name: name.to_owned(), has_owners: false })
    }
}

fn failed(operation: &'static str, path: &[u8], errno: Errno) -> IoError {
    use std::os::unix::ffi::OsStrExt;
    IoError::new(operation, std::ffi::OsStr::from_bytes(path), errno.raw_os_error())
}

fn open(root: BorrowedFd<'_>, path: &[u8], flags: OFlags) -> Result<OwnedFd, Errno> {
    resolve(root, path, flags, BENEATH)
}

fn resolve(root: BorrowedFd<'_>, path: &[u8], flags: OFlags, how: ResolveFlags) -> Result<OwnedFd, Errno> {
    let path = if path.is_empty() { b"." } else { path };
    for _ in 0..MAX_ATTEMPTS {
        match rustix::fs::openat2(root, path, flags | OFlags::CLOEXEC, Mode::empty(), how) {
            Err(Errno::AGAIN | Errno::INTR) => {}
            answer => return answer,
        }
    }
    Err(Errno::AGAIN)
}

impl Tree for MountedTree {
    fn stat(&self, path: &[u8]) -> Result<Option<Meta>, BuildError> {
        let handle = match open(self.root.as_fd(), path, OFlags::PATH | OFlags::NOFOLLOW) {
            Ok(handle) => handle,
            // A link on the way is no directory.
            Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP | Errno::NAMETOOLONG) => return Ok(None),
            Err(errno) => return Err(failed("openat2", path, errno).into()),
        };
        let status = rustix::fs::fstat(&handle).map_err(|errno| failed("fstat", path, errno))?;
        meta(handle.as_fd(), &status, path).map(Some)
    }

    fn list(&self, path: &[u8]) -> Result<Vec<Vec<u8>>, BuildError> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW;
        let directory =
            open(self.root.as_fd(), path, flags).map_err(|errno| failed("openat2", path, errno))?;
        let mut names = Vec::new();
        for entry in Dir::new(directory).map_err(|errno| failed("getdents64", path, errno))? {
            let entry = entry.map_err(|errno| failed("getdents64", path, errno))?;
            let name = entry.file_name().to_bytes();
            if name != b"." && name != b".." {
                names.push(name.to_vec());
            }
        }
        names.sort();
        Ok(names)
    }

    fn content(&self, path: &[u8], meta: &Meta) -> Result<Content, BuildError> {
        let MetaKind::File { size_bytes } = meta.kind else { return Ok(Content::empty()) };
        Ok(Content::Mounted(MountedFile { root: Arc::clone(&self.root), path: path.to_vec(), size_bytes }))
    }

    fn name(&self) -> &str {
        &self.name
    }

    fn has_owners(&self) -> bool {
        self.has_owners
    }
}

fn meta(handle: BorrowedFd<'_>, status: &Stat, path: &[u8]) -> Result<Meta, BuildError> {
    let device = |is_block| MetaKind::Device {
        is_block,
        major: rustix::fs::major(status.st_rdev),
        minor: rustix::fs::minor(status.st_rdev),
    };
    let kind = match FileType::from_raw_mode(status.st_mode) {
        FileType::RegularFile => MetaKind::File { size_bytes: u64::try_from(status.st_size).unwrap_or(0) },
        FileType::Directory => MetaKind::Directory,
        FileType::Symlink => {
            let target = rustix::fs::readlinkat(handle, "", Vec::new())
                .map_err(|errno| failed("readlinkat", path, errno))?;
            MetaKind::Symlink { target: target.into_bytes() }
        }
        FileType::Fifo => MetaKind::Fifo,
        FileType::CharacterDevice => device(false),
        FileType::BlockDevice => device(true),
        _ => MetaKind::Socket,
    };
    let has_xattrs = matches!(kind, MetaKind::File { .. } | MetaKind::Directory);
    let is_shared = status.st_nlink > 1 && matches!(kind, MetaKind::File { .. });
    Ok(Meta {
        xattrs: if has_xattrs {
            xattrs(handle).map_err(|errno| failed("listxattr", path, errno))?
        } else {
            Vec::new()
        },
        kind,
        mode: status.st_mode & 0o7777,
        uid: status.st_uid,
        gid: status.st_gid,
        mtime: Time { seconds: status.st_mtime, nanos: u32::try_from(status.st_mtime_nsec).unwrap_or(0) },
        link_identity: is_shared.then_some((status.st_dev, status.st_ino)),
    })
}

/// The attributes that a layer may carry, of a file or directory held by an `O_PATH` handle. Procfs leads to what is
/// held, not to a name.
fn xattrs(handle: BorrowedFd<'_>) -> Result<Vec<Xattr>, Errno> {
    let path = format!("/proc/self/fd/{}", handle.as_raw_fd());
    let mut names = vec![0u8; 1024];
    let size = loop {
        match rustix::fs::listxattr(&path, &mut names) {
            Ok(size) => break size,
            Err(Errno::NOTSUP) => return Ok(Vec::new()),
            Err(Errno::RANGE) if names.len() < 65_536 => names.resize(65_536, 0),
            Err(errno) => return Err(errno),
        }
    };
    let mut all = Vec::new();
    for name in names[..size].split(|b| *b == 0).filter(|name| layer::may_carry_xattr(name)) {
        let mut value = vec![0u8; 65_536];
        match rustix::fs::getxattr(&path, name, &mut value) {
            Ok(size) => {
                value.truncate(size);
                all.push((name.to_vec(), value));
            }
            Err(Errno::NODATA | Errno::NOTSUP) => {}
            Err(errno) => return Err(errno),
        }
    }
    all.sort();
    Ok(all)
}
