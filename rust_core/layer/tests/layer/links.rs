//! Hard links, within a layer and to lower ones.

use std::os::unix::fs::MetadataExt;

use layer::{LayerError, Rule};

use crate::image::{Image, Merged};
use crate::tar_writer::{tar, Item};

fn assert_linked(merged: &Merged, a: &str, b: &str) {
    let (a, b) = (merged.lstat(a), merged.lstat(b));
    assert_eq!((a.dev(), a.ino(), a.nlink()), (b.dev(), b.ino(), b.nlink()));
    assert!(a.nlink() >= 2);
}

#[test]
fn x08_parents_are_made_for_links_as_for_files() {
    let merged =
        Image::of(&[&[Item::file("bin/app", "app"), Item::hardlink("bin/r/m/app", "bin/app")]]).mount();
    assert_linked(&merged, "bin/app", "bin/r/m/app");
    assert_eq!(merged.mode("bin/r/m"), 0o755);
}

#[test]
fn x09_link_names_are_paths_from_the_root_however_they_are_written() {
    for (name, link, target) in
        [("a", "b", "a"), ("./a", "./b", "./a"), ("a", "b", "/a"), ("d/a", "d/b", "d/a")]
    {
        let merged = Image::of(&[&[Item::file(name, "x"), Item::hardlink(link, target)]]).mount();
        assert_linked(&merged, name, link);
    }
}

#[test]
fn x10_a_link_to_a_file_of_a_lower_layer_has_its_bytes_and_inode() {
    let low = [
        Item::dir("etc").mode(0o750).owner(3, 4),
        Item::file("etc/a", "data").mode(0o4711).owner(5, 6).mtime(9),
    ];
    let high = [Item::hardlink("b", "etc/a"), Item::hardlink("c", "b")];
    let merged = Image::of(&[&low, &high]).mount();
    merged.assert_tree(&[("b", "file data"), ("c", "file data"), ("etc", "dir"), ("etc/a", "file data")]);
    assert_linked(&merged, "b", "etc/a");
    assert_linked(&merged, "b", "c");
    assert_eq!((merged.mode("b"), merged.owner("b"), merged.lstat("b").mtime()), (0o4711, (5, 6), 9));
    assert_eq!((merged.mode("etc"), merged.owner("etc")), (0o750, (3, 4)));
}

#[test]
fn x10_a_link_through_a_link_of_a_lower_layer_and_two_layers_down() {
    let low = [
        Item::dir("usr"),
        Item::file("usr/a", "data"),
        Item::symlink("u", "/usr"),
        Item::symlink("s", "usr/a"),
    ];
    let high = [Item::hardlink("b", "u/a"), Item::hardlink("b2", "u/a"), Item::hardlink("t", "s")];
    let merged = Image::of(&[&low, &[Item::file("other", "")], &high]).mount();
    assert_linked(&merged, "b", "usr/a");
    assert_linked(&merged, "b", "b2");
    assert!(merged.lstat("u").is_symlink());
    assert_eq!(std::fs::read_link(merged.path("t")).unwrap().to_str(), Some("usr/a"));
}

#[test]
fn a_link_whose_target_comes_later_in_the_layer_is_made() {
    let merged = Image::of(&[&[Item::hardlink("b", "a"), Item::file("a", "x")]]).mount();
    assert_linked(&merged, "a", "b");
}

#[test]
fn a_link_whose_target_no_layer_has_is_refused_over_any_layers() {
    for (low, high) in [
        (vec![], vec![Item::hardlink("b", "nowhere")]),
        (vec![Item::file("a", "x")], vec![Item::file(".wh.a", ""), Item::hardlink("b", "a")]),
        (
            vec![Item::dir("d"), Item::file("d/a", "x")],
            vec![Item::dir("d"), Item::file("d/.wh..wh..opq", ""), Item::hardlink("b", "d/a")],
        ),
    ] {
        let mut image = Image::of(&[&low]);
        let error = image.add(&tar(&high)).unwrap_err();
        assert!(matches!(&error, LayerError::Rejected { rule: Rule::HardlinkTargetMissing, .. }), "{error}");
        // The layer by itself stays staged; nothing of the refused combination does.
        assert!(!image.folders().iter().any(|name| name.contains("chain")), "{:?}", image.folders());
    }
}

#[test]
fn links_to_directories_and_to_nothing_are_refused() {
    for items in [
        [Item::dir("d"), Item::hardlink("l", "d")],
        [Item::dir("d"), Item::hardlink("l", "/")],
        [Item::dir("d"), Item::hardlink("d/l", "d")],
    ] {
        let error = Image::new().stage(&tar(&items)).unwrap_err();
        assert!(matches!(error, LayerError::Rejected { rule: Rule::HardlinkToDirectory, .. }), "{error}");
    }
    let error = Image::new().stage(&tar(&[Item::hardlink("l", "")])).unwrap_err();
    assert!(matches!(error, LayerError::Rejected { rule: Rule::NameEmpty, .. }), "{error}");
}

#[test]
fn a_link_replaces_what_its_name_had_and_may_name_itself() {
    let items = [
        Item::file("a", "x"),
        Item::dir("b"),
        Item::file("b/c", "c"),
        Item::hardlink("b", "a"),
        Item::hardlink("a", "a"),
    ];
    let merged = Image::of(&[&items]).mount();
    merged.assert_tree(&[("a", "file x"), ("b", "file x")]);
    assert_linked(&merged, "a", "b");
}
