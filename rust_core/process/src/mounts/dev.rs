//! /dev: a fresh tmpfs with the few nodes that every program expects, terminals and shared memory of its own.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use mount::{Attributes, IdMap, MountError, Want};
use rustix::fs::{
    chownat, makedev, mkdirat, mknodat, openat, statat, symlinkat, AtFlags, FileType, Gid, Mode, OFlags, Uid,
};
use rustix::io::Errno;

use crate::at::{At, Outcome};
use crate::failure::StartFailure;
use crate::host_devices::HostDevice;
use crate::namespaces::SharedMemory;
use crate::selinux;
use crate::spec::{DeviceNode, Spec};
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
/// Places in /dev that are the container's own, whatever devices it is given.
const OWN: [&str; 10] =
    ["fd", "stdin", "stdout", "stderr", "ptmx", "pts", "shm", "mqueue", "console", "fluyt-init"];
const PLACE: OFlags = OFlags::PATH.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);
/// Options of the terminals: group 5 is `tty` in every distribution.
const TERMINALS: &str = "ptmxmode=0666,mode=0620,gid=5";

/// A /dev with all its nodes, attached nowhere.
#[derive(Debug)]
pub(crate) struct Prepared {
    dev: OwnedFd,
    null: OwnedFd,
}

/// The nodes and links of /dev, with the SELinux label and owners shifted by `ids`. Only outside any user namespace can nodes be made.
pub(crate) fn prepare(
    host_devices: &[HostDevice],
    devices: &[DeviceNode],
    label: &str,
    ids: Option<IdMap<'_>>,
) -> Outcome<Prepared> {
    // Modes are given exactly.
    let before = rustix::process::umask(Mode::empty());
    let prepared = make(host_devices, devices, label, ids);
    rustix::process::umask(before);
    prepared
}

fn make(
    host_devices: &[HostDevice],
    devices: &[DeviceNode],
    label: &str,
    ids: Option<IdMap<'_>>,
) -> Outcome<Prepared> {
    let path = Path::new("/dev");
    let flags = Attributes { no_suid: true, ..Attributes::default() };
    let dev = mount::tmpfs_labelled("mode=755,size=65536k", flags, label).at(Step::Mount, path)?;
    for (name, major, minor) in NODES {
        node(&dev, name, FileType::CharacterDevice, Mode::from_raw_mode(0o666), makedev(major, minor))?;
    }
    for device in host_devices {
        device.make_below(dev.as_fd())?;
    }
    for device in devices {
        add(dev.as_fd(), device)?;
    }
    for (name, link_target) in LINKS {
        symlinkat(link_target, &dev, name).at(Step::Device, name)?;
    }
    let null =
        openat(&dev, "null", OFlags::PATH | OFlags::CLOEXEC, Mode::empty()).at(Step::Device, "/dev/null")?;
    if let Some(ids) = ids {
        mount::map_ids(dev.as_fd(), ids, false, path).at(Step::Mount, path)?;
    }
    Ok(Prepared { dev, null })
}

/// What was prepared is /dev, complete. The answer is a handle on its null device, which stays that device whatever is
/// mounted over it later (CVE-2025-31133); whoever uses it checks that it is one.
pub(crate) fn attach(
    root: BorrowedFd<'_>,
    prepared: Prepared,
    shm: SharedMemory,
    spec: &Spec,
) -> Outcome<OwnedFd> {
    let path = Path::new("/dev");
    let Prepared { dev, null } = prepared;
    let target = mount::resolve_exact(root, path, Want::Directory, true).at(Step::Mount, path)?;
    mount::attach(dev.as_fd(), target.as_fd(), path).at(Step::Mount, path)?;

    let label = spec.mount_label.as_str();
    let quiet = Attributes { no_dev: false, ..Attributes::HARDENED };
    below(&dev, "pts", || mount::devpts(TERMINALS, quiet, label))?;
    match shm {
        SharedMemory::New(size) => {
            let data = format!("mode=1777,size={size}");
            below(&dev, "shm", || mount::tmpfs_labelled(&data, Attributes::HARDENED, label))?;
        }
        SharedMemory::Of(mount) => below(&dev, "shm", || Ok(mount))?,
        SharedMemory::None => {}
    }
    let queues = mount::mqueue(Attributes::HARDENED).at(Step::Mount, "mqueue")?;
    // In a user namespace of its own its file system keeps no labels. Source: selinux_set_mnt_opts().
    if spec.ids.is_none() {
        selinux::label_queues(queues.as_fd(), label)?;
    }
    below(&dev, "mqueue", || Ok(queues))?;
    Ok(null)
}

/// The node is below `dev`, which nothing but this process has seen yet. One of the same device may be there already.
fn add(dev: BorrowedFd<'_>, device: &DeviceNode) -> Outcome<()> {
    let refuse = |rule: &str| Err(StartFailure::rule(Step::Device, &device.path, rule));
    let names: Vec<&str> = device.path.strip_prefix("/dev/").unwrap_or_default().split('/').collect();
    if names.iter().any(|name| matches!(*name, "" | "." | "..")) {
        return refuse("the path of a device is one below /dev");
    }
    if OWN.contains(&names[0]) {
        return refuse("that place in /dev is the container's own; give the device another path");
    }
    let (name, parents) = names.split_last().map_or(("", &[][..]), |(name, parents)| (*name, parents));
    let mut parent = openat(dev, ".", PLACE, Mode::empty()).at(Step::Device, &device.path)?;
    for directory in parents {
        match mkdirat(&parent, *directory, Mode::from_raw_mode(0o755)) {
            Ok(()) | Err(Errno::EXIST) => {}
            Err(errno) => return Err(StartFailure::kernel(Step::Device, &device.path, errno)),
        }
        parent = openat(&parent, *directory, PLACE, Mode::empty()).at(Step::Device, &device.path)?;
    }
    let kind = if device.is_block { FileType::BlockDevice } else { FileType::CharacterDevice };
    let number = makedev(device.major, device.minor);
    match mknodat(&parent, name, kind, Mode::from_raw_mode(device.mode & 0o7777), number) {
        Ok(()) => {}
        Err(Errno::EXIST) => {
            let there = statat(&parent, name, AtFlags::SYMLINK_NOFOLLOW).at(Step::Device, &device.path)?;
            if FileType::from_raw_mode(there.st_mode) != kind || there.st_rdev != number {
                return refuse("another device is there; give this one another path");
            }
        }
        Err(errno) => return Err(StartFailure::kernel(Step::Device, &device.path, errno)),
    }
    let owner = (Some(Uid::from_raw(device.uid)), Some(Gid::from_raw(device.gid)));
    chownat(&parent, name, owner.0, owner.1, AtFlags::SYMLINK_NOFOLLOW).at(Step::Device, &device.path)
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
