//! Which places of a container nothing may be mounted on.

use std::os::fd::BorrowedFd;
use std::path::Path;

use rustix::fs::fstatfs;

use crate::mask::PROC_SUPER_MAGIC;
use crate::MountError;

/// Files of procfs that only tell, so that another file may stand in their place (lxcfs does that).
///
/// Source: runc `libcontainer/rootfs_linux.go`, checkProcMount.
const PROC_FILES: [&str; 11] = [
    "/proc/cpuinfo",
    "/proc/diskstats",
    "/proc/meminfo",
    "/proc/stat",
    "/proc/swaps",
    "/proc/uptime",
    "/proc/loadavg",
    "/proc/slabinfo",
    "/proc/net/dev",
    "/proc/sys/kernel/ns_last_pid",
    "/proc/sys/crypto/fips_enabled",
];

/// `target`, of [`crate::resolve_in_root`] for `path`, may be covered by `mount`. What confines a container is read and
/// written through its procfs, so that only another procfs may cover that, and only harmless files in it be replaced;
/// it is the place that counts, whatever links led there.
///
/// # Errors
/// [`MountError::TargetForbidden`].
///
/// Source: CVE-2019-16884, CVE-2019-19921.
pub fn check_target(target: BorrowedFd<'_>, path: &Path, mount: BorrowedFd<'_>) -> Result<(), MountError> {
    if !is_procfs(target, path)? || PROC_FILES.iter().any(|allowed| Path::new(allowed) == path) {
        return Ok(());
    }
    if path == Path::new("/proc") && is_procfs(mount, path)? {
        return Ok(());
    }
    Err(MountError::TargetForbidden { path: path.to_path_buf() })
}

fn is_procfs(file: BorrowedFd<'_>, path: &Path) -> Result<bool, MountError> {
    let found = fstatfs(file).map_err(|errno| MountError::failed("fstatfs", path, errno))?;
    Ok(found.f_type as u64 == PROC_SUPER_MAGIC)
}
