//! Fetches one file by its URL, as ADD of a build asks for it: no registry, no tokens; redirects, proxies, authorities
//! and retries are those of registries.

use std::fs::File;
use std::io::Write;
use std::path::Path;
use std::time::Instant;

use content::{Algorithm, Digest, Hasher};
use errors::IoError;
use reqwest::header::{HeaderMap, LAST_MODIFIED};
use sys::cancel::CancelToken;
use url::Url;

use crate::client::unless_cancelled;
use crate::endpoint::Endpoint;
use crate::http::{retryable, Http, Pace, Request};
use crate::retry::{parse_http_date, Failure, Retries};
use crate::{RegistryClient, RegistryError};

/// A file that was fetched.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Downloaded {
    /// Its size.
    pub size_bytes: u64,
    /// SHA-256 of its bytes.
    pub digest: Digest,
    /// Seconds since 1970 of `Last-Modified`, where the server tells.
    pub modified_seconds: Option<u64>,
}

impl RegistryClient {
    /// The file behind an `http` or `https` URL stands in `file`, which is empty and only the caller's: at most `max_bytes` of it,
    /// or `LIMIT_EXCEEDED` names `limit`. A broken transfer begins anew. A user and password of the URL go to its own
    /// host alone and into no error. Blocking; ends within 100 ms once cancelled.
    ///
    /// # Errors
    /// `REFERENCE_INVALID` for what is no such URL, `REGISTRY_ACCESS_DENIED`, `REGISTRY_PROTOCOL` for any other status
    /// than 200 and for a redirect to a weaker place, `REGISTRY_UNREACHABLE`, `REGISTRY_RATE_LIMITED`,
    /// `LIMIT_EXCEEDED`, `IO_FAILED`, `CANCELLED`.
    pub fn download(
        &self,
        url: &str,
        file: &mut File,
        path: &Path,
        max_bytes: (&'static str, u64),
        cancel: &CancelToken,
    ) -> Result<Downloaded, RegistryError> {
        let invalid = || RegistryError::ReferenceInvalid {
            reference: crate::target::shown(url.split(['@', '?']).next_back().unwrap_or_default()),
            rule: "must be an http or https URL with a host",
        };
        let url = Url::parse(url).map_err(|_| invalid())?;
        if !matches!(url.scheme(), "http" | "https") {
            return Err(invalid());
        }
        let host = url.host_str().ok_or_else(invalid)?.to_owned();
        let mut base = url.clone();
        base.set_path("");
        base.set_query(None);
        let endpoint = Endpoint::external(&host, base);
        let shown = url_without_secrets(&url);
        let work = Retries::new(&host, self.session.http.config().max_attempts).run(async || {
            rewound(file).map_err(|error| failed("truncate", path, &error))?;
            let attempt = Attempt { http: &self.session.http, endpoint: &endpoint, shown: &shown, max_bytes };
            attempt.run(&url, file, path).await
        });
        self.runtime(&host)?.block_on(unless_cancelled(work, cancel, &shown))
    }
}

struct Attempt<'a> {
    http: &'a Http,
    endpoint: &'a Endpoint,
    shown: &'a str,
    max_bytes: (&'static str, u64),
}

impl Attempt<'_> {
    async fn run(&self, url: &Url, file: &mut File, path: &Path) -> Result<Downloaded, Failure> {
        let request = Request::get(url.clone(), HeaderMap::new());
        let mut answer = self.http.send(self.endpoint, &request, |_| HeaderMap::new()).await?;
        let response = &mut answer.response;
        if let Some(failure) = retryable(response) {
            return Err(failure);
        }
        let registry = self.endpoint.registry.clone();
        match response.status().as_u16() {
            200 => {}
            status @ (401 | 403) => {
                let repository = self.shown.to_owned();
                return Err(RegistryError::AccessDenied { registry, repository, status }.into());
            }
            status => {
                let rule = "answers with another status than 200";
                return Err(RegistryError::Protocol { registry, rule, status }.into());
            }
        }
        let modified = response.headers().get(LAST_MODIFIED).and_then(|value| value.to_str().ok());
        let modified_seconds = modified.and_then(parse_http_date);
        self.check(response.content_length().unwrap_or(0))?;
        let (mut hasher, mut size_bytes, mut pace) = (Hasher::new(Algorithm::Sha256), 0, Pace::default());
        loop {
            let since = Instant::now();
            let Some(chunk) = self.http.next_chunk(response).await? else { break };
            pace.count(self.http.config(), since, chunk.len() as u64, self.shown)?;
            size_bytes += chunk.len() as u64;
            self.check(size_bytes)?;
            hasher.update(&chunk);
            file.write_all(&chunk).map_err(|error| failed("write", path, &error))?;
        }
        Ok(Downloaded { size_bytes, digest: hasher.finish(), modified_seconds })
    }

    fn check(&self, actual: u64) -> Result<(), RegistryError> {
        let (limit, limit_value) = self.max_bytes;
        if actual <= limit_value {
            return Ok(());
        }
        Err(RegistryError::LimitExceeded { limit, limit_value, actual, subject: self.shown.to_owned() })
    }
}

fn rewound(file: &mut File) -> std::io::Result<()> {
    file.set_len(0)?;
    std::io::Seek::rewind(file)
}

fn failed(operation: &'static str, path: &Path, error: &std::io::Error) -> Failure {
    RegistryError::from(IoError::new(operation, path, error.raw_os_error().unwrap_or(0))).into()
}

/// Scheme, host and path: what else stands in a URL may be secret.
fn url_without_secrets(url: &Url) -> String {
    let mut url = url.clone();
    // Neither fails for a URL with a host.
    let _ = url.set_username("");
    let _ = url.set_password(None);
    url.set_query(None);
    url.set_fragment(None);
    crate::target::shown(url.as_str())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_that_may_be_secret_is_shown() {
        let url = Url::parse("https://me:pw@example.com/a/b?token=1#x").unwrap();
        assert_eq!(url_without_secrets(&url), "https://example.com/a/b");
    }
}
