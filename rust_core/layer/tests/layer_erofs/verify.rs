//! A stored layer is checked against its digests from disk, and damage of any file is found.

use std::os::unix::fs::FileExt;
use std::sync::atomic::{AtomicU64, Ordering};

use layer::{LayerError, Verified};

use crate::image::Image;
use crate::tar_writer::{tar, Item};

fn image() -> Image {
    let mut image = Image::new();
    image.add(&tar(&[Item::dir("d"), Item::file("d/f", [b'x'; 50_000])])).unwrap();
    image.store.publish(&image.stack).unwrap();
    image
}

fn verify(image: &Image) -> Verified {
    let progress = AtomicU64::new(0);
    image.store.verify(&image.stack[0], &progress, &|| false).unwrap()
}

#[test]
fn a_layer_as_it_was_stored_is_sound() {
    let image = image();
    let progress = AtomicU64::new(0);
    let found = image.store.verify(&image.stack[0], &progress, &|| false).unwrap();
    assert_eq!(found, Verified::Sound);
    let info = image.store.stat(&image.stack[0]).unwrap().unwrap();
    assert_eq!(progress.load(Ordering::Relaxed), info.stored_bytes);
    let cancelled = image.store.verify(&image.stack[0], &progress, &|| true);
    assert!(matches!(cancelled, Err(LayerError::Cancelled { .. })));
}

#[test]
fn a_changed_byte_anywhere_is_found() {
    for name in ["data.tar", "index.erofs"] {
        let image = image();
        let path = image.root.path().join("layers").join(image.stack[0].as_str()).join(name);
        let len = std::fs::metadata(&path).unwrap().len();
        for at in [0, len / 2, len - 1] {
            let file = std::fs::File::options().read(true).write(true).open(&path).unwrap();
            let mut byte = [0];
            file.read_exact_at(&mut byte, at).unwrap();
            file.write_all_at(&[byte[0] ^ 1], at).unwrap();
            let found = verify(&image);
            assert!(
                matches!(&found, Verified::Damaged { detail } if detail.contains("digest")),
                "{name} {at}"
            );
            file.write_all_at(&byte, at).unwrap();
            assert_eq!(verify(&image), Verified::Sound);
        }
        std::fs::remove_file(&path).unwrap();
        assert!(matches!(verify(&image), Verified::Damaged { detail } if detail.contains("missing")));
    }
}

#[test]
fn a_layer_settled_over_others_is_checked_by_its_own_index() {
    let mut image = Image::of(&[&[Item::file("a", "data")]]);
    let info = image.add(&tar(&[Item::hardlink("b", "a")])).unwrap();
    image.store.publish(&image.stack).unwrap();
    let progress = AtomicU64::new(0);
    let check = || image.store.verify(&info.layer_id, &progress, &|| false).unwrap();
    assert_eq!(check(), Verified::Sound);
    let index = image.root.path().join("layers").join(info.layer_id.as_str()).join("index.erofs");
    let file = std::fs::File::options().write(true).open(index).unwrap();
    file.write_all_at(b"x", 1600).unwrap();
    assert!(matches!(check(), Verified::Damaged { .. }));
}

#[test]
fn a_directory_layer_has_nothing_to_be_checked_by() {
    let mut image = Image::new();
    image.store = layer::LayerStore::open(image.root.path(), "directory").unwrap();
    image.add(&tar(&[Item::file("f", "x")])).unwrap();
    image.store.publish(&image.stack).unwrap();
    assert_eq!(verify(&image), Verified::NotKept);
}
