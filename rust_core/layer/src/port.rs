//! The port behind which the ways to keep a layer stand: what a store kind must do, and nothing about how.

use std::fmt::Debug;
use std::io::Write;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use crate::stage::StageRequest;
use crate::{Entry, EntryData, Facts, LayerError};

/// A way to keep layers. [`LayerStore`](crate::LayerStore) gives each layer a folder of its own, names, stages,
/// publishes and removes those folders and writes `meta.json`; a store kind decides what else lies in a folder.
pub trait Store: Debug + Send + Sync {
    /// The kind's name, written into `meta.json`.
    fn kind(&self) -> &'static str;

    /// Begins to write a layer into the empty folder `folder` (`path` is its name in messages). What is written stays
    /// in the folder, which the caller removes if anything fails.
    ///
    /// # Errors
    /// `IO_FAILED`, `STORAGE_FULL`.
    fn begin<'a>(
        &self,
        folder: BorrowedFd<'_>,
        path: &Path,
        request: &StageRequest<'a>,
    ) -> Result<Box<dyn LayerWriter + 'a>, LayerError>;

    /// The path to give to overlay as a lower layer, for a layer in the folder `path`.
    fn lower_path(&self, path: &Path) -> PathBuf;

    /// The root of the layer in the folder `path`, for look-ups by fd; a detached mount where the kind is an image.
    ///
    /// # Errors
    /// `IO_FAILED`.
    fn open_root(&self, path: &Path) -> Result<OwnedFd, LayerError>;
}

/// Writes one layer. Entries come in the archive's order; each stands alone, and the last of a path wins.
pub trait LayerWriter {
    /// Where every byte of the uncompressed stream goes, in order, for a kind that keeps the archive itself. It is
    /// written from another thread, ahead of `apply`.
    ///
    /// # Errors
    /// `IO_FAILED`.
    fn raw_sink(&mut self) -> Result<Option<Box<dyn Write + Send>>, LayerError> {
        Ok(None)
    }

    /// Takes one entry; `data` gives its bytes for a regular file and need not be read.
    ///
    /// # Errors
    /// `LAYER_REJECTED`, `LIMIT_EXCEEDED`, `STORAGE_FULL`, `IO_FAILED`, and what `data` raises.
    fn apply(&mut self, entry: Entry, data: &mut dyn EntryData) -> Result<(), LayerError>;

    /// All entries came and the stream was what it should be: settles what waits for the end.
    ///
    /// # Errors
    /// As `apply`.
    fn finish(&mut self) -> Result<Written, LayerError>;
}

/// What was written.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Written {
    /// Sum of the sizes of regular files, each hard-linked file once.
    pub size_bytes: u64,
    /// Entries applied.
    pub entry_count: u64,
    /// What the layer takes from those below it.
    pub facts: Facts,
}
