//! Overlays, made by both interfaces of the kernel.

mod support;

use std::fs;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use mount::{
    attach, image_classic_detached, overlay_classic, overlay_classic_detached, overlay_detached, MountError,
    OverlayPlan, Want,
};
use support::{directory, in_private_mounts};

struct Layers {
    _keep: tempfile::TempDir,
    lowers: Vec<PathBuf>,
    upper: PathBuf,
    work: PathBuf,
    target: PathBuf,
}

/// `count` layers, each with the file `f<n>`; n counts from 1 at the bottom.
fn layers(count: usize, depth_name: &str) -> Layers {
    let keep = tempfile::tempdir().unwrap();
    let base = keep.path().join(depth_name);
    let mut lowers = Vec::new();
    for n in 1..=count {
        // As long as a real layer's directory: 64 hexadecimal digits.
        let lower = base.join("layers").join(format!("{n:064x}")).join("fs");
        fs::create_dir_all(&lower).unwrap();
        fs::write(lower.join(format!("f{n}")), n.to_string()).unwrap();
        fs::write(lower.join("top"), n.to_string()).unwrap();
        lowers.push(lower);
    }
    lowers.reverse();
    let (upper, work, target) = (base.join("upper"), base.join("work"), base.join("root"));
    for directory in [&upper, &work, &target] {
        fs::create_dir_all(directory).unwrap();
    }
    Layers { _keep: keep, lowers, upper, work, target }
}

fn plan(layers: &Layers) -> OverlayPlan {
    OverlayPlan::new(layers.lowers.clone(), layers.upper.clone(), layers.work.clone()).unwrap()
}

/// The overlay of the new interface, attached to the target in this private namespace.
fn attached(layers: &Layers, plan: &OverlayPlan) -> OwnedFd {
    let mount = overlay_detached(plan).unwrap();
    attach(mount.as_fd(), directory(&layers.target).as_fd(), &layers.target).unwrap();
    mount
}

fn check(layers: &Layers, count: usize) {
    let root = &layers.target;
    for n in [1, count / 2, count] {
        assert_eq!(fs::read_to_string(root.join(format!("f{n}"))).unwrap(), n.to_string());
    }
    assert_eq!(fs::read_to_string(root.join("top")).unwrap(), count.to_string());
    fs::write(root.join("new"), "x").unwrap();
    assert_eq!(fs::read(layers.upper.join("new")).unwrap(), b"x");
    fs::remove_file(root.join("f1")).unwrap();
    assert!(!root.join("f1").exists());
    assert!(layers.lowers.last().unwrap().join("f1").exists(), "the layer itself is untouched");
}

const LONG: &str = "a-data-root-whose-path-is-longer-than-one-hundred-bytes-as-some-administrators-like-to-have-it-for-clarity";

#[test]
fn m09_an_overlay_of_120_layers_under_a_long_path_shows_them_all_by_the_new_interface() {
    in_private_mounts(|| {
        let layers = layers(120, LONG);
        let _mount = attached(&layers, &plan(&layers));
        check(&layers, 120);
    });
}

#[test]
fn m09_an_overlay_of_120_layers_under_a_long_path_shows_them_all_by_the_classic_interface() {
    in_private_mounts(|| {
        let layers = layers(120, LONG);
        let before = std::env::current_dir().unwrap();
        let _root = overlay_classic(&plan(&layers), &layers.target).unwrap();
        assert_eq!(std::env::current_dir().unwrap(), before);
        check(&layers, 120);
    });
}

#[test]
fn m09_five_hundred_layers_are_mounted_by_both_interfaces() {
    in_private_mounts(|| {
        let layers = layers(500, LONG);
        let mount = attached(&layers, &plan(&layers));
        check(&layers, 500);
        drop(mount);
        rustix::mount::unmount(&layers.target, rustix::mount::UnmountFlags::empty()).unwrap();
        let _root = overlay_classic(&plan(&layers), &layers.target).unwrap();
        assert!(layers.target.join("f500").exists());
    });
}

#[test]
fn paths_that_no_option_string_can_hold_are_mounted_by_descriptor() {
    in_private_mounts(|| {
        let odd = format!("back\\slash:colon,comma/{}", ["x".repeat(100), "y".repeat(100)].join("/"));
        let layers = layers(3, &odd);
        assert!(layers.upper.as_os_str().len() > 220);
        let mount = attached(&layers, &plan(&layers));
        check(&layers, 3);
        drop(mount);
        rustix::mount::unmount(&layers.target, rustix::mount::UnmountFlags::empty()).unwrap();
        let _root = overlay_classic(&plan(&layers), &layers.target).unwrap();
        assert_eq!(fs::read_to_string(layers.target.join("top")).unwrap(), "3");
    });
}

#[test]
fn a_detached_overlay_is_in_no_mount_table_and_works_by_descriptor() {
    in_private_mounts(|| {
        let layers = layers(2, "x");
        let before = support::mounts();
        let mount = overlay_detached(&plan(&layers)).unwrap();
        assert_eq!(support::mounts(), before);
        let file = mount::resolve_in_root(mount.as_fd(), Path::new("/f2"), Want::File, false);
        assert!(file.is_ok(), "{file:?}");
    });
}

#[test]
fn an_overlay_by_the_classic_interface_can_be_detached_too_and_nobody_sees_how() {
    in_private_mounts(|| {
        let layers = layers(120, LONG);
        let before = (support::mounts(), std::env::current_dir().unwrap());
        let mount = overlay_classic_detached(&plan(&layers)).unwrap();
        assert_eq!((support::mounts(), std::env::current_dir().unwrap()), before);
        assert!(!layers.upper.join("f1").exists(), "nothing covers the writable layer");
        attach(mount.as_fd(), directory(&layers.target).as_fd(), &layers.target).unwrap();
        check(&layers, 120);
    });
}

#[test]
fn an_image_by_the_classic_interface_is_one_read_only_tree_that_nobody_sees() {
    in_private_mounts(|| {
        let layers = layers(500, LONG);
        let before = support::mounts();
        let image = image_classic_detached(&layers.lowers, "").unwrap();
        assert_eq!(support::mounts(), before);
        attach(image.as_fd(), directory(&layers.target).as_fd(), &layers.target).unwrap();
        assert_eq!(fs::read_to_string(layers.target.join("f1")).unwrap(), "1");
        assert_eq!(fs::read_to_string(layers.target.join("top")).unwrap(), "500");
        let refused = fs::write(layers.target.join("new"), "x").unwrap_err();
        assert_eq!(refused.raw_os_error(), Some(libc::EROFS));
        assert!(matches!(
            image_classic_detached(&layers.lowers[..1], ""),
            Err(MountError::PlanInvalid { .. })
        ));
        let absent = [layers.lowers[0].clone(), layers.upper.join("absent")];
        assert_eq!(image_classic_detached(&absent, "").unwrap_err().errno(), libc::ENOENT);
    });
}

#[test]
fn the_upper_stays_a_plain_difference_whatever_the_kernel_defaults_are() {
    in_private_mounts(|| {
        let layers = layers(2, "x");
        let _mount = attached(&layers, &plan(&layers));
        let text = support::mounts();
        let line = text.lines().find(|line| line.contains(layers.target.to_str().unwrap())).unwrap();
        // An option that equals the kernel's default is not shown, so its opposite must be absent.
        for wrong in ["redirect_dir=on", "redirect_dir=follow", "metacopy=on", "index=on"] {
            assert!(!line.contains(wrong), "{line}");
        }
    });
}

#[test]
fn a_volatile_overlay_says_so() {
    in_private_mounts(|| {
        let layers = layers(2, "x");
        let _mount = attached(&layers, &plan(&layers).volatile());
        assert!(support::mounts().contains("volatile"));
    });
}

#[test]
fn a_missing_layer_is_an_error_that_names_it() {
    in_private_mounts(|| {
        let mut layers = layers(2, "x");
        let missing = layers.lowers[0].join("not-there");
        layers.lowers[0].clone_from(&missing);
        for error in [
            overlay_detached(&plan(&layers)).unwrap_err(),
            overlay_classic(&plan(&layers), &layers.target).unwrap_err(),
        ] {
            assert_eq!((error.path(), error.errno()), (missing.as_path(), libc::ENOENT), "{error}");
        }
    });
}

#[test]
fn the_kernels_own_words_are_in_the_error() {
    in_private_mounts(|| {
        let mut layers = layers(1, "x");
        layers.lowers[0].push("f1");
        let plan = plan(&layers);
        let error = overlay_detached(&plan).unwrap_err();
        let MountError::Failed { message, .. } = &error else { panic!("{error:?}") };
        assert!(message.contains("not a directory"), "{error}");
    });
}
