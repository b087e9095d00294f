//! `_core.cgroup`: control groups by parent and name.

use std::sync::OnceLock;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use cgroup::{CgroupError, CgroupHost};
use control::ResourceLimits;
use pyo3::prelude::*;

use crate::error::raise;
use crate::process::LimitsArgument;

/// This host's hierarchies, read once: what is mounted where does not change under a running daemon.
fn host() -> Result<&'static CgroupHost, CgroupError> {
    static HOST: OnceLock<CgroupHost> = OnceLock::new();
    match HOST.get() {
        Some(host) => Ok(host),
        None => {
            let opened = CgroupHost::open()?;
            Ok(HOST.get_or_init(|| opened))
        }
    }
}

/// See the stub.
#[pyclass(frozen, get_all, module = "fluytd._core.cgroup")]
pub(crate) struct CgroupLayout {
    mode: &'static str,
    controllers: Vec<String>,
}

#[pyfunction]
fn layout(py: Python<'_>) -> PyResult<CgroupLayout> {
    let host = py.detach(host).map_err(raise)?;
    Ok(CgroupLayout { mode: host.layout().mode().name(), controllers: host.layout().controllers() })
}

#[pyfunction]
fn list_groups(py: Python<'_>, parent: &str) -> PyResult<Vec<String>> {
    py.detach(|| host().and_then(|host| host.list_groups(parent))).map_err(raise)
}

#[pyfunction]
fn kill(py: Python<'_>, parent: &str, name: &str) -> PyResult<()> {
    py.detach(|| host().and_then(|host| host.kill(parent, name))).map_err(raise)
}

#[pyfunction]
fn freeze(py: Python<'_>, parent: &str, name: &str) -> PyResult<()> {
    py.detach(|| host().and_then(|host| host.freeze(parent, name))).map_err(raise)
}

#[pyfunction]
fn thaw(py: Python<'_>, parent: &str, name: &str) -> PyResult<()> {
    py.detach(|| host().and_then(|host| host.thaw(parent, name))).map_err(raise)
}

#[pyfunction]
fn remove(py: Python<'_>, parent: &str, name: &str, timeout_millis: u64) -> PyResult<()> {
    let timeout = Duration::from_millis(timeout_millis);
    py.detach(|| host().and_then(|host| host.remove(parent, name, timeout))).map_err(raise)
}

#[pyfunction]
fn read_file(py: Python<'_>, parent: &str, name: &str, file: &str) -> PyResult<Option<String>> {
    py.detach(|| host().and_then(|host| host.read_file(parent, name, file))).map_err(raise)
}

#[pyfunction]
fn update(py: Python<'_>, parent: &str, name: &str, limits: LimitsArgument) -> PyResult<Vec<String>> {
    let limits = ResourceLimits::from(limits);
    let clamps = py.detach(|| host().and_then(|host| host.update(parent, name, &limits))).map_err(raise)?;
    Ok(clamps.iter().map(ToString::to_string).collect())
}

/// See the stub.
#[pyclass(frozen, get_all, module = "fluytd._core.cgroup")]
pub(crate) struct Stats {
    cpu_usage_nanos: Option<u64>,
    cpu_user_nanos: Option<u64>,
    cpu_system_nanos: Option<u64>,
    cpu_throttled_periods: Option<u64>,
    cpu_throttled_nanos: Option<u64>,
    memory_current_bytes: Option<u64>,
    memory_inactive_file_bytes: Option<u64>,
    memory_limit_bytes: Option<u64>,
    swap_current_bytes: Option<u64>,
    pids_current: Option<u64>,
    pids_limit: Option<u64>,
    io_read_bytes: Option<u64>,
    io_write_bytes: Option<u64>,
    oom_kill_count: Option<u64>,
    cpu_pressure_percent: Option<f64>,
    memory_pressure_percent: Option<f64>,
    io_pressure_percent: Option<f64>,
    network_receive_bytes: Option<u64>,
    network_transmit_bytes: Option<u64>,
    time_unix_nanos: i64,
}

impl Stats {
    fn new(stats: cgroup::Stats, network: Option<(u64, u64)>) -> Self {
        // A clock before 1970 counts as 1970.
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Self {
            cpu_usage_nanos: stats.cpu_usage_nanos,
            cpu_user_nanos: stats.cpu_user_nanos,
            cpu_system_nanos: stats.cpu_system_nanos,
            cpu_throttled_periods: stats.cpu_throttled_periods,
            cpu_throttled_nanos: stats.cpu_throttled_nanos,
            memory_current_bytes: stats.memory_current_bytes,
            memory_inactive_file_bytes: stats.memory_inactive_file_bytes,
            memory_limit_bytes: stats.memory_limit_bytes,
            swap_current_bytes: stats.swap_current_bytes,
            pids_current: stats.pids_current,
            pids_limit: stats.pids_limit,
            io_read_bytes: stats.io_read_bytes,
            io_write_bytes: stats.io_write_bytes,
            oom_kill_count: stats.oom_kill_count,
            cpu_pressure_percent: stats.cpu_pressure_percent,
            memory_pressure_percent: stats.memory_pressure_percent,
            io_pressure_percent: stats.io_pressure_percent,
            network_receive_bytes: network.map(|(received, _)| received),
            network_transmit_bytes: network.map(|(_, sent)| sent),
            time_unix_nanos: i64::try_from(since.as_nanos()).unwrap_or(i64::MAX),
        }
    }

    fn of_group(&self) -> cgroup::Stats {
        cgroup::Stats {
            cpu_usage_nanos: self.cpu_usage_nanos,
            cpu_user_nanos: self.cpu_user_nanos,
            cpu_system_nanos: self.cpu_system_nanos,
            cpu_throttled_periods: self.cpu_throttled_periods,
            cpu_throttled_nanos: self.cpu_throttled_nanos,
            memory_current_bytes: self.memory_current_bytes,
            memory_inactive_file_bytes: self.memory_inactive_file_bytes,
            memory_limit_bytes: self.memory_limit_bytes,
            swap_current_bytes: self.swap_current_bytes,
            pids_current: self.pids_current,
            pids_limit: self.pids_limit,
            io_read_bytes: self.io_read_bytes,
            io_write_bytes: self.io_write_bytes,
            oom_kill_count: self.oom_kill_count,
            cpu_pressure_percent: self.cpu_pressure_percent,
            memory_pressure_percent: self.memory_pressure_percent,
            io_pressure_percent: self.io_pressure_percent,
        }
    }
}

/// What a group used when it was read last, and whether the pressure among it is new. See the stub.
type BeforeArgument<'py> = (Bound<'py, Stats>, bool);

#[pyfunction]
fn stats(
    py: Python<'_>,
    parent: &str,
    groups: Vec<(String, u32, Option<BeforeArgument<'_>>)>,
) -> PyResult<Vec<Stats>> {
    let of = |(stats, pressure_is_new): &BeforeArgument<'_>| cgroup::Before {
        stats: stats.get().of_group(),
        pressure_is_new: *pressure_is_new,
    };
    let before: Vec<Option<cgroup::Before>> =
        groups.iter().map(|(_, _, before)| before.as_ref().map(of)).collect();
    let groups: Vec<(String, u32)> = groups.into_iter().map(|(name, host_pid, _)| (name, host_pid)).collect();
    let read = || -> Result<Vec<Stats>, CgroupError> {
        let cgroups = host()?;
        let names: Vec<&str> = groups.iter().map(|(name, _)| name.as_str()).collect();
        let found = cgroups.stats_of(parent, &names, &before)?.into_iter().zip(&groups);
        Ok(found.map(|(stats, (_, host_pid))| Stats::new(stats, ::host::network_bytes(*host_pid))).collect())
    };
    py.detach(read).map_err(raise)
}

#[pyfunction]
fn process_ids(py: Python<'_>, parent: &str, name: &str) -> PyResult<Vec<u32>> {
    let found = py.detach(|| host().and_then(|host| host.processes(parent, name))).map_err(raise)?;
    Ok(found.into_iter().map(|pid| pid.as_raw_nonzero().get().unsigned_abs()).collect())
}

pub(crate) fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_class::<CgroupLayout>()?;
    module.add_class::<Stats>()?;
    module.add_function(wrap_pyfunction!(layout, module)?)?;
    module.add_function(wrap_pyfunction!(list_groups, module)?)?;
    module.add_function(wrap_pyfunction!(kill, module)?)?;
    module.add_function(wrap_pyfunction!(freeze, module)?)?;
    module.add_function(wrap_pyfunction!(thaw, module)?)?;
    module.add_function(wrap_pyfunction!(remove, module)?)?;
    module.add_function(wrap_pyfunction!(read_file, module)?)?;
    module.add_function(wrap_pyfunction!(update, module)?)?;
    module.add_function(wrap_pyfunction!(stats, module)?)?;
    module.add_function(wrap_pyfunction!(process_ids, module)?)
}
