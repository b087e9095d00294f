//! Tries credentials at a registry, without any repository.
//!
//! Source: distribution-spec spec.md, "Determining Support": the end point `/v2/`.

use reqwest::header::HeaderMap;
use sys::cancel::CancelToken;

use crate::client::unless_cancelled;
use crate::http::Request;
use crate::retry::Retries;
use crate::target::Repository;
use crate::{Credentials, RegistryClient, RegistryError};

impl RegistryClient {
    /// The registry itself, never a mirror, takes the credentials, or asks for none. Blocking; ends within 100 ms once
    /// cancelled.
    ///
    /// # Errors
    /// `REGISTRY_ACCESS_DENIED` if it refuses them; `REFERENCE_INVALID`, `REGISTRY_UNREACHABLE`, `REGISTRY_PROTOCOL`,
    /// `REGISTRY_RATE_LIMITED`, `REGISTRY_CONFIG_INVALID`, `LIMIT_EXCEEDED`, `IO_FAILED`, `CANCELLED`.
    pub fn check_credentials(
        &self,
        registry: &str,
        credentials: &Credentials,
        cancel: &CancelToken,
    ) -> Result<(), RegistryError> {
        let place = self.own_place(registry, credentials, "any repository", &[])?;
        let mut url = place.endpoint.base.clone();
        url.set_path(&format!("{}/", url.path().trim_end_matches('/')));
        let work = async {
            let retries = Retries::new(registry, self.session.max_attempts(0));
            let request = Request::get(url.clone(), HeaderMap::new());
            retries.run(async || self.session.send(&place, &request, &[200]).await.map(|_| ())).await
        };
        self.runtime(registry)?.block_on(unless_cancelled(work, cancel, registry))
    }

    /// The registry itself. `name`: what is asked for, for errors.
    pub(crate) fn own_place(
        &self,
        registry: &str,
        credentials: &Credentials,
        name: &str,
        scopes: &[String],
    ) -> Result<Repository, RegistryError> {
        // The last host is the registry itself; there is always one.
        let endpoints = self.session.http.hosts.endpoints(registry)?;
        let endpoint = endpoints.last().cloned().ok_or_else(|| RegistryError::ConfigInvalid {
            path: format!("hosts of {registry}"),
            rule: "there is no host".to_owned(),
        })?;
        let credentials = if credentials.is_anonymous() {
            self.session.auth_file.find(&endpoint.host())?
        } else {
            credentials.clone()
        };
        Ok(Repository { endpoint, name: name.to_owned(), credentials, scopes: scopes.to_vec() })
    }
}
