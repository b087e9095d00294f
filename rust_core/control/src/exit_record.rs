//! How a container's process ended, as a small text file that appears whole or not at all.
//!
//! ```text
//! fluyt-exit 1
//! exit_code 0            (or `signal 9`)
//! oom_kill_count 0
//! exit_time_unix_nanos 1795580623000000042
//! dropped_log_bytes 0
//! end
//! ```
//! The file is renamed into place and not synced: it matters for as long as the container's processes could have
//! lived, which is until the machine stops; a sync costs more than all else that the supervisor does at an exit
//! (0.7 ms on ext4 where /run is no tmpfs). A record that a power cut leaves empty is refused by its missing `end`.

use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use errors::IoError;
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use serde::{Deserialize, Serialize};

use crate::error::ControlError;

/// Name of the record in a run directory.
pub const EXIT_NAME: &str = "exit";
/// What a record's name has besides while it is written.
const STAGED_SUFFIX: &str = ".tmp";
/// Longest record that is read.
pub const MAX_EXIT_RECORD_BYTES: usize = 512;
const MAGIC: &str = "fluyt-exit 1";

/// Exit code or signal, never both.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum ExitStatus {
    /// It ended by itself with this code.
    Exited(u8),
    /// This signal ended it.
    Killed(u8),
}

/// How a container's process ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExitRecord {
    /// Exit code or signal.
    pub status: ExitStatus,
    /// Processes of the container's group that the kernel killed for lack of memory.
    pub oom_kill_count: u64,
    /// When the supervisor saw the end.
    pub exit_time_unix_nanos: i64,
    /// Output that the log could not take (a full disk).
    pub dropped_log_bytes: u64,
}

impl ExitRecord {
    /// 0 to 255, or None if a signal ended it.
    pub fn exit_code(&self) -> Option<u8> {
        match self.status {
            ExitStatus::Exited(code) => Some(code),
            ExitStatus::Killed(_) => None,
        }
    }

    /// The signal that ended it, if one did.
    pub fn signal(&self) -> Option<u8> {
        match self.status {
            ExitStatus::Exited(_) => None,
            ExitStatus::Killed(number) => Some(number),
        }
    }

    fn to_text(self) -> String {
        let status = match self.status {
            ExitStatus::Exited(code) => format!("exit_code {code}"),
            ExitStatus::Killed(number) => format!("signal {number}"),
        };
        format!(
            "{MAGIC}\n{status}\noom_kill_count {}\nexit_time_unix_nanos {}\ndropped_log_bytes {}\nend\n",
            self.oom_kill_count, self.exit_time_unix_nanos, self.dropped_log_bytes
        )
    }

    fn parse(bytes: &[u8]) -> Result<Self, &'static str> {
        let text = std::str::from_utf8(bytes).map_err(|_| "it is no text")?;
        let mut lines = text.strip_suffix("end\n").ok_or("its end is missing")?.lines();
        if lines.next() != Some(MAGIC) {
            return Err("it does not begin as an exit record of this version");
        }
        let (key, value) =
            lines.next().and_then(|line| line.split_once(' ')).ok_or("its status is missing")?;
        let number = value.parse().map_err(|_| "its status is no number")?;
        let status = match key {
            "exit_code" => ExitStatus::Exited(number),
            "signal" => ExitStatus::Killed(number),
            _ => return Err("its status is missing"),
        };
        let mut field = |name: &str| -> Option<i64> {
            lines
                .next()?
                .strip_prefix(name)?
                .strip_prefix(' ')?
                .parse()
                .ok()
                .filter(|&value: &i64| value >= 0)
        };
        let oom_kill_count = field("oom_kill_count").ok_or("its oom_kill_count is wrong")?.unsigned_abs();
        let exit_time_unix_nanos = field("exit_time_unix_nanos").ok_or("its exit time is wrong")?;
        let dropped_log_bytes =
            field("dropped_log_bytes").ok_or("its dropped_log_bytes is wrong")?.unsigned_abs();
        if lines.next().is_some() {
            return Err("it has lines that do not belong to it");
        }
        Ok(Self { status, oom_kill_count, exit_time_unix_nanos, dropped_log_bytes })
    }

    /// The record stands in the run directory `dir`, whole. `path` is the directory's, for messages.
    ///
    /// # Errors
    /// The error of the system call that failed; no record stands then, unless one stood before.
    pub fn write(self, dir: impl AsFd, path: &Path) -> Result<(), IoError> {
        self.write_as(dir, path, EXIT_NAME)
    }

    /// As [`write`](Self::write) under another name.
    ///
    /// # Errors
    /// As there.
    pub fn write_as(self, dir: impl AsFd, path: &Path, name: &str) -> Result<(), IoError> {
        let dir = dir.as_fd();
        let staged = format!("{name}{STAGED_SUFFIX}");
        let fail = |operation, name: &str| {
            let path = path.join(name);
            move |errno: Errno| IoError::new(operation, path, errno.raw_os_error())
        };
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::TRUNC | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let file = rustix::fs::openat(dir, &staged, flags, Mode::from_raw_mode(0o600))
            .map_err(fail("open", &staged))?;
        let text = self.to_text();
        let written = rustix::io::write(&file, text.as_bytes()).map_err(fail("write", &staged))?;
        if written != text.len() {
            return Err(fail("write", &staged)(Errno::NOSPC));
        }
        rustix::fs::renameat(dir, &staged, dir, name).map_err(fail("rename", name))
    }
}

/// The record in a run directory, None if there is none. Blocking.
///
/// # Errors
/// `DATA_CORRUPT` if the file is none of ours; `IO_FAILED` if it cannot be read.
pub fn read_exit_record(run_dir: &Path) -> Result<Option<ExitRecord>, ControlError> {
    read_record(&run_dir.join(EXIT_NAME))
}

/// The record of a further process that had ended, or ended with its container, while no daemon was there. Blocking.
///
/// # Errors
/// As [`read_exit_record`].
pub fn read_exec_record(run_dir: &Path, id: &str) -> Result<Option<ExitRecord>, ControlError> {
    read_record(&run_dir.join(exec_record_name(id)))
}

/// Name of the record of a further process in a run directory.
pub fn exec_record_name(id: &str) -> String {
    format!("exec-{id}")
}

fn read_record(path: &Path) -> Result<Option<ExitRecord>, ControlError> {
    let fail = |operation| {
        let path = path.to_owned();
        move |errno: Errno| IoError::new(operation, path, errno.raw_os_error())
    };
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let file: OwnedFd = match rustix::fs::open(path, flags, Mode::empty()) {
        Ok(file) => file,
        Err(Errno::NOENT) => return Ok(None),
        Err(errno) => return Err(fail("open")(errno).into()),
    };
    let mut buffer = [0; MAX_EXIT_RECORD_BYTES + 1];
    let mut length = 0;
    while length < buffer.len() {
        match rustix::io::read(&file, &mut buffer[length..]) {
            Ok(0) => break,
            Ok(count) => length += count,
            Err(Errno::INTR) => {}
            Err(errno) => return Err(fail("read")(errno).into()),
        }
    }
    let parsed = match length {
        0..=MAX_EXIT_RECORD_BYTES => ExitRecord::parse(&buffer[..length]),
        _ => Err("it is longer than MAX_EXIT_RECORD_BYTES"),
    };
    parsed
        .map(Some)
        .map_err(|detail| ControlError::Corrupt { path: path.to_owned(), detail: detail.to_owned() })
}

#[cfg(test)]
mod tests {
    use super::*;
    use errors::Catalogued;
    use proptest::prelude::*;

    fn write(dir: &Path, record: ExitRecord) {
        let fd = std::fs::File::open(dir).unwrap();
        record.write(&fd, dir).unwrap();
    }

    #[test]
    fn a_directory_without_a_record_has_none() {
        let temp = tempfile::tempdir().unwrap();
        assert_eq!(read_exit_record(temp.path()).unwrap(), None);
    }

    #[test]
    fn a_record_that_is_cut_long_or_foreign_is_corrupt() {
        let record = ExitRecord {
            status: ExitStatus::Exited(3),
            oom_kill_count: 0,
            exit_time_unix_nanos: 5,
            dropped_log_bytes: 0,
        };
        let whole = record.to_text();
        let mut bad: Vec<Vec<u8>> =
            (0..whole.len()).map(|length| whole.as_bytes()[..length].to_vec()).collect();
        bad.push(vec![b'a'; 100_000]);
        bad.push(whole.replace("exit_code 3", "exit_code 256").into_bytes());
        bad.push(whole.replace("exit_code 3", "exit_code -1").into_bytes());
        bad.push(whole.replace("exit 1", "exit 2").into_bytes());
        bad.push(whole.replace("end", "more 1\nend").into_bytes());
        let temp = tempfile::tempdir().unwrap();
        for bytes in bad {
            std::fs::write(temp.path().join(EXIT_NAME), &bytes).unwrap();
            let error = read_exit_record(temp.path()).unwrap_err();
            assert_eq!(error.reason(), "DATA_CORRUPT", "{}", String::from_utf8_lossy(&bytes));
        }
    }

    proptest! {
        #[test]
        fn a_record_comes_back_as_it_was_written(
            code: u8, is_signal: bool, oom in 0u64..1 << 62, time in 0i64.., dropped in 0u64..1 << 62,
        ) {
            let status = if is_signal { ExitStatus::Killed(code) } else { ExitStatus::Exited(code) };
            let record = ExitRecord {
                status, oom_kill_count: oom, exit_time_unix_nanos: time, dropped_log_bytes: dropped,
            };
            let temp = tempfile::tempdir().unwrap();
            write(temp.path(), record);
            prop_assert_eq!(read_exit_record(temp.path()).unwrap(), Some(record));
        }
    }
}
