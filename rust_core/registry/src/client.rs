//! The client: its threads, and blocking calls that end soon once cancelled.

use std::future::Future;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use sys::cancel::{CancelToken, POLL_INTERVAL};
use tokio::runtime::Runtime;

use crate::blob::Route;
use crate::manifest::{self, Manifest};
use crate::origin::{BlobSource, External, Origin};
use crate::runtimes::Runtimes;
use crate::session::Session;
use crate::target::{parse_digest, scope, show_reference, Reference};
use crate::{BlobReader, Credentials, RegistryError};

/// How a client behaves.
#[derive(Debug, Clone)]
pub struct ClientConfig {
    /// The User-Agent of each request.
    pub user_agent: String,
    /// How long a connection, with TLS, may take to stand.
    pub connect_timeout: Duration,
    /// How long the head of an answer may take once the connection stands and the request has left.
    pub header_timeout: Duration,
    /// How long a transfer may go without a byte before it is broken off, to be resumed or failed.
    pub stall_timeout: Duration,
    /// How often a request is tried without progress before the fetch fails; at least 1.
    pub max_attempts: u32,
    /// A transfer must bring `pace_min_bytes` in each such span of waiting, or it is broken off as one that stalls.
    pub pace_window: Duration,
    /// See `pace_window`.
    pub pace_min_bytes: u64,
    /// Largest part of a blob that one request of a push carries; 0 for whole blobs.
    pub upload_chunk_bytes: u64,
    /// The directory of registries' settings in containerd's form; none for no settings.
    pub hosts_dir: Option<PathBuf>,
    /// A file in the form of Docker's config.json whose `auths` serve where a caller gives no credentials.
    pub auth_file: Option<PathBuf>,
    /// Which proxies stand before hosts that are not this one.
    pub proxies: Proxies,
}

/// Proxies by the scheme of the URL that is asked; each is a URL, empty for none.
#[derive(Clone, Default)]
pub struct Proxies {
    /// For plain HTTP.
    pub http: String,
    /// For HTTPS.
    pub https: String,
    /// Hosts that are asked without a proxy, in the form of NO_PROXY. This host never has one before it.
    pub excepted: String,
}

impl std::fmt::Debug for Proxies {
    /// The URLs may hold passwords and are not shown.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { http, https, excepted } = self;
        f.debug_struct("Proxies")
            .field("http", &!http.is_empty())
            .field("https", &!https.is_empty())
            .field("excepted", excepted)
            .finish()
    }
}

impl ClientConfig {
    /// The defaults with this User-Agent: 10 s to connect, 30 s for an answer's head, 30 s of silence, 5 attempts, 64 KiB in 30 s; no settings of
    /// registries, no credentials, no proxies.
    pub fn new(user_agent: impl Into<String>) -> Self {
        Self {
            user_agent: user_agent.into(),
            connect_timeout: Duration::from_secs(10),
            header_timeout: Duration::from_secs(30),
            stall_timeout: Duration::from_secs(30),
            max_attempts: 5,
            pace_window: Duration::from_secs(30),
            pace_min_bytes: 64 * 1024,
            upload_chunk_bytes: 0,
            hosts_dir: None,
            auth_file: None,
            proxies: Proxies::default(),
        }
    }
}

/// A repository and who asks for it.
#[derive(Debug, Clone, Copy)]
pub struct Target<'a> {
    /// `host[:port]` as in the reference.
    pub registry: &'a str,
    /// The repository.
    pub repository: &'a str,
    /// For the registry itself; mirrors never see them.
    pub credentials: &'a Credentials,
}

/// Connections to any number of registries, pooled. Safe to share between threads; one per daemon. The thread of a
/// registry starts with the first fetch there.
#[derive(Debug)]
pub struct RegistryClient {
    pub(crate) session: Arc<Session>,
    runtimes: Runtimes,
}

impl RegistryClient {
    /// A client that has no connections and no threads yet. Never blocks.
    #[must_use]
    pub fn new(config: ClientConfig) -> Self {
        Self { session: Arc::new(Session::new(config)), runtimes: Runtimes::default() }
    }

    pub(crate) fn runtime(&self, registry: &str) -> Result<Arc<Runtime>, RegistryError> {
        self.runtimes.get(registry)
    }

    /// A manifest or index by tag or digest: at most [`MANIFEST_MAX_BYTES`](crate::MANIFEST_MAX_BYTES), its bytes have
    /// the digest asked for, header and body agree on the media type, it is not image and index at once, and every
    /// digest and size in it is well formed.
    ///
    /// Hosts are tried in the order of the registry's settings, read again where they changed. Blocking; ends within 100 ms once `cancel` is cancelled.
    ///
    /// # Errors
    /// `REFERENCE_INVALID`, `DIGEST_INVALID` before anything is sent; `IMAGE_NOT_FOUND`, `REGISTRY_ACCESS_DENIED`,
    /// `REGISTRY_UNREACHABLE`, `REGISTRY_PROTOCOL`, `REGISTRY_RATE_LIMITED`, `DIGEST_MISMATCH`, `MANIFEST_INVALID`,
    /// `LIMIT_EXCEEDED`, `CANCELLED`, `REGISTRY_CONFIG_INVALID`; `IO_FAILED` if no thread can be started.
    pub fn fetch_manifest(
        &self,
        target: Target<'_>,
        reference: &str,
        cancel: &CancelToken,
    ) -> Result<Manifest, RegistryError> {
        let Target { registry, repository, credentials } = target;
        let reference = Reference::parse(reference)?;
        let scopes = [scope(repository, "pull")];
        let places =
            self.session.places(registry, repository, credentials, &scopes, |may| match reference {
                Reference::Tag(_) => may.resolve,
                Reference::Digest(_) => may.pull,
            })?;
        let subject = show_reference(registry, repository, &reference);
        self.runtime(registry)?.block_on(unless_cancelled(
            manifest::fetch(&self.session, &places, &reference),
            cancel,
            &subject,
        ))
    }

    /// How many places may be asked for the blob, one after the other: its URLs, mirrors, the registry itself. Blocks where
    /// settings changed and are read.
    ///
    /// # Errors
    /// `REFERENCE_INVALID`, `REGISTRY_CONFIG_INVALID`, `LIMIT_EXCEEDED`, `IO_FAILED`.
    pub fn origin_count(&self, source: &BlobSource<'_>) -> Result<usize, RegistryError> {
        Ok(self.origins(source)?.len())
    }

    fn origins(&self, source: &BlobSource<'_>) -> Result<Vec<Origin>, RegistryError> {
        let Target { registry, repository, credentials } = source.target;
        let scopes = [scope(repository, "pull")];
        let places = self.session.places(registry, repository, credentials, &scopes, |may| may.pull)?;
        let mut origins = Vec::new();
        // The last one is the registry itself, which gave the manifest.
        if let Some(own) = places.last() {
            origins.extend(source.urls.iter().map(|url| Origin::External(External::new(url, own))));
        }
        origins.extend(places.into_iter().map(Origin::Repository));
        Ok(origins)
    }

    /// A stream of the bytes of a blob from `offset_bytes` on, which reconnects, resumes and goes on at the next place by
    /// itself; the first `skipped` places are not asked, but the last one always is. Nothing is sent before this returns;
    /// it blocks only where settings changed and are read.
    ///
    /// # Errors
    /// `REFERENCE_INVALID`, `DIGEST_INVALID`, `REGISTRY_CONFIG_INVALID`; `IO_FAILED` if no thread can be started.
    pub fn open_blob(
        &self,
        source: &BlobSource<'_>,
        offset_bytes: u64,
        skipped: usize,
        cancel: &CancelToken,
    ) -> Result<BlobReader, RegistryError> {
        let digest = parse_digest(source.digest)?;
        let session = Arc::clone(&self.session);
        let mut origins = self.origins(source)?;
        let skipped = skipped.min(origins.len() - 1);
        origins.drain(..skipped);
        let route = Route { session, origins, skipped };
        let runtime = self.runtime(source.target.registry)?;
        Ok(BlobReader::start(runtime, route, digest, source.size_bytes, offset_bytes, cancel))
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
