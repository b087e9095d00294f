//! What a container's process is started with: plain values, decided by the daemon. Nothing here is looked up.
//!
//! It mirrors `server/fluytd/containers/process_spec.py` without the daemon's own directories, and carries what the
//! daemon prepares beforehand: the compiled seccomp filters and the cgroups made with their limits.

use serde::{Deserialize, Serialize};

/// The most bytes that one string of a [`Spec`] may have: PATH_MAX of linux/limits.h, what the kernel takes as a path.
pub const MAX_PATH_BYTES: usize = 4096;

/// Everything `spawn` needs. Paths are absolute; host paths where said, else paths inside the container.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Spec {
    /// The command and its arguments, at least one.
    pub args: Vec<String>,
    /// `NAME=value`, complete but for HOME.
    pub env: Vec<String>,
    /// The working directory inside; made if absent.
    pub cwd: String,
    /// Empty, `uid`, `uid:gid`, `name`, `name:group`; resolved inside the root.
    pub user: String,
    /// Group names or ids that the process has besides those of its user.
    pub additional_groups: Vec<String>,
    /// Host name in the container.
    pub hostname: String,
    /// Domain name (NIS) in the container; empty leaves the kernel's default.
    pub domainname: String,
    /// Whose network the process sees.
    pub network: Network,
    /// Whose other namespaces the process is in.
    pub namespaces: Namespaces,
    /// What stands at /dev/shm.
    pub shm: Shm,
    /// Nodes in /dev besides the standard ones.
    pub devices: Vec<DeviceNode>,
    /// Where the root file system comes from.
    pub root: Root,
    /// Nothing below `/` is writable but for mounts of their own.
    pub is_root_read_only: bool,
    /// The container may administer the host: all host devices, a writable /sys. The other lists stand as given.
    pub is_privileged: bool,
    /// Without `CAP_`: the bounding set, and the permitted and effective sets of root.
    pub capabilities: Vec<String>,
    /// Exec never gains privileges (set-user-id and file capabilities have no effect).
    pub no_new_privileges: bool,
    /// Arrays of struct sock_filter, installed in this order; empty is unconfined.
    pub seccomp_filters: Vec<Vec<u8>>,
    /// Resource limits of the process.
    pub rlimits: Vec<Rlimit>,
    /// Files that read as empty and directories that show nothing; those that do not exist are passed over.
    pub masked_paths: Vec<String>,
    /// Trees that cannot be written; those that do not exist are passed over.
    pub read_only_paths: Vec<String>,
    /// Namespaced kernel parameters: dotted key, value.
    pub sysctls: Vec<(String, String)>,
    /// Mounts below the root, parents first.
    pub mounts: Vec<Mount>,
    /// Size of /dev/shm.
    pub shm_size_bytes: u64,
    /// -1000 to 1000; None keeps the caller's.
    pub oom_score_adj: Option<i32>,
    /// The control groups that the process is in from its first instruction on.
    pub cgroup: CgroupJoin,
    /// The process has a terminal of the container's as its three descriptors, and as /dev/console; None is pipes.
    pub terminal: Option<TerminalSize>,
    /// The ids that the container has on the host; None are the caller's own.
    pub ids: Option<Ids>,
    /// Name of an AppArmor profile that is loaded on the host; empty keeps the caller's.
    pub apparmor_profile: String,
    /// The SELinux label of the process; empty leaves it to the host's policy.
    pub process_label: String,
    /// The SELinux label of all files on its root and on the file systems that are made for it; empty leaves it to the
    /// host's policy.
    pub mount_label: String,
}

/// User and group ids of a container that is in a user namespace: 0 to `count - 1` inside are `first_id` and those after
/// it outside.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ids {
    /// The first id outside.
    pub first_id: u32,
    /// How many there are.
    pub count: u32,
    /// The process, by its place as in [`Network::Joined`], whose user namespace is shared; it has the same ids. None: a
    /// namespace of the container's own.
    pub joined: Option<u8>,
}

/// The size of a terminal, in characters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct TerminalSize {
    /// Columns.
    pub width: u16,
    /// Rows.
    pub height: u16,
}

/// What a further process in a running container is started with; paths are those inside.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExecSpec {
    /// The command and its arguments, at least one.
    pub args: Vec<String>,
    /// `NAME=value`, complete but for HOME.
    pub env: Vec<String>,
    /// The working directory; it must be there.
    pub cwd: String,
    /// As [`Spec::user`].
    pub user: String,
    /// As [`Spec::additional_groups`].
    pub additional_groups: Vec<String>,
    /// As [`Spec::capabilities`].
    pub capabilities: Vec<String>,
    /// As [`Spec::no_new_privileges`].
    pub no_new_privileges: bool,
    /// As [`Spec::seccomp_filters`].
    pub seccomp_filters: Vec<Vec<u8>>,
    /// As [`Spec::rlimits`].
    pub rlimits: Vec<Rlimit>,
    /// As [`Spec::oom_score_adj`].
    pub oom_score_adj: Option<i32>,
    /// As [`Spec::terminal`], without /dev/console.
    pub terminal: Option<TerminalSize>,
    /// As [`Spec::apparmor_profile`].
    pub apparmor_profile: String,
    /// As [`Spec::process_label`].
    pub process_label: String,
}

/// Whose network namespace the process is in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Network {
    /// A namespace of its own that has the loopback device only, and it is up.
    None,
    /// The namespace of the caller.
    Host,
    /// The namespace of a joined process, by its place among those that the caller gives.
    Joined(u8),
}

/// Where a namespace comes from.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Namespace {
    /// A new one.
    #[default]
    Own,
    /// That of the caller.
    Host,
    /// As [`Network::Joined`].
    Joined(u8),
}

/// The namespaces of a process, but for that of mounts, which is always its own, and that of the network.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Namespaces {
    /// Process ids. In one that is not its own the process is not process 1.
    pub pid: Namespace,
    /// System V IPC and POSIX message queues.
    pub ipc: Namespace,
    /// Host and domain name; left as they are unless the namespace is its own.
    pub uts: Namespace,
    /// The view of the cgroup tree.
    pub cgroup: Namespace,
}

/// What stands at /dev/shm.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Shm {
    /// A file system of its own.
    #[default]
    Own,
    /// Nothing.
    None,
    /// That of a joined process's container.
    Joined(u8),
}

/// A device node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeviceNode {
    /// Below /dev, absolute.
    pub path: String,
    /// Of blocks, else of characters.
    pub is_block: bool,
    /// Major number.
    pub major: u32,
    /// Minor number.
    pub minor: u32,
    /// Permission bits.
    pub mode: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
}

/// The directories of the root file system, absolute host paths.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Root {
    /// Read-only layers, top-most first, at least one.
    pub lower_dirs: Vec<String>,
    /// What the container writes.
    pub upper_dir: String,
    /// Scratch of overlayfs, empty, on the file system of `upper_dir`.
    pub work_dir: String,
}

/// One setrlimit(2); -1 is RLIM_INFINITY.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rlimit {
    /// As in the manual: `RLIMIT_NOFILE`.
    pub name: String,
    /// What the kernel enforces.
    pub soft: i64,
    /// How far the process may raise `soft`.
    pub hard: i64,
}

/// One mount below the container's root.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mount {
    /// What is mounted.
    pub kind: MountKind,
    /// Host path of a bind, device or export of another file system; empty for a tmpfs and an image.
    pub source: String,
    /// What is mounted of it: a path beneath it, which cannot lead out; empty is all of it.
    pub sub_path: String,
    /// Directories of an image over each other, top-most first, at least two.
    pub lower_dirs: Vec<String>,
    /// Where it appears inside; made if absent, resolved inside the root.
    pub destination: String,
    /// Cannot be written through this mount.
    pub is_read_only: bool,
    /// Options of a tmpfs or another file system, `size=65536k,mode=1777`; empty for a bind.
    pub data: String,
    /// The type of a file system that is none of the other kinds.
    pub file_system: String,
    /// What of later mounts a bind shows, on either side, with all that is mounted below it.
    pub propagation: Propagation,
    /// What is mounted below the source of a bind comes along.
    pub is_recursive: bool,
    /// A read-only bind is read-only in all that comes along.
    pub is_read_only_below: bool,
    /// Programs on it cannot be executed.
    pub no_exec: bool,
    /// Set-user-id bits and file capabilities have no effect.
    pub no_suid: bool,
    /// Device nodes do not work.
    pub no_dev: bool,
}

/// How mounts that are made later spread, as in mount_namespaces(7).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Propagation {
    /// Not at all.
    Private,
    /// From the host into the container.
    Slave,
    /// Both ways.
    Shared,
}

/// The kinds of [`Mount`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum MountKind {
    /// A host file or directory.
    Bind,
    /// An empty file system in memory.
    Tmpfs,
    /// The tree of an image, read-only.
    Image,
    /// A file system of the type [`Mount::file_system`].
    FileSystem,
}

/// The groups to be in; all made, with their limits, by the caller. Empty stays in the caller's groups.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CgroupJoin {
    /// Groups of v1 hierarchies, joined by the process itself.
    pub v1: Vec<CgroupV1>,
    /// Host directory of a group of the v2 hierarchy, in which the process is born.
    pub v2_dir: Option<String>,
}

/// A group of one v1 hierarchy.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CgroupV1 {
    /// The name of the hierarchy's mount point, under which it shows in /sys/fs/cgroup: `memory`, `cpu,cpuacct`.
    pub view: String,
    /// Host directory of the group.
    pub dir: String,
}
