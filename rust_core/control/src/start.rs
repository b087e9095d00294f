//! What the daemon asks for: the Rust twin of `server/fluytd/containers/process_spec.py`, and how a plan for the
//! supervisor is made of it.

use std::path::{Path, PathBuf};
use std::str::FromStr;

use cgroup::DeviceAccess;
use process::spec::{
    CgroupJoin, ExecSpec, Ids, Mount, MountKind, Namespace, Namespaces, Network, Propagation, Rlimit, Root,
    Shm, Spec, TerminalSize,
};

use crate::error::ControlError;
use crate::wire::{Journal, Plan};

pub use cgroup::{DeviceKind, DeviceRule, HugePages, IoDevice, Limits as ResourceLimits};
pub use process::spec::DeviceNode;

/// One mount below the container's root; sorted by the caller, parents first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MountStart {
    /// `bind`, `tmpfs`, `image` or `file_system`.
    pub kind: String,
    /// Absolute host path of a bind, else empty.
    pub source: String,
    /// Absolute path inside.
    pub destination: String,
    /// Nothing below can be changed.
    pub is_read_only: bool,
    /// tmpfs data, as `size=65536k,mode=1777`.
    pub data: String,
    /// Nothing below can be executed.
    pub no_exec: bool,
    /// Set-user-ID bits below have no effect.
    pub no_suid: bool,
    /// Device nodes below have no effect.
    pub no_dev: bool,
    /// A path beneath the source; empty for all of it.
    pub sub_path: String,
    /// Directories of an image, top-most first.
    pub lower_dirs: Vec<String>,
    /// Type of a `file_system`.
    pub file_system: String,
    /// `private`, `slave` or `shared`.
    pub propagation: String,
    /// What is mounted below a bind's source comes along.
    pub is_recursive: bool,
    /// A read-only bind is so in all that comes along.
    pub is_read_only_below: bool,
}

/// Everything that a start needs; paths are absolute host paths unless said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ContainerStart {
    /// For messages and the supervisor's argument.
    pub container_id: String,
    /// Made by the caller, 0700.
    pub run_dir: PathBuf,
    /// Made by the caller.
    pub log_dir: PathBuf,
    /// Top-most first, at least one.
    pub lower_dirs: Vec<String>,
    /// The overlay's upper directory.
    pub upper_dir: String,
    /// The overlay's work directory.
    pub work_dir: String,
    /// At least one.
    pub args: Vec<String>,
    /// `NAME=value`, complete but for HOME.
    pub env: Vec<String>,
    /// Absolute inside; made if absent.
    pub cwd: String,
    /// Empty, `uid`, `uid:gid`, `name`, `name:group`.
    pub user: String,
    /// Further groups by name or number.
    pub additional_groups: Vec<String>,
    /// The name of the uts namespace.
    pub hostname: String,
    /// Its NIS domain.
    pub domainname: String,
    /// `none`, `host`, or `joined:N` for the namespace of the container at place N of those that are joined.
    pub network_mode: String,
    /// As `network_mode`, with `own` in place of `none`.
    pub pid_mode: String,
    /// As `pid_mode`.
    pub ipc_mode: String,
    /// As `pid_mode`.
    pub uts_mode: String,
    /// As `pid_mode`.
    pub cgroup_mode: String,
    /// `own`, `none` or `joined:N`.
    pub shm_mode: String,
    /// Nodes in /dev besides the standard ones.
    pub devices: Vec<DeviceNode>,
    /// Devices that may be used besides the default ones.
    pub device_rules: Vec<DeviceRule>,
    /// The root cannot be written.
    pub is_root_read_only: bool,
    /// All devices, no masks.
    pub is_privileged: bool,
    /// Without `CAP_`.
    pub capabilities: Vec<String>,
    /// `default`, `unconfined`, or a profile in JSON.
    pub seccomp_profile: String,
    /// No process gains privileges by execve.
    pub no_new_privileges: bool,
    /// Name of a loaded AppArmor profile; empty for none.
    pub apparmor_profile: String,
    /// SELinux label of the process; empty for none.
    pub process_label: String,
    /// SELinux label of its files; empty for none.
    pub mount_label: String,
    /// setrlimit(2) by name.
    pub rlimits: Vec<Rlimit>,
    /// Hidden paths inside.
    pub masked_paths: Vec<String>,
    /// Paths inside that cannot be written.
    pub read_only_paths: Vec<String>,
    /// Namespaced sysctls.
    pub sysctls: Vec<(String, String)>,
    /// Further mounts.
    pub mounts: Vec<MountStart>,
    /// Size of /dev/shm.
    pub shm_size_bytes: u64,
    /// -1000 to 1000.
    pub oom_score_adj: Option<i32>,
    /// The cgroup below which the container's is made.
    pub cgroup_parent: String,
    /// Its name.
    pub cgroup_name: String,
    /// Its limits.
    pub limits: ResourceLimits,
    /// A pipe as stdin instead of /dev/null.
    pub open_stdin: bool,
    /// A terminal of this size, (columns, rows), instead of pipes.
    pub terminal: Option<(u16, u16)>,
    /// The caller reads its output from the beginning: the log is held from its first byte on, until the hold is moved.
    pub is_held: bool,
    /// Size of one log segment.
    pub log_segment_bytes: u64,
    /// How many are kept.
    pub log_segment_count: u64,
    /// Path of the journal's socket if the output goes there too.
    pub journal_socket: Option<String>,
    /// What the journal is told of each line.
    pub journal_fields: Vec<(String, String)>,
    /// The first id outside of a container in a user namespace, and how many ids it has.
    pub ids: Option<(u32, u32)>,
    /// The place, among those that are joined, of the container whose user namespace with the same ids is shared.
    pub ids_joined: Option<u8>,
}

impl ContainerStart {
    /// The plan for the supervisor; the cgroups follow when they stand.
    ///
    /// # Errors
    /// `FIELD_INVALID` for a network mode or kind of mount that the core does not know.
    pub fn plan(&self, seccomp_filters: Vec<Vec<u8>>) -> Result<Plan, ControlError> {
        let network = match self.network_mode.as_str() {
            "none" => Network::None,
            "host" => Network::Host,
            other => Network::Joined(place("network_mode", other)?),
        };
        let namespaces = Namespaces {
            pid: namespace("pid_mode", &self.pid_mode)?,
            ipc: namespace("ipc_mode", &self.ipc_mode)?,
            uts: namespace("uts_mode", &self.uts_mode)?,
            cgroup: namespace("cgroup_mode", &self.cgroup_mode)?,
        };
        let shm = match self.shm_mode.as_str() {
            "own" => Shm::Own,
            "none" => Shm::None,
            other => Shm::Joined(place("shm_mode", other)?),
        };
        let spec = Spec {
            namespaces,
            shm,
            devices: self.devices.clone(),
            args: self.args.clone(),
            env: self.env.clone(),
            cwd: self.cwd.clone(),
            user: self.user.clone(),
            additional_groups: self.additional_groups.clone(),
            hostname: self.hostname.clone(),
            domainname: self.domainname.clone(),
            network,
            root: Root {
                lower_dirs: self.lower_dirs.clone(),
                upper_dir: self.upper_dir.clone(),
                work_dir: self.work_dir.clone(),
            },
            is_root_read_only: self.is_root_read_only,
            is_privileged: self.is_privileged,
            capabilities: self.capabilities.clone(),
            no_new_privileges: self.no_new_privileges,
            seccomp_filters,
            rlimits: self.rlimits.clone(),
            masked_paths: self.masked_paths.clone(),
            read_only_paths: self.read_only_paths.clone(),
            sysctls: self.sysctls.clone(),
            mounts: self.mounts.iter().map(mount).collect::<Result<_, _>>()?,
            shm_size_bytes: self.shm_size_bytes,
            oom_score_adj: self.oom_score_adj,
            cgroup: CgroupJoin::default(),
            terminal: size_of(self.terminal),
            ids: self.ids.map(|(first_id, count)| Ids { first_id, count, joined: self.ids_joined }),
            apparmor_profile: self.apparmor_profile.clone(),
            process_label: self.process_label.clone(),
            mount_label: self.mount_label.clone(),
        };
        Ok(Plan {
            container_id: self.container_id.clone(),
            run_dir: text("run_dir", &self.run_dir)?,
            log_dir: text("log_dir", &self.log_dir)?,
            log_segment_bytes: self.log_segment_bytes,
            log_segment_count: self.log_segment_count,
            journal: self
                .journal_socket
                .clone()
                .map(|socket_path| Journal { socket_path, fields: self.journal_fields.clone() }),
            open_stdin: self.open_stdin,
            is_held: self.is_held,
            spec,
        })
    }

    /// The devices that its processes may use.
    pub(crate) fn device_access(&self) -> DeviceAccess {
        if self.is_privileged {
            DeviceAccess::All
        } else {
            DeviceAccess::Default(self.device_rules.clone())
        }
    }

    /// The seccomp profile.
    ///
    /// # Errors
    /// `FIELD_INVALID` for one that the core does not know.
    pub fn profile(&self) -> Result<process::seccomp::Profile, ControlError> {
        profile(&self.seccomp_profile)
    }
}

/// What the daemon asks of a further process: the Rust twin of `server/fluytd/execs/process_spec.py`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExecStart {
    /// Its id, of a file name's characters.
    pub id: String,
    /// At least one.
    pub args: Vec<String>,
    /// `NAME=value`, complete but for HOME.
    pub env: Vec<String>,
    /// Absolute inside; must be there.
    pub cwd: String,
    /// As [`ContainerStart::user`].
    pub user: String,
    /// As [`ContainerStart::additional_groups`].
    pub additional_groups: Vec<String>,
    /// Without `CAP_`.
    pub capabilities: Vec<String>,
    /// `default` or `unconfined`.
    pub seccomp_profile: String,
    /// No process gains privileges by execve.
    pub no_new_privileges: bool,
    /// Name of a loaded AppArmor profile; empty for none.
    pub apparmor_profile: String,
    /// SELinux label of the process; empty for none.
    pub process_label: String,
    /// setrlimit(2) by name.
    pub rlimits: Vec<Rlimit>,
    /// -1000 to 1000.
    pub oom_score_adj: Option<i32>,
    /// A pipe as stdin instead of what reads as empty.
    pub open_stdin: bool,
    /// As [`ContainerStart::terminal`].
    pub terminal: Option<(u16, u16)>,
    /// The caller reads its output from the beginning.
    pub is_held: bool,
}

impl ExecStart {
    /// What the supervisor starts.
    pub fn spec(&self, seccomp_filters: Vec<Vec<u8>>) -> ExecSpec {
        ExecSpec {
            args: self.args.clone(),
            env: self.env.clone(),
            cwd: self.cwd.clone(),
            user: self.user.clone(),
            additional_groups: self.additional_groups.clone(),
            capabilities: self.capabilities.clone(),
            no_new_privileges: self.no_new_privileges,
            seccomp_filters,
            rlimits: self.rlimits.clone(),
            oom_score_adj: self.oom_score_adj,
            terminal: size_of(self.terminal),
            apparmor_profile: self.apparmor_profile.clone(),
            process_label: self.process_label.clone(),
        }
    }

    /// The seccomp profile.
    ///
    /// # Errors
    /// `FIELD_INVALID` for one that the core does not know.
    pub fn profile(&self) -> Result<process::seccomp::Profile, ControlError> {
        profile(&self.seccomp_profile)
    }
}

fn namespace(field: &'static str, mode: &str) -> Result<Namespace, ControlError> {
    match mode {
        "own" => Ok(Namespace::Own),
        "host" => Ok(Namespace::Host),
        other => place(field, other).map(Namespace::Joined),
    }
}

fn place(field: &'static str, mode: &str) -> Result<u8, ControlError> {
    let number = mode.strip_prefix("joined:").and_then(|number| number.parse().ok());
    number.ok_or_else(|| unknown(field, mode))
}

fn size_of(terminal: Option<(u16, u16)>) -> Option<TerminalSize> {
    terminal.map(|(width, height)| TerminalSize { width, height })
}

fn profile(name: &str) -> Result<process::seccomp::Profile, ControlError> {
    process::seccomp::Profile::from_str(name).map_err(|_| unknown("seccomp_profile", name))
}

fn mount(start: &MountStart) -> Result<Mount, ControlError> {
    let kind = match start.kind.as_str() {
        "bind" => MountKind::Bind,
        "tmpfs" => MountKind::Tmpfs,
        "image" => MountKind::Image,
        "file_system" => MountKind::FileSystem,
        _ => return Err(unknown("mounts.kind", &start.kind)),
    };
    let propagation = match start.propagation.as_str() {
        "private" => Propagation::Private,
        "slave" => Propagation::Slave,
        "shared" => Propagation::Shared,
        _ => return Err(unknown("mounts.propagation", &start.propagation)),
    };
    Ok(Mount {
        kind,
        source: start.source.clone(),
        destination: start.destination.clone(),
        is_read_only: start.is_read_only,
        data: start.data.clone(),
        no_exec: start.no_exec,
        no_suid: start.no_suid,
        no_dev: start.no_dev,
        sub_path: start.sub_path.clone(),
        lower_dirs: start.lower_dirs.clone(),
        file_system: start.file_system.clone(),
        propagation,
        is_recursive: start.is_recursive,
        is_read_only_below: start.is_read_only_below,
    })
}

fn text(field: &'static str, path: &Path) -> Result<String, ControlError> {
    path.to_str().map(str::to_owned).ok_or_else(|| unknown(field, &path.to_string_lossy()))
}

fn unknown(field: &'static str, value: &str) -> ControlError {
    ControlError::FieldUnknown { field, value: crate::wire::cut(value.to_owned(), 256) }
}
