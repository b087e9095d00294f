//! A further process in a container that runs: the parent's side. Nothing here waits for the child, which a paused
//! container would make wait for as long as it is paused.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::io::Errno;
use rustix::pipe::{pipe_with, PipeFlags};
use rustix::thread::{move_into_thread_name_spaces, ThreadNameSpaceType};
use sys::clone::Side;
use sys::failpoint;

use crate::at::{At, Outcome};
use crate::failure::{StartFailure, EXIT_NOT_FOUND};
use crate::report::{Collector, Reporter};
use crate::spawn::{fork, has_one_thread, occupy_stdio, NeverUnwind, Stdio};
use crate::spec::{CgroupJoin, ExecSpec, Ids};
use crate::step::Step;
use crate::terminal::Passage;
use crate::{capabilities, cgroups, join_child, limits};

/// The container that a process is to join.
#[derive(Debug, Clone, Copy)]
pub struct Container<'a> {
    /// Pidfd of its first process, whose namespaces are joined.
    pub init: BorrowedFd<'a>,
    /// Pidfd of the caller, to whose pid namespace it returns.
    pub own: BorrowedFd<'a>,
    /// The groups to be in. A v2 one must have no processes that it distributes resources among.
    pub cgroup: &'a CgroupJoin,
    /// As [`crate::Spec::ids`]: the user namespace is joined too.
    pub ids: Option<Ids>,
}

/// A child on its way to its program.
#[derive(Debug)]
pub struct Starting {
    /// Its pid as the caller sees it.
    pub pid: u32,
    /// Readable once it has ended; CLOEXEC.
    pub pidfd: OwnedFd,
    pipe: OwnedFd,
    report: Collector,
    passage: Option<Passage>,
}

/// What became of a [`Starting`].
#[derive(Debug)]
pub enum Began {
    /// It is still on its way: `pipe` tells when to look again.
    NotYet(Starting),
    /// Its program has been executed.
    Running {
        /// Its pid as the caller sees it.
        pid: u32,
        /// Readable once it has ended.
        pidfd: OwnedFd,
        /// The master side of its terminal, non-blocking, if the spec asked for one.
        terminal: Option<OwnedFd>,
        /// What was asked and could not be given in full, as `field: reason`.
        clamps: Vec<String>,
    },
    /// It did not get there. It is about to end, and is the caller's to reap by `pidfd`, which may take as long as the
    /// container is paused.
    Failed {
        /// The step at which it stopped.
        failure: StartFailure,
        /// Readable once it has ended.
        pidfd: OwnedFd,
    },
}

/// A child of ours is on its way to the program of `spec` in all namespaces and groups of `container`. It dies with the
/// thread that called this. Never waits for the child. `stdio`: as in `spawn`, but that what is not given is a pipe
/// without another end.
///
/// # Errors
/// The step at which it stopped, before there was a child; or ESRCH if the container has ended.
///
/// # Safety of use
/// As `spawn`: the process must have one thread only.
pub fn begin(spec: &ExecSpec, container: Container<'_>, stdio: Stdio<'_>) -> Result<Starting, StartFailure> {
    debug_assert!(has_one_thread(), "a copy of a process with threads");
    check(spec)?;
    let _guards = occupy_stdio()?;
    let capabilities = capabilities::parse(&spec.capabilities)?;
    let group = cgroups::open_v2(container.cgroup)?;
    let (pipe, write_end) = pipe_with(PipeFlags::CLOEXEC).at(Step::Clone, "pipe")?;
    rustix::io::ioctl_fionbio(&pipe, true).at(Step::Clone, "pipe")?;
    let passage = spec.terminal.map(|_| Passage::new()).transpose()?;
    failpoint::hit("process.join");
    // Of the caller only the namespace of children to come changes, and only for this one.
    move_into_thread_name_spaces(container.init, ThreadNameSpaceType::PROCESS_ID).at(Step::Clone, "pid")?;
    let forked = fork(0, group.as_ref());
    if let Ok(Side::Child) = forked {
        drop(pipe);
        let _guard = NeverUnwind;
        let reporter = Reporter::new(write_end);
        let socket = passage.as_ref().map(|passage| &passage.child);
        let failure = join_child::run(spec, container, capabilities, &stdio, socket, &reporter);
        reporter.failure(&failure);
        sys::inherited::exit_now(i32::from(failure.exit_code));
    }
    let back = move_into_thread_name_spaces(container.own, ThreadNameSpaceType::PROCESS_ID);
    match forked {
        Ok(Side::Parent { pid, pidfd }) => {
            if back.is_err() {
                // Fails only without rights that the way there needed too; the child must not run on unseen.
                let _ = sys::pidfd::kill(&pidfd);
            }
            back.at(Step::Clone, "own pid")?;
            Ok(Starting { pid, pidfd, pipe, report: Collector::default(), passage })
        }
        // The first process of the namespace has ended, and nothing can begin there any more.
        Err(Errno::NOMEM) => Err(StartFailure::rule(Step::Clone, "", "the container has ended")),
        Ok(Side::Child) => unreachable!("the child has left above"),
        Err(errno) => Err(StartFailure::kernel(Step::Clone, "", errno)),
    }
}

impl Starting {
    /// Readable when [`Starting::look`] may have news.
    pub fn pipe(&self) -> BorrowedFd<'_> {
        self.pipe.as_fd()
    }

    /// What became of the child. Never blocks.
    pub fn look(mut self) -> Began {
        let report = match self.report.collect(&self.pipe) {
            Ok(None) => return Began::NotYet(self),
            Ok(Some(report)) => report,
            Err(errno) => {
                // Nothing is known of the child any more: it must not run on unseen.
                let _ = sys::pidfd::kill(&self.pidfd);
                return Began::Failed {
                    failure: StartFailure::kernel(Step::Clone, "pipe", errno),
                    pidfd: self.pidfd,
                };
            }
        };
        let failure = match report.failure {
            None if report.has_reached_exec => match self.passage.map(Passage::take).transpose() {
                Ok(terminal) => {
                    let (pid, pidfd) = (self.pid, self.pidfd);
                    return Began::Running { pid, pidfd, terminal, clamps: report.clamps };
                }
                Err(failure) => {
                    let _ = sys::pidfd::kill(&self.pidfd);
                    failure
                }
            },
            None => StartFailure::rule(Step::Clone, "", "the process ended before its program ran"),
            Some(failure) => failure,
        };
        Began::Failed { failure, pidfd: self.pidfd }
    }
}

fn check(spec: &ExecSpec) -> Outcome<()> {
    if spec.args.first().is_none_or(String::is_empty) {
        let failure = StartFailure::rule(Step::Spec, "args", "the command has no name");
        return Err(failure.with_exit_code(EXIT_NOT_FOUND));
    }
    if !spec.cwd.starts_with('/') || spec.cwd.contains('\0') {
        return Err(StartFailure::rule(Step::Spec, &spec.cwd, "cwd is not an absolute path"));
    }
    limits::check(&spec.rlimits)
}
