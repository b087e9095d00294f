//! What can go wrong between the daemon and a supervisor.

use std::path::PathBuf;

use errors::{Catalogued, IoError};
use process::StartFailure;

/// A failure of this crate.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ControlError {
    /// A system call failed, here or in the supervisor.
    #[error(transparent)]
    Io(#[from] IoError),
    /// The container's process did not start.
    #[error(transparent)]
    Start(#[from] StartFailure),
    /// The seccomp profile is none.
    #[error(transparent)]
    Profile(#[from] process::seccomp::ProfileInvalid),
    /// The container's cgroups or limits could not be made.
    #[error(transparent)]
    Cgroup(#[from] cgroup::CgroupError),
    /// The two sides are not of one version.
    #[error("the supervisor is {actual:?}, this engine needs {expected:?}")]
    VersionMismatch {
        /// What this side speaks.
        expected: String,
        /// What the other side said, cut to a sane length.
        actual: String,
    },
    /// An exit record or a message is not what a supervisor writes.
    #[error("{}: {detail}", path.display())]
    Corrupt {
        /// The file or socket.
        path: PathBuf,
        /// What is wrong with it.
        detail: String,
    },
    /// The supervisor ended, hung or was used from another process.
    #[error("the supervisor of {id}: {detail}")]
    Lost {
        /// The container's id.
        id: String,
        /// What happened.
        detail: String,
    },
    /// The container's first process has ended.
    #[error("process {host_pid} has ended")]
    ProcessNotFound {
        /// Its pid on the host.
        host_pid: u32,
    },
    /// What is to be sent exceeds a named limit.
    #[error("{subject}: {actual} exceeds {limit} ({limit_value})")]
    LimitExceeded {
        /// The limit's name.
        limit: &'static str,
        /// Its value.
        limit_value: u64,
        /// What was met.
        actual: u64,
        /// What it was met in.
        subject: String,
    },
    /// A field of the start has a value that the core does not know.
    #[error("{field}: {value:?} is not known")]
    FieldUnknown {
        /// The field's name in `ContainerStart`.
        field: &'static str,
        /// Its value.
        value: String,
    },
}

impl Catalogued for ControlError {
    fn reason(&self) -> &'static str {
        match self {
            Self::Io(error) => error.reason(),
            Self::Start(failure) => failure.reason(),
            Self::Profile(error) => error.reason(),
            Self::Cgroup(error) => error.reason(),
            Self::VersionMismatch { .. } => "VERSION_MISMATCH",
            Self::Corrupt { .. } => "DATA_CORRUPT",
            Self::Lost { .. } => "SUPERVISOR_LOST",
            Self::ProcessNotFound { .. } => "PROCESS_NOT_FOUND",
            Self::LimitExceeded { .. } => "LIMIT_EXCEEDED",
            Self::FieldUnknown { .. } => "FIELD_INVALID",
        }
    }

    fn metadata(&self) -> Vec<(&'static str, String)> {
        match self {
            Self::Io(error) => error.metadata(),
            Self::Start(failure) => failure.metadata(),
            Self::Profile(error) => error.metadata(),
            Self::Cgroup(error) => error.metadata(),
            Self::VersionMismatch { expected, actual } => {
                vec![("expected", expected.clone()), ("actual", actual.clone())]
            }
            Self::Corrupt { path, detail } => {
                vec![("path", path.display().to_string()), ("detail", detail.clone())]
            }
            Self::Lost { id, detail } => vec![("id", id.clone()), ("detail", detail.clone())],
            Self::ProcessNotFound { host_pid } => vec![("host_pid", host_pid.to_string())],
            Self::LimitExceeded { limit, limit_value, actual, subject } => vec![
                ("limit", (*limit).to_owned()),
                ("limit_value", limit_value.to_string()),
                ("actual", actual.to_string()),
                ("subject", subject.clone()),
            ],
            Self::FieldUnknown { field, value } => {
                vec![("field", (*field).to_owned()), ("rule", format!("{value:?} is not known"))]
            }
        }
    }
}
