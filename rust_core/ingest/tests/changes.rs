//! A directory of changes becomes a blob and a layer.

mod common;

use std::io::{Read, Write};
use std::os::fd::AsFd;

use common::{digest, reason, Place};
use ingest::{compress_archive, repack, store_changes, ArchiveFile, Packing, Progress, Stores, Task};
use layer::diff::WritableTree;
use layer::{Limits, LowerView};
use sys::cancel::CancelToken;

fn tree(path: &std::path::Path) -> layer::diff::TarStream {
    let lowers = LowerView::new(Vec::new());
    let tree = WritableTree::open(path, lowers, &Limits::default(), "container test").unwrap();
    tree.into_layer_tar(&[]).unwrap()
}

#[test]
fn r18_the_blob_of_changes_holds_what_its_diff_id_says_and_is_whole_before_anyone_sees_it() {
    let place = Place::new();
    let upper = tempfile::tempdir().unwrap();
    let data: Vec<u8> = (0..5_000_000u32).map(|n| (n.wrapping_mul(n) >> 7) as u8).collect();
    std::fs::write(upper.path().join("data"), &data).unwrap();
    let (progress, cancel) = (Progress::new(), CancelToken::new());
    let task = Task { progress: &progress, cancel: &cancel };
    let stores = Stores { content: &place.content, layers: &place.layers };
    let stored = store_changes(tree(upper.path()), Packing::default(), stores, task).unwrap();
    assert!(place.content.stat(&stored.digest).unwrap().is_none() && place.layers.list().unwrap().is_empty());
    let again = store_changes(tree(upper.path()), Packing::default(), stores, task).unwrap();
    assert_eq!((&again.digest, &again.diff_id), (&stored.digest, &stored.diff_id));
    place.content.publish(std::slice::from_ref(&stored.digest)).unwrap();
    place.layers.publish(std::slice::from_ref(&stored.layer.layer_id)).unwrap();
    let blob = place.content.read(&stored.digest, 1 << 30).unwrap();
    assert_eq!((blob.len() as u64, digest(&blob)), (stored.size_bytes, stored.digest.to_string()));
    let mut tar = Vec::new();
    flate2::read::MultiGzDecoder::new(blob.as_slice()).read_to_end(&mut tar).unwrap();
    assert_eq!(digest(&tar), stored.diff_id.to_string());
    let unpacked = place.layers.lower_path(&stored.layer.layer_id).unwrap().join("data");
    assert!(std::fs::read(unpacked).unwrap() == data);
    assert_eq!(stored.media_type, "application/vnd.oci.image.layer.v1.tar+gzip");
}

#[test]
fn cancelled_changes_leave_nothing() {
    let place = Place::new();
    let upper = tempfile::tempdir().unwrap();
    std::fs::write(upper.path().join("data"), vec![1; 3_000_000]).unwrap();
    let (progress, cancel) = (Progress::new(), CancelToken::new());
    cancel.cancel();
    let stores = Stores { content: &place.content, layers: &place.layers };
    let task = Task { progress: &progress, cancel: &cancel };
    assert_eq!(reason(store_changes(tree(upper.path()), Packing::default(), stores, task)), "CANCELLED");
    assert!(place.content.list_ingests().unwrap().is_empty());
    assert!(place.layers.list_staged().unwrap().is_empty());
}

#[test]
fn a_lost_blob_is_compressed_again_from_its_tree_or_archive() {
    let upper = tempfile::tempdir().unwrap();
    let data: Vec<u8> = (0..5_000_000u32).map(|n| (n.wrapping_mul(n) >> 7) as u8).collect();
    std::fs::write(upper.path().join("data"), &data).unwrap();
    let (progress, cancel, first) = (Progress::new(), CancelToken::new(), Place::new());
    let stores = Stores { content: &first.content, layers: &first.layers };
    let task = Task { progress: &progress, cancel: &cancel };
    let stored = store_changes(tree(upper.path()), Packing::default(), stores, task).unwrap();
    let mut archive = tempfile::tempfile().unwrap();
    let (mut from, mut buffer) = (tree(upper.path()), vec![0; 65_536]);
    loop {
        let count = from.read(&mut buffer, &|| false).unwrap();
        if count == 0 {
            break;
        }
        archive.write_all(&buffer[..count]).unwrap();
    }
    for from_archive in [false, true] {
        let place = Place::new();
        let packing = Packing::default();
        let (content, digest, size) = (&place.content, &stored.digest, stored.size_bytes);
        let made = if from_archive {
            compress_archive(&mut ArchiveFile::new(archive.as_fd()), packing, digest, size, content, &cancel)
        } else {
            compress_archive(&mut tree(upper.path()), packing, digest, size, content, &cancel)
        };
        made.unwrap();
        content.publish(std::slice::from_ref(digest)).unwrap();
        assert_eq!(content.stat(digest).unwrap().map(|blob| blob.size_bytes), Some(size));
    }
}

#[test]
fn an_archive_that_another_program_compressed_is_told_and_leaves_nothing() {
    let (place, cancel) = (Place::new(), CancelToken::new());
    let upper = tempfile::tempdir().unwrap();
    std::fs::write(upper.path().join("data"), (0..3_000_000u32).map(|n| (n >> 5) as u8).collect::<Vec<_>>())
        .unwrap();
    let other = content::Digest::parse(&digest(b"another")).unwrap();
    for size_bytes in [10, 1 << 30] {
        let made = compress_archive(
            &mut tree(upper.path()),
            Packing::default(),
            &other,
            size_bytes,
            &place.content,
            &cancel,
        );
        assert_eq!(reason(made), "DIGEST_MISMATCH");
    }
    cancel.cancel();
    let made = compress_archive(
        &mut tree(upper.path()),
        Packing::default(),
        &other,
        1 << 30,
        &place.content,
        &cancel,
    );
    assert_eq!(reason(made), "CANCELLED");
    assert!(place.content.list_ingests().unwrap().is_empty());
}

#[test]
fn a_layer_becomes_another_blob_of_the_same_files() {
    let (place, upper) = (Place::new(), tempfile::tempdir().unwrap());
    let data: Vec<u8> = (0..5_000_000u32).map(|n| (n.wrapping_mul(n) >> 7) as u8).collect();
    std::fs::write(upper.path().join("data"), &data).unwrap();
    let (progress, cancel) = (Progress::new(), CancelToken::new());
    let task = Task { progress: &progress, cancel: &cancel };
    let stores = Stores { content: &place.content, layers: &place.layers };
    let gzip = store_changes(tree(upper.path()), Packing::default(), stores, task).unwrap();
    let at_once =
        store_changes(tree(upper.path()), Packing::new("zstd", None).unwrap(), stores, task).unwrap();
    assert_eq!(at_once.media_type, "application/vnd.oci.image.layer.v1.tar+zstd");
    assert_eq!((&at_once.diff_id, &at_once.layer), (&gzip.diff_id, &gzip.layer));
    let (from, diff_id) = (gzip.digest.to_string(), gzip.diff_id.to_string());
    for (name, level, wanted) in
        [("zstd", None, Some(&at_once)), ("gzip", Some(6), Some(&gzip)), ("uncompressed", None, None)]
    {
        let packing = Packing::new(name, level).unwrap();
        let stored = repack(&from, &diff_id, packing, None, stores, task).unwrap();
        assert_eq!((&stored.diff_id, &stored.layer), (&gzip.diff_id, &gzip.layer));
        let digest = wanted.map_or(&gzip.diff_id, |wanted| &wanted.digest);
        assert_eq!(&stored.digest, digest, "{name}");
        place.content.publish(std::slice::from_ref(&stored.digest)).unwrap();
    }
    let zstd = place.content.read(&at_once.digest, 1 << 30).unwrap();
    assert_eq!(digest(&zstd::stream::decode_all(zstd.as_slice()).unwrap()), diff_id);
    // What says to be another archive is told, and nothing of it stays.
    let staged = place.layers.list_staged().unwrap();
    let lie = at_once.digest.to_string();
    assert_eq!(reason(repack(&from, &lie, Packing::default(), None, stores, task)), "DIFF_ID_MISMATCH");
    assert_eq!(place.layers.list_staged().unwrap(), staged);
}

#[test]
fn a_layer_whose_times_come_down_is_another_layer_and_one_without_late_times_the_same() {
    let (place, upper) = (Place::new(), tempfile::tempdir().unwrap());
    std::fs::write(upper.path().join("data"), "data").unwrap();
    let time = std::time::UNIX_EPOCH + std::time::Duration::from_millis(1_500_000_000_250);
    std::fs::File::options().write(true).open(upper.path().join("data")).unwrap().set_modified(time).unwrap();
    let (progress, cancel) = (Progress::new(), CancelToken::new());
    let task = Task { progress: &progress, cancel: &cancel };
    let stores = Stores { content: &place.content, layers: &place.layers };
    let first = store_changes(tree(upper.path()), Packing::default(), stores, task).unwrap();
    let (from, diff_id) = (first.digest.to_string(), first.diff_id.to_string());
    let until = |seconds| repack(&from, &diff_id, Packing::default(), Some(seconds), stores, task).unwrap();
    assert_eq!(until(4_000_000_000), first);
    let early = until(1_000_000_000);
    assert_ne!(early.diff_id, first.diff_id);
    place.layers.publish(std::slice::from_ref(&early.layer.layer_id)).unwrap();
    let path = place.layers.lower_path(&early.layer.layer_id).unwrap().join("data");
    let status = std::fs::metadata(&path).unwrap();
    assert_eq!(
        status.modified().unwrap(),
        std::time::UNIX_EPOCH + std::time::Duration::from_secs(1_000_000_000)
    );
    assert_eq!(std::fs::read(path).unwrap(), b"data");
}
