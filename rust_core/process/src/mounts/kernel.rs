//! /proc and /sys, with the container's own groups in /sys/fs/cgroup.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use mount::{Attributes, Want};
use rustix::fs::{mkdirat, openat, symlinkat, Mode, OFlags};

use crate::at::{At, Outcome};
use crate::cgroups::View;
use crate::spec::Spec;
use crate::step::Step;

const CGROUP: &str = "/sys/fs/cgroup";
const PLACE: OFlags = OFlags::PATH.union(OFlags::CLOEXEC);

/// A proc file system, detached, that shows the pid namespace of this process. In a user namespace the kernel gives it
/// only while the host's is in sight: mount_too_revealing() of fs/namespace.c.
pub(crate) fn make_proc() -> Outcome<OwnedFd> {
    mount::proc(Attributes::HARDENED).at(Step::Mount, "/proc")
}

/// A sysfs, detached, that shows the network namespace of this process; as [`make_proc`].
pub(crate) fn make_sys(is_writable: bool) -> Outcome<OwnedFd> {
    mount::sysfs(sys_flags(is_writable)).at(Step::Mount, "/sys")
}

fn sys_flags(is_writable: bool) -> Attributes {
    if is_writable {
        Attributes::HARDENED
    } else {
        Attributes::HARDENED.read_only()
    }
}

/// What [`make_proc`] made is /proc.
pub(crate) fn attach_proc(root: BorrowedFd<'_>, proc: &OwnedFd) -> Outcome<()> {
    attach(root, proc, Path::new("/proc"))
}

/// What [`make_sys`] made is /sys, with the container's own groups in fs/cgroup; read-only unless it is privileged.
pub(crate) fn attach_sys(root: BorrowedFd<'_>, sys: &OwnedFd, groups: &[View], spec: &Spec) -> Outcome<()> {
    attach(root, sys, Path::new("/sys"))?;
    mount_groups(sys, groups, sys_flags(spec.is_privileged), &spec.mount_label)
}

fn attach(root: BorrowedFd<'_>, mount: &OwnedFd, path: &Path) -> Outcome<()> {
    let target = mount::resolve_exact(root, path, Want::Directory, true).at(Step::Mount, path)?;
    mount::attach(mount.as_fd(), target.as_fd(), path).at(Step::Mount, path)
}

fn mount_groups(sys: &OwnedFd, groups: &[View], flags: Attributes, label: &str) -> Outcome<()> {
    let path = Path::new(CGROUP);
    let Some(first) = groups.first() else { return Ok(()) };
    let target = openat(sys, "fs/cgroup", PLACE, Mode::empty()).at(Step::Mount, path)?;
    if first.name.is_empty() {
        mount::set_attributes(first.mount.as_fd(), flags, None, false).at(Step::Mount, path)?;
        return mount::attach(first.mount.as_fd(), target.as_fd(), path).at(Step::Mount, path);
    }
    let list = mount::tmpfs_labelled("mode=755", Attributes::HARDENED, label).at(Step::Mount, path)?;
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
