//! Supervisors that were executed ahead of their containers. They wait for a plan, hold nothing of any container, and end
//! with the daemon, whose end of the connection is their only tie.

use std::os::fd::OwnedFd;
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::error::ControlError;
use crate::program::{Program, SpawnedSupervisor};

/// Most supervisors that wait at once; each takes about 100 KiB of memory and a network namespace.
pub const MAX_READY: usize = 8;
/// Stands as its argument until a supervisor knows its container; as long as an id, which takes its place.
const PLACEHOLDER: &str = "----------------------------------------------------------------";

/// A supervisor that has not been told anything yet.
pub(crate) struct Ready {
    pub(crate) socket: OwnedFd,
    pub(crate) child: SpawnedSupervisor,
}

/// Those that wait.
#[derive(Debug, Default)]
pub(crate) struct ReadySupervisors {
    waiting: Mutex<Vec<(OwnedFd, SpawnedSupervisor)>>,
}

impl ReadySupervisors {
    /// At least `count` wait, [`MAX_READY`] at most. Blocking (half a millisecond each).
    pub(crate) fn fill(&self, program: &Program, count: usize) -> Result<(), ControlError> {
        while self.lock().len() < count.min(MAX_READY) {
            let Ready { socket, child } = Self::execute(program, PLACEHOLDER)?;
            self.lock().push((socket, child));
        }
        Ok(())
    }

    /// One that waits, else one that is executed now.
    pub(crate) fn take(&self, program: &Program, container_id: &str) -> Result<Ready, ControlError> {
        loop {
            let Some((socket, child)) = self.lock().pop() else {
                return Self::execute(program, container_id);
            };
            // Whatever ended one while it waited (a person, the kernel for lack of memory) must not fail a start.
            if child.is_alive() {
                return Ok(Ready { socket, child });
            }
        }
    }

    fn execute(program: &Program, argument: &str) -> Result<Ready, ControlError> {
        let (socket, theirs) = crate::host::socket_pair()?;
        let child = program.spawn(argument, theirs)?;
        Ok(Ready { socket, child })
    }

    fn lock(&self) -> MutexGuard<'_, Vec<(OwnedFd, SpawnedSupervisor)>> {
        // Nothing panics while it holds this; the value is whole in any case.
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
