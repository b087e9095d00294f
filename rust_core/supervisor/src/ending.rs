//! What happens once the container's process has ended: the rest of its output, the record, the news.

use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use control::exit_record::{exec_record_name, ExitRecord, ExitStatus};
use control::wire::{Report, Running};
use logs::Hold;
use rustix::event::{poll, PollFd, PollFlags, Timespec};
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;

use crate::connections::Connections;
use crate::execs::Execs;
use crate::output::{Output, Progress, STREAMS};
use crate::plan::now_unix_nanos;

/// How long the pipes are read on for when a process outside the container holds them: those inside are dead.
const DRAIN_TIMEOUT: Duration = Duration::from_millis(500);
/// Longest control file that is read.
const MAX_COUNTER_BYTES: usize = 4096;
/// How often a record that the disk refuses is tried again.
const RETRY_INTERVAL: Duration = Duration::from_secs(1);
/// The line of memory.events (v2) and memory.oom_control (v1) that counts kills.
const OOM_KILL: &str = "oom_kill ";

/// What is needed for the record.
pub struct Ending {
    run_dir: OwnedFd,
    run_path: PathBuf,
    oom_counter: Option<String>,
}

impl Ending {
    /// The record goes to `run_dir`; `oom_counter` is the group's control file.
    pub fn new(run_dir: OwnedFd, run_path: PathBuf, oom_counter: Option<String>) -> Self {
        Self { run_dir, run_path, oom_counter }
    }

    /// All output is in the log, the exit record stands, and every daemon has been told.
    ///
    /// # Errors
    /// The waitid(2) error.
    pub fn finish(
        self,
        mut connections: Connections,
        mut execs: Execs,
        mut output: Output,
        running: &Running,
    ) -> Result<(), Errno> {
        let status = match sys::pidfd::wait(connections.init())? {
            sys::pidfd::ExitStatus::Exited(code) => ExitStatus::Exited(code),
            sys::pidfd::ExitStatus::Killed(number) => ExitStatus::Killed(number),
        };
        let exit_time_unix_nanos = now_unix_nanos();
        // Theirs is the end of the container, which waits for each to be reaped.
        for serial in execs.end_all() {
            connections.owe_state(serial);
        }
        Connections::reap_orphans();
        // A hold that was sent before the end counts.
        connections.serve_all(&mut execs);
        self.record_execs(&execs);
        connections.tell_due(&mut execs);
        output.let_go();
        drain(&mut output, connections.hold().map_or(Hold::None, Hold::Keep));
        output.finish();
        let record = ExitRecord {
            status,
            oom_kill_count: self.oom_kill_count(),
            exit_time_unix_nanos,
            dropped_log_bytes: output.dropped_bytes(),
        };
        sys::failpoint::hit("supervisor.before_exit_record");
        while record.write(&self.run_dir, &self.run_path).is_err() {
            // A daemon that is told keeps it; without one, the record is all there will be.
            connections.accept(running, &execs);
            if connections.tell(&Report::Exited(record)) {
                return Ok(());
            }
            std::thread::sleep(RETRY_INTERVAL);
        }
        sys::failpoint::hit("supervisor.after_exit_record");
        connections.tell(&Report::Exited(record));
        Ok(())
    }

    /// How further processes ended, for a daemon that was not told. Of one that cannot be written, it will know only that
    /// the container ended.
    fn record_execs(&self, execs: &Execs) {
        for exec in execs.iter() {
            if let Some(record) = exec.exit() {
                let _ = record.write_as(&self.run_dir, &self.run_path, &exec_record_name(&exec.id));
            }
        }
    }

    /// Kills in the group so far; 0 where it cannot be read (the group has gone before its process was reaped).
    fn oom_kill_count(&self) -> u64 {
        let count = || -> Option<u64> {
            let flags = OFlags::RDONLY | OFlags::CLOEXEC;
            let file = rustix::fs::open(self.oom_counter.as_deref()?, flags, Mode::empty()).ok()?;
            let mut buffer = [0; MAX_COUNTER_BYTES];
            let length = rustix::io::read(&file, &mut buffer[..]).ok()?;
            let text = std::str::from_utf8(&buffer[..length]).ok()?;
            text.lines().find_map(|line| line.strip_prefix(OOM_KILL))?.parse().ok()
        };
        count().unwrap_or(0)
    }
}

/// Reads both pipes to their end, or for [`DRAIN_TIMEOUT`] where someone keeps one open.
fn drain(output: &mut Output, hold: Hold) {
    let deadline = Instant::now() + DRAIN_TIMEOUT;
    output.resume(hold);
    loop {
        for stream in STREAMS {
            while output.copy(stream, hold) == Progress::Some && Instant::now() < deadline {}
        }
        let left = deadline.saturating_duration_since(Instant::now());
        let mut fds: Vec<PollFd<'_>> = STREAMS
            .iter()
            .filter_map(|&stream| {
                output.pipe(stream).map(|pipe| PollFd::from_borrowed_fd(pipe, PollFlags::IN))
            })
            .collect();
        if fds.is_empty() || left.is_zero() {
            return;
        }
        let timeout = Timespec { tv_sec: 0, tv_nsec: i64::from(left.subsec_nanos()) };
        if poll(&mut fds, Some(&timeout)).is_err_and(|errno| errno != Errno::INTR) {
            return;
        }
    }
}
