//! File systems whose files all show one SELinux label. Only a kernel with SELinux makes them; any other says that it does
//! not know the option, by which it is seen to be given. Needs root.

use std::fs;
use std::path::{Path, PathBuf};

use mount::{Attributes, MountError, OverlayPlan};

const LABEL: &str = "system_u:object_r:container_file_t:s0:c1,c2";

fn has_selinux() -> bool {
    Path::new("/sys/fs/selinux/enforce").exists()
}

fn refused<T: std::fmt::Debug>(what: &str, made: Result<T, MountError>) {
    let error = made.expect_err(what);
    assert_eq!(error.errno(), libc::EINVAL, "{what}: {error}");
    assert!(error.to_string().contains("context"), "{what}: {error}");
}

#[test]
fn each_file_system_that_is_made_for_a_container_is_given_the_label() {
    if has_selinux() {
        return; // tests/e2e/selinux looks at the labels themselves
    }
    let keep = tempfile::tempdir().unwrap();
    let path = |name: &str| -> PathBuf {
        let path = keep.path().join(name);
        fs::create_dir_all(&path).unwrap();
        path
    };
    let lowers = vec![path("a"), path("b")];
    let plan = OverlayPlan::new(lowers.clone(), path("upper"), path("work")).unwrap();
    refused("tmpfs", mount::tmpfs_labelled("mode=755", Attributes::default(), LABEL));
    refused("devpts", mount::devpts("mode=0620", Attributes::default(), LABEL));
    refused("overlay", mount::overlay_detached(&plan.clone().labelled(LABEL)));
    refused("image", mount::image_labelled(&lowers, LABEL));
    // mount(2) has no words for its reason.
    let classic = mount::overlay_classic_detached(&plan.clone().labelled(LABEL)).unwrap_err();
    assert_eq!(classic.errno(), libc::EINVAL);
    // Without a label all of them are made as ever.
    mount::tmpfs_labelled("mode=755", Attributes::default(), "").unwrap();
    mount::overlay_detached(&plan.clone().labelled("")).unwrap();
    mount::overlay_classic_detached(&plan.labelled("")).unwrap();
    mount::image_labelled(&lowers, "").unwrap();
}
