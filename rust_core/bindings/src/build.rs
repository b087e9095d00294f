//! `_core.build`: contexts, trees of files, and layers that are written straight from them.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use build::{MemoryEntry, MemoryKind, ModeChange};
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::PyBytes;

use crate::cancel::CancelToken;
use crate::content::ContentStore;
use crate::error::raise;
use crate::ignore::Matcher;
use crate::ingest::{packing, stored_layer, stores, task, Progress, StoredLayer};
use crate::layer::{layer_ids, LayerStore};
use crate::selection::{Digests, Selection, Wish};

const DIGEST_BYTES: usize = 32;

/// See the stub.
#[pyclass(frozen, module = "fluytd._core.build")]
pub(crate) struct ChunkStore {
    inner: build::ChunkStore,
}

#[pymethods]
impl ChunkStore {
    #[new]
    fn new(py: Python<'_>, directory: &str, max_bytes: u64) -> PyResult<Self> {
        let inner = py.detach(|| build::ChunkStore::open(Path::new(directory), max_bytes)).map_err(raise)?;
        Ok(Self { inner })
    }

    fn missing<'py>(&self, py: Python<'py>, digests: &[u8]) -> PyResult<Bound<'py, PyBytes>> {
        let digests = split(digests)?;
        let missing = py.detach(|| self.inner.missing(&digests));
        Ok(PyBytes::new(py, &missing.concat()))
    }

    fn put(&self, py: Python<'_>, chunks: Vec<Vec<u8>>) -> PyResult<()> {
        py.detach(|| chunks.iter().try_for_each(|chunk| self.inner.put(chunk).map(|_| ()))).map_err(raise)
    }

    fn expire(&self, py: Python<'_>, max_age_seconds: f64) -> PyResult<u64> {
        py.detach(|| self.inner.expire(Duration::from_secs_f64(max_age_seconds))).map_err(raise)
    }

    #[getter]
    fn size_bytes(&self) -> u64 {
        self.inner.usage().size_bytes
    }

    #[getter]
    fn chunk_count(&self) -> u64 {
        self.inner.usage().chunk_count
    }
}

fn split(digests: &[u8]) -> PyResult<Vec<build::ChunkDigest>> {
    let (whole, rest) = digests.as_chunks::<DIGEST_BYTES>();
    if !rest.is_empty() {
        return Err(PyValueError::new_err("digests have 32 bytes each"));
    }
    Ok(whole.to_vec())
}

/// See the stub.
#[pyclass(frozen, module = "fluytd._core.build")]
pub(crate) struct ContextEntries {
    inner: Mutex<build::MemoryTree>,
}

impl ContextEntries {
    fn lock(&self) -> MutexGuard<'_, build::MemoryTree> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[pymethods]
impl ContextEntries {
    #[new]
    fn new() -> Self {
        Self { inner: Mutex::new(build::MemoryTree::new("the build context")) }
    }

    #[staticmethod]
    fn load(py: Python<'_>, path: &str) -> PyResult<Option<Self>> {
        let load = || build::MemoryTree::load("the build context", Path::new(path));
        Ok(py.detach(load).map_err(raise)?.map(|tree| Self { inner: Mutex::new(tree) }))
    }

    #[expect(clippy::too_many_arguments, reason = "the stub names each; Python passes them one by one")]
    fn add(
        &self,
        path: &[u8],
        kind: &str,
        mode: u32,
        uid: u32,
        gid: u32,
        mtime: (i64, u32),
        link_target: &[u8],
        chunk_digests: &[u8],
        size_bytes: u64,
    ) -> PyResult<()> {
        let kind = match kind {
            "file" => MemoryKind::File { size_bytes, chunks: split(chunk_digests)? },
            "directory" => MemoryKind::Directory,
            "symlink" => MemoryKind::Symlink(link_target.to_vec()),
            _ => return Err(PyValueError::new_err("the kind is file, directory or symlink")),
        };
        let entry = MemoryEntry { path: path.to_vec(), kind, mode, uid, gid, mtime };
        self.lock().add(entry).map_err(raise)
    }

    fn chunk_digests<'py>(&self, py: Python<'py>) -> Bound<'py, PyBytes> {
        let digests = py.detach(|| self.lock().chunk_digests());
        PyBytes::new(py, &digests.concat())
    }

    fn close(&self, py: Python<'_>) -> PyResult<()> {
        py.detach(|| self.lock().close()).map_err(raise)
    }

    fn save(&self, py: Python<'_>, path: &str) -> PyResult<()> {
        py.detach(|| self.lock().save(Path::new(path))).map_err(raise)
    }

    fn open(&self, py: Python<'_>, context_id: &str, chunks: &ChunkStore) -> PyResult<FileTree> {
        let open = || {
            // Not a copy: a context of tens of thousands of files takes a while to copy, and to let go.
            let mut tree = std::mem::replace(&mut *self.lock(), build::MemoryTree::new("an opened context"));
            tree.close()?;
            tree.resolve(context_id, &chunks.inner)?;
            Ok::<_, build::BuildError>(tree)
        };
        let tree = Arc::new(py.detach(open).map_err(raise)?);
        let context = Some(Context { tree: Arc::clone(&tree), digests: Arc::default() });
        Ok(FileTree { inner: tree, ignored: None, context })
    }

    #[getter]
    fn entry_count(&self) -> usize {
        self.lock().len()
    }

    #[getter]
    fn size_bytes(&self) -> u64 {
        self.lock().file_bytes()
    }
}

/// See the stub.
#[pyclass(frozen, module = "fluytd._core.build")]
pub(crate) struct FileTree {
    inner: Arc<dyn build::Tree>,
    /// What of it is never selected.
    ignored: Option<Arc<::ignore::Matcher>>,
    /// Where it is an uploaded context.
    context: Option<Context>,
}

/// An uploaded context, and digests of what was selected in it: it never changes, so neither do they.
struct Context {
    tree: Arc<build::MemoryTree>,
    digests: Arc<Digests>,
}

impl FileTree {
    fn of(inner: Arc<dyn build::Tree>) -> Self {
        Self { inner, ignored: None, context: None }
    }
}

#[pymethods]
impl FileTree {
    #[staticmethod]
    fn of_layers(
        py: Python<'_>,
        layer_ids: Vec<String>,
        layers: &LayerStore,
        empty_dir: &str,
        name: &str,
    ) -> PyResult<Self> {
        let ids = self::layer_ids(&layer_ids)?;
        let open = || {
            // Two directories at least make an overlay; what is empty adds nothing below the others.
            let mut lowers: Vec<PathBuf> = Vec::with_capacity(ids.len() + 1);
            for id in ids.iter().rev() {
                let path = layers.inner.lower_path(id)?;
                if !lowers.contains(&path) {
                    lowers.push(path);
                }
            }
            if lowers.is_empty() {
                return Ok::<Arc<dyn build::Tree>, build::BuildError>(Arc::new(build::MemoryTree::new(name)));
            }
            lowers.push(PathBuf::from(empty_dir));
            Ok(Arc::new(build::MountedTree::new(&lowers, name)?))
        };
        Ok(Self::of(py.detach(open).map_err(raise)?))
    }

    #[staticmethod]
    fn of_directory(py: Python<'_>, path: &str, name: &str, below: &[u8]) -> PyResult<Self> {
        let open = || build::MountedTree::of_directory(Path::new(path), below, name);
        let tree = py.detach(open).map_err(raise)?;
        Ok(Self::of(Arc::new(tree)))
    }

    fn ignoring(&self, matcher: &Matcher) -> Self {
        // What is remembered of selections is of those from which nothing is left out.
        Self { inner: Arc::clone(&self.inner), ignored: Some(Arc::clone(&matcher.inner)), context: None }
    }

    fn missing_chunks<'py>(&self, py: Python<'py>, chunks: &ChunkStore) -> Bound<'py, PyBytes> {
        let missing = || match &self.context {
            Some(context) => chunks.inner.missing(&context.tree.chunk_digests()),
            None => Vec::new(),
        };
        PyBytes::new(py, &py.detach(missing).concat())
    }

    #[getter]
    fn index_bytes(&self) -> u64 {
        self.context.as_ref().map_or(0, |context| context.tree.index_bytes())
    }

    #[staticmethod]
    fn of_files(files: Vec<(Vec<u8>, Vec<u8>, u32)>, name: &str) -> PyResult<Self> {
        let mut tree = build::MemoryTree::new(name);
        for (path, data, mode) in files {
            tree.add_bytes(&path, mode, Arc::from(data)).map_err(raise)?;
        }
        tree.close().map_err(raise)?;
        Ok(Self::of(Arc::new(tree)))
    }

    fn read_file<'py>(
        &self,
        py: Python<'py>,
        path: &[u8],
        max_bytes: u64,
        limit: &str,
    ) -> PyResult<Option<Bound<'py, PyBytes>>> {
        let limit = LIMITS.iter().find(|name| **name == limit).copied().unwrap_or("max_bytes");
        let found =
            py.detach(|| build::read_file(self.inner.as_ref(), path, max_bytes, limit)).map_err(raise)?;
        Ok(found.map(|data| PyBytes::new(py, &data)))
    }

    fn owner_of(&self, py: Python<'_>, text: &str) -> PyResult<(u32, u32)> {
        py.detach(|| build::owner_of(self.inner.as_ref(), text)).map_err(raise)
    }

    #[pyo3(signature = (pattern, is_required, parents_pattern, excluded, cancel))]
    fn select(
        &self,
        py: Python<'_>,
        pattern: &[u8],
        is_required: bool,
        parents_pattern: &[u8],
        excluded: Option<&Matcher>,
        cancel: &CancelToken,
    ) -> PyResult<Selection> {
        let matchers: Vec<Arc<::ignore::Matcher>> =
            self.ignored.iter().chain(excluded.map(|matcher| &matcher.inner)).map(Arc::clone).collect();
        let wish = Wish {
            tree: Arc::clone(&self.inner),
            matchers,
            pattern: pattern.to_vec(),
            is_required,
            parents_pattern: parents_pattern.to_vec(),
        };
        let digests = self.context.as_ref().map(|context| &context.digests);
        let is_cancelled = || cancel.inner.is_cancelled();
        py.detach(|| Selection::new(wish, digests, &is_cancelled)).map_err(raise)
    }
}

/// The names of limits that `read_file` is asked with.
const LIMITS: [&str; 3] = ["MAX_DOCKERFILE_BYTES", "MAX_IGNORE_FILE_BYTES", "MAX_USER_FILE_BYTES"];

/// See the stub.
#[pyclass(frozen, module = "fluytd._core.build")]
pub(crate) struct LayerDraft {
    /// `None` once it has been stored.
    inner: Mutex<Option<build::LayerDraft>>,
}

impl LayerDraft {
    fn with<T>(
        &self,
        py: Python<'_>,
        work: impl FnOnce(&mut build::LayerDraft) -> Result<T, build::BuildError> + Send,
    ) -> PyResult<T>
    where
        T: Send,
    {
        py.detach(|| {
            let mut inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
            inner.as_mut().map(work)
        })
        .ok_or_else(|| PyValueError::new_err("the draft was stored"))?
        .map_err(raise)
    }
}

fn mode_change(mode: Option<Vec<u32>>) -> Option<ModeChange> {
    mode.map(|table| match table.as_slice() {
        [one] => ModeChange::Set(*one),
        _ => ModeChange::Table(table),
    })
}

#[pymethods]
impl LayerDraft {
    #[new]
    fn new(base: &FileTree, time_seconds: i64) -> Self {
        let time = layer::Time { seconds: time_seconds, nanos: 0 };
        Self { inner: Mutex::new(Some(build::LayerDraft::new(Arc::clone(&base.inner), time))) }
    }

    fn make_directory(&self, py: Python<'_>, path: &[u8], user: &str) -> PyResult<()> {
        self.with(py, |draft| draft.make_directory(path, user))
    }

    #[expect(clippy::too_many_arguments, reason = "the stub names each; Python passes them one by one")]
    #[pyo3(signature = (selection, destination, owner, mode, is_several, unpack_in, cancel))]
    fn copy(
        &self,
        py: Python<'_>,
        selection: &Selection,
        destination: &[u8],
        owner: Option<(u32, u32)>,
        mode: Option<Vec<u32>>,
        is_several: bool,
        unpack_in: Option<&str>,
        cancel: &CancelToken,
    ) -> PyResult<()> {
        let mode = mode_change(mode);
        self.with(py, |draft| match unpack_in {
            None => draft.copy(
                selection.get(&|| cancel.inner.is_cancelled())?,
                destination,
                owner,
                mode.as_ref(),
                is_several,
            ),
            Some(scratch) => {
                let is_cancelled = || cancel.inner.is_cancelled();
                let target = build::Target { destination, owner, mode: mode.as_ref(), is_several };
                draft.add_unpacking(selection.get(&is_cancelled)?, &target, Path::new(scratch), &is_cancelled)
            }
        })
    }

    fn is_empty(&self, py: Python<'_>) -> PyResult<bool> {
        self.with(py, |draft| Ok(draft.is_empty()))
    }

    #[pyo3(signature = (content, layers, progress, cancel, compression="gzip"))]
    fn store(
        &self,
        py: Python<'_>,
        content: &ContentStore,
        layers: &LayerStore,
        progress: &Progress,
        cancel: &CancelToken,
        compression: &str,
    ) -> PyResult<StoredLayer> {
        let packing = packing(compression, None)?;
        let draft = self
            .inner
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take()
            .ok_or_else(|| PyValueError::new_err("the draft was stored"))?;
        let stored = py
            .detach(|| {
                let tar = build::DraftStream::new(draft);
                ingest::store_changes(tar, packing, stores(content, layers), task(progress, cancel))
            })
            .map_err(raise)?;
        stored_layer(py, stored)
    }
}

#[pyfunction]
fn key_of<'py>(py: Python<'py>, parts: Vec<Vec<u8>>) -> Bound<'py, PyBytes> {
    PyBytes::new(py, &build::key_of(&parts))
}

pub(crate) fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_class::<ChunkStore>()?;
    module.add_class::<ContextEntries>()?;
    module.add_class::<FileTree>()?;
    module.add_class::<Selection>()?;
    module.add_class::<LayerDraft>()?;
    module.add_function(wrap_pyfunction!(key_of, module)?)
}
