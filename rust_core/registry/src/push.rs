//! Pushes: blobs from files, then the manifests that name them.

use std::fs::File;
use std::sync::Arc;

use bytes::Bytes;
use content::{Algorithm, Digest};
use reqwest::header::{HeaderName, HeaderValue, CONTENT_TYPE};
use reqwest::{Method, StatusCode};
use serde_json::Value;
use sys::cancel::CancelToken;

use crate::client::unless_cancelled;
use crate::http::{Payload, Request};
use crate::manifest::MANIFEST_MAX_BYTES;
use crate::referrers::{list_in_tag, subject_of};
use crate::retry::{Failure, Retries};
use crate::session::Session;
use crate::target::{check_repository, parse_digest, scope, show_reference, Reference, Repository};
use crate::upload::{Pushed, Upload, UploadProgress};
use crate::{RegistryClient, RegistryError, Target};

const OCI_SUBJECT: HeaderName = HeaderName::from_static("oci-subject");
const DOCKER_CONTENT_DIGEST: HeaderName = HeaderName::from_static("docker-content-digest");

/// A blob in a file, which must not change while it is sent.
#[derive(Debug)]
pub struct FileBlob<'a> {
    /// Its digest.
    pub digest: &'a str,
    /// The file; read by offset.
    pub file: File,
    /// Its size.
    pub size_bytes: u64,
}

impl RegistryClient {
    /// The repository has the blob: it was there, or was mounted from `mount_from`, or was sent. It goes to the first
    /// host that the registry's settings let be pushed to. Blocking; ends within 100 ms once cancelled, and leaves the
    /// registry an upload that it will drop.
    ///
    /// # Errors
    /// `REFERENCE_INVALID`, `DIGEST_INVALID`, `REGISTRY_ACCESS_DENIED`, `REGISTRY_UNREACHABLE`, `REGISTRY_PROTOCOL`,
    /// `REGISTRY_RATE_LIMITED`, `REGISTRY_CONFIG_INVALID`, `LIMIT_EXCEEDED`, `IO_FAILED`, `CANCELLED`.
    pub fn push_blob(
        &self,
        target: Target<'_>,
        blob: FileBlob<'_>,
        mount_from: Option<&str>,
        progress: &UploadProgress,
        cancel: &CancelToken,
    ) -> Result<Pushed, RegistryError> {
        let digest = parse_digest(blob.digest)?;
        let mut scopes = vec![scope(target.repository, "pull,push")];
        if let Some(from) = mount_from {
            check_repository(from)?;
            scopes.push(scope(from, "pull"));
        }
        let place = self.push_place(target, &scopes)?;
        let upload = Upload {
            session: &self.session,
            place: &place,
            digest: &digest,
            file: Arc::new(blob.file),
            size_bytes: blob.size_bytes,
            mount_from,
            progress,
        };
        self.runtime(target.registry)?.block_on(unless_cancelled(upload.run(), cancel, blob.digest))
    }

    /// `reference` names the manifest or index, whose blobs the registry has; returns its digest. Where it has a subject
    /// and the registry keeps no list of referrers, the list under the subject's tag names it too. Blocking; ends
    /// within 100 ms once cancelled.
    ///
    /// # Errors
    /// As [`RegistryClient::push_blob`]; `MANIFEST_INVALID` for bytes that are no JSON, `DIGEST_MISMATCH` if `reference`
    /// is the digest of others.
    pub fn push_manifest(
        &self,
        target: Target<'_>,
        reference: &str,
        media_type: &str,
        data: Vec<u8>,
        cancel: &CancelToken,
    ) -> Result<Digest, RegistryError> {
        let reference = Reference::parse(reference)?;
        let subject = show_reference(target.registry, target.repository, &reference);
        if data.len() as u64 > MANIFEST_MAX_BYTES {
            let (limit_value, actual) = (MANIFEST_MAX_BYTES, data.len() as u64);
            return Err(RegistryError::LimitExceeded {
                limit: "manifest_max_bytes",
                limit_value,
                actual,
                subject,
            });
        }
        let document: Value = serde_json::from_slice(&data)
            .map_err(|_| RegistryError::ManifestInvalid { subject: subject.clone(), rule: "is no JSON" })?;
        let place = self.push_place(target, &[scope(target.repository, "pull,push")])?;
        let work = async {
            let size_bytes = data.len() as u64;
            let (digest, lists_referrers) =
                put_manifest(&self.session, &place, &reference, media_type, data).await?;
            if let Some(referred) = subject_of(&document).filter(|_| !lists_referrers) {
                let descriptor = (media_type, &digest, size_bytes);
                list_in_tag(&self.session, &place, &referred, &document, descriptor).await?;
            }
            Ok(digest)
        };
        self.runtime(target.registry)?.block_on(unless_cancelled(work, cancel, &subject))
    }

    fn push_place(&self, target: Target<'_>, scopes: &[String]) -> Result<Repository, RegistryError> {
        let Target { registry, repository, credentials } = target;
        let mut places = self.session.places(registry, repository, credentials, scopes, |may| may.push)?;
        // There is one at least. Never another one instead: a push says where it goes.
        Ok(places.swap_remove(0))
    }
}

/// The digest that `reference` names now, and whether the registry lists what the manifest refers to.
pub(crate) async fn put_manifest(
    session: &Session,
    place: &Repository,
    reference: &Reference,
    media_type: &str,
    data: Vec<u8>,
) -> Result<(Digest, bool), RegistryError> {
    let put = put_manifest_if(session, place, reference, media_type, data, None).await?;
    put.ok_or_else(|| RegistryError::Protocol {
        registry: place.endpoint.registry.clone(),
        rule: "refuses a condition that was not set",
        status: StatusCode::PRECONDITION_FAILED.as_u16(),
    })
}

/// As [`put_manifest`], under a condition about what the reference names before, `If-Match` for example; `None` if the
/// registry says that it does not hold. A registry that knows no conditions writes in any case.
pub(crate) async fn put_manifest_if(
    session: &Session,
    place: &Repository,
    reference: &Reference,
    media_type: &str,
    data: Vec<u8>,
    condition: Option<(HeaderName, HeaderValue)>,
) -> Result<Option<(Digest, bool)>, RegistryError> {
    let registry = &place.endpoint.registry;
    let digest = match reference {
        Reference::Digest(asked) => {
            let actual = Digest::of(asked.algorithm(), &data);
            if actual != *asked {
                let (expected, size_bytes) = (asked.clone(), data.len() as u64);
                return Err(RegistryError::DigestMismatch { expected, actual, size_bytes });
            }
            actual
        }
        Reference::Tag(_) => Digest::of(Algorithm::Sha256, &data),
    };
    let content_type = HeaderValue::from_str(media_type).map_err(|_| RegistryError::ManifestInvalid {
        subject: show_reference(registry, &place.name, reference),
        rule: "has a media type that no header can hold",
    })?;
    let data = Bytes::from(data);
    let attempt = async || -> Result<Option<bool>, Failure> {
        let url = place.url(&format!("manifests/{}", reference.text()));
        let mut request = Request::new(Method::PUT, url).with_body(Payload::Bytes(data.clone()));
        request.headers.insert(CONTENT_TYPE, content_type.clone());
        let mut expected = vec![200, 201, 202];
        if let Some((name, value)) = &condition {
            request.headers.insert(name.clone(), value.clone());
            expected.push(StatusCode::PRECONDITION_FAILED.as_u16());
        }
        let answer = session.send(place, &request, &expected).await?;
        if answer.response.status() == StatusCode::PRECONDITION_FAILED {
            return Ok(None);
        }
        let headers = answer.response.headers();
        let named = headers.get(DOCKER_CONTENT_DIGEST).and_then(|value| value.to_str().ok());
        let named = named.and_then(|text| Digest::parse(text).ok());
        if named.is_some_and(|named| named.algorithm() == digest.algorithm() && named != digest) {
            let rule = "names another digest for what was sent";
            let status = answer.response.status().as_u16();
            return Err(RegistryError::Protocol { registry: registry.clone(), rule, status }.into());
        }
        Ok(Some(headers.contains_key(OCI_SUBJECT)))
    };
    let lists_referrers = Retries::new(registry, session.max_attempts(0)).run(attempt).await?;
    Ok(lists_referrers.map(|lists_referrers| (digest, lists_referrers)))
}
