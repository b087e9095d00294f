//! Going through a tree of any depth with two open descriptors, following no link and crossing no mount.

use std::ffi::{CStr, CString};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use errors::IoError;
use rustix::fs::{fstat, openat2, statat, AtFlags, Dir, FileType, Mode, OFlags, ResolveFlags};
use rustix::io::Errno;

/// How often openat2 is tried again when a rename elsewhere makes it answer EAGAIN.
const MAX_OPEN_ATTEMPTS: u32 = 128;

/// Whether to go on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Step {
    Go,
    Stop,
}

/// An entry that is met: its directory, its name there, and its kind.
pub(crate) struct Entry<'a> {
    pub(crate) directory: BorrowedFd<'a>,
    pub(crate) name: &'a CStr,
    pub(crate) is_directory: bool,
}

/// What is done with a tree.
pub(crate) trait Visitor {
    /// Called for each entry, before what is below it.
    fn entry(&mut self, entry: &Entry<'_>) -> Result<Step, (&'static str, Errno)>;
    /// Called for a directory after everything below it.
    fn left(&mut self, parent: BorrowedFd<'_>, name: &CStr) -> Result<(), (&'static str, Errno)>;
    /// Called for a directory that another file system is mounted on, which is not entered.
    fn mount_point(&mut self) -> Result<(), (&'static str, Errno)>;
}

struct Frame {
    name: CString,
    identity: (u64, u64),
    pending: Vec<CString>,
}

/// Visits everything below `root`, an open directory; `path` is what errors name it by. False if a visitor stopped it.
pub(crate) fn walk(root: OwnedFd, path: &Path, visitor: &mut impl Visitor) -> Result<bool, IoError> {
    let mut frames: Vec<Frame> = Vec::new();
    let mut here = root;
    let fail = |frames: &[Frame], name: Option<&CStr>, operation, errno: Errno| {
        let mut full: PathBuf = path.to_path_buf();
        for part in frames.iter().skip(1).map(|frame| frame.name.as_c_str()).chain(name) {
            full.push(std::ffi::OsStr::from_bytes(part.to_bytes()));
        }
        IoError::new(operation, full, errno.raw_os_error())
    };

    let mut entered: Option<CString> = Some(CString::default());
    loop {
        if let Some(name) = entered.take() {
            let identity =
                identity(here.as_fd()).map_err(|errno| fail(&frames, Some(&name), "fstat", errno))?;
            frames.push(Frame { name, identity, pending: Vec::new() });
            match list(here.as_fd(), visitor) {
                Ok(Some(pending)) => {
                    if let Some(frame) = frames.last_mut() {
                        frame.pending = pending;
                    }
                }
                Ok(None) => return Ok(false),
                Err((name, operation, errno)) => {
                    return Err(fail(&frames, name.as_deref(), operation, errno))
                }
            }
        }
        let Some(frame) = frames.last_mut() else { return Ok(true) };
        if let Some(name) = frame.pending.pop() {
            match open_below(here.as_fd(), &name) {
                Ok(child) => {
                    here = child;
                    entered = Some(name);
                }
                // It vanished, or became something else, which the visitor has met or will not miss.
                Err(Errno::NOENT) => {}
                Err(Errno::XDEV) => visitor
                    .mount_point()
                    .map_err(|(operation, errno)| fail(&frames, Some(&name), operation, errno))?,
                Err(errno) => return Err(fail(&frames, Some(&name), "openat2", errno)),
            }
            continue;
        }
        if frames.len() == 1 {
            return Ok(true);
        }
        let up = openat2(
            &here,
            c"..",
            OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC,
            Mode::empty(),
            ResolveFlags::NO_XDEV,
        )
        .map_err(|errno| fail(&frames, None, "openat2", errno))?;
        let expected = frames[frames.len() - 2].identity;
        let found = identity(up.as_fd()).map_err(|errno| fail(&frames, None, "fstat", errno))?;
        if found != expected {
            // Somebody moved the directory we are in: its parent is not ours any more.
            return Err(fail(&frames, None, "openat2", Errno::STALE));
        }
        here = up;
        if let Some(left) = frames.pop() {
            visitor
                .left(here.as_fd(), &left.name)
                .map_err(|(operation, errno)| fail(&frames, Some(&left.name), operation, errno))?;
        }
    }
}

type ListError = (Option<CString>, &'static str, Errno);

/// Visits the entries of one directory; its directories, or None if the visitor stopped.
fn list(directory: BorrowedFd<'_>, visitor: &mut impl Visitor) -> Result<Option<Vec<CString>>, ListError> {
    let mut pending = Vec::new();
    for entry in Dir::read_from(directory).map_err(|errno| (None, "openat", errno))? {
        let entry = entry.map_err(|errno| (None, "getdents64", errno))?;
        let name = entry.file_name();
        if name == c"." || name == c".." {
            continue;
        }
        let is_directory = match entry.file_type() {
            FileType::Unknown => match statat(directory, name, AtFlags::SYMLINK_NOFOLLOW) {
                Ok(status) => FileType::from_raw_mode(status.st_mode) == FileType::Directory,
                Err(Errno::NOENT) => continue,
                Err(errno) => return Err((Some(name.to_owned()), "statat", errno)),
            },
            kind => kind == FileType::Directory,
        };
        let met = Entry { directory, name, is_directory };
        match visitor.entry(&met) {
            Ok(Step::Go) => {}
            Ok(Step::Stop) => return Ok(None),
            Err((operation, errno)) => return Err((Some(name.to_owned()), operation, errno)),
        }
        if is_directory {
            pending.push(name.to_owned());
        }
    }
    Ok(Some(pending))
}

/// Opens a directory that is `name` itself: no link, no mount point (EXDEV).
pub(crate) fn open_below(directory: BorrowedFd<'_>, name: &CStr) -> Result<OwnedFd, Errno> {
    let resolve = ResolveFlags::NO_XDEV | ResolveFlags::NO_SYMLINKS | ResolveFlags::BENEATH;
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    for _ in 0..MAX_OPEN_ATTEMPTS {
        match openat2(directory, name, flags, Mode::empty(), resolve) {
            Err(Errno::AGAIN | Errno::INTR) => {}
            answer => return answer,
        }
    }
    Err(Errno::AGAIN)
}

fn identity(directory: BorrowedFd<'_>) -> Result<(u64, u64), Errno> {
    let status = fstat(directory)?;
    Ok((status.st_dev, status.st_ino))
}
