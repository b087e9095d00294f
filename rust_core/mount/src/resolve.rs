//! Targets of mounts: found, or made, beneath a root by descriptor, whatever links stand in the way.

use std::ffi::OsStr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path, PathBuf};

use rustix::fs::{fchmod, fstat, mkdirat, openat, openat2, readlinkat, FileType, Mode, OFlags, ResolveFlags};
use rustix::io::Errno;

use crate::{MountError, Want};

/// How often openat2 is tried again when a rename elsewhere makes it answer EAGAIN.
///
/// Source: openat2(2), RESOLVE_IN_ROOT: the caller may retry.
const MAX_RESOLVE_ATTEMPTS: u32 = 128;

/// How many dangling links are followed while a target is made; as many as the kernel follows (path_resolution(7)).
const MAX_DANGLING_LINKS: u32 = 40;

/// Mode of a directory made for a target.
const NEW_DIRECTORY_MODE: Mode = Mode::from_raw_mode(0o755);
/// Mode of a file made for a target: nobody sees it, since the mount covers it.
const NEW_FILE_MODE: Mode = Mode::from_raw_mode(0o644);

const IN_ROOT: ResolveFlags = ResolveFlags::IN_ROOT.union(ResolveFlags::NO_MAGICLINKS);

/// An O_PATH descriptor of `path` inside `root`: absolute links and `..` stay inside, links of procfs that lead
/// elsewhere are refused. It is of the kind `want`.
///
/// With `create`, what is missing is made: directories 0755, a file for [`Want::File`]; also behind a link whose
/// target does not exist, at the place inside the root that it names. Without it a missing path is ENOENT.
///
/// # Errors
/// [`MountError::TargetMismatch`] if something of the other kind stands there; [`MountError::Failed`] as openat2(2):
/// ELOOP for a link of procfs, ENOENT, ENAMETOOLONG.
///
/// Source: openat2(2); CVE-2021-30465, CVE-2024-45310.
pub fn resolve_in_root(
    root: BorrowedFd<'_>,
    path: &Path,
    want: Want,
    create: bool,
) -> Result<OwnedFd, MountError> {
    let target = match open_path(root, path, IN_ROOT) {
        Ok(target) => target,
        Err(Errno::NOENT) if create => make(root, path, want)?,
        Err(errno) => return Err(MountError::failed("openat2", path, errno)),
    };
    check_kind(target.as_fd(), path, want)?;
    Ok(target)
}

/// As [`resolve_in_root`], but no component of `path` may be a link: for `/proc` and `/sys`, whose place an image
/// must not choose. Missing directories are made with `create`.
///
/// # Errors
/// [`MountError::TargetMismatch`] naming a symbolic link; otherwise as in [`resolve_in_root`].
///
/// Source: CVE-2019-19921.
pub fn resolve_exact(
    root: BorrowedFd<'_>,
    path: &Path,
    want: Want,
    create: bool,
) -> Result<OwnedFd, MountError> {
    let exact = IN_ROOT.union(ResolveFlags::NO_SYMLINKS);
    let refused = |errno| match errno {
        Errno::LOOP => {
            MountError::TargetMismatch { path: path.to_path_buf(), wanted: want, found: "a symbolic link" }
        }
        errno => MountError::failed("openat2", path, errno),
    };
    let target = match open_path(root, path, exact) {
        Ok(target) => target,
        Err(Errno::NOENT) if create => {
            make(root, path, want)?;
            open_path(root, path, exact).map_err(refused)?
        }
        Err(errno) => return Err(refused(errno)),
    };
    check_kind(target.as_fd(), path, want)?;
    Ok(target)
}

/// An O_PATH descriptor of what `path` names beneath `root`: a relative link is followed as long as it stays there, an
/// absolute one and `..` that lead out are refused, whoever exchanges links and directories meanwhile.
///
/// # Errors
/// [`MountError::Failed`] as openat2(2): ENOENT, EXDEV for a path that leaves `root`, ELOOP.
///
/// Source: openat2(2), RESOLVE_BENEATH; CVE-2024-23651.
pub fn resolve_beneath(root: BorrowedFd<'_>, path: &Path) -> Result<OwnedFd, MountError> {
    let mut inside = ResolveFlags::BENEATH.union(ResolveFlags::NO_MAGICLINKS);
    if sys::weakened::lacks("sub-paths") {
        inside = ResolveFlags::empty();
    }
    open_path(root, path, inside).map_err(|errno| MountError::failed("openat2", path, errno))
}

/// The target if it is there, None if it or a parent of it is missing.
pub(crate) fn find(root: BorrowedFd<'_>, path: &Path) -> Result<Option<OwnedFd>, MountError> {
    match open_path(root, path, IN_ROOT) {
        Ok(target) => Ok(Some(target)),
        Err(Errno::NOENT | Errno::NOTDIR) => Ok(None),
        Err(errno) => Err(MountError::failed("openat2", path, errno)),
    }
}

fn open_path(root: BorrowedFd<'_>, path: &Path, resolve: ResolveFlags) -> Result<OwnedFd, Errno> {
    // openat2 takes no empty path; `/` is the root itself.
    let mut path = if path.as_os_str().is_empty() { Path::new("/") } else { path };
    let mut resolve = resolve;
    if sys::weakened::lacks("mount-targets") && resolve.contains(ResolveFlags::IN_ROOT) {
        path = path.strip_prefix("/").unwrap_or(path);
        path = if path.as_os_str().is_empty() { Path::new(".") } else { path };
        resolve = ResolveFlags::empty();
    }
    for _ in 0..MAX_RESOLVE_ATTEMPTS {
        match openat2(root, path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty(), resolve) {
            Err(Errno::AGAIN | Errno::INTR) => {}
            answer => return answer,
        }
    }
    Err(Errno::AGAIN)
}

fn check_kind(target: BorrowedFd<'_>, path: &Path, want: Want) -> Result<(), MountError> {
    let status = fstat(target).map_err(|errno| MountError::failed("fstat", path, errno))?;
    let found = match FileType::from_raw_mode(status.st_mode) {
        FileType::Directory => Want::Directory,
        _ => Want::File,
    };
    if found == want {
        return Ok(());
    }
    Err(MountError::TargetMismatch { path: path.to_path_buf(), wanted: want, found: found.name() })
}

/// Makes what is missing of `path` and opens it. Each parent is opened from the root again, so that `..` and links
/// mean what the kernel says they mean; only a name that does not exist is made.
fn make(root: BorrowedFd<'_>, path: &Path, want: Want) -> Result<OwnedFd, MountError> {
    let failed = |operation, errno| MountError::failed(operation, path, errno);
    let mut rest: Vec<Step> = steps(path);
    rest.reverse();
    let mut done = PathBuf::from("/");
    let mut link_count = 0;
    let mut here = open_path(root, &done, IN_ROOT).map_err(|errno| failed("openat2", errno))?;
    while let Some(step) = rest.pop() {
        let next = done.join(step.name());
        match open_path(root, &next, IN_ROOT) {
            Ok(found) => {
                here = found;
                done = next;
                continue;
            }
            Err(Errno::NOENT) => {}
            Err(errno) => return Err(failed("openat2", errno)),
        }
        let Step::Name(name) = &step else { return Err(failed("openat2", Errno::NOENT)) };
        let is_last = rest.is_empty();
        match make_one(here.as_fd(), name, if is_last { want } else { Want::Directory }) {
            Ok(made) => {
                here = made;
                done = next;
            }
            // The name exists and yet did not resolve: a link to nowhere. Go where it points, inside the root.
            Err((_, Errno::EXIST)) => {
                link_count += 1;
                if link_count > MAX_DANGLING_LINKS {
                    return Err(failed("openat2", Errno::LOOP));
                }
                let link = readlinkat(&here, name.as_os_str(), Vec::new())
                    .map_err(|errno| failed("readlinkat", errno))?;
                let link = Path::new(OsStr::from_bytes(link.as_bytes()));
                if link.is_absolute() {
                    done = PathBuf::from("/");
                }
                let mut onward = steps(link);
                onward.reverse();
                rest.append(&mut onward);
                here = open_path(root, &done, IN_ROOT).map_err(|errno| failed("openat2", errno))?;
            }
            Err((operation, errno)) => return Err(failed(operation, errno)),
        }
    }
    Ok(here)
}

enum Step {
    Up,
    Name(PathBuf),
}

impl Step {
    fn name(&self) -> &Path {
        match self {
            Self::Up => Path::new(".."),
            Self::Name(name) => name,
        }
    }
}

fn steps(path: &Path) -> Vec<Step> {
    path.components()
        .filter_map(|component| match component {
            Component::Normal(name) => Some(Step::Name(PathBuf::from(name))),
            Component::ParentDir => Some(Step::Up),
            Component::RootDir | Component::CurDir | Component::Prefix(_) => None,
        })
        .collect()
}

fn make_one(parent: BorrowedFd<'_>, name: &Path, want: Want) -> Result<OwnedFd, (&'static str, Errno)> {
    let opened = match want {
        Want::Directory => {
            mkdirat(parent, name, NEW_DIRECTORY_MODE).map_err(|errno| ("mkdirat", errno))?;
            let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            openat(parent, name, flags, Mode::empty())
        }
        Want::File => {
            let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            openat(parent, name, flags, NEW_FILE_MODE)
        }
    }
    .map_err(|errno| ("openat", errno))?;
    let mode = if want == Want::Directory { NEW_DIRECTORY_MODE } else { NEW_FILE_MODE };
    // The caller's umask may have taken bits away.
    fchmod(&opened, mode).map_err(|errno| ("fchmod", errno))?;
    Ok(opened)
}
