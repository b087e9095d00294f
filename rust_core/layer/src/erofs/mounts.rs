//! One mount a layer, shared by all that stand on it, so that its files are once in the page cache.
//!
//! A mount is detached: no namespace shows it, this process holds it by a descriptor, and it goes with the last
//! overlay that was made of it and with the descriptor, however this process ends. An overlay holds what it was made
//! of by itself, so containers outlive the process that mounted their layers.

use std::collections::HashMap;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use rustix::fs::{Mode, OFlags};

use super::mount_layer;
use crate::tree::{self, io};
use crate::LayerError;

/// The mounts of visible layers, by the layer's folder.
#[derive(Debug, Default)]
pub(super) struct Mounts {
    held: Mutex<HashMap<PathBuf, OwnedFd>>,
}

impl Mounts {
    fn lock(&self) -> MutexGuard<'_, HashMap<PathBuf, OwnedFd>> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The root of the layer in the folder `path`, as a path that holds as long as this value and the layer do.
    ///
    /// It names the descriptor by this process's id, since a supervisor reads it.
    pub fn shared(&self, path: &Path) -> Result<PathBuf, LayerError> {
        // Held while the layer is mounted, so that `forget` comes before or after the whole.
        let mut held = self.lock();
        let number = match held.get(path) {
            Some(mount) => mount.as_raw_fd(),
            None => {
                let folder = tree::open_root(path)?;
                let mount = mount_layer(folder.as_fd(), path)?;
                let number = mount.as_raw_fd();
                held.insert(path.to_path_buf(), mount);
                number
            }
        };
        Ok(format!("/proc/{}/fd/{number}", std::process::id()).into())
    }

    /// The root directory of the layer in the folder `path`, by its shared mount if it has one.
    pub fn open_root(&self, path: &Path) -> Result<OwnedFd, LayerError> {
        let open = |mount: BorrowedFd<'_>| {
            let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
            rustix::fs::openat(mount, ".", flags, Mode::empty()).map_err(|errno| io("openat", b".", errno))
        };
        if let Some(mount) = self.lock().get(path) {
            return Ok(open(mount.as_fd())?);
        }
        let folder = tree::open_root(path)?;
        Ok(open(mount_layer(folder.as_fd(), path)?.as_fd())?)
    }

    /// The layer that was in the folder `path` is gone: nothing of it is held here any more.
    pub fn forget(&self, path: &Path) {
        drop(self.lock().remove(path));
    }
}
