//! From the daemon's plan to a started process: all that can be made ready before the cgroups stand, then the start.

use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;
use std::time::{SystemTime, UNIX_EPOCH};

use control::exit_record::EXIT_NAME;
use control::wire::{self, Plan, Request, Running, MAX_PLAN_BYTES, PROTOCOL_VERSION};
use control::{peer, rundir};
use errors::IoError;
use logs::{JournalSpec, JournalWriter, LogLimits, LogWriter, LogsError};
use process::spec::{CgroupJoin, Network};
use process::{ServerMounts, Spec, StartFailure, Stdio, Step};
use rustix::io::Errno;
use rustix::pipe::PipeFlags;
use rustix::process::PidfdFlags;
use sys::user_namespace::{Draft, Mapped};

use crate::connections::{Connections, MAX_CONNECTIONS};
use crate::ending::Ending;
use crate::execs::Execs;
use crate::idle::Ahead;
use crate::output::Output;
use crate::serve::Container;

/// Both ends of one of the process's streams.
struct Pipe {
    read: OwnedFd,
    write: OwnedFd,
}

/// What a start has used and nothing needs any more. To let go of it takes longer than a start should.
#[derive(Default)]
pub struct Spent {
    _mounts: Vec<OwnedFd>,
    _user: Option<Mapped>,
}

/// What stands before the process does.
pub struct Prepared {
    run_dir: OwnedFd,
    run_path: PathBuf,
    listener: OwnedFd,
    log: LogWriter,
    journal: Option<JournalWriter>,
    stdin: Option<Pipe>,
    /// Standard output and error; None if the process gets a terminal.
    outputs: Option<(Pipe, Pipe)>,
    open_stdin: bool,
    is_held: bool,
    container_id: String,
}

fn fail(operation: &'static str) -> impl Fn(Errno) -> IoError {
    move |errno| IoError::new(operation, "", errno.raw_os_error())
}

/// Waits for the plan and makes ready what it names.
///
/// # Errors
/// The error of the system call that failed; nothing that the run directory did not hold before stands then.
pub fn receive(daemon: &OwnedFd) -> Result<(Prepared, Spec), IoError> {
    let malformed = || fail("decode")(Errno::BADMSG);
    let (request, mut fds) = loop {
        let (request, fds) = peer::receive::<Request>(daemon)
            .map_err(fail("recvmsg"))?
            .ok_or_else(|| fail("recvmsg")(Errno::PIPE))?;
        match (&request, fds.first()) {
            (Request::OpenSockets, Some(namespace)) => {
                crate::idle::open_sockets(daemon, namespace).map_err(fail("setns"))?;
            }
            _ => break (request, fds),
        }
    };
    let memory = match (request, fds.pop()) {
        (Request::Start { protocol: PROTOCOL_VERSION }, Some(memory)) if fds.is_empty() => memory,
        _ => return Err(malformed()),
    };
    let bytes = sys::memfd::read_sealed(memory, MAX_PLAN_BYTES)?;
    let plan: Plan = wire::decode(&bytes).map_err(|_| malformed())?;
    drop(bytes);
    let prepared = Prepared::new(&plan)?;
    Ok((prepared, plan.spec))
}

/// What stands when the process is to be started.
pub struct Proceed {
    /// How the cgroups are joined.
    pub cgroup: CgroupJoin,
    /// The file that counts kills.
    pub oom_counter: Option<String>,
    /// Pidfds of the containers whose namespaces are joined.
    pub joined: Vec<OwnedFd>,
}

/// Waits until the cgroups stand; None if the daemon gave up or died.
///
/// # Errors
/// The recvmsg(2) error, or EBADMSG for another message.
pub fn await_proceed(daemon: &OwnedFd) -> Result<Option<Proceed>, IoError> {
    match peer::receive::<Request>(daemon).map_err(fail("recvmsg"))? {
        Some((Request::Proceed { cgroup, oom_counter }, joined)) => {
            Ok(Some(Proceed { cgroup, oom_counter, joined }))
        }
        Some(_) => Err(fail("decode")(Errno::BADMSG)),
        None => Ok(None),
    }
}

impl Prepared {
    fn new(plan: &Plan) -> Result<Self, IoError> {
        let run_path = PathBuf::from(&plan.run_dir);
        let run_dir = rundir::open(&run_path)?;
        // The record of an earlier run must not pass for this one's.
        rundir::remove(&run_dir, &run_path, EXIT_NAME)?;
        let limits = LogLimits::new(plan.log_segment_bytes, plan.log_segment_count);
        let log = LogWriter::open(plan.log_dir.as_ref(), limits).map_err(|error| match error {
            LogsError::Io(error) => error,
            LogsError::CursorInvalid { .. } => fail("open")(Errno::INVAL),
        })?;
        let journal = plan.journal.as_ref().map(|journal| {
            let (socket_path, fields) = (PathBuf::from(&journal.socket_path), journal.fields.clone());
            JournalWriter::new(&JournalSpec { socket_path, fields })
        });
        let journal = journal.transpose()?;
        let pipe = || {
            let (read, write) = rustix::pipe::pipe_with(PipeFlags::CLOEXEC).map_err(fail("pipe2"))?;
            Ok(Pipe { read, write })
        };
        let has_terminal = plan.spec.terminal.is_some();
        let outputs = if has_terminal { None } else { Some((pipe()?, pipe()?)) };
        for pipe in outputs.iter().flat_map(|(stdout, stderr)| [stdout, stderr]) {
            // The flag belongs to the reading end alone.
            rustix::io::ioctl_fionbio(&pipe.read, true).map_err(fail("ioctl(FIONBIO)"))?;
        }
        let open_stdin = plan.open_stdin;
        let stdin = (open_stdin && !has_terminal).then(pipe).transpose()?;
        let listener = rundir::listen(&run_dir, &run_path, MAX_CONNECTIONS as i32)?;
        let container_id = plan.container_id.clone();
        let is_held = plan.is_held;
        Ok(Self {
            run_dir,
            run_path,
            listener,
            log,
            journal,
            stdin,
            outputs,
            open_stdin,
            is_held,
            container_id,
        })
    }

    /// The run directory is as it was found.
    pub fn undo(self) {
        // It goes with the directory if this fails.
        let _ = rundir::remove(&self.run_dir, &self.run_path, rundir::SOCKET_NAME);
    }

    /// The container that this is for.
    pub fn container_id(&self) -> &str {
        &self.container_id
    }

    /// The container's process has executed its program. `ahead`: namespaces made before, for a container that has its own.
    ///
    /// # Errors
    /// The step at which it stopped; nothing is left then.
    pub fn spawn(
        self,
        spec: &Spec,
        oom_counter: Option<String>,
        ahead: Option<Ahead>,
        joined: &[OwnedFd],
    ) -> Result<Container, StartFailure> {
        let fail = |operation: &'static str| move |errno| StartFailure::kernel(Step::Stdio, operation, errno);
        let own = || {
            rustix::process::pidfd_open(rustix::process::getpid(), PidfdFlags::empty())
                .map_err(fail("pidfd_open"))
        };
        let (own, execs_own) = (own()?, own()?);
        let stdio = Stdio {
            stdin: self.stdin.as_ref().map(|pipe| pipe.read.as_fd()),
            stdout: self.outputs.as_ref().map(|(stdout, _)| stdout.write.as_fd()),
            stderr: self.outputs.as_ref().map(|(_, stderr)| stderr.write.as_fd()),
        };
        let joined: Vec<_> = joined.iter().map(AsFd::as_fd).collect();
        let spawned = namespaces(spec, ahead).and_then(|(network, user)| {
            let namespace = user.as_ref().map(|user| user.namespace.as_fd());
            let init = process::spawn(spec, stdio, network.as_ref().map(AsFd::as_fd), namespace, &joined)?;
            Ok((init, user))
        });
        let (init, user) = match spawned {
            Ok(spawned) => spawned,
            Err(failure) => {
                self.undo();
                return Err(failure);
            }
        };
        sys::failpoint::hit("supervisor.after_spawn");
        let copy = |fd: &OwnedFd| rustix::io::fcntl_dupfd_cloexec(fd, 3).map_err(fail("fcntl"));
        let kept_open = init.terminal.as_ref().map(process::terminal_peer).transpose()?;
        let (stdout, stderr, stdin) = match (self.outputs, &init.terminal) {
            (Some((stdout, stderr)), _) => {
                (stdout.read, Some(stderr.read), self.stdin.map(|pipe| pipe.write))
            }
            (None, Some(terminal)) => {
                (copy(terminal)?, None, self.open_stdin.then(|| copy(terminal)).transpose()?)
            }
            (None, None) => {
                return Err(StartFailure::rule(Step::Stdio, "", "the terminal did not arrive"));
            }
        };
        let running = Running {
            protocol: PROTOCOL_VERSION,
            host_pid: init.pid,
            supervisor_pid: std::process::id(),
            start_time_unix_nanos: now_unix_nanos(),
            has_stdin: stdin.is_some(),
            has_terminal: init.terminal.is_some(),
            exec_count: 0,
            clamps: wire::bounded_clamps(init.clamps),
        };
        let oom_score_adj = own_oom_score();
        Ok(Container {
            running,
            first_hold: self.is_held.then(|| self.log.segment()),
            connections: Connections::new(
                self.listener,
                init.pidfd,
                own,
                stdin,
                init.terminal,
                ServerMounts::of(spec, init.pid),
            ),
            execs: Execs::new(
                execs_own,
                spec.cgroup.clone(),
                spec.ids,
                spec.oom_score_adj.unwrap_or(oom_score_adj),
            ),
            output: Output::new(self.log, stdout, stderr, kept_open).with_journal(self.journal),
            ending: Ending::new(self.run_dir, self.run_path, oom_counter),
            spent: Spent { _mounts: init.spent, _user: user },
        })
    }
}

/// The network and the user namespace that are the container's own, as far as they are made before it is: what was made
/// ahead, if it fits.
fn namespaces(spec: &Spec, ahead: Option<Ahead>) -> Result<(Option<OwnedFd>, Option<Mapped>), StartFailure> {
    let fail = |errno| StartFailure::kernel(Step::Clone, "user namespace", errno);
    let (network, draft) = match ahead {
        // Only the host's own user namespace may have power over what was made in it.
        Some(ahead) if ahead.user.is_some() == spec.ids.is_some() => (Some(ahead.network), ahead.user),
        _ => (None, None),
    };
    let network = network.filter(|_| spec.network == Network::None);
    let Some(ids) = spec.ids else { return Ok((network, None)) };
    let draft = draft.map_or_else(|| Draft::new(false), Ok).map_err(fail)?;
    Ok((network, Some(draft.map(ids.first_id, ids.count).map_err(fail)?)))
}

/// The OOM score that a process of the container has if it asks for none; 0 where it cannot be read.
fn own_oom_score() -> i32 {
    let text = std::fs::read_to_string("/proc/self/oom_score_adj").unwrap_or_default();
    text.trim().parse().unwrap_or_default()
}

/// The wall clock.
pub fn now_unix_nanos() -> i64 {
    // A clock before 1970 counts as 1970.
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_nanos()).unwrap_or(i64::MAX)
}
