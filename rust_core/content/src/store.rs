//! The store itself: staging, publishing, reading and removing blobs.

use std::fs::File;
use std::io::Read;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use errors::IoError;
use rustix::fs::OFlags;

use crate::files::Directory;
use crate::ingest::{is_complete, Claims, Ingest, IngestInfo, COMPLETE, DATA, HASH_BUFFER_BYTES};
use crate::{Algorithm, ContentError, Digest, Hasher};

/// The largest blob that `stage_bytes` takes: manifests and configs, never layers.
pub const STAGED_BYTES_MAX: u64 = 32 * 1024 * 1024;
/// The largest `index.json` that is written.
pub const INDEX_MAX_BYTES: u64 = 64 * 1024 * 1024;

const LAYOUT: &[u8] = br#"{"imageLayoutVersion":"1.0.0"}"#;
const EMPTY_INDEX: &[u8] =
    br#"{"schemaVersion":2,"mediaType":"application/vnd.oci.image.index.v1+json","manifests":[]}"#;
const LAYOUT_NAME: &str = "oci-layout";
const INDEX_NAME: &str = "index.json";
const INDEX_STAGED_NAME: &str = ".index.json.staged";

/// A visible blob.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BlobInfo {
    /// Its digest.
    pub digest: Digest,
    /// Its size.
    pub size_bytes: u64,
}

/// An open blob, whole, visible or staged. Its bytes were verified when it was stored, not again now.
#[derive(Debug)]
pub struct Blob {
    /// Open for reading at offset 0, close-on-exec; stays readable if the blob is published or deleted meanwhile.
    pub file: File,
    /// Its size.
    pub size_bytes: u64,
}

/// What `open_ingest` found.
#[derive(Debug)]
pub enum OpenedIngest {
    /// The blob is whole already, visible or staged; nothing is to be fetched.
    Present {
        /// Its size.
        size_bytes: u64,
    },
    /// The caller is the only writer and goes on at the ingest's offset.
    Writing(Ingest),
}

/// A content store. Safe to share between threads.
#[derive(Debug)]
pub struct ContentStore {
    layout: Directory,
    blobs: Directory,
    ingests: Directory,
    claims: Arc<Claims>,
    index_lock: Mutex<()>,
    publish_lock: Mutex<()>,
    root: PathBuf,
}

impl ContentStore {
    /// Opens the store below `data_root`; makes `content/oci-layout`, `content/index.json`, `content/blobs/sha256`
    /// and `ingest/` where absent (mode 0700). Blocking.
    ///
    /// # Errors
    /// `IO_FAILED`, `STORAGE_FULL`.
    pub fn open(data_root: &Path) -> Result<Self, ContentError> {
        let root = Directory::open_path(data_root)?;
        let layout = root.make_dir("content")?;
        let blobs = layout.make_dir("blobs")?;
        blobs.make_dir(Algorithm::Sha256.name())?;
        let ingests = root.make_dir("ingest")?;
        let store = Self {
            layout,
            blobs,
            ingests,
            claims: Arc::default(),
            index_lock: Mutex::new(()),
            publish_lock: Mutex::new(()),
            root: data_root.to_path_buf(),
        };
        for (name, data) in [(INDEX_NAME, EMPTY_INDEX), (LAYOUT_NAME, LAYOUT)] {
            if store.layout.file_size(name)?.is_none() {
                store.replace_file(name, data)?;
            }
        }
        Ok(store)
    }

    /// The data root that the store was opened with.
    pub fn data_root(&self) -> &Path {
        &self.root
    }

    fn blob_dir(&self, algorithm: Algorithm) -> Result<Option<Directory>, ContentError> {
        Ok(self.blobs.open_dir(algorithm.name())?)
    }

    /// Opens a blob that is whole: visible, or staged and verified. Blocking.
    ///
    /// # Errors
    /// `BLOB_NOT_FOUND`, `IO_FAILED`.
    pub fn open_blob(&self, digest: &Digest) -> Result<Blob, ContentError> {
        self.find(digest)?.ok_or_else(|| ContentError::BlobNotFound { digest: digest.clone() })
    }

    fn find(&self, digest: &Digest) -> Result<Option<Blob>, ContentError> {
        if let Some(blob) = self.find_visible(digest)? {
            return Ok(Some(blob));
        }
        if let Some(directory) = self.ingests.open_dir(digest.hex())? {
            if is_complete(&directory)? {
                if let Some(file) = directory.open_file(DATA)? {
                    return Ok(Some(blob_of(file, directory.join(DATA))?));
                }
            }
        }
        // Published between the two looks: the rename leaves no moment without the blob in one place or the other.
        self.find_visible(digest)
    }

    fn find_visible(&self, digest: &Digest) -> Result<Option<Blob>, ContentError> {
        let Some(directory) = self.blob_dir(digest.algorithm())? else { return Ok(None) };
        match directory.open_file(digest.hex())? {
            Some(file) => Ok(Some(blob_of(file, directory.join(digest.hex()))?)),
            None => Ok(None),
        }
    }

    /// Opens the ingest of `digest` for writing, or tells that the blob is whole already. Waits while another thread
    /// writes the same digest, looking at `is_cancelled` meanwhile; so of any number of callers one fetches and the
    /// others find the blob present. Blocking.
    ///
    /// # Errors
    /// `CANCELLED`, `STORAGE_FULL`, `IO_FAILED`.
    pub fn open_ingest(
        &self,
        digest: &Digest,
        expected_size_bytes: u64,
        is_cancelled: &dyn Fn() -> bool,
    ) -> Result<OpenedIngest, ContentError> {
        let claim = self.claims.take(digest, is_cancelled)?;
        if let Some(blob) = self.find(digest)? {
            return Ok(OpenedIngest::Present { size_bytes: blob.size_bytes });
        }
        sys::failpoint::hit("content.ingest.open");
        let directory = self.ingests.make_dir(digest.hex())?;
        Ok(OpenedIngest::Writing(Ingest::open(claim, expected_size_bytes, directory)?))
    }

    /// `data` is staged under its SHA-256 digest, or under `expected` if that is given, verified and not yet visible;
    /// a blob that is whole already is left alone. Returns the digest. Blocking.
    ///
    /// # Errors
    /// `DIGEST_MISMATCH` if `data` has not the digest `expected`; `LIMIT_EXCEEDED` (`staged_bytes_max`);
    /// `STORAGE_FULL`, `IO_FAILED`.
    pub fn stage_bytes(&self, data: &[u8], expected: Option<&Digest>) -> Result<Digest, ContentError> {
        let size_bytes = data.len() as u64;
        let subject = || expected.map_or_else(|| "staged bytes".to_owned(), Digest::to_string);
        check_limit("staged_bytes_max", STAGED_BYTES_MAX, size_bytes, subject)?;
        let algorithm = expected.map_or(Algorithm::Sha256, Digest::algorithm);
        let actual = Digest::of(algorithm, data);
        if let Some(expected) = expected.filter(|expected| **expected != actual) {
            return Err(ContentError::DigestMismatch { expected: expected.clone(), actual, size_bytes });
        }
        match self.open_ingest(&actual, size_bytes, &|| false)? {
            OpenedIngest::Present { .. } => {}
            OpenedIngest::Writing(mut ingest) => {
                ingest.restart()?;
                ingest.append(data)?;
                ingest.complete()?;
            }
        }
        Ok(actual)
    }

    /// Every blob of `digests` is visible and durable: one sync of the file system, then one rename each. Blobs that
    /// are visible already are skipped; if all are, nothing is synced. Idempotent. Durable. Blocking.
    ///
    /// # Errors
    /// `BLOB_NOT_FOUND` for one that is neither staged nor visible, before anything is made visible; `IO_FAILED`,
    /// `STORAGE_FULL`: some may be visible then, and a retry does the rest.
    pub fn publish(&self, digests: &[Digest]) -> Result<(), ContentError> {
        // One at a time: what is visible to the next is durable too.
        let _lock = self.publish_lock.lock().unwrap_or_else(PoisonError::into_inner);
        let mut staged = Vec::new();
        for digest in digests {
            if self.find_visible(digest)?.is_none() {
                staged.push((digest, self.staged_dir(digest)?));
            }
        }
        if staged.is_empty() {
            return Ok(());
        }
        sys::failpoint::hit("content.publish.sync");
        self.ingests.sync_file_system()?;
        for (digest, directory) in &staged {
            let target = self.blobs.make_dir(digest.algorithm().name())?;
            sys::failpoint::hit("content.publish.rename");
            if let Err(error) = directory.rename_to(DATA, &target, digest.hex()) {
                // It stands twice in `digests`.
                if self.find_visible(digest)?.is_none() {
                    return Err(error.into());
                }
            }
            directory.remove_file(COMPLETE)?;
            self.ingests.remove_dir(digest.hex())?;
        }
        for algorithm in Algorithm::ALL {
            if staged.iter().any(|(digest, _)| digest.algorithm() == algorithm) {
                self.blobs.make_dir(algorithm.name())?.sync()?;
            }
        }
        Ok(self.blobs.sync()?)
    }

    /// The blob that `from`, a store of the same file system, has staged is the visible one here, whatever was visible
    /// before, by one rename that leaves no moment without a blob. Durable. Blocking.
    ///
    /// # Errors
    /// `BLOB_NOT_FOUND` if `from` has it not; `IO_FAILED`, `STORAGE_FULL`.
    pub fn replace(&self, digest: &Digest, from: &Self) -> Result<(), ContentError> {
        let staged = from.staged_dir(digest)?;
        sys::failpoint::hit("content.replace.sync");
        from.ingests.sync_file_system()?;
        let target = self.blobs.make_dir(digest.algorithm().name())?;
        sys::failpoint::hit("content.replace.rename");
        staged.rename_to(DATA, &target, digest.hex())?;
        target.sync()?;
        staged.remove_file(COMPLETE)?;
        from.ingests.remove_dir(digest.hex())?;
        Ok(())
    }

    /// The ingest directory of a staged blob. A blob marked complete before the last boot is hashed again first.
    fn staged_dir(&self, digest: &Digest) -> Result<Directory, ContentError> {
        let not_found = || ContentError::BlobNotFound { digest: digest.clone() };
        let directory = self.ingests.open_dir(digest.hex())?.ok_or_else(not_found)?;
        if !is_complete(&directory)? {
            if directory.file_size(COMPLETE)?.is_none() {
                return Err(not_found());
            }
            let size_bytes = directory.file_size(DATA)?.ok_or_else(not_found)?;
            let claim = self.claims.try_take(digest).ok_or_else(not_found)?;
            let again = self.ingests.open_dir(digest.hex())?.ok_or_else(not_found)?;
            Ingest::open(claim, size_bytes, again)?.complete()?;
        }
        if directory.file_size(DATA)?.is_none() {
            return Err(not_found());
        }
        Ok(directory)
    }

    /// A blob's bytes, verified while read; staged blobs are found too. Blocking.
    ///
    /// # Errors
    /// `BLOB_NOT_FOUND`; `LIMIT_EXCEEDED` (`max_size_bytes`) before anything is read; `DIGEST_MISMATCH` if the bytes
    /// on disk changed; `IO_FAILED`.
    pub fn read(&self, digest: &Digest, max_size_bytes: u64) -> Result<Vec<u8>, ContentError> {
        let blob = self.open_blob(digest)?;
        check_limit("max_size_bytes", max_size_bytes, blob.size_bytes, || digest.to_string())?;
        let mut data = Vec::with_capacity(usize::try_from(blob.size_bytes).unwrap_or(0));
        blob.file
            .take(blob.size_bytes)
            .read_to_end(&mut data)
            .map_err(|e| IoError::from_std("read", digest.hex(), &e))?;
        let actual = Digest::of(digest.algorithm(), &data);
        if actual != *digest {
            let size_bytes = data.len() as u64;
            return Err(ContentError::DigestMismatch { expected: digest.clone(), actual, size_bytes });
        }
        Ok(data)
    }

    /// A visible blob, or `None`. Blocking (one stat).
    ///
    /// # Errors
    /// `IO_FAILED`.
    pub fn stat(&self, digest: &Digest) -> Result<Option<BlobInfo>, ContentError> {
        let Some(directory) = self.blob_dir(digest.algorithm())? else { return Ok(None) };
        let size = directory.file_size(digest.hex())?;
        Ok(size.map(|size_bytes| BlobInfo { digest: digest.clone(), size_bytes }))
    }

    /// All visible blobs, no order. Names that are no digest are not listed. Blocking.
    ///
    /// # Errors
    /// `IO_FAILED`.
    pub fn list(&self) -> Result<Vec<BlobInfo>, ContentError> {
        let mut blobs = Vec::new();
        for algorithm in Algorithm::ALL {
            let Some(directory) = self.blob_dir(algorithm)? else { continue };
            for name in directory.names()? {
                let Ok(digest) = Digest::from_hex(&name) else { continue };
                if digest.algorithm() == algorithm {
                    if let Some(size_bytes) = directory.file_size(&name)? {
                        blobs.push(BlobInfo { digest, size_bytes });
                    }
                }
            }
        }
        Ok(blobs)
    }

    /// The blob is not visible any more; returns the bytes freed, 0 if it was absent. Idempotent. Blocking.
    ///
    /// # Errors
    /// `IO_FAILED`.
    pub fn delete(&self, digest: &Digest) -> Result<u64, ContentError> {
        let Some(directory) = self.blob_dir(digest.algorithm())? else { return Ok(0) };
        let size = directory.file_size(digest.hex())?.unwrap_or(0);
        sys::failpoint::hit("content.delete");
        Ok(if directory.remove_file(digest.hex())? { size } else { 0 })
    }

    /// Partial and staged blobs, no order. Blocking.
    ///
    /// # Errors
    /// `IO_FAILED`.
    pub fn list_ingests(&self) -> Result<Vec<IngestInfo>, ContentError> {
        let mut ingests = Vec::new();
        for name in self.ingests.names()? {
            let Ok(digest) = Digest::from_hex(&name) else { continue };
            let Some(directory) = self.ingests.open_dir(&name)? else { continue };
            let offset = directory.file_size(DATA)?;
            let is_complete = offset.is_some() && is_complete(&directory)?;
            ingests.push(IngestInfo { digest, offset_bytes: offset.unwrap_or(0), is_complete });
        }
        Ok(ingests)
    }

    /// The partial or staged blob is gone, unless a thread of this process writes it right now: that one is left
    /// alone. Idempotent. Blocking.
    ///
    /// # Errors
    /// `IO_FAILED`.
    pub fn delete_ingest(&self, digest: &Digest) -> Result<(), ContentError> {
        let Some(_claim) = self.claims.try_take(digest) else { return Ok(()) };
        let Some(directory) = self.ingests.open_dir(digest.hex())? else { return Ok(()) };
        sys::failpoint::hit("content.ingest.delete");
        // The marker first: data without it is partial, while a marker without data would be a lie.
        directory.remove_file(COMPLETE)?;
        directory.remove_file(DATA)?;
        self.ingests.remove_dir(digest.hex())?;
        Ok(())
    }

    /// `content/index.json` is `data`, replaced atomically. Durable. Blocking.
    ///
    /// # Errors
    /// `LIMIT_EXCEEDED` (`index_max_bytes`), `STORAGE_FULL`, `IO_FAILED`; the old index stands then.
    pub fn write_index(&self, data: &[u8]) -> Result<(), ContentError> {
        check_limit("index_max_bytes", INDEX_MAX_BYTES, data.len() as u64, || INDEX_NAME.to_owned())?;
        let _guard = self.index_lock.lock().unwrap_or_else(PoisonError::into_inner);
        self.replace_file(INDEX_NAME, data)
    }

    /// `content/oci-layout` is what it was made as, replaced atomically. Durable. Blocking.
    ///
    /// # Errors
    /// `STORAGE_FULL`, `IO_FAILED`.
    pub fn write_layout(&self) -> Result<(), ContentError> {
        let _guard = self.index_lock.lock().unwrap_or_else(PoisonError::into_inner);
        self.replace_file(LAYOUT_NAME, LAYOUT)
    }

    fn replace_file(&self, name: &str, data: &[u8]) -> Result<(), ContentError> {
        let path = self.layout.join(INDEX_STAGED_NAME);
        let file = self.layout.create_file(INDEX_STAGED_NAME, OFlags::TRUNC)?;
        file.write_all_at(data, 0).map_err(|e| IoError::from_std("pwrite", &path, &e))?;
        file.sync_all().map_err(|e| IoError::from_std("fsync", &path, &e))?;
        sys::failpoint::hit("content.index.rename");
        self.layout.rename_to(INDEX_STAGED_NAME, &self.layout, name)?;
        Ok(self.layout.sync()?)
    }

    /// Whether a visible blob still has its digest. Blocking (reads it whole).
    ///
    /// # Errors
    /// `BLOB_NOT_FOUND`, `IO_FAILED`.
    pub fn verify(&self, digest: &Digest) -> Result<bool, ContentError> {
        let blob = self
            .find_visible(digest)?
            .ok_or_else(|| ContentError::BlobNotFound { digest: digest.clone() })?;
        let mut hasher = Hasher::new(digest.algorithm());
        let mut buffer = vec![0; HASH_BUFFER_BYTES];
        let mut file = blob.file;
        loop {
            match file.read(&mut buffer) {
                Ok(0) => return Ok(hasher.finish() == *digest),
                Ok(read) => hasher.update(&buffer[..read]),
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                Err(error) => return Err(IoError::from_std("read", digest.hex(), &error).into()),
            }
        }
    }
}

fn blob_of(file: File, path: PathBuf) -> Result<Blob, ContentError> {
    let size_bytes = file.metadata().map_err(|e| IoError::from_std("fstat", path, &e))?.len();
    Ok(Blob { file, size_bytes })
}

fn check_limit(
    limit: &'static str,
    limit_value: u64,
    actual: u64,
    subject: impl FnOnce() -> String,
) -> Result<(), ContentError> {
    if actual > limit_value {
        return Err(ContentError::LimitExceeded { limit, limit_value, actual, subject: subject() });
    }
    Ok(())
}
