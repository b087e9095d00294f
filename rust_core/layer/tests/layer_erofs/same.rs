//! Random archives look the same in both kinds of store, seen through overlayfs.

use std::collections::BTreeMap;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::atomic::AtomicU64;

use layer::{LayerError, LayerStore, Limits};
use proptest::prelude::*;

use crate::image::{request, tree, Image};
use crate::tar_writer::{tar, Item};

/// Everything that a container can see of a tree, but for the times of directories that no entry named.
fn seen(root: &Path) -> BTreeMap<String, String> {
    let mut all = tree(root);
    for (path, what) in &mut all {
        let full = root.join(path);
        let status = std::fs::symlink_metadata(&full).unwrap();
        let mut names = vec![0_u8; 65_536];
        let len = rustix::fs::llistxattr(&full, &mut names).unwrap();
        let mut xattrs: Vec<(String, Vec<u8>)> = names[..len]
            .split(|b| *b == 0)
            .filter(|name| !name.is_empty())
            .map(|name| {
                let name = String::from_utf8(name.to_vec()).unwrap();
                let mut value = vec![0_u8; 65_536];
                let len = rustix::fs::lgetxattr(&full, name.as_str(), &mut value).unwrap();
                (name, value[..len].to_vec())
            })
            .collect();
        xattrs.sort();
        let links = if status.is_dir() { 0 } else { status.nlink() };
        let size = if status.is_dir() { 0 } else { status.len() };
        let time = if status.mtime() < 1_750_000_000 { status.mtime() } else { 0 };
        let nanos = if time == 0 { 0 } else { status.mtime_nsec() };
        *what += &format!(
            " {:o} {}:{} {links} {size} {time}.{nanos} {:x} {xattrs:?}",
            status.mode(),
            status.uid(),
            status.gid(),
            status.rdev()
        );
    }
    all
}

fn name() -> impl Strategy<Value = String> {
    let part = prop_oneof![6 => "[abc]", 1 => "[a-z .~-]{1,20}", 1 => "[ab]{200,255}"]
        .prop_filter("a directory's own names", |part: &String| part != "." && part != "..");
    proptest::collection::vec(part, 1..4).prop_map(|parts| parts.join("/"))
}

fn acl(bits: [u16; 4]) -> Vec<u8> {
    let entries = [(1_u16, bits[0], 0_u32), (2, 7, 77), (4, bits[1], 0), (16, bits[2], 0), (32, bits[3], 0)];
    let mut value = 2_u32.to_le_bytes().to_vec();
    for (tag, bits, id) in entries {
        value.extend(tag.to_le_bytes().into_iter().chain(bits.to_le_bytes()).chain(id.to_le_bytes()));
    }
    value
}

fn decorate(item: Item, choice: u8, bits: u16) -> Item {
    match choice {
        0 => item.xattr("user.a", [b'v'; 300]),
        1 => item.xattr("trusted.b", "").xattr("security.c", [0, 255]),
        2 => item.xattr("system.posix_acl_access", acl([6, 5, bits & 7, 4])),
        3 => item.xattr("unknown.name", "dropped").xattr("security.capability", CAPABILITY),
        4 => item.xattr("security.capability", "nonsense"),
        5 => item.xattr("system.posix_acl_access", "nonsense"),
        6 => item.xattr("user.", "no name"),
        _ => item,
    }
}

const CAPABILITY: [u8; 20] = [1, 0, 0, 2, 0, 0x20, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];

fn item() -> impl Strategy<Value = Item> {
    let data = proptest::collection::vec(any::<u8>(), 0..1500);
    let numbers = (any::<u16>(), any::<u32>(), 1..1_700_000_000_i64, 0..999_999_999_u32);
    (name(), name(), data, 0..12_u8, 0..40_u8, numbers).prop_map(
        |(name, other, data, kind, choice, (bits, id, seconds, nanos))| {
            let (parent, last) = name.rsplit_once('/').unwrap_or(("", &name));
            let sibling =
                |name: &str| if parent.is_empty() { name.to_owned() } else { format!("{parent}/{name}") };
            // Long names need GNU's form; those of markers are not decorated.
            let item = match kind {
                0..=2 => Item::file(&name, &data),
                3..=5 => Item::dir(&name),
                6 => Item::symlink(&name, &other),
                7 | 8 => Item::hardlink(&name, &other),
                9 => Item::device(b'3', &name, (u32::from(bits % 3), 3)),
                10 => return Item::file(sibling(&format!(".wh.{}", &last[..last.len().min(200)])), "").gnu(),
                _ => return Item::file(sibling(".wh..wh..opq"), "").gnu(),
            };
            let item = item.gnu().mode(u32::from(bits) & 0o7777).owner(u64::from(id) % 5_000_000, 7);
            // The directory kind looks at a directory's attributes at the end only, when a later entry of the same path
            // may have taken bad ones away.
            let choice = if item.kind == b'5' && (4..7).contains(&choice) { 7 } else { choice };
            decorate(item.pax("mtime", format!("{seconds}.{nanos:09}")), choice, bits)
        },
    )
}

/// The two stores' trees of the layers, or how each refused.
fn compare(layers: &[Vec<Item>]) -> Result<(), TestCaseError> {
    let mut images = ["directory", "erofs"].map(|kind| {
        let mut image = Image::new();
        image.store = LayerStore::open(image.root.path(), kind).unwrap();
        image
    });
    for items in layers {
        let blob = tar(items);
        let [directory, erofs] = images.each_mut().map(|image| image.add(&blob));
        match (directory, erofs) {
            (Ok(directory), Ok(erofs)) => {
                prop_assert_eq!(
                    (directory.size_bytes, directory.entry_count, directory.max_id, &directory.facts),
                    (erofs.size_bytes, erofs.entry_count, erofs.max_id, &erofs.facts)
                );
            }
            (Err(LayerError::Rejected { rule, .. }), Err(LayerError::Rejected { rule: other, .. })) => {
                prop_assert_eq!(rule, other);
                return Ok(());
            }
            (directory, erofs) => prop_assert!(false, "{directory:?}\n{erofs:?}"),
        }
    }
    let [directory, erofs] = images.map(Image::mount);
    prop_assert_eq!(seen(&directory.path(".")), seen(&erofs.path(".")));
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(300) })]

    #[test]
    fn layers_look_the_same_in_both_kinds(
        layers in proptest::collection::vec(proptest::collection::vec(item(), 1..14), 1..4),
    ) {
        compare(&layers)?;
    }
}

#[test]
fn a_layer_that_goes_on_in_either_kind_is_present_in_both() {
    let root = tempfile::tempdir().unwrap();
    let blob = tar(&[Item::dir("d"), Item::file("d/f", "x")]);
    let (limits, progress) = (Limits::default(), AtomicU64::new(0));
    let by = |kind: &str| LayerStore::open(root.path(), kind).unwrap();
    let first = by("erofs").open_import().unwrap().write(&blob[..], &request(&limits, &progress)).unwrap();
    let again =
        by("directory").open_import().unwrap().write(&blob[..], &request(&limits, &progress)).unwrap();
    assert_eq!((first.kind.as_str(), &first), ("erofs", &again));
}
