//! HTTP/2 over TLS, and proxies that tunnel and see nothing.

mod common;
mod secure;

use std::path::Path;

use bytes::Bytes;
use common::{config, digest, manifest_body, nobody, noise, source, IMAGE};
use errors::Catalogued;
use http::{Request, Response};
use registry::{ClientConfig, Credentials, Proxies, RegistryClient, Target};
use secure::{SecureServer, Tunnel};
use sys::cancel::CancelToken;

/// A name that only a proxy can reach.
const REGISTRY: &str = "registry.test:5443";
/// `user:hunter2` as basic authentication carries it.
const ENCODED: &str = "dXNlcjpodW50ZXIy";

fn user() -> Credentials {
    Credentials::new("user", "hunter2", "", "")
}

fn of(credentials: &Credentials) -> Target<'_> {
    Target { registry: REGISTRY, repository: "a/b", credentials }
}

fn answer(status: u16, name: &str, value: &str, body: impl Into<Bytes>) -> Response<Bytes> {
    Response::builder().status(status).header(name, value).body(body.into()).expect("an answer")
}

/// A manifest for those who authenticate, a challenge for others.
fn guarded(request: &Request<h2::RecvStream>) -> Response<Bytes> {
    match request.headers().get("authorization") {
        Some(value) if value == &format!("Basic {ENCODED}") => {
            answer(200, "content-type", IMAGE, manifest_body())
        }
        _ => answer(401, "www-authenticate", "Basic realm=\"x\"", ""),
    }
}

/// A client that knows the registry at this URL, with this authority.
fn client_for(dir: &Path, url: &str, certificate: Option<&Path>, proxies: Proxies) -> RegistryClient {
    let authority = certificate.map(|path| format!("ca = \"{}\"\n", path.display())).unwrap_or_default();
    let settings = dir.join(REGISTRY);
    std::fs::create_dir_all(&settings).expect("a directory");
    std::fs::write(settings.join("hosts.toml"), format!("server = \"{url}\"\n{authority}")).expect("a file");
    let hosts_dir = Some(dir.to_owned());
    RegistryClient::new(ClientConfig { hosts_dir, proxies, max_attempts: 1, ..config() })
}

fn through(proxy: &Tunnel) -> Proxies {
    Proxies {
        http: String::new(),
        https: format!("http://me:swordfish@{}", proxy.address),
        excepted: String::new(),
    }
}

#[test]
fn a_registry_that_speaks_only_http2_is_pulled_from_by_one_connection() {
    let dir = tempfile::tempdir().expect("a directory");
    let data = noise(300_000);
    let served = Bytes::from(data.clone());
    let server = SecureServer::start(dir.path(), move |request| match request.uri().path() {
        path if path.contains("/blobs/") => answer(200, "x-of", "blob", served.clone()),
        _ => answer(200, "content-type", IMAGE, manifest_body()),
    });
    let url = format!("https://{}", server.address);
    let client = client_for(dir.path(), &url, Some(&server.certificate), Proxies::default());
    client.fetch_manifest(of(nobody()), "v1", &CancelToken::new()).expect("a manifest");
    let name = digest(&data);
    let source = source(of(nobody()), &name, data.len());
    let mut reader = client.open_blob(&source, 0, 0, &CancelToken::new()).expect("a reader");
    let mut read = Vec::new();
    while let Some(chunk) = reader.next_chunk().expect("a chunk") {
        read.extend_from_slice(&chunk);
    }
    assert!(read == data);
    let requests = server.requests();
    let paths: Vec<_> = requests.iter().map(|request| request.path.clone()).collect();
    assert_eq!(paths, ["/v2/a/b/manifests/v1".to_owned(), format!("/v2/a/b/blobs/{}", digest(&data))]);
    assert!(requests.iter().all(|request| request.connection == 0), "{requests:?}");
}

#[test]
fn a_certificate_that_no_authority_vouches_for_is_refused() {
    let dir = tempfile::tempdir().expect("a directory");
    let server = SecureServer::start(dir.path(), guarded);
    let client = client_for(dir.path(), &format!("https://{}", server.address), None, Proxies::default());
    let user = user();
    let error = client.fetch_manifest(of(&user), "v1", &CancelToken::new()).expect_err("not trusted");
    assert_eq!(error.reason(), "REGISTRY_UNREACHABLE");
    assert!(server.requests().is_empty());
}

#[test]
fn a_proxy_tunnels_https_and_never_sees_the_credentials_of_the_registry() {
    let dir = tempfile::tempdir().expect("a directory");
    let server = SecureServer::start(dir.path(), guarded);
    let proxy = Tunnel::start(server.address, 200);
    let url = &format!("https://{REGISTRY}");
    let client = client_for(dir.path(), url, Some(&server.certificate), through(&proxy));
    let user = user();
    client.fetch_manifest(of(&user), "v1", &CancelToken::new()).expect("a manifest by the tunnel");
    let requests = server.requests();
    assert_eq!(requests[1].authorization.as_deref(), Some(&*format!("Basic {ENCODED}")));
    let heads = proxy.heads();
    assert_eq!(heads.len(), 1, "{heads:?}");
    assert!(heads[0].starts_with("CONNECT registry.test:5443 HTTP/1.1\r\n"), "{heads:?}");
    // `me:swordfish`, which is the proxy's own and goes no further.
    assert!(heads[0].contains("Basic bWU6c3dvcmRmaXNo"), "{heads:?}");
    let fields = heads[0].to_ascii_lowercase();
    assert!(!fields.contains("\nauthorization:") && !fields.contains("hunter2"), "{fields}");
    let tunnelled = proxy.bytes();
    assert!(!tunnelled.is_empty());
    for secret in ["hunter2", ENCODED, "/v2/a/b", "swordfish"] {
        let is_shown = tunnelled.windows(secret.len()).any(|part| part == secret.as_bytes());
        assert!(!is_shown, "the proxy could read {secret}");
    }
}

#[test]
fn a_proxy_that_refuses_is_told_without_its_password_and_nobody_is_asked_directly() {
    let dir = tempfile::tempdir().expect("a directory");
    let server = SecureServer::start(dir.path(), guarded);
    for status in [407, 403, 502] {
        let proxy = Tunnel::start(server.address, status);
        let url = &format!("https://{REGISTRY}");
        let client = client_for(dir.path(), url, Some(&server.certificate), through(&proxy));
        let error = client.fetch_manifest(of(nobody()), "v1", &CancelToken::new()).expect_err("refused");
        assert_eq!(error.reason(), "REGISTRY_UNREACHABLE");
        let shown = format!("{error} {error:?} {:?}", error.metadata());
        for secret in ["swordfish", "bWU6c3dvcmRmaXNo"] {
            assert!(!shown.contains(secret), "{shown}");
        }
        assert_eq!(proxy.heads().len(), 1);
    }
    assert!(server.requests().is_empty());
}
