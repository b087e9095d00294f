//! Bounds of what directories may take, by project quotas of their file system.

use std::os::fd::OwnedFd;
use std::path::Path;

use errors::IoError;
use rustix::fs::{fstatfs, open, Mode, OFlags};
use rustix::io::Errno;
use rustix::thread::{capabilities, set_capabilities, CapabilitySet, CapabilitySets};
use sys::quota::{self, Usage};

use crate::feature::{words, Feature};

/// Magic numbers of file systems and their names. Source: statfs(2).
const FILE_SYSTEMS: [(u64, &str); 9] = [
    (0xef53, "ext4"),
    (0x5846_5342, "xfs"),
    (0x9123_683e, "btrfs"),
    (0x0102_1994, "tmpfs"),
    (0x794c_7630, "overlay"),
    (0xf2f5_2010, "f2fs"),
    (0x6969, "nfs"),
    (0x0102_1997, "9p"),
    (0x2fc1_2fc1, "zfs"),
];

fn opened(path: &Path) -> Result<OwnedFd, IoError> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    open(path, flags, Mode::empty()).map_err(failed("open", path))
}

fn failed<'p>(operation: &'static str, path: &'p Path) -> impl Fn(Errno) -> IoError + 'p {
    move |errno| IoError::new(operation, path, errno.raw_os_error())
}

/// Whether the file system of the directory keeps bounds of projects; if not, what it is and why.
#[must_use]
pub fn project_quota(directory: &Path) -> Feature {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let tried = open(directory, flags, Mode::empty())
        .map_err(|errno| words("open", errno))
        .and_then(|found| obstacle(&found, quota::is_enforced(&found)));
    Feature::tried("project_quota", tried)
}

fn obstacle(found: &OwnedFd, answer: Result<bool, Errno>) -> Result<(), String> {
    let name = file_system(found);
    match answer {
        Ok(true) => Ok(()),
        Ok(false) => Err(format!("{name} counts for projects but is mounted without keeping their bounds")),
        Err(Errno::SRCH) => Err(format!("{name} is mounted, or was made, without quotas of projects")),
        Err(Errno::NOSYS) => Err(format!("{name} or this kernel has no quotas of projects, or they are off")),
        Err(errno) => Err(format!("{name}: {}", words("quotactl_fd", errno))),
    }
}

fn file_system(found: &OwnedFd) -> String {
    let Ok(facts) = fstatfs(found) else { return "the file system".to_owned() };
    // The magic number is 32 bits wide whatever the field's type is.
    #[allow(clippy::cast_sign_loss)]
    let magic = facts.f_type as u64 & 0xffff_ffff;
    let named = FILE_SYSTEMS.iter().find(|(number, _)| *number == magic);
    named.map_or_else(|| format!("a file system of magic number {magic:#x}"), |(_, name)| (*name).to_owned())
}

/// The directories, which lie on one file system and are empty, belong to the project, all that comes to stand in them
/// too, and together they take at most so many bytes and inodes. The bound stands last: from then on the project is one
/// that something is counted for, which tells others on the file system that it is taken.
///
/// # Errors
/// `IO_FAILED`; `STORAGE_FULL` (EDQUOT).
pub fn limit_project(directories: &[&Path], project: u32, bytes: u64, inodes: u64) -> Result<(), IoError> {
    for path in directories {
        quota::set_project(opened(path)?, project).map_err(failed("ioctl(FS_IOC_FSSETXATTR)", path))?;
        sys::failpoint::hit("host.quota.limit");
    }
    let Some(first) = directories.first() else { return Ok(()) };
    quota::set_limit(opened(first)?, project, bytes, inodes).map_err(failed("quotactl_fd", first))
}

/// The project has no bound on the file system of this directory: whoever has it next begins anew. Idempotent.
///
/// # Errors
/// `IO_FAILED`.
pub fn release_project(directory: &Path, project: u32) -> Result<(), IoError> {
    quota::set_limit(opened(directory)?, project, 0, 0).map_err(failed("quotactl_fd", directory))
}

/// The project that the directory belongs to; 0 for none, also where the file system knows of none.
///
/// # Errors
/// `IO_FAILED`.
pub fn directory_project(directory: &Path) -> Result<u32, IoError> {
    match quota::project_of(opened(directory)?) {
        Err(Errno::NOTTY | Errno::OPNOTSUPP | Errno::NOSYS | Errno::INVAL) => Ok(0),
        answer => answer.map_err(failed("ioctl(FS_IOC_FSGETXATTR)", directory)),
    }
}

/// What the project takes on the file system of this directory, in constant time.
///
/// # Errors
/// `IO_FAILED`.
pub fn project_usage(directory: &Path, project: u32) -> Result<Usage, IoError> {
    quota::usage(opened(directory)?, project).map_err(failed("quotactl_fd", directory))
}

/// Projects from `first` to `last` that have a bound on the file system of this directory and nothing that it is for.
///
/// # Errors
/// `IO_FAILED`.
pub fn idle_projects(directory: &Path, first: u32, last: u32) -> Result<Vec<u32>, IoError> {
    let found = opened(directory)?;
    let (mut idle, mut from) = (Vec::new(), first);
    while let Some((project, usage)) =
        quota::next_project(&found, from).map_err(failed("quotactl_fd", directory))?
    {
        // A kernel that answers with a number before the one asked for would keep this here for ever.
        if project < from || project > last {
            break;
        }
        if usage.limit_bytes > 0 && usage.inodes == 0 && usage.bytes == 0 {
            idle.push(project);
        }
        let Some(next) = project.checked_add(1) else { break };
        from = next;
    }
    Ok(idle)
}

/// What `work` writes is held to the bounds of projects: ext4 does not hold a thread to them that has
/// CAP_SYS_RESOURCE (fs/quota/dquot.c, `ignore_hardlimit`), so it is without during the work.
///
/// # Errors
/// `IO_FAILED` if the capability cannot be laid down; nothing is done then.
pub fn within_bounds<T, E: From<IoError>>(work: impl FnOnce() -> Result<T, E>) -> Result<T, E> {
    let failed = |operation| move |errno: Errno| IoError::new(operation, "self", errno.raw_os_error());
    let whole = capabilities(None).map_err(failed("capget"))?;
    if !whole.effective.contains(CapabilitySet::SYS_RESOURCE) {
        return work();
    }
    let less = CapabilitySets { effective: whole.effective - CapabilitySet::SYS_RESOURCE, ..whole };
    set_capabilities(None, less).map_err(failed("capset"))?;
    let _raised = Raised(whole);
    work()
}

/// Gives the thread its capabilities back, also when the work panics.
struct Raised(CapabilitySets);

impl Drop for Raised {
    fn drop(&mut self) {
        // What is permitted to the thread was never laid down: the kernel does not refuse it.
        let _ = set_capabilities(None, self.0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn effective() -> CapabilitySet {
        capabilities(None).unwrap().effective
    }

    #[test]
    fn work_is_without_the_capability_that_ignores_bounds_and_the_thread_has_it_back() {
        let before = effective();
        let inside = within_bounds(|| Ok::<_, IoError>(effective())).unwrap();
        assert_eq!(inside, before - CapabilitySet::SYS_RESOURCE);
        assert_eq!(effective(), before);
        let panicked = std::panic::catch_unwind(|| within_bounds(|| -> Result<(), IoError> { panic!() }));
        assert!(panicked.is_err());
        assert_eq!(effective(), before);
    }

    #[test]
    fn an_obstacle_names_the_file_system() {
        let found = opened(Path::new("/proc")).unwrap();
        assert!(obstacle(&found, Err(Errno::SRCH)).unwrap_err().contains("magic number 0x9fa0"));
        let memory = opened(Path::new("/dev/shm")).unwrap();
        assert!(obstacle(&memory, Ok(false)).unwrap_err().starts_with("tmpfs counts"));
        assert_eq!(obstacle(&memory, Ok(true)), Ok(()));
    }

    #[test]
    fn what_has_no_projects_is_of_none_and_not_available() {
        assert_eq!(directory_project(Path::new("/proc")), Ok(0));
        let feature = project_quota(Path::new("/proc"));
        assert!(!feature.is_available && !feature.detail.is_empty());
    }
}
