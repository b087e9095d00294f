//! One conversion from the core's errors to the engine's exceptions, which are defined in Python.

use errors::Catalogued;
use pyo3::prelude::*;
use pyo3::types::PyDict;

/// The Python exception of the error's reason, made by `fluytd.errors.from_core`.
pub(crate) fn raise(error: impl Catalogued) -> PyErr {
    Python::attach(|py| match build(py, &error) {
        Ok(exception) => PyErr::from_value(exception),
        Err(failure) => failure,
    })
}

fn build<'py>(py: Python<'py>, error: &impl Catalogued) -> PyResult<Bound<'py, PyAny>> {
    let metadata = PyDict::new(py);
    for (key, value) in error.metadata() {
        metadata.set_item(key, value)?;
    }
    py.import("fluytd.errors")?.getattr("from_core")?.call1((error.reason(), metadata))
}
