//! Small trees that the daemon makes for itself, in one call each: one call is one wait for the interpreter's lock.

use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use errors::IoError;
use rustix::fs::{self, AtFlags, Gid, Mode, OFlags, Uid};
use rustix::io::Errno;

/// How much is asked of a file at first, and twice as much each time that there may be more.
const FIRST_READ_BYTES: usize = 4096;

/// Names directly in a tree with their permission bits.
pub type Names<'a> = &'a [(&'a str, u32)];

fn io<'p>(operation: &'static str, path: &'p Path) -> impl Fn(Errno) -> IoError + 'p {
    move |errno| IoError::new(operation, path, errno.raw_os_error())
}

fn open_directory(path: &Path) -> Result<OwnedFd, IoError> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    fs::open(path, flags, Mode::empty()).map_err(io("open", path))
}

/// The directory `path`, which was absent, holds `directories` and `files`, all empty, with exactly these permissions
/// whatever the umask is. Part of it may stand after a failure. Blocking, not durable.
///
/// # Errors
/// [`IoError`] naming the call and the path: EEXIST where `path` or a name stands already.
pub fn make_tree(path: &Path, mode: u32, directories: Names<'_>, files: Names<'_>) -> Result<(), IoError> {
    let wanted = Mode::from_raw_mode(mode);
    fs::mkdir(path, wanted).map_err(io("mkdir", path))?;
    let here = open_directory(path)?;
    // A change of mode is a transaction of the file system, which the umask rarely makes necessary.
    if !has_mode(&fs::fstat(&here).map_err(io("fstat", path))?, wanted) {
        fs::fchmod(&here, wanted).map_err(io("fchmod", path))?;
    }
    for (name, mode) in directories {
        let (path, wanted) = (path.join(name), Mode::from_raw_mode(*mode));
        fs::mkdirat(&here, *name, wanted).map_err(io("mkdirat", &path))?;
        let made = fs::statat(&here, *name, AtFlags::SYMLINK_NOFOLLOW).map_err(io("fstatat", &path))?;
        if !has_mode(&made, wanted) {
            fs::chmodat(&here, *name, wanted, AtFlags::empty()).map_err(io("fchmodat", &path))?;
        }
    }
    for (name, mode) in files {
        let (path, wanted) = (path.join(name), Mode::from_raw_mode(*mode));
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
        let file = fs::openat(&here, *name, flags, wanted).map_err(io("openat", &path))?;
        if !has_mode(&fs::fstat(&file).map_err(io("fstat", &path))?, wanted) {
            fs::fchmod(&file, wanted).map_err(io("fchmod", &path))?;
        }
    }
    Ok(())
}

fn has_mode(status: &fs::Stat, wanted: Mode) -> bool {
    Mode::from_raw_mode(status.st_mode) == wanted
}

/// Each file of `files`, which are there directly in `directory`, has exactly this content; one that has it already is
/// not written. Written in place, since they may be mounted elsewhere, and not cut to nothing first, after which ext4
/// would write them out as they are closed (auto_da_alloc). Links are not followed. Blocking, not durable.
///
/// # Errors
/// [`IoError`] naming the call and the path; the files before it are written.
pub fn write_files(directory: &Path, files: &[(&str, &[u8])]) -> Result<(), IoError> {
    let here = open_directory(directory)?;
    for (name, content) in files {
        write_file(here.as_fd(), name, content, &directory.join(name))?;
    }
    Ok(())
}

fn write_file(
    directory: std::os::fd::BorrowedFd<'_>,
    name: &str,
    content: &[u8],
    path: &Path,
) -> Result<(), IoError> {
    let flags = OFlags::RDWR | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let file = fs::openat(directory, name, flags, Mode::empty()).map_err(io("openat", path))?;
    let size_bytes = content.len() as u64;
    let before_bytes =
        u64::try_from(fs::fstat(&file).map_err(io("fstat", path))?.st_size).unwrap_or(u64::MAX);
    if before_bytes == size_bytes {
        let mut found = vec![0; content.len()];
        let read = pread(&file, &mut found, 0).map_err(io("pread", path))?;
        if found[..read] == *content {
            return Ok(());
        }
    }
    let mut at = 0;
    while at < content.len() {
        match rustix::io::pwrite(&file, &content[at..], at as u64) {
            Ok(written) => at += written,
            Err(Errno::INTR) => {}
            Err(errno) => return Err(io("pwrite", path)(errno)),
        }
    }
    if before_bytes > size_bytes {
        fs::ftruncate(&file, size_bytes).map_err(io("ftruncate", path))?;
    }
    Ok(())
}

/// What stands in `file` from a place on: less than the buffer holds if it ends before.
fn pread(file: &OwnedFd, buffer: &mut [u8], at: usize) -> Result<usize, Errno> {
    let mut filled = 0;
    while filled < buffer.len() {
        match rustix::io::pread(file, &mut buffer[filled..], (at + filled) as u64) {
            Ok(0) => break,
            Ok(read) => filled += read,
            Err(Errno::INTR) => {}
            Err(errno) => return Err(errno),
        }
    }
    Ok(filled)
}

/// The first `max_bytes` of each file; nothing of one that cannot be read. Blocking.
#[must_use]
pub fn read_beginnings(paths: &[&Path], max_bytes: usize) -> Vec<Vec<u8>> {
    let read = |path: &&Path| -> Result<Vec<u8>, Errno> {
        let file = fs::open(*path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())?;
        let mut content = vec![0; FIRST_READ_BYTES.min(max_bytes)];
        let mut filled = 0;
        loop {
            filled += pread(&file, &mut content[filled..], filled)?;
            if filled < content.len() || filled == max_bytes {
                content.truncate(filled);
                return Ok(content);
            }
            content.resize((2 * content.len()).min(max_bytes), 0);
        }
    };
    paths.iter().map(|path| read(path).unwrap_or_default()).collect()
}

/// The directory `path` has the owner, group and permissions of the directory `model`. Blocking, not durable.
///
/// # Errors
/// [`IoError`] naming the call and the path.
pub fn copy_permissions(model: &Path, path: &Path) -> Result<(), IoError> {
    let wanted = fs::stat(model).map_err(io("stat", model))?;
    let here = open_directory(path)?;
    let has = fs::fstat(&here).map_err(io("fstat", path))?;
    if (wanted.st_uid, wanted.st_gid) != (has.st_uid, has.st_gid) {
        let (owner, group) = (Uid::from_raw(wanted.st_uid), Gid::from_raw(wanted.st_gid));
        fs::fchown(&here, Some(owner), Some(group)).map_err(io("fchown", path))?;
    }
    let mode = Mode::from_raw_mode(wanted.st_mode);
    if mode != Mode::from_raw_mode(has.st_mode) {
        fs::fchmod(&here, mode).map_err(io("fchmod", path))?;
    }
    Ok(())
}
