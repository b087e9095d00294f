//! `_core.process`: starting, watching and signalling containers through their supervisor.

use std::os::fd::{AsRawFd, IntoRawFd};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use control::start::{DeviceKind, DeviceNode, DeviceRule, HugePages, IoDevice, MountStart};
use control::{ContainerStart, ExecStart, ResourceLimits};
use process::spec::Rlimit;
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;

use crate::error::raise;
use crate::exec::{Exec, ExecArgument, ExecOutput};
use crate::network::Namespace;

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
struct StartArgument {
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

/// See the stub.
#[pyclass(frozen, get_all, module = "fluytd._core.process")]
pub(crate) struct ExitRecord {
    exit_code: Option<u8>,
    signal: Option<u8>,
    oom_kill_count: u64,
    exit_time_unix_nanos: i64,
    dropped_log_bytes: u64,
}

impl From<control::ExitRecord> for ExitRecord {
    fn from(record: control::ExitRecord) -> Self {
        Self {
            exit_code: record.exit_code(),
            signal: record.signal(),
            oom_kill_count: record.oom_kill_count,
            exit_time_unix_nanos: record.exit_time_unix_nanos,
            dropped_log_bytes: record.dropped_log_bytes,
        }
    }
}

/// See the stub.
#[pyclass(frozen, module = "fluytd._core.process")]
pub(crate) struct Supervisor {
    /// None once closed.
    inner: Mutex<Option<Arc<control::Supervisor>>>,
}

impl Supervisor {
    fn new(supervisor: control::Supervisor) -> Self {
        Self { inner: Mutex::new(Some(Arc::new(supervisor))) }
    }

    fn get(&self) -> PyResult<Arc<control::Supervisor>> {
        let inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        inner.clone().ok_or_else(|| PyValueError::new_err("the connection to the supervisor is closed"))
    }
}

#[pymethods]
impl Supervisor {
    fn fileno(&self) -> PyResult<i32> {
        Ok(self.get()?.fileno().as_raw_fd())
    }

    #[getter]
    fn host_pid(&self) -> PyResult<u32> {
        Ok(self.get()?.host_pid())
    }

    #[getter]
    fn supervisor_pid(&self) -> PyResult<u32> {
        Ok(self.get()?.supervisor_pid())
    }

    #[getter]
    fn start_time_unix_nanos(&self) -> PyResult<i64> {
        Ok(self.get()?.start_time_unix_nanos())
    }

    #[getter]
    fn clamps(&self) -> PyResult<Vec<String>> {
        Ok(self.get()?.clamps().to_vec())
    }

    fn poll_exit(&self, py: Python<'_>) -> PyResult<&'static str> {
        let supervisor = self.get()?;
        Ok(py.detach(|| supervisor.poll_exit()).map_err(raise)?.as_str())
    }

    fn take_exec_news(&self) -> PyResult<Vec<String>> {
        Ok(self.get()?.take_exec_news())
    }

    fn execs(&self) -> PyResult<Vec<Exec>> {
        let supervisor = self.get()?;
        let wrap = |exec| Exec::new(Arc::clone(&supervisor), exec);
        Ok(supervisor.execs().into_iter().map(wrap).collect())
    }

    fn resize(&self, py: Python<'_>, width: u16, height: u16) -> PyResult<()> {
        let supervisor = self.get()?;
        py.detach(|| supervisor.resize(width, height)).map_err(raise)
    }

    #[getter]
    fn exit_record(&self) -> PyResult<Option<ExitRecord>> {
        Ok(self.get()?.exit_record().map(ExitRecord::from))
    }

    fn signal(&self, py: Python<'_>, number: i32) -> PyResult<()> {
        let supervisor = self.get()?;
        py.detach(|| supervisor.signal(number)).map_err(raise)
    }

    fn stdin_fd(&self, py: Python<'_>) -> PyResult<Option<i32>> {
        let supervisor = self.get()?;
        // From here on the fd is the caller's to close.
        Ok(py.detach(|| supervisor.stdin_fd()).map_err(raise)?.map(IntoRawFd::into_raw_fd))
    }

    fn close_stdin(&self, py: Python<'_>) -> PyResult<()> {
        let supervisor = self.get()?;
        py.detach(|| supervisor.close_stdin()).map_err(raise)
    }

    #[pyo3(signature = (segment))]
    fn hold_log(&self, py: Python<'_>, segment: Option<u64>) -> PyResult<()> {
        let supervisor = self.get()?;
        py.detach(|| supervisor.hold_log(segment)).map_err(raise)
    }

    fn open_root_fd(&self, py: Python<'_>) -> PyResult<i32> {
        let supervisor = self.get()?;
        // From here on the fd is the caller's to close.
        Ok(py.detach(|| supervisor.open_root()).map_err(raise)?.into_raw_fd())
    }

    fn wait_gone(&self, py: Python<'_>, timeout_millis: u64) -> PyResult<bool> {
        let supervisor = self.get()?;
        py.detach(|| supervisor.wait_gone(Duration::from_millis(timeout_millis))).map_err(raise)
    }

    fn kill_supervisor(&self, py: Python<'_>) -> PyResult<()> {
        let supervisor = self.get()?;
        py.detach(|| supervisor.kill_supervisor()).map_err(raise)
    }

    fn close(&self) {
        drop(self.inner.lock().unwrap_or_else(PoisonError::into_inner).take());
    }
}

/// See the stub.
#[pyclass(frozen, module = "fluytd._core.process")]
pub(crate) struct SupervisorHost {
    inner: control::SupervisorHost,
}

#[pymethods]
impl SupervisorHost {
    #[new]
    fn new(py: Python<'_>, supervisor_path: &str) -> PyResult<Self> {
        let inner = py.detach(|| control::SupervisorHost::open(Path::new(supervisor_path))).map_err(raise)?;
        Ok(Self { inner })
    }

    fn prepare(&self, py: Python<'_>, count: usize, has_users: bool) -> PyResult<()> {
        py.detach(|| self.inner.prepare(count, has_users)).map_err(raise)
    }

    #[pyo3(signature = (spec, joined, timeout_millis, ready=None))]
    fn start(
        &self,
        py: Python<'_>,
        spec: &Bound<'_, PyAny>,
        joined: Vec<PyRef<'_, Supervisor>>,
        timeout_millis: u64,
        ready: Option<&ReadySupervisor>,
    ) -> PyResult<Supervisor> {
        let joined = joined.iter().map(|supervisor| supervisor.get()).collect::<PyResult<Vec<_>>>()?;
        let start = ContainerStart::from(spec.extract::<StartArgument>()?);
        let timeout = Duration::from_millis(timeout_millis);
        let ready = ready.map(ReadySupervisor::take).transpose()?;
        py.detach(|| self.inner.start(&start, &joined, ready, timeout)).map(Supervisor::new).map_err(raise)
    }

    fn take_ready(&self, py: Python<'_>, container_id: &str, has_users: bool) -> PyResult<ReadySupervisor> {
        let ready = py.detach(|| self.inner.take_ready(container_id, Some(has_users))).map_err(raise)?;
        Ok(ReadySupervisor { inner: Mutex::new(Some(ready)) })
    }

    fn open_namespace(&self, py: Python<'_>, host_pid: u32, timeout_millis: u64) -> PyResult<Namespace> {
        let opened = py.detach(|| {
            let path = format!("/proc/{host_pid}/ns/net");
            let file = std::fs::File::open(&path).map_err(|error| {
                control::ControlError::Io(errors::IoError::from_std("open", &path, &error))
            })?;
            let ready = self.inner.take_ready("", None)?;
            ready.open_sockets(file.into(), Instant::now() + Duration::from_millis(timeout_millis))
        });
        Namespace::new(opened.map_err(raise)?)
    }

    fn exec(&self, py: Python<'_>, supervisor: &Supervisor, spec: &Bound<'_, PyAny>) -> PyResult<Exec> {
        let start = ExecStart::from(spec.extract::<ExecArgument>()?);
        let supervisor = supervisor.get()?;
        let exec = py.detach(|| self.inner.exec(&supervisor, &start)).map_err(raise)?;
        Ok(Exec::new(supervisor, exec))
    }

    fn adopt(&self, py: Python<'_>, run_dir: &str) -> PyResult<Option<Supervisor>> {
        Ok(py.detach(|| self.inner.adopt(Path::new(run_dir))).map_err(raise)?.map(Supervisor::new))
    }
}

/// See the stub.
#[pyclass(frozen, module = "fluytd._core.process")]
pub(crate) struct ReadySupervisor {
    /// None once it was given its container or closed.
    inner: Mutex<Option<control::Ready>>,
}

impl ReadySupervisor {
    fn lock(&self) -> MutexGuard<'_, Option<control::Ready>> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn take(&self) -> PyResult<control::Ready> {
        self.lock().take().ok_or_else(|| PyValueError::new_err("the supervisor has a container already"))
    }
}

#[pymethods]
impl ReadySupervisor {
    fn namespace(&self, py: Python<'_>, timeout_millis: u64, serves_names: bool) -> PyResult<Namespace> {
        let deadline = Instant::now() + Duration::from_millis(timeout_millis);
        let ready = self.take()?;
        let (ready, made) = py.detach(move || {
            let made = ready.namespace(deadline).and_then(|made| {
                if serves_names {
                    ready.open_sockets(made.namespace, deadline)
                } else {
                    Ok(made)
                }
            });
            (ready, made)
        });
        let made = made.map_err(raise)?;
        *self.lock() = Some(ready);
        Namespace::new(made)
    }

    fn close(&self, py: Python<'_>) {
        let ready = self.lock().take();
        py.detach(|| drop(ready));
    }
}

#[pyfunction]
fn read_exit_record(py: Python<'_>, run_dir: &str) -> PyResult<Option<ExitRecord>> {
    Ok(py.detach(|| control::read_exit_record(Path::new(run_dir))).map_err(raise)?.map(ExitRecord::from))
}

#[pyfunction]
fn read_exec_record(py: Python<'_>, run_dir: &str, id: &str) -> PyResult<Option<ExitRecord>> {
    let record = py.detach(|| control::read_exec_record(Path::new(run_dir), id)).map_err(raise)?;
    Ok(record.map(ExitRecord::from))
}

#[pyfunction]
fn check_seccomp(py: Python<'_>, profile: &str, capabilities: Vec<String>) -> PyResult<()> {
    let profile = process::seccomp::Profile::Json(profile.to_owned());
    py.detach(|| process::seccomp::compile(&profile, &capabilities)).map(drop).map_err(raise)
}

#[pyfunction]
fn default_capabilities() -> Vec<&'static str> {
    process::capabilities::default_names()
}

#[pyfunction]
fn all_capabilities() -> Vec<&'static str> {
    process::capabilities::kernel_names()
}

pub(crate) fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_class::<ExitRecord>()?;
    module.add_class::<Supervisor>()?;
    module.add_class::<SupervisorHost>()?;
    module.add_class::<ReadySupervisor>()?;
    module.add_class::<Exec>()?;
    module.add_class::<ExecOutput>()?;
    module.add_function(wrap_pyfunction!(read_exec_record, module)?)?;
    module.add_function(wrap_pyfunction!(read_exit_record, module)?)?;
    module.add_function(wrap_pyfunction!(check_seccomp, module)?)?;
    module.add_function(wrap_pyfunction!(default_capabilities, module)?)?;
    module.add_function(wrap_pyfunction!(all_capabilities, module)?)
}
