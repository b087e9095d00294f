//! Blobs and layers from a registry into the stores, whatever the registry does.

mod common;
#[path = "../../registry/tests/server/mod.rs"]
mod server;

use std::os::unix::fs::FileExt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use common::{big_layer, digest, gzip, hex, noise, reason, tar_of, Place};
use errors::Catalogued;
use ingest::{extract_layer, fetch_blob, Phase, Progress, Task};
use server::{Ending, Reply, Server};

fn serving(blob: &[u8]) -> Server {
    let served = blob.to_vec();
    Server::start(move |request, _| Reply::ranged(request, &served))
}

#[test]
fn blob_and_layer_are_staged_in_one_pass_and_become_visible_together() {
    let (tar, blob) = big_layer();
    let server = serving(&blob);
    let place = Place::new();
    let info = place.fetch(&server.registry(), &blob, &digest(&tar)).expect("a layer");
    assert_eq!((info.layer_id.as_str(), info.entry_count), (hex(&tar).as_str(), 2));
    assert_eq!(server.requests().len(), 1);
    let progress = &place.progress;
    assert_eq!(progress.phase(), Phase::Done);
    assert_eq!((progress.fetched_bytes(), progress.fetch_requests()), (blob.len() as u64, 1));
    assert_eq!(progress.extracted_bytes(), tar.len() as u64);
    assert!(place.content.list().expect("blobs").is_empty());
    place.publish(&blob, &info);
    assert_eq!(std::fs::read(place.layer_file(&info, "a/small")).expect("a file"), b"small");
    assert_eq!(std::fs::read(place.layer_file(&info, "a/big")).expect("a file"), noise(1_000_000));
}

#[test]
fn what_is_there_is_not_fetched_again() {
    let (tar, blob) = big_layer();
    let server = serving(&blob);
    let place = Place::new();
    let info = place.fetch(&server.registry(), &blob, &digest(&tar)).expect("a layer");
    assert_eq!(place.fetch(&server.registry(), &blob, &digest(&tar)).expect("staged"), info);
    place.publish(&blob, &info);
    assert_eq!(place.fetch(&server.registry(), &blob, &digest(&tar)).expect("visible"), info);
    assert_eq!((server.requests().len(), place.progress.phase()), (1, Phase::Present));

    // The layer alone is missing: unpacked from the stored blob. The blob alone is missing: fetched.
    place.layers.delete(&info.layer_id).expect("deleted");
    assert!(place.fetch(&server.registry(), &blob, &digest(&tar)).is_ok());
    assert_eq!(server.requests().len(), 1);
    place.content.delete(&content::Digest::parse(&digest(&blob)).expect("a digest")).expect("deleted");
    assert!(place.fetch(&server.registry(), &blob, &digest(&tar)).is_ok());
    assert_eq!(server.requests().len(), 2);
}

#[test]
fn a_blob_alone_is_fetched_and_then_unpacked_from_the_store() {
    let (tar, blob) = big_layer();
    let server = serving(&blob);
    let place = Place::new();
    let name = digest(&blob);
    fetch_blob(&place.blob(&server.registry(), &name, blob.len()), &place.content, place.task())
        .expect("a blob");
    assert!(place.has_no_layer());
    let info = extract_layer(&name, &digest(&tar), place.stores(), place.task()).expect("a layer");
    assert_eq!(info.diff_id.to_string(), digest(&tar));
    let missing = extract_layer(&digest(b"x"), &digest(b"y"), place.stores(), place.task());
    assert_eq!(reason(missing), "BLOB_NOT_FOUND");
}

#[test]
fn r06_a_broken_transfer_goes_on_under_the_running_extraction() {
    let (tar, blob) = big_layer();
    let served = blob.clone();
    let server = Server::start(move |request, earlier| {
        let reply = Reply::ranged(request, &served);
        if earlier < 2 {
            reply.ending(Ending::Cut(200_000))
        } else {
            reply
        }
    });
    let place = Place::new();
    let info = place.fetch(&server.registry(), &blob, &digest(&tar)).expect("a layer");
    assert_eq!((server.requests().len(), place.progress.fetch_requests()), (3, 3));
    place.publish(&blob, &info);
    assert_eq!(std::fs::read(place.layer_file(&info, "a/big")).expect("a file"), noise(1_000_000));
}

#[test]
fn r06_a_partial_blob_outlives_the_failure_and_is_resumed() {
    let (tar, blob) = big_layer();
    let half = blob.len() / 2;
    let broken = {
        let served = blob.clone();
        Server::start(move |_, _| Reply::new(200, served.clone()).ending(Ending::Cut(half)))
    };
    let place = Place::new();
    assert_eq!(reason(place.fetch(&broken.registry(), &blob, &digest(&tar))), "REGISTRY_UNREACHABLE");
    assert_eq!(place.partial(&blob), half as i64);
    assert!(place.has_no_layer());
    let whole = serving(&blob);
    place.fetch(&whole.registry(), &blob, &digest(&tar)).expect("a layer");
    let requests = whole.requests();
    assert_eq!((requests.len(), requests[0].range_start()), (1, Some(half)));
    assert_eq!(place.progress.extracted_bytes(), tar.len() as u64);
}

#[test]
fn r07_a_resumed_transfer_that_starts_over_gives_the_right_blob() {
    let (tar, blob) = big_layer();
    let served = blob.clone();
    let half = blob.len() / 2;
    let server = Server::start(move |_, earlier| {
        let reply = Reply::new(200, served.clone());
        if earlier < 3 {
            reply.ending(Ending::Cut(half))
        } else {
            reply
        }
    });
    let place = Place::new();
    assert_eq!(reason(place.fetch(&server.registry(), &blob, &digest(&tar))), "REGISTRY_UNREACHABLE");
    let info = place.fetch(&server.registry(), &blob, &digest(&tar)).expect("a layer");
    place.publish(&blob, &info);
    assert_eq!(std::fs::read(place.layer_file(&info, "a/big")).expect("a file"), noise(1_000_000));
}

#[test]
fn a_partial_blob_that_was_damaged_on_disk_is_fetched_anew() {
    let (tar, blob) = big_layer();
    for damaged_at in [3, 100_000] {
        let place = Place::new();
        let folder = place.root.path().join("ingest").join(hex(&blob));
        std::fs::create_dir(&folder).expect("a folder");
        std::fs::write(folder.join("data"), &blob[..200_000]).expect("a partial blob");
        let file = std::fs::File::options().write(true).open(folder.join("data")).expect("the file");
        file.write_all_at(b"damaged by a power cut", damaged_at).expect("written");
        let server = serving(&blob);
        place.fetch(&server.registry(), &blob, &digest(&tar)).expect("a layer");
        let starts: Vec<_> = server.requests().iter().map(server::Request::range_start).collect();
        assert_eq!(starts, [Some(200_000), None]);
    }
}

#[test]
fn wrong_bytes_are_a_digest_mismatch_and_leave_nothing_to_resume() {
    let (tar, blob) = big_layer();
    for wrong_at in [0, 500_000, blob.len() - 3] {
        let mut wrong = blob.clone();
        wrong[wrong_at] ^= 1;
        let served = wrong.clone();
        let server = Server::start(move |request, _| Reply::ranged(request, &served));
        let place = Place::new();
        let error = place.fetch(&server.registry(), &blob, &digest(&tar)).expect_err("wrong bytes");
        assert_eq!(error.reason(), "DIGEST_MISMATCH", "{wrong_at}: {error}");
        assert!(place.has_no_layer() && place.partial(&blob) == -1);
        let good = serving(&blob);
        assert!(place.fetch(&good.registry(), &blob, &digest(&tar)).is_ok());
    }
}

#[test]
fn a_mirror_that_lies_is_passed_over_and_the_registry_asked() {
    let (tar, blob) = big_layer();
    let mut wrong = blob.clone();
    wrong[500_000] ^= 1;
    let lying = wrong.clone();
    let mirror = Server::start(move |request, _| Reply::ranged(request, &lying));
    let served = blob.clone();
    let honest = Server::start(move |request, _| Reply::ranged(request, &served));
    let mut place = Place::new();
    place.mirror(&honest.registry(), &mirror.registry());
    place.fetch(&honest.registry(), &blob, &digest(&tar)).expect("the layer");
    assert_eq!((mirror.requests().len(), honest.requests().len()), (1, 1));

    let lying = wrong.clone();
    let liar = Server::start(move |request, _| Reply::ranged(request, &lying));
    let mut place = Place::new();
    place.mirror(&liar.registry(), &mirror.registry());
    let error = place.fetch(&liar.registry(), &blob, &digest(&tar)).expect_err("both lie");
    assert_eq!(error.reason(), "DIGEST_MISMATCH");
    assert_eq!(liar.requests().len(), 1);
}

#[test]
fn another_blob_with_the_right_diff_id_is_still_a_digest_mismatch() {
    let tar = tar_of(&[("f", b"x")]);
    let (blob, mut other) = (gzip(&tar), tar.clone());
    other.truncate(blob.len());
    // As long as the real blob, and unpacking to the same archive: gzip passes over what follows its last member.
    let mut twin = gzip(&tar);
    twin[4..8].copy_from_slice(b"time");
    let server = serving(&twin);
    let place = Place::new();
    assert_eq!(reason(place.fetch(&server.registry(), &blob, &digest(&tar))), "DIGEST_MISMATCH");
    assert!(place.has_no_layer() && place.content.list_ingests().expect("ingests").is_empty());
}

#[test]
fn r14_a_wrong_diff_id_is_refused_and_the_blob_is_not_blamed() {
    let (tar, blob) = big_layer();
    let server = serving(&blob);
    let place = Place::new();
    let error = place.fetch(&server.registry(), &blob, &digest(b"another")).expect_err("a lie");
    assert_eq!(error.reason(), "DIFF_ID_MISMATCH");
    assert!(place.has_no_layer());
    // The blob is right and whole, so that a retry with the right diff_id fetches nothing.
    assert!(place.fetch(&server.registry(), &blob, &digest(&tar)).is_ok());
    assert_eq!(server.requests().len(), 1);
}

#[test]
fn x16_a_truncated_layer_fails_soon_and_leaves_no_layer() {
    let tar = tar_of(&[("f", &noise(1800))]);
    let cut = tar[..512 + 1000].to_vec();
    let compressed = gzip(&tar);
    for blob in [cut, gzip(&tar[..512 + 1000]), compressed[..compressed.len() - 20].to_vec(), Vec::new()] {
        let server = serving(&blob);
        let place = Place::new();
        let started = Instant::now();
        assert_eq!(reason(place.fetch(&server.registry(), &blob, &digest(&tar))), "LAYER_CORRUPT");
        assert!(started.elapsed() < Duration::from_secs(5) && place.has_no_layer());
    }
}

#[test]
fn an_escaping_entry_is_rejected_and_the_whole_blob_is_known_to_be_the_right_one() {
    let mut header = tar::Header::new_gnu();
    header.set_size(0);
    header.as_mut_bytes()[..5].copy_from_slice(b"../up");
    header.set_cksum();
    let mut builder = tar::Builder::new(Vec::new());
    builder.append(&header, &b""[..]).expect("an entry");
    let tar = builder.into_inner().expect("a tar");
    let server = serving(&tar);
    let place = Place::new();
    let error = place.fetch(&server.registry(), &tar, &digest(&tar)).expect_err("escapes");
    assert_eq!(error.reason(), "LAYER_REJECTED");
    assert!(place.has_no_layer() && !place.root.path().join("up").exists());
}

#[test]
fn a_descriptor_that_lies_about_the_size_is_a_size_mismatch() {
    let (tar, blob) = big_layer();
    let name = digest(&blob);
    for size in [blob.len() - 1, blob.len() + 1, 0] {
        let server = serving(&blob);
        let place = Place::new();
        let registry = server.registry();
        let remote = place.blob(&registry, &name, size);
        let outcome = ingest::fetch_layer(&remote, "", &digest(&tar), place.stores(), place.task());
        let reason = reason(outcome);
        // A size of nothing needs no request to be found out.
        assert!(reason == "SIZE_MISMATCH" || size == 0 && reason == "DIGEST_MISMATCH", "{size}: {reason}");
        assert!(place.has_no_layer());
    }
    let server = serving(&blob);
    let place = Place::new();
    place.fetch(&server.registry(), &blob, &digest(&tar)).expect("a layer");
    let registry = server.registry();
    let lying = place.blob(&registry, &name, 5);
    assert_eq!(reason(fetch_blob(&lying, &place.content, place.task())), "SIZE_MISMATCH");
}

#[test]
fn only_layers_are_unpacked() {
    let place = Place::new();
    let server = serving(b"");
    let registry = server.registry();
    let name = digest(b"");
    let remote = place.blob(&registry, &name, 0);
    for media_type in
        ["application/vnd.oci.image.config.v1+json", "application/vnd.oci.image.layer.v1.tar+gzip+encrypted"]
    {
        let outcome = ingest::fetch_layer(&remote, media_type, &digest(b"x"), place.stores(), place.task());
        assert_eq!(reason(outcome), "MANIFEST_INVALID");
    }
    assert!(server.requests().is_empty());
}

#[test]
fn r15_many_callers_for_one_layer_make_one_transfer() {
    let (tar, blob) = big_layer();
    let served = blob.clone();
    let server = Server::start(move |request, _| {
        std::thread::sleep(Duration::from_millis(300));
        Reply::ranged(request, &served)
    });
    let place = Arc::new(Place::new());
    let callers: Vec<_> = (0..4)
        .map(|_| {
            let (place, blob, diff_id) = (Arc::clone(&place), blob.clone(), digest(&tar));
            let registry = server.registry();
            std::thread::spawn(move || place.fetch(&registry, &blob, &diff_id))
        })
        .collect();
    for caller in callers {
        caller.join().expect("no panic").expect("a layer");
    }
    assert_eq!(server.requests().len(), 1);
}

#[test]
fn a_cancelled_fetch_ends_soon_and_keeps_what_arrived() {
    let (tar, blob) = big_layer();
    let served = blob.clone();
    let server = Server::start(move |request, _| {
        let ending = if request.range_start().is_some() { Ending::Whole } else { Ending::Stall(300_000) };
        Reply::ranged(request, &served).ending(ending)
    });
    let place = Arc::new(Place::new());
    let fetch = {
        let (place, registry, blob, diff_id) =
            (Arc::clone(&place), server.registry(), blob.clone(), digest(&tar));
        std::thread::spawn(move || place.fetch(&registry, &blob, &diff_id))
    };
    let deadline = Instant::now() + Duration::from_secs(5);
    while place.progress.fetched_bytes() < 300_000 && Instant::now() < deadline {
        std::thread::sleep(Duration::from_millis(5));
    }
    let cancelled = Instant::now();
    place.cancel.cancel();
    assert_eq!(reason(fetch.join().expect("no panic")), "CANCELLED");
    assert!(cancelled.elapsed() < Duration::from_millis(200), "{:?}", cancelled.elapsed());
    assert_eq!(place.partial(&blob), 300_000);
    assert!(place.has_no_layer());

    let (progress, cancel) = (Progress::new(), sys::cancel::CancelToken::new());
    let task = Task { progress: &progress, cancel: &cancel };
    let (registry, name) = (server.registry(), digest(&blob));
    let remote = place.blob(&registry, &name, blob.len());
    ingest::fetch_layer(&remote, "", &digest(&tar), place.stores(), task).expect("a layer");
    assert_eq!(progress.fetched_bytes(), blob.len() as u64);
}

#[test]
fn a_caller_that_waits_for_another_can_be_cancelled() {
    let (tar, blob) = big_layer();
    let served = blob.clone();
    let server = Server::start(move |_, _| Reply::new(200, served.clone()).ending(Ending::Stall(10)));
    let place = Arc::new(Place::new());
    let first = {
        let (place, registry, blob, diff_id) =
            (Arc::clone(&place), server.registry(), blob.clone(), digest(&tar));
        std::thread::spawn(move || place.fetch(&registry, &blob, &diff_id))
    };
    while server.requests().is_empty() {
        std::thread::sleep(Duration::from_millis(5));
    }
    let (progress, cancel) = (Progress::new(), sys::cancel::CancelToken::new());
    cancel.cancel();
    let (registry, name) = (server.registry(), digest(&blob));
    let remote = place.blob(&registry, &name, blob.len());
    let outcome = fetch_blob(&remote, &place.content, Task { progress: &progress, cancel: &cancel });
    assert_eq!((reason(outcome), progress.phase()), ("CANCELLED", Phase::Waiting));
    place.cancel.cancel();
    assert_eq!(reason(first.join().expect("no panic")), "CANCELLED");
}
