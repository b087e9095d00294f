//! A layer that is here, as another blob: compressed otherwise, or with no time later than a bound.

use std::fs::File;
use std::io::BufReader;

use content::{Algorithm, Digest, Hasher};
use errors::IoError;
use layer::decompress::{window_too_large, DecompressError, Decompressor};
use layer::tar::{Chunks, Retimed};
use layer::{LayerError, Limits, TarSource};

use crate::changes::store_changes;
use crate::fetch::parse_digest;
use crate::local::StoredLayer;
use crate::packing::Packing;
use crate::{IngestError, Stores, Task};

/// Read size of the uncompressed archive.
const BUFFER_BYTES: usize = 256 * 1024;

/// The layer of the blob `digest`, which is here whole, is a blob of `packing` and an unpacked layer, both staged, or
/// visible already. With `times_until_seconds` no entry's time is later than that; an archive of ours in which none was is
/// the same, byte for byte. Memory: as `store_changes`. Blocking.
///
/// # Errors
/// `BLOB_NOT_FOUND`; `DIFF_ID_MISMATCH`, `LAYER_CORRUPT` for a blob that was damaged; and as [`store_changes`].
pub fn repack(
    digest: &str,
    diff_id: &str,
    packing: Packing,
    times_until_seconds: Option<i64>,
    stores: Stores<'_>,
    task: Task<'_>,
) -> Result<StoredLayer, IngestError> {
    let (digest, diff_id) = (parse_digest(digest)?, parse_digest(diff_id)?);
    let blob = stores.content.open_blob(&digest)?;
    let subject = digest.to_string();
    let archive = Archive::new(blob.file, subject.clone(), diff_id)?;
    match times_until_seconds {
        None => store_changes(archive, packing, stores, task),
        Some(seconds) => {
            let tar = Retimed::new(archive, subject, seconds, &Limits::default());
            store_changes(tar, packing, stores, task)
        }
    }
}

/// The archive of a blob. Its end is given only where all of it was what its diff_id says.
struct Archive {
    source: Decompressor<BufReader<File>>,
    subject: String,
    diff_id: Digest,
    /// None once the end was met.
    hasher: Option<Hasher>,
    buffer: Vec<u8>,
    used: usize,
    filled: usize,
}

impl Archive {
    fn new(file: File, subject: String, diff_id: Digest) -> Result<Self, LayerError> {
        let source = Decompressor::new(BufReader::with_capacity(BUFFER_BYTES, file));
        let source = source.map_err(|error| failure(error, &subject))?;
        let (hasher, buffer) = (Some(Hasher::new(Algorithm::Sha256)), vec![0; BUFFER_BYTES]);
        Ok(Self { source, subject, diff_id, hasher, buffer, used: 0, filled: 0 })
    }
}

impl Chunks for Archive {
    fn chunk(&mut self) -> Result<&[u8], LayerError> {
        if self.used == self.filled && self.hasher.is_some() {
            self.used = 0;
            let read = self.source.read(&mut self.buffer);
            self.filled = read.map_err(|error| failure(error, &self.subject))?;
            match &mut self.hasher {
                Some(hasher) if self.filled > 0 => hasher.update(&self.buffer[..self.filled]),
                hasher => {
                    let actual = hasher.take().map(Hasher::finish);
                    if let Some(actual) = actual.filter(|actual| *actual != self.diff_id) {
                        return Err(LayerError::DiffIdMismatch { expected: self.diff_id.clone(), actual });
                    }
                }
            }
        }
        Ok(&self.buffer[self.used..self.filled])
    }

    fn consume(&mut self, count: usize) {
        self.used += count;
    }
}

impl TarSource for Archive {
    fn read(&mut self, buffer: &mut [u8], is_cancelled: &dyn Fn() -> bool) -> Result<usize, LayerError> {
        if is_cancelled() {
            return Err(LayerError::Cancelled { subject: self.subject.clone() });
        }
        let chunk = self.chunk()?;
        let count = chunk.len().min(buffer.len());
        buffer[..count].copy_from_slice(&chunk[..count]);
        self.consume(count);
        Ok(count)
    }
}

fn failure(error: DecompressError, subject: &str) -> LayerError {
    match error {
        DecompressError::Source(error) => IoError::from_std("read", subject, &error).into(),
        DecompressError::Corrupt(detail) => LayerError::Corrupt { digest: subject.to_owned(), detail },
        DecompressError::WindowTooLarge => window_too_large(subject.to_owned()),
    }
}
