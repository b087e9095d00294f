//! Each named limit ends a layer with an error that names it, and nothing of the layer stays.

use std::io::{Read, Write};

use errors::Catalogued;
use layer::{LayerError, Limits};

use crate::image::Image;
use crate::tar_writer::{header, tar, Item, Tar};

#[track_caller]
fn assert_limit(blob: &[u8], limits: &Limits, expected: &str) {
    let image = Image::new();
    let error = image.stage_with(blob, limits).unwrap_err();
    assert!(matches!(&error, LayerError::LimitExceeded { limit, .. } if *limit == expected), "{error}");
    let keys: Vec<&str> = error.metadata().iter().map(|(key, _)| *key).collect();
    assert_eq!((error.reason(), keys), ("LIMIT_EXCEEDED", vec!["limit", "limit_value", "actual", "subject"]));
    assert_eq!(image.folders(), Vec::<String>::new(), "{expected} left something");
}

#[test]
fn entries_and_the_parents_they_imply_are_counted() {
    let limits = Limits { entry_count: 10, ..Limits::default() };
    let many: Vec<Item> = (0..11).map(|n| Item::file(format!("f{n}"), "")).collect();
    assert_limit(&tar(&many), &limits, "entry_count");
    assert_limit(&tar(&[Item::file("a/b/c/d/e/f/g/h/i/j/k", "")]), &limits, "entry_count");
    let dropped: Vec<Item> = (0..11).map(|_| Item::file(".wh..wh.aufs", "")).collect();
    assert_limit(&tar(&dropped), &limits, "entry_count");
    let mut headers = Tar::default();
    for _ in 0..11 {
        headers.add_raw(&header(&Item::file("g", ""), b'g'), b"");
    }
    assert_limit(&headers.end(), &limits, "entry_count");
}

#[test]
fn names_and_targets_are_bounded() {
    let limits = Limits::default();
    assert_limit(&tar(&[Item::file("n".repeat(256), "").gnu()]), &limits, "name_bytes");
    let long = format!("{}/", "n".repeat(200)).repeat(21);
    assert_limit(&tar(&[Item::file(&long, "").gnu()]), &limits, "path_bytes");
    assert_limit(&tar(&[Item::symlink("l", "t".repeat(4096)).gnu()]), &limits, "path_bytes");
    assert_limit(&tar(&[Item::file("d/".repeat(201), "").gnu()]), &limits, "path_depth");
}

#[test]
fn depth_reached_through_links_is_bounded_too() {
    let deep = "d/".repeat(150);
    let items = [Item::symlink("l", &deep).gnu(), Item::file(format!("l/{deep}f"), "").gnu()];
    assert_limit(&tar(&items), &Limits::default(), "path_depth");
}

#[test]
fn extended_headers_and_attributes_are_bounded() {
    let limits = Limits { xattr_value_bytes: 100, xattr_count: 3, ..Limits::default() };
    assert_limit(&tar(&[Item::file("f", "").xattr("user.a", [b'x'; 101])]), &limits, "xattr_value_bytes");
    let many = (0..4).fold(Item::file("f", ""), |item, n| item.xattr(&format!("user.{n}"), "v"));
    assert_limit(&tar(&[many]), &limits, "xattr_count");
    let huge = Item::file("f", "").pax("comment", vec![b'x'; 1 << 20]);
    assert_limit(&tar(&[huge]), &Limits::default(), "extended_header_bytes");
    // A header that claims more than it brings is refused before anything is taken in.
    let mut lying = header(&Item::file("x", ""), b'x');
    lying[124..136].copy_from_slice(b"77777777777\0");
    crate::tar_writer::seal(&mut lying);
    assert_limit(&lying, &Limits::default(), "extended_header_bytes");
}

#[test]
fn what_waits_for_the_end_is_bounded() {
    let limits = Limits { pending_bytes: 6_000, ..Limits::default() };
    let dirs: Vec<Item> = (0..100).map(|n| Item::dir(format!("d{n}"))).collect();
    assert_limit(&tar(&dirs), &limits, "pending_bytes");
    let whiteouts: Vec<Item> = (0..100).map(|n| Item::file(format!(".wh.f{n}"), "")).collect();
    assert_limit(&tar(&whiteouts), &limits, "pending_bytes");
    let links: Vec<Item> = (0..100).map(|n| Item::hardlink(format!("l{n}"), "nowhere")).collect();
    assert_limit(&tar(&links), &limits, "pending_bytes");
    // The attributes of one directory over and over, be it the root.
    for path in ["d", "./"] {
        let again = |n| Item::dir(path).xattr("user.n", format!("{n:0100}"));
        let again: Vec<Item> = (0..100).map(again).collect();
        assert_limit(&tar(&again), &limits, "pending_bytes");
    }
}

#[test]
fn the_uncompressed_size_is_bounded() {
    let limits = Limits { layer_size_bytes: 10_000, ..Limits::default() };
    assert_limit(
        &tar(&[Item::file("f", vec![b'x'; 9000]), Item::file("g", "x")]),
        &limits,
        "layer_size_bytes",
    );
    let mut lying = header(&Item::file("f", ""), b'0');
    lying[124..136].copy_from_slice(b"77777777777\0");
    crate::tar_writer::seal(&mut lying);
    assert_limit(&lying, &limits, "layer_size_bytes");
}

#[test]
fn a_bomb_is_stopped_and_a_small_layer_of_zeros_is_not() {
    let zeros = |len: u64| {
        let mut block = header(&Item::file("zeros", ""), b'0');
        block[124..136].copy_from_slice(format!("{len:011o}\0").as_bytes());
        crate::tar_writer::seal(&mut block);
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
        encoder.write_all(&block).unwrap();
        std::io::copy(&mut std::io::repeat(0).take(len + 1024), &mut encoder).unwrap();
        encoder.finish().unwrap()
    };
    let blob = zeros(8 << 20);
    let limits = Limits { expansion_floor_bytes: 1 << 20, ..Limits::default() };
    assert_limit(&blob, &limits, "expansion_ratio");
    Image::new().stage(&blob).unwrap();
}

#[test]
fn links_that_turn_in_circles_are_refused() {
    let items = [Item::symlink("a", "b"), Item::symlink("b", "a"), Item::file("a/f", "x")];
    let error = Image::new().stage(&tar(&items)).unwrap_err();
    assert!(matches!(error, LayerError::Rejected { rule: layer::Rule::SymlinkLoop, .. }), "{error}");
}
