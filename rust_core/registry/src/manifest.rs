//! Fetches one manifest or index, whole and verified.

use std::time::Duration;

use content::{Algorithm, Digest};
use reqwest::header::{HeaderMap, HeaderName, HeaderValue, ACCEPT, CONTENT_TYPE, ETAG};
use reqwest::{Response, StatusCode};

use crate::http::Request;
use crate::manifest_rules;
use crate::retry::{Failure, Retries};
use crate::session::Session;
use crate::target::{show_reference, Reference, Repository};
use crate::RegistryError;

/// Largest manifest or index. Source: distribution-spec spec.md, "Pushing Manifests": registries should take 4 MiB.
pub const MANIFEST_MAX_BYTES: u64 = 4 * 1024 * 1024;
/// How long one attempt at a manifest may take as a whole, since one that drips never stalls.
pub const MANIFEST_TIMEOUT: Duration = Duration::from_secs(120);

const DOCKER_CONTENT_DIGEST: HeaderName = HeaderName::from_static("docker-content-digest");

/// A manifest or index as the registry gave it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Manifest {
    /// The exact bytes; they have the digest `digest`.
    pub data: Vec<u8>,
    /// One of the four media types of OCI's and Docker's image manifests and indexes.
    pub media_type: String,
    /// The digest that was asked for; for a tag, the SHA-256 of `data`.
    pub digest: Digest,
}

/// The manifest from the first of these hosts that gives it; what the last one says is told if none does.
pub(crate) async fn fetch(
    session: &Session,
    places: &[Repository],
    reference: &Reference,
) -> Result<Manifest, RegistryError> {
    let mut behind = places.len();
    loop {
        let place = &places[places.len() - behind];
        behind -= 1;
        match fetch_at(session, place, reference, session.max_attempts(behind)).await {
            Err(_) if behind > 0 => {}
            outcome => return outcome.map(|(manifest, _)| manifest),
        }
    }
}

/// The manifest from this host, and the entity tag that the host gives it, if it does.
pub(crate) async fn fetch_at(
    session: &Session,
    place: &Repository,
    reference: &Reference,
    max_attempts: u32,
) -> Result<(Manifest, Option<HeaderValue>), RegistryError> {
    let retries = Retries::new(&place.endpoint.registry, max_attempts);
    let subject = show_reference(&place.endpoint.registry, &place.name, reference);
    let attempt = async || match tokio::time::timeout(
        MANIFEST_TIMEOUT,
        fetch_once(session, place, reference, &subject),
    )
    .await
    {
        Ok(outcome) => outcome,
        Err(_) => Err(Failure::retry("the manifest did not arrive in time")),
    };
    retries.run(attempt).await
}

async fn fetch_once(
    session: &Session,
    repository: &Repository,
    reference: &Reference,
    subject: &str,
) -> Result<(Manifest, Option<HeaderValue>), Failure> {
    let url = repository.url(&format!("manifests/{}", reference.text()));
    let mut headers = HeaderMap::new();
    let accept = HeaderValue::from_str(&manifest_rules::accepted());
    headers.insert(ACCEPT, accept.unwrap_or(HeaderValue::from_static("*/*")));
    let answer = session.send(repository, &Request::get(url, headers), &[200, 404]).await?;
    let mut response = answer.response;
    if response.status() == StatusCode::NOT_FOUND {
        return Err(RegistryError::ImageNotFound { reference: subject.to_owned() }.into());
    }
    let content_type = text_header(&response, &CONTENT_TYPE);
    let claimed = text_header(&response, &DOCKER_CONTENT_DIGEST).and_then(|text| Digest::parse(&text).ok());
    let entity_tag = response.headers().get(ETAG).cloned();
    let data =
        session.http.read_body(&mut response, "manifest_max_bytes", MANIFEST_MAX_BYTES, subject).await?;
    let digest = verify(reference, claimed, &data)?;
    let media_type = manifest_rules::check(&data, content_type.as_deref(), subject)?;
    Ok((Manifest { data, media_type, digest }, entity_tag))
}

/// The digest of `data`, which is the one asked for (R03). What the header claims is only held against the bytes,
/// never taken for them.
fn verify(reference: &Reference, claimed: Option<Digest>, data: &[u8]) -> Result<Digest, RegistryError> {
    let asked = match reference {
        Reference::Digest(digest) => Some(digest),
        Reference::Tag(_) => None,
    };
    for expected in asked.into_iter().chain(&claimed) {
        let actual = Digest::of(expected.algorithm(), data);
        if actual != *expected {
            let expected = expected.clone();
            return Err(RegistryError::DigestMismatch { expected, actual, size_bytes: data.len() as u64 });
        }
    }
    Ok(asked.cloned().unwrap_or_else(|| Digest::of(Algorithm::Sha256, data)))
}

fn text_header(response: &Response, name: &HeaderName) -> Option<String> {
    Some(response.headers().get(name)?.to_str().ok()?.to_owned())
}
