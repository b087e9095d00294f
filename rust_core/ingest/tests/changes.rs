//! A directory of changes becomes a blob and a layer.

mod common;

use std::io::{Read, Write};
use std::os::fd::AsFd;

use common::{digest, reason, Place};
use ingest::{compress_archive, store_changes, ArchiveFile, Progress, Stores, Task};
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
    let stored = store_changes(tree(upper.path()), stores, task).unwrap();
    assert!(place.content.stat(&stored.digest).unwrap().is_none() && place.layers.list().unwrap().is_empty());
    let again = store_changes(tree(upper.path()), stores, task).unwrap();
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
    assert_eq!(reason(store_changes(tree(upper.path()), stores, task)), "CANCELLED");
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
    let stored = store_changes(tree(upper.path()), stores, task).unwrap();
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
        let (content, digest, size) = (&place.content, &stored.digest, stored.size_bytes);
        let made = if from_archive {
            compress_archive(&mut ArchiveFile::new(archive.as_fd()), digest, size, content, &cancel)
        } else {
            compress_archive(&mut tree(upper.path()), digest, size, content, &cancel)
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
        let made = compress_archive(&mut tree(upper.path()), &other, size_bytes, &place.content, &cancel);
        assert_eq!(reason(made), "DIGEST_MISMATCH");
    }
    cancel.cancel();
    let made = compress_archive(&mut tree(upper.path()), &other, 1 << 30, &place.content, &cancel);
    assert_eq!(reason(made), "CANCELLED");
    assert!(place.content.list_ingests().unwrap().is_empty());
}
