//! One blob on its way in: what is already there is hashed once, the rest is appended and hashed while written.

use std::collections::HashSet;
use std::fs::File;
use std::os::fd::AsFd;
use std::os::unix::fs::FileExt;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use errors::IoError;
use rustix::fs::OFlags;
use sys::writeback::Writeback;

use crate::files::Directory;
use crate::unnamed::UnnamedBlob;
use crate::{ContentError, Digest, Hasher};

/// The file with the bytes in a blob's ingest directory.
pub(crate) const DATA: &str = "data";
/// The file that marks `data` as whole and verified; holds the boot id of the kernel it was written under.
pub(crate) const COMPLETE: &str = "complete";
/// How long a waiting opener sleeps before it looks at its cancel flag again.
const CANCEL_POLL: Duration = Duration::from_millis(50);
/// Read size when bytes that are already there are hashed.
pub(crate) const HASH_BUFFER_BYTES: usize = 256 * 1024;

/// A blob below `ingest/`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IngestInfo {
    /// The digest that the blob will have.
    pub digest: Digest,
    /// How many bytes are there.
    pub offset_bytes: u64,
    /// True if they are all there and verified, so that `publish` will take the blob.
    pub is_complete: bool,
}

/// Which digests have a writer in this process.
#[derive(Debug, Default)]
pub(crate) struct Claims {
    held: Mutex<HashSet<Digest>>,
    released: Condvar,
}

/// The right to write one digest's ingest; given back when dropped.
#[derive(Debug)]
pub(crate) struct Claim {
    claims: Arc<Claims>,
    digest: Digest,
}

impl Claims {
    fn lock(&self) -> MutexGuard<'_, HashSet<Digest>> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until nobody else writes `digest`.
    pub fn take(
        self: &Arc<Self>,
        digest: &Digest,
        is_cancelled: &dyn Fn() -> bool,
    ) -> Result<Claim, ContentError> {
        let mut held = self.lock();
        while held.contains(digest) {
            if is_cancelled() {
                return Err(ContentError::Cancelled { subject: digest.to_string() });
            }
            held = self.released.wait_timeout(held, CANCEL_POLL).unwrap_or_else(PoisonError::into_inner).0;
        }
        held.insert(digest.clone());
        Ok(Claim { claims: Arc::clone(self), digest: digest.clone() })
    }

    /// Takes `digest` if nobody has it.
    pub fn try_take(self: &Arc<Self>, digest: &Digest) -> Option<Claim> {
        self.lock().insert(digest.clone()).then(|| Claim { claims: Arc::clone(self), digest: digest.clone() })
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        self.claims.lock().remove(&self.digest);
        self.claims.released.notify_all();
    }
}

/// A blob being written. No one else in this process can open it until this value is dropped; what was appended
/// stays behind for a later resume unless the bytes turned out to be wrong.
#[derive(Debug)]
pub struct Ingest {
    claim: Claim,
    expected_size_bytes: u64,
    directory: Directory,
    file: File,
    hasher: Hasher,
    hashed_bytes: u64,
    offset_bytes: u64,
    writeback: Writeback,
}

impl Ingest {
    pub(crate) fn open(
        claim: Claim,
        expected_size_bytes: u64,
        directory: Directory,
    ) -> Result<Self, ContentError> {
        // A marker left beside no data, or one of another boot, must not vouch for what is written now.
        directory.remove_file(COMPLETE)?;
        let file = directory.create_file(DATA, OFlags::empty())?;
        let offset_bytes = directory.file_size(DATA)?.unwrap_or(0);
        let hasher = Hasher::new(claim.digest.algorithm());
        let mut ingest = Self {
            claim,
            expected_size_bytes,
            directory,
            file,
            hasher,
            hashed_bytes: 0,
            offset_bytes,
            writeback: Writeback::default(),
        };
        if offset_bytes > expected_size_bytes {
            ingest.restart()?;
        }
        Ok(ingest)
    }

    /// The digest that the blob must have.
    pub fn digest(&self) -> &Digest {
        &self.claim.digest
    }

    /// How many bytes are there: where a download goes on.
    pub fn offset_bytes(&self) -> u64 {
        self.offset_bytes
    }

    /// The size that the blob must have.
    pub fn expected_size_bytes(&self) -> u64 {
        self.expected_size_bytes
    }

    fn error(&self, operation: &'static str, error: &std::io::Error) -> ContentError {
        IoError::from_std(operation, self.directory.join(DATA), error).into()
    }

    /// Hands over the next bytes of what was there when the ingest was opened, in order, and hashes them; 0 when all
    /// of them were handed over. A caller that feeds a decompressor calls this until 0, then appends. Blocking.
    ///
    /// # Errors
    /// `IO_FAILED` if the file cannot be read.
    pub fn replay(&mut self, buffer: &mut [u8]) -> Result<usize, ContentError> {
        let left = usize::try_from(self.offset_bytes - self.hashed_bytes).unwrap_or(usize::MAX);
        let wanted = left.min(buffer.len());
        if wanted == 0 {
            return Ok(0);
        }
        let read = self
            .file
            .read_at(&mut buffer[..wanted], self.hashed_bytes)
            .map_err(|e| self.error("pread", &e))?;
        if read == 0 {
            return Err(IoError::new("pread", self.directory.join(DATA), 0).into());
        }
        self.hasher.update(&buffer[..read]);
        self.hashed_bytes += read as u64;
        Ok(read)
    }

    fn replay_rest(&mut self) -> Result<(), ContentError> {
        if self.hashed_bytes == self.offset_bytes {
            return Ok(());
        }
        let mut buffer = vec![0; HASH_BUFFER_BYTES];
        while self.replay(&mut buffer)? > 0 {}
        Ok(())
    }

    /// `data` stands after what was there, and is part of the hash. Bytes that were not replayed yet are hashed
    /// first. Blocking.
    ///
    /// # Errors
    /// `SIZE_MISMATCH` if the blob would become longer than announced (nothing of `data` is written); `STORAGE_FULL`,
    /// `IO_FAILED` (what was written before the failure stays and is counted).
    pub fn append(&mut self, data: &[u8]) -> Result<(), ContentError> {
        let reached = self.offset_bytes + data.len() as u64;
        if reached > self.expected_size_bytes {
            return Err(self.wrong_size(reached));
        }
        self.replay_rest()?;
        let mut rest = data;
        while !rest.is_empty() {
            let written = match self.file.write_at(rest, self.offset_bytes) {
                Ok(written) => written,
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(self.error("pwrite", &error)),
            };
            self.hasher.update(&rest[..written]);
            self.offset_bytes += written as u64;
            self.hashed_bytes = self.offset_bytes;
            rest = &rest[written..];
        }
        self.writeback.advance(&self.file, self.offset_bytes);
        Ok(())
    }

    /// Nothing is there any more: for a server that ignored the asked range and sends from byte 0. Blocking.
    ///
    /// # Errors
    /// `IO_FAILED`.
    pub fn restart(&mut self) -> Result<(), ContentError> {
        self.file.set_len(0).map_err(|e| self.error("ftruncate", &e))?;
        self.offset_bytes = 0;
        self.hashed_bytes = 0;
        self.hasher = Hasher::new(self.claim.digest.algorithm());
        self.writeback = Writeback::default();
        Ok(())
    }

    fn wrong_size(&self, actual_bytes: u64) -> ContentError {
        ContentError::SizeMismatch {
            digest: self.digest().clone(),
            expected_bytes: self.expected_size_bytes,
            actual_bytes,
        }
    }

    /// The blob is whole, has its digest, and is staged for `publish`. Blocking.
    ///
    /// # Errors
    /// `SIZE_MISMATCH` if bytes are missing (they stay, to be resumed); `DIGEST_MISMATCH` if the bytes are not those
    /// of the digest (they are dropped: no resume could mend them); `STORAGE_FULL`, `IO_FAILED`.
    pub fn complete(mut self) -> Result<(), ContentError> {
        if self.offset_bytes != self.expected_size_bytes {
            return Err(self.wrong_size(self.offset_bytes));
        }
        self.replay_rest()?;
        let actual = self.hasher.clone().finish();
        if actual != *self.digest() {
            let error = ContentError::DigestMismatch {
                expected: self.digest().clone(),
                actual,
                size_bytes: self.offset_bytes,
            };
            self.restart()?;
            return Err(error);
        }
        sys::failpoint::hit("content.ingest.complete");
        mark_complete(&self.directory)
    }

    /// As [`complete`](Self::complete), with the bytes of `blob`, which were hashed as they were written and have this
    /// digest, in the place of what was there. Blocking.
    ///
    /// # Errors
    /// `STORAGE_FULL`, `IO_FAILED`.
    pub(crate) fn complete_with(self, blob: &UnnamedBlob) -> Result<(), ContentError> {
        self.directory.remove_file(DATA)?;
        self.directory.link(blob.as_fd(), DATA)?;
        sys::failpoint::hit("content.ingest.complete");
        mark_complete(&self.directory)
    }
}

/// Writes the marker that vouches for `data`.
fn mark_complete(directory: &Directory) -> Result<(), ContentError> {
    let marker = directory.create_file(COMPLETE, OFlags::TRUNC)?;
    marker
        .write_all_at(sys::boot::id()?.as_bytes(), 0)
        .map_err(|e| IoError::from_std("pwrite", directory.join(COMPLETE), &e))?;
    Ok(())
}

/// True if the marker is there and was written since this kernel booted.
pub(crate) fn is_complete(directory: &Directory) -> Result<bool, ContentError> {
    let Some(marker) = directory.open_file(COMPLETE)? else { return Ok(false) };
    let expected = sys::boot::id()?;
    let mut found = vec![0; expected.len() + 1];
    let read = marker
        .read_at(&mut found, 0)
        .map_err(|e| IoError::from_std("pread", directory.join(COMPLETE), &e))?;
    Ok(found[..read] == *expected.as_bytes())
}
