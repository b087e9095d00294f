//! The directory in which the groups of this engine lie, made ready once in each hierarchy.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{mkdirat, openat, Mode, OFlags};
use rustix::io::Errno;

use crate::files::{self, io};
use crate::{CgroupError, Hierarchy, Version};

const GROUP_MODE: Mode = Mode::from_raw_mode(0o755);
/// Controllers that are handed down the unified hierarchy, as far as it has them.
const HANDED_DOWN: [&str; 6] = ["cpu", "cpuset", "memory", "pids", "io", "hugetlb"];
/// Files of a v1 cpuset that must not be empty when a task joins.
pub(crate) const CPUSET_FILES: [&str; 2] = ["cpuset.cpus", "cpuset.mems"];

/// Makes `parent` (checked) below the hierarchy's mount point, with everything that groups in it need from it.
pub(crate) fn prepare(hierarchy: &Hierarchy, parent: &str) -> Result<OwnedFd, CgroupError> {
    let mut path: PathBuf = hierarchy.mount_point.clone();
    let mut directory = files::directory(&path).map_err(|errno| io("open", &path, errno))?;
    for component in parent.split('/') {
        if hierarchy.version == Version::V2 {
            hand_down(directory.as_fd(), &path)?;
        }
        path.push(component);
        match mkdirat(&directory, component, GROUP_MODE) {
            Ok(()) | Err(Errno::EXIST) => {}
            Err(errno) => return Err(io("mkdirat", &path, errno)),
        }
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let child = openat(&directory, component, flags, Mode::empty())
            .map_err(|errno| io("openat", &path, errno))?;
        if hierarchy.version == Version::V1 && hierarchy.has("cpuset") {
            fill_cpuset(directory.as_fd(), child.as_fd(), Path::new(""), &path)?;
        }
        directory = child;
    }
    if hierarchy.version == Version::V2 {
        hand_down(directory.as_fd(), &path)?;
    }
    Ok(directory)
}

/// Child groups of this directory get the controllers that it has itself.
fn hand_down(directory: BorrowedFd<'_>, path: &Path) -> Result<(), CgroupError> {
    let read = |name: &str| match files::read(directory, Path::new(name)) {
        Ok(text) => Ok(text),
        Err(Errno::NOENT) => Ok(String::new()),
        Err(errno) => Err(io("read", &path.join(name), errno)),
    };
    let offered = read("cgroup.controllers")?;
    let handed = read("cgroup.subtree_control")?;
    for controller in HANDED_DOWN {
        let in_list = |list: &str| list.split_whitespace().any(|name| name == controller);
        if in_list(&offered) && !in_list(&handed) {
            // One by one, since one that cannot be had (a process stands in the way, cpu with real-time tasks)
            // must not take the others along; a limit that needs it is refused when it is written.
            let _ = files::write(directory, Path::new("cgroup.subtree_control"), &format!("+{controller}"));
        }
    }
    Ok(())
}

/// The cpuset `below`/ of `child` has CPUs and memory nodes: those it has, else those of `parent`.
pub(crate) fn fill_cpuset(
    parent: BorrowedFd<'_>,
    child: BorrowedFd<'_>,
    below: &Path,
    path: &Path,
) -> Result<(), CgroupError> {
    for file in CPUSET_FILES {
        let name = below.join(file);
        let own = files::read(child, &name).map_err(|errno| io("read", &path.join(file), errno))?;
        if own.trim().is_empty() {
            let from =
                files::read(parent, Path::new(file)).map_err(|errno| io("read", &path.join(file), errno))?;
            files::write(child, &name, from.trim()).map_err(|errno| io("write", &path.join(file), errno))?;
        }
    }
    Ok(())
}
