//! A blob whose digest is known only once it is written: it has no name until then, so that no crash leaves it.

use std::fs::File;
use std::io::Write;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::Path;

use errors::IoError;
use rustix::fs::{Mode, OFlags};

use crate::{Algorithm, ContentError, ContentStore, Digest, Hasher, OpenedIngest};

/// Bytes on their way into a store, hashed as they come. Dropped before [`stage`](Self::stage) they are gone.
#[derive(Debug)]
pub struct UnnamedBlob {
    file: File,
    hasher: Hasher,
    size_bytes: u64,
}

/// A blob that has got its name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StagedBlob {
    /// Its digest.
    pub digest: Digest,
    /// Its size.
    pub size_bytes: u64,
    /// False if it was there already, staged or visible.
    pub is_new: bool,
}

impl UnnamedBlob {
    /// A file without a name on the file system of `store`. Blocking.
    ///
    /// # Errors
    /// `IO_FAILED`, `STORAGE_FULL`.
    pub fn begin(store: &ContentStore) -> Result<Self, ContentError> {
        let directory = store.data_root().join("ingest");
        let flags = OFlags::TMPFILE | OFlags::RDWR | OFlags::CLOEXEC;
        let file = rustix::fs::open(&directory, flags, Mode::from_raw_mode(0o600))
            .map_err(|errno| failed("open", &directory, errno.raw_os_error()))?;
        Ok(Self { file: File::from(file), hasher: Hasher::new(Algorithm::Sha256), size_bytes: 0 })
    }

    /// `data` stands after what was there. Blocking.
    ///
    /// # Errors
    /// `STORAGE_FULL`, `IO_FAILED`: the blob is of no use then.
    pub fn append(&mut self, data: &[u8]) -> Result<(), ContentError> {
        self.file.write_all(data).map_err(|error| IoError::from_std("write", "ingest", &error))?;
        self.hasher.update(data);
        self.size_bytes += data.len() as u64;
        Ok(())
    }

    /// The blob is whole and staged for `publish` under its digest; or it was there already, staged or visible.
    /// Waits while another thread writes the same digest. Blocking.
    ///
    /// # Errors
    /// `CANCELLED`, `STORAGE_FULL`, `IO_FAILED`.
    pub fn stage(
        self,
        store: &ContentStore,
        is_cancelled: &dyn Fn() -> bool,
    ) -> Result<StagedBlob, ContentError> {
        let digest = self.digest();
        let is_new = match store.open_ingest(&digest, self.size_bytes, is_cancelled)? {
            OpenedIngest::Present { .. } => false,
            OpenedIngest::Writing(ingest) => {
                sys::failpoint::hit("content.unnamed.stage");
                ingest.complete_with(&self)?;
                true
            }
        };
        Ok(StagedBlob { digest, size_bytes: self.size_bytes, is_new })
    }

    /// The digest of what it holds by now.
    pub fn digest(&self) -> Digest {
        self.hasher.clone().finish()
    }

    /// How long it is.
    pub fn size_bytes(&self) -> u64 {
        self.size_bytes
    }
}

impl AsFd for UnnamedBlob {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

fn failed(operation: &'static str, path: &Path, errno: i32) -> ContentError {
    IoError::new(operation, path, errno).into()
}
