//! Fetching manifests from a registry that lies, limits or breaks.

mod common;
mod server;

use std::time::{Duration, Instant};

use common::{client, digest, fact, manifest, manifest_body, target, IMAGE, INDEX};
use errors::Catalogued;
use registry::Target;
use server::{Ending, Reply, Server};
use sys::cancel::CancelToken;

fn serving(content_type: &'static str, body: Vec<u8>) -> Server {
    Server::start(move |_, _| Reply::new(200, body.clone()).with("Content-Type", content_type))
}

#[test]
fn a_manifest_is_fetched_by_tag_and_by_digest() {
    let server = serving(IMAGE, manifest_body());
    let by_tag = manifest(&server.registry(), "v1").expect("a manifest");
    assert_eq!(by_tag.data, manifest_body());
    assert_eq!((by_tag.media_type.as_str(), by_tag.digest.to_string()), (IMAGE, digest(&manifest_body())));
    let by_digest = manifest(&server.registry(), &digest(&manifest_body())).expect("a manifest");
    assert_eq!(by_digest, by_tag);
    let requests = server.requests();
    assert_eq!(requests[0].target, "/v2/a/b/manifests/v1");
    assert_eq!(requests[1].target, format!("/v2/a/b/manifests/{}", by_tag.digest));
    let accept = requests[0].header("accept").expect("Accept");
    for media_type in [IMAGE, INDEX, "manifest.v2+json", "manifest.list.v2+json"] {
        assert!(accept.contains(media_type), "{accept}");
    }
    assert_eq!(requests[0].header("user-agent"), Some("fluyt-test"));
}

#[test]
fn r01_a_manifest_of_both_kinds_is_refused() {
    for content_type in [IMAGE, INDEX] {
        let body = String::from_utf8(manifest_body()).expect("text").replacen('{', r#"{"manifests":[],"#, 1);
        let body = body.replace(IMAGE, content_type);
        let server = serving(content_type, body.into_bytes());
        assert_eq!(manifest(&server.registry(), "v1").expect_err("both").reason(), "MANIFEST_INVALID");
    }
}

#[test]
fn r02_a_swapped_content_type_is_refused() {
    let server = serving(INDEX, manifest_body());
    let error = manifest(&server.registry(), "v1").expect_err("swapped");
    assert_eq!(error.reason(), "MANIFEST_INVALID");
    assert_eq!(fact(&error, "rule"), "header and body disagree on the media type");
}

#[test]
fn r03_another_manifest_than_the_one_asked_for_is_refused_whatever_the_header_says() {
    let asked = digest(b"another");
    let claimed = asked.clone();
    let server = Server::start(move |_, _| {
        Reply::new(200, manifest_body()).with("Content-Type", IMAGE).with("Docker-Content-Digest", &*claimed)
    });
    let error = manifest(&server.registry(), &asked).expect_err("another");
    assert_eq!(error.reason(), "DIGEST_MISMATCH");
    assert_eq!((fact(&error, "expected"), fact(&error, "actual")), (asked, digest(&manifest_body())));
    assert_eq!(manifest(&server.registry(), "v1").expect_err("a lying header").reason(), "DIGEST_MISMATCH");
}

#[test]
fn r04_nothing_is_sent_for_a_malformed_reference() {
    let server = serving(IMAGE, manifest_body());
    for reference in
        ["sha256:../../x", "sha256:", "md5:d41d8cd98f00b204e9800998ecf8427e", "a/../b", "", "v1?x=y"]
    {
        manifest(&server.registry(), reference).expect_err(reference);
    }
    for repository in ["../x", "A", "a//b", "a?x"] {
        client()
            .fetch_manifest(Target { repository, ..target(&server.registry()) }, "v1", &CancelToken::new())
            .expect_err(repository);
    }
    assert!(server.requests().is_empty());
}

#[test]
fn r08_a_rate_limit_is_waited_for_as_long_as_it_says() {
    let server = Server::start(|_, earlier| match earlier {
        0 => Reply::new(429, "").with("Retry-After", "2"),
        _ => Reply::new(200, manifest_body()).with("Content-Type", IMAGE),
    });
    manifest(&server.registry(), "v1").expect("a manifest");
    let requests = server.requests();
    assert_eq!(requests.len(), 2);
    assert!(requests[1].at - requests[0].at >= Duration::from_secs(2));
}

#[test]
fn r08_attempts_at_a_limited_registry_are_few_and_end_typed() {
    let server = Server::start(|_, _| Reply::new(429, ""));
    assert_eq!(manifest(&server.registry(), "v1").expect_err("limited").reason(), "REGISTRY_RATE_LIMITED");
    assert_eq!(server.requests().len(), 5);

    let server = Server::start(|_, _| Reply::new(429, "").with("Retry-After", "86400"));
    let started = Instant::now();
    let error = manifest(&server.registry(), "v1").expect_err("limited for a day");
    assert_eq!(fact(&error, "retry_after_seconds"), "86400");
    assert!(started.elapsed() < Duration::from_secs(2) && server.requests().len() == 1);
}

#[test]
fn server_errors_and_broken_connections_are_tried_again() {
    let server = Server::start(|_, earlier| match earlier {
        0 => Reply::new(503, ""),
        1 => Reply::new(200, manifest_body()).with("Content-Type", IMAGE).ending(Ending::Cut(10)),
        2 => Reply::new(200, manifest_body()).with("Content-Type", IMAGE).ending(Ending::Stall(10)),
        _ => Reply::new(200, manifest_body()).with("Content-Type", IMAGE),
    });
    assert!(manifest(&server.registry(), "v1").is_ok());
    assert_eq!(server.requests().len(), 4);
}

#[test]
fn a_registry_that_is_not_there_is_named_with_the_attempts() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let registry = listener.local_addr().expect("its address").to_string();
    drop(listener);
    let error = manifest(&registry, "v1").expect_err("nobody listens");
    assert_eq!(error.reason(), "REGISTRY_UNREACHABLE");
    assert_eq!((fact(&error, "registry"), fact(&error, "attempt_count")), (registry, "5".to_owned()));
    assert!(fact(&error, "detail").contains("refused"), "{error}");
}

#[test]
fn each_refusing_status_has_its_reason_and_is_not_tried_again() {
    let cases = [
        (404, "IMAGE_NOT_FOUND"),
        (401, "REGISTRY_ACCESS_DENIED"),
        (403, "REGISTRY_ACCESS_DENIED"),
        (400, "REGISTRY_PROTOCOL"),
        (206, "REGISTRY_PROTOCOL"),
        (418, "REGISTRY_PROTOCOL"),
    ];
    for (status, reason) in cases {
        let server = Server::start(move |_, _| Reply::new(status, "no"));
        assert_eq!(manifest(&server.registry(), "v1").expect_err(reason).reason(), reason, "{status}");
        assert_eq!(server.requests().len(), 1, "{status}");
    }
}

#[test]
fn a_manifest_above_four_mebibytes_is_refused_by_length_and_while_read() {
    let big = vec![b' '; 4 * 1024 * 1024 + 1];
    let announced = serving(IMAGE, big.clone());
    let chunked =
        Server::start(move |_, _| Reply::new(200, big.clone()).with("Content-Type", IMAGE).length(None));
    for server in [announced, chunked] {
        let error = manifest(&server.registry(), "v1").expect_err("too big");
        assert_eq!(
            (error.reason(), fact(&error, "limit").as_str()),
            ("LIMIT_EXCEEDED", "manifest_max_bytes")
        );
    }
}

#[test]
fn headers_without_end_are_refused() {
    let server = Server::start(|_, _| {
        (0..60).fold(Reply::new(200, manifest_body()), |reply, n| {
            reply.with(&format!("X-{n}"), "x".repeat(2000))
        })
    });
    let error = manifest(&server.registry(), "v1").expect_err("too much");
    assert_eq!(fact(&error, "limit"), "header_max_bytes");
}

#[test]
fn a_cancelled_fetch_ends_soon_while_it_waits_for_the_server_or_for_its_turn() {
    let silent = Server::start(|_, _| Reply::new(200, manifest_body()).ending(Ending::Stall(0)));
    let limited = Server::start(|_, _| Reply::new(429, "").with("Retry-After", "30"));
    for server in [silent, limited] {
        let cancel = CancelToken::new();
        let (token, registry) = (cancel.clone(), server.registry());
        let fetch = std::thread::spawn(move || client().fetch_manifest(target(&registry), "v1", &token));
        std::thread::sleep(Duration::from_millis(200));
        let cancelled = Instant::now();
        cancel.cancel();
        assert_eq!(fetch.join().expect("no panic").expect_err("cancelled").reason(), "CANCELLED");
        assert!(cancelled.elapsed() < Duration::from_millis(150), "{:?}", cancelled.elapsed());
    }
}
