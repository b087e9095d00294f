//! What can go wrong with a volume's data, with the engine's catalogue entry of each.

use errors::{Catalogued, IoError};
use layer::LayerError;
use mount::MountError;

/// Why data could not be copied or unpacked.
#[derive(Debug, thiserror::Error)]
pub enum VolumeError {
    /// A system call failed.
    #[error(transparent)]
    Io(#[from] IoError),
    /// The image's tree could not be mounted.
    #[error(transparent)]
    Mount(#[from] MountError),
    /// The archive is refused.
    #[error(transparent)]
    Archive(#[from] LayerError),
    /// A named limit is exceeded.
    #[error("{subject}: {actual} exceeds the limit {limit} of {value}")]
    Limit {
        /// The limit's name.
        limit: &'static str,
        /// What it allows.
        value: u64,
        /// What was found.
        actual: u64,
        /// What exceeds it.
        subject: String,
    },
    /// The caller cancelled.
    #[error("cancelled")]
    Cancelled,
}

impl Catalogued for VolumeError {
    fn reason(&self) -> &'static str {
        match self {
            Self::Io(error) => error.reason(),
            Self::Mount(error) => error.reason(),
            Self::Archive(error) => error.reason(),
            Self::Limit { .. } => "LIMIT_EXCEEDED",
            Self::Cancelled => "CANCELLED",
        }
    }

    fn metadata(&self) -> Vec<(&'static str, String)> {
        match self {
            Self::Io(error) => error.metadata(),
            Self::Mount(error) => error.metadata(),
            Self::Archive(error) => error.metadata(),
            Self::Limit { limit, value, actual, subject } => vec![
                ("limit", (*limit).to_owned()),
                ("limit_value", value.to_string()),
                ("actual", actual.to_string()),
                ("subject", subject.clone()),
            ],
            Self::Cancelled => vec![("subject", "volume".to_owned())],
        }
    }
}
