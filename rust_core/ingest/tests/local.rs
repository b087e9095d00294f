//! Layers from local files, settling against lower layers, and image archives.

mod common;

use std::fs::File;
use std::io::{Read, Seek, SeekFrom, Write};
use std::os::fd::AsFd;

use common::{big_layer, digest, gzip, hex, noise, reason, tar_of, Place};
use errors::Catalogued;
use ingest::{
    decompress_archive, finish_layer, list_archive, store_layer, ArchiveEntryKind, FileRange, StoredLayer,
};
use sys::cancel::CancelToken;

fn file_of(data: &[u8]) -> File {
    let mut file = tempfile::tempfile().expect("a file");
    file.write_all(data).expect("written");
    file
}

/// Stores `blob` from the middle of a file.
fn store(
    place: &Place,
    blob: &[u8],
    expected_digest: Option<&str>,
    expected_diff_id: Option<&str>,
) -> Result<StoredLayer, ingest::IngestError> {
    let file = file_of(&[&b"before"[..], blob, b"behind"].concat());
    let range = FileRange { fd: file.as_fd(), offset_bytes: 6, size_bytes: blob.len() as u64 };
    store_layer(&range, expected_digest, expected_diff_id, place.stores(), place.task())
}

#[test]
fn a_layer_is_stored_whatever_is_known_of_it_before() {
    let (tar, compressed) = big_layer();
    let zstd = zstd::encode_all(&*tar, 1).expect("compressed");
    for (blob, media_type) in [(&tar, "tar"), (&compressed, "tar+gzip"), (&zstd, "tar+zstd")] {
        let (name, diff_id) = (digest(blob), digest(&tar));
        for expected_digest in [None, Some(name.as_str())] {
            for expected_diff_id in [None, Some(diff_id.as_str())] {
                let place = Place::new();
                let stored = store(&place, blob, expected_digest, expected_diff_id).expect("a layer");
                assert_eq!((stored.digest.to_string(), stored.size_bytes), (name.clone(), blob.len() as u64));
                assert_eq!(stored.diff_id.to_string(), diff_id);
                assert!(stored.media_type.ends_with(media_type), "{}", stored.media_type);
                place.publish(blob, &stored.layer);
                assert_eq!(
                    std::fs::read(place.layer_file(&stored.layer, "a/small")).expect("a file"),
                    b"small"
                );
                // And once more, when everything is there.
                assert_eq!(store(&place, blob, expected_digest, expected_diff_id).expect("a layer"), stored);
            }
        }
    }
}

#[test]
fn a_wrong_digest_or_diff_id_is_told_by_its_name() {
    let (tar, blob) = big_layer();
    let wrong = digest(b"another");
    let cases = [
        (&blob, Some(wrong.as_str()), None, "DIGEST_MISMATCH"),
        (&blob, None, Some(wrong.as_str()), "DIFF_ID_MISMATCH"),
        (&tar, None, Some(wrong.as_str()), "DIFF_ID_MISMATCH"),
        (&tar, Some("sha256:.."), None, "DIGEST_INVALID"),
    ];
    for (blob, expected_digest, expected_diff_id, expected) in cases {
        let place = Place::new();
        assert_eq!(reason(store(&place, blob, expected_digest, expected_diff_id)), expected);
        assert!(place.has_no_layer());
        assert!(place.content.list_ingests().expect("ingests").iter().all(|ingest| ingest.is_complete));
    }
}

#[test]
fn a_range_beyond_the_file_is_an_error_and_not_a_short_layer() {
    let place = Place::new();
    let file = file_of(&tar_of(&[("f", b"x")]));
    let range = FileRange { fd: file.as_fd(), offset_bytes: 0, size_bytes: 1 << 20 };
    assert_eq!(reason(store_layer(&range, None, None, place.stores(), place.task())), "IO_FAILED");
    assert!(place.has_no_layer());
}

#[test]
fn what_is_no_archive_is_no_layer() {
    for data in [&b"hello, this is no tar"[..], &[b'x'; 2000], b"", b"BZh9xxxxxxxx"] {
        let place = Place::new();
        let outcome = store(&place, data, None, None);
        assert_eq!(reason(outcome), "LAYER_CORRUPT");
        assert!(place.has_no_layer());
    }
}

#[test]
fn a_cancelled_store_leaves_no_layer() {
    let (_, blob) = big_layer();
    let place = Place::new();
    place.cancel.cancel();
    assert_eq!(reason(store(&place, &blob, None, None)), "CANCELLED");
    assert!(place.has_no_layer());
}

#[test]
fn r16_the_same_layer_twice_is_one_layer() {
    let place = Place::new();
    let tar = tar_of(&[("f", b"1")]);
    let first = store(&place, &tar, None, None).expect("a layer");
    let second = store(&place, &gzip(&tar), None, Some(&digest(&tar))).expect("a layer");
    assert_eq!(first.layer, second.layer);
    assert_ne!(first.digest, second.digest);
    assert_ne!(first.media_type, second.media_type);
}

#[test]
fn x10_a_link_into_a_lower_layer_is_settled_under_the_chain() {
    let mut header = tar::Header::new_gnu();
    header.set_entry_type(tar::EntryType::Link);
    header.set_size(0);
    let mut builder = tar::Builder::new(Vec::new());
    builder.append_link(&mut header, "b", "a").expect("an entry");
    let upper_tar = builder.into_inner().expect("a tar");
    let lower_tar = tar_of(&[("a", b"data")]);

    let place = Place::new();
    let lower = store(&place, &lower_tar, None, None).expect("a layer");
    let upper = store(&place, &upper_tar, None, None).expect("a layer");
    assert!(upper.layer.depends_on_lower() && !lower.layer.depends_on_lower());
    let finish = |stored: &StoredLayer, lowers: &[&str]| {
        // A chain id names the layers below too, so that each set of them has its own.
        let chain = digest(format!("the chain {lowers:?}").as_bytes());
        let names = (stored.digest.to_string(), stored.diff_id.to_string());
        finish_layer(&names.0, &names.1, &chain, lowers, place.stores(), &CancelToken::new())
    };
    assert_eq!(finish(&lower, &[]).expect("a layer"), lower.layer);
    let settled = finish(&upper, &[lower.layer.layer_id.as_str()]).expect("a layer");
    assert!(settled.layer_id.as_str().starts_with("chain-"));
    place.publish(&upper_tar, &settled);
    assert_eq!(std::fs::read(place.layer_file(&settled, "b")).expect("a file"), b"data");
    assert_eq!(reason(finish(&upper, &[])), "LAYER_REJECTED");
    assert_eq!(reason(finish(&upper, &[&hex(b"nothing")])), "LAYER_NOT_FOUND");
}

#[test]
fn a_layer_that_keeps_its_archive_is_settled_without_its_blob() {
    let mut place = Place::new();
    place.layers = layer::LayerStore::open(place.root.path(), "auto").expect("a layer store");
    if place.layers.kind() != "erofs" {
        eprintln!("passed over: {}", place.layers.choice_detail());
        return;
    }
    let lower = store(&place, &tar_of(&[("a", b"data")]), None, None).expect("stored");
    let mut link = tar::Header::new_gnu();
    link.set_entry_type(tar::EntryType::Link);
    link.set_size(0);
    link.set_mode(0o644);
    let mut upper = tar::Builder::new(Vec::new());
    upper.append_link(&mut link, "b", "a").expect("an entry");
    let upper = gzip(&upper.into_inner().expect("an archive"));
    let stored = store(&place, &upper, None, None).expect("stored");
    place.content.delete_ingest(&stored.digest).expect("deleted");
    let (blob, diff_id) = (stored.digest.to_string(), stored.diff_id.to_string());
    let lowers = [lower.layer.layer_id.as_str()];
    let chain = digest(b"the chain");
    let settled =
        finish_layer(&blob, &diff_id, &chain, &lowers, place.stores(), &CancelToken::new()).expect("a layer");
    place.layers.publish(std::slice::from_ref(&settled.layer_id)).expect("visible");
    assert_eq!(std::fs::read(place.layer_file(&settled, "b")).expect("a file"), b"data");
}

#[test]
fn a_compressed_archive_becomes_an_unlinked_file_beside_it() {
    let folder = tempfile::tempdir().expect("a folder");
    let data = noise(700_000);
    for (blob, is_compressed) in
        [(gzip(&data), true), (zstd::encode_all(&*data, 1).expect("compressed"), true), (data.clone(), false)]
    {
        let path = folder.path().join("archive");
        std::fs::write(&path, &blob).expect("written");
        let mut file = File::open(&path).expect("the file");
        file.seek(SeekFrom::Start(7)).expect("moved");
        let out = decompress_archive(file.as_fd(), 700_000, &CancelToken::new()).expect("decompressed");
        assert_eq!(file.stream_position().expect("a position"), 7);
        assert_eq!(out.is_some(), is_compressed);
        if let Some(out) = out {
            let mut found = Vec::new();
            File::from(out).read_to_end(&mut found).expect("read");
            assert!(found == data);
        }
        assert_eq!(std::fs::read_dir(folder.path()).expect("the folder").count(), 1);
    }
}

#[test]
fn decompression_ends_at_its_limit_at_damage_and_when_cancelled() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("archive");
    let whole = gzip(&vec![0; 10_000_000]);
    let open = |data: &[u8]| {
        std::fs::write(&path, data).expect("written");
        File::open(&path).expect("the file")
    };
    let file = open(&whole);
    let error = decompress_archive(file.as_fd(), 9_999_999, &CancelToken::new()).expect_err("too big");
    assert_eq!((error.reason(), error.metadata()[0].1.as_str()), ("LIMIT_EXCEEDED", "max_size_bytes"));
    let file = open(&whole[..whole.len() - 9]);
    assert_eq!(reason(decompress_archive(file.as_fd(), 1 << 30, &CancelToken::new())), "ARCHIVE_INVALID");
    let (file, cancel) = (open(&whole), CancelToken::new());
    cancel.cancel();
    assert_eq!(reason(decompress_archive(file.as_fd(), 1 << 30, &cancel)), "CANCELLED");
    assert_eq!(std::fs::read_dir(folder.path()).expect("the folder").count(), 1);
}

#[test]
fn an_archive_is_listed_in_its_order_with_offsets_of_the_data() {
    let mut builder = tar::Builder::new(Vec::new());
    let mut add = |kind, name: &str, link: &str, data: &[u8]| {
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(kind);
        header.set_size(data.len() as u64);
        if link.is_empty() {
            builder.append_data(&mut header, name, data).expect("an entry");
        } else {
            builder.append_link(&mut header, name, link).expect("an entry");
        }
    };
    let long = "x".repeat(150);
    add(tar::EntryType::Directory, "./d/", "", b"");
    add(tar::EntryType::Regular, "./d/f", "", b"hello");
    add(tar::EntryType::Regular, &long, "", b"world");
    add(tar::EntryType::Symlink, "d/s", "../other/layer.tar", b"");
    add(tar::EntryType::Link, "d/h", "./d/f", b"");
    add(tar::EntryType::Fifo, "p", "", b"");
    let data = builder.into_inner().expect("a tar");
    let file = file_of(&data);
    let entries = list_archive(file.as_fd(), 6).expect("entries");
    let shown: Vec<_> = entries.iter().map(|e| (e.name.as_str(), e.kind, e.link_name.as_str())).collect();
    assert_eq!(
        shown,
        [
            ("d", ArchiveEntryKind::Directory, ""),
            ("d/f", ArchiveEntryKind::File, ""),
            (long.as_str(), ArchiveEntryKind::File, ""),
            ("d/s", ArchiveEntryKind::Symlink, "../other/layer.tar"),
            ("d/h", ArchiveEntryKind::Hardlink, "d/f"),
            ("p", ArchiveEntryKind::Other, ""),
        ]
    );
    for (entry, expected) in [(&entries[1], b"hello"), (&entries[2], b"world")] {
        let start = entry.offset_bytes as usize;
        assert_eq!(&data[start..start + entry.size_bytes as usize], expected);
    }
    let error = list_archive(file.as_fd(), 5).expect_err("too many");
    assert_eq!((error.reason(), error.metadata()[0].1.as_str()), ("LIMIT_EXCEEDED", "max_entries"));
}

#[test]
fn archives_that_escape_or_are_cut_are_refused() {
    let mut escaping = tar_of(&[("zz/f", b"x")]);
    escaping[..4].copy_from_slice(b"../f");
    let sum: u32 =
        escaping[..148].iter().chain(&escaping[156..512]).map(|b| u32::from(*b)).sum::<u32>() + 8 * 32;
    escaping[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    let cut = tar_of(&[("f", &noise(5000))])[..3000].to_vec();
    for data in [escaping, cut, b"no tar at all, but long enough to be a block".repeat(20), vec![1; 100]] {
        assert_eq!(reason(list_archive(file_of(&data).as_fd(), 10)), "ARCHIVE_INVALID");
    }
}
