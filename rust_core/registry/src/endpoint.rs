//! Where a registry's API stands, and where its answers may send us.
//!
//! One registry has one endpoint now. Mirrors, private certificate authorities and plain HTTP by configuration
//! belong here: `of_registry` then gives a list of endpoints to try in order.

use std::net::IpAddr;

use url::{Host, Url};

use crate::target::invalid;
use crate::RegistryError;

/// The registry name that stands for Docker Hub, and the host of its API.
/// Source: moby registry/config.go, IndexName and DefaultV2Registry.
const DOCKER_HUB: (&str, &str) = ("docker.io", "registry-1.docker.io");
const DOCKER_HUB_ALIAS: &str = "index.docker.io";

/// The API of one registry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Endpoint {
    /// The registry as in the reference, for errors and keys.
    pub registry: String,
    /// Scheme, host and port; the path is empty.
    pub base: Url,
}

impl Endpoint {
    /// The endpoint of `host[:port]`: plain HTTP on loopback, HTTPS elsewhere.
    pub fn of_registry(registry: &str) -> Result<Self, RegistryError> {
        let rule = "a registry is HOST or HOST:PORT";
        let host =
            if registry == DOCKER_HUB.0 || registry == DOCKER_HUB_ALIAS { DOCKER_HUB.1 } else { registry };
        let is_plain =
            |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b'_' | b':' | b'[' | b']');
        if host.is_empty() || !host.bytes().all(is_plain) {
            return Err(invalid(registry, rule));
        }
        let mut base = Url::parse(&format!("https://{host}/")).map_err(|_| invalid(registry, rule))?;
        if is_loopback(&base) {
            // Parsed again, since Url keeps the default port of the scheme it was parsed with.
            base = Url::parse(&format!("http://{host}/")).map_err(|_| invalid(registry, rule))?;
        }
        Ok(Self { registry: registry.to_owned(), base })
    }

    /// True if a request to `url` goes to the registry itself, so that what is secret between us may be sent.
    pub fn is_same_origin(&self, url: &Url) -> bool {
        self.base.origin() == url.origin()
    }
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
/// Never from HTTPS to HTTP; plain HTTP only to loopback; and no host elsewhere may make this engine ask a service
/// that listens on this host's loopback.
pub(crate) fn refused_step(from: &Url, to: &Url) -> Option<&'static str> {
    match to.scheme() {
        "https" => {}
        "http" if from.scheme() == "https" => return Some("sends from https to http"),
        "http" if !is_loopback(to) => return Some("sends to plain http beyond loopback"),
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
        Endpoint::of_registry(registry).map(|endpoint| endpoint.base.to_string()).unwrap_or_default()
    }

    #[test]
    fn only_loopback_is_plain_http() {
        assert_eq!(base("localhost:5000"), "http://localhost:5000/");
        assert_eq!(base("127.1.2.3:443"), "http://127.1.2.3:443/");
        assert_eq!(base("[::1]:5000"), "http://[::1]:5000/");
        assert_eq!(base("localhost"), "http://localhost/");
        assert_eq!(base("192.168.0.1:5000"), "https://192.168.0.1:5000/");
        assert_eq!(base("localhost.example.com"), "https://localhost.example.com/");
    }

    #[test]
    fn docker_hub_has_an_api_host_of_its_own() {
        assert_eq!(base("docker.io"), "https://registry-1.docker.io/");
        assert_eq!(base("index.docker.io"), "https://registry-1.docker.io/");
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
            ("https://a/", "http://a/", false),
            ("http://127.0.0.1:1/", "http://b/", false),
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
