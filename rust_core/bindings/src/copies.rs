//! `_core.copies`: files into and out of containers.

use std::os::fd::{AsFd, OwnedFd, RawFd};
use std::path::{Path, PathBuf};

use errors::IoError;
use layer::copy::{CopyError, Ids, Root, UnpackOptions, Unpacker};
use layer::Limits;
use mount::{MountError, OverlayPlan, Want};
use process::users::{self, UserError};
use pyo3::prelude::*;
use pyo3::types::PyBytes;

use crate::cancel::CancelToken;
use crate::changes::SharedTar;
use crate::error::raise;

/// `fluytd.containers.copy_ports.Cover`, read field by field.
#[derive(FromPyObject)]
struct CoverArgument {
    target: String,
    source: PathBuf,
    sub_path: PathBuf,
    is_read_only: bool,
}

impl CoverArgument {
    /// A detached mount of what covers; `None` if the host has no such file, which a start would find out.
    fn open(&self) -> Result<Option<OwnedFd>, MountError> {
        const ENOENT: i32 = 2;
        let opened = mount::bind_path_detached(&self.source, true).and_then(|source| {
            if self.sub_path.as_os_str().is_empty() {
                return Ok(source);
            }
            // The handle keeps the mount that it is on.
            mount::resolve_beneath(source.as_fd(), &self.sub_path)
        });
        match opened {
            Err(MountError::Failed { errno: ENOENT, .. }) => Ok(None),
            opened => opened.map(Some),
        }
    }
}

/// See the stub.
#[pyclass(frozen, module = "fluytd._core.copies")]
pub(crate) struct ContainerRoot {
    inner: Root,
}

/// A step of making a root that failed.
enum Failure {
    Mount(MountError),
    Copy(CopyError),
}

impl From<MountError> for Failure {
    fn from(error: MountError) -> Self {
        Self::Mount(error)
    }
}

impl From<CopyError> for Failure {
    fn from(error: CopyError) -> Self {
        Self::Copy(error)
    }
}

fn raise_failure(failure: Failure) -> PyErr {
    match failure {
        Failure::Mount(error) => raise(error),
        Failure::Copy(error) => raise(error),
    }
}

#[pymethods]
impl ContainerRoot {
    #[staticmethod]
    fn running(py: Python<'_>, root_fd: RawFd, ids: Option<(u32, u32)>) -> PyResult<Self> {
        const EBADF: i32 = 9;
        let subject = "container's root";
        let fd = sys::borrow::borrow(root_fd).ok_or_else(|| raise(IoError::new("fcntl", subject, EBADF)))?;
        let root = py
            .detach(|| fd.try_clone_to_owned())
            .map_err(|error| raise(IoError::from_std("fcntl", subject, &error)))?;
        let ids = ids.map(|(first_id, count)| Ids { first_id, count });
        Ok(Self { inner: Root::new(root, false).of_users(ids) })
    }

    #[staticmethod]
    fn stopped(
        py: Python<'_>,
        lower_dirs: Vec<PathBuf>,
        upper_dir: PathBuf,
        work_dir: PathBuf,
        covers: Vec<CoverArgument>,
        is_root_read_only: bool,
        is_written: bool,
    ) -> PyResult<Self> {
        let make = || -> Result<Root, Failure> {
            let fd = if is_written {
                mount::overlay_detached_anywhere(&OverlayPlan::new(lower_dirs, upper_dir, work_dir)?)?
            } else {
                mount::image_detached(&[vec![upper_dir], lower_dirs].concat())?
            };
            let mut root = Root::new(fd, is_root_read_only);
            for cover in covers {
                let Some(source) = cover.open()? else { continue };
                if is_written {
                    make_target(&root, &cover.target, mount::want_of(source.as_fd())?)?;
                }
                root.cover(cover.target.as_bytes(), source, cover.is_read_only)?;
            }
            Ok(root)
        };
        Ok(Self { inner: py.detach(make).map_err(raise_failure)? })
    }
}

/// What a start would make to mount on is there.
fn make_target(root: &Root, target: &str, want: Want) -> Result<(), Failure> {
    mount::resolve_in_root(root.as_fd(), Path::new(target), want, true)?;
    Ok(())
}

/// See the stub.
#[pyclass(frozen, module = "fluytd._core.copies")]
pub(crate) struct CopyArchive {
    info: layer::copy::FileInfo,
    tar: SharedTar,
}

#[pymethods]
impl CopyArchive {
    #[new]
    fn new(
        py: Python<'_>,
        root: &ContainerRoot,
        path: Vec<u8>,
        follow_link: bool,
        subject: &str,
    ) -> PyResult<Self> {
        let open =
            || layer::copy::open_archive(&root.inner, &path, follow_link, None, &Limits::default(), subject);
        let archive = py.detach(open).map_err(raise)?;
        Ok(Self { info: archive.info, tar: SharedTar::new(archive.stream) })
    }

    #[getter]
    fn name<'py>(&self, py: Python<'py>) -> Bound<'py, PyBytes> {
        PyBytes::new(py, &self.info.name)
    }

    #[getter]
    fn link_target<'py>(&self, py: Python<'py>) -> Bound<'py, PyBytes> {
        PyBytes::new(py, &self.info.link_target)
    }

    #[getter]
    fn size_bytes(&self) -> u64 {
        self.info.size_bytes
    }

    #[getter]
    fn mode(&self) -> u32 {
        self.info.mode
    }

    #[getter]
    fn modify_time_unix_nanos(&self) -> i128 {
        i128::from(self.info.mtime.seconds) * 1_000_000_000 + i128::from(self.info.mtime.nanos)
    }

    fn read<'py>(
        &self,
        py: Python<'py>,
        max_bytes: usize,
        cancel: &CancelToken,
    ) -> PyResult<Bound<'py, PyBytes>> {
        let read = || self.tar.read(max_bytes, cancel).map_err(CopyError::from);
        let data = py.detach(read).map_err(raise)?;
        Ok(PyBytes::new(py, &data))
    }

    fn close(&self, py: Python<'_>) {
        py.detach(|| self.tar.close());
    }

    #[getter]
    fn entry_count(&self) -> u64 {
        self.tar.entry_count()
    }
}

/// See the stub.
#[pyclass(frozen, module = "fluytd._core.copies")]
pub(crate) struct CopyReceiver {
    inner: layer::copy::Receiver,
}

/// A user that the container does not have, or a failed copy.
enum BeginFailure {
    User(UserError),
    Copy(CopyError),
}

impl From<IoError> for BeginFailure {
    fn from(error: IoError) -> Self {
        Self::Copy(error.into())
    }
}

#[pymethods]
impl CopyReceiver {
    #[new]
    #[pyo3(signature = (root, path, user, replace_kinds, subject))]
    fn new(
        py: Python<'_>,
        root: &ContainerRoot,
        path: Vec<u8>,
        user: Option<String>,
        replace_kinds: bool,
        subject: &str,
    ) -> PyResult<Self> {
        let begin = || -> Result<_, BeginFailure> {
            let owner =
                user.map(|user| owner_of(&root.inner, &user)).transpose().map_err(BeginFailure::User)?;
            let options =
                UnpackOptions { owner, replace_kinds, follow_links: true, ..UnpackOptions::default() };
            let limits = Limits::default();
            Unpacker::new(root.inner.clone(), &path, options, &limits, subject)
                .and_then(|unpacker| layer::copy::begin(unpacker, &limits, subject))
                .map_err(BeginFailure::Copy)
        };
        // The thread that it begins has the capabilities of this one.
        let inner = py.detach(|| host::within_bounds(begin)).map_err(|failure| match failure {
            BeginFailure::User(error) => raise(error),
            BeginFailure::Copy(error) => raise(error),
        })?;
        Ok(Self { inner })
    }

    fn write(&self, py: Python<'_>, data: Vec<u8>) -> PyResult<()> {
        py.detach(|| self.inner.write(data)).map_err(raise)
    }

    fn finish(&self, py: Python<'_>) -> PyResult<(u64, u64)> {
        let placed = py.detach(|| self.inner.finish()).map_err(raise)?;
        Ok((placed.entry_count, placed.size_bytes))
    }

    fn abort(&self, py: Python<'_>) {
        py.detach(|| self.inner.abort());
    }
}

/// User and group by the container's own files.
fn owner_of(root: &Root, user: &str) -> Result<(u32, u32), UserError> {
    let read = |path: &'static str| {
        move || {
            let read = root.read_file(path.as_bytes(), process::MAX_USER_FILE_BYTES);
            read.map(Option::unwrap_or_default).map_err(|error| error.to_string())
        }
    };
    let identity = users::resolve(user, &[], &read("/etc/passwd"), &read("/etc/group"))?;
    Ok((identity.uid, identity.gid))
}

pub(crate) fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_class::<ContainerRoot>()?;
    module.add_class::<CopyArchive>()?;
    module.add_class::<CopyReceiver>()
}
