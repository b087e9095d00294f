//! Registries that send bytes which are no data as fast as they can: each keeps its own reader busy and no other.

mod common;
mod server;

use std::io::{Read, Write};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use common::{config, digest, manifest_body, noise, source, target, IMAGE};
use errors::Catalogued;
use registry::{ClientConfig, RegistryClient};
use server::{Reply, Server};
use sys::cancel::CancelToken;

/// Answers every request with `head` and then `piece` without end.
fn endless(head: &'static [u8], piece: &'static [u8]) -> std::io::Result<String> {
    let listener = std::net::TcpListener::bind("127.0.0.1:0")?;
    let registry = listener.local_addr()?.to_string();
    thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            thread::spawn(move || -> std::io::Result<()> {
                let _ = stream.read(&mut [0; 4096])?;
                stream.write_all(head)?;
                let many = piece.repeat(4096 / piece.len());
                loop {
                    stream.write_all(&many)?;
                }
            });
        }
    });
    Ok(registry)
}

const CHUNKED: &[u8] = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";

#[test]
fn four_registries_that_keep_their_readers_busy_do_not_hold_up_the_others() {
    let hostile = [
        endless(CHUNKED, b"0"),
        endless(CHUNKED, b"0000"),
        // White space around a chunk's size, and answers that are only preliminary, are no data either.
        endless(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5", b" "),
        endless(b"", b"HTTP/1.1 100 Continue\r\n\r\n"),
    ]
    .map(|started| started.expect("a socket"));
    let data = noise(2_000_000);
    let (served, blob) = (data.clone(), digest(&data));
    let sound = Server::start(move |request, _| match request.target.contains("/blobs/") {
        true => Reply::ranged(request, &served),
        false => Reply::new(200, manifest_body()).with("Content-Type", IMAGE),
    });
    let patient = ClientConfig { stall_timeout: Duration::from_secs(30), ..config() };
    let shared =
        Arc::new(RegistryClient::new(ClientConfig { header_timeout: patient.stall_timeout, ..patient }));
    let cancel = CancelToken::new();
    let fetches = hostile.map(|registry| {
        let (client, token) = (Arc::clone(&shared), cancel.clone());
        thread::spawn(move || client.fetch_manifest(target(&registry), "v1", &token))
    });
    thread::sleep(Duration::from_millis(300));
    let started = Instant::now();
    let registry = sound.registry();
    for _ in 0..5 {
        shared.fetch_manifest(target(&registry), "v1", &CancelToken::new()).expect("a manifest");
        let source = source(target(&registry), &blob, data.len());
        let mut reader = shared.open_blob(&source, 0, 0, &CancelToken::new()).expect("a reader");
        let mut count = 0;
        while let Some(chunk) = reader.next_chunk().expect("a chunk") {
            count += chunk.len();
        }
        assert_eq!(count, data.len());
    }
    let took = started.elapsed();
    cancel.cancel();
    for fetch in fetches {
        let error = fetch.join().expect("no panic").expect_err("it never ends");
        // Some of these answers are refused at once, and the rest goes on until it is cancelled.
        assert!(["CANCELLED", "REGISTRY_UNREACHABLE"].contains(&error.reason()), "{error}");
    }
    // Fairly shared processors, with whatever else this machine does.
    assert!(took < Duration::from_secs(10), "{took:?}");
}

#[test]
fn a_registry_that_keeps_its_reader_busy_is_given_up() {
    let registry = endless(CHUNKED, b"0").expect("a socket");
    // Clocks are looked at between the reader's turns, each of which works through some megabytes.
    let client = RegistryClient::new(ClientConfig { max_attempts: 1, ..config() });
    let error = client.fetch_manifest(target(&registry), "v1", &CancelToken::new()).expect_err("no end");
    assert_eq!(error.reason(), "REGISTRY_UNREACHABLE", "{error}");
}
