//! Files by their URL, as ADD fetches them.

mod common;
mod server;

use std::fs::OpenOptions;

use common::{client, noise};
use errors::Catalogued;
use registry::{Downloaded, RegistryError};
use server::{Reply, Server};
use sys::cancel::CancelToken;

fn fetch(url: &str, max_bytes: u64) -> (Result<Downloaded, RegistryError>, Vec<u8>) {
    let place = tempfile::NamedTempFile::new().expect("a file");
    let mut file = OpenOptions::new().write(true).open(place.path()).expect("a file");
    let limit = ("MAX_DOWNLOAD_BYTES", max_bytes);
    let found = client().download(url, &mut file, place.path(), limit, &CancelToken::new());
    (found, std::fs::read(place.path()).expect("the file"))
}

#[test]
fn a_file_comes_whole_with_its_digest() {
    let data = noise(300_000);
    let served = data.clone();
    let server = Server::start(move |request, _| Reply::ranged(request, &served));
    let (found, bytes) = fetch(&format!("http://{}/a?b=c", server.registry()), 1_000_000);
    let found = found.expect("the file");
    assert_eq!((found.size_bytes, found.digest.to_string()), (300_000, common::digest(&data)));
    assert!(bytes == data);
    assert_eq!(server.requests()[0].target, "/a?b=c");
}

#[test]
fn a_file_beyond_the_limit_is_refused_by_the_limits_name() {
    let data = noise(100_000);
    let server = Server::start(move |request, _| Reply::ranged(request, &data));
    let (found, _) = fetch(&format!("http://{}/a", server.registry()), 99_999);
    let error = found.expect_err("too large");
    assert_eq!(error.reason(), "LIMIT_EXCEEDED");
    assert!(error.to_string().contains("MAX_DOWNLOAD_BYTES"), "{error}");
}

#[test]
fn a_status_is_told_and_no_password_is() {
    let server = Server::start(|_, _| Reply::new(404, ""));
    let (found, _) = fetch(&format!("http://me:pw@{}/a?key=s", server.registry()), 1);
    let error = found.expect_err("absent");
    assert_eq!(error.reason(), "REGISTRY_PROTOCOL");
    let server = Server::start(|_, _| Reply::new(401, ""));
    let (found, _) = fetch(&format!("http://me:pw@{}/a?key=s", server.registry()), 1);
    let refused = found.expect_err("refused");
    assert_eq!(refused.reason(), "REGISTRY_ACCESS_DENIED");
    for text in [error.to_string(), refused.to_string()] {
        assert!(!text.contains("pw") && !text.contains("key"), "{text}");
    }
}

#[test]
fn what_is_no_web_address_is_refused() {
    for url in ["file:///etc/passwd", "ftp://a/b", "nonsense", "http://"] {
        assert_eq!(fetch(url, 1).0.expect_err(url).reason(), "REFERENCE_INVALID", "{url}");
    }
}
