//! `_core.registry`: the client of the distribution protocol.

use std::sync::Arc;
use std::time::Duration;

use pyo3::prelude::*;
use pyo3::types::PyBytes;

use crate::cancel::CancelToken;
use crate::error::raise;

/// See the stub.
#[pyclass(frozen, get_all, module = "fluytd._core.registry")]
pub(crate) struct Manifest {
    data: Py<PyBytes>,
    media_type: String,
    digest: String,
}

/// See the stub.
#[pyclass(frozen, module = "fluytd._core.registry")]
pub(crate) struct RegistryClient {
    pub(crate) inner: Arc<registry::RegistryClient>,
}

#[pymethods]
impl RegistryClient {
    #[new]
    #[pyo3(signature = (*, user_agent, connect_timeout_millis=10_000, stall_timeout_millis=30_000, max_attempts=5))]
    fn new(
        user_agent: &str,
        connect_timeout_millis: u64,
        stall_timeout_millis: u64,
        max_attempts: u32,
    ) -> Self {
        let config = registry::ClientConfig {
            connect_timeout: Duration::from_millis(connect_timeout_millis),
            stall_timeout: Duration::from_millis(stall_timeout_millis),
            max_attempts,
            ..registry::ClientConfig::new(user_agent)
        };
        Self { inner: Arc::new(registry::RegistryClient::new(config)) }
    }

    fn fetch_manifest(
        &self,
        py: Python<'_>,
        registry: &str,
        repository: &str,
        reference: &str,
        cancel: &CancelToken,
    ) -> PyResult<Manifest> {
        let manifest = py
            .detach(|| self.inner.fetch_manifest(registry, repository, reference, &cancel.inner))
            .map_err(raise)?;
        Ok(Manifest {
            data: PyBytes::new(py, &manifest.data).unbind(),
            media_type: manifest.media_type,
            digest: manifest.digest.to_string(),
        })
    }
}

pub(crate) fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_class::<Manifest>()?;
    module.add_class::<RegistryClient>()
}
