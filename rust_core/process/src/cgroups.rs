//! Joining the groups that the daemon made, before the process has done anything else.

use std::os::fd::{BorrowedFd, OwnedFd};

use rustix::fs::{open, Mode, OFlags, CWD};
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
        enter(&open_door(&group.dir)?, &group.dir)?;
    }
    Ok(())
}

/// The file through which a v1 group is entered. Whoever opened it counts, not who writes to it. It is opened on the
/// host's mount: one of the container's own could not become read-only while it is open.
fn open_door(dir: &str) -> Outcome<OwnedFd> {
    open(format!("{dir}/tasks"), OFlags::WRONLY | OFlags::CLOEXEC, Mode::empty()).at(Step::Cgroup, dir)
}

/// This thread is in the v1 group of a door.
fn enter(tasks: &OwnedFd, path: &str) -> Outcome<()> {
    // `0` is the writing thread, and `tasks` takes no lock of the thread group: another pid, or cgroup.procs,
    // waits for an RCU grace period after an idle moment (5 ms instead of 0.04).
    rustix::io::write(tasks, b"0").at(Step::Cgroup, path).map(drop)
}

/// The groups of a process that is to come, or that cannot see the host any more.
pub(crate) struct Groups {
    doors: Vec<OwnedFd>,
    /// To be shown in /sys/fs/cgroup.
    pub(crate) views: Vec<View>,
}

/// Mounts of the groups and the ways into those of v1. The host's mounts must still be in sight.
pub(crate) fn prepare(join: &CgroupJoin) -> Outcome<Groups> {
    let mut views = Vec::with_capacity(join.v1.len() + 1);
    let mut doors = Vec::with_capacity(join.v1.len());
    for group in &join.v1 {
        let mount = copy(&group.dir)?;
        doors.push(open_door(&group.dir)?);
        views.push(View { name: group.view.clone(), mount });
    }
    if let Some(dir) = &join.v2_dir {
        let name = if join.v1.is_empty() { String::new() } else { UNIFIED.to_owned() };
        views.push(View { name, mount: copy(dir)? });
    }
    Ok(Groups { doors, views })
}

/// This process is in every group, and, in a namespace of its own, they are the roots of what it sees of each hierarchy.
#[allow(unsafe_code)]
pub(crate) fn join(
    join: &CgroupJoin,
    groups: &Groups,
    namespace: Namespace,
    joined: &[BorrowedFd<'_>],
) -> Outcome<()> {
    for (door, group) in groups.doors.iter().zip(&join.v1) {
        enter(door, &group.dir)?;
    }
    match namespace {
        Namespace::Own if !join.v1.is_empty() || join.v2_dir.is_some() => {
            // SAFETY: a cgroup namespace has no part in memory or descriptors; nothing that is shared changes.
            unsafe { unshare_unsafe(UnshareFlags::NEWCGROUP) }.at(Step::Cgroup, "")
        }
        Namespace::Own | Namespace::Host => Ok(()),
        Namespace::Joined(place) => {
            namespaces::enter(joined, place, ThreadNameSpaceType::CONTROL_GROUP, "cgroup")
        }
    }
}

fn copy(dir: &str) -> Outcome<OwnedFd> {
    let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
    open_tree(CWD, dir, flags).at(Step::Cgroup, dir)
}
