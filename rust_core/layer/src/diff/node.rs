//! One file of the tree by a handle that opens nothing: its status, attributes and link text. No device is ever opened.

use std::fs::File;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use errors::IoError;
use rustix::fs::{FileType, Mode, OFlags, Stat};
use rustix::io::Errno;

use super::view::open_beneath;
use crate::lower::status_of;
use crate::tree::io;
use crate::xattr::{self, HOST_LABEL};
use crate::{Extent, Time, Xattr};

/// A file with fewer bytes in its holes is written out whole.
pub(super) const SPARSE_HOLE_BYTES_MIN: u64 = 64 * 1024;
/// Extents of a sparse file that are told apart; what lies between closer ones is written as zeros. Their text stays
/// below `sparse_map_bytes` (two numbers of up to 20 digits each).
const EXTENT_COUNT_MAX: usize = 20_000;

/// What overlayfs's own attributes say of a file.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Steering {
    /// A directory that hides what lies below it.
    pub is_opaque: bool,
    /// A directory whose empty files may be whiteouts.
    pub has_attribute_whiteouts: bool,
    /// An empty file that hides what lies below it.
    pub is_whiteout: bool,
    /// The content stands elsewhere: `redirect_dir` or `metacopy`.
    pub is_redirected: bool,
}

impl Steering {
    /// Of an open directory.
    pub fn of_directory(directory: BorrowedFd<'_>) -> Result<Self, Errno> {
        let opaque = xattr::get(directory, xattr::OPAQUE)?;
        let mut steering = Self::default();
        steering.note_opaque(opaque.as_deref().unwrap_or_default());
        Ok(steering)
    }

    /// Of an `O_PATH` handle.
    pub fn of_handle(handle: BorrowedFd<'_>) -> Result<Self, Errno> {
        Ok(attributes(handle)?.1)
    }

    /// `y` hides what lies below, `x` announces whiteouts by attribute.
    ///
    /// Source: kernel, Documentation/filesystems/overlayfs.rst, "whiteouts and opaque directories".
    fn note_opaque(&mut self, value: &[u8]) {
        self.is_opaque = value == b"y";
        self.has_attribute_whiteouts = value == b"x";
    }

    fn note(&mut self, name: &[u8], value: &[u8]) {
        match name {
            b"trusted.overlay.opaque" => self.note_opaque(value),
            b"trusted.overlay.whiteout" => self.is_whiteout = true,
            b"trusted.overlay.redirect" | b"trusted.overlay.metacopy" => self.is_redirected = true,
            _ => {}
        }
    }
}

/// A file that was met.
#[derive(Debug)]
pub(crate) struct Node {
    handle: OwnedFd,
    pub status: Stat,
    /// Those that a layer may carry, by name.
    pub xattrs: Vec<Xattr>,
    pub steering: Steering,
}

impl Node {
    /// The file `name` of an open directory, itself; `None` if it has vanished.
    pub fn open(directory: BorrowedFd<'_>, name: &[u8]) -> Result<Option<Self>, IoError> {
        match open_beneath(directory, name, OFlags::PATH) {
            Ok(handle) => Self::of(handle, name).map(Some),
            Err(Errno::NOENT) => Ok(None),
            Err(errno) => Err(io("openat2", name, errno)),
        }
    }

    /// What an `O_PATH` handle holds.
    pub fn of(handle: OwnedFd, name: &[u8]) -> Result<Self, IoError> {
        let status = status_of(handle.as_fd()).map_err(|errno| io("fstat", name, errno))?;
        let (mut xattrs, steering) =
            attributes(handle.as_fd()).map_err(|errno| io("getxattr", name, errno))?;
        xattrs.sort();
        Ok(Self { handle, status, xattrs, steering })
    }

    pub fn kind(&self) -> FileType {
        FileType::from_raw_mode(self.status.st_mode)
    }

    pub fn mtime(&self) -> Time {
        mtime(&self.status)
    }

    /// Which file it is, whatever it is called.
    pub fn identity(&self) -> (u64, u64) {
        (self.status.st_dev, self.status.st_ino)
    }

    pub fn size_bytes(&self) -> u64 {
        u64::try_from(self.status.st_size).unwrap_or(0)
    }

    /// The text of a symbolic link.
    pub fn link_text(&self) -> Result<Vec<u8>, IoError> {
        rustix::fs::readlinkat(&self.handle, c"", Vec::new())
            .map(std::ffi::CString::into_bytes)
            .map_err(|errno| io("readlinkat", b"", errno))
    }

    /// The regular file, opened for reading; not another one that has taken its name meanwhile.
    pub fn open_file(&self, path: &[u8]) -> Result<File, IoError> {
        let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK;
        rustix::fs::open(link_to(self.handle.as_fd()), flags, Mode::empty())
            .map(File::from)
            .map_err(|errno| io("open", path, errno))
    }
}

/// When a file's content last changed.
pub(crate) fn mtime(status: &Stat) -> Time {
    Time { seconds: status.st_mtime, nanos: u32::try_from(status.st_mtime_nsec).unwrap_or(0) }
}

/// The link that leads to what an `O_PATH` handle holds and to nothing else.
fn link_to(handle: BorrowedFd<'_>) -> String {
    format!("/proc/self/fd/{}", handle.as_raw_fd())
}

/// The attributes that a layer may carry, in the kernel's order, and what the others say.
fn attributes(handle: BorrowedFd<'_>) -> Result<(Vec<Xattr>, Steering), Errno> {
    let link = link_to(handle);
    let mut names = vec![0u8; 1024];
    let size = loop {
        match rustix::fs::listxattr(&link, &mut names) {
            Ok(size) => break size,
            Err(Errno::NOTSUP) => return Ok((Vec::new(), Steering::default())),
            Err(Errno::RANGE) if names.len() < 65_536 => names.resize(65_536, 0),
            Err(errno) => return Err(errno),
        }
    };
    let (mut kept, mut steering) = (Vec::new(), Steering::default());
    for name in names[..size].split(|b| *b == 0).filter(|name| !name.is_empty() && *name != HOST_LABEL) {
        let Some(value) = attribute(&link, name)? else { continue };
        if xattr::steers_overlay(name) {
            steering.note(name, &value);
        } else {
            kept.push((name.to_vec(), value));
        }
    }
    Ok((kept, steering))
}

fn attribute(link: &str, name: &[u8]) -> Result<Option<Vec<u8>>, Errno> {
    let mut value = vec![0u8; 256];
    loop {
        match rustix::fs::getxattr(link, name, &mut value) {
            Ok(size) => {
                value.truncate(size);
                return Ok(Some(value));
            }
            Err(Errno::NODATA | Errno::NOTSUP) => return Ok(None),
            Err(Errno::RANGE) if value.len() < 65_536 => value.resize(65_536, 0),
            Err(errno) => return Err(errno),
        }
    }
}

/// Where a file of `size_bytes` has data, if its holes are worth telling; `None` for a file that is written whole.
///
/// Source: lseek(2), SEEK_DATA and SEEK_HOLE.
pub(super) fn extents(file: &File, size_bytes: u64, blocks: u64) -> Option<Vec<Extent>> {
    if blocks.saturating_mul(512).saturating_add(SPARSE_HOLE_BYTES_MIN) > size_bytes {
        return None;
    }
    let mut found: Vec<Extent> = Vec::new();
    let mut gap_bytes = SPARSE_HOLE_BYTES_MIN / 2;
    let mut at = 0;
    while at < size_bytes {
        let start = match rustix::fs::seek(file, rustix::fs::SeekFrom::Data(at)) {
            Ok(start) => start.min(size_bytes),
            // No data up to the end.
            Err(Errno::NXIO) => break,
            // The file system knows no holes: it is written whole.
            Err(_) => return None,
        };
        let end =
            rustix::fs::seek(file, rustix::fs::SeekFrom::Hole(start)).unwrap_or(size_bytes).min(size_bytes);
        if end <= start {
            break;
        }
        add(&mut found, start, end, gap_bytes);
        if found.len() > EXTENT_COUNT_MAX {
            while found.len() > EXTENT_COUNT_MAX / 2 {
                gap_bytes = gap_bytes.saturating_mul(2);
                for extent in std::mem::take(&mut found) {
                    add(&mut found, extent.offset_bytes, extent.offset_bytes + extent.size_bytes, gap_bytes);
                }
            }
        }
        at = end;
    }
    let data_bytes: u64 = found.iter().map(|extent| extent.size_bytes).sum();
    (size_bytes - data_bytes >= SPARSE_HOLE_BYTES_MIN).then_some(found)
}

/// Adds a run, as one with the last where the hole between is small.
fn add(found: &mut Vec<Extent>, start: u64, end: u64, gap_bytes: u64) {
    if let Some(last) = found.last_mut() {
        let last_end = last.offset_bytes + last.size_bytes;
        if start - last_end < gap_bytes {
            last.size_bytes = end - last.offset_bytes;
            return;
        }
    }
    found.push(Extent { offset_bytes: start, size_bytes: end - start });
}
