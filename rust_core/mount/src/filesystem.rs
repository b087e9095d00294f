//! Detached mounts of the kernel's own file systems. Each belongs to the caller's namespaces at the time of the
//! call: proc to its pid namespace, sysfs to its network namespace, mqueue to its ipc namespace, cgroup to its
//! cgroup namespace.

use std::os::fd::OwnedFd;
use std::path::Path;

use crate::fs_context::FsContext;
use crate::{Attributes, MountError};

/// The longest option string of one mount.
pub const MAX_MOUNT_DATA_BYTES: usize = 4096;

fn simple(kind: &'static str, attributes: Attributes) -> Result<OwnedFd, MountError> {
    let context = FsContext::open(kind)?;
    context.set("source", kind, Path::new(kind))?;
    context.mount(attributes, Path::new(kind))
}

/// A detached procfs of the caller's pid namespace.
///
/// # Errors
/// [`MountError::Failed`], EPERM in a user namespace whose own procfs is partly covered.
pub fn proc(attributes: Attributes) -> Result<OwnedFd, MountError> {
    simple("proc", attributes)
}

/// A detached sysfs of the caller's network namespace.
///
/// # Errors
/// [`MountError::Failed`].
pub fn sysfs(attributes: Attributes) -> Result<OwnedFd, MountError> {
    simple("sysfs", attributes)
}

/// A detached mqueue of the caller's ipc namespace.
///
/// # Errors
/// [`MountError::FeatureMissing`] on a kernel without it.
pub fn mqueue(attributes: Attributes) -> Result<OwnedFd, MountError> {
    simple("mqueue", attributes)
}

/// A detached mount of the v2 hierarchy, whose root is the caller's cgroup namespace.
///
/// # Errors
/// [`MountError::FeatureMissing`] on a kernel without it.
pub fn cgroup2(attributes: Attributes) -> Result<OwnedFd, MountError> {
    simple("cgroup2", attributes)
}

/// A detached mount of the v1 hierarchy that holds exactly `controllers` (co-mounted ones together).
///
/// # Errors
/// [`MountError::Failed`]: EBUSY if they are mounted in another combination.
pub fn cgroup1(controllers: &[&str], attributes: Attributes) -> Result<OwnedFd, MountError> {
    let context = FsContext::open("cgroup")?;
    context.set("source", "cgroup", Path::new("cgroup"))?;
    for controller in controllers {
        context.flag(controller)?;
    }
    context.mount(attributes, Path::new("cgroup"))
}

/// A detached tmpfs. `data` is mount(8)'s option text: `size=65536k,mode=1777`; flags of the mount itself
/// (`noexec`) belong into `attributes`.
///
/// # Errors
/// [`MountError::Failed`] with the kernel's message for an unknown option or a bad value; E2BIG for more than
/// [`MAX_MOUNT_DATA_BYTES`].
pub fn tmpfs(data: &str, attributes: Attributes) -> Result<OwnedFd, MountError> {
    tmpfs_labelled(data, attributes, "")
}

/// As [`tmpfs`]; all its files have the SELinux label `label`, unless that is empty, and cannot be given another.
///
/// # Errors
/// As in [`tmpfs`]; EINVAL for a label that the host's policy does not have, and on a host without SELinux.
pub fn tmpfs_labelled(data: &str, attributes: Attributes, label: &str) -> Result<OwnedFd, MountError> {
    let context = FsContext::open("tmpfs")?;
    context.set("source", "tmpfs", Path::new("tmpfs"))?;
    set_data(&context, data)?;
    context.label(label)?;
    context.mount(attributes, Path::new("tmpfs"))
}

/// A detached devpts, an instance of its own. `data` as in [`tmpfs`]: `mode=0620,ptmxmode=0666,gid=5`; `label` as in
/// [`tmpfs_labelled`].
///
/// # Errors
/// As in [`tmpfs_labelled`].
pub fn devpts(data: &str, attributes: Attributes, label: &str) -> Result<OwnedFd, MountError> {
    let context = FsContext::open("devpts")?;
    context.set("source", "devpts", Path::new("devpts"))?;
    set_data(&context, data)?;
    context.label(label)?;
    context.mount(attributes, Path::new("devpts"))
}

/// A detached mount of the file system `kind` that lies on `source` (a device, `host:/export`; empty for none), with
/// the options `data` as in [`tmpfs`].
///
/// # Errors
/// As in [`tmpfs`]; [`MountError::Failed`] with ENODEV for a type that this kernel does not have.
pub fn named(kind: &str, source: &str, data: &str, attributes: Attributes) -> Result<OwnedFd, MountError> {
    let context = FsContext::open_named(kind)?;
    let source = if source.is_empty() { kind } else { source };
    context.set("source", source, Path::new(source))?;
    if attributes.read_only {
        // Of the file system too: a device that cannot be written is refused otherwise.
        context.flag("ro")?;
    }
    set_data(&context, data)?;
    context.mount(attributes, Path::new(source))
}

fn set_data(context: &FsContext, data: &str) -> Result<(), MountError> {
    if data.len() > MAX_MOUNT_DATA_BYTES {
        return Err(MountError::Failed {
            operation: "fsconfig",
            path: "data".into(),
            errno: libc::E2BIG,
            message: format!(
                "{} bytes of options exceed MAX_MOUNT_DATA_BYTES {MAX_MOUNT_DATA_BYTES}",
                data.len()
            ),
        });
    }
    for option in data.split(',').filter(|option| !option.is_empty()) {
        match option.split_once('=') {
            Some((key, value)) => context.set(key, value, Path::new(key))?,
            None => context.flag(option)?,
        }
    }
    Ok(())
}
