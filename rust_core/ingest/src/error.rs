//! What can go wrong on the way from a source to the stores, with the engine's catalogue entry of each.

use content::ContentError;
use errors::{Catalogued, IoError};
use layer::LayerError;
use registry::RegistryError;

/// A failure of ingestion: mostly that of the store or the registry it happened in.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum IngestError {
    /// Between here and the registry.
    #[error(transparent)]
    Registry(#[from] RegistryError),
    /// In the content store.
    #[error(transparent)]
    Content(#[from] ContentError),
    /// In the layer store, or in the layer itself.
    #[error(transparent)]
    Layer(#[from] LayerError),
    /// A system call on a file of the caller's failed.
    #[error(transparent)]
    Io(#[from] IoError),
    /// A layer's descriptor names something else than a layer.
    #[error("{digest} has media type {media_type:?}, which no layer has")]
    MediaTypeInvalid {
        /// The blob.
        digest: String,
        /// The descriptor's media type, escaped and shortened.
        media_type: String,
    },
    /// An image archive that is no archive, or holds what none may hold.
    #[error("archive entry {entry:?}: {rule}")]
    ArchiveInvalid {
        /// The entry's name, empty where the archive itself is at fault.
        entry: String,
        /// What is wrong.
        rule: String,
    },
    /// A named limit was passed.
    #[error("{subject}: {limit} is {limit_value}, got {actual}")]
    LimitExceeded {
        /// The limit's name.
        limit: &'static str,
        /// The limit's value.
        limit_value: u64,
        /// What had been counted when it was refused.
        actual: u64,
        /// What it was found in.
        subject: &'static str,
    },
    /// The caller's token was cancelled.
    #[error("cancelled: {subject}")]
    Cancelled {
        /// What was being done.
        subject: String,
    },
}

impl IngestError {
    /// True if whole content turned out to be other content than its digest says.
    pub(crate) fn is_digest_mismatch(&self) -> bool {
        matches!(self, Self::Content(ContentError::DigestMismatch { .. }))
    }
}

impl Catalogued for IngestError {
    fn reason(&self) -> &'static str {
        match self {
            Self::Registry(error) => error.reason(),
            Self::Content(error) => error.reason(),
            Self::Layer(error) => error.reason(),
            Self::Io(error) => error.reason(),
            Self::MediaTypeInvalid { .. } => "MANIFEST_INVALID",
            Self::ArchiveInvalid { .. } => "ARCHIVE_INVALID",
            Self::LimitExceeded { .. } => "LIMIT_EXCEEDED",
            Self::Cancelled { .. } => "CANCELLED",
        }
    }

    fn metadata(&self) -> Vec<(&'static str, String)> {
        match self {
            Self::Registry(error) => error.metadata(),
            Self::Content(error) => error.metadata(),
            Self::Layer(error) => error.metadata(),
            Self::Io(error) => error.metadata(),
            Self::MediaTypeInvalid { digest, media_type } => {
                vec![
                    ("subject", digest.clone()),
                    ("rule", format!("{media_type} is no media type of a layer")),
                ]
            }
            Self::ArchiveInvalid { entry, rule } => vec![("entry", entry.clone()), ("rule", rule.clone())],
            Self::LimitExceeded { limit, limit_value, actual, subject } => vec![
                ("limit", (*limit).to_owned()),
                ("limit_value", limit_value.to_string()),
                ("actual", actual.to_string()),
                ("subject", (*subject).to_owned()),
            ],
            Self::Cancelled { subject } => vec![("subject", subject.clone())],
        }
    }
}
