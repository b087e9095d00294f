//! `CancelToken`: the flag by which Python asks a long call to end.

use pyo3::prelude::*;

/// See the stub.
#[pyclass(frozen, module = "fluytd._core")]
pub(crate) struct CancelToken {
    pub(crate) inner: sys::cancel::CancelToken,
}

#[pymethods]
impl CancelToken {
    #[new]
    fn new() -> Self {
        Self { inner: sys::cancel::CancelToken::new() }
    }

    fn cancel(&self) {
        self.inner.cancel();
    }

    #[getter]
    fn is_cancelled(&self) -> bool {
        self.inner.is_cancelled()
    }
}

pub(crate) fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_class::<CancelToken>()
}
