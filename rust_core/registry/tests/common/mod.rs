//! What the tests of manifests, blobs and tokens share.
#![allow(missing_docs, dead_code)]

use std::time::Duration;

use content::{Algorithm, Digest};
use errors::Catalogued;
use registry::{BlobSource, ClientConfig, Credentials, Manifest, RegistryClient, RegistryError, Target};
use sys::cancel::CancelToken;

pub const IMAGE: &str = "application/vnd.oci.image.manifest.v1+json";
pub const INDEX: &str = "application/vnd.oci.image.index.v1+json";

pub fn digest(data: &[u8]) -> String {
    Digest::of(Algorithm::Sha256, data).to_string()
}

/// Settings of a client that gives up soon.
pub fn config() -> ClientConfig {
    ClientConfig {
        connect_timeout: Duration::from_secs(5),
        header_timeout: Duration::from_millis(400),
        stall_timeout: Duration::from_millis(400),
        ..ClientConfig::new("fluyt-test")
    }
}

/// A client that gives up soon.
pub fn client() -> RegistryClient {
    RegistryClient::new(config())
}

/// The repository `a/b`, asked for by nobody.
pub fn target(registry: &str) -> Target<'_> {
    Target { registry, repository: "a/b", credentials: nobody() }
}

/// A blob of a registry alone.
pub fn source<'a>(target: Target<'a>, digest: &'a str, size: usize) -> BlobSource<'a> {
    BlobSource { target, digest, size_bytes: size as u64, urls: &[] }
}

pub fn nobody() -> &'static Credentials {
    static NOBODY: std::sync::OnceLock<Credentials> = std::sync::OnceLock::new();
    NOBODY.get_or_init(Credentials::anonymous)
}

pub fn manifest_body() -> Vec<u8> {
    let blob = digest(b"blob");
    format!(
        r#"{{"schemaVersion":2,"mediaType":"{IMAGE}","config":{{"mediaType":"c","digest":"{blob}","size":4}},"layers":[]}}"#
    )
    .into_bytes()
}

pub fn manifest(registry: &str, reference: &str) -> Result<Manifest, RegistryError> {
    client().fetch_manifest(target(registry), reference, &CancelToken::new())
}

/// All bytes of a blob from `offset` on, and how many requests they took.
pub fn blob_from(
    registry: &str,
    name: &str,
    size: usize,
    offset: usize,
) -> Result<(Vec<u8>, u64), RegistryError> {
    let client = client();
    let source = source(target(registry), name, size);
    let mut reader = client.open_blob(&source, offset as u64, 0, &CancelToken::new())?;
    let mut bytes = Vec::new();
    while let Some(chunk) = reader.next_chunk()? {
        bytes.extend_from_slice(&chunk);
    }
    Ok((bytes, reader.request_count()))
}

pub fn blob(registry: &str, data: &[u8]) -> Result<(Vec<u8>, u64), RegistryError> {
    blob_from(registry, &digest(data), data.len(), 0)
}

pub fn fact(error: &impl Catalogued, key: &str) -> String {
    let found = error.metadata().into_iter().find(|(name, _)| *name == key);
    found.map(|(_, value)| value).unwrap_or_default()
}

/// Bytes that no two places of share.
pub fn noise(length: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    (0..length)
        .map(|_| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            (state >> 32) as u8
        })
        .collect()
}
