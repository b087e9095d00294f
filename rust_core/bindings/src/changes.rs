//! `_core.changes`: what a container's writable layer gives back.

use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use layer::diff::{ChangeKind, TarStream, WritableTree};
use layer::{LayerId, Limits};
use pyo3::prelude::*;
use pyo3::types::PyBytes;

use crate::cancel::CancelToken;
use crate::content::ContentStore;
use crate::error::raise;
use crate::ingest::{packing, stored_layer, stores, task, Progress, StoredLayer};
use crate::layer::{layer_ids, LayerStore};

/// What a call is about.
struct Source {
    upper: PathBuf,
    lowers: Vec<LayerId>,
    subject: String,
}

impl Source {
    fn new(upper_dir: &str, lower_layer_ids: &[String], subject: &str) -> PyResult<Self> {
        let (upper, lowers) = (PathBuf::from(upper_dir), layer_ids(lower_layer_ids)?);
        Ok(Self { upper, lowers, subject: subject.to_owned() })
    }

    fn open(&self, layers: &layer::LayerStore) -> Result<WritableTree, layer::LayerError> {
        let view = layers.lower_view(&self.lowers)?;
        WritableTree::open(&self.upper, view, &Limits::default(), &self.subject)
    }
}

/// See the stub.
#[pyclass(frozen, get_all, module = "fluytd._core.changes")]
pub(crate) struct Change {
    path: Py<PyBytes>,
    kind: &'static str,
}

/// See the stub.
#[pyclass(frozen, module = "fluytd._core.changes")]
pub(crate) struct TreeArchive {
    tar: SharedTar,
}

#[pymethods]
impl TreeArchive {
    #[new]
    fn new(
        py: Python<'_>,
        upper_dir: &str,
        lower_layer_ids: Vec<String>,
        subject: &str,
        layers: &LayerStore,
    ) -> PyResult<Self> {
        let source = Source::new(upper_dir, &lower_layer_ids, subject)?;
        let stream =
            py.detach(|| source.open(&layers.inner).map(WritableTree::into_whole_tar)).map_err(raise)?;
        Ok(Self { tar: SharedTar::new(stream) })
    }

    fn read<'py>(
        &self,
        py: Python<'py>,
        max_bytes: usize,
        cancel: &CancelToken,
    ) -> PyResult<Bound<'py, PyBytes>> {
        let data = py.detach(|| self.tar.read(max_bytes, cancel)).map_err(raise)?;
        Ok(PyBytes::new(py, &data))
    }

    fn close(&self, py: Python<'_>) {
        py.detach(|| self.tar.close());
    }

    #[getter]
    fn entry_count(&self) -> u64 {
        self.tar.entry_count()
    }
}

/// A tar being made, read by one thread at a time.
pub(crate) struct SharedTar {
    /// `None` once it is closed.
    stream: Mutex<Option<TarStream>>,
    entry_count: AtomicU64,
}

impl SharedTar {
    pub fn new(stream: TarStream) -> Self {
        Self { stream: Mutex::new(Some(stream)), entry_count: AtomicU64::new(0) }
    }

    /// The next bytes, fewer only at the end, none after it.
    pub fn read(&self, max_bytes: usize, cancel: &CancelToken) -> Result<Vec<u8>, layer::LayerError> {
        let mut stream = self.stream.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(stream) = stream.as_mut() else { return Ok(Vec::new()) };
        let (mut data, mut filled) = (vec![0; max_bytes], 0);
        while filled < data.len() {
            match stream.read(&mut data[filled..], &|| cancel.inner.is_cancelled())? {
                0 => break,
                count => filled += count,
            }
        }
        data.truncate(filled);
        self.entry_count.store(stream.facts().entry_count, Ordering::Relaxed);
        Ok(data)
    }

    pub fn close(&self) {
        *self.stream.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }

    pub fn entry_count(&self) -> u64 {
        self.entry_count.load(Ordering::Relaxed)
    }
}

#[pyfunction]
fn list_changes(
    py: Python<'_>,
    upper_dir: &str,
    lower_layer_ids: Vec<String>,
    mount_points: Vec<String>,
    subject: &str,
    layers: &LayerStore,
    cancel: &CancelToken,
) -> PyResult<Vec<Change>> {
    let source = Source::new(upper_dir, &lower_layer_ids, subject)?;
    let found = py
        .detach(|| {
            let is_cancelled = || cancel.inner.is_cancelled();
            source.open(&layers.inner)?.changes(&bytes_of(mount_points), &is_cancelled)
        })
        .map_err(raise)?;
    let convert = |change: layer::diff::Change| Change {
        path: PyBytes::new(py, &change.path).unbind(),
        kind: match change.kind {
            ChangeKind::Added => "added",
            ChangeKind::Modified => "modified",
            ChangeKind::Deleted => "deleted",
        },
    };
    Ok(found.into_iter().map(convert).collect())
}

#[pyfunction]
#[expect(clippy::too_many_arguments, reason = "the stub names each; Python passes them one by one")]
#[pyo3(signature = (upper_dir, lower_layer_ids, mount_points, subject, content, layers, progress, cancel, compression="gzip"))]
fn store_changes(
    py: Python<'_>,
    upper_dir: &str,
    lower_layer_ids: Vec<String>,
    mount_points: Vec<String>,
    subject: &str,
    content: &ContentStore,
    layers: &LayerStore,
    progress: &Progress,
    cancel: &CancelToken,
    compression: &str,
) -> PyResult<StoredLayer> {
    let packing = packing(compression, None)?;
    let source = Source::new(upper_dir, &lower_layer_ids, subject)?;
    let stored = py
        .detach(|| {
            let tar = source.open(&layers.inner)?.into_layer_tar(&bytes_of(mount_points))?;
            ingest::store_changes(tar, packing, stores(content, layers), task(progress, cancel))
        })
        .map_err(raise)?;
    stored_layer(py, stored)
}

#[pyfunction]
#[expect(clippy::too_many_arguments, reason = "the stub names each; Python passes them one by one")]
fn compress_changes(
    py: Python<'_>,
    upper_dir: &str,
    lower_layer_ids: Vec<String>,
    subject: &str,
    compression: &str,
    digest: &str,
    size_bytes: u64,
    content: &ContentStore,
    layers: &LayerStore,
    cancel: &CancelToken,
) -> PyResult<()> {
    let packing = packing(compression, None)?;
    let source = Source::new(upper_dir, &lower_layer_ids, subject)?;
    let digest = digest.parse().map_err(raise)?;
    py.detach(|| {
        let mut tar = source.open(&layers.inner)?.into_layer_tar(&[])?;
        ingest::compress_archive(&mut tar, packing, &digest, size_bytes, &content.inner, &cancel.inner)
    })
    .map_err(raise)
}

fn bytes_of(paths: Vec<String>) -> Vec<Vec<u8>> {
    paths.into_iter().map(String::into_bytes).collect()
}

pub(crate) fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_class::<Change>()?;
    module.add_class::<TreeArchive>()?;
    module.add_function(wrap_pyfunction!(list_changes, module)?)?;
    module.add_function(wrap_pyfunction!(compress_changes, module)?)?;
    module.add_function(wrap_pyfunction!(store_changes, module)?)
}
