//! `_core.host`: what this kernel and host allow; trees measured and removed by descriptor.

use std::path::Path;

use pyo3::prelude::*;

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
    py.detach(|| host::probe(Path::new(data_root)))
        .into_iter()
        .map(|feature| Feature {
            name: feature.name,
            is_available: feature.is_available,
            detail: feature.detail,
        })
        .collect()
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
fn kernel_release() -> String {
    host::kernel_release()
}

pub(crate) fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_class::<Feature>()?;
    module.add_function(wrap_pyfunction!(probe, module)?)?;
    module.add_function(wrap_pyfunction!(directory_usage, module)?)?;
    module.add_function(wrap_pyfunction!(remove_tree, module)?)?;
    module.add_function(wrap_pyfunction!(kernel_release, module)?)
}
