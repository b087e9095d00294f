//! The connection to one container's supervisor, and how its process ended.

use std::os::fd::{AsRawFd, IntoRawFd};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;

use crate::error::raise;
use crate::exec::Exec;

/// See the stub.
#[pyclass(frozen, get_all, module = "fluytd._core.process")]
pub(crate) struct ExitRecord {
    exit_code: Option<u8>,
    signal: Option<u8>,
    oom_kill_count: u64,
    exit_time_unix_nanos: i64,
    dropped_log_bytes: u64,
}

impl From<control::ExitRecord> for ExitRecord {
    fn from(record: control::ExitRecord) -> Self {
        Self {
            exit_code: record.exit_code(),
            signal: record.signal(),
            oom_kill_count: record.oom_kill_count,
            exit_time_unix_nanos: record.exit_time_unix_nanos,
            dropped_log_bytes: record.dropped_log_bytes,
        }
    }
}

/// See the stub.
#[pyclass(frozen, module = "fluytd._core.process")]
pub(crate) struct Supervisor {
    /// None once closed.
    inner: Mutex<Option<Arc<control::Supervisor>>>,
}

impl Supervisor {
    pub(super) fn new(supervisor: control::Supervisor) -> Self {
        Self { inner: Mutex::new(Some(Arc::new(supervisor))) }
    }

    pub(super) fn get(&self) -> PyResult<Arc<control::Supervisor>> {
        let inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        inner.clone().ok_or_else(|| PyValueError::new_err("the connection to the supervisor is closed"))
    }
}

#[pymethods]
impl Supervisor {
    fn fileno(&self) -> PyResult<i32> {
        Ok(self.get()?.fileno().as_raw_fd())
    }

    #[getter]
    fn host_pid(&self) -> PyResult<u32> {
        Ok(self.get()?.host_pid())
    }

    #[getter]
    fn supervisor_pid(&self) -> PyResult<u32> {
        Ok(self.get()?.supervisor_pid())
    }

    #[getter]
    fn start_time_unix_nanos(&self) -> PyResult<i64> {
        Ok(self.get()?.start_time_unix_nanos())
    }

    #[getter]
    fn clamps(&self) -> PyResult<Vec<String>> {
        Ok(self.get()?.clamps().to_vec())
    }

    fn poll_exit(&self, py: Python<'_>) -> PyResult<&'static str> {
        let supervisor = self.get()?;
        Ok(py.detach(|| supervisor.poll_exit()).map_err(raise)?.as_str())
    }

    fn take_exec_news(&self) -> PyResult<Vec<String>> {
        Ok(self.get()?.take_exec_news())
    }

    fn execs(&self) -> PyResult<Vec<Exec>> {
        let supervisor = self.get()?;
        let wrap = |exec| Exec::new(Arc::clone(&supervisor), exec);
        Ok(supervisor.execs().into_iter().map(wrap).collect())
    }

    fn resize(&self, py: Python<'_>, width: u16, height: u16) -> PyResult<()> {
        let supervisor = self.get()?;
        py.detach(|| supervisor.resize(width, height)).map_err(raise)
    }

    #[getter]
    fn exit_record(&self) -> PyResult<Option<ExitRecord>> {
        Ok(self.get()?.exit_record().map(ExitRecord::from))
    }

    fn signal(&self, py: Python<'_>, number: i32) -> PyResult<()> {
        let supervisor = self.get()?;
        py.detach(|| supervisor.signal(number)).map_err(raise)
    }

    fn stdin_fd(&self, py: Python<'_>) -> PyResult<Option<i32>> {
        let supervisor = self.get()?;
        // From here on the fd is the caller's to close.
        Ok(py.detach(|| supervisor.stdin_fd()).map_err(raise)?.map(IntoRawFd::into_raw_fd))
    }

    fn close_stdin(&self, py: Python<'_>) -> PyResult<()> {
        let supervisor = self.get()?;
        py.detach(|| supervisor.close_stdin()).map_err(raise)
    }

    fn force_servers(&self, py: Python<'_>) -> PyResult<()> {
        let supervisor = self.get()?;
        py.detach(|| supervisor.force_servers()).map_err(raise)
    }

    #[pyo3(signature = (segment))]
    fn hold_log(&self, py: Python<'_>, segment: Option<u64>) -> PyResult<()> {
        let supervisor = self.get()?;
        py.detach(|| supervisor.hold_log(segment)).map_err(raise)
    }

    fn open_root_fd(&self, py: Python<'_>) -> PyResult<i32> {
        let supervisor = self.get()?;
        // From here on the fd is the caller's to close.
        Ok(py.detach(|| supervisor.open_root()).map_err(raise)?.into_raw_fd())
    }

    fn wait_gone(&self, py: Python<'_>, timeout_millis: u64) -> PyResult<bool> {
        let supervisor = self.get()?;
        py.detach(|| supervisor.wait_gone(Duration::from_millis(timeout_millis))).map_err(raise)
    }

    fn kill_supervisor(&self, py: Python<'_>) -> PyResult<()> {
        let supervisor = self.get()?;
        py.detach(|| supervisor.kill_supervisor()).map_err(raise)
    }

    fn close(&self) {
        drop(self.inner.lock().unwrap_or_else(PoisonError::into_inner).take());
    }
}
