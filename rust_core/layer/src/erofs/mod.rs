//! The store kind `erofs`, for kernels that mount EROFS images from files: a layer is its archive as it came, and an
//! index that shows the archive's entries as files.
//!
//! ```text
//! <layer folder>/data.tar       the uncompressed archive to its end, byte for byte
//! <layer folder>/index.erofs    an EROFS image whose extra device is data.tar, in blocks of 512 bytes: whiteouts are
//!                               character devices 0:0, opaque directories carry trusted.overlay.opaque=y
//! ```
//!
//! No file is made for an entry and no name of an archive ever reaches the kernel as a path. What a layer has that the
//! archive does not hold on block boundaries (parts of sparse files, files taken over from lower layers) lies in the
//! index's own blocks. A layer that is settled against lower ones has an index of its own and shares the archive by a
//! hard link.

mod acl;
mod attributes;
mod data;
mod links;
mod mounts;
mod probe;
mod settle;
mod walk;
mod writer;

use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, Mode, OFlags};

use crate::port::{LayerWriter, Store};
use crate::stage::StageRequest;
use crate::tree::{io, stat};
use crate::{scratch, LayerError};

use mounts::Mounts;
use writer::ErofsWriter;

pub(crate) use probe::probe;

/// The archive's name in a layer's folder.
const DATA_NAME: &str = "data.tar";
/// The index's name.
const INDEX_NAME: &str = "index.erofs";

/// Layers as archives with an index; each is mounted once, when it is first used.
#[derive(Debug, Default)]
pub(crate) struct ErofsStore {
    mounts: Mounts,
}

/// Opens one of the two files for reading.
fn open(folder: BorrowedFd<'_>, name: &str) -> Result<OwnedFd, LayerError> {
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NOFOLLOW;
    Ok(rustix::fs::openat(folder, name, flags, Mode::empty())
        .map_err(|e| io("openat", name.as_bytes(), e))?)
}

impl Store for ErofsStore {
    fn kind(&self) -> &'static str {
        "erofs"
    }

    fn has(&self, folder: BorrowedFd<'_>) -> Result<bool, LayerError> {
        let name = INDEX_NAME.as_bytes();
        Ok(stat(folder, name).map_err(|errno| io("fstatat", name, errno))?.is_some())
    }

    fn begin<'a>(
        &self,
        folder: BorrowedFd<'_>,
        path: &Path,
        request: &StageRequest<'a>,
        kept: Option<BorrowedFd<'_>>,
    ) -> Result<Box<dyn LayerWriter + 'a>, LayerError> {
        let (data, is_new) = match kept {
            None => (scratch::create(folder, DATA_NAME)?, true),
            Some(other) => {
                rustix::fs::linkat(other, DATA_NAME, folder, DATA_NAME, AtFlags::empty())
                    .map_err(|errno| io("linkat", DATA_NAME.as_bytes(), errno))?;
                (File::from(open(folder, DATA_NAME)?), false)
            }
        };
        let (index, records) = (scratch::create(folder, INDEX_NAME)?, scratch::unnamed(folder)?);
        Ok(Box::new(ErofsWriter::new(path, data, is_new, index, records, request)?))
    }

    fn lower_path(&self, path: &Path) -> Result<PathBuf, LayerError> {
        self.mounts.shared(path)
    }

    fn open_root(&self, path: &Path) -> Result<OwnedFd, LayerError> {
        self.mounts.open_root(path)
    }

    fn archive(&self, folder: BorrowedFd<'_>) -> Result<Option<File>, LayerError> {
        Ok(Some(File::from(open(folder, DATA_NAME)?)))
    }

    fn index(&self, folder: BorrowedFd<'_>) -> Result<Option<File>, LayerError> {
        Ok(Some(File::from(open(folder, INDEX_NAME)?)))
    }

    fn forget(&self, path: &Path) {
        self.mounts.forget(path);
    }
}

/// Where a kernel shows its SELinux, as far as it has any.
const SELINUX: &str = "/sys/fs/selinux/enforce";

/// A detached mount of the layer whose folder is open. On a host with SELinux its files all have the label that the
/// image has on disk, as the files of a layer that is a directory have theirs on disk: programs are mapped into memory
/// from a layer itself, whatever label the overlay over it shows.
fn mount_layer(folder: BorrowedFd<'_>, path: &Path) -> Result<OwnedFd, LayerError> {
    let (index, data) = (open(folder, INDEX_NAME)?, open(folder, DATA_NAME)?);
    // Overlayfs looks at the flags of its own mount only; these are for whoever should get at this one.
    let attributes = ::mount::Attributes { no_suid: true, no_dev: true, ..::mount::Attributes::default() };
    let label = label_of(index.as_fd()).map_err(|errno| io("fgetxattr", INDEX_NAME.as_bytes(), errno))?;
    ::mount::erofs_detached(index.as_fd(), &[data.as_fd()], attributes, &label)
        .map_err(|error| LayerError::Mount { path: path.to_path_buf(), error })
}

/// The SELinux label of an open file; empty without one, and where the kernel asks for none.
fn label_of(file: BorrowedFd<'_>) -> Result<String, rustix::io::Errno> {
    if !Path::new(SELINUX).exists() {
        return Ok(String::new());
    }
    let label = crate::xattr::get(file, "security.selinux")?.unwrap_or_default();
    Ok(String::from_utf8_lossy(&label).trim_end_matches('\0').to_owned())
}
