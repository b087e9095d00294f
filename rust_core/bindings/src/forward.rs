//! `_core.forward`: ports of `::1` that lead to containers.

use std::net::SocketAddr;

use forward::Protocol;
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;

use crate::error::raise;

/// See the stub.
#[pyclass(frozen, module = "fluytd._core.forward")]
struct Forwarder {
    inner: forward::Forwarder,
}

/// See the stub.
#[pyclass(frozen, module = "fluytd._core.forward")]
struct Port {
    inner: forward::Port,
}

#[pymethods]
impl Forwarder {
    #[new]
    fn new() -> Self {
        Self { inner: forward::Forwarder::default() }
    }

    fn listen(&self, py: Python<'_>, protocol: &str, port: u16) -> PyResult<Port> {
        let protocol = match protocol {
            "tcp" => Protocol::Tcp,
            "udp" => Protocol::Udp,
            other => return Err(PyValueError::new_err(format!("{other:?} is neither tcp nor udp"))),
        };
        let inner = py.detach(|| self.inner.listen(protocol, port)).map_err(raise)?;
        Ok(Port { inner })
    }

    fn settle(&self, py: Python<'_>) {
        py.detach(|| self.inner.settle());
    }
}

#[pymethods]
impl Port {
    #[getter]
    fn number(&self) -> u16 {
        self.inner.number()
    }

    fn lead_to(&self, targets: Vec<String>) -> PyResult<()> {
        let parse = |text: &String| {
            text.parse::<SocketAddr>()
                .map_err(|_| PyValueError::new_err(format!("{text:?} is no address with a port")))
        };
        self.inner.lead_to(targets.iter().map(parse).collect::<PyResult<_>>()?);
        Ok(())
    }

    fn close(&self, py: Python<'_>) {
        py.detach(|| self.inner.close());
    }
}

pub(crate) fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_class::<Forwarder>()?;
    module.add_class::<Port>()
}
