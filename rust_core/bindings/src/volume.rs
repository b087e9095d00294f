//! `_core.volume`: the data of volumes.

use std::os::fd::{AsFd, IntoRawFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicU64;

use errors::IoError;
use layer::Limits;
use pyo3::prelude::*;
use rustix::fs::{Mode, OFlags};
use volume::{Filled, VolumeError};

use crate::cancel::CancelToken;
use crate::error::raise;

fn open(path: &str) -> Result<OwnedFd, VolumeError> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let opened = rustix::fs::open(path, flags, Mode::empty());
    Ok(opened.map_err(|errno| IoError::new("open", path, errno.raw_os_error()))?)
}

#[pyfunction]
fn fill(
    py: Python<'_>,
    lower_dirs: Vec<PathBuf>,
    target: &str,
    volume_dir: &str,
    cancel: &CancelToken,
) -> PyResult<Option<(u64, u64)>> {
    let filled = py
        .detach(|| {
            host::within_bounds(|| {
                volume::fill_from_image(&lower_dirs, Path::new(target), Path::new(volume_dir), &cancel.inner)
            })
        })
        .map_err(raise)?;
    Ok(match filled {
        Filled::Nothing => None,
        Filled::Ready(copied) => Some((copied.entries, copied.bytes)),
    })
}

#[pyfunction]
fn settle(py: Python<'_>, volume_dir: &str) -> PyResult<bool> {
    py.detach(|| volume::settle(Path::new(volume_dir))).map_err(raise)
}

#[pyfunction]
fn copy(py: Python<'_>, from_dir: &str, to_dir: &str, cancel: &CancelToken) -> PyResult<(u64, u64)> {
    let copied = py
        .detach(|| {
            host::within_bounds(|| volume::copy_tree(open(from_dir)?, open(to_dir)?.as_fd(), &cancel.inner))
        })
        .map_err(raise)?;
    Ok((copied.entries, copied.bytes))
}

#[pyfunction]
#[pyo3(signature = (archive, root_dir, cancel, max_bytes=None))]
fn unpack(
    py: Python<'_>,
    archive: &str,
    root_dir: &str,
    cancel: &CancelToken,
    max_bytes: Option<u64>,
) -> PyResult<(u64, u64)> {
    let mut limits = Limits::default();
    limits.layer_size_bytes = max_bytes.unwrap_or(limits.layer_size_bytes);
    let unpacked = py
        .detach(|| {
            let root = open(root_dir)?;
            let progress = AtomicU64::new(0);
            host::within_bounds(|| {
                volume::unpack(Path::new(archive), root.as_fd(), &limits, &progress, &cancel.inner)
            })
        })
        .map_err(raise)?;
    Ok((unpacked.entries, unpacked.bytes))
}

#[pyfunction]
fn show(py: Python<'_>, kind: &str, source: &str, data: &str, is_read_only: bool) -> PyResult<i32> {
    let shown = py.detach(|| volume::show(kind, source, data, is_read_only)).map_err(raise)?;
    Ok(shown.into_raw_fd())
}

pub(crate) fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_function(wrap_pyfunction!(fill, module)?)?;
    module.add_function(wrap_pyfunction!(settle, module)?)?;
    module.add_function(wrap_pyfunction!(copy, module)?)?;
    module.add_function(wrap_pyfunction!(show, module)?)?;
    module.add_function(wrap_pyfunction!(unpack, module)?)
}
