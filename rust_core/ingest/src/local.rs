//! Layers from a range of a local file: image archives, and the root file systems that are imported.

use std::io::{self, BufReader, Read};
use std::os::fd::BorrowedFd;

use content::{Algorithm, ContentError, Digest, Hasher, OpenedIngest};
use layer::decompress::{DecompressError, Decompressor};
use layer::{Compression, LayerError, LayerId, LayerInfo, OpenedStage};

use crate::feed::{pread, Feed, FileFeed};
use crate::fetch::{check_size, parse_digest, settle, unpack};
use crate::tee::{store_blob, store_blob_and_layer, write_layer};
use crate::{IngestError, Phase, Stores, Task};

/// A part of a file, which is read by pread. The file must not change meanwhile; if it does, the digest tells.
#[derive(Debug, Clone, Copy)]
pub struct FileRange<'a> {
    /// The file; borrowed, its offset is neither used nor moved.
    pub fd: BorrowedFd<'a>,
    /// Where the blob begins.
    pub offset_bytes: u64,
    /// How long it is.
    pub size_bytes: u64,
}

/// A layer blob that was put into the content store from a local source.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredLayer {
    /// The blob's digest.
    pub digest: Digest,
    /// The blob's size.
    pub size_bytes: u64,
    /// The digest of the uncompressed archive.
    pub diff_id: Digest,
    /// The OCI layer media type of the compression found by content.
    pub media_type: &'static str,
    /// The unpacked layer.
    pub layer: LayerInfo,
}

/// The blob of `range` and its unpacked layer are both staged, or visible already. Compression is found by content.
/// Blocking; ends soon once cancelled.
///
/// The range is read once, or twice where its digest is not known before: `expected_digest` is absent, and the blob is
/// compressed or has no `expected_diff_id`.
///
/// # Errors
/// `DIGEST_INVALID`, `DIGEST_MISMATCH`, `DIFF_ID_MISMATCH`, `LAYER_REJECTED`, `LAYER_CORRUPT`, `LIMIT_EXCEEDED`,
/// `STORAGE_FULL`, `IO_FAILED` (also where the file ends before the range), `CANCELLED`.
pub fn store_layer(
    range: &FileRange<'_>,
    expected_digest: Option<&str>,
    expected_diff_id: Option<&str>,
    stores: Stores<'_>,
    task: Task<'_>,
) -> Result<StoredLayer, IngestError> {
    let expected_diff_id = expected_diff_id.map(parse_digest).transpose()?;
    let compression = find_compression(range)?;
    let is_plain = compression == Compression::None;
    // The diff_id of a plain tar is its digest, so that it need not be hashed beforehand.
    let stands_for_digest = expected_diff_id.clone().filter(|_| is_plain && expected_digest.is_none());
    let digest = match (expected_digest, &stands_for_digest) {
        (Some(text), _) => parse_digest(text)?,
        (None, Some(diff_id)) => diff_id.clone(),
        (None, None) => hash(range, task)?,
    };
    let outcome = store(range, &digest, expected_diff_id.as_ref(), stores, task);
    let layer = outcome.map_err(|error| match error {
        IngestError::Content(ContentError::DigestMismatch { expected, actual, .. })
            if stands_for_digest.is_some() =>
        {
            LayerError::DiffIdMismatch { expected, actual }.into()
        }
        error => error,
    })?;
    let (diff_id, size_bytes) = (layer.diff_id.clone(), range.size_bytes);
    Ok(StoredLayer { digest, size_bytes, diff_id, media_type: compression.media_type(), layer })
}

fn store(
    range: &FileRange<'_>,
    digest: &Digest,
    diff_id: Option<&Digest>,
    stores: Stores<'_>,
    task: Task<'_>,
) -> Result<LayerInfo, IngestError> {
    let is_cancelled = || task.cancel.is_cancelled();
    loop {
        let ingest = match stores.content.open_ingest(digest, range.size_bytes, &is_cancelled)? {
            OpenedIngest::Present { size_bytes } => {
                check_size(digest, range.size_bytes, size_bytes)?;
                task.progress.set_fetched(size_bytes);
                return match diff_id {
                    Some(diff_id) => unpack(digest, diff_id, stores, task),
                    None => import(digest, stores, task),
                };
            }
            OpenedIngest::Writing(ingest) => ingest,
        };
        let is_resumed = ingest.offset_bytes() > 0;
        let mut feed = FileFeed::new(range, task.cancel);
        let outcome = match diff_id {
            None => {
                let stage = stores.layers.open_import()?;
                store_blob_and_layer(ingest, &mut feed, stage, None, task)
            }
            Some(diff_id) => {
                match stores.layers.open_stage(&LayerId::from_diff_id(diff_id), &is_cancelled)? {
                    OpenedStage::Present(info) => store_blob(ingest, &mut feed, task).map(|()| info),
                    OpenedStage::Writing(stage) => {
                        store_blob_and_layer(ingest, &mut feed, stage, Some(diff_id), task)
                    }
                }
            }
        };
        if let Some(info) = settle(outcome, is_resumed, digest, stores.content)? {
            task.progress.enter(Phase::Done);
            return Ok(info);
        }
    }
}

/// The layer of a blob that is whole and whose diff_id nobody knows.
fn import(digest: &Digest, stores: Stores<'_>, task: Task<'_>) -> Result<LayerInfo, IngestError> {
    let blob = stores.content.open_blob(digest)?;
    let stage = stores.layers.open_import()?;
    task.progress.enter(Phase::Extracting);
    let info = write_layer(stage, blob.file, &digest.to_string(), None, task)?;
    task.progress.enter(Phase::Done);
    Ok(info)
}

fn hash(range: &FileRange<'_>, task: Task<'_>) -> Result<Digest, IngestError> {
    task.progress.enter(Phase::Verifying);
    let mut feed = FileFeed::new(range, task.cancel);
    let mut hasher = Hasher::new(Algorithm::Sha256);
    let mut offset = 0;
    while let Some(piece) = feed.next_piece(offset)? {
        hasher.update(&piece);
        offset += piece.len() as u64;
    }
    Ok(hasher.finish())
}

fn find_compression(range: &FileRange<'_>) -> Result<Compression, IngestError> {
    let source = RangeReader { range, at: 0 };
    match Decompressor::new(BufReader::new(source)) {
        Ok(decompressor) => Ok(decompressor.compression()),
        Err(DecompressError::Source(error)) => Err(errors::IoError::from_std("pread", "", &error).into()),
        Err(DecompressError::Corrupt(detail)) => {
            Err(LayerError::Corrupt { digest: "a local layer".to_owned(), detail }.into())
        }
        // The first bytes tell a compression and no window.
        Err(DecompressError::WindowTooLarge) => Ok(Compression::Zstd),
    }
}

/// A range as a stream.
pub(crate) struct RangeReader<'a> {
    pub range: &'a FileRange<'a>,
    pub at: u64,
}

impl Read for RangeReader<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let left = usize::try_from(self.range.size_bytes - self.at).unwrap_or(usize::MAX);
        let wanted = left.min(buffer.len());
        let read = pread(self.range.fd, &mut buffer[..wanted], self.range.offset_bytes + self.at)
            .map_err(|error| io::Error::from_raw_os_error(error.errno))?;
        self.at += read as u64;
        Ok(read)
    }
}
