//! Bearer tokens for anyone, and redirects that may and may not be followed.

mod common;
mod server;

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::Arc;

use common::{blob, client, digest, fact, manifest, manifest_body, noise, target, IMAGE};
use errors::Catalogued;
use server::{Reply, Request, Server};
use sys::cancel::CancelToken;

fn found() -> Reply {
    Reply::new(200, manifest_body()).with("Content-Type", IMAGE)
}

/// A registry that wants the token `T`, which its own token server gives under /token.
fn guarded(answer: impl Fn(&Request, usize) -> Reply + Send + Sync + 'static) -> Server {
    Server::start(move |request, earlier| {
        let host = request.header("host").unwrap_or_default().to_owned();
        if request.target.starts_with("/token") {
            return Reply::new(200, r#"{"token":"T","expires_in":300}"#);
        }
        if request.header("authorization") != Some("Bearer T") {
            let challenge =
                format!(r#"Bearer realm="http://{host}/token",service="s",scope="repository:a/b:pull""#);
            return Reply::new(401, "").with("WWW-Authenticate", challenge);
        }
        answer(request, earlier)
    })
}

#[test]
fn a_token_is_asked_for_once_and_used_until_it_expires() {
    let server = guarded(|_, _| found());
    let client = client();
    for _ in 0..3 {
        client.fetch_manifest(target(&server.registry()), "v1", &CancelToken::new()).expect("a manifest");
    }
    let targets: Vec<_> = server.requests().into_iter().map(|request| request.target).collect();
    let tokens: Vec<_> = targets.iter().filter(|target| target.starts_with("/token")).collect();
    assert_eq!(tokens, ["/token?service=s&scope=repository%3Aa%2Fb%3Apull"]);
    assert_eq!(targets.len(), 5);
}

#[test]
fn a_token_the_registry_no_longer_takes_is_replaced_once() {
    let issued = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&issued);
    let server = Server::start(move |request, _| {
        if request.target.starts_with("/token") {
            let number = count.fetch_add(1, Ordering::SeqCst) + 1;
            return Reply::new(200, format!(r#"{{"access_token":"T{number}"}}"#));
        }
        let newest = count.load(Ordering::SeqCst);
        // The first token serves one request.
        let is_spent = request.target.ends_with("v2") && newest == 1;
        if newest > 0 && !is_spent && request.header("authorization") == Some(&*format!("Bearer T{newest}")) {
            return found();
        }
        let host = request.header("host").unwrap_or_default();
        Reply::new(401, "").with("WWW-Authenticate", format!(r#"Bearer realm="http://{host}/token""#))
    });
    let client = client();
    for tag in ["v1", "v2", "v2"] {
        client.fetch_manifest(target(&server.registry()), tag, &CancelToken::new()).expect(tag);
    }
    assert_eq!(issued.load(Ordering::SeqCst), 2);
}

#[test]
fn a_registry_that_refuses_even_with_a_token_is_not_asked_for_ever() {
    let server = guarded(|_, _| Reply::new(401, ""));
    let error = manifest(&server.registry(), "v1").expect_err("refused");
    assert_eq!(error.reason(), "REGISTRY_ACCESS_DENIED");
    assert_eq!((fact(&error, "repository").as_str(), fact(&error, "status").as_str()), ("a/b", "401"));
    assert_eq!(server.requests().len(), 3);
}

#[test]
fn a_token_server_that_refuses_or_babbles_is_told_apart() {
    let cases = [
        (Reply::new(401, ""), "REGISTRY_ACCESS_DENIED"),
        (Reply::new(200, "<html>"), "REGISTRY_PROTOCOL"),
        (Reply::new(200, vec![b' '; 2 << 20]), "LIMIT_EXCEEDED"),
        (Reply::new(302, "").with("Location", "http://example.com/token"), "REGISTRY_PROTOCOL"),
    ];
    for (reply, reason) in cases {
        let server = Server::start(move |request, _| {
            let host = request.header("host").unwrap_or_default();
            if request.target.starts_with("/token") {
                return reply.clone();
            }
            Reply::new(401, "").with("WWW-Authenticate", format!(r#"Bearer realm="http://{host}/token""#))
        });
        assert_eq!(manifest(&server.registry(), "v1").expect_err(reason).reason(), reason);
    }
}

#[test]
fn basic_authentication_only_is_access_denied() {
    let server = Server::start(|_, _| Reply::new(401, "").with("WWW-Authenticate", "Basic realm=\"x\""));
    assert_eq!(
        manifest(&server.registry(), "v1").expect_err("no credentials").reason(),
        "REGISTRY_ACCESS_DENIED"
    );
    assert_eq!(server.requests().len(), 1);
}

#[test]
fn r05_a_blob_redirected_to_another_host_is_fetched_there_without_the_token() {
    let data = noise(10_000);
    let served = data.clone();
    let storage = Server::start(move |request, earlier| {
        let reply = Reply::ranged(request, &served);
        if earlier == 0 {
            reply.ending(server::Ending::Cut(5000))
        } else {
            reply
        }
    });
    let target = format!("http://{}/blob?signature=x", storage.registry());
    let registry = guarded(move |_, _| Reply::new(307, "").with("Location", &*target));
    assert!(blob(&registry.registry(), &data).expect("the blob").0 == data);
    let requests = storage.requests();
    assert_eq!(requests.len(), 2);
    assert!(requests.iter().all(|request| request.header("authorization").is_none()));
    assert_eq!(requests[1].range_start(), Some(5000));
}

#[test]
fn r05_a_redirect_within_the_registry_keeps_the_token() {
    let server = guarded(|request, _| {
        if request.target == "/elsewhere" {
            found()
        } else {
            Reply::new(308, "").with("Location", "/elsewhere")
        }
    });
    manifest(&server.registry(), "v1").expect("a manifest");
}

#[test]
fn r05_another_host_gets_no_token_even_if_it_asks_for_one() {
    let thief = Server::start(|request, _| {
        let host = request.header("host").unwrap_or_default();
        Reply::new(401, "").with("WWW-Authenticate", format!(r#"Bearer realm="http://{host}/token""#))
    });
    let target = format!("http://{}/blob", thief.registry());
    let registry = guarded(move |_, _| Reply::new(302, "").with("Location", &*target));
    let error = manifest(&registry.registry(), "v1").expect_err("refused");
    assert_eq!(error.reason(), "REGISTRY_ACCESS_DENIED");
    let requests = thief.requests();
    assert_eq!((requests.len(), requests[0].header("authorization")), (1, None));
}

#[test]
fn redirects_without_end_name_the_limit() {
    let server = Server::start(|_, _| Reply::new(307, "").with("Location", "/again"));
    let error = manifest(&server.registry(), "v1").expect_err("endless");
    assert_eq!((error.reason(), fact(&error, "limit").as_str()), ("LIMIT_EXCEEDED", "redirect_max_count"));
    assert_eq!(server.requests().len(), 11);
}

#[test]
fn redirects_to_weaker_places_are_refused() {
    for location in [
        "http://example.com/x",
        "ftp://127.0.0.1/",
        "file:///etc/passwd",
        "http://u:p@127.0.0.1/",
        "",
        "http://",
    ] {
        let server = Server::start(move |_, _| Reply::new(302, "").with("Location", location));
        let error = manifest(&server.registry(), "v1").expect_err(location);
        // An empty location is the same URL again, so that the number of redirects ends it.
        let reason = if location.is_empty() { "LIMIT_EXCEEDED" } else { "REGISTRY_PROTOCOL" };
        assert_eq!(error.reason(), reason, "{location}");
    }
    let server = Server::start(|_, _| Reply::new(302, ""));
    assert_eq!(manifest(&server.registry(), "v1").expect_err("nowhere").reason(), "REGISTRY_PROTOCOL");
}

#[test]
fn r13_urls_of_a_layer_are_never_asked() {
    let probe = Server::start(|_, _| Reply::new(401, ""));
    let layer = format!(
        r#"{{"mediaType":"l","digest":"{}","size":4,"urls":["http://{}/probe"]}}"#,
        digest(b"blob"),
        probe.registry()
    );
    let body = String::from_utf8(manifest_body()).expect("text");
    let body = body.replace(r#""layers":[]"#, &format!(r#""layers":[{layer}]"#));
    let server = Server::start(move |request, _| {
        if request.target.contains("/blobs/") {
            Reply::new(200, "blob")
        } else {
            found().with_body(&body)
        }
    });
    manifest(&server.registry(), "v1").expect("a manifest");
    assert_eq!(blob(&server.registry(), b"blob").expect("the blob").0, b"blob");
    assert!(probe.requests().is_empty());
}
