//! Trees measured and removed, hostile ones among them.

use std::fs;
use std::os::fd::AsFd;
use std::os::unix::fs::symlink;
use std::path::Path;

use host::{directory_usage, remove_tree};

/// A chain of directories deeper than PATH_MAX allows to name, made by descriptor.
fn make_deep(root: &Path, depth: u32) {
    let open = |directory: &std::os::fd::OwnedFd, name: &str| {
        let flags = rustix::fs::OFlags::RDONLY | rustix::fs::OFlags::DIRECTORY;
        rustix::fs::openat(directory, name, flags, rustix::fs::Mode::empty()).unwrap()
    };
    fs::create_dir(root).unwrap();
    let mut here: std::os::fd::OwnedFd = fs::File::open(root).unwrap().into();
    for _ in 0..depth {
        rustix::fs::mkdirat(&here, "d", rustix::fs::Mode::RWXU).unwrap();
        here = open(&here, "d");
    }
}

#[test]
fn a_tree_is_removed_with_everything_in_it_and_again_without_error() {
    let keep = tempfile::tempdir().unwrap();
    let root = keep.path().join("tree");
    for n in 0..20 {
        let directory = root.join(format!("a{n}/b/c"));
        fs::create_dir_all(&directory).unwrap();
        for file in 0..5 {
            fs::write(directory.join(format!("f{file}")), "x").unwrap();
        }
    }
    fs::set_permissions(root.join("a1/b"), std::os::unix::fs::PermissionsExt::from_mode(0o500)).unwrap();
    rustix::fs::mknodat(
        rustix::fs::CWD,
        root.join("fifo"),
        rustix::fs::FileType::Fifo,
        rustix::fs::Mode::RWXU,
        0,
    )
    .unwrap();
    remove_tree(&root).unwrap();
    assert!(!root.exists());
    remove_tree(&root).unwrap();
    remove_tree(&keep.path().join("no/such/parent")).unwrap();
}

#[test]
fn links_are_removed_and_what_they_name_stays() {
    let keep = tempfile::tempdir().unwrap();
    let (root, canary) = (keep.path().join("tree"), keep.path().join("canary"));
    fs::create_dir_all(root.join("d")).unwrap();
    fs::create_dir(&canary).unwrap();
    fs::write(canary.join("file"), "host").unwrap();
    symlink(&canary, root.join("d/link")).unwrap();
    symlink("../../canary", root.join("relative")).unwrap();
    symlink("/", root.join("slash")).unwrap();
    remove_tree(&root).unwrap();
    assert!(!root.exists());
    symlink(&canary, &root).unwrap();
    remove_tree(&root).unwrap();
    assert!(root.symlink_metadata().is_err(), "the link itself is gone");
    assert_eq!(fs::read_to_string(canary.join("file")).unwrap(), "host");
}

#[test]
fn a_file_is_a_tree_of_one() {
    let keep = tempfile::tempdir().unwrap();
    let file = keep.path().join("file");
    fs::write(&file, "x").unwrap();
    remove_tree(&file).unwrap();
    assert!(!file.exists());
}

#[test]
fn a_path_without_a_name_is_refused() {
    for path in ["/", "..", "/tmp/..", ""] {
        assert_eq!(remove_tree(Path::new(path)).unwrap_err().errno, libc::EINVAL, "{path:?}");
    }
}

#[test]
fn a_tree_deeper_than_any_path_is_counted_and_removed() {
    let keep = tempfile::tempdir().unwrap();
    let root = keep.path().join("deep");
    make_deep(&root, 5000);
    let usage = directory_usage(&root, 100_000).unwrap();
    assert!(usage.is_complete && usage.entries == 5000, "{usage:?}");
    remove_tree(&root).unwrap();
    assert!(!root.exists());
}

#[test]
fn a_mount_point_in_the_tree_stops_the_removal_and_keeps_its_content() {
    if !rustix::process::geteuid().is_root() {
        eprintln!("SKIPPED: needs root (mounts)");
        return;
    }
    let test = || {
        sys::private_mounts::enter().unwrap();
        let keep = tempfile::tempdir().unwrap();
        let (root, outside) = (keep.path().join("tree"), keep.path().join("outside"));
        for path in [&root, &outside, &root.join("m")] {
            fs::create_dir_all(path).unwrap();
        }
        fs::write(outside.join("file"), "host").unwrap();
        // A bind mount of the same file system, which no device number tells.
        let copy = mount::bind_path_detached(&outside, false).unwrap();
        let target: std::os::fd::OwnedFd = fs::File::open(root.join("m")).unwrap().into();
        mount::attach(copy.as_fd(), target.as_fd(), &root.join("m")).unwrap();
        drop(target);
        let usage = directory_usage(&root, 100).unwrap();
        assert_eq!(usage.entries, 1, "what is mounted is not counted: {usage:?}");
        let error = remove_tree(&root).unwrap_err();
        assert_eq!((error.errno, error.path.as_path()), (libc::EBUSY, root.join("m").as_path()));
        assert_eq!(remove_tree(&root.join("m")).unwrap_err().errno, libc::EBUSY);
        assert_eq!(fs::read_to_string(outside.join("file")).unwrap(), "host");
        drop(copy);
        rustix::mount::unmount(root.join("m"), rustix::mount::UnmountFlags::empty()).unwrap();
        remove_tree(&root).unwrap();
    };
    if let Err(panic) = std::thread::spawn(test).join() {
        std::panic::resume_unwind(panic);
    }
}

#[test]
fn usage_counts_blocks_once_for_each_file_and_no_holes() {
    let keep = tempfile::tempdir().unwrap();
    let root = keep.path();
    fs::create_dir(root.join("d")).unwrap();
    let empty = directory_usage(root, 100).unwrap();
    fs::write(root.join("d/data"), vec![1_u8; 1 << 20]).unwrap();
    let file = fs::File::create(root.join("sparse")).unwrap();
    file.set_len(1 << 30).unwrap();
    for n in 0..10 {
        fs::hard_link(root.join("d/data"), root.join(format!("name{n}"))).unwrap();
    }
    symlink("/", root.join("link")).unwrap();
    fs::File::open(root.join("d/data")).unwrap().sync_all().unwrap();
    let usage = directory_usage(root, 100).unwrap();
    assert_eq!((usage.entries, usage.is_complete), (14, true));
    let grown = usage.bytes - empty.bytes;
    assert!((1 << 20..(1 << 20) + 65536).contains(&grown), "{grown}");
}

#[test]
fn usage_stops_at_its_bound_and_says_so() {
    let keep = tempfile::tempdir().unwrap();
    for n in 0..10 {
        fs::write(keep.path().join(n.to_string()), "").unwrap();
    }
    let usage = directory_usage(keep.path(), 9).unwrap();
    assert_eq!((usage.entries, usage.is_complete), (9, false));
    let usage = directory_usage(keep.path(), 10).unwrap();
    assert_eq!((usage.entries, usage.is_complete), (10, true));
    assert_eq!(directory_usage(&keep.path().join("none"), 1).unwrap_err().errno, libc::ENOENT);
    symlink(keep.path(), keep.path().join("link")).unwrap();
    assert!(directory_usage(&keep.path().join("link"), 1).is_err());
}
