//! What volumes are filled with, copied to and unpacked from. Needs root.
#![allow(missing_docs)]

use std::fs;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::{symlink, FileExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicU64;

use errors::Catalogued;
use rustix::fs::{Mode, OFlags, XattrFlags};
use sys::cancel::CancelToken;
use volume::{copy_tree, fill_from_image, settle, unpack, Filled, VolumeError};

fn open(path: &Path) -> OwnedFd {
    rustix::fs::open(path, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
        .expect("opened")
}

fn mode(path: &Path) -> u32 {
    fs::symlink_metadata(path).expect("there").permissions().mode() & 0o7777
}

/// A tree with one of everything.
fn populate(root: &Path) {
    fs::create_dir_all(root.join("sub/deep")).expect("made");
    fs::write(root.join("sub/file"), "content").expect("written");
    fs::hard_link(root.join("sub/file"), root.join("same")).expect("linked");
    symlink("../nowhere", root.join("sub/link")).expect("linked");
    fs::write(root.join("tool"), "x").expect("written");
    std::os::unix::fs::chown(root.join("tool"), Some(7), Some(8)).expect("owned");
    fs::set_permissions(root.join("tool"), fs::Permissions::from_mode(0o4755)).expect("moded");
    fs::set_permissions(root.join("sub"), fs::Permissions::from_mode(0o1750)).expect("moded");
    rustix::fs::setxattr(root.join("tool"), "user.note", b"kept", XattrFlags::empty()).expect("set");
    let sparse = fs::File::create(root.join("sparse")).expect("made");
    sparse.write_all_at(b"end", 8 << 20).expect("written");
    rustix::fs::mknodat(open(root), "pipe", rustix::fs::FileType::Fifo, Mode::from_raw_mode(0o640), 0)
        .expect("made");
}

fn check(root: &Path) {
    assert_eq!(fs::read_to_string(root.join("sub/file")).expect("read"), "content");
    let same = |name: &str| fs::metadata(root.join(name)).expect("there").ino();
    assert_eq!(same("sub/file"), same("same"), "hard links stay one file");
    assert_eq!(fs::read_link(root.join("sub/link")).expect("a link"), Path::new("../nowhere"));
    let tool = fs::metadata(root.join("tool")).expect("there");
    assert_eq!((tool.uid(), tool.gid(), mode(&root.join("tool"))), (7, 8, 0o4755));
    assert_eq!(mode(&root.join("sub")), 0o1750);
    let mut value = [0_u8; 16];
    let size = rustix::fs::getxattr(root.join("tool"), "user.note", &mut value).expect("an attribute");
    assert_eq!(&value[..size], b"kept");
    let sparse = fs::metadata(root.join("sparse")).expect("there");
    assert_eq!(sparse.len(), (8 << 20) + 3);
    assert!(sparse.blocks() * 512 < 1 << 20, "holes stay holes: {} blocks", sparse.blocks());
    assert_eq!(mode(&root.join("pipe")), 0o640);
}

fn volume_in(dir: &Path) -> PathBuf {
    let volume = dir.join("volume");
    fs::create_dir_all(volume.join("_data")).expect("made");
    volume
}

/// Directories of an image of one layer.
fn image(dir: &Path) -> (PathBuf, Vec<PathBuf>) {
    let (layer, empty) = (dir.join("layer"), dir.join("empty"));
    fs::create_dir_all(&layer).expect("made");
    fs::create_dir_all(&empty).expect("made");
    (layer.clone(), vec![layer, empty])
}

#[test]
fn a_copy_has_owners_modes_attributes_links_and_holes() {
    let dir = tempfile::tempdir().expect("a directory");
    let (from, to) = (dir.path().join("from"), dir.path().join("to"));
    fs::create_dir(&from).expect("made");
    fs::create_dir(&to).expect("made");
    populate(&from);
    fs::set_permissions(&from, fs::Permissions::from_mode(0o2751)).expect("moded");
    let copied = copy_tree(open(&from), open(&to).as_fd(), &CancelToken::new()).expect("copied");
    assert_eq!((copied.entries, copied.bytes), (8, 7 + 1 + (8 << 20) + 3));
    check(&to);
    assert_eq!(mode(&to), 0o2751);
}

#[test]
fn a_cancelled_copy_says_so_and_too_deep_a_tree_names_the_limit() {
    let dir = tempfile::tempdir().expect("a directory");
    let (from, to) = (dir.path().join("from"), dir.path().join("to"));
    let deep: PathBuf = std::iter::repeat_n("d", 250).collect();
    fs::create_dir_all(from.join(deep)).expect("made");
    fs::create_dir(&to).expect("made");
    let error = copy_tree(open(&from), open(&to).as_fd(), &CancelToken::new()).expect_err("too deep");
    assert!(matches!(error, VolumeError::Limit { limit: "MAX_COPIED_DEPTH", value: 200, .. }), "{error}");
    let cancel = CancelToken::new();
    cancel.cancel();
    let error = copy_tree(open(&from), open(&to).as_fd(), &cancel).expect_err("cancelled");
    assert_eq!(error.reason(), "CANCELLED");
}

#[test]
fn m02_an_empty_volume_takes_on_the_images_directory_and_a_full_one_does_not() {
    let dir = tempfile::tempdir().expect("a directory");
    let (layer, lowers) = image(dir.path());
    fs::create_dir(layer.join("d")).expect("made");
    populate(&layer.join("d"));
    fs::set_permissions(layer.join("d"), fs::Permissions::from_mode(0o750)).expect("moded");
    std::os::unix::fs::chown(layer.join("d"), Some(1000), Some(1001)).expect("owned");
    let volume = volume_in(dir.path());
    let filled = fill_from_image(&lowers, Path::new("/d"), &volume, &CancelToken::new()).expect("filled");
    assert!(matches!(filled, Filled::Ready(copied) if copied.entries == 8));
    assert_eq!(
        fs::read_dir(volume.join("_data")).expect("read").count(),
        0,
        "not in place before it is whole"
    );
    assert!(settle(&volume).expect("settled"));
    check(&volume.join("_data"));
    let root = fs::metadata(volume.join("_data")).expect("there");
    assert_eq!((root.uid(), root.gid(), mode(&volume.join("_data"))), (1000, 1001, 0o750));
    assert_eq!(fs::read_dir(&volume).expect("read").count(), 1, "nothing is left beside the data");
    // Another image's content does not come over it.
    let again =
        fill_from_image(&lowers, Path::new("/d/sub"), &volume, &CancelToken::new()).expect("looked at");
    assert_eq!(again, Filled::Nothing);
    assert!(!settle(&volume).expect("nothing to do"));
}

#[test]
fn what_came_into_a_volume_meanwhile_stays_and_a_crash_is_made_good() {
    let dir = tempfile::tempdir().expect("a directory");
    let volume = volume_in(dir.path());
    fs::create_dir(volume.join("_filled")).expect("made");
    fs::write(volume.join("_filled/a"), "image's").expect("written");
    fs::write(volume.join("_filled/b"), "image's").expect("written");
    fs::write(volume.join("_data/a"), "container's").expect("written");
    fs::create_dir_all(volume.join("_filling/half/deep")).expect("made");
    fs::write(volume.join("_filling/half/deep/f"), "").expect("written");
    assert!(settle(&volume).expect("settled"));
    assert_eq!(fs::read_to_string(volume.join("_data/a")).expect("read"), "container's");
    assert_eq!(fs::read_to_string(volume.join("_data/b")).expect("read"), "image's");
    assert_eq!(fs::read_dir(&volume).expect("read").count(), 1);
}

#[test]
fn z06_the_place_in_the_image_is_looked_up_inside_the_image() {
    let dir = tempfile::tempdir().expect("a directory");
    let (layer, lowers) = image(dir.path());
    symlink("/../../../../etc", layer.join("v")).expect("linked");
    let volume = volume_in(dir.path());
    let fill = |target: &str| {
        fill_from_image(&lowers, Path::new(target), &volume, &CancelToken::new()).expect("looked at")
    };
    for target in ["/v", "/v/ssl", "/absent", "/../../etc", "/v/../../etc"] {
        assert_eq!(fill(target), Filled::Nothing, "{target}");
    }
    fs::create_dir(layer.join("etc")).expect("made");
    fs::write(layer.join("etc/own"), "image's").expect("written");
    assert!(matches!(fill("/v"), Filled::Ready(copied) if copied.entries == 1));
    assert!(volume.join("_filled/own").is_file());
}

fn tar(dir: &Path, script: &str) -> PathBuf {
    let path = dir.join("archive.tar");
    let program =
        format!("import io, tarfile\nt = tarfile.open({path:?}, 'w')\n{PRELUDE}{script}\nt.close()\n");
    let done = std::process::Command::new("python3").arg("-c").arg(program).status().expect("python3");
    assert!(done.success());
    path
}

const PRELUDE: &str = "
def add(name, kind=tarfile.REGTYPE, data=b'', **rest):
    member = tarfile.TarInfo(name)
    member.type, member.size = kind, len(data)
    for key, value in rest.items():
        setattr(member, key, value)
    t.addfile(member, io.BytesIO(data))
";

fn unpacked(archive: &Path, root: &Path) -> Result<volume::Unpacked, VolumeError> {
    let progress = AtomicU64::new(0);
    unpack(archive, open(root).as_fd(), &layer::Limits::default(), &progress, &CancelToken::new())
}

#[test]
fn an_archive_is_unpacked_over_what_is_there() {
    let dir = tempfile::tempdir().expect("a directory");
    let root = dir.path().join("root");
    fs::create_dir_all(root.join("kept")).expect("made");
    fs::write(root.join("kept/own"), "own").expect("written");
    fs::write(root.join("old"), "old").expect("written");
    let archive = tar(
        dir.path(),
        "add('kept/', tarfile.DIRTYPE, mode=0o700, uid=5)\nadd('kept/new', data=b'new', mode=0o640, uid=5, gid=6)\n\
         add('old', data=b'newer')\nadd('hard', tarfile.LNKTYPE, linkname='kept/new')\n\
         add('deep/er/f', data=b'x')\nadd('.wh.old', data=b'a file')\nadd('link', tarfile.SYMTYPE, linkname='/etc')",
    );
    let found = unpacked(&archive, &root).expect("unpacked");
    assert_eq!((found.entries, found.bytes), (7, 3 + 5 + 1 + 6));
    assert_eq!(fs::read_to_string(root.join("kept/own")).expect("read"), "own");
    assert_eq!(fs::read_to_string(root.join("old")).expect("read"), "newer");
    assert_eq!(fs::read_to_string(root.join(".wh.old")).expect("read"), "a file");
    let new = fs::metadata(root.join("kept/new")).expect("there");
    assert_eq!((new.uid(), new.gid(), new.nlink(), mode(&root.join("kept/new"))), (5, 6, 2, 0o640));
    assert_eq!(mode(&root.join("kept")), 0o700);
    assert_eq!(fs::read_link(root.join("link")).expect("a link"), Path::new("/etc"));
}

#[test]
fn no_name_of_an_archive_leads_out_of_the_volume() {
    let dir = tempfile::tempdir().expect("a directory");
    let (root, canary) = (dir.path().join("root"), dir.path().join("canary"));
    fs::create_dir(&canary).expect("made");
    fs::create_dir(&root).expect("made");
    let out = canary.to_str().expect("utf-8");
    symlink(&canary, root.join("there")).expect("linked");
    let scripts = [
        format!("add('l', tarfile.SYMTYPE, linkname={out:?})\nadd('l/f', data=b'x')"),
        "add('there/f', data=b'x', mode=0o4777)".to_owned(),
        format!("add('h', tarfile.LNKTYPE, linkname='there/secret')\nadd('{out}/g', data=b'x')"),
        "add('../canary/f', data=b'x')".to_owned(),
        "add('there', data=b'x')".to_owned(),
    ];
    fs::write(canary.join("secret"), "host's").expect("written");
    for script in scripts {
        // Refused or confined, either is right.
        let _ = unpacked(&tar(dir.path(), &script), &root);
        let names: Vec<_> =
            fs::read_dir(&canary).expect("read").map(|entry| entry.expect("an entry").file_name()).collect();
        assert_eq!(names, ["secret"], "{script}");
        assert_eq!(fs::metadata(canary.join("secret")).expect("there").nlink(), 1, "{script}");
    }
}

#[test]
fn a_cut_archive_is_refused() {
    let dir = tempfile::tempdir().expect("a directory");
    let root = dir.path().join("root");
    fs::create_dir(&root).expect("made");
    let archive = tar(dir.path(), "add('f', data=b'x' * 5000)");
    let data = fs::read(&archive).expect("read");
    for length in [512, 3000, 512 + 5120] {
        fs::write(&archive, &data[..length]).expect("written");
        let error = unpacked(&archive, &root).expect_err("cut");
        assert_eq!(error.reason(), "LAYER_CORRUPT", "{length}: {error}");
    }
}
