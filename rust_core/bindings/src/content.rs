//! `_core.content`: the content store.

use std::path::Path;
use std::sync::Arc;

use content::Digest;
use pyo3::prelude::*;

use crate::error::raise;

/// See the stub.
#[pyclass(frozen, get_all, module = "fluytd._core.content")]
pub(crate) struct BlobInfo {
    digest: String,
    size_bytes: u64,
}

/// See the stub.
#[pyclass(frozen, get_all, module = "fluytd._core.content")]
pub(crate) struct IngestInfo {
    digest: String,
    offset_bytes: u64,
}

/// See the stub.
#[pyclass(frozen, module = "fluytd._core.content")]
pub(crate) struct ContentStore {
    pub(crate) inner: Arc<content::ContentStore>,
}

fn convert(info: content::BlobInfo) -> BlobInfo {
    BlobInfo { digest: info.digest.to_string(), size_bytes: info.size_bytes }
}

/// Parses a digest from Python; DIGEST_INVALID for anything else.
pub(crate) fn digest(text: &str) -> PyResult<Digest> {
    Digest::parse(text).map_err(raise)
}

/// Parses a list of digests.
pub(crate) fn digests(texts: &[String]) -> PyResult<Vec<Digest>> {
    texts.iter().map(|text| digest(text)).collect()
}

#[pymethods]
impl ContentStore {
    #[new]
    fn new(py: Python<'_>, data_root: &str) -> PyResult<Self> {
        let store = py.detach(|| content::ContentStore::open(Path::new(data_root))).map_err(raise)?;
        Ok(Self { inner: Arc::new(store) })
    }

    #[pyo3(signature = (data, expected_digest=None))]
    fn stage_bytes(&self, py: Python<'_>, data: &[u8], expected_digest: Option<&str>) -> PyResult<String> {
        let expected = expected_digest.map(digest).transpose()?;
        let staged = py.detach(|| self.inner.stage_bytes(data, expected.as_ref())).map_err(raise)?;
        Ok(staged.to_string())
    }

    fn publish(&self, py: Python<'_>, digests: Vec<String>) -> PyResult<()> {
        let parsed = self::digests(&digests)?;
        py.detach(|| self.inner.publish(&parsed)).map_err(raise)
    }

    fn read(&self, py: Python<'_>, digest: &str, max_size_bytes: u64) -> PyResult<Vec<u8>> {
        let digest = self::digest(digest)?;
        py.detach(|| self.inner.read(&digest, max_size_bytes)).map_err(raise)
    }

    fn stat(&self, py: Python<'_>, digest: &str) -> PyResult<Option<BlobInfo>> {
        let digest = self::digest(digest)?;
        Ok(py.detach(|| self.inner.stat(&digest)).map_err(raise)?.map(convert))
    }

    fn list(&self, py: Python<'_>) -> PyResult<Vec<BlobInfo>> {
        Ok(py.detach(|| self.inner.list()).map_err(raise)?.into_iter().map(convert).collect())
    }

    fn delete(&self, py: Python<'_>, digest: &str) -> PyResult<u64> {
        let digest = self::digest(digest)?;
        py.detach(|| self.inner.delete(&digest)).map_err(raise)
    }

    fn list_ingests(&self, py: Python<'_>) -> PyResult<Vec<IngestInfo>> {
        let found = py.detach(|| self.inner.list_ingests()).map_err(raise)?;
        Ok(found
            .into_iter()
            .map(|info| IngestInfo { digest: info.digest.to_string(), offset_bytes: info.offset_bytes })
            .collect())
    }

    fn delete_ingest(&self, py: Python<'_>, digest: &str) -> PyResult<()> {
        let digest = self::digest(digest)?;
        py.detach(|| self.inner.delete_ingest(&digest)).map_err(raise)
    }

    fn write_index(&self, py: Python<'_>, data: &[u8]) -> PyResult<()> {
        py.detach(|| self.inner.write_index(data)).map_err(raise)
    }

    fn replace(&self, py: Python<'_>, digest: &str, source: &ContentStore) -> PyResult<()> {
        let digest = self::digest(digest)?;
        py.detach(|| self.inner.replace(&digest, &source.inner)).map_err(raise)
    }

    fn write_layout(&self, py: Python<'_>) -> PyResult<()> {
        py.detach(|| self.inner.write_layout()).map_err(raise)
    }

    fn verify(&self, py: Python<'_>, digest: &str) -> PyResult<bool> {
        let digest = self::digest(digest)?;
        py.detach(|| self.inner.verify(&digest)).map_err(raise)
    }
}

pub(crate) fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_class::<BlobInfo>()?;
    module.add_class::<IngestInfo>()?;
    module.add_class::<ContentStore>()
}
