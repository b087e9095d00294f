//! `_core.ingest`: one pass from a source to the stores.

use std::os::fd::{BorrowedFd, IntoRawFd};
use std::sync::Arc;

use ingest::{FileRange, Packing, RemoteBlob, Stores, Task};
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use registry::BlobSource;

use crate::cancel::CancelToken;
use crate::content::ContentStore;
use crate::error::raise;
use crate::layer::{LayerInfo, LayerStore};
use crate::registry::{target, Credentials, RegistryClient};

/// See the stub.
#[pyclass(frozen, module = "fluytd._core.ingest")]
pub(crate) struct Progress {
    inner: Arc<ingest::Progress>,
}

#[pymethods]
impl Progress {
    #[new]
    fn new() -> Self {
        Self { inner: Arc::new(ingest::Progress::new()) }
    }

    #[getter]
    fn phase(&self) -> &'static str {
        self.inner.phase().name()
    }

    #[getter]
    fn fetched_bytes(&self) -> u64 {
        self.inner.fetched_bytes()
    }

    #[getter]
    fn fetch_requests(&self) -> u64 {
        self.inner.fetch_requests()
    }

    #[getter]
    fn extracted_bytes(&self) -> u64 {
        self.inner.extracted_bytes()
    }
}

/// See the stub.
#[pyclass(frozen, module = "fluytd._core.ingest")]
pub(crate) struct StoredLayer {
    #[pyo3(get)]
    digest: String,
    #[pyo3(get)]
    size_bytes: u64,
    #[pyo3(get)]
    diff_id: String,
    #[pyo3(get)]
    media_type: String,
    #[pyo3(get)]
    layer: Py<LayerInfo>,
}

/// See the stub.
#[pyclass(frozen, get_all, module = "fluytd._core.ingest")]
pub(crate) struct ArchiveEntry {
    name: String,
    kind: &'static str,
    size_bytes: u64,
    offset_bytes: u64,
    link_name: String,
}

pub(crate) fn stores<'a>(content: &'a ContentStore, layers: &'a LayerStore) -> Stores<'a> {
    Stores { content: &content.inner, layers: &layers.inner }
}

/// Raises `ValueError` for a name or level that the server should not have let through.
pub(crate) fn packing(compression: &str, level: Option<i32>) -> PyResult<Packing> {
    Packing::new(compression, level)
        .ok_or_else(|| PyValueError::new_err(format!("no compression: {compression} at {level:?}")))
}

pub(crate) fn task<'a>(progress: &'a Progress, cancel: &'a CancelToken) -> Task<'a> {
    Task { progress: &progress.inner, cancel: &cancel.inner }
}

/// The caller's descriptor for the length of a call.
fn borrow<'fd>(fd: i32) -> PyResult<BorrowedFd<'fd>> {
    sys::borrow::borrow(fd)
        .ok_or_else(|| PyValueError::new_err(format!("{fd} is not an open file descriptor")))
}

#[pyfunction]
#[expect(clippy::too_many_arguments, reason = "the stub names each; Python passes them one by one")]
#[pyo3(signature = (client, registry, repository, digest, size_bytes, content, progress, cancel, credentials=None, urls=Vec::new()))]
fn fetch_blob(
    py: Python<'_>,
    client: &RegistryClient,
    registry: &str,
    repository: &str,
    digest: &str,
    size_bytes: u64,
    content: &ContentStore,
    progress: &Progress,
    cancel: &CancelToken,
    credentials: Option<&Credentials>,
    urls: Vec<String>,
) -> PyResult<()> {
    let target = target(registry, repository, credentials);
    let source = BlobSource { target, digest, size_bytes, urls: &urls };
    let blob = RemoteBlob { client: &client.inner, source };
    py.detach(|| ingest::fetch_blob(&blob, &content.inner, task(progress, cancel))).map_err(raise)
}

#[pyfunction]
#[expect(clippy::too_many_arguments, reason = "the stub names each; Python passes them one by one")]
#[pyo3(signature = (client, registry, repository, digest, size_bytes, urls, media_type, expected_diff_id, content, layers, progress, cancel, credentials=None))]
fn fetch_layer(
    py: Python<'_>,
    client: &RegistryClient,
    registry: &str,
    repository: &str,
    digest: &str,
    size_bytes: u64,
    urls: Vec<String>,
    media_type: &str,
    expected_diff_id: &str,
    content: &ContentStore,
    layers: &LayerStore,
    progress: &Progress,
    cancel: &CancelToken,
    credentials: Option<&Credentials>,
) -> PyResult<LayerInfo> {
    let target = target(registry, repository, credentials);
    let source = BlobSource { target, digest, size_bytes, urls: &urls };
    let blob = RemoteBlob { client: &client.inner, source };
    py.detach(|| {
        ingest::fetch_layer(
            &blob,
            media_type,
            expected_diff_id,
            stores(content, layers),
            task(progress, cancel),
        )
    })
    .map(LayerInfo::from)
    .map_err(raise)
}

#[pyfunction]
fn extract_layer(
    py: Python<'_>,
    digest: &str,
    expected_diff_id: &str,
    content: &ContentStore,
    layers: &LayerStore,
    progress: &Progress,
    cancel: &CancelToken,
) -> PyResult<LayerInfo> {
    py.detach(|| {
        ingest::extract_layer(digest, expected_diff_id, stores(content, layers), task(progress, cancel))
    })
    .map(LayerInfo::from)
    .map_err(raise)
}

#[pyfunction]
#[expect(clippy::too_many_arguments, reason = "the stub names each; Python passes them one by one")]
#[pyo3(signature = (fd, offset_bytes, size_bytes, expected_digest, expected_diff_id, content, layers, progress, cancel))]
fn store_layer(
    py: Python<'_>,
    fd: i32,
    offset_bytes: u64,
    size_bytes: u64,
    expected_digest: Option<&str>,
    expected_diff_id: Option<&str>,
    content: &ContentStore,
    layers: &LayerStore,
    progress: &Progress,
    cancel: &CancelToken,
) -> PyResult<StoredLayer> {
    let range = FileRange { fd: borrow(fd)?, offset_bytes, size_bytes };
    let stored = py
        .detach(|| {
            let stores = stores(content, layers);
            ingest::store_layer(&range, expected_digest, expected_diff_id, stores, task(progress, cancel))
        })
        .map_err(raise)?;
    stored_layer(py, stored)
}

/// A stored layer as Python sees it.
pub(crate) fn stored_layer(py: Python<'_>, stored: ingest::StoredLayer) -> PyResult<StoredLayer> {
    Ok(StoredLayer {
        digest: stored.digest.to_string(),
        size_bytes: stored.size_bytes,
        diff_id: stored.diff_id.to_string(),
        media_type: stored.media_type.to_owned(),
        layer: Py::new(py, LayerInfo::from(stored.layer))?,
    })
}

#[pyfunction]
#[expect(clippy::too_many_arguments, reason = "the stub names each; Python passes them one by one")]
fn finish_layer(
    py: Python<'_>,
    digest: &str,
    diff_id: &str,
    chain_id: &str,
    lower_layer_ids: Vec<String>,
    content: &ContentStore,
    layers: &LayerStore,
    cancel: &CancelToken,
) -> PyResult<LayerInfo> {
    py.detach(|| {
        let stores = stores(content, layers);
        ingest::finish_layer(digest, diff_id, chain_id, &lower_layer_ids, stores, &cancel.inner)
    })
    .map(LayerInfo::from)
    .map_err(raise)
}

#[pyfunction]
fn decompress_archive(
    py: Python<'_>,
    fd: i32,
    max_size_bytes: u64,
    cancel: &CancelToken,
) -> PyResult<Option<i32>> {
    let fd = borrow(fd)?;
    let opened =
        py.detach(|| ingest::decompress_archive(fd, max_size_bytes, &cancel.inner)).map_err(raise)?;
    // From here on the fd is the caller's to close.
    Ok(opened.map(IntoRawFd::into_raw_fd))
}

#[pyfunction]
fn compress_archive(
    py: Python<'_>,
    fd: i32,
    compression: &str,
    digest: &str,
    size_bytes: u64,
    content: &ContentStore,
    cancel: &CancelToken,
) -> PyResult<()> {
    let (fd, digest) = (borrow(fd)?, digest.parse().map_err(raise)?);
    let packing = packing(compression, None)?;
    py.detach(|| {
        let mut archive = ingest::ArchiveFile::new(fd);
        ingest::compress_archive(&mut archive, packing, &digest, size_bytes, &content.inner, &cancel.inner)
    })
    .map_err(raise)
}

#[pyfunction]
#[expect(clippy::too_many_arguments, reason = "the stub names each; Python passes them one by one")]
fn repack(
    py: Python<'_>,
    digest: &str,
    diff_id: &str,
    compression: &str,
    level: Option<i32>,
    times_until_seconds: Option<i64>,
    content: &ContentStore,
    layers: &LayerStore,
    progress: &Progress,
    cancel: &CancelToken,
) -> PyResult<StoredLayer> {
    let packing = packing(compression, level)?;
    let (stores, task) = (stores(content, layers), task(progress, cancel));
    let stored = py
        .detach(|| ingest::repack(digest, diff_id, packing, times_until_seconds, stores, task))
        .map_err(raise)?;
    stored_layer(py, stored)
}

#[pyfunction]
fn list_archive(py: Python<'_>, fd: i32, max_entries: u64) -> PyResult<Vec<ArchiveEntry>> {
    let fd = borrow(fd)?;
    let entries = py.detach(|| ingest::list_archive(fd, max_entries)).map_err(raise)?;
    Ok(entries
        .into_iter()
        .map(|entry| ArchiveEntry {
            name: entry.name,
            kind: entry.kind.name(),
            size_bytes: entry.size_bytes,
            offset_bytes: entry.offset_bytes,
            link_name: entry.link_name,
        })
        .collect())
}

pub(crate) fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_class::<Progress>()?;
    module.add_class::<StoredLayer>()?;
    module.add_class::<ArchiveEntry>()?;
    module.add_function(wrap_pyfunction!(fetch_blob, module)?)?;
    module.add_function(wrap_pyfunction!(fetch_layer, module)?)?;
    module.add_function(wrap_pyfunction!(extract_layer, module)?)?;
    module.add_function(wrap_pyfunction!(store_layer, module)?)?;
    module.add_function(wrap_pyfunction!(finish_layer, module)?)?;
    module.add_function(wrap_pyfunction!(decompress_archive, module)?)?;
    module.add_function(wrap_pyfunction!(compress_archive, module)?)?;
    module.add_function(wrap_pyfunction!(repack, module)?)?;
    module.add_function(wrap_pyfunction!(list_archive, module)?)
}
