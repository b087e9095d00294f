//! Trees that are given an SELinux label. The attribute is kept by every kernel for root, SELinux or not. Needs root.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use host::relabel;
use rustix::fs::{lgetxattr, lsetxattr, XattrFlags};

const LABEL: &str = "system_u:object_r:container_file_t:s0:c1,c2";
const OTHER: &str = "system_u:object_r:container_file_t:s0";

fn label_of(path: &Path) -> Option<String> {
    let mut buffer = [0_u8; 256];
    let length = lgetxattr(path, "security.selinux", &mut buffer).ok()?;
    Some(String::from_utf8(buffer[..length].to_vec()).unwrap().trim_end_matches('\0').to_owned())
}

fn give(path: &Path, label: &[u8]) {
    lsetxattr(path, "security.selinux", label, XattrFlags::empty()).unwrap();
}

/// `tree` with a file, a directory with a file, a fifo, and links to a file and a directory of `outside`.
fn places(keep: &Path) -> (PathBuf, PathBuf) {
    let (tree, outside) = (keep.join("tree"), keep.join("outside"));
    fs::create_dir_all(tree.join("d/e")).unwrap();
    fs::create_dir_all(outside.join("d")).unwrap();
    for file in ["tree/f", "tree/d/e/g", "outside/f", "outside/d/h"] {
        fs::write(keep.join(file), "x").unwrap();
    }
    let fifo = rustix::fs::FileType::Fifo;
    rustix::fs::mknodat(rustix::fs::CWD, tree.join("p"), fifo, rustix::fs::Mode::RWXU, 0).unwrap();
    symlink(outside.join("f"), tree.join("to_file")).unwrap();
    symlink(outside.join("d"), tree.join("d/to_directory")).unwrap();
    symlink("nowhere", tree.join("dangling")).unwrap();
    (tree, outside)
}

const ALL: [&str; 9] = ["", "f", "p", "d", "d/e", "d/e/g", "to_file", "d/to_directory", "dangling"];

#[test]
fn everything_in_the_tree_has_the_label_and_nothing_that_its_links_lead_to() {
    let keep = tempfile::tempdir().unwrap();
    let (tree, outside) = places(keep.path());
    assert_eq!(relabel(&tree, LABEL, false).unwrap(), ALL.len() as u64);
    for name in ALL {
        assert_eq!(label_of(&tree.join(name)).as_deref(), Some(LABEL), "{name}");
    }
    for name in ["", "f", "d", "d/h"] {
        assert_eq!(label_of(&outside.join(name)), None, "{name}");
    }
    assert_eq!(relabel(&tree, LABEL, false).unwrap(), 0);
}

#[test]
fn what_has_another_label_or_none_is_found_again_and_a_trusted_root_spares_the_search() {
    let keep = tempfile::tempdir().unwrap();
    let (tree, _) = places(keep.path());
    relabel(&tree, LABEL, false).unwrap();
    give(&tree.join("f"), OTHER.as_bytes());
    // As libselinux writes it, with its end.
    give(&tree.join("d"), format!("{LABEL}\0").as_bytes());
    assert_eq!(relabel(&tree, LABEL, true).unwrap(), 0);
    assert_eq!(label_of(&tree.join("f")).as_deref(), Some(OTHER));
    assert_eq!(relabel(&tree, LABEL, false).unwrap(), 1);
    assert_eq!(label_of(&tree.join("f")).as_deref(), Some(LABEL));
    assert_eq!(relabel(&tree, OTHER, true).unwrap(), ALL.len() as u64);
}

#[test]
fn a_file_alone_is_labelled_and_a_place_that_is_not_there_is_an_error() {
    let keep = tempfile::tempdir().unwrap();
    let (tree, outside) = places(keep.path());
    assert_eq!(relabel(&tree.join("f"), LABEL, false).unwrap(), 1);
    assert_eq!(label_of(&tree.join("f")).as_deref(), Some(LABEL));
    assert_eq!(label_of(&tree), None);
    // A caller's place is not reached through a link, at its end or before; one of our own is.
    for way in ["to_file", "d/to_directory/h"] {
        assert_eq!(relabel(&tree.join(way), LABEL, false).unwrap_err().errno, libc::ELOOP, "{way}");
    }
    assert_eq!((label_of(&outside.join("f")), label_of(&outside.join("d/h"))), (None, None));
    assert_eq!(relabel(&tree.join("to_file"), LABEL, true).unwrap(), 1);
    assert_eq!(
        (label_of(&outside.join("f")).as_deref(), label_of(&tree.join("to_file"))),
        (Some(LABEL), None)
    );
    assert_eq!(relabel(&keep.path().join("absent"), LABEL, false).unwrap_err().errno, libc::ENOENT);
}

#[test]
fn what_is_mounted_in_the_tree_is_left_alone_and_a_file_system_without_labels_is_no_error() {
    let keep = tempfile::tempdir().unwrap();
    let (tree, _) = places(keep.path());
    let inside = std::thread::spawn(move || {
        sys::private_mounts::enter().unwrap();
        let flags = rustix::mount::MountFlags::empty();
        rustix::mount::mount("none", tree.join("d/e"), "tmpfs", flags, c"size=64k").unwrap();
        fs::write(tree.join("d/e/inner"), "x").unwrap();
        rustix::mount::mount_bind(tree.join("d/e/inner"), tree.join("f")).unwrap();
        assert_eq!(relabel(&tree, LABEL, false).unwrap(), ALL.len() as u64 - 3);
        assert_eq!((label_of(&tree.join("d/e/inner")), label_of(&tree.join("f"))), (None, None));
    });
    inside.join().unwrap();
    assert_eq!(relabel(Path::new("/proc/version"), LABEL, false).unwrap(), 0);
}
