//! What can go wrong between here and a registry, with the engine's catalogue entry of each.

use content::Digest;
use errors::{Catalogued, IoError};

/// A failure of the registry client.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RegistryError {
    /// A system call failed (starting the client's threads).
    #[error(transparent)]
    Io(#[from] IoError),
    /// Registry, repository or tag are not what a reference may hold; nothing was sent.
    #[error("reference {reference:?}: {rule}")]
    ReferenceInvalid {
        /// The refused text, escaped and shortened.
        reference: String,
        /// The rule it breaks.
        rule: &'static str,
    },
    /// The text is not a digest of a registered algorithm; nothing was sent.
    #[error("not a digest: {digest:?}")]
    DigestInvalid {
        /// The refused text, escaped and shortened.
        digest: String,
    },
    /// The registry has no such manifest.
    #[error("no image {reference}")]
    ImageNotFound {
        /// `registry/repository` and `:tag` or `@digest`.
        reference: String,
    },
    /// The registry has no such blob.
    #[error("no blob {digest}")]
    BlobNotFound {
        /// The blob.
        digest: Digest,
    },
    /// The registry refuses access with the credentials that were given, or without any.
    #[error("{registry} refuses access to {repository} ({status})")]
    AccessDenied {
        /// The registry as in the reference.
        registry: String,
        /// The repository.
        repository: String,
        /// The HTTP status.
        status: u16,
    },
    /// No answer, or only server errors, after all attempts.
    #[error("{registry} cannot be reached after {attempt_count} attempts: {detail}")]
    Unreachable {
        /// The registry as in the reference.
        registry: String,
        /// How many requests were tried since the last progress.
        attempt_count: u32,
        /// What the last attempt met.
        detail: String,
    },
    /// The registry keeps saying that it was asked too often, or for longer than we wait.
    #[error("{registry} limits the rate of requests; try again in {retry_after_seconds} s")]
    RateLimited {
        /// The registry as in the reference.
        registry: String,
        /// The wait it asked for, 0 if it named none.
        retry_after_seconds: u64,
    },
    /// The answer breaks the protocol or a rule of safety.
    #[error("{registry}: {rule} ({status})")]
    Protocol {
        /// The registry as in the reference.
        registry: String,
        /// The rule it breaks.
        rule: &'static str,
        /// The HTTP status of the answer.
        status: u16,
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
    /// The registry's blob is longer or shorter than its descriptor says.
    #[error("{digest}: {actual_bytes} bytes, expected {expected_bytes}")]
    SizeMismatch {
        /// The blob.
        digest: Digest,
        /// The size of the descriptor.
        expected_bytes: u64,
        /// The size that the registry names, or what was received when it was refused.
        actual_bytes: u64,
    },
    /// The manifest is not one that may be trusted.
    #[error("manifest {subject}: {rule}")]
    ManifestInvalid {
        /// Which manifest, and where in it.
        subject: String,
        /// The rule it breaks.
        rule: &'static str,
    },
    /// A file of settings that cannot be used.
    #[error("{path}: {rule}")]
    ConfigInvalid {
        /// The file, or what of the settings.
        path: String,
        /// What is wrong with it.
        rule: String,
    },
    /// The registry can neither be searched nor does it list its repositories.
    #[error("{registry} offers no search")]
    SearchUnsupported {
        /// The registry as it was given.
        registry: String,
    },
    /// A named limit was passed.
    #[error("{subject}: {limit} is {limit_value}, got {actual}")]
    LimitExceeded {
        /// The limit's name.
        limit: &'static str,
        /// The limit's value.
        limit_value: u64,
        /// What was found, or what had been counted when it was refused.
        actual: u64,
        /// What it was found in.
        subject: String,
    },
    /// The caller's token was cancelled.
    #[error("cancelled: {subject}")]
    Cancelled {
        /// What was being fetched.
        subject: String,
    },
}

impl Catalogued for RegistryError {
    fn reason(&self) -> &'static str {
        match self {
            Self::Io(error) => error.reason(),
            Self::ReferenceInvalid { .. } => "REFERENCE_INVALID",
            Self::DigestInvalid { .. } => "DIGEST_INVALID",
            Self::ImageNotFound { .. } => "IMAGE_NOT_FOUND",
            Self::BlobNotFound { .. } => "BLOB_NOT_FOUND",
            Self::AccessDenied { .. } => "REGISTRY_ACCESS_DENIED",
            Self::Unreachable { .. } => "REGISTRY_UNREACHABLE",
            Self::RateLimited { .. } => "REGISTRY_RATE_LIMITED",
            Self::Protocol { .. } => "REGISTRY_PROTOCOL",
            Self::DigestMismatch { .. } => "DIGEST_MISMATCH",
            Self::SizeMismatch { .. } => "SIZE_MISMATCH",
            Self::ManifestInvalid { .. } => "MANIFEST_INVALID",
            Self::ConfigInvalid { .. } => "REGISTRY_CONFIG_INVALID",
            Self::SearchUnsupported { .. } => "REGISTRY_SEARCH_UNSUPPORTED",
            Self::LimitExceeded { .. } => "LIMIT_EXCEEDED",
            Self::Cancelled { .. } => "CANCELLED",
        }
    }

    fn metadata(&self) -> Vec<(&'static str, String)> {
        match self {
            Self::Io(error) => error.metadata(),
            Self::ReferenceInvalid { reference, rule } => {
                vec![("reference", reference.clone()), ("rule", (*rule).to_owned())]
            }
            Self::DigestInvalid { digest } => vec![("digest", digest.clone())],
            Self::ImageNotFound { reference } => vec![("reference", reference.clone())],
            Self::BlobNotFound { digest } => vec![("digest", digest.to_string())],
            Self::AccessDenied { registry, repository, status } => vec![
                ("registry", registry.clone()),
                ("repository", repository.clone()),
                ("status", status.to_string()),
            ],
            Self::Unreachable { registry, attempt_count, detail } => vec![
                ("registry", registry.clone()),
                ("attempt_count", attempt_count.to_string()),
                ("detail", detail.clone()),
            ],
            Self::RateLimited { registry, retry_after_seconds } => {
                vec![("registry", registry.clone()), ("retry_after_seconds", retry_after_seconds.to_string())]
            }
            Self::Protocol { registry, rule, status } => vec![
                ("registry", registry.clone()),
                ("rule", (*rule).to_owned()),
                ("status", status.to_string()),
            ],
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
            Self::ManifestInvalid { subject, rule } => {
                vec![("subject", subject.clone()), ("rule", (*rule).to_owned())]
            }
            Self::ConfigInvalid { path, rule } => vec![("path", path.clone()), ("rule", rule.clone())],
            Self::SearchUnsupported { registry } => vec![("registry", registry.clone())],
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
