//! Paths of procfs and sysfs that a container must not read or write.

use std::ffi::OsStr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path};

use rustix::fs::{fstat, fstatfs, major, minor, open, FileType, Mode, OFlags};

use crate::resolve::find;
use crate::{attach, bind_detached, set_attributes, tmpfs_labelled, want_of, Attributes, MountError, Want};

/// PROC_SUPER_MAGIC of linux/magic.h.
pub(crate) const PROC_SUPER_MAGIC: u64 = 0x9fa0;
/// SYSFS_MAGIC of linux/magic.h.
const SYSFS_MAGIC: u64 = 0x6265_6572;

/// The host's null device, opened and checked to be char 1:3: the source of masks, never the container's own.
///
/// # Errors
/// [`MountError::NotNullDevice`] if something else stands at /dev/null.
///
/// Source: CVE-2025-31133.
pub fn open_null() -> Result<OwnedFd, MountError> {
    let path = Path::new("/dev/null");
    let null = open(path, OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty())
        .map_err(|errno| MountError::failed("open", path, errno))?;
    check_null(null.as_fd(), path)?;
    Ok(null)
}

fn check_null(null: BorrowedFd<'_>, path: &Path) -> Result<(), MountError> {
    let status = fstat(null).map_err(|errno| MountError::failed("fstat", path, errno))?;
    let is_null = FileType::from_raw_mode(status.st_mode) == FileType::CharacterDevice
        && (major(status.st_rdev), minor(status.st_rdev)) == (1, 3);
    if is_null {
        Ok(())
    } else {
        Err(MountError::NotNullDevice { path: path.to_path_buf() })
    }
}

/// Masks paths; one for a container, so that all masked directories share one empty tmpfs.
#[derive(Debug)]
pub struct Masker {
    null: OwnedFd,
    empty: Option<OwnedFd>,
    label: String,
}

impl Masker {
    /// A masker that covers files with `null` of [`open_null`], opened in the mount namespace in which it masks.
    ///
    /// # Errors
    /// [`MountError::NotNullDevice`].
    pub fn new(null: OwnedFd) -> Result<Self, MountError> {
        check_null(null.as_fd(), Path::new("/dev/null"))?;
        Ok(Self { null, empty: None, label: String::new() })
    }

    /// The same masker; what covers directories has this SELinux label, unless it is empty.
    #[must_use]
    pub fn labelled(mut self, label: &str) -> Self {
        label.clone_into(&mut self.label);
        self
    }

    /// `path` inside `root` reads as empty: a file is the null device, a directory an empty read-only tmpfs.
    /// False if there is no such path, which is no error.
    ///
    /// # Errors
    /// [`MountError::WrongFileSystem`] for a path below /proc that is not on procfs, or below /sys not on sysfs:
    /// somebody put another thing where the kernel's file should be.
    pub fn mask(&mut self, root: BorrowedFd<'_>, path: &Path) -> Result<bool, MountError> {
        let Some(target) = find(root, path)? else { return Ok(false) };
        check_file_system(target.as_fd(), path)?;
        match want_of(target.as_fd())? {
            Want::File => {
                let cover = bind_detached(self.null.as_fd(), false)?;
                attach(cover.as_fd(), target.as_fd(), path)?;
            }
            Want::Directory => {
                let cover = match &self.empty {
                    // Attached once, it can be copied, which spares a file system of its own.
                    Some(first) => bind_detached(first.as_fd(), false)?,
                    None => {
                        let flags = Attributes::HARDENED.read_only();
                        tmpfs_labelled("size=4k,nr_inodes=1,mode=755", flags, &self.label)?
                    }
                };
                attach(cover.as_fd(), target.as_fd(), path)?;
                self.empty.get_or_insert(cover);
            }
        }
        Ok(true)
    }
}

/// `path` inside `root`, with all that is mounted below it, cannot be written through; its other flags stay.
/// False if there is no such path, which is no error.
///
/// # Errors
/// [`MountError::WrongFileSystem`] as in [`Masker::mask`].
pub fn read_only_path(root: BorrowedFd<'_>, path: &Path) -> Result<bool, MountError> {
    let Some(target) = find(root, path)? else { return Ok(false) };
    check_file_system(target.as_fd(), path)?;
    let copy = bind_detached(target.as_fd(), true)?;
    set_attributes(copy.as_fd(), Attributes::default().read_only(), None, true)?;
    attach(copy.as_fd(), target.as_fd(), path)?;
    Ok(true)
}

fn check_file_system(target: BorrowedFd<'_>, path: &Path) -> Result<(), MountError> {
    let first = path.components().find_map(|component| match component {
        Component::Normal(name) => Some(name),
        _ => None,
    });
    let wanted = match first.map(OsStr::as_bytes) {
        Some(b"proc") => PROC_SUPER_MAGIC,
        Some(b"sys") => SYSFS_MAGIC,
        _ => return Ok(()),
    };
    let found = fstatfs(target).map_err(|errno| MountError::failed("fstatfs", path, errno))?.f_type as u64;
    if found == wanted {
        return Ok(());
    }
    Err(MountError::WrongFileSystem { path: path.to_path_buf(), wanted, found })
}
