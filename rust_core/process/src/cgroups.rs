//! Joining the groups that the daemon made, before the process has done anything else.

use std::os::fd::{BorrowedFd, OwnedFd};

use rustix::fs::{open, openat, Mode, OFlags, CWD};
use rustix::mount::{open_tree, OpenTreeFlags};
use rustix::thread::{unshare_unsafe, ThreadNameSpaceType, UnshareFlags};

use crate::at::{At, Outcome};
use crate::namespaces;
use crate::spec::{CgroupJoin, Namespace};
use crate::step::Step;

/// A detached mount of one of our groups, under its name in /sys/fs/cgroup; an empty name is the place itself.
pub(crate) struct View {
    pub(crate) name: String,
    pub(crate) mount: OwnedFd,
}

/// The name under which the v2 hierarchy shows beside v1 ones.
const UNIFIED: &str = "unified";

/// The v2 group as a descriptor to be born into.
pub(crate) fn open_v2(join: &CgroupJoin) -> Outcome<Option<OwnedFd>> {
    let Some(dir) = &join.v2_dir else { return Ok(None) };
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    open(dir.as_str(), flags, Mode::empty()).at(Step::Cgroup, dir).map(Some)
}

/// This process is in every v1 group. The host's mounts must still be in sight.
pub(crate) fn join_v1(join: &CgroupJoin) -> Outcome<()> {
    for group in &join.v1 {
        let dir = open(group.dir.as_str(), OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
            .at(Step::Cgroup, &group.dir)?;
        enter(&dir, &group.dir)?;
    }
    Ok(())
}

/// This thread is in the v1 group of a directory.
fn enter(dir: &OwnedFd, path: &str) -> Outcome<()> {
    let flags = OFlags::WRONLY | OFlags::CLOEXEC;
    let tasks = openat(dir, "tasks", flags, Mode::empty()).at(Step::Cgroup, path)?;
    // `0` is the writing thread, and `tasks` takes no lock of the thread group: another pid, or cgroup.procs,
    // waits for an RCU grace period after an idle moment (5 ms instead of 0.04).
    rustix::io::write(&tasks, b"0").at(Step::Cgroup, path).map(drop)
}

/// This process is in every group, and, in a namespace of its own, they are the roots of what it sees of each hierarchy.
/// The answer is mounts of the groups, to be shown in /sys/fs/cgroup.
#[allow(unsafe_code)]
pub(crate) fn join(join: &CgroupJoin, namespace: Namespace, joined: &[BorrowedFd<'_>]) -> Outcome<Vec<View>> {
    let mut views = Vec::with_capacity(join.v1.len() + 1);
    for group in &join.v1 {
        let mount = copy(&group.dir)?;
        enter(&mount, &group.dir)?;
        views.push(View { name: group.view.clone(), mount });
    }
    if let Some(dir) = &join.v2_dir {
        let name = if join.v1.is_empty() { String::new() } else { UNIFIED.to_owned() };
        views.push(View { name, mount: copy(dir)? });
    }
    match namespace {
        Namespace::Own if !views.is_empty() => {
            // SAFETY: a cgroup namespace has no part in memory or descriptors; nothing that is shared changes.
            unsafe { unshare_unsafe(UnshareFlags::NEWCGROUP) }.at(Step::Cgroup, "")?;
        }
        Namespace::Own | Namespace::Host => {}
        Namespace::Joined(place) => {
            namespaces::enter(joined, place, ThreadNameSpaceType::CONTROL_GROUP, "cgroup")?;
        }
    }
    Ok(views)
}

fn copy(dir: &str) -> Outcome<OwnedFd> {
    let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
    open_tree(CWD, dir, flags).at(Step::Cgroup, dir)
}
