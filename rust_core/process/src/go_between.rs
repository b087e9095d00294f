//! The process between the parent and a container's first process, where that is to be in a user namespace. It does what
//! takes rights on the host, enters the namespace, gives birth there, and ends. Its child is the parent's.
//!
//! Only so do all namespaces of the container belong to its user namespace, while its mounts, groups and limits are made
//! by somebody who may. Source: user_namespaces(7), "Interaction of user namespaces and other types of namespaces".

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::io::Errno;
use rustix::pipe::{pipe_with, PipeFlags};
use rustix::process::{pidfd_open, set_dumpable_behavior, DumpableBehavior, Pid, PidfdFlags};
use rustix::thread::{move_into_link_name_space, LinkNameSpaceType, ThreadNameSpaceType};
use sys::clone::{self, Side};
use sys::failpoint;

use crate::at::{At, Outcome};
use crate::child::{self, Given, Outside, Prepared};
use crate::failure::StartFailure;
use crate::namespaces;
use crate::report;
use crate::spawn::fork;
use crate::spec::{Ids, Namespace};
use crate::step::Step;

/// How the parent hears the number of the process that was born.
pub(crate) struct Birth {
    hear: OwnedFd,
    tell: OwnedFd,
}

impl Birth {
    pub(crate) fn new() -> Outcome<Self> {
        let (hear, tell) = pipe_with(PipeFlags::CLOEXEC).at(Step::Clone, "pipe")?;
        Ok(Self { hear, tell })
    }
}

/// The container's first process has been born with `namespaces`; this one has to end then. The answer is only ever the
/// failure; for that process it is never.
pub(crate) fn run(
    given: Given<'_>,
    prepared: Prepared<'_>,
    user_namespace: BorrowedFd<'_>,
    namespaces: u64,
    birth: Birth,
) -> StartFailure {
    match give_birth(given, user_namespace, namespaces) {
        Err(failure) => failure,
        Ok((Side::Child, outside)) => {
            drop(birth);
            child::run_inside(given, prepared, outside)
        }
        Ok((Side::Parent { pid, .. }, _)) => {
            // Who does not hear it has ended, and the child with it.
            let _ = rustix::io::write(&birth.tell, &pid.to_le_bytes());
            sys::inherited::exit_now(0);
        }
    }
}

fn give_birth(given: Given<'_>, user_namespace: BorrowedFd<'_>, namespaces: u64) -> Outcome<(Side, Outside)> {
    // It holds descriptors of the host's, and its child does until it executes: nobody inside may look at either.
    set_dumpable_behavior(DumpableBehavior::NotDumpable).at(Step::Session, "dumpable")?;
    child::die_with_parent(given.reporter)?;
    let outside = child::outside(given)?;
    failpoint::hit("process.user_namespace");
    match given.spec.ids {
        Some(Ids { joined: Some(place), .. }) => {
            namespaces::enter(given.joined, place, ThreadNameSpaceType::USER, "user")?;
        }
        _ => {
            move_into_link_name_space(user_namespace, Some(LinkNameSpaceType::User)).at(Step::Join, "user")?
        }
    }
    if let Namespace::Joined(place) = given.spec.namespaces.pid {
        namespaces::enter(given.joined, place, ThreadNameSpaceType::PROCESS_ID, "pid")?;
    }
    match fork(namespaces | clone::SIBLING, None) {
        Ok(side) => Ok((side, outside)),
        // The first process of the namespace has ended, and nothing can begin there any more.
        Err(Errno::NOMEM) if given.spec.namespaces.pid != Namespace::Own => {
            Err(StartFailure::rule(Step::Join, "pid", "the container whose namespace is joined has ended"))
        }
        Err(errno) => Err(StartFailure::kernel(Step::Clone, "", errno)),
    }
}

/// The process that `pidfd`'s process gave birth to, which is reaped. Blocking, until there is one.
///
/// # Errors
/// What that process reported, or the step Clone.
pub(crate) fn await_birth(go_between: &OwnedFd, reports: &OwnedFd, birth: Birth) -> Outcome<(u32, OwnedFd)> {
    let Birth { hear, tell } = birth;
    drop(tell);
    let mut number = [0; 4];
    let heard = loop {
        match rustix::io::read(hear.as_fd(), &mut number) {
            Err(Errno::INTR) => {}
            answer => break answer.at(Step::Clone, "pipe"),
        }
    };
    let status = sys::pidfd::wait(go_between).at(Step::Clone, "wait");
    if heard? == number.len() {
        let pid = u32::from_le_bytes(number);
        // It is our child, and nobody has reaped it: the number is its own.
        let raw = i32::try_from(pid).ok().and_then(Pid::from_raw);
        let pidfd = raw.ok_or(Errno::SRCH).and_then(|pid| pidfd_open(pid, PidfdFlags::empty()));
        return Ok((pid, pidfd.at(Step::Clone, "pidfd_open")?));
    }
    let failure = report::read(reports).at(Step::Clone, "pipe")?.failure;
    Err(failure.unwrap_or_else(|| {
        let rule = format!("the process ended before its namespaces were made ({status:?})");
        StartFailure::rule(Step::Clone, "", rule)
    }))
}
