//! Where a blob may come from: the URLs that a manifest names for it, then the hosts of its registry.
//!
//! URLs are for layers whose makers forbid that registries hand them out. A manifest is hostile, and so are they: each is
//! held to the rules of a redirect from the registry, and nothing secret goes with a request, neither credentials nor
//! tokens, neither header fields of hosts.toml nor a client certificate.
//!
//! Source: image-spec descriptor.md, `urls`; layer.md, "Non-Distributable Layers"; CVE-2020-15157.

use std::sync::Arc;

use reqwest::header::HeaderMap;
use url::Url;

use crate::endpoint::{refused_step, Endpoint};
use crate::http::{retryable, Answer, Request};
use crate::retry::Failure;
use crate::session::Session;
use crate::target::Repository;
use crate::{RegistryError, Target};

/// A blob, and all that may be asked for it.
#[derive(Debug, Clone, Copy)]
pub struct BlobSource<'a> {
    /// The repository, and who asks for it.
    pub target: Target<'a>,
    /// Its digest.
    pub digest: &'a str,
    /// Its size, as the descriptor says.
    pub size_bytes: u64,
    /// Where it may be had besides; asked before the registry, in order, for nobody. Empty but for layers that are not to
    /// be distributed.
    pub urls: &'a [String],
}

/// One place to ask for a blob.
#[derive(Debug)]
pub(crate) enum Origin {
    Repository(Repository),
    External(External),
}

/// A URL of a manifest.
#[derive(Debug)]
pub(crate) struct External {
    endpoint: Arc<Endpoint>,
    /// The URL, or the rule that forbids to ask it.
    url: Result<Url, &'static str>,
}

impl Origin {
    /// Who is asked, as errors name it.
    pub fn name(&self) -> &str {
        match self {
            Self::Repository(place) => &place.endpoint.registry,
            Self::External(external) => &external.endpoint.registry,
        }
    }

    pub fn is_external(&self) -> bool {
        matches!(self, Self::External(_))
    }

    /// One attempt at the blob.
    pub async fn send(&self, session: &Session, digest: &str, headers: HeaderMap) -> Result<Answer, Failure> {
        match self {
            Self::Repository(place) => {
                let url = place.url(&format!("blobs/{digest}"));
                session.send(place, &Request::get(url, headers), &[200, 206, 404, 416]).await
            }
            Self::External(external) => external.send(session, headers).await,
        }
    }
}

impl External {
    /// What a manifest that `from` gave says of where a blob is. A URL that may not be asked fails when it is its turn.
    pub fn new(text: &str, from: &Repository) -> Self {
        let parsed = Url::parse(text).ok().map(|mut url| {
            url.set_fragment(None);
            url
        });
        // Never more of it than the host: it may hold a password.
        let host = parsed.as_ref().map_or_else(|| "a layer's URL".to_owned(), host_of);
        let url = match parsed {
            Some(url) => refused_step(&from.endpoint.base, &url).map_or(Ok(url), Err),
            None => Err("names what is no URL"),
        };
        let base = url.clone().unwrap_or_else(|_| from.endpoint.base.clone());
        Self { endpoint: Arc::new(Endpoint::external(&host, base)), url }
    }

    async fn send(&self, session: &Session, headers: HeaderMap) -> Result<Answer, Failure> {
        let registry = self.endpoint.registry.clone();
        let url = match &self.url {
            Ok(url) => url.clone(),
            Err(rule) => return Err(RegistryError::Protocol { registry, rule, status: 0 }.into()),
        };
        let answer =
            session.http.send(&self.endpoint, &Request::get(url, headers), |_| HeaderMap::new()).await?;
        let status = answer.response.status().as_u16();
        if matches!(status, 200 | 206 | 404 | 416) {
            return Ok(answer);
        }
        if let Some(failure) = retryable(&answer.response) {
            return Err(failure);
        }
        let rule = "does not give the layer that a manifest says it has";
        Err(RegistryError::Protocol { registry, rule, status }.into())
    }
}

/// `host[:port]`, or the scheme where there is no host.
fn host_of(url: &Url) -> String {
    match (url.host_str(), url.port()) {
        (Some(host), Some(port)) => format!("{host}:{port}"),
        (Some(host), None) => host.to_owned(),
        (None, _) => format!("{}:", url.scheme()),
    }
}
