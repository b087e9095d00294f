//! Namespaces of other containers, joined through a pidfd of their first process: another process, one that has its number
//! by now, cannot stand in for it.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{fstatfs, openat2, Mode, OFlags, ResolveFlags, CWD};
use rustix::io::Errno;
use rustix::mount::{open_tree, OpenTreeFlags};
use rustix::process::{getpid, pidfd_open, PidfdFlags};
use rustix::thread::{
    move_into_link_name_space, move_into_thread_name_spaces, LinkNameSpaceType, ThreadNameSpaceType,
};
use sys::clone::Side;

use crate::at::{At, Outcome};
use crate::failure::StartFailure;
use crate::spec::{Namespace, Network, Shm, Spec};
use crate::step::Step;

/// TMPFS_MAGIC of linux/magic.h.
const TMPFS: u64 = 0x0102_1994;
const SHM: &str = "/dev/shm";

/// What is to be attached at /dev/shm.
pub(crate) enum SharedMemory {
    /// A new file system of so many bytes.
    New(u64),
    /// Nothing.
    None,
    /// A detached mount of another container's.
    Of(OwnedFd),
}

/// This thread is in that namespace of the joined process at `place`.
pub(crate) fn enter(
    joined: &[BorrowedFd<'_>],
    place: u8,
    kind: ThreadNameSpaceType,
    name: &str,
) -> Outcome<()> {
    let process = joined.get(usize::from(place)).ok_or_else(|| {
        StartFailure::rule(Step::Join, name, "the container whose namespace is joined was not given")
    })?;
    move_into_thread_name_spaces(*process, kind).map_err(|errno| failed(name, errno))
}

fn failed(name: &str, errno: Errno) -> StartFailure {
    if errno == Errno::SRCH {
        return StartFailure::rule(Step::Join, name, "the container whose namespace is joined has ended");
    }
    StartFailure::kernel(Step::Join, name, errno)
}

/// What `fork` makes is in that namespace of process ids; of the caller only that of its children to come changes, and
/// back again.
pub(crate) fn born_in(
    pid: Namespace,
    joined: &[BorrowedFd<'_>],
    fork: impl FnOnce() -> Result<Side, Errno>,
) -> Outcome<Side> {
    let Namespace::Joined(place) = pid else { return fork().at(Step::Clone, "") };
    let own = pidfd_open(getpid(), PidfdFlags::empty()).at(Step::Join, "pid")?;
    enter(joined, place, ThreadNameSpaceType::PROCESS_ID, "pid")?;
    let forked = fork();
    if matches!(forked, Ok(Side::Child)) {
        return Ok(Side::Child);
    }
    let back = move_into_thread_name_spaces(own.as_fd(), ThreadNameSpaceType::PROCESS_ID);
    if let (Ok(Side::Parent { pidfd, .. }), Err(errno)) = (&forked, back) {
        // Fails only without rights that the way there needed too; the child must not run on unseen.
        let _ = sys::pidfd::kill(pidfd);
        let _ = sys::pidfd::wait(pidfd);
        return Err(StartFailure::kernel(Step::Join, "own pid", errno));
    }
    match forked {
        // The first process of the namespace has ended, and nothing can begin there any more.
        Err(Errno::NOMEM) => Err(failed("pid", Errno::SRCH)),
        answer => answer.at(Step::Clone, ""),
    }
}

/// This process is in all namespaces that `spec` shares but for those of process ids and of cgroups, and has what is to
/// stand at /dev/shm. The host's mounts must still be in sight.
pub(crate) fn join(spec: &Spec, joined: &[BorrowedFd<'_>]) -> Outcome<SharedMemory> {
    let network = match spec.network {
        Network::Joined(place) => Namespace::Joined(place),
        Network::None | Network::Host => Namespace::Own,
    };
    for (namespace, kind, name) in [
        (network, ThreadNameSpaceType::NETWORK, "network"),
        (spec.namespaces.ipc, ThreadNameSpaceType::INTER_PROCESS_COMMUNICATION, "ipc"),
        (spec.namespaces.uts, ThreadNameSpaceType::HOST_NAME_AND_NIS_DOMAIN_NAME, "uts"),
    ] {
        if let Namespace::Joined(place) = namespace {
            enter(joined, place, kind, name)?;
        }
    }
    match spec.shm {
        Shm::Own => Ok(SharedMemory::New(spec.shm_size_bytes)),
        Shm::None => Ok(SharedMemory::None),
        Shm::Joined(place) => shared_memory(joined, place).map(SharedMemory::Of),
    }
}

/// A detached copy of the mount at /dev/shm of that process's container. It is taken from inside its mount namespace, and
/// no link of the container is followed on the way; nothing but a tmpfs passes for it.
fn shared_memory(joined: &[BorrowedFd<'_>], place: u8) -> Outcome<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::CLOEXEC;
    let own = rustix::fs::open("/proc/self/ns/mnt", flags, Mode::empty()).at(Step::Join, "mnt")?;
    enter(joined, place, ThreadNameSpaceType::MOUNT, "mnt")?;
    let found = open_shared_memory();
    // Root and working directory are the host's again.
    move_into_link_name_space(own.as_fd(), Some(LinkNameSpaceType::Mount)).at(Step::Join, "own mnt")?;
    found
}

fn open_shared_memory() -> Outcome<OwnedFd> {
    let resolve = ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let place = openat2(CWD, SHM, flags, Mode::empty(), resolve).at(Step::Join, SHM)?;
    if fstatfs(&place).at(Step::Join, SHM)?.f_type as u64 != TMPFS {
        let rule = "the other container has no shared memory there";
        return Err(StartFailure::rule(Step::Join, SHM, rule));
    }
    let flags =
        OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC | OpenTreeFlags::AT_EMPTY_PATH;
    open_tree(place, "", flags).at(Step::Join, SHM)
}
