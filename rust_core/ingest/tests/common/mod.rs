//! What the tests of fetching and of local layers share.
#![allow(missing_docs, dead_code)]

use std::io::Write;
use std::path::PathBuf;
use std::sync::LazyLock;
use std::time::Duration;

use content::{Algorithm, ContentStore, Digest};
use errors::Catalogued;
use ingest::{IngestError, Progress, RemoteBlob, Stores, Task};
use layer::{LayerInfo, LayerStore};
use registry::{BlobSource, ClientConfig, Credentials, RegistryClient, Target};
use sys::cancel::CancelToken;

pub fn digest(data: &[u8]) -> String {
    Digest::of(Algorithm::Sha256, data).to_string()
}

pub fn hex(data: &[u8]) -> String {
    digest(data).replace("sha256:", "")
}

/// Bytes that do not compress.
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

/// A tar of regular files, with its end marker.
pub fn tar_of(files: &[(&str, &[u8])]) -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    for (name, data) in files {
        let mut header = tar::Header::new_gnu();
        header.set_size(data.len() as u64);
        header.set_mode(0o644);
        builder.append_data(&mut header, name, *data).expect("an entry");
    }
    builder.into_inner().expect("a tar")
}

pub fn gzip(data: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(data).expect("compressed");
    encoder.finish().expect("compressed")
}

/// A layer with a megabyte that does not compress: its tar and its blob.
pub fn big_layer() -> (Vec<u8>, Vec<u8>) {
    let tar = tar_of(&[("a/big", &noise(1_000_000)), ("a/small", b"small")]);
    let blob = gzip(&tar);
    (tar, blob)
}

/// Stores in a directory of their own.
pub struct Place {
    pub root: tempfile::TempDir,
    pub content: ContentStore,
    pub layers: LayerStore,
    pub client: RegistryClient,
    pub progress: Progress,
    pub cancel: CancelToken,
}

impl Place {
    pub fn new() -> Self {
        let root = tempfile::tempdir().expect("a directory");
        let config = ClientConfig {
            connect_timeout: Duration::from_secs(5),
            header_timeout: Duration::from_millis(500),
            stall_timeout: Duration::from_millis(500),
            max_attempts: 3,
            ..ClientConfig::new("fluyt-test")
        };
        Self {
            content: ContentStore::open(root.path()).expect("a content store"),
            layers: LayerStore::open(root.path(), "directory").expect("a layer store"),
            client: RegistryClient::new(config),
            progress: Progress::new(),
            cancel: CancelToken::new(),
            root,
        }
    }

    pub fn stores(&self) -> Stores<'_> {
        Stores { content: &self.content, layers: &self.layers }
    }

    pub fn task(&self) -> Task<'_> {
        Task { progress: &self.progress, cancel: &self.cancel }
    }

    /// The client asks `mirror` before `registry`.
    pub fn mirror(&mut self, registry: &str, mirror: &str) {
        let directory = self.root.path().join("certs.d").join(registry);
        std::fs::create_dir_all(&directory).expect("a directory");
        std::fs::write(directory.join("hosts.toml"), format!("[host.\"http://{mirror}\"]\n"))
            .expect("a file");
        let hosts_dir = Some(self.root.path().join("certs.d"));
        self.client = RegistryClient::new(ClientConfig { hosts_dir, ..ClientConfig::new("fluyt-test") });
    }

    pub fn blob<'a>(&'a self, registry: &'a str, digest: &'a str, size: usize) -> RemoteBlob<'a> {
        static NOBODY: LazyLock<Credentials> = LazyLock::new(Credentials::anonymous);
        let target = Target { registry, repository: "a/b", credentials: &NOBODY };
        let source = BlobSource { target, digest, size_bytes: size as u64, urls: &[] };
        RemoteBlob { client: &self.client, source }
    }

    pub fn fetch(&self, registry: &str, blob: &[u8], diff_id: &str) -> Result<LayerInfo, IngestError> {
        let digest = digest(blob);
        let remote = self.blob(registry, &digest, blob.len());
        ingest::fetch_layer(&remote, "", diff_id, self.stores(), self.task())
    }

    /// What lies in `ingest/<hex>/data`, or -1.
    pub fn partial(&self, blob: &[u8]) -> i64 {
        let path = self.root.path().join("ingest").join(hex(blob)).join("data");
        path.metadata().map_or(-1, |metadata| metadata.len() as i64)
    }

    /// True if neither a layer nor a part of one lies in the store.
    pub fn has_no_layer(&self) -> bool {
        std::fs::read_dir(self.root.path().join("layers")).expect("layers").count() == 0
    }

    pub fn publish(&self, blob: &[u8], layer: &LayerInfo) {
        self.content.publish(&[Digest::parse(&digest(blob)).expect("a digest")]).expect("a blob");
        self.layers.publish(std::slice::from_ref(&layer.layer_id)).expect("a layer");
    }

    /// A file of a visible layer.
    pub fn layer_file(&self, layer: &LayerInfo, name: &str) -> PathBuf {
        self.layers.lower_path(&layer.layer_id).expect("a visible layer").join(name)
    }
}

pub fn reason<T: std::fmt::Debug>(outcome: Result<T, IngestError>) -> &'static str {
    outcome.expect_err("a failure").reason()
}
