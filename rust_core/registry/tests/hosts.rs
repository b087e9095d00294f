//! Mirrors, their order and what they may, proxies, and transfers that drip.

mod common;
mod server;

use std::path::Path;
use std::time::{Duration, Instant};

use common::{config, digest, fact, manifest_body, nobody, noise, source, IMAGE};
use errors::Catalogued;
use registry::{ClientConfig, Credentials, Proxies, RegistryClient, RegistryError, Target};
use server::{Ending, Reply, Server};
use sys::cancel::CancelToken;

fn found() -> Reply {
    Reply::new(200, manifest_body()).with("Content-Type", IMAGE)
}

fn write_hosts(root: &Path, name: &str, text: &str) {
    std::fs::create_dir_all(root.join(name)).expect("a directory");
    std::fs::write(root.join(name).join("hosts.toml"), text).expect("a file");
}

/// A client for which `registry.test` has these settings.
fn client_with(text: &str) -> (tempfile::TempDir, RegistryClient) {
    let dir = tempfile::tempdir().expect("a directory");
    write_hosts(dir.path(), "registry.test", text);
    let client = RegistryClient::new(ClientConfig { hosts_dir: Some(dir.path().to_owned()), ..config() });
    (dir, client)
}

fn of(credentials: &Credentials) -> Target<'_> {
    Target { registry: "registry.test", repository: "a/b", credentials }
}

fn read(client: &RegistryClient, data: &[u8]) -> Result<Vec<u8>, RegistryError> {
    let name = digest(data);
    let source = source(of(nobody()), &name, data.len());
    let mut reader = client.open_blob(&source, 0, 0, &CancelToken::new())?;
    let mut bytes = Vec::new();
    while let Some(chunk) = reader.next_chunk()? {
        bytes.extend_from_slice(&chunk);
    }
    Ok(bytes)
}

#[test]
fn mirrors_are_asked_in_order_until_one_has_it() {
    let first = Server::start(|_, _| Reply::new(404, ""));
    let second = Server::start(|_, _| Reply::new(503, ""));
    let third = Server::start(|_, _| found());
    let (_dir, client) = client_with(&format!(
        "[host.\"http://{}\"]\n[host.\"http://{}\"]\n[host.\"http://{}\"]\n",
        first.registry(),
        second.registry(),
        third.registry()
    ));
    client.fetch_manifest(of(nobody()), "v1", &CancelToken::new()).expect("a manifest");
    assert_eq!((first.requests().len(), second.requests().len(), third.requests().len()), (1, 2, 1));
    assert_eq!(third.requests()[0].target, "/v2/a/b/manifests/v1?ns=registry.test");
}

#[test]
fn a_mirror_that_lies_is_passed_over_and_one_that_is_dead_costs_little() {
    let gone = std::net::TcpListener::bind("127.0.0.1:0").expect("a port").local_addr().expect("its address");
    let liar = Server::start(|_, _| Reply::new(200, manifest_body()).with("Content-Type", "text/html"));
    let honest = Server::start(|_, _| found());
    let (_dir, client) = client_with(&format!(
        "server = \"http://{}\"\n[host.\"http://{gone}\"]\n[host.\"http://{}\"]\n",
        honest.registry(),
        liar.registry()
    ));
    let started = Instant::now();
    client.fetch_manifest(of(nobody()), &digest(&manifest_body()), &CancelToken::new()).expect("a manifest");
    assert!(started.elapsed() < Duration::from_secs(2));
}

#[test]
fn a_mirror_is_asked_only_for_what_it_may() {
    let mirror = Server::start(|_, _| found());
    let server = Server::start(|_, _| found());
    let (_dir, client) = client_with(&format!(
        "server = \"http://{}\"\n[host.\"http://{}\"]\ncapabilities = [\"pull\"]\n",
        server.registry(),
        mirror.registry()
    ));
    client.fetch_manifest(of(nobody()), "v1", &CancelToken::new()).expect("by tag");
    assert_eq!((mirror.requests().len(), server.requests().len()), (0, 1));
    client.fetch_manifest(of(nobody()), &digest(&manifest_body()), &CancelToken::new()).expect("by digest");
    assert_eq!((mirror.requests().len(), server.requests().len()), (1, 1));
    client
        .push_manifest(of(nobody()), "v1", IMAGE, manifest_body(), &CancelToken::new())
        .expect("pushed to the registry itself");
    assert_eq!((mirror.requests().len(), server.requests()[1].method.as_str()), (1, "PUT"));

    let (_dir, client) = client_with("capabilities = [\"pull\"]\n");
    let error = client.fetch_manifest(of(nobody()), "v1", &CancelToken::new()).expect_err("none may");
    assert_eq!(error.reason(), "REGISTRY_CONFIG_INVALID");
}

#[test]
fn headers_and_path_are_those_of_the_file() {
    let mirror = Server::start(|_, _| found());
    let (_dir, client) = client_with(&format!(
        "[host.\"http://{0}/cache/hub\"]\noverride_path = true\n[host.\"http://{0}/cache/hub\".header]\nx-key = \"k\"\n",
        mirror.registry()
    ));
    client.fetch_manifest(of(nobody()), "v1", &CancelToken::new()).expect("a manifest");
    let request = &mirror.requests()[0];
    assert_eq!(request.target, "/cache/hub/a/b/manifests/v1?ns=registry.test");
    assert_eq!(request.header("x-key"), Some("k"));
}

#[test]
fn r05_headers_of_a_mirror_do_not_follow_its_redirects() {
    let elsewhere = Server::start(|_, _| found());
    let there = format!("http://{}/m", elsewhere.registry());
    let mirror = Server::start(move |_, _| Reply::new(307, "").with("Location", &*there));
    let (_dir, client) = client_with(&format!(
        "[host.\"http://{0}\".header]\nx-key = \"k\"\nauthorization = \"Bearer fixed\"\n",
        mirror.registry()
    ));
    client.fetch_manifest(of(nobody()), "v1", &CancelToken::new()).expect("a manifest");
    assert_eq!(mirror.requests()[0].header("authorization"), Some("Bearer fixed"));
    let request = &elsewhere.requests()[0];
    assert_eq!((request.header("x-key"), request.header("authorization")), (None, None));
}

#[test]
fn r05_the_callers_credentials_are_never_shown_to_a_mirror() {
    let mirror = Server::start(|_, _| Reply::new(401, "").with("WWW-Authenticate", "Basic realm=\"x\""));
    let server = Server::start(|request, _| match request.header("authorization") {
        Some(_) => found(),
        None => Reply::new(401, "").with("WWW-Authenticate", "Basic realm=\"x\""),
    });
    let dir = tempfile::tempdir().expect("a directory");
    write_hosts(dir.path(), &server.registry(), &format!("[host.\"http://{}\"]\n", mirror.registry()));
    let client = RegistryClient::new(ClientConfig { hosts_dir: Some(dir.path().to_owned()), ..config() });
    let user = Credentials::new("user", "hunter2", "", "");
    let target = Target { registry: &server.registry(), repository: "a/b", credentials: &user };
    client.fetch_manifest(target, "v1", &CancelToken::new()).expect("a manifest");
    assert!(mirror.requests().iter().all(|request| request.header("authorization").is_none()));
    assert!(server.requests()[1].header("authorization").is_some());
}

#[test]
fn a_mirror_has_the_credentials_that_the_daemons_file_holds_for_it() {
    let mirror = Server::start(|request, _| match request.header("authorization") {
        Some("Basic bTptcA==") => found(),
        _ => Reply::new(401, "").with("WWW-Authenticate", "Basic realm=\"x\""),
    });
    let dir = tempfile::tempdir().expect("a directory");
    write_hosts(dir.path(), "registry.test", &format!("[host.\"http://{}\"]\n", mirror.registry()));
    let auth_file = dir.path().join("config.json");
    std::fs::write(&auth_file, format!(r#"{{"auths":{{"{}":{{"auth":"bTptcA=="}}}}}}"#, mirror.registry()))
        .expect("a file");
    let config =
        ClientConfig { hosts_dir: Some(dir.path().to_owned()), auth_file: Some(auth_file), ..config() };
    let client = RegistryClient::new(config);
    let user = Credentials::new("user", "hunter2", "", "");
    client.fetch_manifest(of(&user), "v1", &CancelToken::new()).expect("a manifest");
}

#[test]
fn a_blob_goes_on_at_the_next_host_where_the_mirror_broke_off() {
    let data = noise(300_000);
    let (served, rest) = (data.clone(), data.clone());
    let mirror = Server::start(move |request, _| match request.range_start() {
        None => Reply::new(200, served.clone()).ending(Ending::Cut(100_000)),
        Some(_) => Reply::new(503, ""),
    });
    let server = Server::start(move |request, _| Reply::ranged(request, &rest));
    let (_dir, client) = client_with(&format!(
        "server = \"http://{}\"\n[host.\"http://{}\"]\n",
        server.registry(),
        mirror.registry()
    ));
    assert!(read(&client, &data).expect("the blob") == data);
    assert_eq!(server.requests()[0].range_start(), Some(100_000));
}

#[test]
fn settings_that_change_count_from_the_next_request_on() {
    let one = Server::start(|_, _| found());
    let two = Server::start(|_, _| found());
    let (dir, client) = client_with(&format!("[host.\"http://{}\"]\n", one.registry()));
    client.fetch_manifest(of(nobody()), "v1", &CancelToken::new()).expect("a manifest");
    write_hosts(dir.path(), "registry.test", &format!("# moved\n[host.\"http://{}\"]\n", two.registry()));
    client.fetch_manifest(of(nobody()), "v1", &CancelToken::new()).expect("a manifest");
    assert_eq!((one.requests().len(), two.requests().len()), (1, 1));
}

#[test]
fn other_hosts_are_asked_by_the_proxy_and_this_one_never() {
    let proxy = Server::start(|_, _| found());
    let own = Server::start(|_, _| found());
    let dir = tempfile::tempdir().expect("a directory");
    write_hosts(dir.path(), "registry.test", "server = \"http://registry.test:5000\"\n");
    write_hosts(dir.path(), "near.test", "server = \"http://near.test:5000\"\n");
    let proxies = Proxies {
        http: format!("http://me:hunter2@{}", proxy.registry()),
        https: String::new(),
        excepted: "near.test,10.0.0.0/8".to_owned(),
    };
    assert!(!format!("{proxies:?}").contains("hunter2"));
    let config =
        ClientConfig { proxies, hosts_dir: Some(dir.path().to_owned()), max_attempts: 1, ..config() };
    let client = RegistryClient::new(config);
    client.fetch_manifest(of(nobody()), "v1", &CancelToken::new()).expect("by the proxy");
    let request = &proxy.requests()[0];
    assert_eq!(request.target, "http://registry.test:5000/v2/a/b/manifests/v1?ns=registry.test");
    assert_eq!(request.header("proxy-authorization"), Some("Basic bWU6aHVudGVyMg=="));
    client
        .fetch_manifest(Target { registry: &own.registry(), ..of(nobody()) }, "v1", &CancelToken::new())
        .expect("without it");
    let near = Target { registry: "near.test", ..of(nobody()) };
    let error = client.fetch_manifest(near, "v1", &CancelToken::new()).expect_err("no such host");
    assert!(!format!("{error:?}").contains("hunter2"));
    assert_eq!((proxy.requests().len(), own.requests().len()), (1, 1));
}

#[test]
fn a_proxy_that_is_none_is_named_without_its_password() {
    let proxies = Proxies { http: "ht!tp://me:hunter2@".to_owned(), ..Proxies::default() };
    let client = RegistryClient::new(ClientConfig { proxies, ..config() });
    let error = client.fetch_manifest(of(nobody()), "v1", &CancelToken::new()).expect_err("no proxy");
    assert_eq!(error.reason(), "REGISTRY_CONFIG_INVALID");
    assert!(!format!("{error:?}").contains("hunter2"));
}

#[test]
fn a_blob_that_drips_is_broken_off_by_a_limit_with_a_name() {
    let data = noise(100_000);
    let served = data.clone();
    let server = Server::start(move |request, _| {
        Reply::ranged(request, &served).ending(Ending::Drip(Duration::from_millis(20)))
    });
    let config = ClientConfig {
        pace_window: Duration::from_millis(300),
        pace_min_bytes: 1000,
        max_attempts: 2,
        ..config()
    };
    let client = RegistryClient::new(config);
    let target = Target { registry: &server.registry(), ..of(nobody()) };
    let name = digest(&data);
    let source = source(target, &name, data.len());
    let mut reader = client.open_blob(&source, 0, 0, &CancelToken::new()).expect("a reader");
    let started = Instant::now();
    let error = loop {
        match reader.next_chunk() {
            Ok(Some(_)) => {}
            Ok(None) => panic!("it never ends"),
            Err(error) => break error,
        }
    };
    assert_eq!((error.reason(), fact(&error, "limit").as_str()), ("LIMIT_EXCEEDED", "pace_min_bytes"));
    assert_eq!(fact(&error, "limit_value"), "1000");
    assert!(started.elapsed() < Duration::from_secs(5));
    assert_eq!(server.requests().len(), 2);
}
