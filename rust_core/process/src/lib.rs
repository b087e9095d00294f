//! Starting a container's first process: a spec becomes a process in namespaces of its own, with its root, its
//! mounts, its user, its limits and nothing else; and starting further processes in a container that runs.
//!
//! It runs inside the single-threaded supervisor and, between clone and exec, inside the container's first process.
//! It deliberately makes no cgroup, writes no log and keeps no state, and starts nothing in a process with threads.

pub mod capabilities;
pub mod failure;
pub mod seccomp;
pub mod spec;
pub mod step;
pub mod users;

mod apparmor;
mod at;
mod cgroups;
mod child;
mod cwd;
mod exec;
mod go_between;
mod host_devices;
mod identity;
mod join;
mod join_child;
mod limits;
mod mounts;
mod namespaces;
mod paths;
mod report;
mod root;
mod selinux;
mod server_mounts;
mod spawn;
mod sysctl;
mod terminal;

pub use exec::DEFAULT_PATH;
pub use failure::StartFailure;
pub use host_devices::MAX_HOST_DEVICES;
pub use identity::MAX_USER_FILE_BYTES;
pub use join::{begin, Began, Container, Starting};
pub use server_mounts::ServerMounts;
pub use spawn::{spawn, Init, Stdio};
pub use spec::{ExecSpec, Spec, TerminalSize};
pub use step::Step;
pub use sysctl::{check as check_sysctl, MAX_SYSCTL_VALUE_BYTES};
pub use terminal::peer as terminal_peer;
