//! Sparse files whose data does not lie on block boundaries, and what their indexes may cost.

use layer::{LayerError, LayerStore, Limits};
use proptest::prelude::*;

use crate::image::Image;
use crate::tar_writer::{tar, Item};

/// A sparse file (PAX 1.0) of these runs, each with its gap before it.
fn sparse(name: &str, runs: &[(u64, Vec<u8>)], tail: u64) -> Item {
    let (mut map, mut data, mut at) = (format!("{}\n", runs.len()), Vec::new(), 0);
    for (gap, bytes) in runs {
        at += gap;
        map += &format!("{at}\n{}\n", bytes.len());
        at += bytes.len() as u64;
        data.extend_from_slice(bytes);
    }
    let mut body = map.into_bytes();
    body.resize(body.len().next_multiple_of(512), 0);
    body.extend(data);
    Item::file(format!("GNUSparseFile.0/{name}"), body)
        .pax("GNU.sparse.major", "1")
        .pax("GNU.sparse.minor", "0")
        .pax("GNU.sparse.name", name)
        .pax("GNU.sparse.realsize", (at + tail).to_string())
}

fn plain(runs: &[(u64, Vec<u8>)], tail: u64) -> Vec<u8> {
    let mut bytes = Vec::new();
    for (gap, run) in runs {
        bytes.resize(bytes.len() + *gap as usize, 0);
        bytes.extend_from_slice(run);
    }
    bytes.resize(bytes.len() + tail as usize, 0);
    bytes
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(100) })]

    #[test]
    fn sparse_files_of_any_map_have_the_plain_files_bytes(
        files in proptest::collection::vec(
            (
                proptest::collection::vec(
                    (prop_oneof![0..5000_u64, (0..20_u64).prop_map(|n| n * 512)],
                     proptest::collection::vec(1..255_u8, 0..3000)),
                    0..6,
                ),
                0..200_000_u64,
            ),
            1..4,
        ),
    ) {
        let items: Vec<Item> =
            files.iter().enumerate().map(|(n, (runs, tail))| sparse(&format!("f{n}"), runs, *tail)).collect();
        let mut image = Image::new();
        image.add(&tar(&items)).unwrap();
        let merged = image.mount();
        for (n, (runs, tail)) in files.iter().enumerate() {
            let found = std::fs::read(merged.path(&format!("f{n}"))).unwrap();
            prop_assert!(found == plain(runs, *tail), "{n}: {runs:?} {tail}");
        }
    }
}

#[test]
fn a_large_hole_costs_little() {
    // As /var/log/lastlog of a user with a large number.
    let mut image = Image::new();
    let info = image.add(&tar(&[sparse("lastlog", &[(1 << 30, b"entry".to_vec())], 287)])).unwrap();
    assert_eq!(info.size_bytes, (1 << 30) + 292);
    assert!(info.stored_bytes < 1 << 20 || info.kind == "directory", "{}", info.stored_bytes);
    let merged = image.mount();
    use std::os::unix::fs::FileExt;
    let file = std::fs::File::open(merged.path("lastlog")).unwrap();
    let mut end = [0; 7];
    file.read_exact_at(&mut end, (1 << 30) - 1).unwrap();
    assert_eq!(&end, b"\0entry\0");
}

#[test]
fn an_index_of_holes_meets_its_limit() {
    let image = Image::new();
    if LayerStore::open(image.root.path(), "auto").unwrap().kind() != "erofs" {
        return;
    }
    let runs: Vec<(u64, Vec<u8>)> = (0..2000).map(|_| (1_000_001, vec![1])).collect();
    let blob = tar(&[sparse("f", &runs, 0)]);
    let limits = Limits { sparse_index_bytes: 1 << 20, ..Limits::default() };
    let error = image.stage_with(&blob, &limits).unwrap_err();
    let is_limit = matches!(error, LayerError::LimitExceeded { limit: "sparse_index_bytes", .. });
    assert!(is_limit, "{error}");
    assert_eq!(image.folders(), Vec::<String>::new());
    image.stage(&blob).unwrap();
    let limits = Limits { pending_bytes: 10_000, ..Limits::default() };
    let error = Image::new().stage_with(&blob, &limits).unwrap_err();
    assert!(matches!(error, LayerError::LimitExceeded { limit: "pending_bytes", .. }), "{error}");
}
