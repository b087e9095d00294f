//! The store kind `directory`, for every kernel: a layer is a tree of files that overlayfs takes as it is.
//!
//! ```text
//! <layer folder>/fs/    the tree: whiteouts are character devices 0:0, opaque directories carry
//!                       trusted.overlay.opaque=y
//! ```
//!
//! No path of an archive is ever resolved by the kernel: each component is opened by itself in the directory held by
//! fd before it, never through a link, and links inside the layer are followed by us, inside the root.

pub(crate) mod attributes;
mod journal;
mod links;
pub(crate) mod nodes;
mod settle;
mod walk;
mod writer;

use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::Mode;

use crate::port::{LayerWriter, Store};
use crate::stage::StageRequest;
use crate::tree::{self, io};
use crate::LayerError;

use writer::DirectoryWriter;

/// The tree's name in a layer's folder.
const TREE_NAME: &str = "fs";

/// Layers as directories.
#[derive(Debug)]
pub(crate) struct DirectoryStore;

impl Store for DirectoryStore {
    fn kind(&self) -> &'static str {
        "directory"
    }

    fn begin<'a>(
        &self,
        folder: BorrowedFd<'_>,
        path: &Path,
        request: &StageRequest<'a>,
        _kept: Option<BorrowedFd<'_>>,
    ) -> Result<Box<dyn LayerWriter + 'a>, LayerError> {
        let name = TREE_NAME.as_bytes();
        rustix::fs::mkdirat(folder, TREE_NAME, Mode::from_raw_mode(0o700))
            .map_err(|errno| io("mkdirat", name, errno))?;
        let root =
            tree::open_dir_readable(folder.as_fd(), name).map_err(|errno| io("openat", name, errno))?;
        let folder = folder.try_clone_to_owned().map_err(|e| errors::IoError::from_std("fcntl", path, &e))?;
        Ok(Box::new(DirectoryWriter::new(root, folder, path, request)))
    }

    fn has(&self, folder: BorrowedFd<'_>) -> Result<bool, LayerError> {
        let name = TREE_NAME.as_bytes();
        Ok(tree::stat(folder, name).map_err(|errno| io("fstatat", name, errno))?.is_some())
    }

    fn lower_path(&self, path: &Path) -> Result<PathBuf, LayerError> {
        Ok(path.join(TREE_NAME))
    }

    fn open_root(&self, path: &Path) -> Result<OwnedFd, LayerError> {
        Ok(tree::open_root(&path.join(TREE_NAME))?)
    }

    fn archive(&self, _folder: BorrowedFd<'_>) -> Result<Option<File>, LayerError> {
        Ok(None)
    }

    fn index(&self, _folder: BorrowedFd<'_>) -> Result<Option<File>, LayerError> {
        Ok(None)
    }

    fn forget(&self, _path: &Path) {}
}
