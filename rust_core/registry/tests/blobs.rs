//! Streaming blobs over connections that break, stall, lie and repeat themselves.

mod common;
mod server;

use std::time::{Duration, Instant};

use common::{blob, blob_from, client, digest, fact, noise, source, target};
use errors::Catalogued;
use server::{Ending, Reply, Server};
use sys::cancel::CancelToken;

const SIZE: usize = 300_000;

#[test]
fn a_blob_arrives_whole_and_in_order() {
    let data = noise(5_000_000);
    let served = data.clone();
    let server = Server::start(move |_, _| Reply::new(200, served.clone()));
    assert!(blob(&server.registry(), &data).expect("the blob") == (data.clone(), 1));
    assert_eq!(server.requests()[0].target, format!("/v2/a/b/blobs/{}", digest(&data)));
}

#[test]
fn r06_a_cut_transfer_is_resumed_where_it_broke() {
    let data = noise(SIZE);
    let served = data.clone();
    let server = Server::start(move |request, earlier| match earlier {
        0 => Reply::ranged(request, &served).ending(Ending::Cut(SIZE / 2)),
        1 => Reply::ranged(request, &served).ending(Ending::Cut(SIZE / 4)),
        _ => Reply::ranged(request, &served),
    });
    assert!(blob(&server.registry(), &data).expect("the blob") == (data, 3));
    let starts: Vec<_> = server.requests().iter().map(server::Request::range_start).collect();
    assert_eq!(starts, [None, Some(SIZE / 2), Some(SIZE / 2 + SIZE / 4)]);
}

#[test]
fn r06_a_transfer_that_stalls_is_broken_off_and_resumed() {
    let data = noise(SIZE);
    let served = data.clone();
    let server = Server::start(move |request, earlier| {
        let ending = if earlier == 0 { Ending::Stall(1000) } else { Ending::Whole };
        Reply::ranged(request, &served).ending(ending)
    });
    assert!(blob(&server.registry(), &data).expect("the blob").0 == data);
}

#[test]
fn r06_a_short_body_is_never_taken_for_the_blob() {
    let data = noise(SIZE);
    let short = data[..1000].to_vec();
    // Announced short, chunked and short at every try, and nothing at all.
    for reply in [
        Reply::new(200, short.clone()),
        Reply::new(200, short).length(None),
        Reply::new(200, ""),
        Reply::new(200, "").length(None),
    ] {
        let server = Server::start(move |_, _| reply.clone());
        let error = blob(&server.registry(), &data).expect_err("short");
        assert_eq!(error.reason(), "SIZE_MISMATCH", "{error}");
        assert_eq!(fact(&error, "expected_bytes"), SIZE.to_string());
    }
}

#[test]
fn r06_a_transfer_that_always_breaks_ends_after_few_attempts() {
    let data = noise(SIZE);
    let served = data.clone();
    let server = Server::start(move |_, _| Reply::new(200, served.clone()).ending(Ending::Cut(10)));
    let error = blob(&server.registry(), &data).expect_err("broken");
    assert_eq!((error.reason(), fact(&error, "attempt_count").as_str()), ("REGISTRY_UNREACHABLE", "5"));
    assert_eq!(server.requests().len(), 5);
}

#[test]
fn a_long_transfer_over_a_bad_line_may_break_more_often_than_the_attempts() {
    let data = noise(9_000_000);
    let served = data.clone();
    let server = Server::start(move |request, _| {
        let reply = Reply::ranged(request, &served);
        let cut = reply.body.len().min(1_200_000);
        let ending = if cut < reply.body.len() { Ending::Cut(cut) } else { Ending::Whole };
        reply.ending(ending)
    });
    let (bytes, requests) = blob(&server.registry(), &data).expect("the blob");
    assert!(bytes == data && requests == 8, "{requests}");
}

#[test]
fn r07_a_server_that_ignores_the_range_starts_over_and_no_byte_comes_twice() {
    let data = noise(SIZE);
    for length in [Some(SIZE), None] {
        let served = data.clone();
        let server = Server::start(move |_, earlier| match earlier {
            0 => Reply::new(200, served.clone()).ending(Ending::Cut(SIZE / 2)),
            _ => Reply::new(200, served.clone()).length(length),
        });
        assert!(blob(&server.registry(), &data).expect("the blob") == (data.clone(), 2));
    }
}

#[test]
fn r07_a_range_other_than_the_one_asked_for_is_not_appended() {
    let data = noise(SIZE);
    let half = SIZE / 2;
    for wrong in [
        format!("bytes 0-{}/{SIZE}", SIZE - 1),
        format!("bytes {}-{}/{SIZE}", half + 1, SIZE - 1),
        format!("bytes {}-{}/{SIZE}", half - 1, SIZE - 1),
        "nonsense".to_owned(),
        String::new(),
    ] {
        let served = data.clone();
        let range = wrong.clone();
        let server = Server::start(move |request, earlier| match (earlier, request.range_start()) {
            (0, _) => Reply::new(200, served.clone()).ending(Ending::Cut(half)),
            (_, Some(start)) => Reply::new(206, &served[start..]).with("Content-Range", &*range),
            (_, None) => Reply::new(200, served.clone()),
        });
        assert!(blob(&server.registry(), &data).expect("the blob").0 == data, "{wrong}");
        assert_eq!(server.requests().len(), 3, "{wrong}");
    }
}

#[test]
fn r07_a_transfer_begun_earlier_goes_on_at_its_offset() {
    let data = noise(SIZE);
    for honours_range in [true, false] {
        let served = data.clone();
        let server = Server::start(move |request, _| {
            if honours_range {
                Reply::ranged(request, &served)
            } else {
                Reply::new(200, served.clone())
            }
        });
        let (bytes, _) = blob_from(&server.registry(), &digest(&data), SIZE, 1234).expect("the rest");
        assert!(bytes == data[1234..]);
        assert_eq!(server.requests()[0].range_start(), Some(1234));
    }
}

#[test]
fn r07_a_range_that_cannot_be_satisfied_names_the_true_size() {
    let data = noise(SIZE);
    let server = Server::start(|_, _| Reply::new(416, "").with("Content-Range", "bytes */77"));
    let error = blob_from(&server.registry(), &digest(&data), SIZE, 100).expect_err("another size");
    assert_eq!((error.reason(), fact(&error, "actual_bytes").as_str()), ("SIZE_MISMATCH", "77"));
    let served = data.clone();
    let server = Server::start(move |request, _| match request.range_start() {
        Some(_) => Reply::new(416, ""),
        None => Reply::new(200, served.clone()),
    });
    assert!(blob_from(&server.registry(), &digest(&data), SIZE, 100).expect("the rest").0 == data[100..]);
}

#[test]
fn more_bytes_than_the_descriptor_says_stop_the_transfer() {
    let data = noise(SIZE);
    for length in [Some(SIZE), None] {
        let served = data.clone();
        let server = Server::start(move |_, _| Reply::new(200, served.clone()).length(length));
        for size in [SIZE - 1, 1, 0] {
            let error = blob_from(&server.registry(), &digest(&data), size, 0).expect_err("longer");
            assert_eq!(error.reason(), "SIZE_MISMATCH", "{size} {length:?}");
        }
    }
}

#[test]
fn r04_a_malformed_digest_sends_nothing() {
    let server = Server::start(|_, _| Reply::new(200, ""));
    let error = blob_from(&server.registry(), "sha256:../../x", 1, 0).expect_err("malformed");
    assert_eq!(error.reason(), "DIGEST_INVALID");
    assert!(server.requests().is_empty());
}

#[test]
fn an_unknown_blob_is_named() {
    let server = Server::start(|_, _| Reply::new(404, "no"));
    let error = blob(&server.registry(), b"x").expect_err("unknown");
    assert_eq!((error.reason(), fact(&error, "digest")), ("BLOB_NOT_FOUND", digest(b"x")));
}

#[test]
fn a_cancelled_transfer_ends_soon() {
    let data = noise(SIZE);
    let served = data.clone();
    let server = Server::start(move |_, _| Reply::new(200, served.clone()).ending(Ending::Stall(1000)));
    let cancel = CancelToken::new();
    let client = client();
    let (registry, name) = (server.registry(), digest(&data));
    let mut reader =
        client.open_blob(&source(target(&registry), &name, SIZE), 0, 0, &cancel).expect("a reader");
    assert_eq!(reader.next_chunk().expect("the first bytes").map(|chunk| chunk.len()), Some(1000));
    let started = Instant::now();
    cancel.cancel();
    assert_eq!(reader.next_chunk().expect_err("cancelled").reason(), "CANCELLED");
    assert!(started.elapsed() < Duration::from_millis(150));
}

#[test]
fn a_slow_reader_slows_the_transfer_instead_of_filling_memory() {
    let data = noise(64 << 20);
    let served = data.clone();
    let server = Server::start(move |_, _| Reply::new(200, served.clone()));
    let client = client();
    let (registry, name) = (server.registry(), digest(&data));
    let source = source(target(&registry), &name, data.len());
    let mut reader = client.open_blob(&source, 0, 0, &CancelToken::new()).expect("a reader");
    std::thread::sleep(Duration::from_millis(1500));
    // Longer than the stall timeout: waiting for the reader is no stall.
    let mut received = 0;
    while let Some(chunk) = reader.next_chunk().expect("a chunk") {
        assert!(chunk.len() <= 1 << 20, "{}", chunk.len());
        received += chunk.len();
    }
    assert_eq!((received, reader.request_count()), (data.len(), 1));
}
