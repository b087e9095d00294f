//! A visible layer against one that was made again elsewhere, and in its place.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::Arc;

use layer::{LayerError, LayerId, LayerInfo, LayerStore, Verified};

use crate::image::Image;
use crate::tar_writer::{tar, Item};

/// The same archive visible in one image's store and staged in another's.
fn twice(items: &[Item]) -> (Image, LayerInfo, Image) {
    let (stored, made) = (Image::new(), Image::new());
    let info = stored.stage(&tar(items)).unwrap();
    stored.store.publish(std::slice::from_ref(&info.layer_id)).unwrap();
    made.stage(&tar(items)).unwrap();
    (stored, info, made)
}

fn compare(stored: &LayerStore, made: &LayerStore, layer_id: &LayerId) -> Verified {
    let compared = AtomicU64::new(0);
    let found = stored.compare(layer_id, made, 0, &compared, &|| false).unwrap();
    assert!(found != Verified::Sound || compared.load(Ordering::Relaxed) == 5);
    found
}

#[test]
fn what_was_visible_stands_aside_and_the_new_one_is_visible() {
    let (stored, info, made) = twice(&[Item::file("f", "whole")]);
    let layer_id = info.layer_id;
    let tree = stored.store.lower_path(&layer_id).unwrap();
    std::fs::write(tree.join("f"), "other").unwrap();
    assert!(matches!(compare(&stored.store, &made.store, &layer_id), Verified::Damaged { .. }));
    stored.store.replace(&layer_id, &made.store).unwrap();
    assert_eq!(std::fs::read(tree.join("f")).unwrap(), b"whole");
    let aside = made.store.list_staged().unwrap();
    assert!(aside.len() == 1 && aside[0].starts_with(".deleted-") && aside[0].ends_with(layer_id.as_str()));
    let kept = made.root.path().join("layers").join(&aside[0]).join("fs/f");
    assert_eq!(std::fs::read(kept).unwrap(), b"other");
    made.store.delete_staged(&aside[0]).unwrap();
    assert!(made.store.list_staged().unwrap().is_empty());
    let again = stored.store.replace(&layer_id, &made.store);
    assert!(matches!(again, Err(LayerError::NotFound { .. })));
}

#[test]
fn a_missing_layer_becomes_visible() {
    let (stored, info, made) = twice(&[Item::file("f", "whole")]);
    let folder = stored.root.path().join("layers").join(info.layer_id.as_str());
    std::fs::rename(&folder, stored.root.path().join("lost")).unwrap();
    stored.store.replace(&info.layer_id, &made.store).unwrap();
    assert_eq!(stored.store.stat(&info.layer_id).unwrap(), Some(info));
    assert!(made.store.list_staged().unwrap().is_empty());
}

#[test]
fn the_same_tree_is_sound_though_nobody_gave_its_directories_a_time() {
    let (stored, info, made) = twice(&[Item::file("implied/f", "whole")]);
    assert_eq!(compare(&stored.store, &made.store, &info.layer_id), Verified::Sound);
}

#[test]
fn a_comparison_ends_when_it_is_cancelled() {
    let (stored, info, made) = twice(&[Item::file("f", "whole")]);
    let found = stored.store.compare(&info.layer_id, &made.store, 0, &AtomicU64::new(0), &|| true);
    assert!(matches!(found, Err(LayerError::Cancelled { .. })));
}

#[test]
fn lower_layers_are_found_in_the_store_beside() {
    let mut image = Image::new();
    let lower = image.add(&tar(&[Item::file("f", "x")])).unwrap().layer_id;
    image.store.publish(&image.stack).unwrap();
    let root = tempfile::tempdir().unwrap();
    let alone = LayerStore::open(root.path(), "directory").unwrap();
    assert!(matches!(alone.lower_view(std::slice::from_ref(&lower)), Err(LayerError::NotFound { .. })));
    let below = Arc::new(LayerStore::open(image.root.path(), "directory").unwrap());
    let beside = LayerStore::open_beside(root.path(), "directory", below).unwrap();
    beside.lower_view(&[lower]).unwrap();
}
