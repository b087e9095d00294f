//! Thin wrappers over system calls that the crates above need and `rustix` lacks, and the failpoints.
//! No policy lives here.

pub mod abilities;
pub mod boot;
pub mod borrow;
pub mod cancel;
pub mod cgroup_device;
pub mod clone;
pub mod descriptors;
pub mod executing;
pub mod failpoint;
pub mod fd_passing;
pub mod inherited;
pub mod landlock;
pub mod memfd;
pub mod memory;
pub mod mount_attr;
pub mod network;
pub mod pidfd;
pub mod private_mounts;
pub mod quota;
pub mod seccomp;
pub mod signals;
pub mod user_namespace;
pub mod weakened;
pub mod writeback;
