//! A compressed blob that was lost, made again of the layer that was unpacked from it.

use std::os::fd::BorrowedFd;

use content::{ContentError, ContentStore, Digest, UnnamedBlob};
use errors::IoError;
use layer::{LayerError, TarSource};
use sys::cancel::CancelToken;

use crate::packer::Packer;
use crate::packing::Packing;
use crate::IngestError;

/// Read size of the tar.
const BUFFER_BYTES: usize = 256 * 1024;

/// An uncompressed archive in a file, from its first byte.
#[derive(Debug)]
pub struct ArchiveFile<'fd> {
    fd: BorrowedFd<'fd>,
    at: u64,
}

impl<'fd> ArchiveFile<'fd> {
    /// Of a regular file that is open for reading; its offset is neither used nor moved.
    pub fn new(fd: BorrowedFd<'fd>) -> Self {
        Self { fd, at: 0 }
    }
}

impl TarSource for ArchiveFile<'_> {
    fn read(&mut self, buffer: &mut [u8], is_cancelled: &dyn Fn() -> bool) -> Result<usize, LayerError> {
        if is_cancelled() {
            return Err(LayerError::Cancelled { subject: "an archive".into() });
        }
        let count = rustix::io::retry_on_intr(|| rustix::io::pread(self.fd, &mut *buffer, self.at))
            .map_err(|errno| IoError::new("pread", "archive", errno.raw_os_error()))?;
        self.at += count as u64;
        Ok(count)
    }
}

/// The blob `digest` is staged, or visible already: `tar` compressed as [`store_changes`](crate::store_changes) does it with
/// that packing.
/// What other engines have compressed comes out as other bytes: that is found, and nothing stays of it. It is given up
/// as soon as there are more than `size_bytes`. Blocking (reads and compresses on all processors).
///
/// # Errors
/// `DIGEST_MISMATCH` where it becomes another blob; what [`TarSource::read`] says; `STORAGE_FULL`, `IO_FAILED`,
/// `CANCELLED`.
pub fn compress_archive(
    tar: &mut dyn TarSource,
    packing: Packing,
    digest: &Digest,
    size_bytes: u64,
    content: &ContentStore,
    cancel: &CancelToken,
) -> Result<(), IngestError> {
    let is_cancelled = || cancel.is_cancelled();
    let mut blob = UnnamedBlob::begin(content)?;
    let mut packer = Packer::new(packing);
    let mut sink = |bytes: &[u8]| {
        blob.append(bytes)?;
        if blob.size_bytes() > size_bytes {
            return Err(mismatch(&blob, digest));
        }
        Ok(())
    };
    let mut buffer = vec![0; BUFFER_BYTES];
    loop {
        let count = tar.read(&mut buffer, &is_cancelled)?;
        if count == 0 {
            break;
        }
        packer.write(&buffer[..count], &mut sink)?;
    }
    packer.finish(&mut sink)?;
    if blob.digest() != *digest {
        return Err(mismatch(&blob, digest));
    }
    blob.stage(content, &is_cancelled)?;
    Ok(())
}

fn mismatch(blob: &UnnamedBlob, digest: &Digest) -> IngestError {
    let (expected, actual, size_bytes) = (digest.clone(), blob.digest(), blob.size_bytes());
    ContentError::DigestMismatch { expected, actual, size_bytes }.into()
}
