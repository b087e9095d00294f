//! What can go wrong in the content store, with the engine's catalogue entry of each.

use errors::{Catalogued, IoError};

use crate::Digest;

/// A failure of the content store.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ContentError {
    /// A system call failed; a full disk is told apart by its errno.
    #[error(transparent)]
    Io(#[from] IoError),
    /// The text is not a digest of a registered algorithm.
    #[error("not a digest: {digest:?}")]
    DigestInvalid {
        /// The refused text, escaped and shortened.
        digest: String,
    },
    /// The bytes do not have the digest that names them.
    #[error("content has digest {actual}, not {expected} ({size_bytes} bytes)")]
    DigestMismatch {
        /// The digest asked for.
        expected: Digest,
        /// The digest of the bytes.
        actual: Digest,
        /// How many bytes were hashed.
        size_bytes: u64,
    },
    /// There are more or fewer bytes than were announced.
    #[error("{digest}: {actual_bytes} bytes, expected {expected_bytes}")]
    SizeMismatch {
        /// The blob.
        digest: Digest,
        /// The announced size.
        expected_bytes: u64,
        /// The size found; for a blob that is too long, what it had reached when it was refused.
        actual_bytes: u64,
    },
    /// No such blob in the store.
    #[error("no blob {digest}")]
    BlobNotFound {
        /// The blob.
        digest: Digest,
    },
    /// A named limit was passed.
    #[error("{subject}: {limit} is {limit_value}, got {actual}")]
    LimitExceeded {
        /// The limit's name.
        limit: &'static str,
        /// The limit's value.
        limit_value: u64,
        /// What was found.
        actual: u64,
        /// What it was found in.
        subject: String,
    },
    /// The caller gave up while waiting for another writer of the same blob.
    #[error("cancelled: {subject}")]
    Cancelled {
        /// The blob.
        subject: String,
    },
}

impl Catalogued for ContentError {
    fn reason(&self) -> &'static str {
        match self {
            Self::Io(error) => error.reason(),
            Self::DigestInvalid { .. } => "DIGEST_INVALID",
            Self::DigestMismatch { .. } => "DIGEST_MISMATCH",
            Self::SizeMismatch { .. } => "SIZE_MISMATCH",
            Self::BlobNotFound { .. } => "BLOB_NOT_FOUND",
            Self::LimitExceeded { .. } => "LIMIT_EXCEEDED",
            Self::Cancelled { .. } => "CANCELLED",
        }
    }

    fn metadata(&self) -> Vec<(&'static str, String)> {
        match self {
            Self::Io(error) => error.metadata(),
            Self::DigestInvalid { digest } => vec![("digest", digest.clone())],
            Self::DigestMismatch { expected, actual, size_bytes } => vec![
                ("expected", expected.to_string()),
                ("actual", actual.to_string()),
                ("size_bytes", size_bytes.to_string()),
            ],
            Self::SizeMismatch { digest, expected_bytes, actual_bytes } => vec![
                ("digest", digest.to_string()),
                ("expected_bytes", expected_bytes.to_string()),
                ("actual_bytes", actual_bytes.to_string()),
            ],
            Self::BlobNotFound { digest } => vec![("digest", digest.to_string())],
            Self::LimitExceeded { limit, limit_value, actual, subject } => vec![
                ("limit", (*limit).to_owned()),
                ("limit_value", limit_value.to_string()),
                ("actual", actual.to_string()),
                ("subject", subject.clone()),
            ],
            Self::Cancelled { subject } => vec![("subject", subject.clone())],
        }
    }
}
