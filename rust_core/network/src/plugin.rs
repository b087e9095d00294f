//! Programs that attach containers in the place of this crate: CNI plugins, which the host's operator has installed.
//!
//! One is executed with an environment of the caller's alone, its input from a file, its output bounded, and a time limit.
//! The file is locked, and the plugin has the lock by its standard input: whoever executes one with the same file, a next
//! daemon too, waits until an earlier one has ended.

use std::ffi::CString;
use std::fs::File;
use std::io::Read;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::time::{Duration, Instant};

use rustix::event::{poll, PollFd, PollFlags, Timespec};
use rustix::fs::{fcntl_getfl, fcntl_setfl, flock, FlockOperation, Mode, OFlags};
use rustix::io::Errno;
use rustix::pipe::{pipe_with, PipeFlags};
use rustix::process::{kill_process_group, waitpid, Signal, WaitOptions};
use sys::executing;

use crate::NetworkError;

/// What a plugin says on its standard error is kept up to here, for a log.
pub const MAX_ERROR_BYTES: usize = 4_096;
const CHUNK_BYTES: usize = 16_384;
/// How often it is looked whether an earlier plugin has ended.
const LOCK_INTERVAL: Duration = Duration::from_millis(10);

/// One execution.
pub struct Execution<'a> {
    /// The plugin, absolute.
    pub program: &'a Path,
    /// All of its environment.
    pub environment: &'a [(String, String)],
    /// What it reads.
    pub input: &'a [u8],
    /// The file that it reads it from; made where absent, and left.
    pub input_path: &'a Path,
    /// How long it may take, with the wait for an earlier one.
    pub timeout: Duration,
    /// The most that it may print.
    pub max_output_bytes: usize,
}

/// How an execution ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// With this code.
    Exited(i32),
    /// By this signal.
    Killed(i32),
    /// It took too long and was killed, or an earlier one did not end in time.
    TimedOut,
    /// It printed too much and was killed.
    TooLong,
}

/// What came of an execution.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ended {
    /// How it ended.
    pub end: End,
    /// What it printed.
    pub output: Vec<u8>,
    /// The beginning of what it said on its standard error.
    pub errors: Vec<u8>,
}

impl Execution<'_> {
    /// Executes the plugin. On return neither it nor anything of its process group runs. Blocking.
    ///
    /// # Errors
    /// Io of `open`, `flock`, `write`, `exec` (errno 2: no such program), `poll`, `wait`.
    pub fn run(&self) -> Result<Ended, NetworkError> {
        let deadline = Instant::now() + self.timeout;
        let refused =
            |operation, errno| NetworkError::refused(operation, &self.input_path.to_string_lossy(), errno);
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::CLOEXEC | OFlags::NOFOLLOW;
        let input = rustix::fs::open(self.input_path, flags, Mode::RUSR | Mode::WUSR)
            .map_err(|errno| refused("open", errno))?;
        loop {
            match flock(&input, FlockOperation::NonBlockingLockExclusive) {
                Ok(()) => break,
                Err(Errno::WOULDBLOCK) if Instant::now() < deadline => std::thread::sleep(LOCK_INTERVAL),
                Err(Errno::WOULDBLOCK) => {
                    return Ok(Ended { end: End::TimedOut, output: Vec::new(), errors: Vec::new() })
                }
                Err(Errno::INTR) => {}
                Err(errno) => return Err(refused("flock", errno)),
            }
        }
        rustix::fs::ftruncate(&input, 0).map_err(|errno| refused("ftruncate", errno))?;
        let mut done = 0;
        while done < self.input.len() {
            // The position stays where the plugin begins to read.
            done += rustix::io::pwrite(&input, &self.input[done..], done as u64)
                .map_err(|errno| refused("write", errno))?;
        }
        let (output, printed_to) = pipe_with(PipeFlags::CLOEXEC).map_err(|errno| refused("pipe", errno))?;
        let (errors, said_to) = pipe_with(PipeFlags::CLOEXEC).map_err(|errno| refused("pipe", errno))?;
        let child = self.execute([input.as_fd(), printed_to.as_fd(), said_to.as_fd()])?;
        drop((input, printed_to, said_to));
        let watched = self.watch(child.pidfd.as_fd(), output, errors, deadline);
        // Its id is not free before the wait below, so that this reaches what it has started and nobody else.
        let _ = kill_process_group(child.pid, Signal::KILL);
        let status = loop {
            match waitpid(Some(child.pid), WaitOptions::empty()) {
                Ok(Some((_, status))) => break status,
                Ok(None) | Err(Errno::INTR) => {}
                Err(errno) => return Err(self.failed("wait", errno)),
            }
        };
        let (broken_off, output, errors) = watched?;
        let end = broken_off.unwrap_or_else(|| match status.exit_status() {
            Some(code) => End::Exited(code),
            None => End::Killed(status.terminating_signal().unwrap_or_default()),
        });
        Ok(Ended { end, output, errors })
    }

    fn execute(&self, stdio: [BorrowedFd<'_>; 3]) -> Result<executing::Executed, NetworkError> {
        let terminated = |bytes: &[u8]| CString::new(bytes).map_err(|_| self.failed("exec", Errno::INVAL));
        let path = terminated(self.program.as_os_str().as_bytes())?;
        let variables =
            self.environment.iter().map(|(name, value)| terminated(format!("{name}={value}").as_bytes()));
        executing::Execution {
            file: executing::File::At(&path),
            args: std::slice::from_ref(&path),
            env: &variables.collect::<Result<Vec<_>, _>>()?,
            stdio,
            directory: Some(c"/"),
            is_group_leader: true,
        }
        .spawn()
        .map_err(|errno| self.failed("exec", errno))
    }

    /// Reads what it says until it has ended, or is to be broken off.
    fn watch(
        &self,
        pidfd: BorrowedFd<'_>,
        out: OwnedFd,
        err: OwnedFd,
        deadline: Instant,
    ) -> Result<Watched, NetworkError> {
        let refused =
            |operation, errno| NetworkError::refused(operation, &self.program.to_string_lossy(), errno);
        set_non_blocking(&out).map_err(|errno| refused("fcntl", errno))?;
        set_non_blocking(&err).map_err(|errno| refused("fcntl", errno))?;
        let (mut output, mut errors) = (Some(File::from(out)), Some(File::from(err)));
        let (mut printed, mut said) = (Vec::new(), Vec::new());
        loop {
            let mut fds = vec![PollFd::new(&pidfd, PollFlags::IN)];
            fds.extend(output.iter().map(|pipe| PollFd::new(pipe, PollFlags::IN)));
            fds.extend(errors.iter().map(|pipe| PollFd::new(pipe, PollFlags::IN)));
            let left = deadline.saturating_duration_since(Instant::now());
            let wait = Timespec { tv_sec: left.as_secs().cast_signed(), tv_nsec: left.subsec_nanos().into() };
            match poll(&mut fds, Some(&wait)) {
                Ok(0) => return Ok((Some(End::TimedOut), printed, said)),
                Ok(_) => {}
                Err(Errno::INTR) => continue,
                Err(errno) => return Err(refused("poll", errno)),
            }
            let has_ended = fds[0].revents().contains(PollFlags::IN);
            drain(&mut output, &mut printed, self.max_output_bytes.saturating_add(1))
                .map_err(|errno| refused("read", errno))?;
            drain(&mut errors, &mut said, MAX_ERROR_BYTES).map_err(|errno| refused("read", errno))?;
            if printed.len() > self.max_output_bytes {
                return Ok((Some(End::TooLong), Vec::new(), said));
            }
            // What has been printed was read just now: it was in the pipe when the plugin ended.
            if has_ended {
                return Ok((None, printed, said));
            }
        }
    }

    fn failed(&self, operation: &'static str, errno: Errno) -> NetworkError {
        NetworkError::refused(operation, &self.program.to_string_lossy(), errno)
    }
}

type Watched = (Option<End>, Vec<u8>, Vec<u8>);

fn set_non_blocking(fd: impl AsFd) -> Result<(), Errno> {
    fcntl_setfl(&fd, fcntl_getfl(&fd)? | OFlags::NONBLOCK)
}

/// Moves what can be read into `kept`, which grows to `most` bytes; the rest is read all the same. At its end the pipe is
/// given up.
fn drain(pipe: &mut Option<impl Read>, kept: &mut Vec<u8>, most: usize) -> Result<(), Errno> {
    let mut chunk = [0; CHUNK_BYTES];
    // A plugin that prints without end is looked at again for its time after so much.
    for _ in 0..64 {
        let Some(open) = pipe else { return Ok(()) };
        match open.read(&mut chunk) {
            Ok(0) => *pipe = None,
            Ok(count) => kept.extend_from_slice(&chunk[..count.min(most.saturating_sub(kept.len()))]),
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => return Ok(()),
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            Err(error) => return Err(Errno::from_io_error(&error).unwrap_or(Errno::IO)),
        }
    }
    Ok(())
}
