//! The steps of a start in the order in which they happen: a failure names the one that it stopped at.

use serde::{Deserialize, Serialize};

macro_rules! steps {
    ($($variant:ident $name:literal $doc:literal),+ $(,)?) => {
        /// A step of the start.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
        #[repr(u8)]
        pub enum Step { $(#[doc = $doc] $variant),+ }

        impl Step {
            /// The step's name as errors show it.
            pub fn name(self) -> &'static str {
                match self { $(Self::$variant => $name),+ }
            }

            pub(crate) fn from_byte(byte: u8) -> Option<Self> {
                const ALL: &[Step] = &[$(Step::$variant),+];
                ALL.get(usize::from(byte)).copied()
            }
        }
    };
}

steps! {
    Spec "spec" "The spec itself is refused before anything is done.",
    Root "root" "The overlay of the root file system is made.",
    BindSource "bind_source" "The host side of a bind mount is opened.",
    Clone "clone" "The process is made, in its namespaces and its v2 cgroup.",
    Session "session" "The process is tied to its parent and leads a session.",
    Cgroup "cgroup" "The process joins its v1 cgroups and their namespace.",
    Pivot "pivot" "The root is attached and the host's mounts are left.",
    Mount "mount" "Something is mounted below the root.",
    Device "device" "A device node or link of /dev is made.",
    NetworkSetup "network" "The loopback device is brought up.",
    Hostname "hostname" "The host name is set.",
    Sysctl "sysctl" "A kernel parameter is written.",
    Mask "mask" "A path is masked or made read-only.",
    User "user" "The user and its groups are looked up inside the root.",
    Rlimit "rlimit" "A resource limit is set.",
    OomScore "oom_score_adj" "The OOM score is set.",
    Stdio "stdio" "Descriptors 0, 1 and 2 are put in place.",
    Identity "identity" "User, groups and capabilities are taken on.",
    Cwd "cwd" "The working directory is made or entered.",
    Seccomp "seccomp" "A seccomp filter is installed.",
    AppArmor "apparmor" "The AppArmor profile is asked for.",
    SeLinux "selinux" "The SELinux label is asked for.",
    Join "namespace" "A namespace of another container is joined.",
    Exec "exec" "The command is found and executed.",
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_byte_names_the_step_it_came_from() {
        for byte in 0..=u8::MAX {
            if let Some(step) = Step::from_byte(byte) {
                assert_eq!(step as u8, byte);
            } else {
                assert!(byte > Step::Exec as u8);
            }
        }
    }
}
