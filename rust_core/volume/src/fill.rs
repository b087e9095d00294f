//! An empty volume takes on what an image has at the place where the volume is mounted.
//!
//! ```text
//! <volume>/_filling   being copied: worth nothing after a crash
//!          _filled    whole, being moved: the next `settle` goes on with it
//!          _data      what containers see
//! ```

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use errors::IoError;
use mount::{MountError, Want};
use rustix::fs::{fstat, AtFlags, FileType, Mode, OFlags, RenameFlags, ResolveFlags};
use rustix::io::Errno;
use sys::cancel::CancelToken;

use crate::attributes::Attributes;
use crate::copy::{copy_tree, Copied};
use crate::{tree, VolumeError};

const DATA: &[u8] = b"_data";
const FILLING: &[u8] = b"_filling";
const FILLED: &[u8] = b"_filled";

/// What became of a volume that was to be filled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Filled {
    /// It has data of its own, or the image has no directory there.
    Nothing,
    /// The image's content stands beside its data: [`settle`] puts it in place.
    Ready(Copied),
}

fn open_volume(path: &Path) -> Result<OwnedFd, IoError> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    rustix::fs::open(path, flags, Mode::empty())
        .map_err(|errno| IoError::new("open", path, errno.raw_os_error()))
}

/// What the image of `lower_dirs` (as for [`mount::image_detached`]) has at `target` stands, whole and on disk, in the
/// directory `_filled` of the volume in the directory `volume`, if its data is empty. `target` is looked up inside the
/// image, links and all (case Z06). Blocking.
///
/// # Errors
/// As [`copy_tree`], and [`VolumeError::Mount`].
pub fn fill_from_image(
    lower_dirs: &[PathBuf],
    target: &Path,
    volume: &Path,
    cancel: &CancelToken,
) -> Result<Filled, VolumeError> {
    let volume = open_volume(volume)?;
    let data = tree::open_dir(&volume, DATA).map_err(tree::io("openat2", DATA))?;
    if !tree::is_empty(data.as_fd()).map_err(tree::io("getdents64", DATA))? {
        return Ok(Filled::Nothing);
    }
    let image = mount::image_detached(lower_dirs)?;
    let place = match mount::resolve_in_root(image.as_fd(), target, Want::Directory, false) {
        Ok(place) => place,
        Err(MountError::TargetMismatch { .. }) => return Ok(Filled::Nothing),
        // Nothing is there, or a link that leads nowhere.
        Err(MountError::Failed { errno, .. }) if is_absent(errno) => return Ok(Filled::Nothing),
        Err(error) => return Err(error.into()),
    };
    let source =
        rustix::fs::openat(&place, ".", OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
            .map_err(tree::io("openat", b"."))?;
    for left in [FILLING, FILLED] {
        remove(volume.as_fd(), left)?;
    }
    rustix::fs::mkdirat(&volume, FILLING, Mode::RWXU).map_err(tree::io("mkdirat", FILLING))?;
    let filling = tree::open_dir(&volume, FILLING).map_err(tree::io("openat2", FILLING))?;
    let copied = copy_tree(source, filling.as_fd(), cancel)?;
    if copied.bytes > 0 {
        rustix::fs::syncfs(&volume).map_err(tree::io("syncfs", FILLING))?;
    }
    rustix::fs::renameat(&volume, FILLING, &volume, FILLED).map_err(tree::io("renameat", FILLED))?;
    Ok(Filled::Ready(copied))
}

fn is_absent(errno: i32) -> bool {
    [Errno::NOENT, Errno::NOTDIR, Errno::LOOP].iter().any(|one| one.raw_os_error() == errno)
}

/// What [`fill_from_image`] made ready is the volume's data, and nothing is left beside it; a name that has come into
/// being meanwhile stays as it is. True if there was something. Idempotent: a crash in it is made good by the next
/// call. Blocking (one rename an entry of the root).
///
/// # Errors
/// [`VolumeError::Io`].
pub fn settle(volume: &Path) -> Result<bool, VolumeError> {
    let volume = open_volume(volume)?;
    remove(volume.as_fd(), FILLING)?;
    let filled = match tree::open_dir(&volume, FILLED) {
        Err(Errno::NOENT) => return Ok(false),
        filled => filled.map_err(tree::io("openat2", FILLED))?,
    };
    let data = tree::open_dir(&volume, DATA).map_err(tree::io("openat2", DATA))?;
    let status = fstat(&filled).map_err(tree::io("fstat", FILLED))?;
    let attributes = Attributes::of(filled.as_fd(), &status).map_err(tree::io("listxattr", FILLED))?;
    // Before anything is moved: an entry of the root must never be reached with a wider mode than the image's.
    attributes.set(data.as_fd(), FileType::Directory, DATA)?;
    for name in tree::names(filled.as_fd()).map_err(tree::io("getdents64", FILLED))? {
        match rustix::fs::renameat_with(&filled, &name, &data, &name, RenameFlags::NOREPLACE) {
            Ok(()) | Err(Errno::EXIST | Errno::NOENT) => {}
            Err(errno) => return Err(tree::io("renameat2", name.to_bytes())(errno).into()),
        }
        sys::failpoint::hit("volume.fill.entry");
    }
    // The moves have changed its time.
    attributes.set(data.as_fd(), FileType::Directory, DATA)?;
    remove(volume.as_fd(), FILLED)?;
    Ok(true)
}

/// `name` with all below it is gone; nothing if it is absent.
fn remove(parent: BorrowedFd<'_>, name: &[u8]) -> Result<(), VolumeError> {
    let fail = |operation| tree::io(operation, name);
    let mut path: Vec<Vec<u8>> = vec![name.to_vec()];
    // Walked from the top again for each directory, so that two descriptors do for any depth.
    while !path.is_empty() {
        let (last, above) =
            path.split_last().map(|(last, above)| (last.clone(), above.join(&b'/'))).unwrap_or_default();
        let flags = OFlags::RDONLY | OFlags::DIRECTORY;
        let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_XDEV;
        let above = tree::open_beneath(parent, &above, flags, resolve).map_err(fail("openat2"))?;
        match rustix::fs::unlinkat(&above, last.as_slice(), AtFlags::REMOVEDIR) {
            Ok(()) | Err(Errno::NOENT) => {
                path.pop();
                continue;
            }
            Err(Errno::NOTEMPTY) => {}
            Err(errno) => return Err(fail("unlinkat")(errno).into()),
        }
        let here = tree::open_dir(&above, &last).map_err(fail("openat2"))?;
        let mut below = None;
        for entry in tree::names(here.as_fd()).map_err(fail("getdents64"))? {
            match rustix::fs::unlinkat(&here, &entry, AtFlags::empty()) {
                Ok(()) | Err(Errno::NOENT) => {}
                Err(Errno::ISDIR | Errno::PERM) => below = Some(entry),
                Err(errno) => return Err(fail("unlinkat")(errno).into()),
            }
        }
        if let Some(entry) = below {
            path.push(entry.into_bytes());
        }
    }
    Ok(())
}
