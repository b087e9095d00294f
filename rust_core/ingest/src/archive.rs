//! Image archives as files: decompressed where they are compressed, and listed without reading their data.

use std::cell::Cell;
use std::fs::File;
use std::io::{BufReader, Read, Write};
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use errors::IoError;
use layer::decompress::{DecompressError, Decompressor, ZSTD_WINDOW_BYTES_MAX};
use layer::tar::{FileChunks, TarReader};
use layer::{Compression, EntryKind, LayerError, Limits};
use rustix::fs::{AtFlags, Mode, OFlags};
use rustix::io::Errno;
use sys::cancel::CancelToken;

use crate::local::{FileRange, RangeReader};
use crate::IngestError;

/// Size of the pieces that are decompressed at a time.
const PIECE_BYTES: usize = 256 * 1024;
/// Headers that one entry may have: its own, PAX records, a long name and a long link name, a global header.
const HEADERS_PER_ENTRY: u64 = 5;

/// What an entry of an archive is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ArchiveEntryKind {
    /// A regular file whose data lies in the archive as it is.
    File,
    /// A directory.
    Directory,
    /// A symbolic link.
    Symlink,
    /// A hard link to another entry.
    Hardlink,
    /// A device, a pipe, or a sparse file, whose data does not lie in the archive as it is.
    Other,
}

impl ArchiveEntryKind {
    /// The name that the stubs use.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::File => "file",
            Self::Directory => "directory",
            Self::Symlink => "symlink",
            Self::Hardlink => "hardlink",
            Self::Other => "other",
        }
    }
}

/// An entry of an archive.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ArchiveEntry {
    /// Its path: no leading `./` or `/`, no `..`; empty for the root.
    pub name: String,
    /// What it is.
    pub kind: ArchiveEntryKind,
    /// How many bytes of data it has.
    pub size_bytes: u64,
    /// Where they begin in the uncompressed archive.
    pub offset_bytes: u64,
    /// The target of a symbolic link as written, or of a hard link as a path like `name`; else empty.
    pub link_name: String,
}

/// If the file behind `fd` is compressed by gzip or zstd: an unlinked file in the same directory with the decompressed
/// bytes, at offset 0, close-on-exec; `None` if it is not compressed. The offset of `fd` is neither used nor moved.
/// Blocking; ends soon once cancelled, with nothing left behind.
///
/// # Errors
/// `LIMIT_EXCEEDED` (`max_size_bytes`, and `expansion_ratio` as for layers) before more than that is written;
/// `ARCHIVE_INVALID` for a damaged or unknown compression; `STORAGE_FULL`, `IO_FAILED`, `CANCELLED`.
pub fn decompress_archive(
    fd: BorrowedFd<'_>,
    max_size_bytes: u64,
    cancel: &CancelToken,
) -> Result<Option<OwnedFd>, IngestError> {
    decompress_within(fd, max_size_bytes, &Limits::default(), cancel)
}

fn decompress_within(
    fd: BorrowedFd<'_>,
    max_size_bytes: u64,
    limits: &Limits,
    cancel: &CancelToken,
) -> Result<Option<OwnedFd>, IngestError> {
    let range = FileRange { fd, offset_bytes: 0, size_bytes: u64::MAX };
    let compressed = Cell::new(0);
    let counting = Counting { source: RangeReader { range: &range, at: 0 }, count: &compressed };
    let source = BufReader::with_capacity(PIECE_BYTES, counting);
    let mut decompressor = Decompressor::new(source).map_err(failure)?;
    if decompressor.compression() == Compression::None {
        return Ok(None);
    }
    let directory = directory_of(fd)?;
    let mut file = File::from(unlinked_file(&directory)?);
    let mut buffer = vec![0; PIECE_BYTES];
    let mut written = 0;
    loop {
        if cancel.is_cancelled() {
            return Err(IngestError::Cancelled { subject: "decompression of an archive".to_owned() });
        }
        let read = decompressor.read(&mut buffer).map_err(failure)?;
        if read == 0 {
            break;
        }
        written += read as u64;
        check("max_size_bytes", max_size_bytes, written)?;
        if written > limits.expansion_floor_bytes {
            check("expansion_ratio", limits.expansion_ratio, written / compressed.get().max(1))?;
        }
        file.write_all(&buffer[..read]).map_err(|error| IoError::from_std("write", &directory, &error))?;
    }
    let fd = OwnedFd::from(file);
    rustix::fs::seek(&fd, rustix::fs::SeekFrom::Start(0))
        .map_err(|errno| IoError::new("lseek", &directory, errno.raw_os_error()))?;
    Ok(Some(fd))
}

fn check(limit: &'static str, limit_value: u64, actual: u64) -> Result<(), IngestError> {
    if actual > limit_value {
        let subject = "decompressed archive";
        return Err(IngestError::LimitExceeded { limit, limit_value, actual, subject });
    }
    Ok(())
}

/// Counts what passes through it.
struct Counting<'c, R> {
    source: R,
    count: &'c Cell<u64>,
}

impl<R: Read> Read for Counting<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let read = self.source.read(buffer)?;
        self.count.set(self.count.get() + read as u64);
        Ok(read)
    }
}

fn failure(error: DecompressError) -> IngestError {
    match error {
        DecompressError::Source(error) => IoError::from_std("pread", "", &error).into(),
        DecompressError::Corrupt(rule) => IngestError::ArchiveInvalid { entry: String::new(), rule },
        DecompressError::WindowTooLarge => IngestError::LimitExceeded {
            limit: "zstd_window_bytes",
            limit_value: ZSTD_WINDOW_BYTES_MAX,
            actual: ZSTD_WINDOW_BYTES_MAX + 1,
            subject: "image archive",
        },
    }
}

/// The directory that the file behind `fd` was opened in; for an unlinked one, the directory it was unlinked from.
fn directory_of(fd: BorrowedFd<'_>) -> Result<PathBuf, IoError> {
    let link = format!("/proc/self/fd/{}", fd.as_raw_fd());
    let path = std::fs::read_link(&link).map_err(|error| IoError::from_std("readlink", &link, &error))?;
    match path.parent() {
        Some(parent) if path.is_absolute() => Ok(parent.to_path_buf()),
        // A pipe or a memfd lies nowhere.
        _ => Err(IoError::new("readlink", path, Errno::NOTDIR.raw_os_error())),
    }
}

fn unlinked_file(directory: &Path) -> Result<OwnedFd, IoError> {
    let mode = Mode::from_raw_mode(0o600);
    let flags = OFlags::RDWR | OFlags::CLOEXEC;
    match rustix::fs::open(directory, flags | OFlags::TMPFILE, mode) {
        // Not every file system can: overlayfs before Linux 6.3, for example.
        Err(Errno::OPNOTSUPP | Errno::ISDIR) => {}
        outcome => return outcome.map_err(|errno| IoError::new("open", directory, errno.raw_os_error())),
    }
    let fail = |operation| move |errno: Errno| IoError::new(operation, directory, errno.raw_os_error());
    let parent =
        rustix::fs::open(directory, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
            .map_err(fail("open"))?;
    let pid = rustix::process::getpid().as_raw_nonzero();
    for number in 0..u32::MAX {
        let name = format!(".fluyt-archive-{pid}-{number}");
        match rustix::fs::openat(&parent, &name, flags | OFlags::CREATE | OFlags::EXCL, mode) {
            Err(Errno::EXIST) => {}
            Err(errno) => return Err(fail("openat")(errno)),
            Ok(fd) => {
                rustix::fs::unlinkat(&parent, &name, AtFlags::empty()).map_err(fail("unlinkat"))?;
                return Ok(fd);
            }
        }
    }
    Err(fail("openat")(Errno::EXIST))
}

/// The entries of the uncompressed tar behind `fd`, in its order; data is passed over without being read. The offset
/// of `fd` is neither used nor moved. Blocking.
///
/// # Errors
/// `ARCHIVE_INVALID` for what is no whole tar, for a name that leaves the archive's root, and for one that is not
/// UTF-8; `LIMIT_EXCEEDED` (`max_entries`, and those that bound names and headers); `IO_FAILED`.
pub fn list_archive(fd: BorrowedFd<'_>, max_entries: u64) -> Result<Vec<ArchiveEntry>, IngestError> {
    let file = File::from(
        fd.try_clone_to_owned().map_err(|error| IoError::from_std("fcntl(F_DUPFD_CLOEXEC)", "", &error))?,
    );
    let entry_count = max_entries.saturating_mul(HEADERS_PER_ENTRY).saturating_add(HEADERS_PER_ENTRY);
    let limits = Limits { entry_count, ..Limits::default() };
    let mut reader = TarReader::new(FileChunks::new(&file)?, "archive", &limits);
    let mut entries = Vec::new();
    while let Some(entry) = reader.next_entry().map_err(archive_error)? {
        if entries.len() as u64 >= max_entries {
            return Err(IngestError::LimitExceeded {
                limit: "max_entries",
                limit_value: max_entries,
                actual: max_entries + 1,
                subject: "archive",
            });
        }
        let name = text(entry.path.as_bytes())?;
        let (kind, link_name) = match &entry.kind {
            EntryKind::File { extents: None, .. } => (ArchiveEntryKind::File, String::new()),
            EntryKind::Directory => (ArchiveEntryKind::Directory, String::new()),
            EntryKind::Symlink { target } => (ArchiveEntryKind::Symlink, text(target)?),
            EntryKind::Hardlink { target } => (ArchiveEntryKind::Hardlink, text(target.as_bytes())?),
            EntryKind::File { .. }
            | EntryKind::CharDevice { .. }
            | EntryKind::BlockDevice { .. }
            | EntryKind::Fifo
            | EntryKind::Whiteout
            | EntryKind::Opaque => (ArchiveEntryKind::Other, String::new()),
        };
        let (size_bytes, offset_bytes) = (entry.data_size_bytes, entry.data_offset_bytes);
        entries.push(ArchiveEntry { name, kind, size_bytes, offset_bytes, link_name });
    }
    Ok(entries)
}

fn text(bytes: &[u8]) -> Result<String, IngestError> {
    std::str::from_utf8(bytes).map(str::to_owned).map_err(|_| IngestError::ArchiveInvalid {
        entry: String::from_utf8_lossy(bytes).chars().flat_map(char::escape_default).take(160).collect(),
        rule: "a name in an image archive is UTF-8".to_owned(),
    })
}

/// A fault of the tar, told as one of an archive and not of a layer.
fn archive_error(error: LayerError) -> IngestError {
    match error {
        LayerError::Rejected { entry, rule, .. } => {
            IngestError::ArchiveInvalid { entry, rule: rule.to_string() }
        }
        LayerError::Corrupt { detail, .. } => {
            IngestError::ArchiveInvalid { entry: String::new(), rule: detail }
        }
        error => error.into(),
    }
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsFd;

    use errors::Catalogued;
    use flate2::write::GzEncoder;

    use super::*;

    #[test]
    fn an_archive_that_expands_too_far_meets_the_ratio_of_layers_beyond_the_floor() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("archive");
        let bombs = [gzip(&vec![0; 4_000_000]), zstd::encode_all(&vec![0; 4_000_000][..], 1).unwrap()];
        for bomb in bombs {
            std::fs::write(&path, bomb).unwrap();
            let file = File::open(&path).unwrap();
            let within = |expansion_floor_bytes| {
                let limits = Limits { expansion_floor_bytes, ..Limits::default() };
                decompress_within(file.as_fd(), u64::MAX, &limits, &CancelToken::new())
            };
            assert!(within(4_000_000).unwrap().is_some());
            let error = within(3_000_000).unwrap_err();
            let metadata = error.metadata();
            assert_eq!((error.reason(), metadata[0].1.as_str()), ("LIMIT_EXCEEDED", "expansion_ratio"));
            assert_eq!(metadata[1].1, layer::limits::EXPANSION_RATIO_MAX.to_string());
        }
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    fn gzip(data: &[u8]) -> Vec<u8> {
        let mut encoder = GzEncoder::new(Vec::new(), flate2::Compression::new(6));
        encoder.write_all(data).unwrap();
        encoder.finish().unwrap()
    }
}
