//! Where a registry's API stands, and where its answers may send us.

use std::net::IpAddr;
use std::sync::Arc;

use reqwest::header::HeaderMap;
use url::{Host, Url};

use crate::target::invalid;
use crate::tls::Tls;
use crate::RegistryError;

/// The registry name that stands for Docker Hub, and the host of its API.
/// Source: moby registry/config.go, IndexName and DefaultV2Registry.
const DOCKER_HUB: (&str, &str) = ("docker.io", "registry-1.docker.io");
pub(crate) const DOCKER_HUB_ALIAS: &str = "index.docker.io";

/// What a host may be asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Capabilities {
    /// Content by digest.
    pub pull: bool,
    /// What a tag names.
    pub resolve: bool,
    pub push: bool,
}

impl Capabilities {
    pub const ALL: Self = Self { pull: true, resolve: true, push: true };
}

/// One host that serves a registry's content: the registry itself, or a mirror.
#[derive(Debug)]
pub(crate) struct Endpoint {
    /// The registry as in the reference, for errors and keys.
    pub registry: String,
    /// Scheme, host and port, and the path that precedes a repository's name, without a slash at its end.
    pub base: Url,
    /// It is the host that the reference names, so that the caller's credentials for the registry are for it.
    pub is_own: bool,
    pub capabilities: Capabilities,
    /// Sent to this host alone.
    pub headers: HeaderMap,
    pub tls: Arc<Tls>,
    /// What is asked here, and wherever it leads to, is asked without a client certificate.
    pub is_nameless: bool,
}

impl Endpoint {
    /// The endpoint of a registry nothing is configured for: plain HTTP on loopback, HTTPS elsewhere.
    pub fn plain(registry: &str, api_host: &str, tls: Arc<Tls>) -> Result<Self, RegistryError> {
        let scheme = if is_loopback_host(api_host) { "http" } else { "https" };
        let base = Url::parse(&format!("{scheme}://{api_host}/v2"));
        let base = base.map_err(|_| invalid(registry, NAME_RULE))?;
        Ok(Self::configured(registry, api_host, base, Capabilities::ALL, HeaderMap::new(), tls))
    }

    /// An endpoint as an administrator described it.
    pub fn configured(
        registry: &str,
        api_host: &str,
        base: Url,
        capabilities: Capabilities,
        headers: HeaderMap,
        tls: Arc<Tls>,
    ) -> Self {
        let own = Url::parse(&format!("{}://{api_host}", base.scheme())).ok();
        let is_own = own.is_some_and(|own| own.origin() == base.origin());
        Self { registry: registry.to_owned(), base, is_own, capabilities, headers, tls, is_nameless: false }
    }

    /// A place that a manifest names: it is asked for nobody, and secured as the directory of its host says.
    pub fn external(host: &str, base: Url) -> Self {
        Self {
            registry: host.to_owned(),
            base,
            is_own: false,
            capabilities: Capabilities::ALL,
            headers: HeaderMap::new(),
            tls: Arc::default(),
            is_nameless: true,
        }
    }

    /// True if a request to `url` goes to this host itself, so that what is secret between us may be sent.
    pub fn is_same_origin(&self, url: &Url) -> bool {
        self.base.origin() == url.origin()
    }

    /// True if it is Docker Hub itself.
    pub fn is_docker_hub(&self) -> bool {
        self.base.host_str() == Some(DOCKER_HUB.1)
    }

    /// `host[:port]` as credentials are kept for it.
    pub fn host(&self) -> String {
        if self.is_own {
            return self.registry.clone();
        }
        let host = self.base.host_str().unwrap_or_default();
        self.base.port().map_or_else(|| host.to_owned(), |port| format!("{host}:{port}"))
    }
}

const NAME_RULE: &str = "a registry is HOST or HOST:PORT";

/// `host[:port]` of a registry's API, which for Docker Hub is another than its name.
pub(crate) fn api_host(registry: &str) -> Result<&str, RegistryError> {
    let host = if registry == DOCKER_HUB.0 || registry == DOCKER_HUB_ALIAS { DOCKER_HUB.1 } else { registry };
    let is_plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b'_' | b':' | b'[' | b']');
    let is_valid =
        !host.is_empty() && host.bytes().all(is_plain) && Url::parse(&format!("https://{host}/")).is_ok();
    if is_valid {
        Ok(host)
    } else {
        Err(invalid(registry, NAME_RULE))
    }
}

/// True if `host[:port]` names this host.
pub(crate) fn is_loopback_host(host: &str) -> bool {
    Url::parse(&format!("http://{host}/")).is_ok_and(|url| is_loopback(&url))
}

/// True if `url` names this host: 127.0.0.0/8, ::1 (also mapped into IPv6) or `localhost`.
pub(crate) fn is_loopback(url: &Url) -> bool {
    match url.host() {
        Some(Host::Ipv4(address)) => address.is_loopback(),
        Some(Host::Ipv6(address)) => IpAddr::V6(address).to_canonical().is_loopback(),
        Some(Host::Domain(name)) => {
            let name = name.trim_end_matches('.');
            name == "localhost" || name.ends_with(".localhost")
        }
        None => false,
    }
}

/// The rule that forbids an answer from `from` to send us to `to`, if one does.
///
/// Never from HTTPS to HTTP; plain HTTP only to loopback, or within a host that an administrator lets be asked by it;
/// and no host elsewhere may make this engine ask a service that listens on this host's loopback.
pub(crate) fn refused_step(from: &Url, to: &Url) -> Option<&'static str> {
    match to.scheme() {
        "https" => {}
        "http" if from.scheme() == "https" => return Some("sends from https to http"),
        "http" if !is_loopback(to) && from.host() != to.host() => {
            return Some("sends to plain http beyond loopback");
        }
        "http" => {}
        _ => return Some("sends to a scheme other than http and https"),
    }
    if is_loopback(to) && !is_loopback(from) {
        return Some("sends from another host to loopback");
    }
    if !to.username().is_empty() || to.password().is_some() {
        return Some("sends to a URL with credentials");
    }
    to.host().is_none().then_some("sends to a URL without a host")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn base(registry: &str) -> String {
        let endpoint = api_host(registry).and_then(|host| Endpoint::plain(registry, host, Arc::default()));
        endpoint.map(|endpoint| endpoint.base.to_string()).unwrap_or_default()
    }

    #[test]
    fn only_loopback_is_plain_http() {
        assert_eq!(base("localhost:5000"), "http://localhost:5000/v2");
        assert_eq!(base("127.1.2.3:443"), "http://127.1.2.3:443/v2");
        assert_eq!(base("[::1]:5000"), "http://[::1]:5000/v2");
        assert_eq!(base("localhost"), "http://localhost/v2");
        assert_eq!(base("192.168.0.1:5000"), "https://192.168.0.1:5000/v2");
        assert_eq!(base("localhost.example.com"), "https://localhost.example.com/v2");
    }

    #[test]
    fn docker_hub_has_an_api_host_of_its_own() {
        assert_eq!(base("docker.io"), "https://registry-1.docker.io/v2");
        assert_eq!(base("index.docker.io"), "https://registry-1.docker.io/v2");
    }

    #[test]
    fn a_registry_is_nothing_but_host_and_port() {
        for bad in ["", "a/b", "user@host", "host:port", "a?b", "a#b", "http://x", "a b", "a\\b"] {
            assert_eq!(base(bad), "", "{bad}");
        }
    }

    #[test]
    fn an_answer_may_not_lead_to_a_weaker_place() {
        let cases = [
            ("https://a/", "https://b/", true),
            ("http://127.0.0.1:1/", "http://localhost:2/", true),
            ("http://127.0.0.1:1/", "https://b/", true),
            ("http://a:1/", "http://a:2/", true),
            ("https://a/", "http://a/", false),
            ("http://127.0.0.1:1/", "http://b/", false),
            ("http://a/", "http://b/", false),
            ("https://a/", "https://127.0.0.1:2/", false),
            ("https://a/", "https://[::ffff:127.0.0.1]/", false),
            ("https://a/", "file:///etc/passwd", false),
            ("https://a/", "https://u:p@b/", false),
        ];
        for (from, to, may) in cases {
            let step = refused_step(&Url::parse(from).expect("a URL"), &Url::parse(to).expect("a URL"));
            assert_eq!(step.is_none(), may, "{from} -> {to}: {step:?}");
        }
    }
}
