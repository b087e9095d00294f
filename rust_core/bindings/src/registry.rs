//! `_core.registry`: the client of the distribution protocol.

use std::collections::BTreeMap;
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use pyo3::prelude::*;
use pyo3::types::PyBytes;
use registry::{FileBlob, Proxies, Pushed, Target};

use crate::cancel::CancelToken;
use crate::content::ContentStore;
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
pub(crate) struct Credentials {
    inner: registry::Credentials,
}

#[pymethods]
impl Credentials {
    #[new]
    #[pyo3(signature = (*, username="", password="", identity_token="", registry_token=""))]
    fn new(username: &str, password: &str, identity_token: &str, registry_token: &str) -> Self {
        Self { inner: registry::Credentials::new(username, password, identity_token, registry_token) }
    }
}

/// Whom a call asks, and for whom.
pub(crate) fn target<'a>(
    registry: &'a str,
    repository: &'a str,
    credentials: Option<&'a Credentials>,
) -> Target<'a> {
    static NOBODY: LazyLock<registry::Credentials> = LazyLock::new(registry::Credentials::anonymous);
    let credentials = credentials.map_or(&*NOBODY, |credentials| &credentials.inner);
    Target { registry, repository, credentials }
}

/// See the stub.
#[pyclass(frozen, module = "fluytd._core.registry")]
pub(crate) struct UploadProgress {
    inner: registry::UploadProgress,
}

#[pymethods]
impl UploadProgress {
    #[new]
    fn new() -> Self {
        Self { inner: registry::UploadProgress::default() }
    }

    #[getter]
    fn phase(&self) -> &'static str {
        self.inner.phase()
    }

    #[getter]
    fn sent_bytes(&self) -> u64 {
        self.inner.sent_bytes()
    }
}

/// See the stub.
#[pyclass(frozen, module = "fluytd._core.registry")]
pub(crate) struct Referrer {
    inner: registry::Referrer,
}

#[pymethods]
impl Referrer {
    #[getter]
    fn media_type(&self) -> &str {
        &self.inner.media_type
    }

    #[getter]
    fn digest(&self) -> String {
        self.inner.digest.to_string()
    }

    #[getter]
    fn size_bytes(&self) -> u64 {
        self.inner.size_bytes
    }

    #[getter]
    fn artifact_type(&self) -> &str {
        &self.inner.artifact_type
    }

    #[getter]
    fn annotations(&self) -> BTreeMap<String, String> {
        self.inner.annotations.clone()
    }
}

/// See the stub.
#[pyclass(frozen, module = "fluytd._core.registry")]
pub(crate) struct SearchHit {
    inner: registry::SearchHit,
}

#[pymethods]
impl SearchHit {
    #[getter]
    fn name(&self) -> &str {
        &self.inner.name
    }

    #[getter]
    fn description(&self) -> &str {
        &self.inner.description
    }

    #[getter]
    fn star_count(&self) -> u32 {
        self.inner.star_count
    }

    #[getter]
    fn is_official(&self) -> bool {
        self.inner.is_official
    }
}

/// See the stub.
#[pyclass(frozen, module = "fluytd._core.registry")]
pub(crate) struct RegistryClient {
    pub(crate) inner: Arc<registry::RegistryClient>,
}

#[pymethods]
impl RegistryClient {
    #[new]
    #[pyo3(signature = (*, user_agent, connect_timeout_millis=10_000, header_timeout_millis=30_000, stall_timeout_millis=30_000, max_attempts=5,
        upload_chunk_bytes=0, hosts_dir=None, auth_file=None, http_proxy="", https_proxy="", no_proxy=""))]
    #[expect(clippy::too_many_arguments, reason = "each is a setting with a name of its own in Python")]
    fn new(
        user_agent: &str,
        connect_timeout_millis: u64,
        header_timeout_millis: u64,
        stall_timeout_millis: u64,
        max_attempts: u32,
        upload_chunk_bytes: u64,
        hosts_dir: Option<&str>,
        auth_file: Option<&str>,
        http_proxy: &str,
        https_proxy: &str,
        no_proxy: &str,
    ) -> Self {
        let proxies = Proxies {
            http: http_proxy.to_owned(),
            https: https_proxy.to_owned(),
            excepted: no_proxy.to_owned(),
        };
        let config = registry::ClientConfig {
            connect_timeout: Duration::from_millis(connect_timeout_millis),
            header_timeout: Duration::from_millis(header_timeout_millis),
            stall_timeout: Duration::from_millis(stall_timeout_millis),
            max_attempts,
            upload_chunk_bytes,
            hosts_dir: hosts_dir.map(Into::into),
            auth_file: auth_file.map(Into::into),
            proxies,
            ..registry::ClientConfig::new(user_agent)
        };
        Self { inner: Arc::new(registry::RegistryClient::new(config)) }
    }

    #[pyo3(signature = (url, path, limit_name, max_bytes, cancel))]
    fn download(
        &self,
        py: Python<'_>,
        url: &str,
        path: &str,
        limit_name: &str,
        max_bytes: u64,
        cancel: &CancelToken,
    ) -> PyResult<(u64, String, Option<u64>)> {
        let limit = if limit_name == "MAX_DOWNLOAD_BYTES" { "MAX_DOWNLOAD_BYTES" } else { "max_bytes" };
        let path = std::path::Path::new(path);
        let work = || {
            let mut file =
                std::fs::OpenOptions::new().write(true).create_new(true).open(path).map_err(|error| {
                    registry::RegistryError::from(errors::IoError::new(
                        "open",
                        path,
                        error.raw_os_error().unwrap_or(0),
                    ))
                })?;
            self.inner.download(url, &mut file, path, (limit, max_bytes), &cancel.inner)
        };
        let found = py.detach(work).map_err(raise)?;
        Ok((found.size_bytes, found.digest.to_string(), found.modified_seconds))
    }

    #[pyo3(signature = (registry, repository, reference, cancel, credentials=None))]
    fn fetch_manifest(
        &self,
        py: Python<'_>,
        registry: &str,
        repository: &str,
        reference: &str,
        cancel: &CancelToken,
        credentials: Option<&Credentials>,
    ) -> PyResult<Manifest> {
        let target = target(registry, repository, credentials);
        let manifest =
            py.detach(|| self.inner.fetch_manifest(target, reference, &cancel.inner)).map_err(raise)?;
        Ok(Manifest {
            data: PyBytes::new(py, &manifest.data).unbind(),
            media_type: manifest.media_type,
            digest: manifest.digest.to_string(),
        })
    }

    #[pyo3(signature = (registry, repository, cancel, credentials=None))]
    fn list_tags(
        &self,
        py: Python<'_>,
        registry: &str,
        repository: &str,
        cancel: &CancelToken,
        credentials: Option<&Credentials>,
    ) -> PyResult<Vec<String>> {
        let target = target(registry, repository, credentials);
        py.detach(|| self.inner.list_tags(target, &cancel.inner)).map_err(raise)
    }

    #[pyo3(signature = (registry, repository, digest, artifact_type, cancel, credentials=None))]
    #[expect(clippy::too_many_arguments, reason = "the stub names each; Python passes them one by one")]
    fn list_referrers(
        &self,
        py: Python<'_>,
        registry: &str,
        repository: &str,
        digest: &str,
        artifact_type: &str,
        cancel: &CancelToken,
        credentials: Option<&Credentials>,
    ) -> PyResult<Vec<Referrer>> {
        let target = target(registry, repository, credentials);
        let found = py.detach(|| self.inner.list_referrers(target, digest, artifact_type, &cancel.inner));
        Ok(found.map_err(raise)?.into_iter().map(|inner| Referrer { inner }).collect())
    }

    #[pyo3(signature = (registry, term, max_count, cancel, credentials=None))]
    fn search(
        &self,
        py: Python<'_>,
        registry: &str,
        term: &str,
        max_count: u32,
        cancel: &CancelToken,
        credentials: Option<&Credentials>,
    ) -> PyResult<Vec<SearchHit>> {
        let asker = target(registry, "", credentials).credentials;
        let found = py.detach(|| self.inner.search(registry, term, max_count, asker, &cancel.inner));
        Ok(found.map_err(raise)?.into_iter().map(|inner| SearchHit { inner }).collect())
    }

    #[pyo3(signature = (registry, cancel, credentials=None))]
    fn check_credentials(
        &self,
        py: Python<'_>,
        registry: &str,
        cancel: &CancelToken,
        credentials: Option<&Credentials>,
    ) -> PyResult<()> {
        let asker = target(registry, "", credentials).credentials;
        py.detach(|| self.inner.check_credentials(registry, asker, &cancel.inner)).map_err(raise)
    }

    #[pyo3(signature = (registry, repository, digest, content, mount_from, progress, cancel, credentials=None))]
    #[expect(clippy::too_many_arguments, reason = "the stub names each; Python passes them one by one")]
    fn push_blob(
        &self,
        py: Python<'_>,
        registry: &str,
        repository: &str,
        digest: &str,
        content: &ContentStore,
        mount_from: Option<&str>,
        progress: &UploadProgress,
        cancel: &CancelToken,
        credentials: Option<&Credentials>,
    ) -> PyResult<&'static str> {
        let target = target(registry, repository, credentials);
        py.detach(|| {
            let name = content::Digest::parse(digest).map_err(raise)?;
            let blob = content.inner.open_blob(&name).map_err(raise)?;
            let blob = FileBlob { digest, file: blob.file, size_bytes: blob.size_bytes };
            let pushed = self.inner.push_blob(target, blob, mount_from, &progress.inner, &cancel.inner);
            Ok(match pushed.map_err(raise)? {
                Pushed::Present => "present",
                Pushed::Mounted => "mounted",
                Pushed::Sent => "sent",
            })
        })
    }

    #[pyo3(signature = (registry, repository, reference, media_type, data, cancel, credentials=None))]
    #[expect(clippy::too_many_arguments, reason = "the stub names each; Python passes them one by one")]
    fn push_manifest(
        &self,
        py: Python<'_>,
        registry: &str,
        repository: &str,
        reference: &str,
        media_type: &str,
        data: Vec<u8>,
        cancel: &CancelToken,
        credentials: Option<&Credentials>,
    ) -> PyResult<String> {
        let target = target(registry, repository, credentials);
        py.detach(|| self.inner.push_manifest(target, reference, media_type, data, &cancel.inner))
            .map(|digest| digest.to_string())
            .map_err(raise)
    }
}

pub(crate) fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_class::<Manifest>()?;
    module.add_class::<Credentials>()?;
    module.add_class::<UploadProgress>()?;
    module.add_class::<Referrer>()?;
    module.add_class::<SearchHit>()?;
    module.add_class::<RegistryClient>()
}
