//! Which hosts are asked without a proxy, of the entries of NO_PROXY that name a port.
//!
//! Entries without one (hosts, domains with or without a leading dot, addresses, ranges, `*`) are reqwest's to match,
//! which knows no ports.
//!
//! Source: Go's golang.org/x/net/http/httpproxy, Config.NoProxy, which Docker and containerd use.

use url::Url;

/// True if an entry with a port names the host and port of `url`.
pub(crate) fn excepts_port(excepted: &str, url: &Url) -> bool {
    let host = url.host_str().unwrap_or_default().trim_start_matches('[').trim_end_matches(']');
    excepted.split(',').map(str::trim).any(|entry| {
        let Some((name, port)) = entry.rsplit_once(':') else { return false };
        // What has further colons and no brackets is an address of IPv6 without a port.
        let is_name = !name.contains(':') || (name.starts_with('[') && name.ends_with(']'));
        let port: Option<u16> = port.parse().ok();
        is_name && port.is_some() && port == url.port_or_known_default() && is_named(name, host)
    })
}

/// `name` itself and what stands below it; with a leading dot only what stands below it.
fn is_named(name: &str, host: &str) -> bool {
    let name =
        name.trim_start_matches('[').trim_end_matches(']').trim_start_matches('*').to_ascii_lowercase();
    if name.is_empty() {
        return true;
    }
    match name.strip_prefix('.') {
        Some(domain) => host.strip_suffix(domain).is_some_and(|rest| rest.ends_with('.')),
        None => host == name || host.strip_suffix(name.as_str()).is_some_and(|rest| rest.ends_with('.')),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_with_a_port_excepts_that_port_alone() {
        let cases = [
            ("r.example:5000", "http://r.example:5000/", true),
            ("r.example:5000", "http://r.example:5001/", false),
            ("r.example:443", "https://r.example/", true),
            ("a, example:5000 ,b", "https://r.example:5000/", true),
            (".example:5000", "https://r.example:5000/", true),
            (".example:5000", "https://example:5000/", false),
            ("*.example:5000", "https://r.example:5000/", true),
            ("xample:5000", "https://r.example:5000/", false),
            ("10.0.0.1:5000", "http://10.0.0.1:5000/", true),
            ("[fd00::1]:5000", "http://[fd00::1]:5000/", true),
            ("fd00::5000", "http://[fd00::]:5000/", false),
            ("*:5000", "http://r.example:5000/", true),
            ("r.example", "http://r.example:5000/", false),
            ("r.example:x", "http://r.example:5000/", false),
            ("", "http://r.example:5000/", false),
        ];
        for (excepted, url, is_excepted) in cases {
            let url = Url::parse(url).expect("a URL");
            assert_eq!(excepts_port(excepted, &url), is_excepted, "{excepted} {url}");
        }
    }
}
