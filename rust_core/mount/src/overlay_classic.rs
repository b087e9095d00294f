//! An overlay by mount(2), for kernels that cannot append lower directories one by one (before 6.8).

use std::ffi::CString;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{open, Mode, OFlags};
use rustix::mount::{mount, MountFlags};
use rustix::process::fchdir;

use crate::overlay::{check_image, open_directory};
use crate::plan::FIXED_OPTIONS;
use crate::private::in_private_mounts;
use crate::{bind_path_detached, MountError, OverlayPlan};

/// The most bytes that mount(2) reads as options: one page, with its end.
///
/// Source: copy_mount_options() in fs/namespace.c.
const MAX_OPTION_BYTES: usize = 4095;

/// The overlay is mounted on `target`, which every process of the calling mount namespace sees: call it only in a
/// private one. Returns its root directory.
///
/// The options of mount(2) end at one page, which 120 long paths overflow. So the directories are opened, and the
/// options name them relative to `/proc/self/fd`: `lowerdir=12:13:14`. 500 layers fit. This also makes escaping
/// needless, whatever stands in a path. The working directory is changed and restored; needs /proc and up to 502
/// free descriptors. Blocking.
///
/// # Errors
/// [`MountError::Failed`]; the kernel's reason is only in its own log.
pub fn overlay_classic(plan: &OverlayPlan, target: &Path) -> Result<OwnedFd, MountError> {
    let writable =
        Writable { upper: plan.upper_dir(), work: plan.work_dir(), is_volatile: plan.is_volatile() };
    mount_over(plan.lower_dirs(), Some(writable), plan.label(), target)?;
    open(target, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
        .map_err(|errno| MountError::failed("open", target, errno))
}

/// As [`crate::overlay_detached`], by mount(2): nobody sees the mount before it is a detached one. It is made by a thread
/// that is alone in a mount namespace and has ended when this answers. Blocking (a millisecond, and more the more mounts
/// the host has).
///
/// # Errors
/// As [`overlay_classic`]; EPERM without CAP_SYS_ADMIN.
pub fn overlay_classic_detached(plan: &OverlayPlan) -> Result<OwnedFd, MountError> {
    let writable =
        Writable { upper: plan.upper_dir(), work: plan.work_dir(), is_volatile: plan.is_volatile() };
    detached(plan.lower_dirs(), Some(writable), plan.label(), plan.upper_dir())
}

/// As [`crate::image_labelled`], in the way of [`overlay_classic_detached`].
///
/// # Errors
/// As [`crate::image_labelled`] and [`overlay_classic_detached`].
pub fn image_classic_detached(lower_dirs: &[PathBuf], label: &str) -> Result<OwnedFd, MountError> {
    let first = check_image(lower_dirs)?;
    detached(lower_dirs, None, label, &first)
}

/// Where an overlay is written to.
#[derive(Clone, Copy)]
struct Writable<'plan> {
    upper: &'plan Path,
    work: &'plan Path,
    is_volatile: bool,
}

/// The overlay, made over `place`, one of its own directories, where only the thread that makes it can see that.
fn detached(
    lower_dirs: &[PathBuf],
    writable: Option<Writable<'_>>,
    label: &str,
    place: &Path,
) -> Result<OwnedFd, MountError> {
    in_private_mounts(place, || {
        // The directories are opened in there: an overlay takes only what lies in its maker's mount namespace.
        mount_over(lower_dirs, writable, label, place)?;
        bind_path_detached(place, false)
    })
}

fn mount_over(
    lower_dirs: &[PathBuf],
    writable: Option<Writable<'_>>,
    label: &str,
    target: &Path,
) -> Result<(), MountError> {
    let lowers = lower_dirs.iter().map(|path| open_directory(path)).collect::<Result<Vec<_>, _>>()?;
    let opened = match writable {
        Some(writable) => Some((open_directory(writable.upper)?, open_directory(writable.work)?)),
        None => None,
    };
    let target_fd = open_directory(target)?;

    let mut options = String::from("lowerdir=");
    for (index, lower) in lowers.iter().enumerate() {
        if index > 0 {
            options.push(':');
        }
        options.push_str(&lower.as_raw_fd().to_string());
    }
    if let Some((upper, work)) = &opened {
        options.push_str(&format!(",upperdir={},workdir={}", upper.as_raw_fd(), work.as_raw_fd()));
    }
    for (key, value) in FIXED_OPTIONS {
        options.push_str(&format!(",{key}={value}"));
    }
    if writable.is_some_and(|writable| writable.is_volatile) {
        options.push_str(",volatile");
    }
    if !label.is_empty() {
        // In quotes, since a level has commas. Source: selinux_sb_eat_lsm_opts().
        options.push_str(&format!(",context=\"{label}\""));
    }
    if options.len() > MAX_OPTION_BYTES {
        return Err(MountError::Failed {
            operation: "mount",
            path: target.to_path_buf(),
            errno: libc::E2BIG,
            message: format!("{} bytes of options exceed MAX_OPTION_BYTES {MAX_OPTION_BYTES}", options.len()),
        });
    }
    let options = CString::new(options).unwrap_or_default();

    let before = open_directory(Path::new("."))?;
    rustix::process::chdir("/proc/self/fd")
        .map_err(|errno| MountError::failed("chdir", "/proc/self/fd", errno))?;
    let flags = if opened.is_some() { MountFlags::empty() } else { MountFlags::RDONLY };
    let made = mount("overlay", target_fd.as_raw_fd().to_string(), "overlay", flags, &*options);
    let restored = fchdir(&before);
    made.map_err(|errno| MountError::failed("mount", target, errno))?;
    restored.map_err(|errno| MountError::failed("fchdir", ".", errno))
}
