//! `_core.logs`: reading container logs.

use std::os::fd::AsRawFd;
use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};

use logs::ReadRange;
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::PyBytes;

use crate::error::raise;

/// See the stub.
#[pyclass(frozen, module = "fluytd._core.logs")]
pub(crate) struct LogRecord {
    #[pyo3(get)]
    stream: &'static str,
    #[pyo3(get)]
    data: Py<PyBytes>,
    #[pyo3(get)]
    time_unix_nanos: i64,
    #[pyo3(get)]
    cursor: String,
}

/// See the stub.
#[pyclass(frozen, module = "fluytd._core.logs")]
pub(crate) struct LogPage {
    #[pyo3(get)]
    messages: Vec<Py<PyBytes>>,
    #[pyo3(get)]
    cursor: Option<String>,
}

/// See the stub.
#[pyclass(frozen, module = "fluytd._core.logs")]
pub(crate) struct LogHub {
    inner: logs::LogHub,
}

#[pymethods]
impl LogHub {
    #[new]
    fn new() -> PyResult<Self> {
        Ok(Self { inner: logs::LogHub::new().map_err(logs::LogsError::from).map_err(raise)? })
    }

    fn fileno(&self) -> i32 {
        self.inner.fileno().as_raw_fd()
    }

    fn take(&self) -> PyResult<Vec<u64>> {
        self.inner.take().map_err(logs::LogsError::from).map_err(raise)
    }
}

/// See the stub.
#[pyclass(frozen, module = "fluytd._core.logs")]
pub(crate) struct LogReader {
    /// None once closed.
    inner: Mutex<Option<logs::LogReader>>,
}

fn convert(py: Python<'_>, record: logs::LogRecord) -> LogRecord {
    LogRecord {
        stream: record.stream.as_str(),
        data: PyBytes::new(py, &record.data).unbind(),
        time_unix_nanos: record.time_unix_nanos,
        cursor: record.cursor.to_string(),
    }
}

impl LogReader {
    fn lock(&self) -> MutexGuard<'_, Option<logs::LogReader>> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn with<T: Send>(
        &self,
        py: Python<'_>,
        work: impl FnOnce(&mut logs::LogReader) -> Result<T, logs::LogsError> + Send,
    ) -> PyResult<T> {
        let done = py.detach(|| self.lock().as_mut().map(work));
        done.ok_or_else(|| PyValueError::new_err("the log reader is closed"))?.map_err(raise)
    }
}

#[pymethods]
impl LogReader {
    #[new]
    #[pyo3(signature = (log_dir, *, hub=None, cursor=None, tail_lines=None, since_unix_nanos=None, until_unix_nanos=None))]
    fn new(
        py: Python<'_>,
        log_dir: &str,
        hub: Option<&LogHub>,
        cursor: Option<String>,
        tail_lines: Option<u64>,
        since_unix_nanos: Option<i64>,
        until_unix_nanos: Option<i64>,
    ) -> PyResult<Self> {
        let range = ReadRange { cursor, tail_lines, since_unix_nanos, until_unix_nanos };
        let (dir, hub) = (Path::new(log_dir), hub.map(|hub| &hub.inner));
        let open = || match hub {
            Some(hub) => logs::LogReader::follow(dir, &range, hub),
            None => logs::LogReader::open(dir, &range),
        };
        let reader = py.detach(open).map_err(raise)?;
        Ok(Self { inner: Mutex::new(Some(reader)) })
    }

    #[getter]
    fn token(&self, py: Python<'_>) -> PyResult<Option<u64>> {
        self.with(py, |reader| Ok(reader.token()))
    }

    fn has_news(&self, py: Python<'_>) -> PyResult<bool> {
        self.with(py, |reader| Ok(reader.has_news()))
    }

    fn read(&self, py: Python<'_>, max_bytes: usize) -> PyResult<Vec<LogRecord>> {
        let records = self.with(py, |reader| reader.read(max_bytes))?;
        Ok(records.into_iter().map(|record| convert(py, record)).collect())
    }

    fn read_final(&self, py: Python<'_>, max_bytes: usize) -> PyResult<Vec<LogRecord>> {
        let records = self.with(py, |reader| reader.read_final(max_bytes))?;
        Ok(records.into_iter().map(|record| convert(py, record)).collect())
    }

    fn read_page(
        &self,
        py: Python<'_>,
        max_bytes: usize,
        is_final: bool,
        stdout: bool,
        stderr: bool,
    ) -> PyResult<LogPage> {
        let page = self.with(py, |reader| reader.read_page(max_bytes, is_final, [stdout, stderr]))?;
        let messages = page.messages.iter().map(|message| PyBytes::new(py, message).unbind()).collect();
        Ok(LogPage { messages, cursor: page.cursor.map(|cursor| cursor.to_string()) })
    }

    #[getter]
    fn is_past_until(&self, py: Python<'_>) -> PyResult<bool> {
        self.with(py, |reader| Ok(reader.is_past_until()))
    }

    #[getter]
    fn segment(&self, py: Python<'_>) -> PyResult<u64> {
        self.with(py, |reader| Ok(reader.segment()))
    }

    #[getter]
    fn skipped_bytes(&self, py: Python<'_>) -> PyResult<u64> {
        self.with(py, |reader| Ok(reader.skipped_bytes()))
    }

    #[getter]
    fn skipped_segments(&self, py: Python<'_>) -> PyResult<u64> {
        self.with(py, |reader| Ok(reader.skipped_segments()))
    }

    fn close(&self, py: Python<'_>) {
        py.detach(|| drop(self.lock().take()));
    }
}

pub(crate) fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_class::<LogRecord>()?;
    module.add_class::<LogPage>()?;
    module.add_class::<LogHub>()?;
    module.add_class::<LogReader>()
}
