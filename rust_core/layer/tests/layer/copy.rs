//! Files into and out of a tree by descriptor: what comes through, what is refused, what leads nowhere.

use std::fs::{self, File};
use std::os::unix::fs::{symlink, MetadataExt, PermissionsExt};
use std::path::Path;

use layer::copy::{
    begin, open_archive, ArchiveSource, CopyError, Placed, Rename, Root, UnpackOptions, Unpacker,
};
use layer::Limits;

fn root(path: &Path) -> Root {
    Root::new(File::open(path).unwrap().into(), false)
}

fn archive(path: &Path, of: &str, name: Option<&[u8]>) -> Result<Vec<u8>, CopyError> {
    let mut archive = open_archive(&root(path), of.as_bytes(), false, name, &Limits::default(), "test")?;
    let (mut all, mut piece) = (Vec::new(), vec![0; 4096]);
    loop {
        match archive.stream.read(&mut piece, &|| false)? {
            0 => return Ok(all),
            count => all.extend_from_slice(&piece[..count]),
        }
    }
}

fn unpack(path: &Path, tar: &[u8], options: UnpackOptions) -> Result<Placed, CopyError> {
    let limits = Limits::default();
    let unpacker = Unpacker::new(root(path), b"/", options, &limits, "test")?;
    unpacker.run(ArchiveSource::new(tar, &limits, "test")?)
}

fn tree() -> tempfile::TempDir {
    let temp = tempfile::tempdir().unwrap();
    fs::create_dir(temp.path().join("d")).unwrap();
    fs::write(temp.path().join("d/file"), "data").unwrap();
    fs::set_permissions(temp.path().join("d/file"), fs::Permissions::from_mode(0o4751)).unwrap();
    fs::hard_link(temp.path().join("d/file"), temp.path().join("d/same")).unwrap();
    symlink("/no/where", temp.path().join("d/link")).unwrap();
    temp
}

#[test]
fn a_tree_comes_back_under_another_name() {
    let (from, to) = (tree(), tempfile::tempdir().unwrap());
    let tar = archive(from.path(), "/d", None).unwrap();
    let rename = Some(Rename { from: b"d".to_vec(), to: b"other".to_vec() });
    unpack(to.path(), &tar, UnpackOptions { rename, ..Default::default() }).unwrap();
    let (file, same) = (to.path().join("other/file"), to.path().join("other/same"));
    assert_eq!(fs::read(&file).unwrap(), b"data");
    assert_eq!(file.metadata().unwrap().ino(), same.metadata().unwrap().ino());
    assert_eq!(file.metadata().unwrap().mode() & 0o7777, 0o4751);
    assert_eq!(fs::read_link(to.path().join("other/link")).unwrap(), Path::new("/no/where"));
    assert_eq!(fs::read_dir(to.path().join("other")).unwrap().count(), 3, "no temporary name is left");
}

#[test]
fn content_goes_without_its_directory() {
    let (from, to) = (tree(), tempfile::tempdir().unwrap());
    let tar = archive(from.path(), "/d", Some(b"")).unwrap();
    assert_eq!(unpack(to.path(), &tar, UnpackOptions::default()).unwrap().entry_count, 4);
    assert_eq!(fs::read(to.path().join("file")).unwrap(), b"data");
}

#[test]
fn an_archive_of_another_tree_is_refused() {
    let (from, to) = (tree(), tempfile::tempdir().unwrap());
    let tar = archive(from.path(), "/d", None).unwrap();
    let rename = Some(Rename { from: b"asked".to_vec(), to: b"new".to_vec() });
    let refused = unpack(to.path(), &tar, UnpackOptions { rename, ..Default::default() });
    assert!(matches!(refused, Err(CopyError::EntryRejected { .. })), "{refused:?}");
    assert_eq!(fs::read_dir(to.path()).unwrap().count(), 0);
}

#[test]
fn what_gives_power_is_left_out_of_a_plain_copy() {
    let (from, to) = (tree(), tempfile::tempdir().unwrap());
    let tar = archive(from.path(), "/d", None).unwrap();
    unpack(to.path(), &tar, UnpackOptions { is_plain: true, ..Default::default() }).unwrap();
    assert_eq!(to.path().join("d/file").metadata().unwrap().mode() & 0o7777, 0o751);
}

#[test]
fn z03_paths_stay_in_the_root_whatever_links_say() {
    let (outside, inside) = (tree(), tempfile::tempdir().unwrap());
    let secret = outside.path().join("d");
    symlink(&secret, inside.path().join("abs")).unwrap();
    symlink("../../../../../../../../../../../etc", inside.path().join("up")).unwrap();
    fs::create_dir(inside.path().join("etc")).unwrap();
    fs::write(inside.path().join("etc/passwd"), "inside").unwrap();
    assert!(matches!(archive(inside.path(), "/abs/file", None), Err(CopyError::NotFound { .. })));
    let tar = archive(inside.path(), "/up/passwd", None).unwrap();
    assert!(tar.windows(6).any(|window| window == b"inside"));
    assert!(archive(inside.path(), "/../../etc/passwd", None).is_ok(), "above the root is the root");
}

#[test]
fn z03_a_link_in_a_directorys_place_is_walked_inside_or_refused() {
    let (from, outside, to) = (tree(), tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    symlink(outside.path(), to.path().join("d")).unwrap();
    let tar = archive(from.path(), "/d/file", Some(b"d/file")).unwrap();
    let refused = unpack(to.path(), &tar, UnpackOptions::default());
    assert!(matches!(refused, Err(CopyError::WrongKind { found: "a symbolic link", .. })), "{refused:?}");
    let refused = unpack(to.path(), &tar, UnpackOptions { follow_links: true, ..Default::default() });
    assert!(matches!(refused, Err(CopyError::NotFound { .. })), "{refused:?}");
    assert_eq!(fs::read_dir(outside.path()).unwrap().count(), 0);
}

#[test]
fn links_in_a_circle_end() {
    let temp = tempfile::tempdir().unwrap();
    symlink("b", temp.path().join("a")).unwrap();
    symlink("a", temp.path().join("b")).unwrap();
    assert!(matches!(archive(temp.path(), "/a/x", None), Err(CopyError::Layer(_))));
}

#[test]
fn a_pushed_archive_is_unpacked_or_told_as_cut() {
    let (from, to) = (tree(), tempfile::tempdir().unwrap());
    let tar = archive(from.path(), "/d", None).unwrap();
    let limits = Limits::default();
    let push = |upto: usize| {
        let unpacker =
            Unpacker::new(root(to.path()), b"/", UnpackOptions::default(), &limits, "test").unwrap();
        let receiver = begin(unpacker, &limits, "test").unwrap();
        let sent = tar[..upto].chunks(700).try_for_each(|piece| receiver.write(piece.to_vec()));
        sent.and_then(|()| receiver.finish())
    };
    assert_eq!(push(tar.len()).unwrap().entry_count, 4);
    assert!(matches!(push(tar.len() - 1024), Err(CopyError::Corrupt { .. })));
    assert!(matches!(push(1000), Err(CopyError::Corrupt { .. })));
}
