//! Sparse files in all of GNU's formats: the same bytes as the plain file, or an error, never the map as text.

use std::process::Command;

use layer::{LayerError, Limits, Rule};

use crate::image::Image;
use crate::tar_writer::{tar, Item};

const SIZE: usize = 8 << 20;

fn plain_file() -> Vec<u8> {
    let mut data = vec![0; SIZE];
    data[1 << 20..(1 << 20) + 3].copy_from_slice(b"MID");
    data[5 << 20..(5 << 20) + 3].copy_from_slice(b"END");
    data
}

fn archive_by_gnu_tar(options: &[&str]) -> Vec<u8> {
    use std::os::unix::fs::FileExt;
    let directory = tempfile::tempdir().unwrap();
    let file = std::fs::File::create(directory.path().join("f")).unwrap();
    file.set_len(SIZE as u64).unwrap();
    file.write_all_at(b"MID", 1 << 20).unwrap();
    file.write_all_at(b"END", 5 << 20).unwrap();
    std::fs::write(directory.path().join("next"), "n").unwrap();
    let output = Command::new("tar")
        .args(["--sparse", "-cf", "-", "-C", directory.path().to_str().unwrap()])
        .args(options)
        .args(["f", "next"])
        .output()
        .unwrap();
    assert!(output.status.success(), "{output:?}");
    output.stdout
}

#[test]
fn x17_sparse_files_of_every_format_have_the_plain_files_bytes() {
    for options in [
        &["--format=posix", "--sparse-version=1.0"][..],
        &["--format=posix", "--sparse-version=0.1"],
        &["--format=posix", "--sparse-version=0.0"],
        &["--format=gnu"],
    ] {
        let blob = archive_by_gnu_tar(options);
        assert!(blob.len() < SIZE, "{options:?}: tar stored no holes");
        let mut image = Image::new();
        let info = image.add(&blob).unwrap();
        assert_eq!(info.size_bytes, SIZE as u64 + 1);
        let merged = image.mount();
        assert_eq!(merged.names("."), ["f", "next"], "{options:?}");
        assert!(std::fs::read(merged.path("f")).unwrap() == plain_file(), "{options:?}");
        assert_eq!(merged.read("next"), "n");
    }
}

#[test]
fn x17_an_old_map_that_goes_on_in_more_blocks_is_read() {
    use std::os::unix::fs::FileExt;
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("f");
    let file = std::fs::File::create(&path).unwrap();
    file.set_len(60 << 16).unwrap();
    for at in 0..60u64 {
        file.write_all_at(&[b'0' + (at % 10) as u8; 4096], at << 16).unwrap();
    }
    for format in ["gnu", "posix"] {
        let args = ["--sparse", &format!("--format={format}"), "-cf", "-", "-C"];
        let output = Command::new("tar").args(args).arg(directory.path()).arg("f").output().unwrap();
        let mut image = Image::new();
        image.add(&output.stdout).unwrap();
        let merged = image.mount();
        assert!(std::fs::read(merged.path("f")).unwrap() == std::fs::read(&path).unwrap(), "{format}");
    }
}

fn sparse_1_0(map: &str, real_size: &str, data: &[u8]) -> Vec<u8> {
    let mut body = map.as_bytes().to_vec();
    body.resize(body.len().next_multiple_of(512), 0);
    body.extend_from_slice(data);
    let item = Item::file("GNUSparseFile.0/f", body)
        .pax("GNU.sparse.major", "1")
        .pax("GNU.sparse.minor", "0")
        .pax("GNU.sparse.name", "f")
        .pax("GNU.sparse.realsize", real_size);
    tar(&[item])
}

#[test]
fn x17_maps_that_do_not_fit_the_file_are_refused() {
    Image::new().stage(&sparse_1_0("1\n2\n3\n", "10", b"abc")).unwrap();
    for (map, size) in [
        ("1\n8\n3\n", "10"),
        ("1\n0\n2\n", "10"),
        ("2\n4\n1\n4\n2\n", "10"),
        ("2\n4\n1\n0\n2\n", "10"),
        ("1\n-1\n3\n", "10"),
        ("1\nx\n3\n", "10"),
        ("99999999999999999999\n", "10"),
        ("1\n18446744073709551615\n3\n", "10"),
        ("1\n0\n3\n", "18446744073709551616"),
    ] {
        let error = Image::new().stage(&sparse_1_0(map, size, b"abc")).unwrap_err();
        let is_refused =
            matches!(error, LayerError::Rejected { rule: Rule::SparseMap, .. } | LayerError::Corrupt { .. });
        assert!(is_refused, "{map:?}: {error}");
    }
    let unknown = tar(&[Item::file("f", "x").pax("GNU.sparse.major", "2").pax("GNU.sparse.minor", "0")]);
    assert!(matches!(Image::new().stage(&unknown), Err(LayerError::Corrupt { .. })));
}

#[test]
fn x18_a_map_of_millions_of_regions_meets_its_limit() {
    let map = format!("{}\n{}", 30_000_000, "1\n".repeat(1 << 20));
    let error = Image::new().stage(&sparse_1_0(&map, "10", b"")).unwrap_err();
    assert!(matches!(error, LayerError::LimitExceeded { limit: "sparse_map_bytes", .. }), "{error}");
    let map = Item::file("f", "").pax("GNU.sparse.map", "1,".repeat(600_000)).pax("GNU.sparse.size", "1");
    let error = Image::new().stage(&tar(&[map])).unwrap_err();
    let is_limit = matches!(error, LayerError::LimitExceeded { limit: "extended_header_bytes", .. });
    assert!(is_limit, "{error}");
}

#[test]
fn x18_an_old_map_without_end_meets_its_limit() {
    let mut block = crate::tar_writer::header(&Item::file("f", "").gnu(), b'S');
    block[482] = 1;
    crate::tar_writer::seal(&mut block);
    let mut blob = block;
    let mut more = vec![0; 512];
    more[504] = 1;
    blob.extend(more.repeat(4096));
    let error = Image::new().stage(&blob).unwrap_err();
    assert!(matches!(error, LayerError::LimitExceeded { limit: "sparse_map_bytes", .. }), "{error}");
}

#[test]
fn a_claimed_size_beyond_the_limit_is_refused_though_nothing_of_it_is_stored() {
    let limits = Limits { layer_size_bytes: 1 << 20, ..Limits::default() };
    let one = || {
        Item::file("f", "")
            .pax("GNU.sparse.major", "0")
            .pax("GNU.sparse.minor", "1")
            .pax("GNU.sparse.map", "")
    };
    let huge = one().pax("GNU.sparse.size", "9000000000000000000");
    let error = Image::new().stage_with(&tar(&[huge]), &limits).unwrap_err();
    assert!(matches!(error, LayerError::LimitExceeded { limit: "layer_size_bytes", .. }), "{error}");
    let half = |name: &str| {
        let mut item = one().pax("GNU.sparse.size", "700000");
        item.name = name.into();
        item
    };
    let error = Image::new().stage_with(&tar(&[half("a"), half("b")]), &limits).unwrap_err();
    assert!(matches!(error, LayerError::LimitExceeded { limit: "layer_size_bytes", .. }), "{error}");
}
