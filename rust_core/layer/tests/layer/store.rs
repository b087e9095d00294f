//! The store: what is visible when, what stays after failures, and what many threads see.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::Arc;

use layer::{LayerError, LayerId, LayerStore, Limits, OpenedStage};

use crate::image::{open_store, request, Image};
use crate::tar_writer::{tar, Item};

fn id(digit: char) -> LayerId {
    LayerId::parse(&digit.to_string().repeat(64)).unwrap()
}

#[test]
fn a_layer_is_visible_only_after_publish() {
    let image = Image::new();
    let info = image.stage(&tar(&[Item::file("f", "x")])).unwrap();
    let layer_id = info.layer_id.clone();
    assert_eq!(layer_id.as_str(), info.diff_id.hex());
    assert_eq!(image.store.stat(&layer_id).unwrap(), None);
    assert!(matches!(image.store.lower_path(&layer_id), Err(LayerError::NotFound { .. })));
    assert_eq!(image.store.find(&layer_id).unwrap(), Some(info.clone()));
    assert_eq!(image.store.list_staged().unwrap(), [layer_id.as_str()]);
    image.store.publish(&[layer_id.clone(), layer_id.clone()]).unwrap();
    image.store.publish(std::slice::from_ref(&layer_id)).unwrap();
    assert_eq!(image.store.list().unwrap(), std::slice::from_ref(&info));
    assert!(image.store.list_staged().unwrap().is_empty());
    let again = open_store(image.root.path());
    assert_eq!(again.stat(&layer_id).unwrap(), Some(info));
}

#[test]
fn publish_of_an_unknown_layer_makes_nothing_visible() {
    let image = Image::new();
    let known = image.stage(&tar(&[Item::file("f", "x")])).unwrap().layer_id;
    let error = image.store.publish(&[known, id('a')]).unwrap_err();
    assert!(matches!(error, LayerError::NotFound { .. }));
    assert!(image.store.list().unwrap().is_empty());
}

#[test]
fn deleting_removes_everything_and_follows_no_link() {
    let canary = tempfile::tempdir().unwrap();
    std::fs::write(canary.path().join("keep"), "k").unwrap();
    let mut image = Image::new();
    let items = [
        Item::dir("d").mode(0),
        Item::dir("d/e"),
        Item::file("d/e/f", "x"),
        Item::symlink("d/out", canary.path().to_str().unwrap()),
        Item::symlink("out", canary.path().to_str().unwrap()),
    ];
    let layer_id = image.add(&tar(&items)).unwrap().layer_id;
    image.store.publish(&image.stack).unwrap();
    image.store.delete(&layer_id).unwrap();
    image.store.delete(&layer_id).unwrap();
    assert_eq!(image.folders(), Vec::<String>::new());
    assert_eq!(std::fs::read(canary.path().join("keep")).unwrap(), b"k");
}

#[test]
fn recover_finishes_removals_and_drops_what_is_not_whole() {
    let image = Image::new();
    let whole = image.stage(&tar(&[Item::file("f", "x")])).unwrap().layer_id;
    let layers = image.root.path().join("layers");
    let half = format!(".staged-{}", "b".repeat(64));
    for name in [half.as_str(), ".staged-import-7", ".deleted-3-x"] {
        std::fs::create_dir_all(layers.join(name).join("fs/d")).unwrap();
    }
    let stale = image.stage(&tar(&[Item::file("g", "y")])).unwrap().layer_id;
    let meta = layers.join(format!(".staged-{stale}/meta.json"));
    let text = std::fs::read_to_string(&meta).unwrap();
    let boot = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap();
    std::fs::write(&meta, text.replace(boot.trim(), "another-boot")).unwrap();
    let mut removed = image.store.recover().unwrap();
    removed.sort();
    let mut expected =
        vec![".deleted-3-x".to_owned(), "b".repeat(64), "import-7".to_owned(), stale.to_string()];
    expected.sort();
    assert_eq!(removed, expected);
    assert_eq!(image.folders(), [format!(".staged-{whole}")]);
}

#[test]
fn staged_names_are_removed_by_name_and_no_other_names_are() {
    let image = Image::new();
    let layer_id = image.stage(&tar(&[Item::file("f", "x")])).unwrap().layer_id;
    for bad in ["", "..", "../x", "a/b", ".", ".deleted-../x", ".staged-", ".staged-../.."] {
        let error = image.store.delete_staged(bad).unwrap_err();
        assert!(matches!(error, LayerError::NotFound { .. }), "{bad}");
    }
    image.store.delete_staged(layer_id.as_str()).unwrap();
    image.store.delete_staged(layer_id.as_str()).unwrap();
    assert_eq!(image.folders(), Vec::<String>::new());
}

#[test]
fn of_many_callers_one_stages_a_layer() {
    let image = Arc::new(Image::new());
    let blob = Arc::new(tar(&[Item::file("f", vec![7; 100_000]), Item::dir("d")]));
    let layer_id = Image::new().stage(&blob).unwrap().layer_id;
    let written = Arc::new(AtomicU64::new(0));
    std::thread::scope(|scope| {
        for _ in 0..8 {
            let (image, blob, written, layer_id) = (&image, &blob, &written, &layer_id);
            scope.spawn(move || match image.store.open_stage(layer_id, &|| false).unwrap() {
                OpenedStage::Present(info) => assert_eq!(info.size_bytes, 100_000),
                OpenedStage::Writing(stage) => {
                    written.fetch_add(1, Ordering::Relaxed);
                    let (limits, progress) = (Limits::default(), AtomicU64::new(0));
                    stage.write(&blob[..], &request(&limits, &progress)).unwrap();
                }
            });
        }
    });
    assert_eq!(written.load(Ordering::Relaxed), 1);
}

#[test]
fn imports_of_the_same_archive_end_as_one_layer() {
    let image = Image::new();
    let blob = tar(&[Item::file("f", "x")]);
    let infos: Vec<_> = std::thread::scope(|scope| {
        let handles: Vec<_> = (0..4).map(|_| scope.spawn(|| image.stage(&blob).unwrap())).collect();
        handles.into_iter().map(|handle| handle.join().unwrap()).collect()
    });
    assert!(infos.windows(2).all(|pair| pair[0] == pair[1]));
    assert_eq!(image.folders(), [format!(".staged-{}", infos[0].layer_id)]);
}

#[test]
fn waiting_for_another_writer_can_be_cancelled() {
    let image = Image::new();
    let held = image.store.open_stage(&id('c'), &|| false).unwrap();
    assert!(matches!(held, OpenedStage::Writing(_)));
    let error = image.store.open_stage(&id('c'), &|| true).unwrap_err();
    assert!(matches!(error, LayerError::Cancelled { .. }));
    // What is being written is not removed under its writer.
    image.store.delete_staged(id('c').as_str()).unwrap();
}

#[test]
fn a_damaged_description_is_told_with_its_path() {
    let image = Image::new();
    let layer_id = image.stage(&tar(&[Item::file("f", "x")])).unwrap().layer_id;
    image.store.publish(std::slice::from_ref(&layer_id)).unwrap();
    std::fs::write(image.root.path().join(format!("layers/{layer_id}/meta.json")), "{").unwrap();
    let error = image.store.stat(&layer_id).unwrap_err();
    assert!(matches!(&error, LayerError::DataCorrupt { path, .. } if path.ends_with("meta.json")), "{error}");
}

#[test]
fn a_kind_that_is_not_built_is_named() {
    let root = tempfile::tempdir().unwrap();
    let error = LayerStore::open(root.path(), "zfs").unwrap_err();
    assert!(
        matches!(&error, LayerError::FeatureMissing { feature, .. } if feature.contains("zfs")),
        "{error}"
    );
}
