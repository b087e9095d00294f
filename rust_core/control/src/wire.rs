//! The messages between daemon and supervisor: postcard over SOCK_SEQPACKET, one message a packet, each length bounded.
//! Descriptors travel beside them. A change of any type here is a new [`PROTOCOL_VERSION`].

use errors::IoError;
use process::spec::CgroupJoin;
use process::{Spec, StartFailure};
use serde::{Deserialize, Serialize};

use crate::exit_record::ExitRecord;

/// Version of the messages, of the plan, and of the exit record.
pub const PROTOCOL_VERSION: u32 = 6;
/// Longest message; what is longer (the plan) travels in a sealed memory file.
pub const MAX_MESSAGE_BYTES: usize = 16 * 1024;
/// Longest plan. The kernel takes at most 6 MiB of arguments and environment. Source: execve(2), ARG_MAX.
pub const MAX_PLAN_BYTES: u64 = 8 * 1024 * 1024;
/// Most clamps in one message, and the length to which each is cut.
pub const MAX_CLAMPS: usize = 32;
/// See [`MAX_CLAMPS`].
pub const MAX_CLAMP_BYTES: usize = 256;
/// Further processes of a container at a time, those included that have ended and that no daemon has given up yet.
pub const MAX_EXECS: usize = 160;
/// Longest id of a further process.
pub const MAX_EXEC_ID_BYTES: usize = 64;
/// A path or detail in a message is cut to this.
pub const MAX_TEXT_BYTES: usize = 4096;

/// Containers whose namespaces one container joins: one for each kind of namespace.
pub const MAX_JOINED: usize = 5;

/// From the daemon to the supervisor.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Request {
    /// The first message: prepare what the [`Plan`] in the accompanying sealed memory file says.
    Start {
        /// [`PROTOCOL_VERSION`] of the daemon.
        protocol: u32,
    },
    /// Before [`Request::Start`], any number of times: open sockets in the network namespace that comes along. The answer
    /// is a [`Report::Sockets`].
    OpenSockets,
    /// The cgroups stand: start the container's process in them. With it travel the pidfds of the containers whose
    /// namespaces the plan joins, in the order of their places, [`MAX_JOINED`] at most.
    Proceed {
        /// How it joins them.
        cgroup: CgroupJoin,
        /// The control file with an `oom_kill N` line, if a group has one.
        oom_counter: Option<String>,
    },
    /// Give up the write end of the container's stdin.
    CloseStdin,
    /// End what waits for servers whose file systems are mounted in the container, as umount(2) with MNT_FORCE does, until
    /// the container's process has ended. Data that was not written yet is lost.
    ForceServers,
    /// Keep log segments from this one on for this connection; None ends the hold.
    HoldLog {
        /// The lowest segment that is still needed.
        segment: Option<u64>,
    },
    /// Begin a further process as the [`ExecSpec`](process::ExecSpec) in the accompanying sealed memory file says. The
    /// answer is a [`Report::Exec`].
    Exec {
        /// Its id, [`MAX_EXEC_ID_BYTES`] at most, of a file name's characters.
        id: String,
        /// Its stdin is a pipe; it has one anyway if it has a terminal.
        open_stdin: bool,
        /// This connection reads its output: nothing of it is lost, and it waits where reading is slow.
        is_held: bool,
    },
    /// This connection has its output up to `position`, and is told once there is more. None: it reads no longer.
    ExecTake {
        /// Which.
        id: String,
        /// In the spool.
        position: Option<u64>,
    },
    /// Give up the write end of its stdin.
    ExecCloseStdin {
        /// Which.
        id: String,
    },
    /// Kill it and all that it has started.
    ExecKill {
        /// Which.
        id: String,
    },
    /// Nobody wants to know of it any more; one that runs is told no more of.
    ExecForget {
        /// Which.
        id: String,
    },
}

/// From the supervisor to the daemon.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Report {
    /// It has made a network namespace while it waited; the namespace and a netlink socket in it come along.
    Namespace,
    /// The sockets that [`Request::OpenSockets`] asked for come along: netlink, UDP, TCP, netfilter.
    Sockets,
    /// The container's process has been executed. With it travel its pidfd, the supervisor's own pidfd and, if there is
    /// one, the write end of its stdin.
    Running(Running),
    /// The container's process did not start; nothing of it is left.
    Failed(StartFailure),
    /// The supervisor could not prepare the start.
    FailedIo {
        /// As in [`IoError`].
        operation: String,
        /// As in [`IoError`].
        path: String,
        /// As in [`IoError`].
        errno: i32,
    },
    /// The container's process has ended, and its exit record stands.
    Exited(ExitRecord),
    /// What a further process has come to. With the first one that says `is_started` travel its spool, and, while it
    /// runs, its pidfd, the write end of its stdin and the master side of its terminal, as it has them.
    Exec(ExecReport),
    /// There is output that the reader has not taken.
    ExecOutput {
        /// Whose.
        id: String,
        /// What stands in the spool.
        extent: Extent,
    },
}

/// What stands in a spool.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Extent {
    /// Position of the first frame.
    pub oldest: u64,
    /// Position after the last frame.
    pub head: u64,
    /// Bytes of output ever written to it.
    pub content_bytes: u64,
}

/// A further process as the supervisor knows it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExecReport {
    /// Its id.
    pub id: String,
    /// Its pid as the host sees it; 0 before it is started and once it has ended.
    pub host_pid: u32,
    /// Its program has been executed.
    pub is_started: bool,
    /// When that was.
    pub start_time_unix_nanos: i64,
    /// The spool comes along, and what follows.
    pub has_spool: bool,
    /// Its pidfd comes along.
    pub has_pidfd: bool,
    /// The write end of its stdin comes along.
    pub has_stdin: bool,
    /// The master side of its terminal comes along.
    pub has_terminal: bool,
    /// What could not be given in full, as `field: reason`.
    pub clamps: Vec<String>,
    /// What stands in the spool.
    pub extent: Extent,
    /// Why it could not be started.
    pub failure: Option<StartFailure>,
    /// How it ended; all of its output is in the spool then.
    pub exit: Option<ExitRecord>,
}

/// A running container as its supervisor knows it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Running {
    /// [`PROTOCOL_VERSION`] of the supervisor.
    pub protocol: u32,
    /// The container's first process as the host sees it.
    pub host_pid: u32,
    /// The supervisor itself.
    pub supervisor_pid: u32,
    /// When the container's process was executed.
    pub start_time_unix_nanos: i64,
    /// Whether the write end of the container's stdin comes along.
    pub has_stdin: bool,
    /// Whether the master side of its terminal comes along.
    pub has_terminal: bool,
    /// How many further processes are told of in the messages that follow.
    pub exec_count: u32,
    /// What could not be given in full, as `field: reason`.
    pub clamps: Vec<String>,
}

/// Where a copy of the output goes, and what is said of each line.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Journal {
    /// The journal's socket.
    pub socket_path: String,
    /// Field names and values.
    pub fields: Vec<(String, String)>,
}

/// All that a supervisor is told. Travels once.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Plan {
    /// For messages.
    pub container_id: String,
    /// Where the socket and the exit record go.
    pub run_dir: String,
    /// Where the log goes.
    pub log_dir: String,
    /// Size of one log segment.
    pub log_segment_bytes: u64,
    /// How many segments are kept.
    pub log_segment_count: u64,
    /// The journal that gets the output too.
    pub journal: Option<Journal>,
    /// Whether the process gets a pipe as stdin instead of /dev/null.
    pub open_stdin: bool,
    /// The daemon reads its output from the beginning: nothing of it is rotated away until the daemon moves its hold.
    pub is_held: bool,
    /// The container's process; its cgroups are told later.
    pub spec: Spec,
}

/// Why bytes are no message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Malformed;

/// Encodes a message.
///
/// # Errors
/// `Malformed` if it is longer than [`MAX_MESSAGE_BYTES`], which bounded contents never are.
pub fn encode<T: Serialize>(message: &T) -> Result<Vec<u8>, Malformed> {
    let bytes = postcard::to_allocvec(message).map_err(|_| Malformed)?;
    (bytes.len() <= MAX_MESSAGE_BYTES).then_some(bytes).ok_or(Malformed)
}

/// Decodes a message; every byte must belong to it.
///
/// # Errors
/// `Malformed` if it is none. A length that exceeds the rest of the bytes is refused before anything is allocated for
/// it, so a message can never take more memory than a small multiple of its size.
pub fn decode<'a, T: Deserialize<'a>>(bytes: &'a [u8]) -> Result<T, Malformed> {
    match postcard::take_from_bytes(bytes) {
        Ok((message, [])) => Ok(message),
        _ => Err(Malformed),
    }
}

/// Cuts a text to at most `limit` bytes at a character's boundary.
pub fn cut(mut text: String, limit: usize) -> String {
    text.truncate(text.floor_char_boundary(limit));
    text
}

impl Report {
    /// A system call that failed in the supervisor.
    pub fn failed_io(error: &IoError) -> Self {
        Self::FailedIo {
            operation: error.operation.to_owned(),
            path: cut(error.path.display().to_string(), MAX_TEXT_BYTES),
            errno: error.errno,
        }
    }

    /// A start that failed, its texts cut to what a message holds.
    pub fn failed(failure: StartFailure) -> Self {
        Self::Failed(bounded_failure(failure))
    }
}

/// Cuts the texts of a failure to what a message holds.
pub fn bounded_failure(mut failure: StartFailure) -> StartFailure {
    failure.path = cut(failure.path, MAX_TEXT_BYTES);
    failure.detail = cut(failure.detail, MAX_TEXT_BYTES);
    failure
}

/// Cuts clamps to what a message holds.
pub fn bounded_clamps(clamps: Vec<String>) -> Vec<String> {
    clamps.into_iter().take(MAX_CLAMPS).map(|clamp| cut(clamp, MAX_CLAMP_BYTES)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use process::Step;
    use proptest::prelude::*;

    #[test]
    fn messages_come_back_as_they_were() {
        let running = Running {
            protocol: PROTOCOL_VERSION,
            host_pid: 77,
            supervisor_pid: 76,
            start_time_unix_nanos: 1,
            has_stdin: true,
            has_terminal: true,
            exec_count: 3,
            clamps: vec!["rlimits: RLIMIT_NOFILE".to_owned()],
        };
        let report = Report::Running(running);
        assert_eq!(decode(&encode(&report).unwrap()), Ok(report));
        let request = Request::HoldLog { segment: Some(4) };
        assert_eq!(decode(&encode(&request).unwrap()), Ok(request));
    }

    #[test]
    fn bytes_after_a_message_are_refused() {
        let mut bytes = encode(&Request::CloseStdin).unwrap();
        bytes.push(0);
        assert_eq!(decode::<Request>(&bytes), Err(Malformed));
    }

    #[test]
    fn the_longest_reports_still_fit() {
        let long = "ä".repeat(1_000_000);
        let failure = StartFailure {
            step: Step::Exec,
            errno: 2,
            path: long.clone(),
            detail: long.clone(),
            exit_code: 127,
        };
        assert!(encode(&Report::failed(failure)).is_ok());
        let clamps = bounded_clamps(vec![long; 1000]);
        let running = Running {
            protocol: u32::MAX,
            host_pid: u32::MAX,
            supervisor_pid: u32::MAX,
            start_time_unix_nanos: i64::MAX,
            has_stdin: true,
            has_terminal: true,
            exec_count: 3,
            clamps,
        };
        assert!(encode(&Report::Running(running)).is_ok());
    }

    proptest! {
        #[test]
        fn any_bytes_are_decoded_without_a_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = decode::<Request>(&bytes);
            let _ = decode::<Report>(&bytes);
            let _ = decode::<Plan>(&bytes);
        }
    }
}
