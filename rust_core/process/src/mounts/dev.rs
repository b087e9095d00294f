//! /dev: a fresh tmpfs with the few nodes that every program expects, terminals and shared memory of its own.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use mount::{Attributes, MountError, Want};
use rustix::fs::{makedev, mkdirat, mknodat, openat, symlinkat, FileType, Mode, OFlags};

use crate::at::{At, Outcome};
use crate::host_devices::HostDevice;
use crate::step::Step;

/// Name, major, minor of the nodes of an unprivileged container. Source: OCI runtime-spec, Default Devices.
const NODES: [(&str, u32, u32); 6] =
    [("null", 1, 3), ("zero", 1, 5), ("full", 1, 7), ("random", 1, 8), ("urandom", 1, 9), ("tty", 5, 0)];
/// Name and target. Source: OCI runtime-spec, Dev symbolic links.
const LINKS: [(&str, &str); 5] = [
    ("fd", "/proc/self/fd"),
    ("stdin", "/proc/self/fd/0"),
    ("stdout", "/proc/self/fd/1"),
    ("stderr", "/proc/self/fd/2"),
    ("ptmx", "pts/ptmx"),
];
/// Options of the terminals: group 5 is `tty` in every distribution.
const TERMINALS: &str = "ptmxmode=0666,mode=0620,gid=5";

/// /dev is complete and attached. The answer is a handle on its null device, which stays that device whatever is
/// mounted over it later (CVE-2025-31133); whoever uses it checks that it is one.
pub(crate) fn mount_dev(
    root: BorrowedFd<'_>,
    shm_size_bytes: u64,
    host_devices: &[HostDevice],
) -> Outcome<OwnedFd> {
    let path = Path::new("/dev");
    let target = mount::resolve_exact(root, path, Want::Directory, true).at(Step::Mount, path)?;
    let flags = Attributes { no_suid: true, ..Attributes::default() };
    let dev = mount::tmpfs("mode=755,size=65536k", flags).at(Step::Mount, path)?;
    for (name, major, minor) in NODES {
        node(&dev, name, FileType::CharacterDevice, Mode::from_raw_mode(0o666), makedev(major, minor))?;
    }
    for device in host_devices {
        device.make_below(dev.as_fd())?;
    }
    for (name, link_target) in LINKS {
        symlinkat(link_target, &dev, name).at(Step::Device, name)?;
    }
    let null =
        openat(&dev, "null", OFlags::PATH | OFlags::CLOEXEC, Mode::empty()).at(Step::Device, "/dev/null")?;
    mount::attach(dev.as_fd(), target.as_fd(), path).at(Step::Mount, path)?;

    let quiet = Attributes { no_dev: false, ..Attributes::HARDENED };
    below(&dev, "pts", || mount::devpts(TERMINALS, quiet))?;
    below(&dev, "shm", || mount::tmpfs(&format!("mode=1777,size={shm_size_bytes}"), Attributes::HARDENED))?;
    below(&dev, "mqueue", || mount::mqueue(Attributes::HARDENED))?;
    Ok(null)
}

pub(crate) fn node(dev: impl AsFd, name: &str, kind: FileType, mode: Mode, number: u64) -> Outcome<()> {
    mknodat(dev, name, kind, mode, number).at(Step::Device, name)
}

fn below(dev: &OwnedFd, name: &str, make: impl FnOnce() -> Result<OwnedFd, MountError>) -> Outcome<()> {
    mkdirat(dev, name, Mode::from_raw_mode(0o755)).at(Step::Mount, name)?;
    let target = openat(dev, name, OFlags::PATH | OFlags::CLOEXEC, Mode::empty()).at(Step::Mount, name)?;
    let mount = make().at(Step::Mount, name)?;
    mount::attach(mount.as_fd(), target.as_fd(), Path::new(name)).at(Step::Mount, name)
}
