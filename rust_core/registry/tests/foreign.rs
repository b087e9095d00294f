//! Layers that a registry may not hand out: they come from the URLs of their descriptor, for nobody (R13).

mod common;
mod server;

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::Arc;

use common::{client, digest, fact, nobody, noise};
use errors::Catalogued;
use registry::{BlobSource, Credentials, RegistryError, Target};
use server::{Ending, Reply, Server};
use sys::cancel::CancelToken;

const SIZE: usize = 100_000;

/// What came, and which place gave the first byte.
fn read(
    registry: &str,
    credentials: &Credentials,
    urls: &[String],
    data: &[u8],
) -> (Result<Vec<u8>, RegistryError>, Option<usize>) {
    let client = client();
    let name = digest(data);
    let target = Target { registry, repository: "a/b", credentials };
    let source = BlobSource { target, digest: &name, size_bytes: data.len() as u64, urls };
    let mut reader = client.open_blob(&source, 0, 0, &CancelToken::new()).expect("a reader");
    let mut bytes = Vec::new();
    loop {
        match reader.next_chunk() {
            Ok(Some(chunk)) => bytes.extend_from_slice(&chunk),
            Ok(None) => return (Ok(bytes), reader.first_origin()),
            Err(error) => return (Err(error), reader.first_origin()),
        }
    }
}

fn serving(data: &[u8]) -> Server {
    let data = data.to_vec();
    Server::start(move |request, _| Reply::ranged(request, &data))
}

fn url(server: &Server) -> String {
    format!("http://{}/layer?of=windows", server.registry())
}

#[test]
fn r13_the_urls_of_a_layer_are_asked_in_order_and_the_registry_last() {
    let data = noise(SIZE);
    let (absent, refusing) =
        (Server::start(|_, _| Reply::new(404, "")), Server::start(|_, _| Reply::new(401, "")));
    let (good, behind, registry) = (serving(&data), serving(&data), serving(&data));
    let urls = [url(&absent), url(&refusing), url(&good), url(&behind)];
    let (came, first) = read(&registry.registry(), nobody(), &urls, &data);
    assert!(came.expect("the layer") == data);
    assert_eq!(first, Some(2));
    assert_eq!(good.requests()[0].target, "/layer?of=windows");
    assert_eq!((absent.requests().len(), refusing.requests().len()), (1, 1));
    assert_eq!((behind.requests().len(), registry.requests().len()), (0, 0));
    // Where none of them serves, the registry may have it all the same.
    let (came, first) = read(&registry.registry(), nobody(), &urls[..2], &data);
    assert!(came.expect("the layer") == data);
    assert_eq!(first, Some(2));
}

#[test]
fn r13_nothing_secret_goes_to_a_url_not_even_where_it_asks() {
    let data = noise(SIZE);
    let credentials = Credentials::new("ann", "secret", "", "");
    let served = data.clone();
    let asking = Server::start(|request, _| {
        let realm = format!("http://{}/token", request.header("host").unwrap_or_default());
        Reply::new(401, "").with("WWW-Authenticate", format!(r#"Bearer realm="{realm}",service="x""#))
    });
    let plain = Server::start(|_, _| Reply::new(401, "").with("WWW-Authenticate", "Basic realm=\"x\""));
    // Where the registry itself is named, it is a URL as any other.
    let registry = Server::start(move |request, _| match request.header("authorization") {
        _ if request.target.starts_with("/layer") => Reply::new(401, ""),
        Some(_) => Reply::ranged(request, &served),
        None => Reply::new(401, "").with("WWW-Authenticate", "Basic realm=\"x\""),
    });
    let urls = [url(&asking), url(&plain), url(&registry)];
    let (came, _) = read(&registry.registry(), &credentials, &urls, &data);
    assert!(came.expect("the layer, from the registry by its API") == data);
    let registrys = registry.requests();
    let to_urls = registrys.iter().filter(|request| request.target.starts_with("/layer"));
    for request in asking.requests().iter().chain(plain.requests().iter()).chain(to_urls) {
        assert!(request.target.starts_with("/layer"), "{}", request.target);
        assert_eq!(request.header("authorization"), None);
        assert_eq!(request.header("cookie"), None);
    }
    assert_eq!((asking.requests().len(), plain.requests().len()), (1, 1));
}

#[test]
fn r13_a_url_may_not_lead_where_a_redirect_may_not() {
    let data = noise(10);
    let registry = Server::start(|_, _| Reply::new(404, ""));
    for (bad, rule) in [
        ("http://192.0.2.1/layer", "sends to plain http beyond loopback"),
        ("http://registry.example/layer", "sends to plain http beyond loopback"),
        ("file:///etc/passwd", "sends to a scheme other than http and https"),
        ("ftp://127.0.0.1/layer", "sends to a scheme other than http and https"),
        ("http://ann:secret@127.0.0.1:1/layer", "sends to a URL with credentials"),
        ("//127.0.0.1/layer", "names what is no URL"),
        ("", "names what is no URL"),
    ] {
        let (came, _) = read(&registry.registry(), nobody(), &[bad.to_owned()], &data);
        let error = came.expect_err(bad);
        assert_eq!(error.reason(), "REGISTRY_PROTOCOL", "{bad}: {error}");
        assert_eq!(fact(&error, "rule"), rule, "{bad}");
        assert!(!error.to_string().contains("secret"), "{error}");
    }
    let target = serving(&data);
    let to = format!("http://{}/layer", target.registry());
    let hops = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&hops);
    let redirecting = Server::start(move |request, _| match request.target.as_str() {
        "/layer?of=windows" => Reply::new(302, "").with("Location", &*to),
        "/file" => Reply::new(302, "").with("Location", "file:///etc/passwd"),
        _ => {
            counted.fetch_add(1, Ordering::SeqCst);
            Reply::new(302, "").with("Location", "/again")
        }
    });
    let (came, _) = read(&registry.registry(), nobody(), &[url(&redirecting)], &data);
    assert!(came.expect("by a redirect") == data);
    for (path, reason) in [("file", "REGISTRY_PROTOCOL"), ("again", "LIMIT_EXCEEDED")] {
        let bad = format!("http://{}/{path}", redirecting.registry());
        let (came, _) = read(&registry.registry(), nobody(), &[bad], &data);
        assert_eq!(came.expect_err(path).reason(), reason);
    }
    assert_eq!(hops.load(Ordering::SeqCst) as u64, registry::REDIRECT_MAX_COUNT + 1);
}

#[test]
fn r13_a_url_that_breaks_off_lies_or_is_too_long_is_passed_over() {
    let data = noise(SIZE);
    let registry = serving(&data);
    let served = data.clone();
    let broken = Server::start(move |request, _| Reply::ranged(request, &served).ending(Ending::Cut(1000)));
    let (came, first) = read(&registry.registry(), nobody(), &[url(&broken)], &data);
    assert!(came.expect("resumed at the registry") == data);
    assert_eq!(first, Some(0));
    let asked = registry.requests();
    assert_eq!(asked[0].range_start(), Some(broken.requests().len() * 1000));
    let longer = serving(&noise(SIZE + 1));
    let (came, first) = read(&registry.registry(), nobody(), &[url(&longer)], &data);
    assert!(came.expect("from the registry") == data);
    assert_eq!(first, Some(1));
}

#[test]
fn r13_a_layer_that_nobody_has_tells_why_its_url_did_not_serve() {
    let data = noise(10);
    let registry = Server::start(|_, _| Reply::new(404, ""));
    let refusing = Server::start(|_, _| Reply::new(403, ""));
    let (came, _) = read(&registry.registry(), nobody(), &[url(&refusing)], &data);
    let error = came.expect_err("nowhere");
    assert_eq!((error.reason(), fact(&error, "status").as_str()), ("REGISTRY_PROTOCOL", "403"));
    assert_eq!(fact(&error, "registry"), refusing.registry());
    let absent = Server::start(|_, _| Reply::new(404, ""));
    let (came, _) = read(&registry.registry(), nobody(), &[url(&absent)], &data);
    assert_eq!(came.expect_err("nowhere").reason(), "BLOB_NOT_FOUND");
}

#[test]
fn r13_the_fragment_of_a_url_stays_here() {
    let data = noise(10);
    let (registry, server) = (Server::start(|_, _| Reply::new(404, "")), serving(&data));
    let named = format!("{}#part", url(&server));
    assert!(read(&registry.registry(), nobody(), &[named], &data).0.expect("the layer") == data);
    assert_eq!(server.requests()[0].target, "/layer?of=windows");
}
