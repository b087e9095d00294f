//! Making files, links and devices in the current directory, replacing what has their name.

use std::fs::File;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::FileExt;

use errors::IoError;
use rustix::fs::{AtFlags, Dev, FileType, Mode, OFlags};
use rustix::io::Errno;
use sys::writeback::Writeback;

use super::attributes::Attributes;
use super::walk::path_in;
use super::writer::DirectoryWriter;
use crate::tree::{self, file_type};
use crate::{EntryData, EntryKind, Extent, LayerError};

impl DirectoryWriter<'_> {
    /// The name is free in the current directory: a file is unlinked, a directory goes with all in it (X28, X29).
    pub(super) fn clear(&mut self, name: &[u8]) -> Result<(), LayerError> {
        let status =
            tree::stat(self.here(), name).map_err(|errno| self.call_error("fstatat", name, errno))?;
        let Some(status) = status else { return Ok(()) };
        if file_type(&status) != FileType::Directory {
            self.ledger.uncount_size(last_link_size(&status));
            return rustix::fs::unlinkat(self.here(), name, AtFlags::empty())
                .map_err(|errno| self.call_error("unlinkat", name, errno));
        }
        let mut freed = 0;
        tree::remove_seen(self.here(), name, &mut |parent, name| {
            if let Some(status) =
                tree::stat(parent, name).map_err(|errno| tree::io("fstatat", name, errno))?
            {
                freed += last_link_size(&status);
            }
            Ok(())
        })?;
        self.ledger.uncount_size(freed);
        let path = self.path_here(name);
        self.forget(&path)
    }

    /// Does `make` in the current directory, once more after clearing the name if it is taken.
    pub(super) fn replacing<T>(
        &mut self,
        operation: &'static str,
        name: &[u8],
        make: impl Fn(&Self) -> Result<T, Errno>,
    ) -> Result<T, LayerError> {
        match make(self) {
            Ok(made) => Ok(made),
            Err(Errno::EXIST) => {
                self.clear(name)?;
                make(self).map_err(|errno| self.call_error(operation, name, errno))
            }
            Err(errno) => Err(self.call_error(operation, name, errno)),
        }
    }

    fn create(&mut self, name: &[u8]) -> Result<OwnedFd, LayerError> {
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC | OFlags::NOFOLLOW;
        let mode = Mode::from_raw_mode(0o600);
        self.replacing("openat", name, |writer| rustix::fs::openat(writer.here(), name, flags, mode))
    }

    /// The regular file `name` has the bytes of `data`.
    pub(super) fn make_file(
        &mut self,
        name: &[u8],
        size_bytes: u64,
        extents: Option<&[Extent]>,
        attributes: &Attributes,
        data: &mut dyn EntryData,
    ) -> Result<(), LayerError> {
        let file = File::from(self.create(name)?);
        self.ledger.count_size(size_bytes, || path_in(&self.levels, name))?;
        let failed = |writer: &Self, operation, error: &std::io::Error| -> LayerError {
            let errno = Errno::from_raw_os_error(error.raw_os_error().unwrap_or(0));
            writer.call_error(operation, name, errno)
        };
        write_data(&file, size_bytes, extents, data, &|operation, error| failed(self, operation, error))?;
        attributes.set(file.as_fd(), self.maker).map_err(|failure| self.attribute_error(name, failure))
    }

    /// The regular file `name` is a copy of the open file `source` of a lower layer.
    pub(super) fn copy_file(
        &mut self,
        name: &[u8],
        source: OwnedFd,
        size_bytes: u64,
        attributes: &Attributes,
    ) -> Result<(), LayerError> {
        let mut file = File::from(self.create(name)?);
        self.ledger.count_size(size_bytes, || path_in(&self.levels, name))?;
        let path = tree::bytes_path(&self.path_here(name));
        std::io::copy(&mut File::from(source), &mut file).map_err(|e| IoError::from_std("copy", path, &e))?;
        attributes.set(file.as_fd(), self.maker).map_err(|failure| self.attribute_error(name, failure))
    }

    /// The link, device or pipe `name` is there.
    pub(super) fn make_node(
        &mut self,
        name: &[u8],
        kind: &EntryKind,
        attributes: &Attributes,
    ) -> Result<(), LayerError> {
        match kind {
            EntryKind::Symlink { target } => self.make_symlink(name, target)?,
            EntryKind::CharDevice { major, minor } => {
                self.mknod(name, FileType::CharacterDevice, rustix::fs::makedev(*major, *minor))?;
            }
            EntryKind::BlockDevice { major, minor } => {
                self.mknod(name, FileType::BlockDevice, rustix::fs::makedev(*major, *minor))?;
            }
            EntryKind::Fifo => self.mknod(name, FileType::Fifo, 0)?,
            EntryKind::Directory
            | EntryKind::File { .. }
            | EntryKind::Hardlink { .. }
            | EntryKind::Whiteout
            | EntryKind::Opaque => unreachable!("apply takes these kinds elsewhere"),
        }
        let is_link = matches!(kind, EntryKind::Symlink { .. });
        attributes.set_at(self.here(), name, is_link).map_err(|failure| self.attribute_error(name, failure))
    }

    pub(super) fn make_symlink(&mut self, name: &[u8], target: &[u8]) -> Result<(), LayerError> {
        self.replacing("symlinkat", name, |writer| rustix::fs::symlinkat(target, writer.here(), name))
    }

    pub(super) fn mknod(&mut self, name: &[u8], kind: FileType, device: Dev) -> Result<(), LayerError> {
        let mode = Mode::from_raw_mode(0o600);
        self.replacing("mknodat", name, |writer| rustix::fs::mknodat(writer.here(), name, kind, mode, device))
    }
}

/// The size that goes with the last name of a regular file.
fn last_link_size(status: &rustix::fs::Stat) -> u64 {
    let is_last = file_type(status) == FileType::RegularFile && status.st_nlink == 1;
    if is_last {
        u64::try_from(status.st_size).unwrap_or(0)
    } else {
        0
    }
}

/// The new file has the bytes of `data`, and is `size_bytes` long; where `extents` have none, it has holes.
pub(crate) fn write_data(
    file: &File,
    size_bytes: u64,
    extents: Option<&[Extent]>,
    data: &mut dyn EntryData,
    failed: &dyn Fn(&'static str, &std::io::Error) -> LayerError,
) -> Result<(), LayerError> {
    let Some(extents) = extents else {
        let (mut writeback, mut written_bytes) = (Writeback::default(), 0);
        loop {
            let chunk = data.chunk()?;
            if chunk.is_empty() {
                return Ok(());
            }
            std::io::Write::write_all(&mut &*file, chunk).map_err(|e| failed("write", &e))?;
            let len = chunk.len();
            written_bytes += len as u64;
            writeback.advance(file, written_bytes);
            data.consume(len);
        }
    };
    for extent in extents {
        write_extent(file, *extent, data, |e| failed("pwrite", e))?;
    }
    file.set_len(size_bytes).map_err(|e| failed("ftruncate", &e))
}

fn write_extent(
    file: &File,
    extent: Extent,
    data: &mut dyn EntryData,
    failed: impl Fn(&std::io::Error) -> LayerError,
) -> Result<(), LayerError> {
    let (mut offset, mut left) = (extent.offset_bytes, extent.size_bytes);
    while left > 0 {
        let chunk = data.chunk()?;
        // The reader has checked that the extents take exactly the data there is.
        let len = usize::try_from(left).unwrap_or(usize::MAX).min(chunk.len());
        file.write_all_at(&chunk[..len], offset).map_err(|e| failed(&e))?;
        data.consume(len);
        (offset, left) = (offset + len as u64, left - len as u64);
    }
    Ok(())
}
