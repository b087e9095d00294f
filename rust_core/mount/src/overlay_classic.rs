//! An overlay by mount(2), for kernels that cannot append lower directories one by one.

use std::ffi::CString;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::Path;

use rustix::fs::{open, Mode, OFlags};
use rustix::mount::{mount, MountFlags};
use rustix::process::fchdir;

use crate::overlay::open_directory;
use crate::plan::FIXED_OPTIONS;
use crate::{MountError, OverlayPlan};

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
    let lowers = plan.lower_dirs().iter().map(|path| open_directory(path)).collect::<Result<Vec<_>, _>>()?;
    let upper = open_directory(plan.upper_dir())?;
    let work = open_directory(plan.work_dir())?;
    let target_fd = open_directory(target)?;

    let mut options = String::from("lowerdir=");
    for (index, lower) in lowers.iter().enumerate() {
        if index > 0 {
            options.push(':');
        }
        options.push_str(&lower.as_raw_fd().to_string());
    }
    options.push_str(&format!(",upperdir={},workdir={}", upper.as_raw_fd(), work.as_raw_fd()));
    for (key, value) in FIXED_OPTIONS {
        options.push_str(&format!(",{key}={value}"));
    }
    if plan.is_volatile() {
        options.push_str(",volatile");
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
    let made = mount("overlay", target_fd.as_raw_fd().to_string(), "overlay", MountFlags::empty(), &*options);
    let restored = fchdir(&before);
    made.map_err(|errno| MountError::failed("mount", target, errno))?;
    restored.map_err(|errno| MountError::failed("fchdir", ".", errno))?;
    open(target, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
        .map_err(|errno| MountError::failed("open", target, errno))
}
