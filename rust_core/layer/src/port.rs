//! The port behind which the ways to keep a layer stand: what a store kind must do, and nothing about how.

use std::fmt::Debug;
use std::fs::File;
use std::io::Write;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use content::Digest;
use errors::IoError;
use sys::writeback::Writeback;

use crate::stage::StageRequest;
use crate::{Entry, EntryData, Facts, LayerError};

/// A way to keep layers. [`LayerStore`](crate::LayerStore) gives each layer a folder of its own, names, stages,
/// publishes and removes those folders and writes `meta.json`; a store kind decides what else lies in a folder.
pub trait Store: Debug + Send + Sync {
    /// The kind's name, written into `meta.json`.
    fn kind(&self) -> &'static str;

    /// True if the layer in `folder` was written by this kind.
    ///
    /// # Errors
    /// `IO_FAILED`.
    fn has(&self, folder: BorrowedFd<'_>) -> Result<bool, LayerError>;

    /// Begins to write a layer into the empty folder `folder` (`path` is its name in messages). What is written stays
    /// in the folder, which the caller removes if anything fails. `kept` is the folder of a layer of this kind made of
    /// the same archive, which this layer may then share; only for a kind that keeps the archive.
    ///
    /// # Errors
    /// `IO_FAILED`, `STORAGE_FULL`.
    fn begin<'a>(
        &self,
        folder: BorrowedFd<'_>,
        path: &Path,
        request: &StageRequest<'a>,
        kept: Option<BorrowedFd<'_>>,
    ) -> Result<Box<dyn LayerWriter + 'a>, LayerError>;

    /// The path to give to overlay as a lower layer, for a visible layer in the folder `path`. It holds as long as the
    /// layer and this value do.
    ///
    /// # Errors
    /// `IO_FAILED`; `KERNEL_FEATURE_MISSING` where this kernel cannot show the layer.
    fn lower_path(&self, path: &Path) -> Result<PathBuf, LayerError>;

    /// The root of the layer in the folder `path`, for look-ups by fd.
    ///
    /// # Errors
    /// As `lower_path`.
    fn open_root(&self, path: &Path) -> Result<OwnedFd, LayerError>;

    /// The archive of the layer in `folder` as it came, uncompressed, for a kind that keeps it.
    ///
    /// # Errors
    /// `IO_FAILED`.
    fn archive(&self, folder: BorrowedFd<'_>) -> Result<Option<File>, LayerError>;

    /// The file whose digest is [`Written::index_digest`], for a kind that has one.
    ///
    /// # Errors
    /// `IO_FAILED`.
    fn index(&self, folder: BorrowedFd<'_>) -> Result<Option<File>, LayerError>;

    /// The visible layer that was in the folder `path` is being removed: nothing of it is held in memory any more.
    fn forget(&self, path: &Path);
}

/// The file that keeps the uncompressed stream.
#[derive(Debug)]
pub struct RawSink {
    file: File,
    path: PathBuf,
    written_bytes: u64,
    writeback: Writeback,
}

impl RawSink {
    /// Nothing is in `file` yet; `path` is its name in messages.
    pub fn new(file: File, path: PathBuf) -> Self {
        Self { file, path, written_bytes: 0, writeback: Writeback::default() }
    }

    /// Takes the next bytes. Blocking.
    ///
    /// # Errors
    /// `STORAGE_FULL`, `IO_FAILED`.
    pub fn write(&mut self, bytes: &[u8]) -> Result<(), LayerError> {
        self.file.write_all(bytes).map_err(|e| IoError::from_std("write", &self.path, &e))?;
        self.written_bytes += bytes.len() as u64;
        self.writeback.advance(&self.file, self.written_bytes);
        Ok(())
    }
}

/// Writes one layer. Entries come in the archive's order; each stands alone, and the last of a path wins.
pub trait LayerWriter: Send {
    /// Where every byte of the uncompressed stream goes, in order, for a kind that keeps the archive itself. It is
    /// written ahead of `apply`.
    ///
    /// # Errors
    /// `IO_FAILED`.
    fn raw_sink(&mut self) -> Result<Option<RawSink>, LayerError> {
        Ok(None)
    }

    /// Takes one entry; `data` gives its bytes for a regular file and need not be read.
    ///
    /// # Errors
    /// `LAYER_REJECTED`, `LIMIT_EXCEEDED`, `STORAGE_FULL`, `IO_FAILED`, and what `data` raises.
    fn apply(&mut self, entry: Entry, data: &mut dyn EntryData) -> Result<(), LayerError>;

    /// All entries came and the stream was what it should be, `diff_id`: settles what waits for the end.
    ///
    /// # Errors
    /// As `apply`.
    fn finish(&mut self, diff_id: &Digest) -> Result<Written, LayerError>;
}

/// What was written.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Written {
    /// Sum of the sizes of regular files, each hard-linked file once.
    pub size_bytes: u64,
    /// Entries applied.
    pub entry_count: u64,
    /// The highest user or group that an entry belongs to.
    pub max_id: u32,
    /// What the layer takes from those below it.
    pub facts: Facts,
    /// What it takes on disk, of a kind that knows.
    pub stored_bytes: Option<u64>,
    /// The digest of what a kind made of the archive besides keeping it, so that damage is found.
    pub index_digest: Option<Digest>,
}
