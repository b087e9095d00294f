//! The layer of a container's changes, each kind of change made through a real overlay mount.

use std::fs::{self, File};
use std::os::unix::fs::{symlink, FileExt, PermissionsExt};
use std::path::Path;

use layer::{LayerError, Limits};
use rustix::fs::{FileType, Mode, XattrFlags, CWD};

use crate::diff_support::{names, read, tar_command, Container};
use crate::image::Image;
use crate::tar_writer::Item;

fn base() -> Container {
    Container::of(Image::of(&[
        &[Item::dir("a"), Item::dir("a/c"), Item::file("a/c/old", "old"), Item::file("a/top", "top")],
        &[Item::dir("foo"), Item::file("foo/bar", "bar"), Item::file("plain", "plain"), Item::dir("empty")],
    ]))
}

fn set_xattr(path: &Path, name: &str, value: &[u8]) {
    rustix::fs::lsetxattr(path, name, value, XattrFlags::empty()).unwrap();
}

#[test]
fn a_tree_without_changes_is_an_archive_without_entries() {
    let container = base();
    assert_eq!(container.layer(), vec![0; 1024]);
    assert_eq!(container.changes(&[]), Vec::<String>::new());
}

#[test]
fn files_that_came_went_and_changed_are_there_gone_and_changed_again() {
    let container = base();
    fs::write(container.path("a/new"), "new").unwrap();
    fs::remove_file(container.path("a/c/old")).unwrap();
    fs::remove_dir_all(container.path("foo")).unwrap();
    fs::set_permissions(container.path("plain"), fs::Permissions::from_mode(0o4711)).unwrap();
    assert_eq!(container.changes(&[]), ["C /a", "C /a/c", "D /a/c/old", "A /a/new", "D /foo", "C /plain"]);
    assert_eq!(names(&container.layer()), ["a/", "a/c/", "a/c/.wh.old", "a/new", ".wh.foo", "plain"]);
    container.assert_extracts_the_same();
}

#[test]
fn b24_a_directory_made_anew_does_not_show_what_the_old_one_held() {
    let container = base();
    fs::remove_dir_all(container.path("a/c")).unwrap();
    fs::create_dir(container.path("a/c")).unwrap();
    fs::write(container.path("a/c/foo"), "").unwrap();
    assert_eq!(container.changes(&[]), ["C /a", "C /a/c", "A /a/c/foo", "D /a/c/old"]);
    assert_eq!(names(&container.layer()), ["a/", "a/c/", "a/c/.wh..wh..opq", "a/c/foo"]);
    let image = container.assert_extracts_the_same();
    assert_eq!(image.mount().names("a/c"), ["foo"]);
}

#[test]
fn m10_a_directory_of_a_layer_is_not_renamed_but_copied_so_that_nothing_is_lost() {
    let container = base();
    let renamed = fs::rename(container.path("foo"), container.path("foo2")).unwrap_err();
    assert_eq!(renamed.raw_os_error(), Some(libc_exdev()));
    // To another process /proc/self is not ours.
    let ours =
        |name: &str| container.path(name).to_str().unwrap().replace("self", &std::process::id().to_string());
    let moved = std::process::Command::new("mv").args([ours("foo"), ours("foo2")]).status();
    assert!(moved.unwrap().success());
    let image = container.assert_extracts_the_same();
    let merged = image.mount();
    assert_eq!((merged.read("foo2/bar").as_str(), merged.names("foo2")), ("bar", vec!["bar".to_owned()]));
    assert!(!merged.names(".").contains(&"foo".to_owned()));
}

fn libc_exdev() -> i32 {
    rustix::io::Errno::XDEV.raw_os_error()
}

#[test]
fn b23_a_directory_that_overlayfs_moved_is_refused_and_not_lost() {
    let container = base();
    let upper = container.upper();
    for attribute in ["trusted.overlay.redirect", "trusted.overlay.metacopy"] {
        fs::create_dir(upper.join("moved")).unwrap();
        set_xattr(&upper.join("moved"), attribute, b"/foo");
        let refused = container.try_layer(&[]).unwrap_err();
        assert!(matches!(&refused, LayerError::Unrepresentable { path, .. } if path == "moved"), "{refused}");
        assert!(container.tree().changes(&[], &|| false).is_err());
        fs::remove_dir(upper.join("moved")).unwrap();
    }
}

#[test]
fn b25_a_real_file_with_the_name_of_a_whiteout_is_refused() {
    for name in [".wh.x", ".wh.", ".wh..wh..opq", ".wh..wh.plnk"] {
        for make in [|path: &Path| fs::write(path, "").unwrap(), |path: &Path| fs::create_dir(path).unwrap()]
        {
            let container = base();
            make(&container.path("a").join(name));
            match container.try_layer(&[]) {
                Err(LayerError::Unrepresentable { path, rule }) => {
                    assert_eq!(path, format!("a/{name}"));
                    assert!(rule.to_string().contains(".wh."), "{rule}");
                }
                other => panic!("{name}: {other:?}"),
            }
        }
    }
}

#[test]
fn a_file_in_a_directorys_place_and_the_other_way_round() {
    let container = base();
    fs::remove_dir_all(container.path("a/c")).unwrap();
    fs::write(container.path("a/c"), "now a file").unwrap();
    fs::remove_file(container.path("plain")).unwrap();
    fs::create_dir(container.path("plain")).unwrap();
    fs::write(container.path("plain/in"), "in").unwrap();
    // No directory stood there, so that there is nothing to hide.
    assert_eq!(names(&container.layer()), ["a/", "a/c", "plain/", "plain/in"]);
    container.assert_extracts_the_same();
}

#[test]
fn a_new_directory_has_no_marker_although_overlayfs_calls_it_opaque() {
    let container = base();
    fs::create_dir(container.path("fresh")).unwrap();
    assert_eq!(names(&container.layer()), ["fresh/"]);
}

#[test]
fn whiteouts_and_opaqueness_written_as_attributes_are_understood() {
    let container = base();
    let upper = container.upper();
    fs::create_dir(upper.join("foo")).unwrap();
    set_xattr(&upper.join("foo"), "trusted.overlay.opaque", b"x");
    fs::write(upper.join("foo/bar"), "").unwrap();
    set_xattr(&upper.join("foo/bar"), "trusted.overlay.whiteout", b"y");
    fs::write(upper.join("foo/kept"), "").unwrap();
    assert_eq!(names(&container.layer()), ["foo/", "foo/.wh.bar", "foo/kept"]);
    assert_eq!(container.changes(&[]), ["C /foo", "D /foo/bar", "A /foo/kept"]);
}

#[test]
fn a_whiteout_of_nothing_is_not_told() {
    let container = base();
    let device = container.upper().join("nothing");
    rustix::fs::mknodat(CWD, &device, FileType::CharacterDevice, Mode::empty(), 0).unwrap();
    assert_eq!(container.layer(), vec![0; 1024]);
}

#[test]
fn links_attributes_devices_and_times_are_kept() {
    let container = base();
    let path = |name: &str| container.path(name);
    fs::write(path("one"), "one").unwrap();
    fs::hard_link(path("one"), path("a/two")).unwrap();
    fs::hard_link(path("plain"), path("linked")).unwrap();
    symlink("/etc/passwd", path("host")).unwrap();
    symlink("x".repeat(300), path("long")).unwrap();
    fs::hard_link(path("host"), path("host2")).unwrap();
    rustix::fs::mknodat(
        CWD,
        path("null"),
        FileType::CharacterDevice,
        Mode::from_raw_mode(0o600),
        rustix::fs::makedev(1, 3),
    )
    .unwrap();
    rustix::fs::mknodat(CWD, path("pipe"), FileType::Fifo, Mode::from_raw_mode(0o640), 0).unwrap();
    std::os::unix::fs::chown(path("pipe"), Some(3_000_000), Some(u32::MAX - 1)).unwrap();
    set_xattr(&path("one"), "user.note", b"note\0with\nbytes");
    set_xattr(&path("empty"), "user.note", b"on a directory");
    // cap_net_raw=ep, version 2. Source: linux/capability.h, struct vfs_cap_data.
    let capability = [1, 0, 0, 2, 0, 0x20, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    set_xattr(&path("one"), "security.capability", &capability);
    let before_1970 = std::time::UNIX_EPOCH - std::time::Duration::new(5, 250_000_000);
    File::options().write(true).open(path("one")).unwrap().set_modified(before_1970).unwrap();
    fs::create_dir_all(path(&format!("{}/{}", "d".repeat(200), "e".repeat(200)))).unwrap();
    let layer = container.layer();
    assert!(!String::from_utf8_lossy(&layer).contains("overlay"), "an attribute of overlayfs was given out");
    assert_eq!(layer, container.layer(), "not the same bytes again");
    container.assert_extracts_the_same();
}

#[test]
fn a_sparse_file_takes_its_data_only_and_keeps_its_holes() {
    const SIZE: u64 = 1 << 28;
    let container = base();
    let file = File::create(container.path("sparse")).unwrap();
    file.set_len(SIZE).unwrap();
    file.write_all_at(b"far", SIZE - 100).unwrap();
    file.write_all_at(b"middle", SIZE / 2).unwrap();
    let layer = container.layer();
    assert!(layer.len() < 64 * 1024, "{}", layer.len());
    let check = |file: &Path| {
        let file = File::open(file).unwrap();
        let (mut middle, mut end) = ([1; 8], [1; 100]);
        file.read_exact_at(&mut middle, SIZE / 2 - 1).unwrap();
        file.read_exact_at(&mut end, SIZE - 100).unwrap();
        assert_eq!((&middle, &end[..4]), (b"\0middle\0", &b"far\0"[..]));
        assert_eq!(file.metadata().unwrap().len(), SIZE);
    };
    let place = tempfile::tempdir().unwrap();
    tar_command(&layer, &["-x", "-C", place.path().to_str().unwrap()]);
    check(&place.path().join("sparse"));
    let crate::image::Merged { fd, mut image } = container.merged;
    drop(fd);
    fs::remove_dir_all(image.root.path().join("scratch")).unwrap();
    image.add(&layer).unwrap();
    check(&image.mount().path("sparse"));
}

#[test]
fn sockets_are_left_out_and_what_they_replaced_stays_gone() {
    let container = base();
    fs::remove_file(container.path("plain")).unwrap();
    let _one = std::os::unix::net::UnixListener::bind(container.upper().join("plain")).unwrap_err();
    fs::remove_file(container.upper().join("plain")).unwrap();
    let _one = std::os::unix::net::UnixListener::bind(container.upper().join("plain")).unwrap();
    let _two = std::os::unix::net::UnixListener::bind(container.upper().join("fresh")).unwrap();
    assert_eq!(names(&container.layer()), [".wh.plain"]);
}

#[test]
fn what_the_engine_made_to_mount_on_is_no_change() {
    let container = base();
    let targets = ["/proc", "/a/hosts", "/foo/sub/deep", "/link/under", "/dev", "/missing"];
    let path = |name: &str| container.path(name);
    fs::create_dir(path("proc")).unwrap();
    fs::write(path("a/hosts"), "").unwrap();
    fs::create_dir_all(path("foo/sub/deep")).unwrap();
    symlink("/empty", path("link")).unwrap();
    fs::create_dir(path("empty/under")).unwrap();
    fs::create_dir(path("dev")).unwrap();
    assert_eq!(container.changes(&targets), ["A /link"]);
    assert_eq!(names(&container.try_layer(&targets).unwrap()), ["link"]);
    // What a container did there itself is told.
    fs::write(path("dev/left"), "mine").unwrap();
    fs::write(path("a/hosts"), "mine").unwrap();
    fs::write(path("foo/sub/own"), "").unwrap();
    let expected =
        ["C /a", "A /a/hosts", "A /dev", "A /dev/left", "C /foo", "A /foo/sub", "A /foo/sub/own", "A /link"];
    assert_eq!(container.changes(&targets), expected);
}

#[test]
fn limits_are_named() {
    let container = base();
    fs::create_dir_all(container.path("deep/deep/deep")).unwrap();
    fs::write(container.path("file"), vec![7; 100_000]).unwrap();
    let limit_of = |limits: Limits| match read(container.tree_within(&limits).into_layer_tar(&[]).unwrap()) {
        Err(LayerError::LimitExceeded { limit, .. }) => limit,
        other => panic!("{other:?}"),
    };
    assert_eq!(limit_of(Limits { entry_count: 2, ..Limits::default() }), "entry_count");
    assert_eq!(limit_of(Limits { path_depth: 2, ..Limits::default() }), "path_depth");
    assert_eq!(limit_of(Limits { path_bytes: 9, ..Limits::default() }), "path_bytes");
    assert_eq!(limit_of(Limits { pending_bytes: 60, ..Limits::default() }), "pending_bytes");
    assert_eq!(limit_of(Limits { layer_size_bytes: 50_000, ..Limits::default() }), "layer_size_bytes");
    let cancelled = container.tree().into_layer_tar(&[]).unwrap().read(&mut [0; 9], &|| true);
    assert!(matches!(cancelled, Err(LayerError::Cancelled { .. })));
}

#[test]
fn a_file_that_changes_its_size_while_it_is_read_never_breaks_the_archive() {
    for (size, name) in [(0, "shorter"), (3_000_000, "longer")] {
        let container = base();
        fs::write(container.path("file"), vec![7; 1_000_000]).unwrap();
        fs::write(container.path("next"), "next").unwrap();
        let mut stream = container.tree().into_layer_tar(&[]).unwrap();
        let mut start = vec![0; 300_000];
        let mut filled = 0;
        while filled < start.len() {
            filled += stream.read(&mut start[filled..], &|| false).unwrap();
        }
        File::options().write(true).open(container.path("file")).unwrap().set_len(size).unwrap();
        fs::remove_file(container.path("next")).unwrap();
        let mut rest = Vec::new();
        let mut buffer = [0; 65_536];
        while let count @ 1.. = stream.read(&mut buffer, &|| false).unwrap() {
            rest.extend_from_slice(&buffer[..count]);
        }
        let archive = [start, rest].concat();
        assert_eq!(names(&archive), ["file"], "{name}");
        assert_eq!(tar_command(&archive, &["-xO", "file"]).len(), 1_000_000, "{name}");
    }
}

#[test]
fn the_whole_tree_is_what_the_container_sees() {
    let container = base();
    fs::remove_dir_all(container.path("a/c")).unwrap();
    fs::create_dir(container.path("a/c")).unwrap();
    fs::write(container.path("a/c/foo"), "foo").unwrap();
    fs::remove_file(container.path("plain")).unwrap();
    fs::hard_link(container.path("a/top"), container.path("hard")).unwrap();
    symlink("/", container.path("root")).unwrap();
    let archive = read(container.tree().into_whole_tar()).unwrap();
    let expected = ["./", "a/", "a/c/", "a/c/foo", "a/top", "empty/", "foo/", "foo/bar", "hard", "root"];
    assert_eq!(names(&archive), expected);
    let place = tempfile::tempdir().unwrap();
    let into = place.path().to_str().unwrap();
    tar_command(&archive, &["-xp", "--xattrs", "--numeric-owner", "-C", into]);
    assert_eq!(crate::diff_support::facts(place.path()), crate::diff_support::facts(&container.path(".")));
}
