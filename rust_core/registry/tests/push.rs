//! Pushing blobs to registries that mount, forget, cut, lie and limit.

mod common;
mod server;
mod uploads;

use std::io::Write;
use std::sync::Arc;
use std::time::{Duration, Instant};

use common::{client, config, digest, fact, manifest_body, noise, target, IMAGE};
use errors::Catalogued;
use registry::{ClientConfig, FileBlob, Pushed, RegistryClient, UploadProgress};
use server::{Reply, Server};
use sys::cancel::CancelToken;
use uploads::{behave, chunked, location, methods, plain, push, push_with, registry_that, status_of, Shared};

#[test]
fn a_blob_is_sent_once_and_is_there_then() {
    let data = noise(1_000_000);
    let (server, store) = plain();
    let progress = UploadProgress::default();
    assert_eq!(progress.phase(), "waiting");
    assert_eq!(push_with(&client(), &server, &data, None, &progress).expect("pushed"), Pushed::Sent);
    assert_eq!((progress.phase(), progress.sent_bytes()), ("done", data.len() as u64));
    assert!(store.lock().expect("the store").blobs[&digest(&data)] == data);
    assert_eq!(methods(&server), ["HEAD", "POST", "PATCH", "PUT"]);
    assert_eq!(push_with(&client(), &server, &data, None, &progress).expect("pushed"), Pushed::Present);
    assert_eq!(progress.phase(), "present");
    assert_eq!(server.requests().len(), 5);
}

#[test]
fn a_registry_that_refuses_to_say_whether_it_has_a_blob_gets_it() {
    let data = noise(10_000);
    for status in [400, 403, 405] {
        let (server, store) =
            registry_that(move |request, _, _| (request.method == "HEAD").then(|| Reply::new(status, "")));
        assert_eq!(push(&server, &data).expect("pushed"), Pushed::Sent);
        assert!(store.lock().expect("the store").blobs[&digest(&data)] == data);
    }
}

#[test]
fn an_empty_blob_is_pushed_too() {
    let (server, store) = plain();
    assert_eq!(push(&server, b"").expect("pushed"), Pushed::Sent);
    assert!(store.lock().expect("the store").blobs.contains_key(&digest(b"")));
}

#[test]
fn r09_the_last_location_is_used_with_its_query_and_the_digest_added() {
    let data = noise(10_000);
    let (server, _) = plain();
    push_with(&chunked(3_000), &server, &data, None, &UploadProgress::default()).expect("pushed");
    let requests = server.requests();
    assert_eq!(methods(&server), ["HEAD", "POST", "PATCH", "PATCH", "PATCH", "PATCH", "PUT"]);
    let last = requests.last().expect("a request");
    assert_eq!(last.target, format!("/v2/a/b/blobs/uploads/1?_state=5%2B&x&digest={}", digest(&data)));
    assert_eq!(requests[3].header("content-range"), Some("3000-5999"));
    assert_eq!(requests[5].header("content-range"), Some("9000-9999"));
}

#[test]
fn r10_a_registry_that_stored_half_of_a_chunk_is_asked_where_to_go_on() {
    let data = noise(10_000);
    // It says nothing of its loss until the next chunk does not fit.
    let (server, store) = registry_that(|request, store, _| {
        (request.method == "PATCH" && store.upload.is_empty()).then(|| {
            store.upload.extend_from_slice(&request.body[..request.body.len() / 2]);
            let next = location(request, store);
            Reply::new(202, "").with("Location", next)
        })
    });
    push_with(&chunked(4_000), &server, &data, None, &UploadProgress::default()).expect("pushed");
    assert!(store.lock().expect("the store").blobs[&digest(&data)] == data);
    assert!(methods(&server).contains(&"GET".to_owned()));
}

#[test]
fn r10_a_registry_that_says_it_has_less_gets_the_rest() {
    let data = noise(10_000);
    for chunk in [0, 4_000] {
        let (server, store) = registry_that(|request, store, _| {
            (request.method == "PATCH" && store.upload.is_empty()).then(|| {
                store.upload.extend_from_slice(&request.body[..request.body.len() / 2]);
                status_of(request, store, 202)
            })
        });
        push_with(&chunked(chunk), &server, &data, None, &UploadProgress::default()).expect("pushed");
        assert!(store.lock().expect("the store").blobs[&digest(&data)] == data);
    }
}

#[test]
fn r10_a_whole_upload_that_was_stored_in_part_is_noticed_at_its_end() {
    let data = noise(10_000);
    let (server, store) = registry_that(|request, store, _| {
        (request.method == "PATCH" && store.upload.is_empty()).then(|| {
            store.upload.extend_from_slice(&request.body[..5_000]);
            let next = location(request, store);
            Reply::new(202, "").with("Location", next)
        })
    });
    push(&server, &data).expect("pushed");
    assert!(store.lock().expect("the store").blobs[&digest(&data)] == data);
    let resumed = server.requests().into_iter().filter(|request| request.method == "PATCH").nth(1);
    assert_eq!(resumed.expect("a second chunk").header("content-range"), Some("5000-9999"));
}

#[test]
fn an_upload_whose_connection_breaks_goes_on_where_the_registry_is() {
    let data = noise(3_000_000);
    let shared = Shared::default();
    let store = Arc::clone(&shared);
    let server = Server::start_reading(
        |request| {
            (request.method == "PATCH" && request.header("content-range")?.starts_with("0-"))
                .then_some(1_000_000)
        },
        move |request, _| behave(request, &mut store.lock().expect("the store")),
    );
    push(&server, &data).expect("pushed");
    assert!(shared.lock().expect("the store").blobs[&digest(&data)] == data);
    let second = server.requests().into_iter().filter(|request| request.method == "PATCH").nth(1);
    assert_eq!(second.expect("a second").header("content-range"), Some("1000000-2999999"));
}

#[test]
fn an_upload_that_the_registry_forgot_begins_again() {
    let data = noise(10_000);
    let (server, store) = registry_that(|request, _, earlier| {
        (request.method == "PATCH" && earlier == 0 && request.target.contains("_state=1%2B"))
            .then(|| Reply::new(404, ""))
    });
    push(&server, &data).expect("pushed");
    assert!(store.lock().expect("the store").blobs[&digest(&data)] == data);
    assert_eq!(methods(&server).iter().filter(|method| *method == "POST").count(), 2);
}

#[test]
fn a_registry_that_takes_no_pieces_gets_the_whole_blob_at_once() {
    let data = noise(10_000);
    let (server, store) =
        registry_that(|request, _, _| (request.method == "PATCH").then(|| Reply::new(405, "")));
    push(&server, &data).expect("pushed");
    assert!(store.lock().expect("the store").blobs[&digest(&data)] == data);
    let put = server.requests().into_iter().rfind(|request| request.method == "PUT").expect("a PUT");
    assert_eq!(put.header("content-length"), Some("10000"));
}

#[test]
fn a_chunk_is_not_smaller_than_the_registry_takes() {
    let data = noise(10_000);
    let (server, _) = registry_that(|request, store, _| {
        (request.method == "POST")
            .then(|| status_of(request, store, 202).with("OCI-Chunk-Min-Length", "6000"))
    });
    push_with(&chunked(1_000), &server, &data, None, &UploadProgress::default()).expect("pushed");
    let ranges: Vec<_> = server
        .requests()
        .iter()
        .filter_map(|request| Some(request.header("content-range")?.to_owned()))
        .collect();
    assert_eq!(ranges, ["0-5999", "6000-9999"]);
}

#[test]
fn a_blob_of_another_repository_is_mounted_and_one_that_is_not_there_is_sent() {
    let data = noise(10_000);
    let mount = format!("/v2/a/b/blobs/uploads/?mount={}&from=c/d", digest(&data));
    let wanted = mount.clone();
    let (server, _) =
        registry_that(move |request, _, _| (request.target == wanted).then(|| Reply::new(201, "")));
    let progress = UploadProgress::default();
    let pushed = push_with(&client(), &server, &data, Some("c/d"), &progress).expect("mounted");
    assert_eq!((pushed, progress.phase()), (Pushed::Mounted, "mounted"));
    assert_eq!(methods(&server), ["HEAD", "POST"]);

    let (server, store) = plain();
    assert_eq!(push_with(&client(), &server, &data, Some("c/d"), &progress).expect("sent"), Pushed::Sent);
    assert!(store.lock().expect("the store").blobs[&digest(&data)] == data);
    assert_eq!(methods(&server), ["HEAD", "POST", "PATCH", "PUT"]);

    for status in [400, 403, 404, 405] {
        let refused = mount.clone();
        let (server, _) =
            registry_that(move |request, _, _| (request.target == refused).then(|| Reply::new(status, "")));
        assert_eq!(push_with(&client(), &server, &data, Some("c/d"), &progress).expect("sent"), Pushed::Sent);
    }
}

#[test]
fn a_token_for_a_push_is_asked_for_both_repositories() {
    let data = noise(1_000);
    let (server, _) = registry_that(|request, _, _| {
        let host = request.header("host").unwrap_or_default();
        if request.target.starts_with("/token") {
            return Some(Reply::new(200, r#"{"token":"T","expires_in":300}"#));
        }
        let challenge =
            format!(r#"Bearer realm="http://{host}/token",service="s",scope="repository:a/b:pull""#);
        (request.header("authorization") != Some("Bearer T"))
            .then(|| Reply::new(401, "").with("WWW-Authenticate", challenge))
    });
    push_with(&client(), &server, &data, Some("c/d"), &UploadProgress::default()).expect("pushed");
    let tokens: Vec<_> = server
        .requests()
        .into_iter()
        .map(|request| request.target)
        .filter(|t| t.starts_with("/token"))
        .collect();
    assert_eq!(
        tokens,
        ["/token?service=s&scope=repository%3Aa%2Fb%3Apull%2Cpush&scope=repository%3Ac%2Fd%3Apull"]
    );
}

#[test]
fn r05_an_upload_sent_elsewhere_carries_no_authorization() {
    let data = noise(1_000);
    let elsewhere = Server::start(|request, _| match request.method.as_str() {
        "PATCH" => Reply::new(202, "").with("Location", "/up?b"),
        _ => Reply::new(201, ""),
    });
    let up = format!("http://{}/up?a", elsewhere.registry());
    let (server, _) = registry_that(move |request, _, _| {
        let host = request.header("host").unwrap_or_default();
        if request.target.starts_with("/token") {
            return Some(Reply::new(200, r#"{"token":"T"}"#));
        }
        let challenge = format!(r#"Bearer realm="http://{host}/token""#);
        if request.header("authorization") != Some("Bearer T") {
            return Some(Reply::new(401, "").with("WWW-Authenticate", challenge));
        }
        (request.method == "POST").then(|| Reply::new(202, "").with("Location", &*up))
    });
    push(&server, &data).expect("pushed");
    let requests = elsewhere.requests();
    assert_eq!(requests.len(), 2);
    assert!(requests.iter().all(|request| request.header("authorization").is_none()));
    assert_eq!(requests[1].target, format!("/up?b&digest={}", digest(&data)));
}

#[test]
fn an_upload_may_not_be_sent_to_a_weaker_place() {
    for place in ["http://example.com/up", "ftp://127.0.0.1/", "http://u:p@127.0.0.1/"] {
        let (server, _) = registry_that(move |request, _, _| {
            (request.method == "POST").then(|| Reply::new(202, "").with("Location", place))
        });
        assert_eq!(push(&server, b"x").expect_err(place).reason(), "REGISTRY_PROTOCOL");
    }
    let (server, _) = registry_that(|request, _, _| (request.method == "POST").then(|| Reply::new(202, "")));
    assert_eq!(push(&server, b"x").expect_err("nowhere").reason(), "REGISTRY_PROTOCOL");
}

#[test]
fn a_registry_that_never_takes_the_bytes_ends_the_push_after_few_attempts() {
    let data = noise(10_000);
    for status in [416, 404, 503] {
        let (server, _) =
            registry_that(move |request, _, _| (request.method == "PATCH").then(|| Reply::new(status, "")));
        let error = push(&server, &data).expect_err("never");
        assert_eq!(error.reason(), "REGISTRY_UNREACHABLE", "{status}");
        let patches = methods(&server).into_iter().filter(|method| method == "PATCH").count();
        assert!(patches <= 5, "{status}: {patches}");
    }
}

#[test]
fn a_registry_that_names_another_digest_is_not_believed() {
    let (server, _) = registry_that(|request, _, _| {
        let other = digest(b"another");
        (request.method == "PUT").then(|| Reply::new(201, "").with("Docker-Content-Digest", other))
    });
    assert_eq!(push(&server, b"x").expect_err("another").reason(), "REGISTRY_PROTOCOL");
    let error = client()
        .push_manifest(target(&server.registry()), "v1", IMAGE, manifest_body(), &CancelToken::new())
        .expect_err("another");
    assert_eq!(error.reason(), "REGISTRY_PROTOCOL");
}

#[test]
fn refusals_have_their_reason() {
    for (status, reason) in [
        (401, "REGISTRY_ACCESS_DENIED"),
        (403, "REGISTRY_ACCESS_DENIED"),
        (413, "REGISTRY_PROTOCOL"),
        (429, "REGISTRY_RATE_LIMITED"),
    ] {
        let (server, _) =
            registry_that(move |request, _, _| (request.method == "POST").then(|| Reply::new(status, "")));
        assert_eq!(push(&server, b"x").expect_err(reason).reason(), reason);
    }
}

#[test]
fn an_upload_that_nobody_reads_is_broken_off_and_a_cancelled_one_ends_soon() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let up = format!("http://{}/up", listener.local_addr().expect("its address"));
    let (server, _) = registry_that(move |request, _, _| {
        (request.method == "POST").then(|| Reply::new(202, "").with("Location", &*up))
    });
    let data = noise(32 << 20);
    let client = RegistryClient::new(ClientConfig { max_attempts: 1, ..config() });
    let error =
        push_with(&client, &server, &data, None, &UploadProgress::default()).expect_err("nobody reads");
    assert_eq!(error.reason(), "REGISTRY_UNREACHABLE");
    assert!(fact(&error, "detail").contains("stalled"), "{error}");

    let cancel = CancelToken::new();
    let (token, address, name) = (cancel.clone(), server.registry(), digest(&data));
    let pushing = std::thread::spawn(move || {
        let mut file = tempfile::tempfile().expect("a file");
        file.write_all(&data).expect("its bytes");
        let blob = FileBlob { digest: &name, file, size_bytes: data.len() as u64 };
        let client = RegistryClient::new(ClientConfig { stall_timeout: Duration::from_secs(60), ..config() });
        client.push_blob(target(&address), blob, None, &UploadProgress::default(), &token)
    });
    std::thread::sleep(Duration::from_millis(200));
    let started = Instant::now();
    cancel.cancel();
    assert_eq!(pushing.join().expect("a thread").expect_err("cancelled").reason(), "CANCELLED");
    assert!(started.elapsed() < Duration::from_secs(2));
}

#[test]
fn a_file_shorter_than_its_blob_is_an_error_of_this_host() {
    let (server, _) = plain();
    let file = tempfile::tempfile().expect("a file");
    let name = digest(b"long");
    let blob = FileBlob { digest: &name, file, size_bytes: 4 };
    let error = client()
        .push_blob(target(&server.registry()), blob, None, &UploadProgress::default(), &CancelToken::new())
        .expect_err("short");
    assert_eq!(error.reason(), "IO_FAILED");
}
