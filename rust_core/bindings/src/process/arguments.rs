//! What a start is told, read field by field from Python, and as the core has it.

use std::path::PathBuf;

use control::start::{DeviceKind, DeviceNode, DeviceRule, HugePages, IoDevice, MountStart};
use control::{ContainerStart, ResourceLimits};
use process::spec::Rlimit;
use pyo3::prelude::*;

#[derive(FromPyObject)]
pub(crate) struct LimitsArgument {
    memory_limit_bytes: Option<i64>,
    memory_swap_limit_bytes: Option<i64>,
    memory_reservation_bytes: Option<i64>,
    cpu_quota_micros: Option<i64>,
    cpu_period_micros: Option<i64>,
    cpu_shares: Option<i64>,
    cpuset_cpus: Option<String>,
    cpuset_mems: Option<String>,
    pids_limit: Option<i64>,
    cpu_burst_micros: Option<i64>,
    cpu_real_time_period_micros: Option<i64>,
    cpu_real_time_runtime_micros: Option<i64>,
    memory_swappiness: Option<i64>,
    oom_kill_disabled: Option<bool>,
    io_weight: Option<i64>,
    io_devices: Vec<IoDeviceArgument>,
    huge_pages: Vec<(String, i64)>,
}

#[derive(FromPyObject)]
pub(crate) struct IoDeviceArgument {
    major: u32,
    minor: u32,
    read_bytes_per_second: u64,
    write_bytes_per_second: u64,
    read_ops_per_second: u64,
    write_ops_per_second: u64,
    weight: u64,
}

#[derive(FromPyObject)]
struct DeviceNodeArgument {
    path: String,
    is_block: bool,
    major: u32,
    minor: u32,
    mode: u32,
    uid: u32,
    gid: u32,
}

#[derive(FromPyObject)]
struct DeviceRuleArgument {
    is_block: bool,
    major: Option<u32>,
    minor: Option<u32>,
    permissions: String,
}

#[derive(FromPyObject)]
pub(crate) struct RlimitArgument {
    name: String,
    soft: i64,
    hard: i64,
}

#[derive(FromPyObject)]
struct MountArgument {
    kind: String,
    source: String,
    destination: String,
    is_read_only: bool,
    data: String,
    no_exec: bool,
    no_suid: bool,
    no_dev: bool,
    sub_path: String,
    lower_dirs: Vec<String>,
    file_system: String,
    propagation: String,
    is_recursive: bool,
    is_read_only_below: bool,
}

/// `fluytd.containers.process_spec.ContainerStart`, read field by field.
#[derive(FromPyObject)]
pub(super) struct StartArgument {
    container_id: String,
    run_dir: PathBuf,
    log_dir: PathBuf,
    lower_dirs: Vec<String>,
    upper_dir: String,
    work_dir: String,
    args: Vec<String>,
    env: Vec<String>,
    cwd: String,
    user: String,
    additional_groups: Vec<String>,
    hostname: String,
    domainname: String,
    network_mode: String,
    pid_mode: String,
    ipc_mode: String,
    uts_mode: String,
    cgroup_mode: String,
    shm_mode: String,
    devices: Vec<DeviceNodeArgument>,
    device_rules: Vec<DeviceRuleArgument>,
    is_root_read_only: bool,
    is_privileged: bool,
    capabilities: Vec<String>,
    seccomp_profile: String,
    no_new_privileges: bool,
    apparmor_profile: String,
    process_label: String,
    mount_label: String,
    rlimits: Vec<RlimitArgument>,
    masked_paths: Vec<String>,
    read_only_paths: Vec<String>,
    sysctls: Vec<(String, String)>,
    mounts: Vec<MountArgument>,
    shm_size_bytes: u64,
    oom_score_adj: Option<i32>,
    cgroup_parent: String,
    cgroup_name: String,
    limits: LimitsArgument,
    open_stdin: bool,
    is_held: bool,
    terminal: Option<(u16, u16)>,
    log_segment_bytes: u64,
    log_segment_count: u64,
    journal_socket: Option<String>,
    journal_fields: Vec<(String, String)>,
    ids: Option<(u32, u32)>,
    ids_joined: Option<u8>,
}

impl From<RlimitArgument> for Rlimit {
    fn from(limit: RlimitArgument) -> Self {
        Self { name: limit.name, soft: limit.soft, hard: limit.hard }
    }
}

impl From<IoDeviceArgument> for IoDevice {
    fn from(device: IoDeviceArgument) -> Self {
        Self {
            number: (device.major, device.minor),
            read_bytes_per_second: device.read_bytes_per_second,
            write_bytes_per_second: device.write_bytes_per_second,
            read_ops_per_second: device.read_ops_per_second,
            write_ops_per_second: device.write_ops_per_second,
            weight: device.weight,
        }
    }
}

impl From<DeviceNodeArgument> for DeviceNode {
    fn from(device: DeviceNodeArgument) -> Self {
        let DeviceNodeArgument { path, is_block, major, minor, mode, uid, gid } = device;
        Self { path, is_block, major, minor, mode, uid, gid }
    }
}

impl From<DeviceRuleArgument> for DeviceRule {
    fn from(rule: DeviceRuleArgument) -> Self {
        Self {
            kind: if rule.is_block { DeviceKind::Block } else { DeviceKind::Character },
            major: rule.major,
            minor: rule.minor,
            read: rule.permissions.contains('r'),
            write: rule.permissions.contains('w'),
            make: rule.permissions.contains('m'),
        }
    }
}

impl From<LimitsArgument> for ResourceLimits {
    fn from(limits: LimitsArgument) -> Self {
        Self {
            memory_limit_bytes: limits.memory_limit_bytes,
            memory_swap_limit_bytes: limits.memory_swap_limit_bytes,
            memory_reservation_bytes: limits.memory_reservation_bytes,
            cpu_quota_micros: limits.cpu_quota_micros,
            cpu_period_micros: limits.cpu_period_micros,
            cpu_shares: limits.cpu_shares,
            cpuset_cpus: limits.cpuset_cpus,
            cpuset_mems: limits.cpuset_mems,
            pids_limit: limits.pids_limit,
            cpu_burst_micros: limits.cpu_burst_micros,
            cpu_real_time_period_micros: limits.cpu_real_time_period_micros,
            cpu_real_time_runtime_micros: limits.cpu_real_time_runtime_micros,
            memory_swappiness: limits.memory_swappiness,
            oom_kill_disabled: limits.oom_kill_disabled,
            io_weight: limits.io_weight,
            io_devices: limits.io_devices.into_iter().map(IoDevice::from).collect(),
            huge_pages: limits
                .huge_pages
                .into_iter()
                .map(|(page_size, limit_bytes)| HugePages { page_size, limit_bytes })
                .collect(),
        }
    }
}

impl From<StartArgument> for ContainerStart {
    fn from(spec: StartArgument) -> Self {
        Self {
            container_id: spec.container_id,
            run_dir: spec.run_dir,
            log_dir: spec.log_dir,
            lower_dirs: spec.lower_dirs,
            upper_dir: spec.upper_dir,
            work_dir: spec.work_dir,
            args: spec.args,
            env: spec.env,
            cwd: spec.cwd,
            user: spec.user,
            additional_groups: spec.additional_groups,
            hostname: spec.hostname,
            domainname: spec.domainname,
            network_mode: spec.network_mode,
            pid_mode: spec.pid_mode,
            ipc_mode: spec.ipc_mode,
            uts_mode: spec.uts_mode,
            cgroup_mode: spec.cgroup_mode,
            shm_mode: spec.shm_mode,
            devices: spec.devices.into_iter().map(DeviceNode::from).collect(),
            device_rules: spec.device_rules.into_iter().map(DeviceRule::from).collect(),
            is_root_read_only: spec.is_root_read_only,
            is_privileged: spec.is_privileged,
            capabilities: spec.capabilities,
            seccomp_profile: spec.seccomp_profile,
            no_new_privileges: spec.no_new_privileges,
            apparmor_profile: spec.apparmor_profile,
            process_label: spec.process_label,
            mount_label: spec.mount_label,
            rlimits: spec.rlimits.into_iter().map(Rlimit::from).collect(),
            masked_paths: spec.masked_paths,
            read_only_paths: spec.read_only_paths,
            sysctls: spec.sysctls,
            mounts: spec
                .mounts
                .into_iter()
                .map(|mount| MountStart {
                    kind: mount.kind,
                    source: mount.source,
                    destination: mount.destination,
                    is_read_only: mount.is_read_only,
                    data: mount.data,
                    no_exec: mount.no_exec,
                    no_suid: mount.no_suid,
                    no_dev: mount.no_dev,
                    sub_path: mount.sub_path,
                    lower_dirs: mount.lower_dirs,
                    file_system: mount.file_system,
                    propagation: mount.propagation,
                    is_recursive: mount.is_recursive,
                    is_read_only_below: mount.is_read_only_below,
                })
                .collect(),
            shm_size_bytes: spec.shm_size_bytes,
            oom_score_adj: spec.oom_score_adj,
            cgroup_parent: spec.cgroup_parent,
            cgroup_name: spec.cgroup_name,
            limits: spec.limits.into(),
            open_stdin: spec.open_stdin,
            is_held: spec.is_held,
            terminal: spec.terminal,
            log_segment_bytes: spec.log_segment_bytes,
            log_segment_count: spec.log_segment_count,
            journal_socket: spec.journal_socket,
            journal_fields: spec.journal_fields,
            ids: spec.ids,
            ids_joined: spec.ids_joined,
        }
    }
}
