//! Supervisors that were executed ahead of their containers. They wait for a plan, hold nothing of any container, and end
//! with the daemon, whose end of the connection is their only tie.

use std::os::fd::{AsFd, OwnedFd};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use errors::IoError;
use rustix::io::Errno;

use crate::error::ControlError;
use crate::handle::wait_readable;
use crate::peer;
use crate::program::{Program, SpawnedSupervisor};
use crate::wire::{Report, Request};

/// Most supervisors that wait at once; each takes about 100 KiB of memory and a network namespace.
pub const MAX_READY: usize = 8;
/// Stands as its argument until a supervisor knows its container; as long as an id, which takes its place.
const PLACEHOLDER: &str = "----------------------------------------------------------------";

/// A supervisor that has not been told anything yet; it ends when this is dropped.
#[derive(Debug)]
pub struct Ready {
    pub(crate) socket: OwnedFd,
    pub(crate) child: SpawnedSupervisor,
}

/// A network namespace of a container, and the way to change it.
#[derive(Debug)]
pub struct Namespace {
    /// The namespace.
    pub namespace: OwnedFd,
    /// A netlink socket (NETLINK_ROUTE) in it.
    pub route: OwnedFd,
    /// Further sockets in it, where they were asked for.
    pub names: Option<NameSockets>,
}

/// What it takes to answer questions for names inside a network namespace.
#[derive(Debug)]
pub struct NameSockets {
    /// A UDP socket, IPv4, not bound.
    pub udp: OwnedFd,
    /// A TCP socket, IPv4, not bound.
    pub tcp: OwnedFd,
    /// A netlink socket (NETLINK_NETFILTER).
    pub filter: OwnedFd,
}

impl Ready {
    /// Its process id, which is no other's before this is dropped or given its container.
    pub fn pid(&self) -> i32 {
        self.child.pid().as_raw_nonzero().get()
    }

    /// True if it has not ended.
    pub fn is_alive(&self) -> bool {
        self.child.is_alive()
    }

    /// The network namespace that it has made and that the container will have. To be called once, before the start.
    /// Blocking, `deadline` at most.
    ///
    /// # Errors
    /// `SUPERVISOR_LOST` if it ended or says nothing, `IO_FAILED`.
    pub fn namespace(&self, deadline: Instant) -> Result<Namespace, ControlError> {
        let [namespace, route] = self.hear(deadline, &Report::Namespace)?;
        Ok(Namespace { namespace, route, names: None })
    }

    /// Sockets in a network namespace, of whomever it is. Blocking, `deadline` at most.
    ///
    /// # Errors
    /// As [`Ready::namespace`].
    pub fn open_sockets(&self, namespace: OwnedFd, deadline: Instant) -> Result<Namespace, ControlError> {
        peer::send(&self.socket, &Request::OpenSockets, &[namespace.as_fd()])
            .map_err(|errno| IoError::new("sendmsg", "", errno.raw_os_error()))?;
        let [route, udp, tcp, filter] = self.hear(deadline, &Report::Sockets)?;
        Ok(Namespace { namespace, route, names: Some(NameSockets { udp, tcp, filter }) })
    }

    /// The descriptors of the next such report; others before it are passed over.
    fn hear<const COUNT: usize>(
        &self,
        deadline: Instant,
        expected: &Report,
    ) -> Result<[OwnedFd; COUNT], ControlError> {
        let lost = |detail: &str| ControlError::Lost { id: String::new(), detail: detail.to_owned() };
        let fail = |operation| move |errno: Errno| IoError::new(operation, "", errno.raw_os_error());
        loop {
            if !wait_readable(&self.socket, deadline).map_err(fail("poll"))? {
                return Err(lost("it made no network namespace in time"));
            }
            let (report, fds) = peer::receive::<Report>(&self.socket)
                .map_err(fail("recvmsg"))?
                .ok_or_else(|| lost("it ended before it had a container"))?;
            if report == *expected {
                return fds.try_into().map_err(|_| lost("its report lacks descriptors"));
            }
        }
    }
}

/// Those that wait.
#[derive(Debug, Default)]
pub(crate) struct ReadySupervisors {
    /// Whether each makes a user namespace, its connection, itself.
    waiting: Mutex<Vec<(bool, OwnedFd, SpawnedSupervisor)>>,
}

impl ReadySupervisors {
    /// At least `count` wait, [`MAX_READY`] at most, which with `has_users` make a user namespace too. Blocking (half a
    /// millisecond each).
    pub(crate) fn fill(&self, program: &Program, count: usize, has_users: bool) -> Result<(), ControlError> {
        while self.lock().len() < count.min(MAX_READY) {
            let Ready { socket, child } = Self::execute(program, PLACEHOLDER, has_users)?;
            self.lock().push((has_users, socket, child));
        }
        Ok(())
    }

    /// One that waits, of any kind if none is asked for, else one that is executed now; `container_id` may be empty if it is
    /// not known yet.
    pub(crate) fn take(
        &self,
        program: &Program,
        container_id: &str,
        has_users: Option<bool>,
    ) -> Result<Ready, ControlError> {
        loop {
            let found = {
                let mut waiting = self.lock();
                let place =
                    waiting.iter().rposition(|(kind, ..)| has_users.is_none_or(|wanted| *kind == wanted));
                place.map(|place| waiting.remove(place))
            };
            let Some((_, socket, child)) = found else {
                let argument = if container_id.is_empty() { PLACEHOLDER } else { container_id };
                return Self::execute(program, argument, has_users.unwrap_or_default());
            };
            // Whatever ended one while it waited (a person, the kernel for lack of memory) must not fail a start.
            if child.is_alive() {
                return Ok(Ready { socket, child });
            }
        }
    }

    fn execute(program: &Program, argument: &str, has_users: bool) -> Result<Ready, ControlError> {
        let (socket, theirs) = crate::host::socket_pair()?;
        let child = program.spawn(argument, theirs, has_users)?;
        Ok(Ready { socket, child })
    }

    fn lock(&self) -> MutexGuard<'_, Vec<(bool, OwnedFd, SpawnedSupervisor)>> {
        // Nothing panics while it holds this; the value is whole in any case.
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
