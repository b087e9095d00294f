//! An overlay by the new mount API, attached nowhere.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{open, Mode, OFlags};
use rustix::io::Errno;

use crate::fs_context::FsContext;
use crate::overlay_classic::{image_classic_detached, overlay_classic_detached};
use crate::plan::{fits_string_value, FIXED_OPTIONS, MAX_LOWER_DIRS};
use crate::{Attributes, MountError, OverlayPlan};

/// What a kernel before 6.8 lacks.
const FEATURE: &str = "overlay_lowerdir_append";

/// A detached mount of the overlay, writable, that nothing can see until it is attached. Closing it unmounts it.
/// Blocking (0.2 ms for 5 layers, 4 ms for 500).
///
/// # Errors
/// [`MountError::FeatureMissing`] on a kernel without `lowerdir+` (before 6.8): use [`crate::overlay_classic`]
/// there. [`MountError::Failed`] with the kernel's message for anything else: ENOENT for a missing directory, EBUSY
/// for an upper in use, EINVAL for an upper that cannot hold one.
///
/// Source: Documentation/filesystems/overlayfs.rst, "Multiple lower layers".
pub fn overlay_detached(plan: &OverlayPlan) -> Result<OwnedFd, MountError> {
    let context = over(&by_path(plan.lower_dirs()))?;
    let writable = [Directory::Path(plan.upper_dir()), Directory::Path(plan.work_dir())];
    finish(&context, &writable, plan)?;
    context.mount(Attributes::default(), plan.upper_dir())
}

/// As [`overlay_detached`], on every kernel: before 6.8 by [`overlay_classic_detached`].
///
/// # Errors
/// As in both.
pub fn overlay_detached_anywhere(plan: &OverlayPlan) -> Result<OwnedFd, MountError> {
    match overlay_detached(plan) {
        Err(MountError::FeatureMissing { feature: FEATURE, .. }) => overlay_classic_detached(plan),
        made => made,
    }
}

/// A detached, read-only mount of these directories over each other, top-most first, at least two: an image as it is,
/// with nothing of a container in it. Before Linux 6.8 by [`image_classic_detached`].
///
/// # Errors
/// As in [`overlay_detached_anywhere`]; [`MountError::TooManyLayers`]; [`MountError::PlanInvalid`] for fewer than two.
pub fn image_detached(lower_dirs: &[PathBuf]) -> Result<OwnedFd, MountError> {
    image_labelled(lower_dirs, "")
}

/// As [`image_detached`], with the label of [`OverlayPlan::labelled`].
///
/// # Errors
/// As in [`image_detached`]; EINVAL for a label that the host's policy does not have, and on a host without SELinux.
pub fn image_labelled(lower_dirs: &[PathBuf], label: &str) -> Result<OwnedFd, MountError> {
    let first = check_image(lower_dirs)?;
    match over(&by_path(lower_dirs)) {
        Err(MountError::FeatureMissing { feature: FEATURE, .. }) => image_classic_detached(lower_dirs, label),
        context => {
            let context = context?;
            context.label(label)?;
            context.mount(Attributes::default().read_only(), &first)
        }
    }
}

/// A directory of an overlay: by its path, or opened already, with the path that errors name.
pub(crate) enum Directory<'dir> {
    Path(&'dir Path),
    Open(&'dir Path, &'dir OwnedFd),
    Mount(&'dir Path, OwnedFd),
}

impl Directory<'_> {
    /// The mount, if it is one.
    pub(crate) fn into_mount(self) -> Option<OwnedFd> {
        match self {
            Self::Mount(_, mount) => Some(mount),
            Self::Path(_) | Self::Open(..) => None,
        }
    }
}

fn by_path(paths: &[PathBuf]) -> Vec<Directory<'_>> {
    paths.iter().map(|path| Directory::Path(path)).collect()
}

/// The first of them, if they can be an image.
pub(crate) fn check_image(lower_dirs: &[PathBuf]) -> Result<PathBuf, MountError> {
    let first = lower_dirs.first().cloned().unwrap_or_default();
    if lower_dirs.len() > MAX_LOWER_DIRS {
        return Err(MountError::TooManyLayers {
            actual: lower_dirs.len(),
            limit: MAX_LOWER_DIRS,
            path: first,
        });
    }
    if lower_dirs.len() < 2 {
        // Source: Documentation/filesystems/overlayfs.rst, "Multiple lower layers": without an upper one.
        return Err(MountError::PlanInvalid {
            path: first,
            rule: "there are at least two lower directories",
        });
    }
    Ok(first)
}

/// The overlay has a writable layer, its work directory, and the label of the plan.
pub(crate) fn finish(
    context: &FsContext,
    [upper, work]: &[Directory<'_>; 2],
    plan: &OverlayPlan,
) -> Result<(), MountError> {
    add_directory(context, "upperdir", upper)?;
    add_directory(context, "workdir", work)?;
    if plan.is_volatile() {
        context.flag("volatile")?;
    }
    context.label(plan.label())
}

/// An overlay being configured, with its lower directories and the options that every overlay of ours has.
pub(crate) fn over(lower_dirs: &[Directory<'_>]) -> Result<FsContext, MountError> {
    let context = FsContext::open("overlay")?;
    // Before 6.5 an overlay that is given a key it does not know fails only when it is made, and the host's log tells.
    if context.takes_any_key() {
        return Err(MountError::FeatureMissing {
            operation: "fsconfig",
            path: PathBuf::from("overlay"),
            errno: libc::EINVAL,
            feature: FEATURE,
        });
    }
    context.set("source", "overlay", Path::new("overlay"))?;
    for (index, lower) in lower_dirs.iter().enumerate() {
        add_directory(&context, "lowerdir+", lower).map_err(|error| match error {
            // "Unknown parameter" is EINVAL at the very first one; a bad directory has an errno of its own.
            MountError::Failed { operation, path, errno: libc::EINVAL, message }
                if index == 0 && message.contains("nknown parameter") =>
            {
                MountError::FeatureMissing { operation, path, errno: libc::EINVAL, feature: FEATURE }
            }
            other => other,
        })?;
    }
    for (key, value) in FIXED_OPTIONS {
        context.set(key, value, Path::new(key))?;
    }
    Ok(context)
}

fn add_directory(context: &FsContext, key: &str, directory: &Directory<'_>) -> Result<(), MountError> {
    match directory {
        Directory::Path(path) if fits_string_value(path) => context.set(key, *path, path),
        Directory::Path(path) => add_open(context, key, path, open_directory(path)?.as_fd()),
        Directory::Open(path, directory) => add_open(context, key, path, directory.as_fd()),
        Directory::Mount(path, directory) => add_open(context, key, path, directory.as_fd()),
    }
}

fn add_open(
    context: &FsContext,
    key: &str,
    path: &Path,
    directory: BorrowedFd<'_>,
) -> Result<(), MountError> {
    match context.raw_set_fd(key, directory.as_fd()) {
        // Descriptors are taken since 6.13; before that the kernel reads the same file through its link.
        Err(Errno::INVAL | Errno::BADF) => {
            let link = format!("/proc/self/fd/{}", directory.as_raw_fd());
            context.set(key, link, path)
        }
        answer => answer.map_err(|errno| context.error("fsconfig", path, errno)),
    }
}

pub(crate) fn open_directory(path: &Path) -> Result<OwnedFd, MountError> {
    open(path, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
        .map_err(|errno| MountError::failed("open", path, errno))
}
