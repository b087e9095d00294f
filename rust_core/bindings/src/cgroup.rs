//! `_core.cgroup`: control groups by parent and name.

use std::sync::OnceLock;
use std::time::Duration;

use cgroup::{CgroupError, CgroupHost};
use pyo3::prelude::*;

use crate::error::raise;

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

pub(crate) fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_class::<CgroupLayout>()?;
    module.add_function(wrap_pyfunction!(layout, module)?)?;
    module.add_function(wrap_pyfunction!(list_groups, module)?)?;
    module.add_function(wrap_pyfunction!(kill, module)?)?;
    module.add_function(wrap_pyfunction!(freeze, module)?)?;
    module.add_function(wrap_pyfunction!(thaw, module)?)?;
    module.add_function(wrap_pyfunction!(remove, module)?)?;
    module.add_function(wrap_pyfunction!(read_file, module)?)
}
