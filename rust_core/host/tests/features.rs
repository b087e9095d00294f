//! The probe: what it finds on this host, and that it leaves nothing.

use std::fs;
use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};

use host::{kernel_release, probe};

const NAMES: [&str; 14] = [
    "overlay",
    "new_mount_api",
    "openat2",
    "user_namespaces",
    "idmapped_mounts",
    "seccomp",
    "cgroup_v2",
    "clone_into_cgroup",
    "cgroup_kill",
    "erofs_file_mount",
    "pidfd",
    "project_quota",
    "cap_sys_resource",
    "landlock",
];

/// One test at a time: descriptors are the process's, and one test counts them.
fn alone() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::new(());
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

fn children() -> Vec<String> {
    let path = format!("/proc/self/task/{}/children", std::process::id());
    fs::read_to_string(path).unwrap_or_default().split_whitespace().map(str::to_owned).collect()
}

#[test]
fn every_feature_is_named_once_and_nothing_is_left_behind() {
    let _alone = alone();
    let keep = tempfile::tempdir().unwrap();
    let read = |path: &str| fs::read_to_string(path).unwrap();
    let (mounts, children_before) = (read("/proc/self/mountinfo"), children());
    let descriptors = || fs::read_dir("/proc/self/fd").unwrap().count();
    let before = descriptors();
    let features = probe(keep.path());
    assert_eq!(features.iter().map(|feature| feature.name).collect::<Vec<_>>(), NAMES);
    assert_eq!(fs::read_dir(keep.path()).unwrap().count(), 0);
    assert_eq!(read("/proc/self/mountinfo"), mounts);
    assert_eq!(children(), children_before);
    assert_eq!(descriptors(), before);
    assert!(!Path::new(&format!("/sys/fs/cgroup/unified/fluyt-probe-{}", std::process::id())).exists());
    for feature in &features {
        println!("{}: {} {}", feature.name, feature.is_available, feature.detail);
        assert!(feature.is_available || !feature.detail.is_empty(), "{feature:?}");
    }
}

#[test]
fn what_needs_the_data_root_says_why_it_could_not_be_tried() {
    let _alone = alone();
    let features = probe(Path::new("/proc/no/such/root"));
    let overlay = features.iter().find(|feature| feature.name == "overlay").unwrap();
    assert!(!overlay.is_available && overlay.detail.contains("/proc/no/such/root"), "{overlay:?}");
}

#[test]
fn the_kernels_release_is_what_uname_says() {
    let _alone = alone();
    assert_eq!(kernel_release(), fs::read_to_string("/proc/sys/kernel/osrelease").unwrap().trim());
}
