//! `_core.layer`: the layer stores.

use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::Arc;

use layer::{LayerId, Verified};
use pyo3::prelude::*;

use crate::cancel::CancelToken;
use crate::error::raise;

/// See the stub.
#[pyclass(frozen, get_all, module = "fluytd._core.layer")]
pub(crate) struct LayerInfo {
    layer_id: String,
    diff_id: String,
    size_bytes: u64,
    entry_count: u64,
    max_id: u32,
    depends_on_lower: bool,
    kind: String,
    stored_bytes: u64,
}

/// See the stub.
#[pyclass(frozen, get_all, module = "fluytd._core.layer")]
pub(crate) struct LayerCheck {
    is_checkable: bool,
    damage: String,
    checked_bytes: u64,
}

impl LayerCheck {
    fn new(found: Verified, progress: &AtomicU64) -> Self {
        let (is_checkable, damage) = match found {
            Verified::Sound => (true, String::new()),
            Verified::Damaged { detail } => (true, detail),
            Verified::NotKept => (false, String::new()),
        };
        Self { is_checkable, damage, checked_bytes: progress.load(Ordering::Relaxed) }
    }
}

impl From<layer::LayerInfo> for LayerInfo {
    fn from(info: layer::LayerInfo) -> Self {
        Self {
            depends_on_lower: info.depends_on_lower(),
            layer_id: info.layer_id.to_string(),
            diff_id: info.diff_id.to_string(),
            size_bytes: info.size_bytes,
            entry_count: info.entry_count,
            max_id: info.max_id,
            stored_bytes: info.stored_bytes,
            kind: info.kind,
        }
    }
}

/// See the stub.
#[pyclass(frozen, module = "fluytd._core.layer")]
pub(crate) struct LayerStore {
    pub(crate) inner: Arc<layer::LayerStore>,
}

/// Parses a layer id from Python; LAYER_NOT_FOUND for anything else.
pub(crate) fn layer_id(text: &str) -> PyResult<LayerId> {
    LayerId::parse(text).map_err(raise)
}

/// Parses a list of layer ids.
pub(crate) fn layer_ids(texts: &[String]) -> PyResult<Vec<LayerId>> {
    texts.iter().map(|text| layer_id(text)).collect()
}

#[pymethods]
impl LayerStore {
    #[new]
    #[pyo3(signature = (data_root, kind="directory", below=None))]
    fn new(py: Python<'_>, data_root: &str, kind: &str, below: Option<&LayerStore>) -> PyResult<Self> {
        let (path, below) = (Path::new(data_root), below.map(|store| Arc::clone(&store.inner)));
        let open = || match below {
            Some(below) => layer::LayerStore::open_beside(path, kind, below),
            None => layer::LayerStore::open(path, kind),
        };
        Ok(Self { inner: Arc::new(py.detach(open).map_err(raise)?) })
    }

    #[getter]
    fn kind(&self) -> &'static str {
        self.inner.kind()
    }

    #[getter]
    fn choice_detail(&self) -> &str {
        self.inner.choice_detail()
    }

    fn stat(&self, py: Python<'_>, layer_id: &str) -> PyResult<Option<LayerInfo>> {
        let id = self::layer_id(layer_id)?;
        Ok(py.detach(|| self.inner.stat(&id)).map_err(raise)?.map(LayerInfo::from))
    }

    fn list(&self, py: Python<'_>) -> PyResult<Vec<LayerInfo>> {
        Ok(py.detach(|| self.inner.list()).map_err(raise)?.into_iter().map(LayerInfo::from).collect())
    }

    fn ids(&self, py: Python<'_>) -> PyResult<Vec<String>> {
        Ok(py.detach(|| self.inner.ids()).map_err(raise)?.iter().map(ToString::to_string).collect())
    }

    fn list_staged(&self, py: Python<'_>) -> PyResult<Vec<String>> {
        py.detach(|| self.inner.list_staged()).map_err(raise)
    }

    fn delete_staged(&self, py: Python<'_>, name: &str) -> PyResult<()> {
        py.detach(|| self.inner.delete_staged(name)).map_err(raise)
    }

    fn publish(&self, py: Python<'_>, layer_ids: Vec<String>) -> PyResult<()> {
        let ids = self::layer_ids(&layer_ids)?;
        py.detach(|| self.inner.publish(&ids)).map_err(raise)
    }

    fn delete(&self, py: Python<'_>, layer_id: &str) -> PyResult<()> {
        let id = self::layer_id(layer_id)?;
        py.detach(|| self.inner.delete(&id)).map_err(raise)
    }

    fn recover(&self, py: Python<'_>) -> PyResult<Vec<String>> {
        py.detach(|| self.inner.recover()).map_err(raise)
    }

    fn lower_path(&self, py: Python<'_>, layer_id: &str) -> PyResult<String> {
        let id = self::layer_id(layer_id)?;
        let path = py.detach(|| self.inner.lower_path(&id)).map_err(raise)?;
        Ok(path.to_string_lossy().into_owned())
    }

    fn verify(&self, py: Python<'_>, layer_id: &str, cancel: &CancelToken) -> PyResult<LayerCheck> {
        let id = self::layer_id(layer_id)?;
        let progress = AtomicU64::new(0);
        let found = py
            .detach(|| self.inner.verify(&id, &progress, &|| cancel.inner.is_cancelled()))
            .map_err(raise)?;
        Ok(LayerCheck::new(found, &progress))
    }

    fn compare(
        &self,
        py: Python<'_>,
        layer_id: &str,
        made: &LayerStore,
        written_since_seconds: i64,
        cancel: &CancelToken,
    ) -> PyResult<LayerCheck> {
        let id = self::layer_id(layer_id)?;
        let progress = AtomicU64::new(0);
        let is_cancelled = || cancel.inner.is_cancelled();
        let found = py
            .detach(|| self.inner.compare(&id, &made.inner, written_since_seconds, &progress, &is_cancelled))
            .map_err(raise)?;
        Ok(LayerCheck::new(found, &progress))
    }

    fn replace(&self, py: Python<'_>, layer_id: &str, source: &LayerStore) -> PyResult<()> {
        let id = self::layer_id(layer_id)?;
        py.detach(|| self.inner.replace(&id, &source.inner)).map_err(raise)
    }
}

pub(crate) fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_class::<LayerCheck>()?;
    module.add_class::<LayerInfo>()?;
    module.add_class::<LayerStore>()
}
