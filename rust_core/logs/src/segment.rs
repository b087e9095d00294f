//! The numbered files of a log: names, listing, opening.

use std::ffi::CStr;
use std::fmt::Write as _;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use errors::IoError;
use rustix::fs::{Mode, OFlags, RawDir};
use rustix::io::Errno;

/// Highest segment number; at 16 MiB a segment, 16 PiB of output.
pub const MAX_SEGMENT: u64 = 999_999_999;
/// Fewest digits in a segment's name.
const MIN_DIGITS: usize = 8;
const SUFFIX: &str = ".log";
const DIRENT_BUFFER_BYTES: usize = 4096;

/// A log's directory, opened once; its path serves error messages only.
#[derive(Debug)]
pub struct LogDir {
    fd: OwnedFd,
    path: Box<Path>,
}

impl LogDir {
    /// Opens the directory, which must exist.
    ///
    /// # Errors
    /// The open(2) error, with the path.
    pub fn open(path: &Path) -> Result<Self, IoError> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let fd = rustix::fs::open(path, flags, Mode::empty())
            .map_err(|errno| IoError::new("open", path, errno.raw_os_error()))?;
        Ok(Self { fd, path: path.into() })
    }

    /// The directory's path as it was given.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Wraps an errno with the name of a segment of this directory.
    pub(crate) fn error(&self, operation: &'static str, number: u64, errno: Errno) -> IoError {
        IoError::new(operation, self.path.join(name(number).as_str()), errno.raw_os_error())
    }

    /// Numbers of the segments that exist, ascending. Files with other names are passed over.
    ///
    /// # Errors
    /// The open(2) or getdents64(2) error.
    pub fn list(&self) -> Result<Vec<u64>, IoError> {
        let wrap = |operation| move |errno: Errno| IoError::new(operation, self.path(), errno.raw_os_error());
        // A second description: the position of a directory is shared by all users of one.
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let dir = rustix::fs::openat(&self.fd, c".", flags, Mode::empty()).map_err(wrap("open"))?;
        let mut buffer = Vec::with_capacity(DIRENT_BUFFER_BYTES);
        let mut entries = RawDir::new(dir, buffer.spare_capacity_mut());
        let mut numbers = Vec::new();
        while let Some(entry) = entries.next() {
            let entry = entry.map_err(wrap("getdents64"))?;
            numbers.extend(parse_name(entry.file_name()));
        }
        numbers.sort_unstable();
        Ok(numbers)
    }

    /// Opens a segment for reading; None if it is not there (any more).
    ///
    /// # Errors
    /// Any open(2) error but ENOENT.
    pub fn open_segment(&self, number: u64) -> Result<Option<OwnedFd>, IoError> {
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        match rustix::fs::openat(&self.fd, name(number).as_c_str(), flags, Mode::empty()) {
            Ok(file) => Ok(Some(file)),
            Err(Errno::NOENT) => Ok(None),
            Err(errno) => Err(self.error("open", number, errno)),
        }
    }

    /// Opens a segment for appending; `is_new` makes it, and fails where it exists.
    pub(crate) fn open_for_append(&self, number: u64, is_new: bool) -> Result<OwnedFd, IoError> {
        let mut flags = OFlags::RDWR | OFlags::APPEND | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        if is_new {
            flags |= OFlags::CREATE | OFlags::EXCL;
        }
        rustix::fs::openat(&self.fd, name(number).as_c_str(), flags, Mode::from_raw_mode(0o640))
            .map_err(|errno| self.error("open", number, errno))
    }

    /// Unlinks a segment; one that is gone already is no error.
    pub(crate) fn unlink(&self, number: u64) -> Result<(), IoError> {
        match rustix::fs::unlinkat(&self.fd, name(number).as_c_str(), rustix::fs::AtFlags::empty()) {
            Ok(()) | Err(Errno::NOENT) => Ok(()),
            Err(errno) => Err(self.error("unlink", number, errno)),
        }
    }

    /// Length of an open segment in bytes.
    pub(crate) fn size_of(&self, number: u64, file: impl AsFd) -> Result<u64, IoError> {
        let stat = rustix::fs::fstat(file).map_err(|errno| self.error("fstat", number, errno))?;
        Ok(u64::try_from(stat.st_size).unwrap_or(0))
    }

    /// Fills as much of `buffer` as the segment holds from `offset` on; returns how much.
    pub(crate) fn read_at(
        &self,
        number: u64,
        file: impl AsFd,
        buffer: &mut [u8],
        offset: u64,
    ) -> Result<usize, IoError> {
        let file = file.as_fd();
        let mut filled = 0;
        while filled < buffer.len() {
            match rustix::io::pread(file, &mut buffer[filled..], offset + filled as u64) {
                Ok(0) => break,
                Ok(count) => filled += count,
                Err(Errno::INTR) => {}
                Err(errno) => return Err(self.error("pread", number, errno)),
            }
        }
        Ok(filled)
    }
}

/// A segment's file name on the stack, with its NUL.
struct Name {
    bytes: [u8; 24],
    len: usize,
}

impl Name {
    fn as_str(&self) -> &str {
        std::str::from_utf8(&self.bytes[..self.len]).unwrap_or_default()
    }

    fn as_c_str(&self) -> &CStr {
        CStr::from_bytes_until_nul(&self.bytes).unwrap_or_default()
    }
}

impl std::fmt::Write for Name {
    fn write_str(&mut self, text: &str) -> std::fmt::Result {
        // One byte stays 0.
        let end = self.len + text.len();
        let room = self.bytes.len() - 1;
        self.bytes.get_mut(self.len..end.min(room)).ok_or(std::fmt::Error)?.copy_from_slice(text.as_bytes());
        self.len = end;
        Ok(())
    }
}

fn name(number: u64) -> Name {
    let mut name = Name { bytes: [0; 24], len: 0 };
    // At most 20 digits and 4 letters… a number above MAX_SEGMENT never gets here.
    let _ = write!(name, "{:0width$}{SUFFIX}", number.min(MAX_SEGMENT), width = MIN_DIGITS);
    name
}

fn parse_name(file_name: &CStr) -> Option<u64> {
    let digits = file_name.to_str().ok()?.strip_suffix(SUFFIX)?;
    if digits.len() < MIN_DIGITS || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    digits.parse().ok().filter(|number| (1..=MAX_SEGMENT).contains(number))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_has_eight_digits_or_more() {
        assert_eq!(name(1).as_str(), "00000001.log");
        assert_eq!(name(MAX_SEGMENT).as_str(), "999999999.log");
        assert_eq!(name(7).as_c_str(), c"00000007.log");
    }

    #[test]
    fn only_segment_names_are_segments() {
        assert_eq!(parse_name(c"00000012.log"), Some(12));
        for other in [c"0000012.log", c"00000012.log.gz", c"00000000.log", c"0000001x.log", c"+0000001.log"] {
            assert_eq!(parse_name(other), None, "{other:?}");
        }
    }

    #[test]
    fn a_listing_is_sorted_and_passes_over_other_files() {
        let temp = tempfile::tempdir().unwrap();
        for file in ["00000010.log", "00000002.log", "notes", "x.log"] {
            std::fs::write(temp.path().join(file), b"").unwrap();
        }
        assert_eq!(LogDir::open(temp.path()).unwrap().list().unwrap(), [2, 10]);
    }
}
