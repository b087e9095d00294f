//! File systems of servers that are mounted in the container, and how it gets rid of them when a server has gone.
//!
//! What waits for a server that is away can be killed, but for a process that is ending already: the kernel takes its
//! signals no more. So the last one to have such mounts is this program, which takes them down while it can still be
//! killed, and not the container's first process.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use rustix::event::{poll, PollFd, PollFlags, Timespec};
use rustix::fs::{open, Mode, OFlags};
use rustix::mount::{unmount, UnmountFlags};
use rustix::process::{set_parent_process_death_signal, Signal};
use rustix::thread::{move_into_link_name_space, LinkNameSpaceType};
use sys::clone::Side;

use crate::spawn::{fork, NeverUnwind};
use crate::spec::{MountKind, Spec};

/// Types of file systems that wait for a server. Source: mount(8), "File-system specific mount options".
const OF_SERVERS: [&str; 7] = ["nfs", "nfs4", "cifs", "smb3", "ceph", "9p", "afs"];
/// How long waiting calls are ended again and again: a process that ends makes one after the other.
const FORCE_TIMEOUT: Duration = Duration::from_secs(8);
/// Pause between two rounds.
const FORCE_PAUSE: Timespec = Timespec { tv_sec: 0, tv_nsec: 200_000_000 };

/// The container's mounts of servers. Dropping it takes them down if the container has ended; that may wait for a server,
/// and SIGKILL ends the waiting.
#[derive(Default)]
pub struct ServerMounts {
    /// The container's mount namespace.
    namespace: Option<OwnedFd>,
    /// Where they are, parents first.
    places: Vec<String>,
    /// The process that forces them, if one was begun.
    forcing: Option<OwnedFd>,
}

impl ServerMounts {
    /// Those of a container that has just been started. Without any, nothing is kept open.
    pub fn of(spec: &Spec, pid: u32) -> Self {
        let is_of_server = |file_system: &str| OF_SERVERS.contains(&file_system);
        let mounts = spec.mounts.iter().filter(|mount| mount.kind == MountKind::FileSystem);
        let places: Vec<String> = mounts
            .filter(|mount| is_of_server(&mount.file_system))
            .map(|mount| mount.destination.clone())
            .collect();
        if places.is_empty() {
            return Self::default();
        }
        // One that has ended already has taken its mounts down.
        let path = format!("/proc/{pid}/ns/mnt");
        let namespace = open(path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty()).ok();
        Self { namespace, places, forcing: None }
    }

    /// Whatever waits for these servers now, or begins to within [`FORCE_TIMEOUT`], is told EIO, until `init` has ended.
    /// Never blocks: a process of its own does it. Data that was not written yet is lost.
    ///
    /// Source: umount(2), MNT_FORCE.
    pub fn force(&mut self, init: BorrowedFd<'_>) {
        self.end_forcing();
        let Some(namespace) = &self.namespace else { return };
        // Without such a process nothing waits less than before; the daemon tells that the container does not end.
        self.forcing = begin(namespace.as_fd(), &self.places, init).ok();
    }

    fn end_forcing(&mut self) {
        let Some(pidfd) = self.forcing.take() else { return };
        // It waits for servers in ways that can be killed; one that is not reaped now is so at the end.
        let _ = sys::pidfd::kill(&pidfd);
        let _ = sys::pidfd::try_wait(&pidfd);
    }
}

impl Drop for ServerMounts {
    fn drop(&mut self) {
        self.end_forcing();
    }
}

/// The caller has one thread, as [`crate::spawn`] asks of it.
fn begin(
    namespace: BorrowedFd<'_>,
    places: &[String],
    init: BorrowedFd<'_>,
) -> Result<OwnedFd, rustix::io::Errno> {
    match fork(0, None)? {
        Side::Parent { pidfd, .. } => Ok(pidfd),
        Side::Child => {
            let _guard = NeverUnwind;
            // Where this fails it ends by its own time.
            let _ = set_parent_process_death_signal(Some(Signal::KILL));
            force_until_ended(namespace, places, init);
            sys::inherited::exit_now(0)
        }
    }
}

fn force_until_ended(namespace: BorrowedFd<'_>, places: &[String], init: BorrowedFd<'_>) {
    // All that follows is resolved in the container's root: no mount of the host's can be met.
    if move_into_link_name_space(namespace, Some(LinkNameSpaceType::Mount)).is_err() {
        return;
    }
    let deadline = Instant::now() + FORCE_TIMEOUT;
    while Instant::now() < deadline {
        for place in places {
            // Busy is what it is while a process has a file of it open; its calls have been ended all the same.
            let _ = unmount(place, UnmountFlags::FORCE | UnmountFlags::NOFOLLOW);
        }
        if poll(&mut [PollFd::from_borrowed_fd(init, PollFlags::IN)], Some(&FORCE_PAUSE)).unwrap_or(1) > 0 {
            return;
        }
    }
}
