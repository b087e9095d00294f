//! What writers of archives do that is rare and right: headers of other tars, fields of gzip, windows of zstd.

use std::os::unix::fs::MetadataExt;

use layer::LayerError;

use crate::image::Image;
use crate::tar_writer::{header, seal, tar, Item, Tar};

fn assert_two_files(blob: &[u8]) {
    let mut image = Image::new();
    image.add(blob).unwrap();
    image.mount().assert_tree(&[("a", "file 1"), ("b", "file 2")]);
}

fn two_files() -> Vec<u8> {
    tar(&[Item::file("a", "1"), Item::file("b", "2")])
}

#[test]
fn x14_every_field_that_a_gzip_header_may_have_is_passed_over() {
    let mut builder = flate2::GzBuilder::new();
    builder =
        builder.extra([7; 300]).filename("layer.tar").comment("made elsewhere").mtime(1).operating_system(3);
    let mut encoder = builder.write(Vec::new(), flate2::Compression::best());
    std::io::Write::write_all(&mut encoder, &two_files()).unwrap();
    let plain = encoder.finish().unwrap();
    assert_two_files(&plain);
    // FHCRC: two bytes of the header's checksum behind the other fields.
    let end_of_fields = plain.windows(15).position(|window| window == b"made elsewhere\0").unwrap() + 15;
    let mut checked = plain.clone();
    checked[3] |= 2;
    let mut crc = flate2::Crc::new();
    crc.update(&checked[..end_of_fields]);
    let sum = (crc.sum() as u16).to_le_bytes();
    checked.splice(end_of_fields..end_of_fields, sum);
    assert_two_files(&checked);
}

fn zstd_with_window(log: u32, data: &[u8]) -> Vec<u8> {
    let mut encoder = zstd::stream::Encoder::new(Vec::new(), 1).unwrap();
    encoder.window_log(log).unwrap();
    encoder.include_contentsize(false).unwrap();
    std::io::Write::write_all(&mut encoder, data).unwrap();
    encoder.finish().unwrap()
}

#[test]
fn x13_zstd_frames_may_look_back_as_far_as_zstd_long_and_no_further() {
    for log in [10, 23, 27] {
        assert_two_files(&zstd_with_window(log, &two_files()));
    }
    for log in [28, 31] {
        let image = Image::new();
        let error = image.stage(&zstd_with_window(log, &two_files())).unwrap_err();
        assert!(
            matches!(&error, LayerError::LimitExceeded { limit: "zstd_window_bytes", .. }),
            "{log}: {error}"
        );
        assert_eq!(image.folders(), Vec::<String>::new());
    }
}

#[test]
fn x19_the_prefix_of_star_is_shorter_and_has_times_behind_it() {
    let mut block = header(&Item::file("f", "data"), b'0');
    block[345..348].copy_from_slice(b"d/e");
    // atime and ctime stand where ustar's prefix would go on.
    block[476..488].copy_from_slice(b"07346545000\0");
    block[488..500].copy_from_slice(b"07346545000\0");
    block[508..512].copy_from_slice(b"tar\0");
    seal(&mut block);
    let mut archive = Tar::default();
    archive.add_raw(&block, b"data");
    let mut image = Image::new();
    image.add(&archive.end()).unwrap();
    image.mount().assert_tree(&[("d", "dir"), ("d/e", "dir"), ("d/e/f", "file data")]);
}

#[test]
fn x22_times_before_1970_are_kept_in_every_form() {
    let items = [
        Item::file("gnu", "").mtime(-1).gnu(),
        Item::file("pax", "").pax("mtime", "-86400.25"),
        Item::file("long", "").pax("mtime", "1500000000.1234567890123456789"),
    ];
    let merged = Image::of(&[&items]).mount();
    let time = |name: &str| (merged.lstat(name).mtime(), merged.lstat(name).mtime_nsec());
    assert_eq!(time("gnu"), (-1, 0));
    assert_eq!(time("pax"), (-86_401, 750_000_000));
    assert_eq!(time("long"), (1_500_000_000, 123_456_789));
}

#[test]
fn x10_a_hard_link_to_a_link_is_that_link() {
    let merged = Image::of(&[&[Item::symlink("s", "nowhere"), Item::hardlink("h", "s")]]).mount();
    merged.assert_tree(&[("h", "link nowhere"), ("s", "link nowhere")]);
    assert_eq!(merged.lstat("h").ino(), merged.lstat("s").ino());
}

#[test]
fn x26_a_name_hidden_twice_is_gone_and_its_other_names_stay() {
    let low = [Item::file("a", "data"), Item::hardlink("b", "a"), Item::symlink("c", "a")];
    let high = [Item::file(".wh.a", ""), Item::file("./.wh.a", "")];
    Image::of(&[&low, &high]).mount().assert_tree(&[("b", "file data"), ("c", "link a")]);
}

#[test]
fn x01_an_opaque_root_hides_all_layers_below_and_nothing_of_its_own() {
    let low = [Item::file("a", "old"), Item::dir("d"), Item::file("d/x", "old")];
    let high = [
        Item::file("new", "n"),
        Item::file(".wh..wh..opq", ""),
        Item::dir("d"),
        Item::hardlink("same", "new"),
    ];
    let merged = Image::of(&[&low, &[Item::file("middle", "m")], &high]).mount();
    merged.assert_tree(&[("d", "dir"), ("new", "file n"), ("same", "file n")]);
}

#[test]
fn x24_records_of_a_global_header_do_not_name_the_entries_behind_it() {
    let mut archive = Tar::default();
    for body in ["30 path=somewhere/else/at/all\n", "18 comment=0123456\n"] {
        archive.add_raw(&header(&Item::file("pax_global_header", body), b'g'), body.as_bytes());
    }
    let archive = archive.add(&Item::file("f", "data")).end();
    let mut image = Image::new();
    image.add(&archive).unwrap();
    image.mount().assert_tree(&[("f", "file data")]);
}
