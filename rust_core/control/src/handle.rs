//! A connection to one container's supervisor.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use errors::IoError;
use rustix::event::{poll, PollFd, PollFlags, Timespec};
use rustix::io::Errno;
use rustix::process::Pid;

use crate::error::ControlError;
use crate::exec::{Exec, Execs};
use crate::exit_record::{read_exit_record, ExitRecord};
use crate::peer;
use crate::start::ExecStart;
use crate::strays;
use crate::wire::{Report, Request, Running, PROTOCOL_VERSION};

/// How long a message waits for room in the supervisor's queue.
const TELL_TIMEOUT: Duration = Duration::from_secs(2);

/// The hold of a start that nobody has moved: no segment has this number.
const HELD_FROM_START: u64 = 0;

/// What is known of a container's process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ExitState {
    /// Its supervisor lives.
    Running,
    /// It has ended, and its exit record stands.
    Exited(ExitRecord),
    /// Its supervisor has gone without an exit record; processes of the container may live.
    Lost,
}

impl ExitState {
    /// `running`, `exited` or `lost`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Running => "running",
            Self::Exited(_) => "exited",
            Self::Lost => "lost",
        }
    }
}

/// A connection to one container's supervisor. Works only in the process that made it. Dropping it ends the connection
/// and its hold on the log; the container runs on.
#[derive(Debug)]
pub struct Supervisor {
    owner: Pid,
    container_id: String,
    run_dir: PathBuf,
    running: Running,
    socket: OwnedFd,
    init: OwnedFd,
    supervisor: OwnedFd,
    stdin: Mutex<Option<OwnedFd>>,
    terminal: Option<OwnedFd>,
    execs: Mutex<Execs>,
    hold: Mutex<Option<u64>>,
    state: Mutex<ExitState>,
    is_killed: AtomicBool,
}

impl Supervisor {
    /// Takes over what the first report of a supervisor carried.
    pub(crate) fn new(
        container_id: String,
        run_dir: &Path,
        socket: OwnedFd,
        running: Running,
        fds: Vec<OwnedFd>,
    ) -> Result<Self, ControlError> {
        if running.protocol != PROTOCOL_VERSION {
            return Err(ControlError::VersionMismatch {
                expected: format!("protocol {PROTOCOL_VERSION}"),
                actual: format!("protocol {}", running.protocol),
            });
        }
        let mut fds = fds.into_iter();
        let (init, supervisor) = (fds.next(), fds.next());
        let stdin = if running.has_stdin { fds.next() } else { None };
        let terminal = if running.has_terminal { fds.next() } else { None };
        let (Some(init), Some(supervisor)) = (init, supervisor) else {
            return Err(ControlError::Corrupt {
                path: run_dir.join(crate::rundir::SOCKET_NAME),
                detail: "the supervisor's report lacks its descriptors".to_owned(),
            });
        };
        let fail = |operation| move |errno: Errno| IoError::new(operation, "", errno.raw_os_error());
        rustix::io::ioctl_fionbio(&socket, true).map_err(fail("ioctl(FIONBIO)"))?;
        if let Some(stdin) = &stdin {
            // The flag belongs to this end alone; the container's end blocks as programs expect.
            rustix::io::ioctl_fionbio(stdin, true).map_err(fail("ioctl(FIONBIO)"))?;
        }
        Ok(Self {
            owner: rustix::process::getpid(),
            container_id,
            run_dir: run_dir.to_owned(),
            running,
            socket,
            init,
            supervisor,
            stdin: Mutex::new(stdin),
            terminal,
            execs: Mutex::default(),
            hold: Mutex::new(None),
            state: Mutex::new(ExitState::Running),
            is_killed: AtomicBool::new(false),
        })
    }

    /// The pidfd of the container's first process.
    pub(crate) fn init(&self) -> BorrowedFd<'_> {
        self.init.as_fd()
    }

    /// The plan asked for a hold from the first segment on, which the next `hold_log` moves or ends.
    pub(crate) fn is_held_from_start(&mut self, is_held: bool) {
        self.hold = Mutex::new(is_held.then_some(HELD_FROM_START));
    }

    /// Readable when `poll_exit` has news. Owned by this object.
    pub fn fileno(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }

    /// The container's first process as the host sees it.
    pub fn host_pid(&self) -> u32 {
        self.running.host_pid
    }

    /// The supervisor's own pid.
    pub fn supervisor_pid(&self) -> u32 {
        self.running.supervisor_pid
    }

    /// When the container's process was executed.
    pub fn start_time_unix_nanos(&self) -> i64 {
        self.running.start_time_unix_nanos
    }

    /// What was asked and could not be given in full, as `field: reason`.
    pub fn clamps(&self) -> &[String] {
        &self.running.clamps
    }

    /// Whether the container's process has ended. Never blocks on the supervisor (a lost one costs one file look-up).
    /// Once it is not `Running`, it never changes.
    ///
    /// # Errors
    /// `DATA_CORRUPT` for a message or exit record that no supervisor wrote.
    pub fn poll_exit(&self) -> Result<ExitState, ControlError> {
        self.check_owner()?;
        let mut state = lock(&self.state);
        if *state != ExitState::Running {
            return Ok(*state);
        }
        while *state == ExitState::Running {
            match peer::receive::<Report>(&self.socket) {
                Ok(Some((Report::Exited(record), _))) => *state = ExitState::Exited(record),
                Ok(Some((Report::Exec(report), fds))) => lock(&self.execs).update(report, fds),
                Ok(Some((Report::ExecOutput { id, extent }, _))) => lock(&self.execs).grow(&id, extent),
                Ok(None) => {
                    *state = read_exit_record(&self.run_dir)?.map_or(ExitState::Lost, ExitState::Exited);
                }
                Err(Errno::AGAIN) => break,
                Ok(Some(_)) | Err(Errno::BADMSG | Errno::MSGSIZE) => {
                    return Err(ControlError::Corrupt {
                        path: self.run_dir.join(crate::rundir::SOCKET_NAME),
                        detail: "a message that a running supervisor does not send".to_owned(),
                    })
                }
                Err(errno) => return Err(IoError::new("recvmsg", &self.run_dir, errno.raw_os_error()).into()),
            }
        }
        Ok(*state)
    }

    /// The root directory that the container's first process has, by a handle that opens nothing: with all that is mounted
    /// in the container's own namespace. Kept open it keeps those mounts, not the container.
    ///
    /// # Errors
    /// `PROCESS_NOT_FOUND` if the process has ended.
    ///
    /// Source: proc_pid_root(5).
    pub fn open_root(&self) -> Result<OwnedFd, ControlError> {
        self.check_owner()?;
        let path = format!("/proc/{}/root", self.running.host_pid);
        let flags = rustix::fs::OFlags::PATH | rustix::fs::OFlags::DIRECTORY | rustix::fs::OFlags::CLOEXEC;
        let root = rustix::fs::open(&path, flags, rustix::fs::Mode::empty());
        // Its number may be another process's by now, unless this one still has it.
        let gone = ControlError::ProcessNotFound { host_pid: self.running.host_pid };
        let no_wait = Timespec { tv_sec: 0, tv_nsec: 0 };
        let mut ended = [PollFd::new(&self.init, PollFlags::IN)];
        if poll(&mut ended, Some(&no_wait))
            .map_err(|errno| IoError::new("poll", &path, errno.raw_os_error()))?
            > 0
        {
            return Err(gone);
        }
        match root {
            Ok(root) => Ok(root),
            Err(Errno::NOENT | Errno::SRCH) => Err(gone),
            Err(errno) => Err(IoError::new("open", &path, errno.raw_os_error()).into()),
        }
    }

    /// What the supervisor has told of further processes since this was last called, in `poll_exit`: their ids, in no
    /// order.
    pub fn take_exec_news(&self) -> Vec<String> {
        lock(&self.execs).take_news()
    }

    /// All further processes that the supervisor has told of and that were not forgotten.
    pub fn execs(&self) -> Vec<Arc<Exec>> {
        lock(&self.execs).all()
    }

    /// See [`crate::SupervisorHost::exec`].
    pub(crate) fn begin_exec(
        &self,
        start: &ExecStart,
        plan: BorrowedFd<'_>,
    ) -> Result<Arc<Exec>, ControlError> {
        self.check_owner()?;
        let exec = lock(&self.execs).expect(&start.id);
        let (id, open_stdin, is_held) = (start.id.clone(), start.open_stdin, start.is_held);
        let sent = self.send(&Request::Exec { id, open_stdin, is_held }, &[plan]);
        if !matches!(sent, Ok(true)) {
            lock(&self.execs).forget(&start.id);
        }
        if sent? {
            return Ok(exec);
        }
        let detail = "it has gone".to_owned();
        Err(ControlError::Lost { id: self.container_id.clone(), detail })
    }

    /// The supervisor has told of `count` further processes, at `deadline` at the latest.
    pub(crate) fn await_execs(&self, count: usize, deadline: Instant) -> Result<(), ControlError> {
        let fail = |errno: Errno| IoError::new("poll", &self.run_dir, errno.raw_os_error());
        while self.poll_exit()? == ExitState::Running && lock(&self.execs).len() < count {
            if !wait_readable(&self.socket, deadline).map_err(fail)? {
                let detail = "it does not tell what it runs".to_owned();
                return Err(ControlError::Lost { id: self.container_id.clone(), detail });
            }
        }
        Ok(())
    }

    /// Output of a further process up to `position` is had, and the rest is waited for; None: it is read no longer.
    ///
    /// # Errors
    /// `IO_FAILED` if the supervisor cannot be told; one that has ended needs no telling.
    pub fn take_exec_output(&self, id: &str, position: Option<u64>) -> Result<(), ControlError> {
        self.check_owner()?;
        self.tell(&Request::ExecTake { id: id.to_owned(), position })
    }

    /// A further process reads the end of its input once nobody else holds its stdin. With a terminal, which has no end,
    /// it is sent the character that stands for it, unless it takes characters as they come, and stays as it is.
    ///
    /// # Errors
    /// As [`Supervisor::take_exec_output`].
    pub fn close_exec_stdin(&self, exec: &Exec) -> Result<(), ControlError> {
        self.check_owner()?;
        if exec.give_up_stdin() {
            self.tell(&Request::ExecCloseStdin { id: exec.id().to_owned() })?;
        }
        Ok(())
    }

    /// A further process and all that it has started is being killed. Idempotent.
    ///
    /// # Errors
    /// As [`Supervisor::take_exec_output`].
    pub fn kill_exec(&self, id: &str) -> Result<(), ControlError> {
        self.check_owner()?;
        self.tell(&Request::ExecKill { id: id.to_owned() })
    }

    /// Neither this object nor the supervisor keeps anything of a further process that has ended. Idempotent.
    ///
    /// # Errors
    /// As [`Supervisor::take_exec_output`].
    pub fn forget_exec(&self, id: &str) -> Result<(), ControlError> {
        self.check_owner()?;
        lock(&self.execs).forget(id);
        self.tell(&Request::ExecForget { id: id.to_owned() })
    }

    /// The container's terminal has this size; without one there is nothing to do. A size that it has already is no
    /// change.
    ///
    /// # Errors
    /// `IO_FAILED` if the kernel refuses.
    pub fn resize(&self, width: u16, height: u16) -> Result<(), ControlError> {
        self.check_owner()?;
        crate::exec::resize(self.terminal.as_ref(), width, height)
    }

    /// How the container's process ended, once `poll_exit` has said that it has.
    pub fn exit_record(&self) -> Option<ExitRecord> {
        match *lock(&self.state) {
            ExitState::Exited(record) => Some(record),
            ExitState::Running | ExitState::Lost => None,
        }
    }

    /// Sends a signal to the container's first process.
    ///
    /// # Errors
    /// `PROCESS_NOT_FOUND` once it has ended; `IO_FAILED` for a number that is no signal.
    pub fn signal(&self, number: i32) -> Result<(), ControlError> {
        self.check_owner()?;
        match sys::pidfd::send(&self.init, number) {
            Ok(()) => Ok(()),
            Err(Errno::SRCH) => Err(ControlError::ProcessNotFound { host_pid: self.running.host_pid }),
            Err(errno) => Err(IoError::new("pidfd_send_signal", "", errno.raw_os_error()).into()),
        }
    }

    /// An owned, non-blocking write end of the container's stdin; None if it was not asked for or is closed.
    ///
    /// # Errors
    /// `IO_FAILED` if no descriptor is left.
    pub fn stdin_fd(&self) -> Result<Option<OwnedFd>, ControlError> {
        self.check_owner()?;
        crate::exec::duplicate(lock(&self.stdin).as_ref())
    }

    /// The supervisor and this object give up their ends of stdin, so that the process reads EOF once nobody holds
    /// another; idempotent. A terminal, which has no end, is sent the character that stands for it, unless its reader
    /// takes characters as they come, and stays as it is.
    ///
    /// # Errors
    /// `IO_FAILED` if the supervisor cannot be told; one that has ended needs no telling.
    pub fn close_stdin(&self) -> Result<(), ControlError> {
        self.check_owner()?;
        let mut stdin = lock(&self.stdin);
        if let (Some(stdin), Some(_)) = (&*stdin, &self.terminal) {
            // Whoever comes next may type on: a terminal has no end of its own.
            crate::exec::send_end_of_input(stdin);
            return Ok(());
        }
        if stdin.take().is_none() {
            return Ok(());
        }
        drop(stdin);
        self.tell(&Request::CloseStdin)
    }

    /// Whatever in the container waits for a server whose file system the engine has mounted there is told EIO, again and
    /// again for some seconds until its process has ended; data that was not written yet is lost. Never blocks.
    ///
    /// # Errors
    /// `IO_FAILED` if the supervisor cannot be told; one that has ended needs no telling.
    pub fn force_servers(&self) -> Result<(), ControlError> {
        self.check_owner()?;
        self.tell(&Request::ForceServers)
    }

    /// Log segments from `segment` on are kept until the hold moves or ends (None, drop, or this process's death). When
    /// the log is at its bound, the container's writes wait. A hold that does not move costs nothing.
    ///
    /// # Errors
    /// `IO_FAILED` if the supervisor cannot be told; one that has ended needs no telling.
    pub fn hold_log(&self, segment: Option<u64>) -> Result<(), ControlError> {
        self.check_owner()?;
        let mut hold = lock(&self.hold);
        if *hold != segment {
            self.tell(&Request::HoldLog { segment })?;
            *hold = segment;
        }
        Ok(())
    }

    /// True once the supervisor process itself has ended, and is reaped if it was our child. Blocking, `timeout` at most.
    ///
    /// # Errors
    /// `IO_FAILED` if the wait itself fails.
    pub fn wait_gone(&self, timeout: Duration) -> Result<bool, ControlError> {
        self.check_owner()?;
        let fail = |operation| move |errno: Errno| IoError::new(operation, "", errno.raw_os_error());
        if !wait_readable(&self.supervisor, Instant::now() + timeout).map_err(fail("poll"))? {
            return Ok(false);
        }
        match sys::pidfd::try_wait(&self.supervisor) {
            // Not our child, or reaped before.
            Err(Errno::CHILD) | Ok(_) => Ok(true),
            Err(errno) => Err(fail("waitid")(errno).into()),
        }
    }

    /// SIGKILL to the supervisor; the container's process dies with it. Idempotent.
    ///
    /// # Errors
    /// `IO_FAILED` if the kernel refuses.
    pub fn kill_supervisor(&self) -> Result<(), ControlError> {
        self.check_owner()?;
        self.is_killed.store(true, Ordering::Relaxed);
        sys::pidfd::kill(&self.supervisor)
            .map_err(|errno| IoError::new("pidfd_send_signal", "", errno.raw_os_error()).into())
    }

    fn tell(&self, request: &Request) -> Result<(), ControlError> {
        self.send(request, &[]).map(drop)
    }

    /// False if the supervisor has gone.
    fn send(&self, request: &Request, fds: &[BorrowedFd<'_>]) -> Result<bool, ControlError> {
        let deadline = Instant::now() + TELL_TIMEOUT;
        let fail =
            |operation, errno: Errno| IoError::new(operation, &self.run_dir, errno.raw_os_error()).into();
        loop {
            match peer::send(&self.socket, request, fds) {
                Ok(()) => return Ok(true),
                Err(Errno::PIPE | Errno::CONNRESET | Errno::NOTCONN) => return Ok(false),
                // It has a queue of messages unread; it takes them as soon as it runs.
                Err(Errno::AGAIN) if Instant::now() < deadline => {
                    wait_for(&self.socket, PollFlags::OUT, deadline).map_err(|errno| fail("poll", errno))?;
                }
                Err(errno) => return Err(fail("sendmsg", errno)),
            }
        }
    }

    /// A forked copy of this process shares the socket and must not read from it.
    fn check_owner(&self) -> Result<(), ControlError> {
        if rustix::process::getpid() == self.owner {
            return Ok(());
        }
        Err(ControlError::Lost {
            id: self.container_id.clone(),
            detail: "its handle is used in another process than the one that made it".to_owned(),
        })
    }
}

impl Drop for Supervisor {
    fn drop(&mut self) {
        if self.is_killed.load(Ordering::Relaxed) {
            strays::leave(&self.supervisor);
        } else {
            // Reaps it if it is our child and has ended; else there is nothing to do.
            let _ = sys::pidfd::try_wait(&self.supervisor);
        }
    }
}

/// Waits until `fd` has something to read or its peer has gone; false at the deadline.
pub(crate) fn wait_readable(fd: impl AsFd, deadline: Instant) -> Result<bool, Errno> {
    wait_for(fd, PollFlags::IN, deadline)
}

fn wait_for(fd: impl AsFd, event: PollFlags, deadline: Instant) -> Result<bool, Errno> {
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        match poll(&mut [PollFd::new(&fd, event)], Some(&timespec(left))) {
            Ok(count) => return Ok(count > 0),
            Err(Errno::INTR) => {}
            Err(errno) => return Err(errno),
        }
    }
}

pub(crate) fn timespec(duration: Duration) -> Timespec {
    Timespec {
        tv_sec: i64::try_from(duration.as_secs()).unwrap_or(i64::MAX),
        tv_nsec: i64::from(duration.subsec_nanos()),
    }
}

pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Nothing panics while it holds one of these; the value is whole in any case.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
