//! Reading and writing control files below a directory descriptor.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use errors::IoError;
use rustix::fs::{openat, Mode, OFlags};
use rustix::io::Errno;

use crate::CgroupError;

/// The most that is read of one control file; `cgroup.procs` of 100,000 processes fits.
pub const MAX_CONTROL_FILE_BYTES: usize = 1 << 20;

/// Writes `value` at once to `name` below `directory`, which must exist.
pub(crate) fn write(directory: BorrowedFd<'_>, name: &Path, value: &str) -> Result<(), Errno> {
    let file = openat(directory, name, OFlags::WRONLY | OFlags::CLOEXEC, Mode::empty())?;
    write_open(file.as_fd(), value)
}

/// Writes `value` at once to an open control file.
pub(crate) fn write_open(file: BorrowedFd<'_>, value: &str) -> Result<(), Errno> {
    loop {
        match rustix::io::write(file, value.as_bytes()) {
            Err(Errno::INTR) => {}
            answer => return answer.map(|_| ()),
        }
    }
}

/// The whole of `name` below `directory`, up to [`MAX_CONTROL_FILE_BYTES`].
pub(crate) fn read(directory: BorrowedFd<'_>, name: &Path) -> Result<String, Errno> {
    let file = openat(directory, name, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())?;
    let mut content = Vec::new();
    let mut buffer = [0_u8; 4096];
    while content.len() < MAX_CONTROL_FILE_BYTES {
        match rustix::io::read(&file, &mut buffer) {
            Ok(0) => break,
            Ok(count) => content.extend_from_slice(&buffer[..count]),
            Err(Errno::INTR) => {}
            Err(errno) => return Err(errno),
        }
    }
    Ok(String::from_utf8_lossy(&content).into_owned())
}

/// The whole of a control file that the kernel writes in one go, by one read(2) where it has less than 8 KiB: a read that
/// comes back short has reached the end. Of files of many records that is not so.
///
/// Source: seq_file.rst, `single_open`; fs/seq_file.c, `seq_read_iter`.
pub(crate) fn read_single(directory: BorrowedFd<'_>, name: &str) -> Result<String, Errno> {
    let file = openat(directory, name, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())?;
    let mut buffer = [0_u8; 8192];
    loop {
        match rustix::io::read(&file, &mut buffer) {
            Ok(count) if count < buffer.len() => {
                return Ok(String::from_utf8_lossy(&buffer[..count]).into_owned());
            }
            Ok(_) => return read(directory, Path::new(name)),
            Err(Errno::INTR) => {}
            Err(errno) => return Err(errno),
        }
    }
}

/// An O_PATH descriptor of a directory.
pub(crate) fn directory(path: &Path) -> Result<OwnedFd, Errno> {
    rustix::fs::open(path, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
}

/// The value of `key` in a file of `key value` lines.
pub(crate) fn value_of(text: &str, key: &str) -> Option<u64> {
    text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(' ')?.trim().parse().ok())
}

pub(crate) fn io(operation: &'static str, path: &Path, errno: Errno) -> CgroupError {
    CgroupError::Io(IoError::new(operation, path, errno.raw_os_error()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_of_any_size_is_read_whole() {
        let temp = std::env::temp_dir().join(format!("fluyt-cgroup-files-{}", std::process::id()));
        std::fs::create_dir_all(&temp).unwrap();
        let folder = directory(&temp).unwrap();
        for size in [0, 1, 8191, 8192, 8193, 100_000] {
            let text = "0123456789".repeat(size / 10 + 1)[..size].to_owned();
            std::fs::write(temp.join("file"), &text).unwrap();
            assert_eq!(read_single(folder.as_fd(), "file").unwrap(), text, "{size}");
        }
        assert_eq!(read_single(folder.as_fd(), "absent").unwrap_err(), Errno::NOENT);
        std::fs::remove_dir_all(&temp).unwrap();
    }
}
