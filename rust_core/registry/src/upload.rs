//! Sends one blob: not at all if it is there, by a mount where another repository has it, else in pieces that are taken
//! up again where they broke off.
//!
//! ```text
//! HEAD blob ─200─> present
//!   │ 404
//! POST uploads[?mount&from] ─201─> mounted
//!   │ 202, Location
//! PATCH Location, Content-Range ─202, Location, Range─┐  until the registry has all bytes; after a failure
//!   ▲─────────────────────────────────────────────────┘  GET Location tells where to go on, or a new POST begins again
//! PUT Location&digest= ─201─> sent
//! ```
//! A registry that takes no PATCH gets the whole blob with the PUT.
//!
//! Source: distribution-spec spec.md, "Pushing blobs", "Pushing a blob in chunks", "Mounting a blob from another
//! repository".

use std::fs::File;
use std::sync::atomic::{AtomicU64, AtomicU8, Ordering};
use std::sync::Arc;

use bytes::Bytes;
use content::Digest;
use reqwest::header::{HeaderMap, HeaderValue, CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE, LOCATION, RANGE};
use reqwest::{Method, StatusCode};
use url::Url;

use crate::http::{follow_location, Answer, Payload, Request};
use crate::range::parse_inclusive;
use crate::retry::{Failure, Retries};
use crate::session::{refusal, Session};
use crate::target::Repository;
use crate::upload_body::UploadBody;
use crate::{RegistryError, RESUME_PROGRESS_BYTES};

const CHUNK_MIN_LENGTH: &str = "oci-chunk-min-length";
const DOCKER_CONTENT_DIGEST: &str = "docker-content-digest";

/// How a blob came to be in the repository.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pushed {
    /// It was there.
    Present,
    /// The registry took it over from another of its repositories.
    Mounted,
    /// Its bytes were sent.
    Sent,
}

/// How far the sending of one blob has come; read at any time from any thread.
#[derive(Debug, Default)]
pub struct UploadProgress {
    phase: AtomicU8,
    reached: Arc<AtomicU64>,
}

impl UploadProgress {
    const WAITING: u8 = 0;
    const UPLOADING: u8 = 1;
    const PHASES: [&'static str; 5] = ["waiting", "uploading", "present", "mounted", "done"];

    /// `waiting`, `uploading`, `present`, `mounted`, `done`.
    #[must_use]
    pub fn phase(&self) -> &'static str {
        let phase = usize::from(self.phase.load(Ordering::Relaxed));
        Self::PHASES.get(phase).copied().unwrap_or("waiting")
    }

    /// Bytes of the blob that have left, up to where the last attempt came.
    #[must_use]
    pub fn sent_bytes(&self) -> u64 {
        self.reached.load(Ordering::Relaxed)
    }

    fn enter(&self, phase: u8) {
        self.phase.store(phase, Ordering::Relaxed);
    }

    fn end(&self, outcome: Pushed) {
        self.enter(match outcome {
            Pushed::Present => 2,
            Pushed::Mounted => 3,
            Pushed::Sent => 4,
        });
    }
}

/// A blob to be sent.
#[derive(Debug)]
pub(crate) struct Upload<'a> {
    pub session: &'a Session,
    pub place: &'a Repository,
    pub digest: &'a Digest,
    pub file: Arc<File>,
    pub size_bytes: u64,
    pub mount_from: Option<&'a str>,
    pub progress: &'a UploadProgress,
}

/// Where an upload stands between attempts.
#[derive(Debug, Default)]
struct Stand {
    /// Where the next request goes; `None` before the first POST and after the registry lost the upload.
    location: Option<Url>,
    /// How many bytes the registry has.
    at: u64,
    /// The last attempt failed: what the registry has is to be asked.
    is_doubtful: bool,
    /// The registry takes no PATCH.
    is_whole: bool,
    /// Smallest chunk that the registry takes, but for the last.
    chunk_min_bytes: u64,
}

impl Upload<'_> {
    /// The registry has the blob.
    pub async fn run(&self) -> Result<Pushed, RegistryError> {
        self.progress.enter(UploadProgress::WAITING);
        let max_attempts = self.session.max_attempts(0);
        let registry = &self.place.endpoint.registry;
        let is_there = Retries::new(registry, max_attempts).run(async || self.is_there().await).await?;
        let outcome =
            if is_there { Pushed::Present } else { self.send(Retries::new(registry, max_attempts)).await? };
        self.progress.end(outcome);
        Ok(outcome)
    }

    async fn is_there(&self) -> Result<bool, Failure> {
        let request = Request::new(Method::HEAD, self.place.url(&format!("blobs/{}", self.digest)));
        // A refusal is none of the push: where HEAD is redirected, a storage may refuse what its URL was not signed for.
        // Whether the push may be, the POST tells.
        let answer = self.session.send(self.place, &request, &[200, 400, 403, 404, 405]).await?;
        Ok(answer.response.status() == StatusCode::OK)
    }

    async fn send(&self, mut retries: Retries) -> Result<Pushed, RegistryError> {
        let mut stand = Stand::default();
        let mut counted_from = 0;
        loop {
            let failure = match self.attempt(&mut stand).await {
                Ok(outcome) => return Ok(outcome),
                Err(failure) => failure,
            };
            if stand.at >= counted_from + RESUME_PROGRESS_BYTES {
                counted_from = stand.at;
                retries.reset();
            }
            stand.is_doubtful = true;
            retries.wait(failure).await?;
        }
    }

    async fn attempt(&self, stand: &mut Stand) -> Result<Pushed, Failure> {
        if stand.is_doubtful {
            // The last answer may have been lost, not the request.
            if self.is_there().await? {
                return Ok(Pushed::Sent);
            }
            self.ask_stand(stand).await?;
        }
        stand.is_doubtful = false;
        if stand.location.is_none() && self.begin(stand).await? == Some(Pushed::Mounted) {
            return Ok(Pushed::Mounted);
        }
        self.progress.enter(UploadProgress::UPLOADING);
        while !stand.is_whole && stand.at < self.size_bytes {
            self.patch(stand).await?;
        }
        self.commit(stand).await?;
        Ok(Pushed::Sent)
    }

    /// An upload is begun, or the blob was mounted.
    async fn begin(&self, stand: &mut Stand) -> Result<Option<Pushed>, Failure> {
        stand.at = 0;
        let mut answer = None;
        if let Some(from) = self.mount_from {
            answer = self.mount(from).await?;
        }
        let answer = match answer {
            Some(answer) if answer.response.status() == StatusCode::CREATED => {
                return Ok(Some(Pushed::Mounted))
            }
            Some(answer) => answer,
            None => {
                self.session.send(self.place, &self.post(self.place.url("blobs/uploads/")), &[202]).await?
            }
        };
        let shortest = answer.response.headers().get(CHUNK_MIN_LENGTH);
        let shortest = shortest.and_then(|value| value.to_str().ok()?.parse().ok());
        stand.chunk_min_bytes = shortest.unwrap_or(0);
        stand.location = Some(self.next_location(&answer)?);
        Ok(None)
    }

    /// The answer to the attempt to mount: 201, or 202 with an upload; `None` where the registry refuses to try.
    async fn mount(&self, from: &str) -> Result<Option<Answer>, Failure> {
        let mut url = self.place.url("blobs/uploads/");
        append(&mut url, &format!("mount={}&from={from}", self.digest));
        match self.session.send(self.place, &self.post(url), &[201, 202, 400, 403, 404, 405]).await {
            Ok(answer) if matches!(answer.response.status().as_u16(), 201 | 202) => Ok(Some(answer)),
            Ok(_) | Err(Failure::Final(RegistryError::AccessDenied { .. })) => Ok(None),
            Err(failure) => Err(failure),
        }
    }

    fn post(&self, url: Url) -> Request<'static> {
        let mut request = Request::new(Method::POST, url).with_body(Payload::Bytes(Bytes::new()));
        request.headers.insert(CONTENT_LENGTH, HeaderValue::from(0));
        request
    }

    /// What the registry has of the upload after a failure (R10); begins again where it does not say.
    async fn ask_stand(&self, stand: &mut Stand) -> Result<(), Failure> {
        let Some(location) = stand.location.take() else { return Ok(()) };
        stand.at = 0;
        let request = Request::get(location.clone(), HeaderMap::new());
        let answer = self.session.send(self.place, &request, &[200, 202, 204, 400, 404, 405, 416]).await?;
        if !answer.response.status().is_success() {
            return Ok(());
        }
        // "0-0" is one byte by the specification and none by its reference implementation.
        let Some(end) = range_end(&answer).filter(|end| *end > 0 && *end < self.size_bytes) else {
            return Ok(());
        };
        stand.at = end + 1;
        stand.location = Some(self.location_or(&answer, location)?);
        self.progress.reached.store(stand.at, Ordering::Relaxed);
        Ok(())
    }

    /// One chunk more, from where the registry says that it is.
    async fn patch(&self, stand: &mut Stand) -> Result<(), Failure> {
        let Some(location) = stand.location.clone() else { return Err(Failure::retry("the upload is gone")) };
        let left = self.size_bytes - stand.at;
        let configured = self.session.http.config().upload_chunk_bytes;
        let length = if configured == 0 { left } else { left.min(configured.max(stand.chunk_min_bytes)) };
        let end = stand.at + length;
        let body = self.part(stand.at, end);
        let mut request = Request::new(Method::PATCH, location.clone()).with_body(Payload::File(&body));
        octets(&mut request.headers, length);
        let range = HeaderValue::from_str(&format!("{}-{}", stand.at, end - 1));
        request.headers.extend(range.ok().map(|range| (CONTENT_RANGE, range)));
        let answer =
            self.session.send(self.place, &request, &[202, 204, 400, 404, 405, 415, 416, 501]).await?;
        match answer.response.status().as_u16() {
            202 | 204 => {}
            404 => {
                stand.location = None;
                return Err(Failure::retry("the registry lost the upload"));
            }
            416 => return Err(Failure::retry("the registry has other bytes than were sent")),
            _ => {
                stand.location = None;
                stand.is_whole = true;
                return Err(Failure::retry("the registry takes no upload in pieces"));
            }
        }
        // The registry may have stored less than was sent (R10).
        let reached = range_end(&answer).filter(|last| *last > 0).map_or(end, |last| last + 1);
        if reached <= stand.at || reached > end {
            return Err(Failure::retry("the registry has other bytes than were sent"));
        }
        stand.at = reached;
        stand.location = Some(self.location_or(&answer, location)?);
        Ok(())
    }

    /// The upload becomes the blob; where nothing was sent before, with all its bytes.
    async fn commit(&self, stand: &mut Stand) -> Result<(), Failure> {
        let Some(mut url) = stand.location.clone() else { return Err(Failure::retry("the upload is gone")) };
        append(&mut url, &format!("digest={}", self.digest));
        let body = self.part(0, self.size_bytes);
        let is_sending = stand.is_whole && self.size_bytes > 0;
        let payload = if is_sending { Payload::File(&body) } else { Payload::Bytes(Bytes::new()) };
        let mut request = Request::new(Method::PUT, url).with_body(payload);
        octets(&mut request.headers, if is_sending { self.size_bytes } else { 0 });
        let answer = self.session.send(self.place, &request, &[200, 201, 204, 400, 404, 416]).await?;
        match answer.response.status().as_u16() {
            404 => {
                stand.location = None;
                Err(Failure::retry("the registry lost the upload"))
            }
            // It has fewer bytes than it said, or cannot put pieces together: all at once, before giving up.
            400 | 416 if !stand.is_whole && self.size_bytes > 0 => {
                let had = stand.at;
                self.ask_stand(stand).await?;
                if stand.location.is_none() || stand.at >= had {
                    (stand.location, stand.is_whole) = (None, true);
                }
                Err(Failure::retry("the registry did not take the upload"))
            }
            400 | 416 => Err(refusal(self.place, &answer.response).into()),
            _ => self.check_digest(&answer).map_err(Failure::from),
        }
    }

    fn check_digest(&self, answer: &Answer) -> Result<(), RegistryError> {
        let named =
            answer.response.headers().get(DOCKER_CONTENT_DIGEST).and_then(|value| value.to_str().ok());
        match named.and_then(|text| Digest::parse(text).ok()) {
            Some(other) if other.algorithm() == self.digest.algorithm() && other != *self.digest => {
                Err(RegistryError::Protocol {
                    registry: self.place.endpoint.registry.clone(),
                    rule: "names another digest for what was sent",
                    status: answer.response.status().as_u16(),
                })
            }
            _ => Ok(()),
        }
    }

    fn part(&self, start: u64, end: u64) -> UploadBody {
        let reached = Arc::clone(&self.progress.reached);
        UploadBody { file: Arc::clone(&self.file), start, end, reached, subject: self.digest.to_string() }
    }

    fn next_location(&self, answer: &Answer) -> Result<Url, RegistryError> {
        let registry = &self.place.endpoint.registry;
        follow_location(
            registry,
            &answer.url,
            &answer.response,
            "begins an upload without a readable location",
        )
    }

    /// Where the next request goes: what the answer says, absolute or relative (R09), else where this one went.
    fn location_or(&self, answer: &Answer, before: Url) -> Result<Url, RegistryError> {
        if answer.response.headers().contains_key(LOCATION) {
            self.next_location(answer)
        } else {
            Ok(before)
        }
    }
}

/// The last byte that the registry has, from `Range: 0-<last>`, inclusive.
fn range_end(answer: &Answer) -> Option<u64> {
    let value = answer.response.headers().get(RANGE)?.to_str().ok()?;
    parse_inclusive(value).filter(|(first, _)| *first == 0).map(|(_, last)| last)
}

fn octets(headers: &mut HeaderMap, length: u64) {
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/octet-stream"));
    headers.insert(CONTENT_LENGTH, HeaderValue::from(length));
}

/// Adds to a query and leaves what stands in it as it is (R09): it may be signed.
fn append(url: &mut Url, addition: &str) {
    let query = match url.query() {
        Some(query) if !query.is_empty() => format!("{query}&{addition}"),
        _ => addition.to_owned(),
    };
    url.set_query(Some(&query));
}
