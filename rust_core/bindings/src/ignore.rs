//! `_core.ignore`: which paths of a build context its ignore file leaves out.

use std::sync::Arc;

use pyo3::prelude::*;

use crate::error::raise;

/// See the stub.
#[pyclass(frozen, module = "fluytd._core.ignore")]
pub(crate) struct Matcher {
    pub(crate) inner: Arc<::ignore::Matcher>,
}

#[pymethods]
impl Matcher {
    #[new]
    fn new(py: Python<'_>, data: &[u8]) -> PyResult<Self> {
        let inner = py.detach(|| ::ignore::Matcher::from_file(data)).map_err(raise)?;
        Ok(Self { inner: Arc::new(inner) })
    }

    #[staticmethod]
    fn from_patterns(py: Python<'_>, patterns: Vec<String>) -> PyResult<Self> {
        let texts = patterns.iter().map(String::as_str);
        let inner = py.detach(|| ::ignore::Matcher::from_patterns(texts)).map_err(raise)?;
        Ok(Self { inner: Arc::new(inner) })
    }

    #[getter]
    fn is_empty(&self) -> bool {
        self.inner.is_empty()
    }

    #[getter]
    fn has_exceptions(&self) -> bool {
        self.inner.has_exceptions()
    }

    fn excluded(&self, py: Python<'_>, paths: Vec<String>) -> Vec<bool> {
        py.detach(|| paths.iter().map(|path| self.inner.excludes(path)).collect())
    }

    fn hides_source(&self, source: &str) -> bool {
        self.inner.hides_source(source)
    }
}

#[pyfunction]
fn file_names(dockerfile: &str) -> [String; 2] {
    ::ignore::file_names(dockerfile)
}

pub(crate) fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_class::<Matcher>()?;
    module.add_function(wrap_pyfunction!(file_names, module)?)
}
