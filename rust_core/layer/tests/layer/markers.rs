//! Whiteouts and opaque markers: what they hide, what they must not touch, and that they never show.

use crate::image::Image;
use crate::tar_writer::{tar, Item};

#[test]
fn x01_an_opaque_marker_hides_only_lower_layers_wherever_it_stands() {
    let low = [Item::dir("a"), Item::dir("a/b"), Item::file("a/b/old", "o")];
    let marker = Item::file("a/b/.wh..wh..opq", "");
    let (dir, sub, new) = (Item::dir("a"), Item::dir("a/b"), Item::file("a/b/new", "n"));
    for order in [
        vec![dir.clone(), sub.clone(), new.clone(), marker.clone()],
        vec![dir.clone(), sub.clone(), marker.clone(), new.clone()],
        vec![marker.clone(), dir.clone(), sub.clone(), new.clone()],
        vec![new.clone(), marker.clone(), sub.clone(), dir.clone()],
        vec![new.clone(), marker.clone()],
    ] {
        let merged = Image::of(&[&low, &order]).mount();
        merged.assert_tree(&[("a", "dir"), ("a/b", "dir"), ("a/b/new", "file n")]);
    }
}

#[test]
fn x02_a_file_may_replace_a_directory_that_a_whiteout_named_before() {
    let low = [Item::dir("root"), Item::dir("root/A"), Item::dir("root/A/B"), Item::file("root/A/B/f", "f")];
    let middle = [Item::file("root/.wh.A", "")];
    let high = [
        Item::file("root/A/B/.wh.f", ""),
        Item::dir("root"),
        Item::dir("root/A"),
        Item::file("root/A/B", "file now"),
    ];
    let merged = Image::of(&[&low, &middle, &high]).mount();
    merged.assert_tree(&[("root", "dir"), ("root/A", "dir"), ("root/A/B", "file file now")]);
    assert_eq!(merged.mode("root/A/B"), 0o644);
}

#[test]
fn x03_a_link_may_replace_a_directory_after_a_whiteout_in_it() {
    let low = [Item::dir("a"), Item::file("a/a", "x"), Item::dir("b"), Item::file("b/a", "kept")];
    let high = [Item::file("a/.wh.a", ""), Item::symlink("a", "b")];
    let merged = Image::of(&[&low, &high]).mount();
    merged.assert_tree(&[("a", "link b"), ("b", "dir"), ("b/a", "file kept")]);
}

#[test]
fn x04_a_marker_in_a_new_directory_does_not_reach_through_the_old_link() {
    let low = [Item::dir("target"), Item::file("target/keep", "k"), Item::symlink("link", "/target")];
    let (dir, marker) = (Item::dir("link"), Item::file("link/.wh..wh..opq", ""));
    let new = Item::file("link/new", "n");
    for high in [
        [dir.clone(), marker.clone(), new.clone()],
        [marker.clone(), dir.clone(), new.clone()],
        [marker, new, dir],
    ] {
        let merged = Image::of(&[&low, &high]).mount();
        merged.assert_tree(&[
            ("link", "dir"),
            ("link/new", "file n"),
            ("target", "dir"),
            ("target/keep", "file k"),
        ]);
    }
}

#[test]
fn x25_whiteouts_of_nothing_show_nothing() {
    let low = [Item::file("a", "a")];
    let high = [Item::file(".wh.zzz", ""), Item::file("q/.wh.zz", ""), Item::file("b", "b")];
    let merged = Image::of(&[&low, &high]).mount();
    merged.assert_tree(&[("a", "file a"), ("b", "file b")]);
}

#[test]
fn x25_whiteouts_in_the_lowest_layer_show_nothing() {
    let low = [
        Item::file(".wh.zzz", ""),
        Item::dir("d"),
        Item::file("d/.wh.x", ""),
        Item::file("q/r/.wh..wh..opq", ""),
        Item::file("b", "b"),
    ];
    let merged = Image::of(&[&low]).mount();
    merged.assert_tree(&[("b", "file b"), ("d", "dir")]);
    let merged = Image::of(&[&low, &[Item::dir("d"), Item::file("d/f", "f")]]).mount();
    merged.assert_tree(&[("b", "file b"), ("d", "dir"), ("d/f", "file f")]);
}

#[test]
fn x25_whiteouts_below_what_the_layer_itself_made_opaque_show_nothing() {
    let low = [Item::dir("d"), Item::file("d/x", "x"), Item::dir("d/e"), Item::file("d/e/y", "y")];
    let high = [
        Item::dir("d"),
        Item::file("d/.wh.x", ""),
        Item::file("d/e/.wh.y", ""),
        Item::file("d/.wh..wh..opq", ""),
        Item::file("d/n", "n"),
    ];
    let merged = Image::of(&[&low, &high]).mount();
    merged.assert_tree(&[("d", "dir"), ("d/n", "file n")]);
}

#[test]
fn x26_a_whiteout_hides_one_name_and_not_its_target_or_its_likes() {
    let low = [
        Item::dir("t"),
        Item::file("t/f", "f"),
        Item::symlink("l", "t"),
        Item::file("foo", "1"),
        Item::file("foobar", "2"),
    ];
    let high = [Item::file(".wh.l", ""), Item::file(".wh.foo", "")];
    let merged = Image::of(&[&low, &high]).mount();
    merged.assert_tree(&[("foobar", "file 2"), ("t", "dir"), ("t/f", "file f")]);
}

#[test]
fn x27_bookkeeping_of_aufs_is_dropped() {
    let low = [Item::file("a", "a")];
    let high = [
        Item::dir(".wh..wh.plnk"),
        Item::file(".wh..wh.plnk/1.2", "p"),
        Item::file(".wh..wh.aufs", ""),
        Item::dir(".wh..wh.orph"),
        Item::file("b", "b"),
    ];
    let merged = Image::of(&[&low, &high]).mount();
    merged.assert_tree(&[("a", "file a"), ("b", "file b")]);
}

#[test]
fn a_directory_that_is_deleted_and_made_anew_holds_only_what_is_new() {
    let low = [Item::dir("d"), Item::file("d/old", "o"), Item::dir("d/sub"), Item::file("d/sub/s", "s")];
    let (whiteout, dir, file) = (Item::file(".wh.d", ""), Item::dir("d"), Item::file("d/new", "n"));
    for high in [
        vec![whiteout.clone(), dir.clone(), file.clone()],
        vec![dir, file.clone(), whiteout.clone()],
        vec![whiteout, file],
    ] {
        let merged = Image::of(&[&low, &high]).mount();
        merged.assert_tree(&[("d", "dir"), ("d/new", "file n")]);
    }
}

#[test]
fn a_whiteout_leaves_a_file_of_its_own_layer() {
    let low = [Item::file("f", "old")];
    for high in
        [[Item::file(".wh.f", ""), Item::file("f", "new")], [Item::file("f", "new"), Item::file(".wh.f", "")]]
    {
        Image::of(&[&low, &high]).mount().assert_tree(&[("f", "file new")]);
    }
}

#[test]
fn a_marker_at_the_root_hides_everything_below() {
    let low = [Item::file("f", "f"), Item::dir("d"), Item::file("d/x", "x"), Item::symlink("l", "d")];
    let high = [Item::dir("d"), Item::file("d/n", "n"), Item::file(".wh..wh..opq", "")];
    let merged = Image::of(&[&low, &high]).mount();
    merged.assert_tree(&[("d", "dir"), ("d/n", "file n")]);
}

#[test]
fn a_whiteout_through_a_link_of_a_lower_layer_hides_the_file_there() {
    let low = [
        Item::dir("usr"),
        Item::dir("usr/lib"),
        Item::file("usr/lib/a", "a"),
        Item::symlink("lib", "usr/lib"),
    ];
    let high = [Item::file("lib/.wh.a", ""), Item::file("lib/b", "b")];
    let merged = Image::of(&[&low, &high]).mount();
    merged.assert_tree(&[
        ("lib", "link usr/lib"),
        ("usr", "dir"),
        ("usr/lib", "dir"),
        ("usr/lib/b", "file b"),
    ]);
}

#[test]
fn a_higher_layer_may_bring_back_what_a_middle_one_hid() {
    let low = [Item::dir("d"), Item::file("d/x", "1")];
    let merged = Image::of(&[&low, &[Item::file("d/.wh.x", "")], &[Item::file("d/x", "3")]]).mount();
    merged.assert_tree(&[("d", "dir"), ("d/x", "file 3")]);
}

#[test]
fn z14_attributes_that_steer_overlayfs_are_not_honoured() {
    let low = [Item::dir("d"), Item::file("d/low", "l"), Item::dir("e"), Item::file("e/low", "l")];
    let high = [
        Item::dir("d").xattr("trusted.overlay.opaque", "y").xattr("trusted.overlay.redirect", "/e"),
        Item::dir("e").xattr("user.overlay.opaque", "y").xattr("user.kept", "v"),
        Item::file("f", "").xattr("trusted.overlay.whiteout", "").xattr("trusted.overlay.metacopy", ""),
        Item::device(b'3', "d/low", (0, 0)),
    ];
    let image = Image::of(&[&low, &high]);
    let merged = image.mount();
    merged.assert_tree(&[
        ("d", "dir"),
        ("d/low", "file l"),
        ("e", "dir"),
        ("e/low", "file l"),
        ("f", "file "),
    ]);
    assert_eq!(rustix::fs::getxattr(merged.path("e"), "user.kept", &mut [0u8; 8][..]), Ok(1));
}

#[test]
fn an_ordinary_layer_over_ordinary_layers_is_used_as_it_is() {
    let low = [Item::dir("d"), Item::file("d/x", "x"), Item::file("f", "f")];
    let high =
        [Item::dir("d"), Item::file("d/.wh.x", ""), Item::file(".wh.f", ""), Item::file("d/implied/y", "y")];
    let image = Image::of(&[&low, &high]);
    assert_eq!(image.finished_count, 0);
    let merged = image.mount();
    merged.assert_tree(&[("d", "dir"), ("d/implied", "dir"), ("d/implied/y", "file y")]);
    let image = &merged.image;
    assert!(image.stage(&tar(&high)).unwrap().depends_on_lower());
    assert!(!image.stage(&tar(&low)).unwrap().depends_on_lower());
}
