//! Small trees in one call.

use std::fs;
use std::os::unix::fs::{symlink, MetadataExt, PermissionsExt};

use host::{copy_permissions, make_tree, read_beginnings, write_files};

#[test]
fn a_tree_has_exactly_the_permissions_asked_for() {
    let keep = tempfile::tempdir().unwrap();
    let root = keep.path().join("tree");
    make_tree(&root, 0o710, &[("upper", 0o777), ("work", 0o700)], &[("hosts", 0o666)]).unwrap();
    let mode = |name: &str| fs::metadata(root.join(name)).unwrap().mode() & 0o7777;
    assert_eq!((mode(""), mode("upper"), mode("work"), mode("hosts")), (0o710, 0o777, 0o700, 0o666));
    assert_eq!(fs::metadata(root.join("hosts")).unwrap().len(), 0);
    let again = make_tree(&root, 0o710, &[], &[]).unwrap_err();
    assert_eq!((again.operation, again.errno, again.path), ("mkdir", 17, root));
}

#[test]
fn files_are_written_in_place_and_left_alone_where_they_are_right() {
    let keep = tempfile::tempdir().unwrap();
    let path = keep.path();
    fs::write(path.join("a"), "a longer text than before").unwrap();
    fs::write(path.join("b"), "").unwrap();
    fs::write(path.join("c"), "same").unwrap();
    let inode = |name: &str| fs::metadata(path.join(name)).unwrap().ino();
    let before = (inode("a"), inode("b"), fs::metadata(path.join("c")).unwrap().mtime_nsec());
    write_files(path, &[("a", b"short"), ("b", b"text"), ("c", b"same")]).unwrap();
    let read = |name: &str| fs::read_to_string(path.join(name)).unwrap();
    assert_eq!((read("a"), read("b"), read("c")), ("short".into(), "text".into(), "same".into()));
    assert_eq!(before, (inode("a"), inode("b"), fs::metadata(path.join("c")).unwrap().mtime_nsec()));
    let absent = write_files(path, &[("none", b"x")]).unwrap_err();
    assert_eq!((absent.operation, absent.errno, absent.path), ("openat", 2, path.join("none")));
}

#[test]
fn no_link_is_followed() {
    let keep = tempfile::tempdir().unwrap();
    let canary = keep.path().join("canary");
    fs::write(&canary, "host").unwrap();
    fs::create_dir(keep.path().join("d")).unwrap();
    symlink(&canary, keep.path().join("d/hosts")).unwrap();
    assert_eq!(write_files(&keep.path().join("d"), &[("hosts", b"x")]).unwrap_err().errno, 40);
    symlink(keep.path().join("d"), keep.path().join("link")).unwrap();
    assert_eq!(write_files(&keep.path().join("link"), &[]).unwrap_err().operation, "open");
    assert_eq!(fs::read_to_string(canary).unwrap(), "host");
}

#[test]
fn permissions_are_those_of_the_model() {
    let keep = tempfile::tempdir().unwrap();
    let (model, copy) = (keep.path().join("model"), keep.path().join("copy"));
    make_tree(&model, 0o1751, &[], &[]).unwrap();
    make_tree(&copy, 0o755, &[], &[]).unwrap();
    copy_permissions(&model, &copy).unwrap();
    assert_eq!(fs::metadata(&copy).unwrap().permissions().mode() & 0o7777, 0o1751);
    copy_permissions(&model, &copy).unwrap();
    assert_eq!(copy_permissions(&keep.path().join("none"), &copy).unwrap_err().operation, "stat");
}

#[test]
fn the_beginning_of_a_file_of_any_size_is_read() {
    let keep = tempfile::tempdir().unwrap();
    let absent = keep.path().join("absent");
    for size in [0, 1, 4095, 4096, 4097, 8192, 9999, 10_000, 10_001, 50_000] {
        let path = keep.path().join("file");
        let text: Vec<u8> = (0..size).map(|at| (at % 251) as u8).collect();
        fs::write(&path, &text).unwrap();
        let found = read_beginnings(&[&path, &absent, keep.path()], 10_000);
        assert_eq!(found, [text[..size.min(10_000)].to_vec(), Vec::new(), Vec::new()], "{size}");
    }
    let told = read_beginnings(&[std::path::Path::new("/proc/self/status")], 100_000);
    assert!(told[0].ends_with(b"\n"), "a file that tells no size is read to its end");
}
