//! /proc and /sys, with the container's own groups in /sys/fs/cgroup.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use mount::{Attributes, Want};
use rustix::fs::{mkdirat, openat, symlinkat, Mode, OFlags};

use crate::at::{At, Outcome};
use crate::cgroups::View;
use crate::step::Step;

const CGROUP: &str = "/sys/fs/cgroup";
const PLACE: OFlags = OFlags::PATH.union(OFlags::CLOEXEC);

/// /proc shows the pid namespace of this process. The answer is its mount.
pub(crate) fn mount_proc(root: BorrowedFd<'_>) -> Outcome<OwnedFd> {
    let path = Path::new("/proc");
    let target = mount::resolve_exact(root, path, Want::Directory, true).at(Step::Mount, path)?;
    let proc = mount::proc(Attributes::HARDENED).at(Step::Mount, path)?;
    mount::attach(proc.as_fd(), target.as_fd(), path).at(Step::Mount, path)?;
    Ok(proc)
}

/// /sys shows the network namespace of this process and, in fs/cgroup, its own groups; read-only unless told.
pub(crate) fn mount_sys(root: BorrowedFd<'_>, groups: &[View], is_writable: bool) -> Outcome<()> {
    let path = Path::new("/sys");
    let flags = if is_writable { Attributes::HARDENED } else { Attributes::HARDENED.read_only() };
    let target = mount::resolve_exact(root, path, Want::Directory, true).at(Step::Mount, path)?;
    let sys = mount::sysfs(flags).at(Step::Mount, path)?;
    mount::attach(sys.as_fd(), target.as_fd(), path).at(Step::Mount, path)?;
    mount_groups(&sys, groups, flags)
}

fn mount_groups(sys: &OwnedFd, groups: &[View], flags: Attributes) -> Outcome<()> {
    let path = Path::new(CGROUP);
    let Some(first) = groups.first() else { return Ok(()) };
    let target = openat(sys, "fs/cgroup", PLACE, Mode::empty()).at(Step::Mount, path)?;
    if first.name.is_empty() {
        mount::set_attributes(first.mount.as_fd(), flags, None, false).at(Step::Mount, path)?;
        return mount::attach(first.mount.as_fd(), target.as_fd(), path).at(Step::Mount, path);
    }
    let list = mount::tmpfs("mode=755", Attributes::HARDENED).at(Step::Mount, path)?;
    mount::attach(list.as_fd(), target.as_fd(), path).at(Step::Mount, path)?;
    for group in groups {
        let name = group.name.as_str();
        mkdirat(&list, name, Mode::from_raw_mode(0o755)).at(Step::Mount, name)?;
        let place = openat(&list, name, PLACE, Mode::empty()).at(Step::Mount, name)?;
        mount::attach(group.mount.as_fd(), place.as_fd(), Path::new(name)).at(Step::Mount, name)?;
        if name.contains(',') {
            for controller in name.split(',') {
                symlinkat(name, &list, controller).at(Step::Mount, controller)?;
            }
        }
    }
    // One call for the list and every group in it.
    mount::set_attributes(list.as_fd(), flags, None, true).at(Step::Mount, path)
}
