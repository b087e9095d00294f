//! Kernel parameters of the container's own namespaces. Any other would change the host (CVE-2022-0811).

use std::os::fd::BorrowedFd;

use rustix::fs::{openat2, Mode, OFlags, ResolveFlags};

use crate::at::{At, Outcome};
use crate::failure::StartFailure;
use crate::spec::{Namespace, Network, Spec};
use crate::step::Step;

/// The longest value of a parameter: one page, the most that one write to /proc/sys takes.
pub const MAX_SYSCTL_VALUE_BYTES: usize = 4095;

/// Parameters of the ipc namespace. Source: ipc_namespaces(7).
const IPC_KEYS: [&str; 8] =
    ["msgmax", "msgmnb", "msgmni", "sem", "shmall", "shmmax", "shmmni", "shm_rmid_forced"];

/// Which namespaces with parameters are the container's own; those of another would be changed for all in them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Owned {
    /// `net.*`.
    pub network: bool,
    /// `fs.mqueue.*` and the parameters of System V IPC.
    pub ipc: bool,
}

impl Owned {
    /// Of this spec.
    pub(crate) fn of(spec: &Spec) -> Self {
        Self { network: spec.network == Network::None, ipc: spec.namespaces.ipc == Namespace::Own }
    }
}

/// The file of `key` below /proc/sys, if a container with these namespaces may have it.
///
/// A key is dotted (`net.ipv4.ip_forward`); as in sysctl(8), one whose first separator is a slash has slashes as
/// separators and dots in its names (`net/ipv4/conf/eth0.1/forwarding`).
///
/// # Errors
/// The rule that refuses it, at step `sysctl`.
pub fn check(key: &str, value: &str, owned: Owned) -> Result<String, StartFailure> {
    let refuse = |rule: &str| Err(StartFailure::rule(Step::Sysctl, key, rule));
    let is_slashed = key.find('/') < key.find('.') && key.contains('/') || !key.contains('.');
    let path = if is_slashed { key.to_owned() } else { swap_separators(key) };
    let names: Vec<&str> = path.split('/').collect();
    if names.iter().any(|name| name.is_empty() || matches!(*name, "." | "..") || name.contains('\0')) {
        return refuse("not the name of a kernel parameter");
    }
    if value.len() > MAX_SYSCTL_VALUE_BYTES {
        return refuse(&format!(
            "its value is longer than MAX_SYSCTL_VALUE_BYTES ({MAX_SYSCTL_VALUE_BYTES})"
        ));
    }
    if value.contains(['\n', '\0']) {
        return refuse("its value has a line end or a NUL byte");
    }
    match names.as_slice() {
        ["kernel", name] if IPC_KEYS.contains(name) && owned.ipc => Ok(path),
        ["fs", "mqueue", _] if owned.ipc => Ok(path),
        ["kernel", name] if IPC_KEYS.contains(name) => refuse("the ipc namespace is not the container's own"),
        ["fs", "mqueue", _] => refuse("the ipc namespace is not the container's own"),
        ["net", _, ..] if !owned.network => refuse("the network is not the container's own"),
        ["net", _, ..] => Ok(path),
        _ if sys::weakened::lacks("kernel-parameters") => Ok(path),
        _ => refuse("it belongs to no namespace of the container and would change the host"),
    }
}

fn swap_separators(key: &str) -> String {
    key.chars()
        .map(|letter| match letter {
            '.' => '/',
            '/' => '.',
            other => other,
        })
        .collect()
}

/// Each parameter has its value. `proc` is the container's own proc file system.
pub(crate) fn write(proc: BorrowedFd<'_>, sysctls: &[(String, String)], owned: Owned) -> Outcome<()> {
    for (key, value) in sysctls {
        let path = format!("sys/{}", check(key, value, owned)?);
        let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_XDEV;
        let flags = OFlags::WRONLY | OFlags::CLOEXEC;
        let file = openat2(proc, path, flags, Mode::empty(), resolve).at(Step::Sysctl, key)?;
        rustix::io::write(&file, value.as_bytes()).at(Step::Sysctl, key)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: Owned = Owned { network: true, ipc: true };

    #[test]
    fn z10_only_keys_of_the_containers_namespaces_pass() {
        for (key, path) in [
            ("kernel.shm_rmid_forced", "kernel/shm_rmid_forced"),
            ("kernel/shmmax", "kernel/shmmax"),
            ("fs.mqueue.msg_max", "fs/mqueue/msg_max"),
            ("net.ipv4.ip_forward", "net/ipv4/ip_forward"),
            ("net.ipv4.conf.eth0/1.forwarding", "net/ipv4/conf/eth0.1/forwarding"),
            ("net/ipv4/conf/eth0.1/forwarding", "net/ipv4/conf/eth0.1/forwarding"),
        ] {
            assert_eq!(check(key, "1", ALL).expect(key), path);
        }
        for key in [
            "vm.swappiness",
            "kernel.core_pattern",
            "kernel.shm_rmid_forced+kernel.core_pattern",
            "kernel",
            "net",
            "",
            ".",
            "kernel..shmmax",
            "fs.mqueue",
            "fs.file-max",
            "net.../kernel",
            "net...kernel.core_pattern",
            "net/../kernel/core_pattern",
            "kernel.sem.x",
            "KERNEL.sem",
            "/kernel/sem",
            "fs.mqueue.a.b",
        ] {
            check(key, "1", ALL).expect_err(key);
        }
        let shared = Owned { network: false, ipc: true };
        check("net.ipv4.ip_forward", "1", shared).expect_err("the host's network");
        check("kernel.sem", "1", shared).expect("ipc is the container's own");
        let shared = Owned { network: true, ipc: false };
        check("kernel.sem", "1", shared).expect_err("the ipc namespace of another");
        check("fs.mqueue.msg_max", "1", shared).expect_err("the ipc namespace of another");
        check("net.ipv4.ip_forward", "1", shared).expect("the network is the container's own");
    }

    #[test]
    fn z10_a_value_is_one_value() {
        for value in ["1\nkernel.core_pattern=|/x", "1\0", &"9".repeat(MAX_SYSCTL_VALUE_BYTES + 1)] {
            check("kernel.shmmax", value, ALL).expect_err("not one value");
        }
    }
}
