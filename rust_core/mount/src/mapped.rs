//! Mounts that show owners shifted by the ids of a user namespace: nothing on disk is copied or changes its owner.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{openat, Mode, OFlags};
use rustix::io::Errno;

use crate::overlay::{finish, over, Directory};
use crate::plan::MAX_LOWER_DIRS;
use crate::{bind_path_detached, Attributes, MountError, OverlayPlan};

/// What a caller can do where owners cannot be shifted.
const WAY_OUT: &str = "only a container with the users of the host (--userns host) can have it";

/// A user namespace and what its id 0 is outside.
#[derive(Debug, Clone, Copy)]
pub struct IdMap<'fd> {
    /// The namespace, with both maps written.
    pub namespace: BorrowedFd<'fd>,
    /// The user and group that 0 inside is outside.
    pub first_id: u32,
}

/// The detached mount shows owners as `ids` shift them, with `recursive` also each mount below it. A file that is made
/// through it belongs on disk to who it belongs to inside.
///
/// # Errors
/// [`MountError::Failed`]: EINVAL for a file system that cannot do this, EPERM for a mount that is mapped already.
///
/// Source: mount_setattr(2), "ID-mapped mounts".
pub fn map_ids(
    mount: BorrowedFd<'_>,
    ids: IdMap<'_>,
    recursive: bool,
    subject: &Path,
) -> Result<(), MountError> {
    sys::mount_attr::map_ids(mount, ids.namespace, recursive).map_err(|errno| MountError::Failed {
        operation: "mount_setattr(MOUNT_ATTR_IDMAP)",
        path: subject.to_path_buf(),
        errno: errno.raw_os_error(),
        message: match errno {
            Errno::INVAL => format!("a file system there cannot show files with other owners; {WAY_OUT}"),
            Errno::PERM => format!("it shows files with other owners already; {WAY_OUT}"),
            _ => String::new(),
        },
    })
}

/// A mount over shifted layers.
#[derive(Debug)]
pub struct Mapped {
    /// It; detached.
    pub mount: OwnedFd,
    /// The shifted mounts that it was made of. Nothing needs them any more, but to close one waits until no processor of
    /// the host can look at it (0.05 to 1 ms): for who is in no hurry.
    pub spent: Vec<OwnedFd>,
}

/// As [`crate::overlay_detached`], with all layers shifted by `ids`, the writable one too: on disk its files belong to
/// whom they belong to inside. `upper_dir` and `work_dir` have the same parent. For a thread that is root with all its
/// rights; blocking (20 µs a layer more).
///
/// # Errors
/// As [`crate::overlay_detached`]; [`MountError::Failed`] with EINVAL for a layer on a file system that cannot be
/// shifted.
///
/// Source: Documentation/filesystems/overlayfs.rst, "Permission model": what overlay does to its layers, it does as who
/// mounted it, which must be somebody whom the shifted layers know.
pub fn overlay_mapped(plan: &OverlayPlan, ids: IdMap<'_>) -> Result<Mapped, MountError> {
    let upper_dir = plan.upper_dir();
    let parent = upper_dir.parent().filter(|parent| plan.work_dir().parent() == Some(*parent));
    let (Some(parent), Some(upper), Some(work)) =
        (parent, upper_dir.file_name(), plan.work_dir().file_name())
    else {
        let rule = "the writable layer and the work directory lie in one directory";
        return Err(MountError::PlanInvalid { path: upper_dir.to_path_buf(), rule });
    };
    let lowers = shifted(plan.lower_dirs(), ids)?;
    // Both must be reached through one mount.
    let parent = shift(parent, ids)?;
    let open = |name| {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        openat(&parent, name, flags, Mode::empty())
            .map_err(|errno| MountError::failed("openat", upper_dir, errno))
    };
    let (upper, work) = (open(upper)?, open(work)?);
    let mount = made_by(ids, upper_dir, || {
        let context = over(&lowers)?;
        let writable = [Directory::Open(upper_dir, &upper), Directory::Open(plan.work_dir(), &work)];
        finish(&context, &writable, plan)?;
        context.mount(Attributes::default(), upper_dir)
    })?;
    let spent = lowers.into_iter().filter_map(Directory::into_mount).chain([parent, upper, work]).collect();
    Ok(Mapped { mount, spent })
}

/// As [`crate::image_labelled`], with all layers shifted by `ids`.
///
/// # Errors
/// As in [`overlay_mapped`] and [`crate::image_labelled`].
pub fn image_mapped(lower_dirs: &[PathBuf], label: &str, ids: IdMap<'_>) -> Result<OwnedFd, MountError> {
    let first = crate::overlay::check_image(lower_dirs)?;
    let lowers = shifted(lower_dirs, ids)?;
    made_by(ids, &first, || {
        let context = over(&lowers)?;
        context.label(label)?;
        context.mount(Attributes::default().read_only(), &first)
    })
}

fn shifted<'path>(paths: &'path [PathBuf], ids: IdMap<'_>) -> Result<Vec<Directory<'path>>, MountError> {
    debug_assert!(paths.len() <= MAX_LOWER_DIRS);
    paths.iter().map(|path| Ok(Directory::Mount(path, shift(path, ids)?))).collect()
}

fn shift(path: &Path, ids: IdMap<'_>) -> Result<OwnedFd, MountError> {
    let mount = bind_path_detached(path, false)?;
    map_ids(mount.as_fd(), ids, false, path)?;
    Ok(mount)
}

/// A failure of the change of owner, or of the mount.
struct Failure(Result<MountError, Errno>);

impl From<Errno> for Failure {
    fn from(errno: Errno) -> Self {
        Self(Err(errno))
    }
}

fn made_by(
    ids: IdMap<'_>,
    subject: &Path,
    make: impl FnOnce() -> Result<OwnedFd, MountError>,
) -> Result<OwnedFd, MountError> {
    let made = sys::user_namespace::as_owner(ids.first_id, ids.first_id, || {
        make().map_err(|error| Failure(Ok(error)))
    });
    made.map_err(|failure| match failure.0 {
        Ok(error) => error,
        Err(errno) => MountError::failed("setfsuid", subject, errno),
    })
}
