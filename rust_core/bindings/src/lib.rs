//! The extension module `fluytd._core`: registers the areas and converts values. It holds no logic; the stubs
//! under `server/fluytd/_core/` document what it offers.

mod error;

use pyo3::prelude::*;

/// How this extension was built.
#[pyclass(frozen, module = "fluytd._core")]
struct BuildInfo {
    #[pyo3(get)]
    version: &'static str,
    #[pyo3(get)]
    profile: &'static str,
}

#[pyfunction]
fn build_info() -> BuildInfo {
    BuildInfo { version: env!("CARGO_PKG_VERSION"), profile: env!("FLUYT_PROFILE") }
}

#[pymodule(gil_used = false)]
fn _core(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_class::<BuildInfo>()?;
    module.add_function(wrap_pyfunction!(build_info, module)?)?;
    Ok(())
}
