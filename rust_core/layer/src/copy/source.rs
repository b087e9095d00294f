//! The bytes of a tar as they come, decompressed.

use std::io::{BufReader, Read};

use errors::IoError;

use crate::decompress::{window_too_large, Compression, DecompressError, Decompressor};
use crate::tar::Chunks;
use crate::{LayerError, Limits};

/// Bytes decompressed at once.
const CHUNK_BYTES: usize = 256 * 1024;

/// A tar, compressed (gzip, zstd) or not, read in place under the limits of sizes.
#[derive(Debug)]
pub struct ArchiveSource<R: Read> {
    decompressor: Decompressor<BufReader<Counting<R>>>,
    buffer: Vec<u8>,
    used: usize,
    filled: usize,
    total_bytes: u64,
    compressed_bytes: std::rc::Rc<std::cell::Cell<u64>>,
    limits: Limits,
    subject: String,
}

/// Counts what passes through it.
#[derive(Debug)]
struct Counting<R> {
    source: R,
    count: std::rc::Rc<std::cell::Cell<u64>>,
}

impl<R: Read> Read for Counting<R> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let read = self.source.read(buffer)?;
        self.count.set(self.count.get() + read as u64);
        Ok(read)
    }
}

impl<R: Read> ArchiveSource<R> {
    /// Looks at the first bytes. Blocking.
    ///
    /// # Errors
    /// `LAYER_CORRUPT` for a compression that is not known, named; what reading raises.
    pub fn new(source: R, limits: &Limits, subject: &str) -> Result<Self, LayerError> {
        let compressed_bytes = std::rc::Rc::<std::cell::Cell<u64>>::default();
        let counting = Counting { source, count: std::rc::Rc::clone(&compressed_bytes) };
        let decompressor = Decompressor::new(BufReader::with_capacity(CHUNK_BYTES, counting))
            .map_err(|error| failure(error, subject))?;
        Ok(Self {
            decompressor,
            buffer: vec![0; CHUNK_BYTES],
            used: 0,
            filled: 0,
            total_bytes: 0,
            compressed_bytes,
            limits: limits.clone(),
            subject: subject.to_owned(),
        })
    }

    fn check(&self, limit: &'static str, limit_value: u64, actual: u64) -> Result<(), LayerError> {
        if actual > limit_value {
            return Err(LayerError::LimitExceeded {
                limit,
                limit_value,
                actual,
                subject: self.subject.clone(),
            });
        }
        Ok(())
    }
}

impl<R: Read> Chunks for ArchiveSource<R> {
    fn chunk(&mut self) -> Result<&[u8], LayerError> {
        if self.used == self.filled {
            self.used = 0;
            self.filled =
                self.decompressor.read(&mut self.buffer).map_err(|error| failure(error, &self.subject))?;
            self.total_bytes += self.filled as u64;
            self.check("layer_size_bytes", self.limits.layer_size_bytes, self.total_bytes)?;
            let is_bounded = self.decompressor.compression() != Compression::None
                && self.total_bytes > self.limits.expansion_floor_bytes;
            if is_bounded {
                let ratio = self.total_bytes / self.compressed_bytes.get().max(1);
                self.check("expansion_ratio", self.limits.expansion_ratio, ratio)?;
            }
        }
        Ok(&self.buffer[self.used..self.filled])
    }

    fn consume(&mut self, count: usize) {
        self.used += count;
    }
}

fn failure(error: DecompressError, subject: &str) -> LayerError {
    match error {
        DecompressError::Source(error) => {
            let digest = subject.to_owned();
            LayerError::Source { digest, error: IoError::from_std("read", subject, &error) }
        }
        DecompressError::Corrupt(detail) => LayerError::Corrupt { digest: subject.to_owned(), detail },
        DecompressError::WindowTooLarge => window_too_large(subject.to_owned()),
    }
}
