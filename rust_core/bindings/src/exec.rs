//! `_core.process.Exec`: further processes of containers.

use std::os::fd::IntoRawFd;
use std::sync::Arc;

use control::spool::SpoolStream;
use control::{ExecStart, Supervisor};
use process::spec::Rlimit;
use pyo3::prelude::*;
use pyo3::types::PyBytes;

use crate::error::raise;
use crate::process::{ExitRecord, RlimitArgument};

/// `fluytd.containers.process_spec.ExecStart`, read field by field.
#[derive(FromPyObject)]
pub(crate) struct ExecArgument {
    id: String,
    args: Vec<String>,
    env: Vec<String>,
    cwd: String,
    user: String,
    additional_groups: Vec<String>,
    capabilities: Vec<String>,
    seccomp_profile: String,
    no_new_privileges: bool,
    apparmor_profile: String,
    process_label: String,
    rlimits: Vec<RlimitArgument>,
    oom_score_adj: Option<i32>,
    open_stdin: bool,
    terminal: Option<(u16, u16)>,
    is_held: bool,
}

impl From<ExecArgument> for ExecStart {
    fn from(spec: ExecArgument) -> Self {
        Self {
            id: spec.id,
            args: spec.args,
            env: spec.env,
            cwd: spec.cwd,
            user: spec.user,
            additional_groups: spec.additional_groups,
            capabilities: spec.capabilities,
            seccomp_profile: spec.seccomp_profile,
            no_new_privileges: spec.no_new_privileges,
            apparmor_profile: spec.apparmor_profile,
            process_label: spec.process_label,
            rlimits: spec.rlimits.into_iter().map(Rlimit::from).collect(),
            oom_score_adj: spec.oom_score_adj,
            open_stdin: spec.open_stdin,
            terminal: spec.terminal,
            is_held: spec.is_held,
        }
    }
}

/// See the stub.
#[pyclass(frozen, get_all, module = "fluytd._core.process")]
pub(crate) struct ExecOutput {
    stream: &'static str,
    time_unix_nanos: i64,
    offset_bytes: u64,
    data: Py<PyBytes>,
}

/// See the stub.
#[pyclass(frozen, module = "fluytd._core.process")]
pub(crate) struct Exec {
    supervisor: Arc<Supervisor>,
    inner: Arc<control::Exec>,
}

impl Exec {
    pub(crate) fn new(supervisor: Arc<Supervisor>, inner: Arc<control::Exec>) -> Self {
        Self { supervisor, inner }
    }
}

#[pymethods]
impl Exec {
    #[getter]
    fn id(&self) -> &str {
        self.inner.id()
    }

    #[getter]
    fn host_pid(&self) -> u32 {
        self.inner.facts().host_pid
    }

    #[getter]
    fn is_started(&self) -> bool {
        self.inner.facts().is_started
    }

    #[getter]
    fn start_time_unix_nanos(&self) -> i64 {
        self.inner.facts().start_time_unix_nanos
    }

    #[getter]
    fn clamps(&self) -> Vec<String> {
        self.inner.facts().clamps
    }

    #[getter]
    fn has_failed(&self) -> bool {
        self.inner.facts().failure.is_some()
    }

    fn check(&self) -> PyResult<()> {
        self.inner.facts().failure.map_or(Ok(()), |failure| Err(raise(failure)))
    }

    #[getter]
    fn exit_record(&self) -> Option<ExitRecord> {
        self.inner.facts().exit.map(ExitRecord::from)
    }

    #[getter]
    fn oldest(&self) -> u64 {
        self.inner.extent().oldest
    }

    #[getter]
    fn head(&self) -> u64 {
        self.inner.extent().head
    }

    #[getter]
    fn content_bytes(&self) -> u64 {
        self.inner.extent().content_bytes
    }

    fn read(&self, py: Python<'_>, position: u64, max_bytes: usize) -> PyResult<(Vec<ExecOutput>, u64)> {
        let (records, next) = py.detach(|| self.inner.read(position, max_bytes)).map_err(raise)?;
        let wrap = |record: control::spool::SpoolRecord| ExecOutput {
            stream: if record.stream == SpoolStream::Stdout { "stdout" } else { "stderr" },
            time_unix_nanos: record.time_unix_nanos,
            offset_bytes: record.offset,
            data: PyBytes::new(py, &record.data).unbind(),
        };
        Ok((records.into_iter().map(wrap).collect(), next))
    }

    #[pyo3(signature = (position))]
    fn take(&self, py: Python<'_>, position: Option<u64>) -> PyResult<()> {
        py.detach(|| self.supervisor.take_exec_output(self.inner.id(), position)).map_err(raise)
    }

    fn signal(&self, py: Python<'_>, number: i32) -> PyResult<()> {
        py.detach(|| self.inner.signal(number)).map_err(raise)
    }

    fn kill(&self, py: Python<'_>) -> PyResult<()> {
        py.detach(|| self.supervisor.kill_exec(self.inner.id())).map_err(raise)
    }

    fn resize(&self, py: Python<'_>, width: u16, height: u16) -> PyResult<()> {
        py.detach(|| self.inner.resize(width, height)).map_err(raise)
    }

    fn stdin_fd(&self, py: Python<'_>) -> PyResult<Option<i32>> {
        // From here on the fd is the caller's to close.
        Ok(py.detach(|| self.inner.stdin_fd()).map_err(raise)?.map(IntoRawFd::into_raw_fd))
    }

    fn close_stdin(&self, py: Python<'_>) -> PyResult<()> {
        py.detach(|| self.supervisor.close_exec_stdin(&self.inner)).map_err(raise)
    }

    fn forget(&self, py: Python<'_>) -> PyResult<()> {
        py.detach(|| self.supervisor.forget_exec(self.inner.id())).map_err(raise)
    }
}
