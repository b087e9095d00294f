//! Targets of mounts in roots that try to lead elsewhere.

mod support;

use std::fs;
use std::os::fd::AsFd;
use std::os::unix::fs::{symlink, PermissionsExt};
use std::path::Path;

use mount::{
    attach, bind_path_detached, resolve_exact, resolve_in_root, set_attributes, tmpfs, want_of, Attributes,
    MountError, Propagation, Want,
};
use support::{directory, in_private_mounts, options_of};

struct Root {
    _keep: tempfile::TempDir,
    root: std::path::PathBuf,
    canary: std::path::PathBuf,
}

fn hostile_root() -> Root {
    let keep = tempfile::tempdir().unwrap();
    let root = keep.path().join("root");
    let canary = keep.path().join("canary");
    fs::create_dir(&root).unwrap();
    fs::create_dir(&canary).unwrap();
    fs::write(canary.join("file"), "host").unwrap();
    Root { _keep: keep, root, canary }
}

impl Root {
    fn resolve(&self, path: &str, want: Want, create: bool) -> Result<std::os::fd::OwnedFd, MountError> {
        resolve_in_root(directory(&self.root).as_fd(), Path::new(path), want, create)
    }

    fn assert_canary_untouched(&self) {
        let names: Vec<_> =
            fs::read_dir(&self.canary).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        assert_eq!(names, ["file"]);
        assert_eq!(fs::read_to_string(self.canary.join("file")).unwrap(), "host");
        assert!(!support::mounts().contains(self.canary.to_str().unwrap()));
    }
}

#[test]
fn z05_a_link_to_a_host_path_makes_the_target_inside_the_root() {
    in_private_mounts(|| {
        let root = hostile_root();
        fs::create_dir(root.root.join("v")).unwrap();
        symlink(&root.canary, root.root.join("v/d")).unwrap();
        let target = root.resolve("/v/d/new", Want::Directory, true).unwrap();
        let mount = tmpfs("size=4k", Attributes::HARDENED).unwrap();
        attach(mount.as_fd(), target.as_fd(), Path::new("/v/d/new")).unwrap();
        let inside = root.root.join(root.canary.strip_prefix("/").unwrap()).join("new");
        assert_eq!(options_of(&inside), "rw,nosuid,nodev,noexec,relatime");
        assert!(!root.canary.join("new").exists());
        let names: Vec<_> =
            fs::read_dir(&root.canary).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        assert_eq!(names, ["file"]);
    });
}

#[test]
fn z05_every_shape_of_escape_ends_inside_the_root_or_fails() {
    in_private_mounts(|| {
        let root = hostile_root();
        let canary = root.canary.to_str().unwrap();
        let up = format!("../../../../../../../../..{canary}");
        symlink(&up, root.root.join("up")).unwrap();
        symlink("absolute2", root.root.join("absolute1")).unwrap();
        symlink(canary, root.root.join("absolute2")).unwrap();
        symlink("loop", root.root.join("loop")).unwrap();
        symlink("/proc/self/root", root.root.join("magic")).unwrap();
        for path in ["/up/a", "/absolute1/b", "/../../c", "/x/../../../d", "up/e/../f"] {
            root.resolve(path, Want::Directory, true).unwrap_or_else(|error| panic!("{path}: {error}"));
        }
        let error = root.resolve("/loop/x", Want::Directory, true).unwrap_err();
        assert_eq!(error.errno(), libc::ELOOP, "{error}");
        root.assert_canary_untouched();
        assert!(root.root.join("c").is_dir() && root.root.join("d").is_dir());
    });
}

#[test]
fn z05_links_of_procfs_are_never_followed() {
    in_private_mounts(|| {
        let root = hostile_root();
        let target = root.resolve("/proc", Want::Directory, true).unwrap();
        let proc = mount::proc(Attributes::HARDENED).unwrap();
        attach(proc.as_fd(), target.as_fd(), Path::new("/proc")).unwrap();
        for path in ["/proc/self/root/new", "/proc/self/cwd", "/proc/self/fd/0/x", "/proc/thread-self/exe"] {
            let error = root.resolve(path, Want::Directory, true).unwrap_err();
            assert_eq!(error.errno(), libc::ELOOP, "{path}: {error}");
        }
    });
}

/// runc CVE-2026-41579 and crun CVE-2026-47766.
#[test]
fn a_dev_link_in_a_hostile_root_leads_nowhere() {
    in_private_mounts(|| {
        let root = hostile_root();
        symlink(&root.canary, root.root.join("dev")).unwrap();
        let dir = directory(&root.root);
        let error = resolve_exact(dir.as_fd(), Path::new("/dev"), Want::Directory, true).unwrap_err();
        assert!(matches!(&error, MountError::TargetMismatch { found: "a symbolic link", .. }), "{error}");
        root.resolve("/dev/shm", Want::Directory, true).unwrap();
        root.resolve("/dev/null", Want::File, true).unwrap();
        root.assert_canary_untouched();
    });
}

#[test]
fn an_exact_target_is_made_when_it_is_missing() {
    in_private_mounts(|| {
        let root = hostile_root();
        let dir = directory(&root.root);
        resolve_exact(dir.as_fd(), Path::new("/a/b"), Want::Directory, true).unwrap();
        assert!(root.root.join("a/b").is_dir());
        let error = resolve_exact(dir.as_fd(), Path::new("/c"), Want::Directory, false).unwrap_err();
        assert_eq!(error.errno(), libc::ENOENT);
    });
}

#[test]
fn what_is_missing_is_made_with_mode_0755_whatever_the_umask() {
    in_private_mounts(|| {
        let root = hostile_root();
        let old = rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o077));
        root.resolve("/a/b/c", Want::Directory, true).unwrap();
        root.resolve("/a/file", Want::File, true).unwrap();
        rustix::process::umask(old);
        for made in ["a", "a/b", "a/b/c"] {
            let mode = fs::metadata(root.root.join(made)).unwrap().permissions().mode();
            assert_eq!(mode & 0o7777, 0o755, "{made}");
        }
        assert!(root.root.join("a/file").is_file());
    });
}

#[test]
fn m05_a_file_is_bound_to_a_missing_target_and_a_directory_to_a_missing_directory() {
    in_private_mounts(|| {
        let root = hostile_root();
        for (source, path) in [(root.canary.join("file"), "/x/file"), (root.canary.clone(), "/x/directory")] {
            let copy = bind_path_detached(&source, true).unwrap();
            let want = want_of(copy.as_fd()).unwrap();
            let target = root.resolve(path, want, true).unwrap();
            attach(copy.as_fd(), target.as_fd(), Path::new(path)).unwrap();
        }
        assert_eq!(fs::read_to_string(root.root.join("x/file")).unwrap(), "host");
        assert_eq!(fs::read_to_string(root.root.join("x/directory/file")).unwrap(), "host");
    });
}

#[test]
fn m05_a_target_of_the_other_kind_is_a_typed_error_and_nothing_is_mounted() {
    in_private_mounts(|| {
        let root = hostile_root();
        fs::create_dir(root.root.join("d")).unwrap();
        fs::write(root.root.join("f"), "").unwrap();
        let before = support::mounts();
        let error = root.resolve("/d", Want::File, true).unwrap_err();
        assert_eq!(
            error,
            MountError::TargetMismatch { path: "/d".into(), wanted: Want::File, found: "a directory" }
        );
        assert_eq!(error.errno(), libc::EISDIR);
        let error = root.resolve("/f", Want::Directory, true).unwrap_err();
        assert_eq!(error.errno(), libc::ENOTDIR);
        assert_eq!(root.resolve("/f/below", Want::Directory, true).unwrap_err().errno(), libc::ENOTDIR);
        assert_eq!(support::mounts(), before);
    });
}

#[test]
fn m03_a_read_only_bind_keeps_the_flags_of_the_host() {
    in_private_mounts(|| {
        let root = hostile_root();
        let host = tmpfs("size=64k", Attributes::HARDENED).unwrap();
        attach(host.as_fd(), directory(&root.canary).as_fd(), &root.canary).unwrap();
        let copy = bind_path_detached(&root.canary, true).unwrap();
        let attributes = Attributes::default().read_only();
        set_attributes(copy.as_fd(), attributes, Some(Propagation::Private), true).unwrap();
        let target = root.resolve("/v", Want::Directory, true).unwrap();
        attach(copy.as_fd(), target.as_fd(), Path::new("/v")).unwrap();
        assert_eq!(options_of(&root.root.join("v")), "ro,nosuid,nodev,noexec,relatime");
        assert_eq!(options_of(&root.canary), "rw,nosuid,nodev,noexec,relatime", "the host's own mount");
    });
}

#[test]
fn m03_read_only_reaches_the_mounts_below_when_asked() {
    in_private_mounts(|| {
        let root = hostile_root();
        fs::create_dir(root.canary.join("sub")).unwrap();
        let below = tmpfs("", Attributes::default()).unwrap();
        attach(below.as_fd(), directory(&root.canary.join("sub")).as_fd(), Path::new("sub")).unwrap();
        let copy = bind_path_detached(&root.canary, true).unwrap();
        set_attributes(copy.as_fd(), Attributes::default().read_only(), None, true).unwrap();
        let target = root.resolve("/v", Want::Directory, true).unwrap();
        attach(copy.as_fd(), target.as_fd(), Path::new("/v")).unwrap();
        let error = fs::write(root.root.join("v/sub/x"), "").unwrap_err();
        assert_eq!(error.raw_os_error(), Some(libc::EROFS));
    });
}

#[test]
fn m06_the_options_of_a_tmpfs_are_honoured_and_a_wrong_one_is_named() {
    in_private_mounts(|| {
        let root = hostile_root();
        let mount = tmpfs("size=1m,mode=1770", Attributes::HARDENED).unwrap();
        let target = root.resolve("/t", Want::Directory, true).unwrap();
        attach(mount.as_fd(), target.as_fd(), Path::new("/t")).unwrap();
        let path = root.root.join("t");
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o7777, 0o1770);
        let error = fs::write(path.join("big"), vec![0_u8; 2 << 20]).unwrap_err();
        assert_eq!(error.raw_os_error(), Some(libc::ENOSPC));

        let error = tmpfs("colour=blue", Attributes::HARDENED).unwrap_err();
        assert!(error.to_string().contains("colour"), "{error}");
        let error = tmpfs("size=many", Attributes::HARDENED).unwrap_err();
        assert!(error.to_string().contains("size"), "{error}");
        let error = tmpfs(&"a=b,".repeat(2000), Attributes::HARDENED).unwrap_err();
        assert!(error.to_string().contains("MAX_MOUNT_DATA_BYTES"), "{error}");
    });
}
