//! A directory of changes becomes a blob and a layer.

mod common;

use std::io::Read;

use common::{digest, reason, Place};
use ingest::{store_changes, Progress, Stores, Task};
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
