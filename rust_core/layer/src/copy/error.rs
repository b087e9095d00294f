//! What can go wrong while files are copied, with the engine's catalogue entry of each.

use errors::{Catalogued, IoError};
use rustix::io::Errno;

use crate::error::shown;
use crate::{LayerError, Rule};

/// A failure of a copy.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CopyError {
    /// A call failed, a limit was passed, or the caller gave up.
    #[error(transparent)]
    Layer(LayerError),
    /// The path, or a directory on the way to it, is not there.
    #[error("there is no {path:?}")]
    NotFound {
        /// As it was asked for, escaped and shortened.
        path: String,
    },
    /// Something of another kind stands there.
    #[error("{path:?} is {found}, not {wanted}")]
    WrongKind {
        /// Escaped and shortened.
        path: String,
        /// What stands there.
        found: &'static str,
        /// What has to.
        wanted: &'static str,
    },
    /// What holds the path is mounted read-only.
    #[error("{path:?} is on a file system that is mounted read-only")]
    ReadOnly {
        /// Escaped and shortened.
        path: String,
    },
    /// A file that is not to be copied.
    #[error("{path:?}: {rule}")]
    NotCopyable {
        /// Escaped and shortened.
        path: String,
        /// Why.
        rule: String,
    },
    /// An entry of a tar breaks a rule.
    #[error("entry {entry:?}: {rule}")]
    EntryRejected {
        /// Its name, escaped and shortened.
        entry: String,
        /// The rule.
        rule: String,
    },
    /// The stream is not a whole, well-formed tar.
    #[error("{detail}")]
    Corrupt {
        /// What is wrong, and where.
        detail: String,
    },
}

impl CopyError {
    /// A failed call on `path`.
    pub(super) fn call(operation: &'static str, path: &[u8], errno: Errno) -> Self {
        match errno {
            Errno::ROFS => Self::ReadOnly { path: shown(path) },
            Errno::NOENT => Self::NotFound { path: shown(path) },
            Errno::NAMETOOLONG => Self::NotCopyable {
                path: shown(path),
                rule: "the name is longer than the file system takes".into(),
            },
            errno => Self::Layer(crate::tree::io(operation, path, errno).into()),
        }
    }

    pub(super) fn rejected(entry: &[u8], rule: impl Into<String>) -> Self {
        Self::EntryRejected { entry: shown(entry), rule: rule.into() }
    }

    pub(super) fn io(operation: &'static str, path: &[u8], error: &std::io::Error) -> Self {
        Self::call(operation, path, Errno::from_raw_os_error(error.raw_os_error().unwrap_or(0)))
    }
}

impl From<LayerError> for CopyError {
    fn from(error: LayerError) -> Self {
        match error {
            LayerError::Rejected { entry, rule, .. } => {
                // The texts were written for layers; an archive of files has a root of its own too.
                let rule = match rule {
                    Rule::NameEscapes => "the name leaves the directory that it is unpacked into".to_owned(),
                    rule => rule.to_string(),
                };
                Self::EntryRejected { entry, rule }
            }
            LayerError::Unrepresentable { path, rule } => Self::NotCopyable { path, rule: rule.to_string() },
            LayerError::Corrupt { detail, .. } => Self::Corrupt { detail },
            LayerError::Io(error) if error.errno == Errno::ROFS.raw_os_error() => {
                Self::ReadOnly { path: error.path.display().to_string() }
            }
            error => Self::Layer(error),
        }
    }
}

impl From<IoError> for CopyError {
    fn from(error: IoError) -> Self {
        LayerError::from(error).into()
    }
}

impl Catalogued for CopyError {
    fn reason(&self) -> &'static str {
        match self {
            Self::Layer(error) => error.reason(),
            Self::NotFound { .. } => "PATH_NOT_FOUND",
            Self::WrongKind { .. } => "PATH_WRONG_KIND",
            Self::ReadOnly { .. } => "FILE_SYSTEM_READ_ONLY",
            Self::NotCopyable { .. } => "FILE_NOT_COPYABLE",
            Self::EntryRejected { .. } => "ENTRY_REJECTED",
            Self::Corrupt { .. } => "TAR_CORRUPT",
        }
    }

    fn metadata(&self) -> Vec<(&'static str, String)> {
        match self {
            Self::Layer(error) => error.metadata(),
            Self::NotFound { path } | Self::ReadOnly { path } => vec![("path", path.clone())],
            Self::WrongKind { path, found, wanted } => {
                vec![("path", path.clone()), ("found", (*found).to_owned()), ("wanted", (*wanted).to_owned())]
            }
            Self::NotCopyable { path, rule } => vec![("path", path.clone()), ("rule", rule.clone())],
            Self::EntryRejected { entry, rule } => vec![("entry", entry.clone()), ("rule", rule.clone())],
            Self::Corrupt { detail } => vec![("detail", detail.clone())],
        }
    }
}
