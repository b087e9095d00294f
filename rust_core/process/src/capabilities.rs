//! Names of capabilities, the default set, and what a process of a given user keeps.

use rustix::thread::CapabilitySet;

use crate::failure::StartFailure;
use crate::step::Step;

/// Every capability of linux/capability.h, at the index that is its number.
const NAMES: [&str; 41] = [
    "CHOWN",
    "DAC_OVERRIDE",
    "DAC_READ_SEARCH",
    "FOWNER",
    "FSETID",
    "KILL",
    "SETGID",
    "SETUID",
    "SETPCAP",
    "LINUX_IMMUTABLE",
    "NET_BIND_SERVICE",
    "NET_BROADCAST",
    "NET_ADMIN",
    "NET_RAW",
    "IPC_LOCK",
    "IPC_OWNER",
    "SYS_MODULE",
    "SYS_RAWIO",
    "SYS_CHROOT",
    "SYS_PTRACE",
    "SYS_PACCT",
    "SYS_ADMIN",
    "SYS_BOOT",
    "SYS_NICE",
    "SYS_RESOURCE",
    "SYS_TIME",
    "SYS_TTY_CONFIG",
    "MKNOD",
    "LEASE",
    "AUDIT_WRITE",
    "AUDIT_CONTROL",
    "SETFCAP",
    "MAC_OVERRIDE",
    "MAC_ADMIN",
    "SYSLOG",
    "WAKE_ALARM",
    "BLOCK_SUSPEND",
    "AUDIT_READ",
    "PERFMON",
    "BPF",
    "CHECKPOINT_RESTORE",
];

/// Those of an unprivileged container, sorted. Source: moby/moby daemon/pkg/oci/caps/defaults.go.
const DEFAULT: [&str; 14] = [
    "AUDIT_WRITE",
    "CHOWN",
    "DAC_OVERRIDE",
    "FOWNER",
    "FSETID",
    "KILL",
    "MKNOD",
    "NET_BIND_SERVICE",
    "NET_RAW",
    "SETFCAP",
    "SETGID",
    "SETPCAP",
    "SETUID",
    "SYS_CHROOT",
];

/// The 14 capabilities of an unprivileged container, without `CAP_`, sorted.
pub fn default_names() -> Vec<&'static str> {
    DEFAULT.to_vec()
}

/// Those that this kernel knows, without `CAP_`, sorted.
pub fn kernel_names() -> Vec<&'static str> {
    let mut names: Vec<_> = NAMES
        .iter()
        .enumerate()
        .filter(|(number, _)| is_known_to_kernel(*number))
        .map(|(_, name)| *name)
        .collect();
    names.sort_unstable();
    names
}

fn is_known_to_kernel(number: usize) -> bool {
    rustix::thread::capability_is_in_bounding_set(bit(number)).is_ok()
}

fn bit(number: usize) -> CapabilitySet {
    CapabilitySet::from_bits_retain(1 << number)
}

/// The set that the names give.
///
/// # Errors
/// A name that is no capability, at step `spec`.
pub fn parse(names: &[String]) -> Result<CapabilitySet, StartFailure> {
    let mut set = CapabilitySet::empty();
    for name in names {
        let number = NAMES.iter().position(|known| known == name).ok_or_else(|| {
            StartFailure::rule(Step::Spec, name, "not the name of a capability (upper case, without CAP_)")
        })?;
        set |= bit(number);
    }
    Ok(set)
}

/// The names in a set, in the order of their numbers.
pub(crate) fn names_of(set: CapabilitySet) -> impl Iterator<Item = &'static str> {
    NAMES.iter().enumerate().filter(move |(number, _)| set.contains(bit(*number))).map(|(_, name)| *name)
}

/// The bounding set of this thread holds nothing outside `kept`. Those the kernel does not know, or that are gone
/// already, are passed over.
///
/// # Errors
/// EPERM without CAP_SETPCAP.
pub(crate) fn limit_bounding_set(kept: CapabilitySet) -> Result<(), rustix::io::Errno> {
    for number in 0..NAMES.len() {
        let one = bit(number);
        if !kept.contains(one) {
            match rustix::thread::remove_capability_from_bounding_set(one) {
                Ok(()) | Err(rustix::io::Errno::INVAL) => {}
                Err(errno) => return Err(errno),
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_default_set_is_the_fourteen_of_docker_and_sorted() {
        let set = parse(&DEFAULT.map(str::to_owned)).expect("known names");
        assert_eq!(set.bits(), 0xa804_25fb);
        assert!(DEFAULT.is_sorted());
    }

    #[test]
    fn numbers_are_those_of_the_kernel_header() {
        let of = |name: &str| parse(&[name.to_owned()]).expect("known").bits();
        assert_eq!(of("CHOWN"), 1);
        assert_eq!(of("SYS_ADMIN"), 1 << 21);
        assert_eq!(of("SETFCAP"), 1 << 31);
        assert_eq!(of("CHECKPOINT_RESTORE"), 1 << 40);
    }

    #[test]
    fn an_unknown_name_is_refused_by_name() {
        for name in ["cap_chown", "CAP_CHOWN", "chown", "", "ALL"] {
            let failure = parse(&[name.to_owned()]).expect_err(name);
            assert_eq!((failure.step, failure.path.as_str()), (Step::Spec, name));
        }
    }

    #[test]
    fn the_kernel_knows_every_default() {
        let known = kernel_names();
        assert!(DEFAULT.iter().all(|name| known.contains(name)), "{known:?}");
    }
}
