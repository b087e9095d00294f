//! Client of the OCI distribution protocol: manifests whole, blobs as a stream that resumes by itself.
//!
//! HTTP on loopback registries, HTTPS elsewhere; anonymous, with the bearer tokens that registries hand to anyone.
//! It decides nothing about what to fetch, and it stores nothing.
//!
//! Everything that comes from a registry is hostile: manifests are checked before anything they name is asked for,
//! redirects and token servers may not lead to a weaker place, and each size and count has a named limit.
//!
//! Source: <https://github.com/opencontainers/distribution-spec/blob/main/spec.md>

mod blob;
mod challenge;
mod client;
mod endpoint;
mod error;
mod http;
mod manifest;
mod manifest_rules;
mod range;
mod retry;
mod session;
mod target;
mod token;

pub use blob::{BlobReader, CHUNK_QUEUE_LENGTH, RESUME_PROGRESS_BYTES};
pub use client::{ClientConfig, RegistryClient};
pub use error::RegistryError;
pub use http::{HEADER_MAX_BYTES, REDIRECT_MAX_COUNT};
pub use manifest::{Manifest, MANIFEST_MAX_BYTES, MANIFEST_TIMEOUT};
pub use manifest_rules::DESCRIPTOR_MAX_COUNT;
pub use retry::RETRY_AFTER_MAX;
pub use target::{REPOSITORY_MAX_BYTES, TAG_MAX_BYTES};
pub use token::{TOKEN_ANSWER_MAX_BYTES, TOKEN_CACHE_MAX_COUNT};
