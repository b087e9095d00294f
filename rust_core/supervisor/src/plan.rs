//! From the daemon's plan to a started process: all that can be made ready before the cgroups stand, then the start.

use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;
use std::time::{SystemTime, UNIX_EPOCH};

use control::exit_record::EXIT_NAME;
use control::wire::{self, Plan, Request, Running, MAX_PLAN_BYTES, PROTOCOL_VERSION};
use control::{peer, rundir};
use errors::IoError;
use logs::{LogLimits, LogWriter, LogsError};
use process::spec::{CgroupJoin, Network};
use process::{Spec, StartFailure, Stdio};
use rustix::io::Errno;
use rustix::pipe::PipeFlags;

use crate::connections::{Connections, MAX_CONNECTIONS};
use crate::ending::Ending;
use crate::output::Output;
use crate::serve::Container;

/// Both ends of one of the process's streams.
struct Pipe {
    read: OwnedFd,
    write: OwnedFd,
}

/// What stands before the process does.
pub struct Prepared {
    run_dir: OwnedFd,
    run_path: PathBuf,
    listener: OwnedFd,
    log: LogWriter,
    stdin: Option<Pipe>,
    stdout: Pipe,
    stderr: Pipe,
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
    let (request, mut fds) = peer::receive::<Request>(daemon)
        .map_err(fail("recvmsg"))?
        .ok_or_else(|| fail("recvmsg")(Errno::PIPE))?;
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

/// Waits until the cgroups stand: how they are joined, and the file that counts kills; None if the daemon gave up or
/// died.
///
/// # Errors
/// The recvmsg(2) error, or EBADMSG for another message.
pub fn await_proceed(daemon: &OwnedFd) -> Result<Option<(CgroupJoin, Option<String>)>, IoError> {
    match peer::receive::<Request>(daemon).map_err(fail("recvmsg"))? {
        Some((Request::Proceed { cgroup, oom_counter }, _)) => Ok(Some((cgroup, oom_counter))),
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
        let pipe = || {
            let (read, write) = rustix::pipe::pipe_with(PipeFlags::CLOEXEC).map_err(fail("pipe2"))?;
            Ok(Pipe { read, write })
        };
        let (stdout, stderr) = (pipe()?, pipe()?);
        for pipe in [&stdout, &stderr] {
            // The flag belongs to the reading end alone.
            rustix::io::ioctl_fionbio(&pipe.read, true).map_err(fail("ioctl(FIONBIO)"))?;
        }
        let stdin = plan.open_stdin.then(pipe).transpose()?;
        let listener = rundir::listen(&run_dir, &run_path, MAX_CONNECTIONS as i32)?;
        let container_id = plan.container_id.clone();
        Ok(Self { run_dir, run_path, listener, log, stdin, stdout, stderr, container_id })
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

    /// The container's process has executed its program. `network`: made ahead, for a container that has its own.
    ///
    /// # Errors
    /// The step at which it stopped; nothing is left then.
    pub fn spawn(
        self,
        spec: &Spec,
        oom_counter: Option<String>,
        network: Option<&OwnedFd>,
    ) -> Result<Container, StartFailure> {
        let stdio = Stdio {
            stdin: self.stdin.as_ref().map(|pipe| pipe.read.as_fd()),
            stdout: Some(self.stdout.write.as_fd()),
            stderr: Some(self.stderr.write.as_fd()),
        };
        let network = network.filter(|_| spec.network == Network::None).map(AsFd::as_fd);
        let init = match process::spawn(spec, stdio, network) {
            Ok(init) => init,
            Err(failure) => {
                self.undo();
                return Err(failure);
            }
        };
        sys::failpoint::hit("supervisor.after_spawn");
        let stdin = self.stdin.map(|pipe| pipe.write);
        let running = Running {
            protocol: PROTOCOL_VERSION,
            host_pid: init.pid,
            supervisor_pid: std::process::id(),
            start_time_unix_nanos: now_unix_nanos(),
            has_stdin: stdin.is_some(),
            clamps: wire::bounded_clamps(init.clamps),
        };
        Ok(Container {
            running,
            connections: Connections::new(self.listener, init.pidfd, stdin),
            output: Output::new(self.log, self.stdout.read, self.stderr.read),
            ending: Ending::new(self.run_dir, self.run_path, oom_counter),
        })
    }
}

/// The wall clock.
pub fn now_unix_nanos() -> i64 {
    // A clock before 1970 counts as 1970.
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_nanos()).unwrap_or(i64::MAX)
}
