//! Client of the OCI distribution protocol: manifests whole, blobs as a stream that resumes by itself.
//!
//! HTTP on loopback registries, HTTPS elsewhere, unless a registry's settings say otherwise; Bearer and Basic
//! authentication; mirrors in containerd's form. It decides nothing about what to fetch, and it stores nothing.
//!
//! Everything that comes from a registry is hostile: manifests are checked before anything they name is asked for,
//! redirects and token servers may not lead to a weaker place, and each size and count has a named limit.
//!
//! Source: <https://github.com/opencontainers/distribution-spec/blob/main/spec.md>

mod auth_file;
mod blob;
mod challenge;
mod client;
mod config_file;
mod credentials;
mod download;
mod endpoint;
mod error;
mod hosts;
mod hosts_file;
mod http;
mod login;
mod manifest;
mod manifest_rules;
mod no_proxy;
mod origin;
mod pages;
mod push;
mod range;
mod referrers;
mod referrers_list;
mod retry;
mod runtimes;
mod search;
mod session;
mod tags;
mod target;
mod tls;
mod token;
mod upload;
mod upload_body;

pub use auth_file::AUTH_FILE_MAX_BYTES;
pub use blob::{BlobReader, CHUNK_QUEUE_LENGTH, RESUME_PROGRESS_BYTES};
pub use client::{ClientConfig, Proxies, RegistryClient, Target};
pub use credentials::Credentials;
pub use download::Downloaded;
pub use error::RegistryError;
pub use hosts::HOSTS_CACHE_MAX_COUNT;
pub use hosts_file::{HOSTS_FILE_MAX_BYTES, HOSTS_MAX_COUNT};
pub use http::{COMMIT_TIMEOUT, HEADER_MAX_BYTES, REDIRECT_MAX_COUNT};
pub use manifest::{Manifest, MANIFEST_MAX_BYTES, MANIFEST_TIMEOUT};
pub use manifest_rules::DESCRIPTOR_MAX_COUNT;
pub use origin::BlobSource;
pub use pages::{PAGES_MAX_COUNT, PAGE_MAX_BYTES};
pub use push::FileBlob;
pub use referrers::REFERRERS_WRITE_ATTEMPTS;
pub use referrers_list::{Referrer, REFERRERS_MAX_COUNT};
pub use retry::RETRY_AFTER_MAX;
pub use runtimes::RUNTIMES_MAX_COUNT;
pub use search::{SearchHit, SEARCH_MAX_COUNT};
pub use session::MIRROR_MAX_ATTEMPTS;
pub use tags::TAGS_MAX_COUNT;
pub use target::{REPOSITORY_MAX_BYTES, TAG_MAX_BYTES};
pub use tls::CERTIFICATE_FILE_MAX_BYTES;
pub use token::{CHALLENGE_SCOPE_MAX_COUNT, TOKEN_ANSWER_MAX_BYTES, TOKEN_CACHE_MAX_COUNT, TOKEN_TIMEOUT};
pub use upload::{Pushed, UploadProgress};
