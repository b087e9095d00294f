//! Streams one blob: reconnects where a transfer breaks, and hands on each byte once and in order.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use content::Digest;
use reqwest::header::{HeaderMap, HeaderValue, CONTENT_RANGE, RANGE};
use reqwest::{Response, StatusCode};
use sys::cancel::CancelToken;
use tokio::runtime::Runtime;
use tokio::sync::mpsc;
use tokio::task::AbortHandle;

use crate::client::unless_cancelled;
use crate::http::Pace;
use crate::origin::Origin;
use crate::range;
use crate::retry::{Failure, Retries};
use crate::session::Session;
use crate::RegistryError;

/// How many pieces wait between the connection and the reader; a slow reader slows the transfer.
pub const CHUNK_QUEUE_LENGTH: usize = 4;
/// A transfer that brought so much counts as progress: its attempts are counted anew.
pub const RESUME_PROGRESS_BYTES: u64 = 1024 * 1024;
/// How long a body of unknown length may stay open after its last byte.
const END_TIMEOUT: Duration = Duration::from_secs(5);

/// A blob's bytes on their way in. Dropping it breaks the transfer off.
#[derive(Debug)]
pub struct BlobReader {
    chunks: mpsc::Receiver<Result<Bytes, RegistryError>>,
    task: AbortHandle,
    runtime: Arc<Runtime>,
    request_count: Arc<AtomicU64>,
    first_origin: Arc<AtomicUsize>,
    cancel: CancelToken,
    digest: Digest,
}

/// Who is asked for a blob, in order.
#[derive(Debug)]
pub(crate) struct Route {
    pub session: Arc<Session>,
    /// One at least.
    pub origins: Vec<Origin>,
    /// How many stood before them.
    pub skipped: usize,
}

/// No byte came yet.
const NOBODY: usize = usize::MAX;

impl BlobReader {
    pub(crate) fn start(
        runtime: Arc<Runtime>,
        route: Route,
        digest: Digest,
        size_bytes: u64,
        offset_bytes: u64,
        cancel: &CancelToken,
    ) -> Self {
        let (sender, chunks) = mpsc::channel(CHUNK_QUEUE_LENGTH);
        let request_count = Arc::new(AtomicU64::new(0));
        let first_origin = Arc::new(AtomicUsize::new(NOBODY));
        let transfer = Transfer {
            session: route.session,
            digest: digest.clone(),
            size_bytes,
            at: offset_bytes,
            is_range_usable: true,
            ended_short: false,
            request_count: Arc::clone(&request_count),
            origin: route.skipped,
            first_origin: Arc::clone(&first_origin),
            sender: sender.clone(),
        };
        let task = runtime
            .spawn(async move {
                if let Err(error) = transfer.run(&route.origins).await {
                    // A reader that is gone wants no error.
                    let _ = sender.send(Err(error)).await;
                }
            })
            .abort_handle();
        Self { chunks, task, runtime, request_count, first_origin, cancel: cancel.clone(), digest }
    }

    /// The next bytes of the blob; `None` when as many as the descriptor says were given. Each byte comes once and in
    /// order, whatever the transfer met. They are not verified here. Blocking; ends within 100 ms once cancelled.
    ///
    /// # Errors
    /// `BLOB_NOT_FOUND`, `SIZE_MISMATCH` (the registry's blob is longer or shorter), `REGISTRY_ACCESS_DENIED`,
    /// `REGISTRY_UNREACHABLE`, `REGISTRY_PROTOCOL`, `REGISTRY_RATE_LIMITED`, `LIMIT_EXCEEDED`, `CANCELLED`. Nothing
    /// follows an error.
    pub fn next_chunk(&mut self) -> Result<Option<Bytes>, RegistryError> {
        let subject = self.digest.to_string();
        let chunks = &mut self.chunks;
        self.runtime.block_on(unless_cancelled(
            async { chunks.recv().await.transpose() },
            &self.cancel,
            &subject,
        ))
    }

    /// How many requests were sent for the blob, those for tokens not counted. Never blocks.
    #[must_use]
    pub fn request_count(&self) -> u64 {
        self.request_count.load(Ordering::Relaxed)
    }

    /// Which place gave the first byte, counted from the first one of all; `None` if no byte came. Never blocks.
    #[must_use]
    pub fn first_origin(&self) -> Option<usize> {
        Some(self.first_origin.load(Ordering::Relaxed)).filter(|origin| *origin != NOBODY)
    }
}

impl Drop for BlobReader {
    fn drop(&mut self) {
        self.task.abort();
    }
}

struct Transfer {
    session: Arc<Session>,
    digest: Digest,
    size_bytes: u64,
    /// The next byte to hand on.
    at: u64,
    /// False once the server gave another range than the one asked for.
    is_range_usable: bool,
    /// True if the last body ended in good order before the blob's end.
    ended_short: bool,
    request_count: Arc<AtomicU64>,
    /// The one that is asked, counted from the first one of all.
    origin: usize,
    first_origin: Arc<AtomicUsize>,
    sender: mpsc::Sender<Result<Bytes, RegistryError>>,
}

impl Transfer {
    /// The whole transfer: at the first place that serves it, each one going on where the one before it ended.
    async fn run(mut self, origins: &[Origin]) -> Result<(), RegistryError> {
        let mut behind = origins.len();
        let mut of_url = None;
        for origin in origins {
            behind -= 1;
            self.is_range_usable = true;
            match (self.run_at(origin, behind).await, of_url.take()) {
                (Err(error), before) if behind > 0 => {
                    of_url = before.or(origin.is_external().then_some(error));
                }
                // That a registry lacks what is not to be distributed says nothing; why the URL did not serve does.
                (Err(RegistryError::BlobNotFound { .. }), Some(error)) => return Err(error),
                (outcome, _) => return outcome,
            }
            self.origin += 1;
        }
        Ok(())
    }

    async fn run_at(&mut self, origin: &Origin, behind: usize) -> Result<(), RegistryError> {
        let mut retries = Retries::new(origin.name(), self.session.max_attempts(behind));
        let mut counted_from = self.at;
        loop {
            let Err(failure) = self.attempt(origin).await else { return Ok(()) };
            if self.at - counted_from >= RESUME_PROGRESS_BYTES {
                counted_from = self.at;
                retries.reset();
            }
            let ended_short = self.ended_short;
            match retries.wait(failure).await {
                Err(RegistryError::Unreachable { .. }) if ended_short => return Err(self.wrong_size(self.at)),
                outcome => outcome?,
            }
        }
    }

    fn wrong_size(&self, actual_bytes: u64) -> RegistryError {
        let digest = self.digest.clone();
        RegistryError::SizeMismatch { digest, expected_bytes: self.size_bytes, actual_bytes }
    }

    /// One request, from the next byte on, and its body handed on.
    async fn attempt(&mut self, origin: &Origin) -> Result<(), Failure> {
        self.ended_short = false;
        self.request_count.fetch_add(1, Ordering::Relaxed);
        let mut headers = HeaderMap::new();
        if self.at > 0 && self.is_range_usable {
            if let Ok(value) = HeaderValue::from_str(&format!("bytes={}-", self.at)) {
                headers.insert(RANGE, value);
            }
        }
        let answer = origin.send(&self.session, &self.digest.to_string(), headers).await?;
        let skipped_bytes = self.check_start(&answer.response)?;
        self.hand_on(answer.response, skipped_bytes).await
    }

    /// How many bytes of the body are there already, or why the body cannot be used (R07).
    fn check_start(&mut self, response: &Response) -> Result<u64, Failure> {
        let content_range = response.headers().get(CONTENT_RANGE).and_then(|value| value.to_str().ok());
        let content_range = content_range.and_then(range::parse);
        match response.status() {
            StatusCode::OK => match response.content_length() {
                Some(length) if length != self.size_bytes => Err(self.wrong_size(length).into()),
                // The server ignored the range and starts over: so do we, but for the bytes handed on before.
                _ => Ok(self.at),
            },
            StatusCode::NOT_FOUND => Err(RegistryError::BlobNotFound { digest: self.digest.clone() }.into()),
            _ => {
                let total = content_range.and_then(|range| range.total);
                if let Some(total) = total.filter(|total| *total != self.size_bytes) {
                    return Err(self.wrong_size(total).into());
                }
                let is_asked = response.status() == StatusCode::PARTIAL_CONTENT
                    && content_range.and_then(|range| range.span).is_some_and(|span| span.0 == self.at);
                if is_asked {
                    return Ok(0);
                }
                self.is_range_usable = false;
                Err(Failure::retry("answered with another range than asked for"))
            }
        }
    }

    async fn hand_on(&mut self, mut response: Response, mut skipped_bytes: u64) -> Result<(), Failure> {
        let mut pace = Pace::default();
        let subject = self.digest.to_string();
        while self.at < self.size_bytes {
            let since = Instant::now();
            let Some(mut chunk) = self.session.http.next_chunk(&mut response).await? else {
                self.ended_short = true;
                return Err(Failure::retry("the blob ended early"));
            };
            // Only the wait for the registry counts, not that for the reader.
            let paced = pace.count(self.session.http.config(), since, chunk.len() as u64, &subject);
            let skip = skipped_bytes.min(chunk.len() as u64);
            skipped_bytes -= skip;
            let chunk = chunk.split_off(skip as usize);
            if chunk.is_empty() {
                paced?;
                continue;
            }
            let reached = self.at + chunk.len() as u64;
            if reached > self.size_bytes {
                return Err(self.wrong_size(reached).into());
            }
            // The first one stays.
            let _ =
                self.first_origin.compare_exchange(NOBODY, self.origin, Ordering::Relaxed, Ordering::Relaxed);
            if self.sender.send(Ok(chunk)).await.is_err() {
                return Ok(());
            }
            self.at = reached;
            if self.at < self.size_bytes {
                paced?;
            }
        }
        // All bytes are there; a body of unknown length may still have more, which makes it another blob.
        match tokio::time::timeout(END_TIMEOUT, response.chunk()).await {
            Ok(Ok(Some(more))) if !more.is_empty() => {
                Err(self.wrong_size(self.at + more.len() as u64).into())
            }
            _ => Ok(()),
        }
    }
}
