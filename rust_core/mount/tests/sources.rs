//! What is mounted into containers: parts of trees, images, mounts that spread; and what may not be covered. Needs root.
#![allow(missing_docs)]

mod support;

use std::fs;
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::fs::symlink;
use std::path::Path;

use mount::{
    attach, bind_part_classic, bind_part_detached, bind_path_detached, check_target, image_detached, named,
    proc, resolve_beneath, set_attributes, tmpfs, Attributes, MountError, Propagation,
};
use support::{directory, in_private_mounts, options_of};

fn mounted(path: &Path, propagation: Propagation) {
    fs::create_dir_all(path).expect("made");
    let mount = tmpfs("mode=755", Attributes::default()).expect("a tmpfs");
    attach(mount.as_fd(), directory(path).as_fd(), path).expect("attached");
    set_attributes(mount.as_fd(), Attributes::default(), Some(propagation), false).expect("set");
}

#[test]
fn what_is_mounted_later_spreads_as_was_asked_and_no_further() {
    in_private_mounts(|| {
        let dir = tempfile::tempdir().expect("a directory");
        // (propagation of the copy, whether it sees the source's new mounts, whether the source sees its own)
        for (propagation, comes_in, goes_out) in [
            (Propagation::Private, false, false),
            (Propagation::Slave, true, false),
            (Propagation::Shared, true, true),
        ] {
            let (source, copy) = (dir.path().join("source"), dir.path().join("copy"));
            mounted(&source, Propagation::Shared);
            fs::create_dir(&copy).expect("made");
            for name in ["here", "there"] {
                fs::create_dir(source.join(name)).expect("made");
            }
            let tree = bind_path_detached(&source, true).expect("a copy");
            set_attributes(tree.as_fd(), Attributes::default(), Some(propagation), true).expect("set");
            attach(tree.as_fd(), directory(&copy).as_fd(), &copy).expect("attached");
            let later = |place: &Path| {
                let mount = tmpfs("mode=755", Attributes::default()).expect("a tmpfs");
                fs::create_dir_all(place).expect("there");
                attach(mount.as_fd(), directory(place).as_fd(), place).expect("attached");
                fs::write(place.join("seen"), "").expect("written");
            };
            later(&source.join("here"));
            later(&copy.join("there"));
            assert_eq!(copy.join("here/seen").exists(), comes_in, "{propagation:?}");
            assert_eq!(source.join("there/seen").exists(), goes_out, "{propagation:?}");
            for path in [copy, source] {
                rustix::mount::unmount(&path, rustix::mount::UnmountFlags::DETACH).expect("unmounted");
                fs::remove_dir(&path).expect("removed");
            }
        }
    });
}

#[test]
fn a_part_of_a_tree_is_found_beneath_it_or_not_at_all() {
    let dir = tempfile::tempdir().expect("a directory");
    let root = dir.path().join("root");
    fs::create_dir_all(root.join("in/deep")).expect("made");
    fs::write(dir.path().join("secret"), "").expect("written");
    symlink("in", root.join("near")).expect("linked");
    for (name, target) in [("absolute", "/etc"), ("up", ".."), ("climb", "in/../../secret"), ("loop", "loop")]
    {
        symlink(target, root.join(name)).expect("linked");
    }
    let root = directory(&root);
    let find = |path: &str| resolve_beneath(root.as_fd(), Path::new(path));
    for path in ["in", "near/deep", "in/../in", "."] {
        find(path).unwrap_or_else(|error| panic!("{path}: {error}"));
    }
    for (path, errno) in [
        ("absolute", libc::EXDEV),
        ("up", libc::EXDEV),
        ("climb", libc::EXDEV),
        ("../secret", libc::EXDEV),
        ("/in", libc::EXDEV),
        ("loop", libc::ELOOP),
        ("absent", libc::ENOENT),
    ] {
        assert_eq!(find(path).expect_err(path).errno(), errno, "{path}");
    }
}

#[test]
fn an_image_is_one_read_only_tree_without_an_upper() {
    in_private_mounts(|| {
        let dir = tempfile::tempdir().expect("a directory");
        let layers: Vec<_> = ["top", "below"].map(|name| dir.path().join(name)).into();
        for layer in &layers {
            fs::create_dir(layer).expect("made");
            fs::write(layer.join("f"), layer.file_name().expect("a name").as_encoded_bytes())
                .expect("written");
        }
        fs::write(layers[1].join("g"), "g").expect("written");
        let image = image_detached(&layers).expect("an image");
        let place = dir.path().join("place");
        fs::create_dir(&place).expect("made");
        attach(image.as_fd(), directory(&place).as_fd(), &place).expect("attached");
        assert_eq!(fs::read_to_string(place.join("f")).expect("read"), "top");
        assert_eq!(fs::read_to_string(place.join("g")).expect("read"), "g");
        assert!(fs::write(place.join("h"), "").is_err());
        assert!(options_of(&place).starts_with("ro"));
        let too_few = image_detached(&layers[..1]).expect_err("one directory is none");
        assert!(matches!(too_few, MountError::PlanInvalid { .. }));
        let too_many = vec![layers[0].clone(); 501];
        assert!(matches!(image_detached(&too_many), Err(MountError::TooManyLayers { actual: 501, .. })));
    });
}

#[test]
fn only_procfs_covers_procfs_and_only_files_that_tell_are_replaced() {
    in_private_mounts(|| {
        let memory = tmpfs("", Attributes::default()).expect("a tmpfs");
        let own = proc(Attributes::HARDENED).expect("a procfs");
        let check = |path: &str, real: &str, mount: &std::os::fd::OwnedFd| {
            let target =
                rustix::fs::open(real, rustix::fs::OFlags::PATH, rustix::fs::Mode::empty()).expect("opened");
            check_target(target.as_fd(), Path::new(path), mount.as_fd())
        };
        for (path, real) in
            [("/proc", "/proc"), ("/proc/sys", "/proc/sys"), ("/link", "/proc"), ("/x", "/proc/self")]
        {
            let error = check(path, real, &memory).expect_err(path);
            assert!(matches!(error, MountError::TargetForbidden { .. }), "{path}: {error}");
        }
        check("/proc", "/proc", &own).expect("procfs on procfs");
        check("/link", "/proc", &own).expect_err("but by its own name only");
        check("/proc/uptime", "/proc/uptime", &memory).expect("a file that tells");
        check("/tmp", "/tmp", &memory).expect("elsewhere");
    });
}

#[test]
fn a_file_system_is_mounted_by_its_name_and_an_unknown_one_is_told() {
    in_private_mounts(|| {
        let dir = tempfile::tempdir().expect("a directory");
        let system =
            named("tmpfs", "tmpfs", "size=1m,mode=700", Attributes::default().read_only()).expect("mounted");
        attach(system.as_fd(), directory(dir.path()).as_fd(), dir.path()).expect("attached");
        assert!(fs::write(dir.path().join("f"), "").is_err(), "read-only");
        let error = named("nothing", "x", "", Attributes::default()).expect_err("no such type");
        assert_eq!(error.errno(), libc::ENODEV);
        let error = named("tmpfs", "", "what=1", Attributes::default()).expect_err("no such option");
        assert_eq!(error.errno(), libc::EINVAL);
    });
}

#[test]
fn a_part_of_a_mount_that_is_attached_nowhere_is_one_too_by_both_interfaces_and_nobody_sees_how() {
    in_private_mounts(|| {
        let mountinfo = || fs::read_to_string("/proc/thread-self/mountinfo").expect("read");
        let before = mountinfo();
        let ways = [bind_part_detached, bind_part_classic];
        // The second uses the whole up, so that each part has one of its own.
        for (bind_part, (part, read)) in
            ways.iter().flat_map(|way| [("d", "/file"), ("d/file", "")].map(|part| (way, part)))
        {
            let whole = tmpfs("mode=755", Attributes::default()).expect("a tmpfs");
            let root = format!("/proc/self/fd/{}", whole.as_raw_fd());
            fs::create_dir(format!("{root}/d")).expect("made");
            fs::write(format!("{root}/d/file"), "there").expect("written");
            let part = resolve_beneath(whole.as_fd(), Path::new(part)).expect("resolved");
            let bound = bind_part(whole.as_fd(), part.as_fd()).expect("bound");
            drop(whole);
            let path = format!("/proc/self/fd/{}{read}", bound.as_raw_fd());
            assert_eq!(fs::read_to_string(path).expect("read"), "there");
            assert_eq!(mountinfo(), before);
        }
    });
}
