//! Random changes made through a real overlay mount: their layer over the same lower layers is the tree that was seen.

use std::fs;
use std::os::unix::fs::{symlink, PermissionsExt};
use std::path::Path;

use proptest::prelude::*;
use rustix::fs::{FileType, Mode, XattrFlags, CWD};

use crate::diff_support::{facts, names, read, tar_command, Container};
use crate::image::Image;
use crate::tar_writer::{tar, Item};

#[derive(Debug, Clone)]
enum Change {
    Write(String, u8),
    Directory(String),
    Remove(String),
    Rename(String, String),
    Link(String, String),
    Symlink(String, String),
    Fifo(String),
    Mode(String, u32),
    Owner(String, u32),
    Note(String, u8),
}

fn path() -> impl Strategy<Value = String> {
    proptest::collection::vec(prop_oneof!["a", "b", "c"], 1..4).prop_map(|names| names.join("/"))
}

fn change() -> impl Strategy<Value = Change> {
    prop_oneof![
        4 => (path(), any::<u8>()).prop_map(|(path, byte)| Change::Write(path, byte)),
        4 => path().prop_map(Change::Directory),
        4 => path().prop_map(Change::Remove),
        3 => (path(), path()).prop_map(|(from, to)| Change::Rename(from, to)),
        2 => (path(), path()).prop_map(|(from, to)| Change::Link(from, to)),
        1 => (path(), path()).prop_map(|(target, path)| Change::Symlink(target, path)),
        1 => path().prop_map(Change::Fifo),
        2 => (path(), 0u32..0o10000).prop_map(|(path, mode)| Change::Mode(path, mode)),
        1 => (path(), any::<u32>()).prop_map(|(path, id)| Change::Owner(path, id % u32::MAX)),
        1 => (path(), any::<u8>()).prop_map(|(path, byte)| Change::Note(path, byte)),
    ]
}

/// Makes the change if the tree allows it; what it refuses changes nothing.
fn apply(root: &Path, change: &Change) {
    let at = |path: &String| root.join(path);
    let is_link = |path: &String| fs::symlink_metadata(at(path)).is_ok_and(|meta| meta.is_symlink());
    let _ = match change {
        Change::Write(path, byte)
            if !is_link(path) && !fs::metadata(at(path)).is_ok_and(|m| !m.is_file()) =>
        {
            fs::write(at(path), [*byte; 3])
        }
        Change::Directory(path) => fs::create_dir(at(path)),
        Change::Remove(path) => match fs::symlink_metadata(at(path)) {
            Ok(meta) if meta.is_dir() => fs::remove_dir_all(at(path)),
            Ok(_) => fs::remove_file(at(path)),
            Err(error) => Err(error),
        },
        Change::Rename(from, to) => fs::rename(at(from), at(to)),
        Change::Link(from, to) => fs::hard_link(at(from), at(to)),
        Change::Symlink(target, path) => symlink(target, at(path)),
        Change::Fifo(path) => {
            rustix::fs::mknodat(CWD, at(path), FileType::Fifo, Mode::from_raw_mode(0o600), 0)
                .map_err(Into::into)
        }
        Change::Mode(path, mode) if !is_link(path) => {
            fs::set_permissions(at(path), fs::Permissions::from_mode(*mode))
        }
        Change::Owner(path, id) => std::os::unix::fs::lchown(at(path), Some(*id), Some(id / 3)),
        Change::Note(path, byte)
            if fs::symlink_metadata(at(path)).is_ok_and(|m| m.is_dir() || m.is_file()) =>
        {
            rustix::fs::lsetxattr(at(path), "user.note", &[*byte], XattrFlags::empty()).map_err(Into::into)
        }
        _ => Ok(()),
    };
}

fn lower() -> impl Strategy<Value = Vec<u8>> {
    let item = prop_oneof![
        path().prop_map(Item::dir),
        (path(), "[a-z]{0,3}").prop_map(|(path, data)| Item::file(path, data)),
    ];
    proptest::collection::vec(item, 1..8).prop_map(|items| {
        // Parents first, and nothing below a file: what a layer may say twice or wrongly is tested elsewhere.
        let mut files: Vec<Vec<u8>> = Vec::new();
        let mut kept: Vec<Item> = Vec::new();
        for item in items {
            let name = item.name.clone();
            let parents = (0..name.len()).filter(|at| name[*at] == b'/').map(|at| name[..at].to_vec());
            if parents.clone().chain([name.clone()]).any(|above| files.contains(&above)) {
                continue;
            }
            if item.kind == b'0' {
                if kept
                    .iter()
                    .any(|one| one.name == name || one.name.starts_with(&[&name[..], b"/"].concat()))
                {
                    continue;
                }
                files.push(name.clone());
            }
            kept.extend(parents.map(Item::dir));
            kept.push(item);
        }
        tar(&kept)
    })
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(150) })]

    #[test]
    fn the_layer_of_any_changes_gives_the_tree_again(
        lowers in proptest::collection::vec(lower(), 1..3),
        changes in proptest::collection::vec(change(), 1..16),
    ) {
        let mut image = Image::new();
        for blob in &lowers {
            image.add(blob).unwrap();
        }
        let container = Container::of(image);
        for change in &changes {
            apply(&container.path("."), change);
        }
        let layer = container.layer();
        prop_assert_eq!(&layer, &container.layer());

        let whole = read(container.tree().into_whole_tar()).unwrap();
        let place = tempfile::tempdir().unwrap();
        let into = place.path().to_str().unwrap();
        tar_command(&whole, &["-xp", "--xattrs", "--numeric-owner", "-C", into]);
        prop_assert_eq!(facts(place.path()), facts(&container.path(".")), "{:?}", names(&whole));

        let changed = container.changes(&[]);
        for line in &changed {
            let is_there = fs::symlink_metadata(container.path(&line[3..])).is_ok();
            prop_assert_eq!(is_there, !line.starts_with('D'), "{}", line);
        }
        container.assert_extracts_the_same();
    }
}
