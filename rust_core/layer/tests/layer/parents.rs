//! Parents without an entry, and entries whose path is something else already: in lower layers and in the same one.

use std::os::unix::fs::MetadataExt;

use crate::image::Image;
use crate::tar_writer::{tar, Item};

fn usr_merged() -> [Item; 4] {
    [Item::dir("usr"), Item::dir("usr/lib"), Item::file("usr/lib/a", "a"), Item::symlink("lib", "usr/lib")]
}

#[test]
fn x05_a_parent_that_is_a_link_below_is_followed() {
    let merged = Image::of(&[&usr_merged(), &[Item::file("lib/b", "b")]]).mount();
    merged.assert_tree(&[
        ("lib", "link usr/lib"),
        ("usr", "dir"),
        ("usr/lib", "dir"),
        ("usr/lib/a", "file a"),
        ("usr/lib/b", "file b"),
    ]);
}

#[test]
fn x05_chains_absolute_targets_and_dots_stay_inside_the_root() {
    let low = [
        Item::dir("real"),
        Item::dir("real/deep"),
        Item::symlink("abs", "/real/deep"),
        Item::symlink("up", "../../real/../abs"),
        Item::symlink("real/deep/again", "../../up"),
    ];
    let high = [Item::file("abs/1", "1"), Item::file("up/2", "2"), Item::file("real/deep/again/3", "3")];
    let merged = Image::of(&[&low, &high]).mount();
    assert_eq!(merged.names("real/deep"), ["1", "2", "3", "again"]);
    assert!(merged.lstat("abs").is_symlink() && merged.lstat("up").is_symlink());
}

#[test]
fn x05_links_of_a_middle_layer_and_hidden_links_count() {
    let low = [Item::dir("a"), Item::dir("b"), Item::symlink("l", "a"), Item::symlink("gone", "a")];
    let middle = [Item::symlink("l", "b"), Item::file(".wh.gone", "")];
    let high = [Item::file("l/x", "x"), Item::file("gone/y", "y")];
    let merged = Image::of(&[&low, &middle, &high]).mount();
    merged.assert_tree(&[
        ("a", "dir"),
        ("b", "dir"),
        ("b/x", "file x"),
        ("gone", "dir"),
        ("gone/y", "file y"),
        ("l", "link b"),
    ]);
}

#[test]
fn x05_a_link_of_the_same_layer_is_followed_too() {
    let items =
        [Item::dir("usr"), Item::dir("usr/lib"), Item::symlink("lib", "usr/lib"), Item::file("lib/b", "b")];
    let merged = Image::of(&[&items]).mount();
    assert_eq!(merged.read("usr/lib/b"), "b");
    // Its target may be a directory that only a lower layer has.
    let merged =
        Image::of(&[&usr_merged()[..3], &[Item::symlink("lib", "/usr/lib"), Item::file("lib/b", "b")]])
            .mount();
    assert_eq!(merged.names("usr/lib"), ["a", "b"]);
}

#[test]
fn x06_an_explicit_directory_replaces_a_link_below() {
    for high in [[Item::dir("lib"), Item::file("lib/b", "b")], [Item::file("lib/b", "b"), Item::dir("lib")]] {
        let merged = Image::of(&[&usr_merged(), &high]).mount();
        merged.assert_tree(&[
            ("lib", "dir"),
            ("lib/b", "file b"),
            ("usr", "dir"),
            ("usr/lib", "dir"),
            ("usr/lib/a", "file a"),
        ]);
    }
}

#[test]
fn x06_an_explicit_directory_holds_while_other_parents_are_settled() {
    // `etc/x` asks for the second pass; `lib` must come out of it as its own entry says, whatever the order.
    let low: Vec<Item> =
        usr_merged().into_iter().chain([Item::dir("real"), Item::symlink("etc", "real")]).collect();
    let high = [Item::file("lib/b", "b"), Item::file("etc/x", "x"), Item::dir("lib")];
    let image = Image::of(&[&low, &high]);
    assert_eq!(image.finished_count, 1);
    let merged = image.mount();
    assert_eq!((merged.names("lib"), merged.names("real")), (vec!["b".to_owned()], vec!["x".to_owned()]));
    assert!(merged.lstat("etc").is_symlink() && merged.lstat("lib").is_dir());
}

#[test]
fn x07_implied_parents_are_0755_and_roots() {
    let merged = Image::of(&[&[Item::file("x/y/z", "z").mode(0o600).owner(1000, 1000)]]).mount();
    for path in ["x", "x/y"] {
        assert_eq!((merged.mode(path), merged.owner(path)), (0o755, (0, 0)), "{path}");
    }
    assert_eq!((merged.mode("x/y/z"), merged.owner("x/y/z")), (0o600, (1000, 1000)));
}

#[test]
fn x07_implied_parents_keep_what_a_lower_layer_says_of_them() {
    let low = [
        Item::dir("x").mode(0o1770).owner(7, 8).mtime(5).xattr("user.k", "v"),
        Item::dir("x/y").mode(0o700),
        Item::file("x/y/old", "o"),
    ];
    let merged = Image::of(&[&low, &[Item::file("x/y/z", "z")]]).mount();
    assert_eq!((merged.mode("x"), merged.owner("x"), merged.lstat("x").mtime()), (0o1770, (7, 8), 5));
    assert_eq!(merged.mode("x/y"), 0o700);
    assert_eq!(rustix::fs::getxattr(merged.path("x"), "user.k", &mut [0u8; 8][..]), Ok(1));
    assert_eq!(merged.names("x/y"), ["old", "z"]);
}

#[test]
fn x07_an_opaque_directory_keeps_nothing_of_the_lower_ones_for_its_children() {
    let low = [Item::dir("x"), Item::dir("x/y").mode(0o700).owner(3, 3)];
    let high = [Item::dir("x"), Item::file("x/.wh..wh..opq", ""), Item::file("x/y/z", "z")];
    let merged = Image::of(&[&low, &high]).mount();
    assert_eq!((merged.mode("x/y"), merged.owner("x/y")), (0o755, (0, 0)));
}

#[test]
fn x29_types_may_change_between_layers() {
    let merged = Image::of(&[&[Item::dir("d"), Item::file("d/x", "x")], &[Item::file("d", "f")]]).mount();
    merged.assert_tree(&[("d", "file f")]);
    let merged = Image::of(&[&[Item::file("d", "f")], &[Item::dir("d"), Item::file("d/y", "y")]]).mount();
    merged.assert_tree(&[("d", "dir"), ("d/y", "file y")]);
    let low = [Item::file("t", "orig"), Item::symlink("l", "t")];
    let merged = Image::of(&[&low, &[Item::file("l", "new")]]).mount();
    merged.assert_tree(&[("l", "file new"), ("t", "file orig")]);
}

#[test]
fn x29_types_may_change_within_a_layer() {
    let merged = Image::of(&[&[Item::dir("d"), Item::file("d/x", "x"), Item::file("d", "f")]]).mount();
    merged.assert_tree(&[("d", "file f")]);
    let merged = Image::of(&[&[Item::file("d", "f"), Item::dir("d"), Item::file("d/y", "y")]]).mount();
    merged.assert_tree(&[("d", "dir"), ("d/y", "file y")]);
    let items = [Item::file("t", "orig"), Item::symlink("l", "t"), Item::file("l", "new")];
    Image::of(&[&items]).mount().assert_tree(&[("l", "file new"), ("t", "file orig")]);
    let items = [Item::dir("d"), Item::symlink("l", "d"), Item::dir("l"), Item::file("l/x", "x")];
    Image::of(&[&items]).mount().assert_tree(&[("d", "dir"), ("l", "dir"), ("l/x", "file x")]);
}

#[test]
fn a_directory_that_replaced_a_file_of_its_own_layer_hides_the_lower_directory() {
    let low = [Item::dir("d"), Item::file("d/old", "o")];
    let high = [Item::file("d", "f"), Item::dir("d"), Item::file("d/new", "n")];
    Image::of(&[&low, &high]).mount().assert_tree(&[("d", "dir"), ("d/new", "file n")]);
}

#[test]
fn x28_the_last_of_a_path_wins() {
    let items = [
        Item::file("f", "one"),
        Item::file("f", "two").mode(0o600),
        Item::dir("d").mode(0o700),
        Item::dir("d"),
    ];
    let merged = Image::of(&[&items]).mount();
    merged.assert_tree(&[("d", "dir"), ("f", "file two")]);
    assert_eq!((merged.mode("f"), merged.mode("d")), (0o600, 0o755));
}

#[test]
fn sizes_count_what_is_left_of_replaced_files() {
    let image = Image::new();
    let items = [
        Item::file("f", "one"),
        Item::file("f", "two!"),
        Item::dir("d"),
        Item::file("d/x", "12345"),
        Item::hardlink("g", "f"),
        Item::file("d", "9"),
    ];
    let info = image.stage(&tar(&items)).unwrap();
    assert_eq!((info.size_bytes, info.entry_count), (5, 6));
}

#[test]
fn the_root_entry_sets_the_root() {
    let merged = Image::of(&[&[Item::dir("./").mode(0o711).owner(4, 5).mtime(77), Item::file("./f", "f")]]);
    let root = merged.store.lower_view(&merged.stack);
    assert!(root.is_ok());
    merged.store.publish(&merged.stack).unwrap();
    let stat = std::fs::metadata(merged.store.lower_path(&merged.stack[0]).unwrap()).unwrap();
    assert_eq!((stat.mode() & 0o7777, stat.uid(), stat.gid(), stat.mtime()), (0o711, 4, 5, 77));
}
