//! A tar unpacked into a directory that others may be changing meanwhile: every name is resolved beneath its root.

use std::fs::File;
use std::io::{BufReader, Read};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

use errors::IoError;
use layer::decompress::{window_too_large, DecompressError, Decompressor};
use layer::tar::{ArchiveEnd, Chunks, TarReader};
use layer::{Compression, Entry, EntryData, EntryKind, LayerError, Limits};
use rustix::fs::{fstat, AtFlags, FileType, Mode, OFlags, ResolveFlags};
use rustix::io::Errno;
use sys::cancel::CancelToken;

use crate::attributes::Attributes;
use crate::{tree, VolumeError};

const BUFFER_BYTES: usize = 256 << 10;
const SUBJECT: &str = "volume archive";
/// Links are followed as long as they stay in the volume.
const INSIDE: ResolveFlags = ResolveFlags::IN_ROOT.union(ResolveFlags::NO_MAGICLINKS);

/// What an archive held.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Unpacked {
    /// Entries.
    pub entries: u64,
    /// Bytes of its files.
    pub bytes: u64,
}

/// The entries of the tar in the file `archive` (plain, gzip or zstd) stand below the directory `root`: a file takes the
/// place of what has its name, a directory is joined with one that is there. No name leads out of `root`, whatever
/// links are there or come meanwhile. The archive is hostile: what a layer is held to by `limits`, it is too. Whiteouts
/// are the files that they look like. `progress` counts its uncompressed bytes. Blocking.
///
/// # Errors
/// [`VolumeError::Archive`] for an archive that is malformed, breaks a rule or exceeds a limit;
/// [`VolumeError::Cancelled`]; [`VolumeError::Io`]: ENOTDIR, EISDIR and ENOTEMPTY where a name is taken by what cannot
/// be replaced. What was unpacked before stays.
pub fn unpack(
    archive: &Path,
    root: BorrowedFd<'_>,
    limits: &Limits,
    progress: &AtomicU64,
    cancel: &CancelToken,
) -> Result<Unpacked, VolumeError> {
    let file = File::open(archive).map_err(|error| IoError::from_std("open", archive, &error))?;
    let read = AtomicU64::new(0);
    let source = BufReader::with_capacity(BUFFER_BYTES, Counted { file, read: &read });
    let inner = Decompressor::new(source).map_err(failed)?;
    let stream = Stream { inner, limits, read: &read, progress, total: 0, buffer: Vec::new(), used: 0 };
    let mut reader = TarReader::new(stream, SUBJECT, limits);
    let mut unpacked = Unpacked::default();
    // Their times and modes change while entries come into them, and a read-only one takes none.
    let mut directories: Vec<(Vec<u8>, Attributes)> = Vec::new();
    while let Some(entry) = reader.next_entry()? {
        if cancel.is_cancelled() {
            return Err(VolumeError::Cancelled);
        }
        unpacked.entries += 1;
        if let EntryKind::File { size_bytes, .. } = entry.kind {
            unpacked.bytes = unpacked.bytes.saturating_add(size_bytes);
        }
        if entry.kind == EntryKind::Directory {
            make_directory(root, entry.path.as_bytes())?;
            directories.push((entry.path.as_bytes().to_vec(), attributes_of(&entry)));
        } else {
            put(root, &entry, &mut reader)?;
        }
    }
    if reader.end() != Some(ArchiveEnd::Marked) {
        let detail = "the archive has no end marker: it may have been cut".to_owned();
        return Err(LayerError::Corrupt { digest: SUBJECT.to_owned(), detail }.into());
    }
    for (path, attributes) in directories.iter().rev() {
        match tree::open_beneath(root, path, OFlags::PATH | OFlags::DIRECTORY, INSIDE) {
            Ok(directory) => attributes.set(directory.as_fd(), FileType::Directory, path)?,
            Err(Errno::NOENT | Errno::NOTDIR) => {} // a later entry, or somebody else, has taken its place
            Err(errno) => return Err(tree::io("openat2", path)(errno).into()),
        }
    }
    Ok(unpacked)
}

fn attributes_of(entry: &Entry) -> Attributes {
    Attributes {
        mode: entry.mode,
        uid: entry.uid,
        gid: entry.gid,
        mtime: (entry.mtime.seconds, entry.mtime.nanos.into()),
        xattrs: entry.xattrs.clone(),
    }
}

/// The directory is there; parents that are missing are made, 0755.
fn make_directory(root: BorrowedFd<'_>, path: &[u8]) -> Result<OwnedFd, VolumeError> {
    let open = |path: &[u8]| tree::open_beneath(root, path, OFlags::RDONLY | OFlags::DIRECTORY, INSIDE);
    match open(path) {
        Ok(found) => return Ok(found),
        Err(Errno::NOENT) => {}
        Err(errno) => return Err(tree::io("openat2", path)(errno).into()),
    }
    let mut here = open(b"").map_err(tree::io("openat2", path))?;
    let mut so_far = Vec::new();
    for name in path.split(|byte| *byte == b'/').filter(|name| !name.is_empty()) {
        if !so_far.is_empty() {
            so_far.push(b'/');
        }
        so_far.extend_from_slice(name);
        match rustix::fs::mkdirat(&here, name, Mode::from_raw_mode(0o755)) {
            Ok(()) | Err(Errno::EXIST) => {}
            Err(errno) => return Err(tree::io("mkdirat", &so_far)(errno).into()),
        }
        here = open(&so_far).map_err(tree::io("openat2", &so_far))?;
    }
    Ok(here)
}

fn put<C: Chunks>(root: BorrowedFd<'_>, entry: &Entry, reader: &mut TarReader<C>) -> Result<(), VolumeError> {
    let path = entry.path.as_bytes();
    let fail = |operation| tree::io(operation, path);
    let Some((parent, name)) = entry.path.split_last() else {
        return Err(fail("unlinkat")(Errno::ISDIR).into());
    };
    let parent = make_directory(root, parent)?;
    match rustix::fs::unlinkat(&parent, name, AtFlags::empty()) {
        Ok(()) | Err(Errno::NOENT) => {}
        // A directory gives way only if it is empty: what is in it was not named.
        Err(Errno::ISDIR | Errno::PERM) => {
            rustix::fs::unlinkat(&parent, name, AtFlags::REMOVEDIR).map_err(fail("unlinkat"))?;
        }
        Err(errno) => return Err(fail("unlinkat")(errno).into()),
    }
    let narrow = Mode::RUSR | Mode::WUSR;
    let kind = match &entry.kind {
        EntryKind::File { size_bytes, extents } => {
            let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            let file = rustix::fs::openat(&parent, name, flags, narrow).map_err(fail("openat"))?;
            let whole = [layer::Extent { offset_bytes: 0, size_bytes: entry.data_size_bytes }];
            let extents = extents.as_deref().unwrap_or(&whole);
            write(file.as_fd(), extents, reader, path)?;
            rustix::fs::ftruncate(&file, *size_bytes).map_err(fail("ftruncate"))?;
            // By the file that was made, whatever stands at its name by now.
            return Ok(attributes_of(entry).set(file.as_fd(), FileType::RegularFile, path)?);
        }
        EntryKind::Hardlink { target } => {
            let (above, last) = target.split_last().unwrap_or_default();
            let above = tree::open_beneath(root, above, OFlags::PATH | OFlags::DIRECTORY, INSIDE)
                .map_err(fail("openat2"))?;
            rustix::fs::linkat(&above, last, &parent, name, AtFlags::empty()).map_err(fail("linkat"))?;
            return Ok(());
        }
        EntryKind::Symlink { target } => {
            rustix::fs::symlinkat(target.as_slice(), &parent, name).map_err(fail("symlinkat"))?;
            FileType::Symlink
        }
        EntryKind::CharDevice { major, minor } => {
            let number = rustix::fs::makedev(*major, *minor);
            let kind = FileType::CharacterDevice;
            rustix::fs::mknodat(&parent, name, kind, narrow, number).map_err(fail("mknodat"))?;
            kind
        }
        EntryKind::BlockDevice { major, minor } => {
            let number = rustix::fs::makedev(*major, *minor);
            let kind = FileType::BlockDevice;
            rustix::fs::mknodat(&parent, name, kind, narrow, number).map_err(fail("mknodat"))?;
            kind
        }
        EntryKind::Fifo => {
            rustix::fs::mknodat(&parent, name, FileType::Fifo, narrow, 0).map_err(fail("mknodat"))?;
            FileType::Fifo
        }
        EntryKind::Directory | EntryKind::Whiteout | EntryKind::Opaque => return Ok(()),
    };
    let made = tree::handle(&parent, name).map_err(fail("openat"))?;
    let found = FileType::from_raw_mode(fstat(&made).map_err(fail("fstat"))?.st_mode);
    if found == kind {
        attributes_of(entry).set(made.as_fd(), kind, path)?;
    }
    Ok(())
}

fn write<C: Chunks>(
    file: BorrowedFd<'_>,
    extents: &[layer::Extent],
    reader: &mut TarReader<C>,
    path: &[u8],
) -> Result<(), VolumeError> {
    for extent in extents {
        let (mut offset, mut left) = (extent.offset_bytes, extent.size_bytes);
        while left > 0 {
            let chunk = reader.chunk()?;
            let wanted = chunk.len().min(usize::try_from(left).unwrap_or(usize::MAX));
            if wanted == 0 {
                break;
            }
            let count =
                rustix::io::pwrite(file, &chunk[..wanted], offset).map_err(tree::io("pwrite", path))?;
            reader.consume(count);
            offset += count as u64;
            left -= count as u64;
        }
    }
    Ok(())
}

fn failed(error: DecompressError) -> LayerError {
    match error {
        DecompressError::Source(error) => LayerError::Io(IoError::from_std("read", SUBJECT, &error)),
        DecompressError::Corrupt(detail) => LayerError::Corrupt { digest: SUBJECT.to_owned(), detail },
        DecompressError::WindowTooLarge => window_too_large(SUBJECT.to_owned()),
    }
}

struct Counted<'a> {
    file: File,
    read: &'a AtomicU64,
}

impl Read for Counted<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let count = self.file.read(buffer)?;
        self.read.fetch_add(count as u64, Ordering::Relaxed);
        Ok(count)
    }
}

/// The archive's uncompressed bytes, bounded.
struct Stream<'a, R: std::io::BufRead> {
    inner: Decompressor<R>,
    limits: &'a Limits,
    /// Compressed bytes that were read.
    read: &'a AtomicU64,
    progress: &'a AtomicU64,
    total: u64,
    buffer: Vec<u8>,
    used: usize,
}

impl<R: std::io::BufRead> Stream<'_, R> {
    fn check(&self) -> Result<(), LayerError> {
        let exceeded = |limit, limit_value, actual| LayerError::LimitExceeded {
            limit,
            limit_value,
            actual,
            subject: SUBJECT.to_owned(),
        };
        if self.total > self.limits.layer_size_bytes {
            return Err(exceeded("layer_size_bytes", self.limits.layer_size_bytes, self.total));
        }
        let ratio = self.total / self.read.load(Ordering::Relaxed).max(1);
        let counts =
            self.inner.compression() != Compression::None && self.total > self.limits.expansion_floor_bytes;
        if counts && ratio > self.limits.expansion_ratio {
            return Err(exceeded("expansion_ratio", self.limits.expansion_ratio, ratio));
        }
        Ok(())
    }
}

impl<R: std::io::BufRead> Chunks for Stream<'_, R> {
    fn chunk(&mut self) -> Result<&[u8], LayerError> {
        if self.used == self.buffer.len() {
            self.buffer.resize(BUFFER_BYTES, 0);
            self.used = 0;
            let answer = self.inner.read(&mut self.buffer).map_err(failed);
            self.buffer.truncate(*answer.as_ref().unwrap_or(&0));
            let count = answer? as u64;
            self.total += count;
            self.progress.fetch_add(count, Ordering::Relaxed);
            self.check()?;
        }
        Ok(&self.buffer[self.used..])
    }

    fn consume(&mut self, count: usize) {
        self.used += count;
    }
}
