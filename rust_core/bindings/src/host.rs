//! `_core.host`: what this kernel and host allow; trees made, measured and removed by descriptor.

use std::path::Path;

use pyo3::prelude::*;
use pyo3::pybacked::PyBackedBytes;

use crate::error::raise;

/// See the stub.
#[pyclass(frozen, get_all, module = "fluytd._core.host")]
pub(crate) struct Feature {
    name: &'static str,
    is_available: bool,
    detail: String,
}

#[pyfunction]
fn probe(py: Python<'_>, data_root: &str) -> Vec<Feature> {
    py.detach(|| host::probe(Path::new(data_root))).into_iter().map(Feature::from).collect()
}

#[pyfunction]
fn idmapped_mounts(py: Python<'_>, data_root: &str) -> Feature {
    py.detach(|| host::idmapped_mounts(Path::new(data_root))).into()
}

#[pyfunction]
fn project_quota(py: Python<'_>, directory: &str) -> Feature {
    py.detach(|| host::project_quota(Path::new(directory))).into()
}

#[pyfunction]
fn limit_project(
    py: Python<'_>,
    directories: Vec<String>,
    project_id: u32,
    limit_bytes: u64,
    limit_inodes: u64,
) -> PyResult<()> {
    let paths: Vec<&Path> = directories.iter().map(Path::new).collect();
    py.detach(|| host::limit_project(&paths, project_id, limit_bytes, limit_inodes)).map_err(raise)
}

#[pyfunction]
fn release_project(py: Python<'_>, directory: &str, project_id: u32) -> PyResult<()> {
    py.detach(|| host::release_project(Path::new(directory), project_id)).map_err(raise)
}

#[pyfunction]
fn directory_project(py: Python<'_>, directory: &str) -> PyResult<u32> {
    py.detach(|| host::directory_project(Path::new(directory))).map_err(raise)
}

#[pyfunction]
fn project_usage(py: Python<'_>, directory: &str, project_id: u32) -> PyResult<(u64, u64, u64, u64)> {
    let usage = py.detach(|| host::project_usage(Path::new(directory), project_id)).map_err(raise)?;
    Ok((usage.bytes, usage.inodes, usage.limit_bytes, usage.limit_inodes))
}

#[pyfunction]
fn idle_projects(py: Python<'_>, directory: &str, first: u32, last: u32) -> PyResult<Vec<u32>> {
    py.detach(|| host::idle_projects(Path::new(directory), first, last)).map_err(raise)
}

impl From<host::Feature> for Feature {
    fn from(feature: host::Feature) -> Self {
        let host::Feature { name, is_available, detail } = feature;
        Self { name, is_available, detail }
    }
}

#[pyfunction]
fn directory_usage(py: Python<'_>, path: &str, max_entries: u64) -> PyResult<(u64, u64, bool)> {
    let usage = py.detach(|| host::directory_usage(Path::new(path), max_entries)).map_err(raise)?;
    Ok((usage.bytes, usage.entries, usage.is_complete))
}

#[pyfunction]
fn remove_tree(py: Python<'_>, path: &str) -> PyResult<()> {
    py.detach(|| host::remove_tree(Path::new(path))).map_err(raise)
}

#[pyfunction]
fn relabel(py: Python<'_>, path: &str, label: &str, trusts_root: bool) -> PyResult<u64> {
    py.detach(|| host::relabel(Path::new(path), label, trusts_root)).map_err(raise)
}

fn named(names: &[(String, u32)]) -> Vec<(&str, u32)> {
    names.iter().map(|(name, mode)| (name.as_str(), *mode)).collect()
}

#[pyfunction]
fn make_tree(
    py: Python<'_>,
    path: &str,
    mode: u32,
    directories: Vec<(String, u32)>,
    files: Vec<(String, u32)>,
) -> PyResult<()> {
    py.detach(|| host::make_tree(Path::new(path), mode, &named(&directories), &named(&files))).map_err(raise)
}

#[pyfunction]
fn write_files(py: Python<'_>, directory: &str, files: Vec<(String, PyBackedBytes)>) -> PyResult<()> {
    let files: Vec<(&str, &[u8])> = files.iter().map(|(name, content)| (name.as_str(), &**content)).collect();
    py.detach(|| host::write_files(Path::new(directory), &files)).map_err(raise)
}

#[pyfunction]
fn read_beginnings<'py>(
    py: Python<'py>,
    paths: Vec<String>,
    max_bytes: usize,
) -> Vec<Bound<'py, pyo3::types::PyBytes>> {
    let paths: Vec<&Path> = paths.iter().map(Path::new).collect();
    let contents = py.detach(|| host::read_beginnings(&paths, max_bytes));
    contents.iter().map(|content| pyo3::types::PyBytes::new(py, content)).collect()
}

#[pyfunction]
fn copy_permissions(py: Python<'_>, model: &str, path: &str) -> PyResult<()> {
    py.detach(|| host::copy_permissions(Path::new(model), Path::new(path))).map_err(raise)
}

#[pyfunction]
fn kernel_release() -> String {
    host::kernel_release()
}

/// See the stub.
#[pyclass(frozen, get_all, module = "fluytd._core.host")]
pub(crate) struct ProcessInfo {
    host_pid: u32,
    pid: u32,
    parent_host_pid: u32,
    uid: u32,
    state: String,
    start_time_unix_nanos: i64,
    cpu_usage_nanos: u64,
    resident_bytes: u64,
    args: Vec<String>,
}

#[pyfunction]
fn processes(py: Python<'_>, host_pids: Vec<u32>) -> Vec<ProcessInfo> {
    py.detach(|| host::processes(&host_pids))
        .into_iter()
        .map(|one| ProcessInfo {
            host_pid: one.host_pid,
            pid: one.pid,
            parent_host_pid: one.parent_host_pid,
            uid: one.uid,
            state: one.state.to_string(),
            start_time_unix_nanos: one.start_time_unix_nanos,
            cpu_usage_nanos: one.cpu_usage_nanos,
            resident_bytes: one.resident_bytes,
            args: one.args,
        })
        .collect()
}

pub(crate) fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_class::<Feature>()?;
    module.add_function(wrap_pyfunction!(probe, module)?)?;
    module.add_function(wrap_pyfunction!(idmapped_mounts, module)?)?;
    module.add_function(wrap_pyfunction!(project_quota, module)?)?;
    module.add_function(wrap_pyfunction!(limit_project, module)?)?;
    module.add_function(wrap_pyfunction!(release_project, module)?)?;
    module.add_function(wrap_pyfunction!(directory_project, module)?)?;
    module.add_function(wrap_pyfunction!(project_usage, module)?)?;
    module.add_function(wrap_pyfunction!(idle_projects, module)?)?;
    module.add_function(wrap_pyfunction!(directory_usage, module)?)?;
    module.add_function(wrap_pyfunction!(remove_tree, module)?)?;
    module.add_function(wrap_pyfunction!(relabel, module)?)?;
    module.add_function(wrap_pyfunction!(make_tree, module)?)?;
    module.add_function(wrap_pyfunction!(write_files, module)?)?;
    module.add_function(wrap_pyfunction!(read_beginnings, module)?)?;
    module.add_function(wrap_pyfunction!(copy_permissions, module)?)?;
    module.add_class::<ProcessInfo>()?;
    module.add_function(wrap_pyfunction!(processes, module)?)?;
    module.add_function(wrap_pyfunction!(kernel_release, module)?)
}
