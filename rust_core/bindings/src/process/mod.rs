//! `_core.process`: starting, watching and signalling containers through their supervisor.

mod arguments;
mod host;
mod supervisor;

use std::path::Path;

use pyo3::prelude::*;

pub(crate) use arguments::{LimitsArgument, RlimitArgument};
use host::{Look, ReadySupervisor, SupervisorHost};
pub(crate) use supervisor::ExitRecord;
use supervisor::Supervisor;

use crate::error::raise;
use crate::exec::{Exec, ExecOutput};

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
    module.add_class::<Look>()?;
    module.add_class::<Exec>()?;
    module.add_class::<ExecOutput>()?;
    module.add_function(wrap_pyfunction!(read_exec_record, module)?)?;
    module.add_function(wrap_pyfunction!(read_exit_record, module)?)?;
    module.add_function(wrap_pyfunction!(check_seccomp, module)?)?;
    module.add_function(wrap_pyfunction!(default_capabilities, module)?)?;
    module.add_function(wrap_pyfunction!(all_capabilities, module)?)
}
