//! Masked and read-only paths, and the change of root.

mod support;

use std::fs;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use mount::{
    attach, open_null, pivot_into, read_only_path, resolve_in_root, sysfs, tmpfs, Attributes, Masker,
    MountError, Want,
};
use support::{directory, in_private_mounts};

struct Root {
    _keep: tempfile::TempDir,
    path: PathBuf,
    fd: OwnedFd,
}

/// A tmpfs root with proc and sys mounted in it.
fn root() -> Root {
    let keep = tempfile::tempdir().unwrap();
    let path = keep.path().to_path_buf();
    let mount = tmpfs("size=1m", Attributes::default()).unwrap();
    attach(mount.as_fd(), directory(&path).as_fd(), &path).unwrap();
    for (name, kernel) in [
        ("/proc", mount::proc(Attributes::HARDENED).unwrap()),
        ("/sys", sysfs(Attributes::HARDENED.read_only()).unwrap()),
    ] {
        let target = resolve_in_root(mount.as_fd(), Path::new(name), Want::Directory, true).unwrap();
        attach(kernel.as_fd(), target.as_fd(), Path::new(name)).unwrap();
    }
    Root { _keep: keep, path, fd: mount }
}

#[test]
fn z13_masked_files_and_directories_read_as_empty() {
    in_private_mounts(|| {
        let root = root();
        let mut masker = Masker::new(open_null().unwrap()).unwrap();
        for (path, is_there) in [
            ("/proc/keys", true),
            ("/proc/timer_list", true),
            ("/proc/fs", true),
            ("/proc/bus", true),
            ("/sys/kernel", true),
            ("/proc/not-on-this-kernel", false),
            ("/nothing/here", false),
            ("/proc/keys/below-a-file", false),
        ] {
            assert_eq!(masker.mask(root.fd.as_fd(), Path::new(path)).unwrap(), is_there, "{path}");
        }
        for file in ["proc/keys", "proc/timer_list"] {
            assert_eq!(fs::read(root.path.join(file)).unwrap(), b"", "{file}");
        }
        for directory in ["proc/fs", "proc/bus", "sys/kernel"] {
            let directory = root.path.join(directory);
            assert_eq!(fs::read_dir(&directory).unwrap().count(), 0);
            assert_eq!(fs::write(directory.join("x"), "").unwrap_err().raw_os_error(), Some(libc::EROFS));
        }
    });
}

#[test]
fn z13_a_mask_over_something_that_is_not_procfs_fails() {
    in_private_mounts(|| {
        let root = root();
        // What a volume on /proc/fs would do: the kernel's directory is gone, a stranger's stands there.
        let target = resolve_in_root(root.fd.as_fd(), Path::new("/proc/fs"), Want::Directory, false).unwrap();
        let foreign = tmpfs("", Attributes::default()).unwrap();
        attach(foreign.as_fd(), target.as_fd(), Path::new("/proc/fs")).unwrap();
        let mut masker = Masker::new(open_null().unwrap()).unwrap();
        for path in ["/proc/fs", "/../proc/fs"] {
            let error = masker.mask(root.fd.as_fd(), Path::new(path)).unwrap_err();
            assert!(matches!(&error, MountError::WrongFileSystem { found: 0x0102_1994, .. }), "{error}");
            let error = read_only_path(root.fd.as_fd(), Path::new(path)).unwrap_err();
            assert!(matches!(&error, MountError::WrongFileSystem { .. }), "{error}");
        }
    });
}

#[test]
fn z13_only_the_null_device_masks() {
    in_private_mounts(|| {
        for path in ["/dev/zero", "/proc/sys/kernel/core_pattern", "/dev"] {
            let other = rustix::fs::open(
                path,
                rustix::fs::OFlags::PATH | rustix::fs::OFlags::CLOEXEC,
                rustix::fs::Mode::empty(),
            )
            .unwrap();
            let error = Masker::new(other).unwrap_err();
            assert!(matches!(error, MountError::NotNullDevice { .. }), "{path}");
        }
        // And a link put in its place is not followed.
        let fake = tmpfs("mode=755", Attributes::default()).unwrap();
        attach(fake.as_fd(), directory(Path::new("/dev")).as_fd(), Path::new("/dev")).unwrap();
        std::os::unix::fs::symlink("/proc/sys/kernel/core_pattern", "/dev/null").unwrap();
        assert!(matches!(open_null(), Err(MountError::NotNullDevice { .. })));
    });
}

#[test]
fn z13_a_write_below_a_read_only_path_is_refused_and_its_other_flags_stay() {
    in_private_mounts(|| {
        let root = root();
        assert!(read_only_path(root.fd.as_fd(), Path::new("/proc/sys")).unwrap());
        assert!(!read_only_path(root.fd.as_fd(), Path::new("/proc/not-there")).unwrap());
        let error = fs::write(root.path.join("proc/sys/kernel/hostname"), "x").unwrap_err();
        assert_eq!(error.raw_os_error(), Some(libc::EROFS));
        assert_eq!(support::options_of(&root.path.join("proc/sys")), "ro,nosuid,nodev,noexec,relatime");
    });
}

#[test]
fn every_kernel_file_system_is_mounted_detached() {
    in_private_mounts(|| {
        let root = root();
        for (path, made) in [
            ("/m/devpts", mount::devpts("mode=0620,ptmxmode=0666,gid=5", Attributes::default(), "")),
            ("/m/mqueue", mount::mqueue(Attributes::HARDENED)),
            ("/m/cgroup2", mount::cgroup2(Attributes::HARDENED.read_only())),
        ] {
            let made = made.unwrap_or_else(|error| panic!("{path}: {error}"));
            let target = resolve_in_root(root.fd.as_fd(), Path::new(path), Want::Directory, true).unwrap();
            attach(made.as_fd(), target.as_fd(), Path::new(path)).unwrap();
        }
        assert!(root.path.join("m/devpts/ptmx").exists());
        assert!(root.path.join("m/cgroup2/cgroup.controllers").exists());
        if Path::new("/sys/fs/cgroup/memory/tasks").exists() {
            let made = mount::cgroup1(&["memory"], Attributes::HARDENED.read_only()).unwrap();
            let target =
                resolve_in_root(root.fd.as_fd(), Path::new("/m/memory"), Want::Directory, true).unwrap();
            attach(made.as_fd(), target.as_fd(), Path::new("/m/memory")).unwrap();
            assert!(root.path.join("m/memory/memory.limit_in_bytes").exists());
        } else {
            eprintln!("SKIPPED cgroup1 part: this host has no v1 memory hierarchy");
        }
    });
}

#[test]
fn an_unknown_file_system_is_a_missing_feature() {
    in_private_mounts(|| {
        let error = mount::cgroup1(&["no-such-controller"], Attributes::default()).unwrap_err();
        assert!(error.to_string().contains("no-such-controller"), "{error}");
    });
}

#[test]
fn after_the_pivot_only_the_new_root_is_there() {
    in_private_mounts(|| {
        let root = root();
        fs::write(root.path.join("mark"), "new root").unwrap();
        pivot_into(root.fd.as_fd()).unwrap();
        assert_eq!(fs::read_to_string("/mark").unwrap(), "new root");
        assert_eq!(std::env::current_dir().unwrap(), Path::new("/"));
        let text = fs::read_to_string("/proc/thread-self/mountinfo").unwrap();
        assert_eq!(text.lines().count(), 3, "{text}");
        assert!(!Path::new("/usr").exists());
    });
}
