//! The extension module `fluytd._core`: registers the areas and converts values. It holds no logic; the stubs
//! under `server/fluytd/_core/` document what it offers.

mod build;
mod cancel;
mod cgroup;
mod changes;
mod content;
mod copies;
mod error;
mod exec;
mod forward;
mod host;
mod ignore;
mod ingest;
mod layer;
mod logs;
mod network;
mod process;
mod registry;
mod resolver;
mod selection;
mod volume;

use pyo3::prelude::*;

/// How this extension was built.
#[pyclass(frozen, get_all, module = "fluytd._core")]
struct BuildInfo {
    version: &'static str,
    profile: &'static str,
}

#[pyfunction]
fn build_info() -> BuildInfo {
    BuildInfo { version: env!("CARGO_PKG_VERSION"), profile: env!("FLUYT_PROFILE") }
}

/// Registers one area as a submodule that `import` finds by its dotted name too.
fn add_area(
    parent: &Bound<'_, PyModule>,
    name: &str,
    register: fn(&Bound<'_, PyModule>) -> PyResult<()>,
) -> PyResult<()> {
    let full_name = format!("fluytd._core.{name}");
    let area = PyModule::new(parent.py(), &full_name)?;
    register(&area)?;
    parent.py().import("sys")?.getattr("modules")?.set_item(&full_name, &area)?;
    parent.add(name, area)
}

#[pymodule(gil_used = false)]
fn _core(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_class::<BuildInfo>()?;
    module.add_function(wrap_pyfunction!(build_info, module)?)?;
    cancel::register(module)?;
    add_area(module, "build", build::register)?;
    add_area(module, "cgroup", cgroup::register)?;
    add_area(module, "changes", changes::register)?;
    add_area(module, "content", content::register)?;
    add_area(module, "copies", copies::register)?;
    add_area(module, "forward", forward::register)?;
    add_area(module, "host", host::register)?;
    add_area(module, "ignore", ignore::register)?;
    add_area(module, "ingest", ingest::register)?;
    add_area(module, "layer", layer::register)?;
    add_area(module, "logs", logs::register)?;
    add_area(module, "network", network::register)?;
    add_area(module, "process", process::register)?;
    add_area(module, "registry", registry::register)?;
    add_area(module, "resolver", resolver::register)?;
    add_area(module, "volume", volume::register)
}
