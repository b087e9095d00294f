//! The process dies at each failpoint: what is visible is whole, and the same work succeeds afterwards.

use std::path::PathBuf;
use std::process::Command;
use std::sync::atomic::AtomicU64;

use errors::Catalogued;
use layer::{LayerId, LayerStore, Limits, OpenedStage, StageRequest};
use rustix::mount::{FsMountFlags, FsOpenFlags, MountAttrFlags};

use crate::image::{names, open_store, request, tree};
use crate::tar_writer::{tar, Item};

const VARIABLE: &str = "FLUYT_TEST_LAYER_ROOT";

fn blob(name: &str) -> Vec<u8> {
    tar(&[Item::dir("d"), Item::file(format!("d/{name}"), name)])
}

fn stage(store: &LayerStore, name: &str) -> LayerId {
    let (limits, progress) = (Limits::default(), AtomicU64::new(0));
    let blob = blob(name);
    let diff_id = content::Digest::of(content::Algorithm::Sha256, &blob);
    let request = StageRequest { expected_diff_id: Some(&diff_id), ..request(&limits, &progress) };
    let layer_id = LayerId::from_diff_id(&diff_id);
    if let OpenedStage::Writing(stage) = store.open_stage(&layer_id, &|| false).unwrap() {
        stage.write(&blob[..], &request).unwrap();
    }
    layer_id
}

fn import(store: &LayerStore, name: &str) -> LayerId {
    let (limits, progress) = (Limits::default(), AtomicU64::new(0));
    let blob = blob(name);
    store.open_import().unwrap().write(&blob[..], &request(&limits, &progress)).unwrap().layer_id
}

fn work(store: &LayerStore) {
    let (one, two) = (stage(store, "one"), import(store, "two"));
    let dropped = stage(store, "dropped");
    store.delete_staged(dropped.as_str()).unwrap();
    store.publish(&[one.clone(), two]).unwrap();
    store.delete(&one).unwrap();
}

#[test]
fn a_death_at_any_failpoint_leaves_only_whole_layers() {
    if let Ok(root) = std::env::var(VARIABLE) {
        work(&open_store(&PathBuf::from(root)));
        return;
    }
    for (failpoint, count) in [
        ("layer.stage.begin", 3),
        ("layer.stage.index", 3),
        ("layer.stage.meta", 3),
        ("layer.stage.name", 1),
        ("layer.staged.delete", 1),
        ("layer.publish.sync", 1),
        ("layer.publish.rename", 2),
        ("layer.delete.rename", 1),
        ("layer.delete.remove", 1),
    ] {
        if failpoint == "layer.stage.index"
            && open_store(tempfile::tempdir().unwrap().path()).kind() != "erofs"
        {
            continue;
        }
        for at in 1..=count {
            let root = tempfile::tempdir().unwrap();
            let status = Command::new(std::env::current_exe().unwrap())
                .args(["--exact", "failpoints::a_death_at_any_failpoint_leaves_only_whole_layers"])
                .env(VARIABLE, root.path())
                .env(sys::failpoint::VARIABLE, format!("{failpoint}:{at}"))
                .output()
                .unwrap()
                .status;
            assert_eq!(std::os::unix::process::ExitStatusExt::signal(&status), Some(9), "{failpoint}:{at}");
            let store = open_store(root.path());
            for layer in store.list().unwrap() {
                assert_eq!(tree(&store.lower_path(&layer.layer_id).unwrap()).len(), 2, "{failpoint}:{at}");
            }
            store.recover().unwrap();
            work(&store);
            assert_eq!(store.list().unwrap().len(), 1, "{failpoint}:{at}");
            assert_eq!(names(&root.path().join("layers")).len(), 1, "{failpoint}:{at}");
        }
    }
}

fn full_disk() -> (PathBuf, std::os::fd::OwnedFd) {
    let fs = rustix::mount::fsopen("tmpfs", FsOpenFlags::FSOPEN_CLOEXEC).unwrap();
    rustix::mount::fsconfig_set_string(&fs, "size", "1m").unwrap();
    rustix::mount::fsconfig_create(&fs).unwrap();
    let mount = rustix::mount::fsmount(&fs, FsMountFlags::FSMOUNT_CLOEXEC, MountAttrFlags::empty()).unwrap();
    let path = PathBuf::from(format!("/proc/self/fd/{}/", std::os::fd::AsRawFd::as_raw_fd(&mount)));
    (path, mount)
}

#[test]
fn a_full_disk_is_an_error_of_its_own_and_leaves_nothing() {
    let (path, _mount) = full_disk();
    let store = open_store(&path);
    let (limits, progress) = (Limits::default(), AtomicU64::new(0));
    let blob = tar(&[Item::file("small", "s"), Item::file("d/large", vec![1; 2 << 20])]);
    let error = store.open_import().unwrap().write(&blob[..], &request(&limits, &progress)).unwrap_err();
    assert_eq!(error.reason(), "STORAGE_FULL", "{error}");
    let file = if store.kind() == "erofs" { "/data.tar" } else { "fs/d/large" };
    assert!(error.metadata().iter().any(|(key, value)| *key == "path" && value.ends_with(file)), "{error}");
    assert_eq!(names(&path.join("layers")), Vec::<String>::new());
    import(&store, "small");
}

#[test]
fn a_disk_full_of_what_waits_for_the_end_is_one_too() {
    let (path, _mount) = full_disk();
    let store = open_store(&path);
    let (limits, progress) = (Limits::default(), AtomicU64::new(0));
    let blob = tar(&(0..12_000).map(|n| Item::dir(format!("{n:090}"))).collect::<Vec<_>>());
    let error = store.open_import().unwrap().write(&blob[..], &request(&limits, &progress)).unwrap_err();
    assert_eq!(error.reason(), "STORAGE_FULL", "{error}");
    let file = if store.kind() == "erofs" { "/data.tar" } else { "/records.tmp" };
    assert!(error.metadata().iter().any(|(key, value)| *key == "path" && value.ends_with(file)), "{error}");
    assert_eq!(names(&path.join("layers")), Vec::<String>::new());
    import(&store, "small");
}
