//! Why a group could not be made, limited, emptied or removed.

use std::path::PathBuf;

use errors::{Catalogued, IoError};

/// A control group operation that failed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CgroupError {
    /// The host mounts no cgroup file system, of neither version.
    #[error("this host mounts no cgroup file system")]
    NoFileSystem,
    /// A limit was asked for whose controller this host does not offer.
    #[error("{limit} needs the cgroup controller {controller}, which this host does not offer")]
    ControllerMissing {
        /// The controller's name, for example `memory`.
        controller: &'static str,
        /// The limit, by its field name.
        limit: &'static str,
    },
    /// A limit, or a name, breaks a rule that holds on every host.
    #[error("{field}: {rule}")]
    FieldInvalid {
        /// The field, for example `memory_limit_bytes`.
        field: &'static str,
        /// The rule, as a statement that should be true.
        rule: String,
    },
    /// The kernel refused a limit.
    #[error("{} does not take {value:?}: {}", file.display(), std::io::Error::from_raw_os_error(*errno))]
    LimitRejected {
        /// The control file.
        file: PathBuf,
        /// What was written.
        value: String,
        /// The kernel's answer; ENOENT if there is no such file.
        errno: i32,
    },
    /// Processes, or groups made by them, are still in the group.
    #[error("control group {} is still in use", path.display())]
    Busy {
        /// The group's directory.
        path: PathBuf,
    },
    /// Any other failed system call.
    #[error(transparent)]
    Io(#[from] IoError),
}

impl Catalogued for CgroupError {
    fn reason(&self) -> &'static str {
        match self {
            Self::NoFileSystem | Self::ControllerMissing { .. } => "KERNEL_FEATURE_MISSING",
            Self::FieldInvalid { .. } => "FIELD_INVALID",
            Self::LimitRejected { .. } => "CGROUP_LIMIT_REJECTED",
            Self::Busy { .. } => "CGROUP_BUSY",
            Self::Io(error) => error.reason(),
        }
    }

    fn metadata(&self) -> Vec<(&'static str, String)> {
        let release = || rustix::system::uname().release().to_string_lossy().into_owned();
        match self {
            Self::NoFileSystem => vec![("feature", "cgroup".to_owned()), ("kernel_release", release())],
            Self::ControllerMissing { controller, .. } => {
                vec![("feature", format!("cgroup_{controller}")), ("kernel_release", release())]
            }
            Self::FieldInvalid { field, rule } => {
                vec![("field", (*field).to_owned()), ("rule", rule.clone())]
            }
            Self::LimitRejected { file, value, errno } => vec![
                ("file", file.display().to_string()),
                ("value", value.clone()),
                ("errno", errno.to_string()),
            ],
            Self::Busy { path } => vec![("path", path.display().to_string())],
            Self::Io(error) => error.metadata(),
        }
    }
}
