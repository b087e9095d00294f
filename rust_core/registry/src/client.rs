//! The client: its threads, and blocking calls that end soon once cancelled.

use std::future::Future;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use errors::IoError;
use sys::cancel::{CancelToken, POLL_INTERVAL};
use tokio::runtime::{Builder, Runtime};

use crate::manifest::{self, Manifest};
use crate::session::Session;
use crate::target::{parse_digest, Reference, Repository};
use crate::{BlobReader, RegistryError};

/// Threads that drive all connections: hashing, decompression and storing happen on the callers' own threads.
const WORKER_THREADS: usize = 1;
/// Threads for name look-ups, which block.
const LOOKUP_THREADS: usize = 4;

/// How a client behaves.
#[derive(Debug, Clone)]
pub struct ClientConfig {
    /// The User-Agent of each request.
    pub user_agent: String,
    /// How long a connection, with TLS, may take to stand.
    pub connect_timeout: Duration,
    /// How long a transfer may go without a byte before it is broken off, to be resumed or failed.
    pub stall_timeout: Duration,
    /// How often a request is tried without progress before the fetch fails; at least 1.
    pub max_attempts: u32,
}

impl ClientConfig {
    /// The defaults with this User-Agent: 10 s to connect, 30 s of silence, 5 attempts.
    pub fn new(user_agent: impl Into<String>) -> Self {
        Self {
            user_agent: user_agent.into(),
            connect_timeout: Duration::from_secs(10),
            stall_timeout: Duration::from_secs(30),
            max_attempts: 5,
        }
    }
}

/// Connections to any number of registries, pooled. Safe to share between threads; one per daemon. Its threads start
/// with the first fetch.
#[derive(Debug)]
pub struct RegistryClient {
    session: Arc<Session>,
    runtime: Mutex<Option<Arc<Runtime>>>,
}

impl RegistryClient {
    /// A client that has no connections and no threads yet. Never blocks.
    #[must_use]
    pub fn new(config: ClientConfig) -> Self {
        Self { session: Arc::new(Session::new(config)), runtime: Mutex::new(None) }
    }

    fn runtime(&self) -> Result<Arc<Runtime>, RegistryError> {
        let mut slot = self.runtime.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(runtime) = &*slot {
            return Ok(Arc::clone(runtime));
        }
        let runtime = Builder::new_multi_thread()
            .worker_threads(WORKER_THREADS)
            .max_blocking_threads(LOOKUP_THREADS)
            .thread_name("fluyt-registry")
            .enable_io()
            .enable_time()
            .build()
            .map_err(|error| IoError::from_std("clone", "", &error))?;
        Ok(Arc::clone(slot.insert(Arc::new(runtime))))
    }

    /// A manifest or index by tag or digest: at most [`MANIFEST_MAX_BYTES`](crate::MANIFEST_MAX_BYTES), its bytes have
    /// the digest asked for, header and body agree on the media type, it is not image and index at once, and every
    /// digest and size in it is well formed.
    ///
    /// `registry` is `host[:port]` as in the reference. Blocking; ends within 100 ms once `cancel` is cancelled.
    ///
    /// # Errors
    /// `REFERENCE_INVALID`, `DIGEST_INVALID` before anything is sent; `IMAGE_NOT_FOUND`, `REGISTRY_ACCESS_DENIED`,
    /// `REGISTRY_UNREACHABLE`, `REGISTRY_PROTOCOL`, `REGISTRY_RATE_LIMITED`, `DIGEST_MISMATCH`, `MANIFEST_INVALID`,
    /// `LIMIT_EXCEEDED`, `CANCELLED`; `IO_FAILED` if no thread can be started.
    pub fn fetch_manifest(
        &self,
        registry: &str,
        repository: &str,
        reference: &str,
        cancel: &CancelToken,
    ) -> Result<Manifest, RegistryError> {
        let repository = Repository::parse(registry, repository)?;
        let reference = Reference::parse(reference)?;
        let runtime = self.runtime()?;
        let subject = repository.shown(&reference);
        runtime.block_on(unless_cancelled(
            manifest::fetch(&self.session, &repository, &reference),
            cancel,
            &subject,
        ))
    }

    /// A stream of the bytes of a blob from `offset_bytes` on, which reconnects and resumes by itself. Nothing is sent
    /// before this returns; never blocks.
    ///
    /// # Errors
    /// `REFERENCE_INVALID`, `DIGEST_INVALID`; `IO_FAILED` if no thread can be started.
    pub fn open_blob(
        &self,
        registry: &str,
        repository: &str,
        digest: &str,
        size_bytes: u64,
        offset_bytes: u64,
        cancel: &CancelToken,
    ) -> Result<BlobReader, RegistryError> {
        let repository = Repository::parse(registry, repository)?;
        let digest = parse_digest(digest)?;
        let session = Arc::clone(&self.session);
        Ok(BlobReader::start(self.runtime()?, session, repository, digest, size_bytes, offset_bytes, cancel))
    }
}

/// What `work` gives, or `CANCELLED` soon after the token is cancelled; the work is dropped then.
pub(crate) async fn unless_cancelled<T>(
    work: impl Future<Output = Result<T, RegistryError>>,
    cancel: &CancelToken,
    subject: &str,
) -> Result<T, RegistryError> {
    let mut work = std::pin::pin!(work);
    loop {
        if cancel.is_cancelled() {
            return Err(RegistryError::Cancelled { subject: subject.to_owned() });
        }
        if let Ok(outcome) = tokio::time::timeout(POLL_INTERVAL, work.as_mut()).await {
            return outcome;
        }
    }
}
