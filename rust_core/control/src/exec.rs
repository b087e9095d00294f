//! Further processes of one container as the daemon knows them: what the supervisor has told, and the descriptors that
//! came along, so that input, signals and sizes go to the process directly and output is read from its spool.

use std::collections::{HashMap, HashSet};
use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex};

use errors::IoError;
use process::StartFailure;
use rustix::io::Errno;
use rustix::termios::{tcgetattr, tcsetwinsize, LocalModes, SpecialCodeIndex, Winsize};

use crate::error::ControlError;
use crate::exit_record::ExitRecord;
use crate::handle::lock;
use crate::spool::{self, SpoolRecord};
use crate::wire::{ExecReport, Extent};

/// A further process. Shared between threads; works only in the process that its supervisor's handle works in.
#[derive(Debug)]
pub struct Exec {
    id: String,
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    facts: Facts,
    spool: Option<Arc<OwnedFd>>,
    pidfd: Option<OwnedFd>,
    stdin: Option<OwnedFd>,
    terminal: Option<OwnedFd>,
}

/// What is known of a further process.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Facts {
    /// Its pid as the host sees it; 0 if it has none.
    pub host_pid: u32,
    /// Its program has been executed.
    pub is_started: bool,
    /// When that was.
    pub start_time_unix_nanos: i64,
    /// What could not be given in full, as `field: reason`.
    pub clamps: Vec<String>,
    /// What stands in its spool.
    pub extent: Extent,
    /// Why it could not be started.
    pub failure: Option<StartFailure>,
    /// How it ended.
    pub exit: Option<ExitRecord>,
}

impl Exec {
    /// Its id.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// What the supervisor has told so far.
    pub fn facts(&self) -> Facts {
        lock(&self.inner).facts.clone()
    }

    /// What stands in its spool, as far as was told.
    pub fn extent(&self) -> Extent {
        lock(&self.inner).facts.extent
    }

    /// Sends a signal to the process.
    ///
    /// # Errors
    /// `PROCESS_NOT_FOUND` if it has ended or is not started; `IO_FAILED` for a number that is no signal.
    pub fn signal(&self, number: i32) -> Result<(), ControlError> {
        let inner = lock(&self.inner);
        let gone = ControlError::ProcessNotFound { host_pid: inner.facts.host_pid };
        let Some(pidfd) = &inner.pidfd else { return Err(gone) };
        match sys::pidfd::send(pidfd, number) {
            Ok(()) => Ok(()),
            Err(Errno::SRCH) => Err(gone),
            Err(errno) => Err(IoError::new("pidfd_send_signal", "", errno.raw_os_error()).into()),
        }
    }

    /// Its terminal has this size; without one there is nothing to do.
    ///
    /// # Errors
    /// `IO_FAILED` if the kernel refuses.
    pub fn resize(&self, width: u16, height: u16) -> Result<(), ControlError> {
        resize(lock(&self.inner).terminal.as_ref(), width, height)
    }

    /// An owned, non-blocking write end of its stdin; None if it was not asked for, is closed, or is not there yet.
    ///
    /// # Errors
    /// `IO_FAILED` if no descriptor is left.
    pub fn stdin_fd(&self) -> Result<Option<OwnedFd>, ControlError> {
        duplicate(lock(&self.inner).stdin.as_ref())
    }

    /// True if there was one to give up; a terminal is told that input is over and stays, for whoever comes next.
    pub(crate) fn give_up_stdin(&self) -> bool {
        let mut inner = lock(&self.inner);
        if let (Some(stdin), Some(_)) = (&inner.stdin, &inner.terminal) {
            send_end_of_input(stdin);
            return false;
        }
        inner.stdin.take().is_some()
    }

    /// Its output from `position` on, about `max_bytes` of it, and the position after that. The caller holds it, see
    /// [`crate::Supervisor::take_exec_output`].
    ///
    /// # Errors
    /// `DATA_CORRUPT` if no chunk begins at `position`.
    pub fn read(&self, position: u64, max_bytes: usize) -> Result<(Vec<SpoolRecord>, u64), ControlError> {
        let (file, head) = {
            let inner = lock(&self.inner);
            (inner.spool.clone(), inner.facts.extent.head)
        };
        let Some(file) = file else { return Ok((Vec::new(), position)) };
        spool::read(&file, position, head, max_bytes).map_err(|errno| ControlError::Corrupt {
            path: format!("output of {}", self.id).into(),
            detail: format!("no chunk of it can be read at {position} ({errno})"),
        })
    }

    fn update(&self, report: ExecReport, fds: Vec<OwnedFd>) {
        let mut inner = lock(&self.inner);
        let mut fds = fds.into_iter();
        let mut next = |is_there: bool| if is_there { fds.next() } else { None };
        if report.has_spool {
            inner.spool = next(true).map(Arc::new);
            inner.pidfd = next(report.has_pidfd);
            inner.stdin = next(report.has_stdin);
            inner.terminal = next(report.has_terminal);
            if let Some(stdin) = &inner.stdin {
                // The flag belongs to this end alone; the process's own blocks as programs expect.
                let _ = rustix::io::ioctl_fionbio(stdin, true);
            }
        }
        if report.exit.is_some() || report.failure.is_some() {
            (inner.pidfd, inner.stdin, inner.terminal) = (None, None, None);
        }
        inner.facts = Facts {
            host_pid: report.host_pid,
            is_started: report.is_started,
            start_time_unix_nanos: report.start_time_unix_nanos,
            clamps: report.clamps,
            extent: report.extent,
            failure: report.failure,
            exit: report.exit,
        };
    }
}

/// All of one container, by id.
#[derive(Debug, Default)]
pub(crate) struct Execs {
    known: HashMap<String, Arc<Exec>>,
    news: HashSet<String>,
}

impl Execs {
    /// One of this id is about to be told of.
    pub(crate) fn expect(&mut self, id: &str) -> Arc<Exec> {
        let make = || Arc::new(Exec { id: id.to_owned(), inner: Mutex::default() });
        Arc::clone(self.known.entry(id.to_owned()).or_insert_with(make))
    }

    pub(crate) fn update(&mut self, report: ExecReport, fds: Vec<OwnedFd>) {
        let exec = self.expect(&report.id);
        self.news.insert(report.id.clone());
        exec.update(report, fds);
    }

    pub(crate) fn grow(&mut self, id: &str, extent: Extent) {
        // One that was forgotten may have had news under way.
        if let Some(exec) = self.known.get(id) {
            lock(&exec.inner).facts.extent = extent;
            self.news.insert(id.to_owned());
        }
    }

    pub(crate) fn forget(&mut self, id: &str) {
        self.known.remove(id);
        self.news.remove(id);
    }

    pub(crate) fn take_news(&mut self) -> Vec<String> {
        self.news.drain().collect()
    }

    pub(crate) fn all(&self) -> Vec<Arc<Exec>> {
        self.known.values().cloned().collect()
    }

    pub(crate) fn len(&self) -> usize {
        self.known.len()
    }
}

pub(crate) fn duplicate(fd: Option<&OwnedFd>) -> Result<Option<OwnedFd>, ControlError> {
    let duplicate = |fd: &OwnedFd| rustix::io::fcntl_dupfd_cloexec(fd, 3);
    let duplicated = fd.map(duplicate).transpose();
    Ok(duplicated.map_err(|errno| IoError::new("fcntl(F_DUPFD_CLOEXEC)", "", errno.raw_os_error()))?)
}

pub(crate) fn resize(terminal: Option<&OwnedFd>, width: u16, height: u16) -> Result<(), ControlError> {
    let Some(terminal) = terminal else { return Ok(()) };
    let size = Winsize { ws_row: height, ws_col: width, ws_xpixel: 0, ws_ypixel: 0 };
    Ok(tcsetwinsize(terminal, size)
        .map_err(|errno| IoError::new("ioctl(TIOCSWINSZ)", "", errno.raw_os_error()))?)
}

/// What the reader of a terminal takes as the end of its input, if it reads whole lines. Source: termios(3), VEOF.
pub(crate) fn send_end_of_input(master: &OwnedFd) {
    if let Ok(settings) = tcgetattr(master) {
        if settings.local_modes.contains(LocalModes::ICANON) {
            // A terminal whose queue is full has a reader that does not read; nothing more can be told to it.
            let _ = rustix::io::write(master, &[settings.special_codes[SpecialCodeIndex::VEOF]]);
        }
    }
}
