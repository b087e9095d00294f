//! One mount a layer, seen by nobody, and gone with the last that stands on it.

use std::os::unix::fs::MetadataExt;

use crate::image::Image;
use crate::tar_writer::{tar, Item};

fn mount_table() -> String {
    std::fs::read_to_string("/proc/self/mountinfo").unwrap()
}

fn image() -> Image {
    let mut image = Image::new();
    image.add(&tar(&[Item::dir("d"), Item::file("d/f", [b'x'; 5000])])).unwrap();
    image.add(&tar(&[Item::file("d/g", "y")])).unwrap();
    image.store.publish(&image.stack).unwrap();
    image
}

#[test]
fn a_layer_is_mounted_once_and_in_no_namespace() {
    let before = mount_table();
    let image = image();
    let path = image.store.lower_path(&image.stack[0]).unwrap();
    assert_eq!(image.store.lower_path(&image.stack[0]).unwrap(), path);
    let file = |path: &std::path::Path| std::fs::metadata(path.join("d/f")).unwrap();
    let view = image.store.lower_view(&image.stack[..1]);
    assert!(view.is_ok());
    assert_eq!((file(&path).len(), mount_table() == before), (5000, true));
    // Another process reads it by the same path.
    let other = std::process::Command::new("cat").arg(path.join("d/f")).output().unwrap();
    assert_eq!(other.stdout, [b'x'; 5000]);
}

#[test]
fn an_overlay_stands_on_when_its_layers_and_their_store_are_gone() {
    let before = mount_table();
    let image = image();
    let stack = image.stack.clone();
    let merged = image.mount();
    for layer_id in &stack {
        merged.image.store.delete(layer_id).unwrap();
    }
    assert_eq!(merged.image.folders(), Vec::<String>::new());
    assert_eq!((merged.read("d/g"), merged.lstat("d/f").len()), ("y".to_owned(), 5000));
    drop(merged);
    assert_eq!(mount_table(), before);
}

#[test]
fn a_deleted_layer_frees_its_files() {
    let image = image();
    let path = image.store.lower_path(&image.stack[0]).unwrap();
    assert!(path.join("d/f").exists());
    image.store.delete(&image.stack[0]).unwrap();
    let held = std::fs::read_dir("/proc/self/fd").unwrap().filter(|entry| {
        let link = std::fs::read_link(entry.as_ref().unwrap().path());
        link.is_ok_and(|link| {
            link.starts_with(image.root.path()) && link.to_string_lossy().contains("deleted")
        })
    });
    assert_eq!(held.count(), 0);
    assert!(image.store.lower_path(&image.stack[0]).is_err());
}

#[test]
fn files_of_all_layers_are_on_one_device_in_a_container() {
    // Programs that stay on one file system (find -xdev, tar --one-file-system) would stop at a layer else.
    let merged = image().mount();
    let devices: Vec<u64> = ["", "d", "d/f", "d/g"].iter().map(|path| merged.lstat(path).dev()).collect();
    assert!(devices.iter().all(|device| *device == devices[0]), "{devices:?}");
}

#[test]
fn a_layer_settled_over_others_shares_the_archive() {
    let mut image = Image::of(&[&[Item::dir("usr"), Item::symlink("lib", "usr")]]);
    let info = image.add(&tar(&[Item::file("lib/f", [b'x'; 100_000])])).unwrap();
    assert_eq!(image.finished_count, 1);
    let folder = image.root.path().join("layers");
    let data = |name: String| std::fs::metadata(folder.join(name).join("data.tar")).unwrap();
    let own = data(format!(".staged-{}", info.diff_id.hex()));
    let settled = data(format!(".staged-{}", info.layer_id));
    assert_eq!((own.ino(), own.nlink()), (settled.ino(), 2));
    image.store.delete_staged(info.diff_id.hex()).unwrap();
    assert_eq!(image.mount().lstat("usr/f").len(), 100_000);
}
