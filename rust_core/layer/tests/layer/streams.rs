//! Compression, headers and ends: the ways in which an archive is written, and cut.

use std::io::Write;
use std::sync::atomic::{AtomicU64, Ordering};

use content::{Algorithm, Digest};
use layer::{Compression, LayerError, LayerId, Limits, OpenedStage, Rule, StageRequest};

use crate::image::{request, Image};
use crate::tar_writer::{header, seal, tar, Item, Tar};

fn gzip(data: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(data).unwrap();
    encoder.finish().unwrap()
}

fn two_files() -> Vec<u8> {
    tar(&[Item::file("one", [b'1'; 1800]), Item::file("two", [b'2'; 1800])])
}

fn assert_two_files(blob: &[u8], expected: Compression) {
    let mut image = Image::new();
    let info = image.add(blob).unwrap();
    assert_eq!(info.compression, expected);
    let merged = image.mount();
    assert_eq!((merged.lstat("one").len(), merged.lstat("two").len()), (1800, 1800));
    assert_eq!(merged.names("."), ["one", "two"]);
}

fn with_diff_id(blob: &[u8], diff_id: &Digest) -> Result<layer::LayerInfo, LayerError> {
    let image = Image::new();
    let (limits, progress) = (Limits::default(), AtomicU64::new(0));
    let request = StageRequest { expected_diff_id: Some(diff_id), ..request(&limits, &progress) };
    let result = match image.store.open_stage(&LayerId::from_diff_id(diff_id), &|| false).unwrap() {
        OpenedStage::Present(_) => panic!("the store is new"),
        OpenedStage::Writing(stage) => stage.write(blob, &request),
    };
    if result.is_err() {
        assert_eq!(image.folders(), Vec::<String>::new(), "a failed layer left something");
    }
    result
}

#[test]
fn x13_zstd_with_skippable_frames_is_read() {
    let plain = two_files();
    let skippable = b"\x50\x2a\x4d\x18\x04\x00\x00\x00abcd";
    let frame = |data: &[u8]| zstd::encode_all(data, 3).unwrap();
    let blob = [&skippable[..], &frame(&plain[..700]), skippable, &frame(&plain[700..]), skippable].concat();
    assert_two_files(&blob, Compression::Zstd);
    let diff_id = Digest::of(Algorithm::Sha256, &plain);
    assert_eq!(with_diff_id(&blob, &diff_id).unwrap().diff_id, diff_id);
}

#[test]
fn x14_all_members_of_a_gzip_are_one_stream() {
    let plain = two_files();
    assert_two_files(&[gzip(&plain[..700]), gzip(b""), gzip(&plain[700..])].concat(), Compression::Gzip);
    // What follows the members is passed over, as gzip does with padding of tapes.
    assert_two_files(&[gzip(&plain), vec![0; 700]].concat(), Compression::Gzip);
    assert_two_files(&plain, Compression::None);
}

#[test]
fn x15_the_diff_id_covers_the_stream_to_its_end() {
    let whole = [two_files(), vec![0; 10_240]].concat();
    let junk = [two_files(), b"junk behind the end".to_vec()].concat();
    for plain in [whole, junk] {
        for blob in [plain.clone(), gzip(&plain), zstd::encode_all(&plain[..], 1).unwrap()] {
            with_diff_id(&blob, &Digest::of(Algorithm::Sha256, &plain)).unwrap();
            let short = Digest::of(Algorithm::Sha256, &two_files());
            let error = with_diff_id(&blob, &short).unwrap_err();
            assert!(matches!(error, LayerError::DiffIdMismatch { .. }), "{error}");
        }
    }
}

#[test]
fn a_sha512_diff_id_is_verified_too() {
    let diff_id = Digest::of(Algorithm::Sha512, &two_files());
    assert_eq!(with_diff_id(&gzip(&two_files()), &diff_id).unwrap().diff_id, diff_id);
}

#[test]
fn x16_a_cut_layer_is_an_error_and_leaves_nothing() {
    let plain = two_files();
    let compressed = gzip(&plain);
    for blob in [&plain[..512 + 1000], &compressed[..compressed.len() - 20], &compressed[..12], &[]] {
        let image = Image::new();
        let error = image.stage(blob).unwrap_err();
        assert!(matches!(error, LayerError::Corrupt { .. }), "{error}");
        assert_eq!(image.folders(), Vec::<String>::new());
        image.stage(&compressed).unwrap();
    }
}

#[test]
fn x16_a_cut_at_any_byte_is_an_error() {
    let items = [
        Item::file("n".repeat(150), "x").gnu(),
        Item::file("f", "content").pax("mtime", "1.5"),
        Item::dir("d"),
        Item::symlink("l", "d"),
    ];
    let plain = tar(&items);
    let gz = gzip(&plain);
    let zst = zstd::encode_all(&plain[..], 1).unwrap();
    let image = Image::new();
    // Every byte of the compressed forms, whose errors come from three decoders; of the plain one the bytes around
    // each block's edge, since every other one is as far from an edge.
    let edges = (0..plain.len()).filter(|len| matches!(len % 512, 0 | 1 | 100 | 511)).collect();
    let lens: [Vec<usize>; 3] = [edges, (0..gz.len()).collect(), (0..zst.len()).collect()];
    for (blob, lens) in [&plain, &gz, &zst].into_iter().zip(lens) {
        for len in lens {
            let error = image.stage(&blob[..len]).unwrap_err();
            assert!(matches!(error, LayerError::Corrupt { .. }), "{len} of {}: {error}", blob.len());
        }
        image.stage(blob).unwrap();
    }
    assert_eq!(image.folders().len(), 1);
}

#[test]
fn an_archive_without_end_marker_needs_its_digest() {
    let plain = Tar::default().add(&Item::file("f", "x")).cut();
    assert!(matches!(Image::new().stage(&plain), Err(LayerError::Corrupt { .. })));
    with_diff_id(&plain, &Digest::of(Algorithm::Sha256, &plain)).unwrap();
}

#[test]
fn a_bad_gzip_checksum_is_an_error() {
    let mut blob = gzip(&two_files());
    let at = blob.len() - 8;
    blob[at] ^= 1;
    assert!(matches!(Image::new().stage(&blob), Err(LayerError::Corrupt { .. })));
}

#[test]
fn compressions_that_layers_do_not_have_are_named() {
    for (magic, name) in [(&b"\xfd7zXZ\0rest"[..], "xz"), (b"BZh91AY&SY", "bzip2")] {
        let error = Image::new().stage(magic).unwrap_err().to_string();
        assert!(error.contains(name), "{error}");
    }
}

#[test]
fn x19_long_names_and_targets_are_whole_in_both_formats() {
    let name = format!("d/{}", "n".repeat(200));
    let target = "t".repeat(180);
    let gnu = [Item::dir("d"), Item::file(&name, "x").gnu(), Item::symlink("l", &target).gnu()];
    let pax = [
        Item::dir("d"),
        Item::file("short", "x").pax("path", &name),
        Item::symlink("l", "short").pax("linkpath", &target),
    ];
    for items in [&gnu, &pax] {
        let merged = Image::of(&[items]).mount();
        merged.assert_tree(&[("d", "dir"), (&name, "file x"), ("l", &format!("link {target}"))]);
    }
}

#[test]
fn x19_a_name_cut_behind_a_slash_is_no_directory() {
    let name = format!("{}/{}", "a".repeat(99), "b".repeat(30));
    let mut item = Item::file(&name, "x").gnu();
    item.kind = 0;
    let merged = Image::of(&[&[item]]).mount();
    assert!(merged.lstat(&name).is_file());
}

#[test]
fn a_prefix_of_ustar_is_part_of_the_name() {
    let mut block = header(&Item::file("name", ""), b'0');
    block[345..351].copy_from_slice(b"pre/fx");
    seal(&mut block);
    let mut tar = Tar::default();
    tar.add_raw(&block, b"");
    let mut image = Image::new();
    image.add(&tar.end()).unwrap();
    assert!(image.mount().lstat("pre/fx/name").is_file());
}

#[test]
fn x21_an_old_directory_is_a_file_whose_name_ends_in_a_slash() {
    let mut dir = Item::new(0, "d/").v7().mode(0o755);
    dir.link.clear();
    let merged = Image::of(&[&[dir, Item::new(0, "f").v7(), Item::file("d/x", "x")]]).mount();
    merged.assert_tree(&[("d", "dir"), ("d/x", "file x"), ("f", "file ")]);
}

#[test]
fn x24_a_global_header_is_no_file_and_changes_none() {
    let mut tar = Tar::default();
    let body = b"17 comment=hello\n14 path=evil\n";
    tar.add_raw(&header(&Item::file("pax_global_header", body), b'g'), body);
    let mut image = Image::new();
    image.add(&tar.add(&Item::file("f", "x")).end()).unwrap();
    image.mount().assert_tree(&[("f", "file x")]);
}

#[test]
fn a_damaged_header_is_an_error_that_says_where() {
    let mut blob = two_files();
    blob[2560] ^= 1;
    let error = Image::new().stage(&blob).unwrap_err().to_string();
    assert!(error.contains("checksum") && error.contains("3072"), "{error}");
    let error = Image::new().stage(&vec![b'x'; 4096]).unwrap_err();
    assert!(matches!(error, LayerError::Corrupt { .. }), "{error}");
}

#[test]
fn types_without_a_place_in_a_layer_are_refused() {
    for kind in [b'M', b'D', b'N', b'X', b'Z', 1] {
        let error = Image::new().stage(&tar(&[Item::new(kind, "f")])).unwrap_err();
        assert!(matches!(error, LayerError::Rejected { rule: Rule::EntryType, .. }), "{kind}: {error}");
    }
    Image::new().stage(&tar(&[Item::new(b'7', "f"), Item::new(b'V', "label")])).unwrap();
}

#[test]
fn progress_counts_uncompressed_bytes_and_cancelling_leaves_nothing() {
    let image = Image::new();
    let (limits, progress) = (Limits::default(), AtomicU64::new(0));
    let blob = gzip(&two_files());
    image.store.open_import().unwrap().write(&blob[..], &request(&limits, &progress)).unwrap();
    assert_eq!(progress.load(Ordering::Relaxed), two_files().len() as u64);
    let image = Image::new();
    let request = StageRequest { is_cancelled: &|| true, ..request(&limits, &progress) };
    let error = image.store.open_import().unwrap().write(&blob[..], &request).unwrap_err();
    assert!(matches!(error, LayerError::Cancelled { .. }), "{error}");
    assert_eq!(image.folders(), Vec::<String>::new());
}

#[test]
fn a_failing_source_is_told_apart_from_bad_bytes() {
    struct Failing;
    impl std::io::Read for Failing {
        fn read(&mut self, _: &mut [u8]) -> std::io::Result<usize> {
            Err(std::io::Error::from_raw_os_error(104))
        }
    }
    for start in [Vec::new(), gzip(&two_files())[..100].to_vec(), two_files()[..700].to_vec()] {
        let (limits, progress) = (Limits::default(), AtomicU64::new(0));
        let source = std::io::Read::chain(&start[..], Failing);
        let image = Image::new();
        let error =
            image.store.open_import().unwrap().write(source, &request(&limits, &progress)).unwrap_err();
        assert!(matches!(&error, LayerError::Source { error, .. } if error.errno == 104), "{error}");
    }
}
