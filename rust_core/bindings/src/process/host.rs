//! Where supervisors come from: made ready ahead of a start, started, found again.

use std::ffi::OsStr;
use std::os::fd::{AsRawFd, RawFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use control::{ContainerStart, ExecStart};
use errors::IoError;
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;

use super::arguments::StartArgument;
use super::supervisor::Supervisor;
use crate::error::raise;
use crate::exec::{Exec, ExecArgument};
use crate::network::Namespace;

/// See the stub.
#[pyclass(frozen, module = "fluytd._core.process")]
pub(crate) struct SupervisorHost {
    inner: control::SupervisorHost,
}

#[pymethods]
impl SupervisorHost {
    #[new]
    fn new(py: Python<'_>, supervisor_path: &str) -> PyResult<Self> {
        let inner = py.detach(|| control::SupervisorHost::open(Path::new(supervisor_path))).map_err(raise)?;
        Ok(Self { inner })
    }

    fn prepare(&self, py: Python<'_>, count: usize, has_users: bool) -> PyResult<()> {
        py.detach(|| self.inner.prepare(count, has_users)).map_err(raise)
    }

    #[pyo3(signature = (path, root_fd=None))]
    fn look(&self, py: Python<'_>, path: Vec<u8>, root_fd: Option<RawFd>) -> PyResult<Look> {
        const EBADF: i32 = 9;
        let closed = || raise(IoError::new("fcntl", "root", EBADF));
        let root = root_fd.map(|fd| sys::borrow::borrow(fd).ok_or_else(closed)).transpose()?;
        let look = py.detach(|| self.inner.look(OsStr::from_bytes(&path), root)).map_err(raise)?;
        Ok(Look { inner: Mutex::new(Some(look)) })
    }

    #[pyo3(signature = (spec, joined, timeout_millis, ready=None))]
    fn start(
        &self,
        py: Python<'_>,
        spec: &Bound<'_, PyAny>,
        joined: Vec<PyRef<'_, Supervisor>>,
        timeout_millis: u64,
        ready: Option<&ReadySupervisor>,
    ) -> PyResult<Supervisor> {
        let joined = joined.iter().map(|supervisor| supervisor.get()).collect::<PyResult<Vec<_>>>()?;
        let start = ContainerStart::from(spec.extract::<StartArgument>()?);
        let timeout = Duration::from_millis(timeout_millis);
        let ready = ready.map(ReadySupervisor::take).transpose()?;
        py.detach(|| self.inner.start(&start, &joined, ready, timeout)).map(Supervisor::new).map_err(raise)
    }

    fn take_ready(&self, py: Python<'_>, container_id: &str, has_users: bool) -> PyResult<ReadySupervisor> {
        let ready = py.detach(|| self.inner.take_ready(container_id, Some(has_users))).map_err(raise)?;
        Ok(ReadySupervisor { inner: Mutex::new(Some(ready)) })
    }

    fn open_namespace(&self, py: Python<'_>, host_pid: u32, timeout_millis: u64) -> PyResult<Namespace> {
        let opened = py.detach(|| {
            let path = format!("/proc/{host_pid}/ns/net");
            let file = std::fs::File::open(&path)
                .map_err(|error| control::ControlError::Io(IoError::from_std("open", &path, &error)))?;
            let ready = self.inner.take_ready("", None)?;
            ready.open_sockets(file.into(), Instant::now() + Duration::from_millis(timeout_millis))
        });
        Namespace::new(opened.map_err(raise)?)
    }

    fn exec(&self, py: Python<'_>, supervisor: &Supervisor, spec: &Bound<'_, PyAny>) -> PyResult<Exec> {
        let start = ExecStart::from(spec.extract::<ExecArgument>()?);
        let supervisor = supervisor.get()?;
        let exec = py.detach(|| self.inner.exec(&supervisor, &start)).map_err(raise)?;
        Ok(Exec::new(supervisor, exec))
    }

    fn adopt(&self, py: Python<'_>, run_dir: &str) -> PyResult<Option<Supervisor>> {
        Ok(py.detach(|| self.inner.adopt(Path::new(run_dir))).map_err(raise)?.map(Supervisor::new))
    }
}

/// See the stub.
#[pyclass(frozen, module = "fluytd._core.process")]
pub(crate) struct Look {
    /// None once closed.
    inner: Mutex<Option<control::Look>>,
}

impl Look {
    fn lock(&self) -> MutexGuard<'_, Option<control::Look>> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[pymethods]
impl Look {
    fn fileno(&self) -> PyResult<RawFd> {
        let look = self.lock();
        let look = look.as_ref().ok_or_else(|| PyValueError::new_err("the look is closed"))?;
        Ok(look.fileno().as_raw_fd())
    }

    fn close(&self) {
        drop(self.lock().take());
    }
}

/// See the stub.
#[pyclass(frozen, module = "fluytd._core.process")]
pub(crate) struct ReadySupervisor {
    /// None once it was given its container or closed.
    inner: Mutex<Option<control::Ready>>,
}

impl ReadySupervisor {
    fn lock(&self) -> MutexGuard<'_, Option<control::Ready>> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn take(&self) -> PyResult<control::Ready> {
        self.lock().take().ok_or_else(|| PyValueError::new_err("the supervisor has a container already"))
    }
}

#[pymethods]
impl ReadySupervisor {
    fn namespace(&self, py: Python<'_>, timeout_millis: u64, serves_names: bool) -> PyResult<Namespace> {
        let deadline = Instant::now() + Duration::from_millis(timeout_millis);
        let ready = self.take()?;
        let (ready, made) = py.detach(move || {
            let made = ready.namespace(deadline).and_then(|made| {
                if serves_names {
                    ready.open_sockets(made.namespace, deadline)
                } else {
                    Ok(made)
                }
            });
            (ready, made)
        });
        let made = made.map_err(raise)?;
        *self.lock() = Some(ready);
        Namespace::new(made)
    }

    fn pid(&self) -> Option<i32> {
        self.lock().as_ref().map(control::Ready::pid)
    }

    fn is_alive(&self) -> bool {
        self.lock().as_ref().is_some_and(control::Ready::is_alive)
    }

    fn close(&self, py: Python<'_>) {
        let ready = self.lock().take();
        py.detach(|| drop(ready));
    }
}
