//! Why a mount could not be made, with the operation, the path and the kernel's answer.

use std::path::{Path, PathBuf};

use errors::{Catalogued, IoError};
use rustix::io::Errno;

/// What kind of file a mount target is or must be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Want {
    /// A directory.
    Directory,
    /// Anything but a directory.
    File,
}

impl Want {
    /// The word that messages use.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Directory => "a directory",
            Self::File => "a file",
        }
    }
}

/// A mount operation that failed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum MountError {
    /// The kernel refused.
    #[error("{operation} {}: {}{}{message}", path.display(), describe(*errno), if message.is_empty() { "" } else { ": " })]
    Failed {
        /// The system call, for example `fsconfig`.
        operation: &'static str,
        /// What it was done to.
        path: PathBuf,
        /// The kernel's answer.
        errno: i32,
        /// What the kernel wrote into the log of the file system descriptor; empty if it wrote nothing.
        message: String,
    },
    /// This kernel lacks the call or the file system.
    #[error("{operation} {}: this kernel lacks {feature}", path.display())]
    FeatureMissing {
        /// The system call.
        operation: &'static str,
        /// What it was to be done to.
        path: PathBuf,
        /// The kernel's answer.
        errno: i32,
        /// The feature's name, for example `new_mount_api` or `overlay`.
        feature: &'static str,
    },
    /// The plan breaks a rule that holds before any system call.
    #[error("overlay plan for {}: {rule}", path.display())]
    PlanInvalid {
        /// The path that breaks it.
        path: PathBuf,
        /// The rule, as a statement that should be true.
        rule: &'static str,
    },
    /// More lower directories than the kernel stacks.
    #[error("overlay of {actual} layers: the limit MAX_LOWER_DIRS is {limit}")]
    TooManyLayers {
        /// How many the plan has.
        actual: usize,
        /// [`crate::MAX_LOWER_DIRS`].
        limit: usize,
        /// The writable layer, which tells whose plan it is.
        path: PathBuf,
    },
    /// A file where a directory is needed, or the reverse.
    #[error("mount target {} must be {}, and is {found}", path.display(), wanted.name())]
    TargetMismatch {
        /// The path inside the root.
        path: PathBuf,
        /// What the mount needs.
        wanted: Want,
        /// What stands there: `a directory`, `a file`, `a symbolic link`.
        found: &'static str,
    },
    /// A path that must lie on one file system lies on another, so that something else stands in its place.
    #[error("{} is on file system type {found:#x}, not {wanted:#x}", path.display())]
    WrongFileSystem {
        /// The path inside the root.
        path: PathBuf,
        /// The `f_type` it must have.
        wanted: u64,
        /// The `f_type` it has.
        found: u64,
    },
    /// Something would be mounted over the container's procfs.
    #[error("mount target {} lies in the container's procfs, which nothing may cover", path.display())]
    TargetForbidden {
        /// The path inside the root.
        path: PathBuf,
    },
    /// `/dev/null` is not the null device.
    #[error("{} is not the null device (char 1:3)", path.display())]
    NotNullDevice {
        /// What was opened.
        path: PathBuf,
    },
}

fn describe(errno: i32) -> String {
    std::io::Error::from_raw_os_error(errno).to_string()
}

impl MountError {
    pub(crate) fn failed(operation: &'static str, path: impl AsRef<Path>, errno: Errno) -> Self {
        let path = path.as_ref().to_path_buf();
        let errno = errno.raw_os_error();
        if errno == libc::ENOSYS {
            return Self::FeatureMissing { operation, path, errno, feature: "new_mount_api" };
        }
        Self::Failed { operation, path, errno, message: String::new() }
    }

    /// The step that failed, for example `move_mount`.
    #[must_use]
    pub fn operation(&self) -> &'static str {
        match self {
            Self::Failed { operation, .. } | Self::FeatureMissing { operation, .. } => operation,
            Self::PlanInvalid { .. } | Self::TooManyLayers { .. } => "plan_overlay",
            Self::TargetMismatch { .. } => "resolve_target",
            Self::TargetForbidden { .. } => "check_target",
            Self::WrongFileSystem { .. } => "check_file_system",
            Self::NotNullDevice { .. } => "open_null",
        }
    }

    /// What it was done to; for a target the path inside the container's root.
    #[must_use]
    pub fn path(&self) -> &Path {
        match self {
            Self::Failed { path, .. }
            | Self::FeatureMissing { path, .. }
            | Self::PlanInvalid { path, .. }
            | Self::TooManyLayers { path, .. }
            | Self::TargetMismatch { path, .. }
            | Self::WrongFileSystem { path, .. }
            | Self::TargetForbidden { path }
            | Self::NotNullDevice { path } => path,
        }
    }

    /// The kernel's errno, or the one that fits best where the refusal is ours; never 0.
    #[must_use]
    pub fn errno(&self) -> i32 {
        match self {
            Self::Failed { errno, .. } | Self::FeatureMissing { errno, .. } => *errno,
            Self::PlanInvalid { .. } => libc::EINVAL,
            Self::TooManyLayers { .. } => libc::E2BIG,
            Self::TargetMismatch { found: "a symbolic link", .. } => libc::ELOOP,
            Self::TargetMismatch { wanted: Want::Directory, .. } => libc::ENOTDIR,
            Self::TargetMismatch { wanted: Want::File, .. } => libc::EISDIR,
            Self::WrongFileSystem { .. } => libc::EXDEV,
            Self::NotNullDevice { .. } => libc::ENODEV,
            Self::TargetForbidden { .. } => libc::EPERM,
        }
    }
}

impl From<IoError> for MountError {
    fn from(error: IoError) -> Self {
        Self::Failed {
            operation: error.operation,
            path: error.path,
            errno: error.errno,
            message: String::new(),
        }
    }
}

impl Catalogued for MountError {
    fn reason(&self) -> &'static str {
        match self {
            Self::Failed { errno, .. } if [libc::ENOSPC, libc::EDQUOT].contains(errno) => "STORAGE_FULL",
            Self::Failed { .. } | Self::PlanInvalid { .. } => "IO_FAILED",
            Self::FeatureMissing { .. } => "KERNEL_FEATURE_MISSING",
            Self::TooManyLayers { .. } => "LIMIT_EXCEEDED",
            Self::TargetMismatch { .. }
            | Self::WrongFileSystem { .. }
            | Self::TargetForbidden { .. }
            | Self::NotNullDevice { .. } => "PROCESS_START_FAILED",
        }
    }

    fn metadata(&self) -> Vec<(&'static str, String)> {
        let path = self.path().display().to_string();
        match self {
            Self::Failed { operation, errno, .. } => {
                vec![("operation", (*operation).to_owned()), ("path", path), ("errno", errno.to_string())]
            }
            Self::PlanInvalid { .. } => {
                vec![
                    ("operation", self.operation().to_owned()),
                    ("path", path),
                    ("errno", self.errno().to_string()),
                ]
            }
            Self::FeatureMissing { feature, .. } => {
                let release = rustix::system::uname().release().to_string_lossy().into_owned();
                vec![("feature", (*feature).to_owned()), ("kernel_release", release)]
            }
            Self::TooManyLayers { actual, limit, .. } => vec![
                ("limit", "MAX_LOWER_DIRS".to_owned()),
                ("limit_value", limit.to_string()),
                ("actual", actual.to_string()),
                ("subject", path),
            ],
            Self::TargetMismatch { .. }
            | Self::WrongFileSystem { .. }
            | Self::TargetForbidden { .. }
            | Self::NotNullDevice { .. } => vec![
                ("step", self.operation().to_owned()),
                ("errno", self.errno().to_string()),
                ("path", path),
                ("exit_code", "125".to_owned()),
                ("detail", self.to_string()),
            ],
        }
    }
}
