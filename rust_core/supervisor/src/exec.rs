//! One further process of the container: from its start to the last byte of its output.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use control::exit_record::{ExitRecord, ExitStatus};
use control::spool::{SpoolStream, SpoolWriter};
use control::wire::{bounded_clamps, bounded_failure, ExecReport, Extent};
use process::{Began, StartFailure, Starting};
use rustix::io::Errno;

use crate::exec_group::ExecGroup;
use crate::plan::now_unix_nanos;

/// Where it stands.
enum State {
    /// On its way to its program.
    Starting(Starting),
    /// Not started, and not reaped yet.
    Failing(OwnedFd),
    Running(OwnedFd),
    /// Reaped; output is left that there is no room for.
    Draining,
    Over,
}

/// What a descriptor of it stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// The way to its program.
    Start,
    /// The process itself.
    Process,
    /// One of its outputs.
    Output(SpoolStream),
}

/// The connection that reads its output.
#[derive(Clone, Copy)]
struct Reader {
    connection: u64,
    taken: u64,
    /// It was told of output that it has not taken yet.
    is_told: bool,
}

/// A further process.
pub struct Exec {
    /// Given by the daemon.
    pub id: String,
    /// Ours, never used twice.
    pub serial: u64,
    state: State,
    spool: SpoolWriter,
    stdin: Option<OwnedFd>,
    terminal: Option<OwnedFd>,
    stdout: Option<OwnedFd>,
    stderr: Option<OwnedFd>,
    reader: Option<Reader>,
    report: ExecReport,
    dropped_bytes: u64,
    open_stdin: bool,
    /// Its own group.
    pub group: Option<ExecGroup>,
}

/// Our ends of its pipes.
#[derive(Default)]
pub struct Ends {
    /// Write end; None if it was not asked for.
    pub stdin: Option<OwnedFd>,
    /// Read end; None with a terminal.
    pub stdout: Option<OwnedFd>,
    /// As `stdout`.
    pub stderr: Option<OwnedFd>,
}

impl Exec {
    /// One that is on its way, or could not be sent on it.
    pub fn new(
        id: String,
        serial: u64,
        started: Result<Starting, StartFailure>,
        ends: Ends,
        spool: SpoolWriter,
        open_stdin: bool,
    ) -> Self {
        let report = ExecReport {
            id: id.clone(),
            host_pid: 0,
            is_started: false,
            start_time_unix_nanos: 0,
            has_spool: false,
            has_pidfd: false,
            has_stdin: false,
            has_terminal: false,
            clamps: Vec::new(),
            extent: Extent::default(),
            failure: None,
            exit: None,
        };
        let Ends { stdin, stdout, stderr } = ends;
        let mut exec = Self {
            id,
            serial,
            state: State::Over,
            spool,
            stdin,
            terminal: None,
            stdout,
            stderr,
            reader: None,
            report,
            dropped_bytes: 0,
            open_stdin,
            group: None,
        };
        match started {
            Ok(starting) => exec.state = State::Starting(starting),
            Err(failure) => exec.report.failure = Some(bounded_failure(failure)),
        }
        exec
    }

    /// Nothing more will happen to it.
    pub fn is_over(&self) -> bool {
        matches!(self.state, State::Over)
    }

    /// Whether `connection` has to be told of output that there is.
    pub fn owes_news(&mut self, connection: u64) -> bool {
        match &mut self.reader {
            Some(reader) if reader.connection == connection && !reader.is_told => {
                reader.is_told = reader.taken < self.spool.head();
                reader.is_told
            }
            _ => false,
        }
    }

    /// What it is waited for.
    pub fn parts(&self) -> impl Iterator<Item = (Part, BorrowedFd<'_>)> {
        let (start, process) = match &self.state {
            State::Starting(starting) => (Some(starting.pipe()), None),
            State::Failing(pidfd) | State::Running(pidfd) => (None, Some(pidfd.as_fd())),
            State::Draining | State::Over => (None, None),
        };
        let is_read = matches!(self.state, State::Running(_)) && self.room(false) > 0;
        let output = [(SpoolStream::Stdout, &self.stdout), (SpoolStream::Stderr, &self.stderr)];
        let output = output.into_iter().filter(move |_| is_read);
        start
            .map(|fd| (Part::Start, fd))
            .into_iter()
            .chain(process.map(|fd| (Part::Process, fd)))
            .chain(output.filter_map(|(stream, fd)| Some((Part::Output(stream), fd.as_ref()?.as_fd()))))
    }

    fn room(&self, is_last: bool) -> usize {
        self.spool.room(self.reader.map(|reader| reader.taken), is_last)
    }

    /// Looks at what became of its start; true if there is something to tell.
    pub fn look(&mut self) -> bool {
        let State::Starting(starting) = std::mem::replace(&mut self.state, State::Over) else { return false };
        match starting.look() {
            Began::NotYet(starting) => {
                self.state = State::Starting(starting);
                false
            }
            Began::Running { pid, pidfd, terminal, clamps } => {
                self.report.host_pid = pid;
                self.report.is_started = true;
                self.report.start_time_unix_nanos = now_unix_nanos();
                self.report.clamps = bounded_clamps(clamps);
                if let Some(terminal) = terminal {
                    self.stdout = rustix::io::fcntl_dupfd_cloexec(&terminal, 3).ok();
                    self.stdin = None;
                    self.terminal = Some(terminal);
                }
                self.state = State::Running(pidfd);
                true
            }
            Began::Failed { failure, pidfd } => {
                self.report.failure = Some(bounded_failure(failure));
                self.state = State::Failing(pidfd);
                false
            }
        }
    }

    /// Reaps it if it has ended; true if there is something to tell.
    pub fn reap(&mut self, chunk: &mut [u8]) -> bool {
        let pidfd = match &self.state {
            State::Failing(pidfd) | State::Running(pidfd) => pidfd,
            State::Starting(_) | State::Draining | State::Over => return false,
        };
        let status = match sys::pidfd::try_wait(pidfd) {
            Ok(Some(status)) => status,
            Ok(None) => return false,
            // Cannot be: it is our child, and nobody else waits for it.
            Err(_) => sys::pidfd::ExitStatus::Killed(9),
        };
        (self.stdin, self.terminal, self.report.host_pid) = (None, None, 0);
        if self.report.failure.is_some() {
            self.finish();
            return true;
        }
        let status = match status {
            sys::pidfd::ExitStatus::Exited(code) => ExitStatus::Exited(code),
            sys::pidfd::ExitStatus::Killed(number) => ExitStatus::Killed(number),
        };
        self.report.exit = Some(ExitRecord {
            status,
            oom_kill_count: 0,
            exit_time_unix_nanos: now_unix_nanos(),
            dropped_log_bytes: 0,
        });
        self.state = State::Draining;
        self.drain(chunk, false)
    }

    /// Copies what an ended process left in its pipes, as far as there is room; true if that was all, which is to be
    /// told. Whoever else holds the pipes is not waited for.
    pub fn drain(&mut self, chunk: &mut [u8], is_last: bool) -> bool {
        if !matches!(self.state, State::Draining) {
            return false;
        }
        for stream in [SpoolStream::Stdout, SpoolStream::Stderr] {
            while self.copy(stream, chunk, is_last) {}
            let is_done = self.source(stream).is_none();
            if !is_done && self.room(is_last) == 0 {
                return false;
            }
            *self.source(stream) = None;
        }
        self.finish();
        true
    }

    fn finish(&mut self) {
        if let Some(exit) = &mut self.report.exit {
            exit.dropped_log_bytes = self.dropped_bytes;
        }
        (self.stdout, self.stderr) = (None, None);
        self.state = State::Over;
        if let Some(group) = &self.group {
            group.remove();
        }
    }

    fn source(&mut self, stream: SpoolStream) -> &mut Option<OwnedFd> {
        match stream {
            SpoolStream::Stdout => &mut self.stdout,
            SpoolStream::Stderr => &mut self.stderr,
        }
    }

    /// Copies one chunk of output; false if there is none now, or no room.
    pub fn copy(&mut self, stream: SpoolStream, chunk: &mut [u8], is_last: bool) -> bool {
        let room = self.room(is_last).min(chunk.len());
        let Some(pipe) = self.source(stream) else { return false };
        if room == 0 {
            return false;
        }
        match rustix::io::read(&*pipe, &mut chunk[..room]) {
            Ok(count) if count > 0 => {
                if self.spool.append(stream, &chunk[..count], now_unix_nanos()).is_err() {
                    self.dropped_bytes += count as u64;
                }
                true
            }
            Err(Errno::AGAIN | Errno::INTR) => false,
            // The end; of a terminal, EIO once nobody has it open.
            _ => {
                *self.source(stream) = None;
                false
            }
        }
    }

    /// The container has ended, and this process with it: what is left is copied, however little of it was taken, and
    /// what does not fit is counted. True if that is to be told.
    pub fn end(&mut self, chunk: &mut [u8]) -> bool {
        if self.is_over() {
            return false;
        }
        self.look();
        if let State::Starting(_) = self.state {
            self.state = State::Over;
            let rule = "the container has ended";
            self.report.failure = Some(StartFailure::rule(process::Step::Clone, "", rule));
            return true;
        }
        self.reap(chunk);
        if !self.drain(chunk, true) && !self.is_over() {
            for stream in [SpoolStream::Stdout, SpoolStream::Stderr] {
                while let Some(pipe) = self.source(stream) {
                    match rustix::io::read(&*pipe, &mut *chunk) {
                        Ok(count) if count > 0 => self.dropped_bytes += count as u64,
                        _ => *self.source(stream) = None,
                    }
                }
            }
            self.finish();
        }
        true
    }

    /// `connection` reads its output from `position` on, or no longer.
    pub fn take(&mut self, connection: u64, position: Option<u64>) {
        match position {
            Some(position) => {
                let taken = position.min(self.spool.head());
                self.reader = Some(Reader { connection, taken, is_told: false });
            }
            None => self.leave(connection),
        }
    }

    /// `connection` does not read its output any longer.
    pub fn leave(&mut self, connection: u64) {
        if self.reader.is_some_and(|reader| reader.connection == connection) {
            self.reader = None;
        }
    }

    /// Gives up the write end of its stdin.
    pub fn close_stdin(&mut self) {
        self.stdin = None;
        self.open_stdin = false;
    }

    /// Kills it and, where it has a group of its own, all that it has started; else its process group.
    pub fn kill(&self) {
        let pidfd = match &self.state {
            State::Starting(starting) => &starting.pidfd,
            State::Failing(pidfd) | State::Running(pidfd) => pidfd,
            State::Draining | State::Over => return self.kill_group(),
        };
        if let Some(pid) = rustix::process::Pid::from_raw(self.report.host_pid as i32) {
            // It leads its session and group; we have not reaped it, so the number is its own.
            let _ = rustix::process::kill_process_group(pid, rustix::process::Signal::KILL);
        }
        // Fails only if it has ended, which is what is wanted.
        let _ = sys::pidfd::kill(pidfd);
        self.kill_group();
    }

    fn kill_group(&self) {
        if let Some(group) = &self.group {
            group.kill();
        }
    }

    /// What stands in its spool.
    pub fn extent(&self) -> Extent {
        Extent {
            oldest: self.spool.oldest(),
            head: self.spool.head(),
            content_bytes: self.spool.content_bytes(),
        }
    }

    /// What a daemon is told, with descriptors if it has none yet.
    pub fn report(&self, is_introduced: bool) -> (ExecReport, Vec<BorrowedFd<'_>>) {
        let mut report = ExecReport { extent: self.extent(), ..self.report.clone() };
        // The end is told once the output is whole.
        if !self.is_over() {
            (report.exit, report.failure) = (None, None);
        }
        let mut fds = Vec::new();
        if !is_introduced && report.is_started {
            report.has_spool = true;
            fds.push(self.spool.file().as_fd());
            if let State::Running(pidfd) = &self.state {
                report.has_pidfd = true;
                fds.push(pidfd.as_fd());
                let stdin =
                    if self.open_stdin { self.stdin.as_ref().or(self.terminal.as_ref()) } else { None };
                report.has_stdin = stdin.is_some();
                fds.extend(stdin.map(AsFd::as_fd));
                report.has_terminal = self.terminal.is_some();
                fds.extend(self.terminal.as_ref().map(AsFd::as_fd));
            }
        }
        (report, fds)
    }

    /// How it ended, for the record that outlives this program.
    pub fn exit(&self) -> Option<ExitRecord> {
        self.report.exit
    }
}
