//! A registry that takes uploads, and in which a test may interfere.
#![allow(missing_docs, dead_code)]

use std::collections::HashMap;
use std::io::Write;
use std::sync::{Arc, Mutex};

use registry::{ClientConfig, FileBlob, Pushed, RegistryClient, RegistryError, UploadProgress};
use sys::cancel::CancelToken;

use crate::common::{client, config, digest, target, INDEX};
use crate::server::{Reply, Request, Server};

/// An upload registry: what it has of one upload and what it stored, with a place for a test to interfere.
#[derive(Default)]
pub struct Store {
    pub upload: Vec<u8>,
    pub step: usize,
    pub blobs: HashMap<String, Vec<u8>>,
    pub manifests: HashMap<String, Vec<u8>>,
}

pub type Shared = Arc<Mutex<Store>>;

/// `interfere` answers instead of the registry where it returns something.
pub fn registry_that(
    interfere: impl Fn(&Request, &mut Store, usize) -> Option<Reply> + Send + Sync + 'static,
) -> (Server, Shared) {
    let shared = Shared::default();
    let store = Arc::clone(&shared);
    let server = Server::start(move |request, earlier| {
        let mut store = store.lock().expect("the store");
        interfere(request, &mut store, earlier).unwrap_or_else(|| behave(request, &mut store))
    });
    (server, shared)
}

pub fn plain() -> (Server, Shared) {
    registry_that(|_, _, _| None)
}

/// Where the upload goes next: a new query each time, absolute and relative by turns (R09).
pub fn location(request: &Request, store: &mut Store) -> String {
    store.step += 1;
    let path = format!("/v2/a/b/blobs/uploads/1?_state={}%2B&x", store.step);
    let host = request.header("host").unwrap_or_default();
    if store.step.is_multiple_of(2) {
        format!("http://{host}{path}")
    } else {
        path
    }
}

pub fn status_of(request: &Request, store: &mut Store, status: u16) -> Reply {
    let last = store.upload.len().saturating_sub(1);
    let next = location(request, store);
    Reply::new(status, "").with("Location", next).with("Range", format!("0-{last}"))
}

pub fn behave(request: &Request, store: &mut Store) -> Reply {
    let (path, query) = request.target.split_once('?').unwrap_or((&request.target, ""));
    let name = path.rsplit('/').next().unwrap_or_default().to_owned();
    let is_current = query.starts_with(&format!("_state={}%2B&x", store.step));
    match (request.method.as_str(), path.contains("/uploads/")) {
        ("HEAD", _) => Reply::new(if store.blobs.contains_key(&name) { 200 } else { 404 }, ""),
        ("POST", _) => {
            store.upload.clear();
            status_of(request, store, 202)
        }
        ("GET", true) => status_of(request, store, 204),
        (_, true) if !is_current => Reply::new(400, "an old location"),
        ("PATCH", _) => {
            let start =
                request.header("content-range").and_then(|range| range.split_once('-')?.0.parse().ok());
            if start != Some(store.upload.len()) {
                return status_of(request, store, 416);
            }
            store.upload.extend_from_slice(&request.body);
            status_of(request, store, 202)
        }
        ("PUT", true) => {
            store.upload.extend_from_slice(&request.body);
            let named = query.split("digest=").nth(1).unwrap_or_default().to_owned();
            if named != digest(&store.upload) {
                return Reply::new(400, "DIGEST_INVALID");
            }
            let data = store.upload.clone();
            store.blobs.insert(named.clone(), data);
            Reply::new(201, "").with("Docker-Content-Digest", named)
        }
        ("PUT", false) => {
            store.manifests.insert(name, request.body.clone());
            Reply::new(201, "").with("Docker-Content-Digest", digest(&request.body))
        }
        ("GET", false) => match store.manifests.get(&name) {
            Some(data) => Reply::new(200, data.clone()).with("Content-Type", INDEX),
            None => Reply::new(404, ""),
        },
        _ => Reply::new(405, ""),
    }
}

pub fn push_with(
    client: &RegistryClient,
    server: &Server,
    data: &[u8],
    mount_from: Option<&str>,
    progress: &UploadProgress,
) -> Result<Pushed, RegistryError> {
    let mut file = tempfile::tempfile().expect("a file");
    file.write_all(data).expect("its bytes");
    let name = digest(data);
    let blob = FileBlob { digest: &name, file, size_bytes: data.len() as u64 };
    client.push_blob(target(&server.registry()), blob, mount_from, progress, &CancelToken::new())
}

pub fn push(server: &Server, data: &[u8]) -> Result<Pushed, RegistryError> {
    push_with(&client(), server, data, None, &UploadProgress::default())
}

pub fn chunked(bytes: u64) -> RegistryClient {
    RegistryClient::new(ClientConfig { upload_chunk_bytes: bytes, ..config() })
}

pub fn methods(server: &Server) -> Vec<String> {
    server.requests().into_iter().map(|request| request.method).collect()
}
