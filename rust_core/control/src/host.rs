//! Starts supervisors, and finds those that an earlier daemon started.

use std::ffi::OsStr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use cgroup::CgroupHost;
use errors::IoError;
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketFlags, SocketType};
use serde::Serialize;

use crate::error::ControlError;
use crate::exec::Exec;
use crate::filters::FilterCache;
use crate::groups::Groups;
use crate::handle::{wait_readable, Supervisor};
use crate::look::Look;
use crate::peer;
use crate::program::Program;
use crate::ready::{Ready, ReadySupervisors};
use crate::rundir;
use crate::start::{ContainerStart, ExecStart};
use crate::wire::{Report, Request, MAX_JOINED, MAX_PLAN_BYTES, PROTOCOL_VERSION};

/// How long a supervisor that was found may take to say what it runs.
pub const ADOPT_TIMEOUT: Duration = Duration::from_secs(5);

/// Starts supervisors from one opened program. One per daemon; shared between threads.
#[derive(Debug)]
pub struct SupervisorHost {
    program: Program,
    groups: CgroupHost,
    filters: FilterCache,
    ready: ReadySupervisors,
}

impl SupervisorHost {
    /// The program is open and of this build's version, so that an upgrade cannot mix versions. Blocking (it is run
    /// once).
    ///
    /// # Errors
    /// `IO_FAILED` if it cannot be opened or executed; `VERSION_MISMATCH` if it is another; `KERNEL_FEATURE_MISSING` on
    /// a host without cgroups.
    pub fn open(supervisor_path: &Path) -> Result<Self, ControlError> {
        let program = Program::open(supervisor_path)?;
        Ok(Self {
            program,
            groups: CgroupHost::open()?,
            filters: FilterCache::default(),
            ready: ReadySupervisors::default(),
        })
    }

    /// `count` supervisors wait for the next starts, which then need not execute any; [`crate::MAX_READY`] at most.
    /// Blocking (half a millisecond each). `has_users`: for containers that are in a user namespace.
    ///
    /// # Errors
    /// `IO_FAILED` if one cannot be executed.
    pub fn prepare(&self, count: usize, has_users: bool) -> Result<(), ControlError> {
        self.ready.fill(&self.program, count, has_users)
    }

    /// A process of its own looks at the path, below `root` if there is one: so that nothing waits for a file system that
    /// does not answer but what can be given up. Blocking (half a millisecond).
    ///
    /// # Errors
    /// `IO_FAILED` if it cannot be executed.
    pub fn look(&self, path: &OsStr, root: Option<BorrowedFd<'_>>) -> Result<Look, ControlError> {
        self.program.look(path, root)
    }

    /// A supervisor that waits, for a container whose network is to be made before its start; `has_users` as in
    /// [`SupervisorHost::prepare`], None where that does not matter. Blocking (half a millisecond if none waits).
    ///
    /// # Errors
    /// `IO_FAILED` if none can be executed.
    pub fn take_ready(&self, container_id: &str, has_users: Option<bool>) -> Result<Ready, ControlError> {
        self.ready.take(&self.program, container_id, has_users)
    }

    /// `joined`: the containers whose namespaces `start` shares, in the order of their places there. `ready`: the
    /// supervisor that is to start it; else any is taken.
    ///
    /// The container's process has been executed. Before that, its cgroups with their limits and its supervisor are
    /// made; on failure all of these are gone again, only what the caller made stands. Blocking, `timeout` at most
    /// (and what the kernel needs to end processes after a failure).
    ///
    /// # Errors
    /// `PROCESS_START_FAILED`, `USER_INVALID`, `CGROUP_LIMIT_REJECTED`, `KERNEL_FEATURE_MISSING`, `STORAGE_FULL`,
    /// `FIELD_INVALID`, `LIMIT_EXCEEDED`, `IO_FAILED`; `SUPERVISOR_LOST` if it ended or gave no answer in time.
    pub fn start(
        &self,
        start: &ContainerStart,
        joined: &[Arc<Supervisor>],
        ready: Option<Ready>,
        timeout: Duration,
    ) -> Result<Supervisor, ControlError> {
        let deadline = Instant::now() + timeout;
        if joined.len() > MAX_JOINED {
            return Err(ControlError::LimitExceeded {
                limit: "MAX_JOINED",
                limit_value: MAX_JOINED as u64,
                actual: joined.len() as u64,
                subject: "joined containers".to_owned(),
            });
        }
        let filters = self.filters.take(&start.profile()?, &start.capabilities)?;
        let plan = start.plan(filters.to_vec())?;
        let memory = sealed_plan(&start.container_id, &plan)?;

        // The supervisor begins to run while the groups are made.
        let Ready { socket, child } = match ready {
            Some(ready) => ready,
            None => self.ready.take(&self.program, &start.container_id, Some(start.ids.is_some()))?,
        };
        let sent = peer::send(&socket, &Request::Start { protocol: PROTOCOL_VERSION }, &[memory.as_fd()]);
        drop(memory);
        let told = |sent: Result<(), Errno>| match sent {
            // It has ended: what it said before is still to be read.
            Ok(()) | Err(Errno::PIPE | Errno::CONNRESET) => Ok(()),
            Err(errno) => Err(IoError::new("sendmsg", &start.run_dir, errno.raw_os_error())),
        };
        told(sent)?;
        let groups = Groups::make(&self.groups, start)?;
        let proceed = Request::Proceed { cgroup: groups.join(), oom_counter: groups.oom_counter() };
        sys::failpoint::hit("control.before_proceed");
        let pidfds: Vec<_> = joined.iter().map(|supervisor| supervisor.init()).collect();
        told(peer::send(&socket, &proceed, &pidfds))?;

        let lost =
            |detail: &str| ControlError::Lost { id: start.container_id.clone(), detail: detail.to_owned() };
        let report = loop {
            let is_ready = wait_readable(&socket, deadline)
                .map_err(|errno| IoError::new("poll", &start.run_dir, errno.raw_os_error()))?;
            if !is_ready {
                return Err(lost("it did not report a start in time"));
            }
            match receive(&socket, &start.run_dir)? {
                // What it made while it waited; nobody had need to know.
                Some((Report::Namespace, _)) => {}
                report => break report,
            }
        };
        let (mut running, fds) = match report {
            Some((Report::Running(running), fds)) => (running, fds),
            Some((Report::Failed(failure), _)) => return Err(failure.into()),
            Some((Report::FailedIo { operation, path, errno }, _)) => {
                return Err(IoError::new(operation_name(&operation), path, errno).into())
            }
            Some(_) => return Err(lost("it reported something else before a start")),
            None => return Err(lost("it ended before the container's process was started")),
        };
        running.clamps.extend(groups.clamps());
        let mut supervisor =
            Supervisor::new(start.container_id.clone(), &start.run_dir, socket, running, fds)?;
        supervisor.is_held_from_start(start.is_held);
        groups.release();
        child.release();
        Ok(supervisor)
    }

    /// A connection to the supervisor that listens in a run directory; None if none does. Blocking,
    /// [`ADOPT_TIMEOUT`] at most.
    ///
    /// # Errors
    /// `IO_FAILED`; `VERSION_MISMATCH` if it speaks another protocol; `DATA_CORRUPT` if it is no supervisor;
    /// `SUPERVISOR_LOST` if it says nothing.
    pub fn adopt(&self, run_dir: &Path) -> Result<Option<Supervisor>, ControlError> {
        let id = || run_dir.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let dir = match rundir::open(run_dir) {
            Ok(dir) => dir,
            Err(error) if error.errno == Errno::NOENT.raw_os_error() => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        let Some(socket) = rundir::connect(&dir, run_dir)? else { return Ok(None) };
        let fail = |operation| move |errno: Errno| IoError::new(operation, run_dir, errno.raw_os_error());
        if !peer::is_trusted(&socket).map_err(fail("getsockopt(SO_PEERCRED)"))? {
            return Err(IoError::new("connect", run_dir, Errno::ACCESS.raw_os_error()).into());
        }
        if !wait_readable(&socket, Instant::now() + ADOPT_TIMEOUT).map_err(fail("poll"))? {
            return Err(ControlError::Lost { id: id(), detail: "it does not answer".to_owned() });
        }
        match receive(&socket, run_dir)? {
            Some((Report::Running(running), fds)) => {
                let count = running.exec_count as usize;
                let supervisor = Supervisor::new(id(), run_dir, socket, running, fds)?;
                supervisor.await_execs(count, Instant::now() + ADOPT_TIMEOUT)?;
                Ok(Some(supervisor))
            }
            // It is about to end: its exit record tells the rest.
            Some((Report::Exited(_), _)) | None => Ok(None),
            Some(_) => Err(ControlError::Corrupt {
                path: run_dir.join(rundir::SOCKET_NAME),
                detail: "its first message is not what a supervisor says".to_owned(),
            }),
        }
    }

    /// A further process is on its way in the container of `supervisor`; what becomes of it is told by the answer, see
    /// [`Supervisor::take_exec_news`]. Never waits for it.
    ///
    /// # Errors
    /// `FIELD_INVALID`, `LIMIT_EXCEEDED`, `IO_FAILED`; `SUPERVISOR_LOST` if it has gone.
    pub fn exec(&self, supervisor: &Supervisor, start: &ExecStart) -> Result<Arc<Exec>, ControlError> {
        let filters = self.filters.take(&start.profile()?, &start.capabilities)?;
        let memory = sealed_plan(&start.id, &start.spec(filters.to_vec()))?;
        supervisor.begin_exec(start, memory.as_fd())
    }
}

/// What a supervisor is to start, in a sealed memory file.
fn sealed_plan<T: Serialize>(id: &str, plan: &T) -> Result<OwnedFd, ControlError> {
    let encoding_failed = |_| IoError::new("encode", "plan", Errno::INVAL.raw_os_error());
    let bytes = postcard::to_allocvec(plan).map_err(encoding_failed)?;
    if bytes.len() as u64 > MAX_PLAN_BYTES {
        return Err(ControlError::LimitExceeded {
            limit: "MAX_PLAN_BYTES",
            limit_value: MAX_PLAN_BYTES,
            actual: bytes.len() as u64,
            subject: format!("start of {id}"),
        });
    }
    Ok(sys::memfd::seal("fluyt-plan", &bytes)?)
}

pub(crate) fn socket_pair() -> Result<(OwnedFd, OwnedFd), IoError> {
    rustix::net::socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)
        .map_err(|errno| IoError::new("socketpair", "", errno.raw_os_error()))
}

fn receive(socket: &OwnedFd, run_dir: &Path) -> Result<Option<(Report, Vec<OwnedFd>)>, ControlError> {
    peer::receive(socket).map_err(|errno| match errno {
        Errno::BADMSG | Errno::MSGSIZE => ControlError::Corrupt {
            path: run_dir.join(rundir::SOCKET_NAME),
            detail: "it said what is no message".to_owned(),
        },
        errno => IoError::new("recvmsg", run_dir, errno.raw_os_error()).into(),
    })
}

/// The supervisor's operation as a name of our own: an `IoError` holds none that came from outside.
fn operation_name(told: &str) -> &'static str {
    const KNOWN: [&str; 14] = [
        "open",
        "getdents64",
        "fstat",
        "pread",
        "unlink",
        "socket",
        "bind",
        "listen",
        "pipe2",
        "poll",
        "recvmsg",
        "decode",
        "sendmsg",
        "getsockopt(SO_PEERCRED)",
    ];
    KNOWN.into_iter().find(|known| *known == told).unwrap_or("supervisor")
}
