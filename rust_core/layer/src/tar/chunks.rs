//! Streams of bytes read in place, so that file data is copied once only.

use std::fs::File;
use std::os::unix::fs::FileExt;

use errors::IoError;

use crate::LayerError;

/// A stream of bytes read in place.
pub trait Chunks {
    /// The next bytes, empty at the stream's end. The same bytes come again until consumed.
    ///
    /// # Errors
    /// What reading the source raises.
    fn chunk(&mut self) -> Result<&[u8], LayerError>;
    /// Marks `count` bytes of the last chunk as used.
    fn consume(&mut self, count: usize);
    /// Passes over up to `count` bytes that need not be looked at; returns how many there were.
    ///
    /// # Errors
    /// What reading the source raises.
    fn skip(&mut self, count: u64) -> Result<u64, LayerError> {
        let mut left = count;
        while left > 0 {
            let len = self.chunk()?.len() as u64;
            if len == 0 {
                break;
            }
            let step = len.min(left);
            self.consume(usize::try_from(step).unwrap_or(usize::MAX));
            left -= step;
        }
        Ok(count - left)
    }
}

/// The bytes of an open file from an offset on, read by `pread`; skipping reads nothing.
#[derive(Debug)]
pub struct FileChunks<'f> {
    file: &'f File,
    offset_bytes: u64,
    size_bytes: u64,
    buffer: Vec<u8>,
    used: usize,
    filled: usize,
}

/// Small, since headers are what is read through it.
const FILE_BUFFER_BYTES: usize = 16 * 1024;

impl<'f> FileChunks<'f> {
    /// The bytes of `file` from its start, up to the size it has now.
    ///
    /// # Errors
    /// `IO_FAILED`.
    pub fn new(file: &'f File) -> Result<Self, LayerError> {
        let size_bytes = file.metadata().map_err(|e| IoError::from_std("fstat", "", &e))?.len();
        Ok(Self { file, offset_bytes: 0, size_bytes, buffer: vec![0; FILE_BUFFER_BYTES], used: 0, filled: 0 })
    }
}

impl Chunks for FileChunks<'_> {
    fn chunk(&mut self) -> Result<&[u8], LayerError> {
        if self.used == self.filled {
            self.used = 0;
            self.filled = self
                .file
                .read_at(&mut self.buffer, self.offset_bytes)
                .map_err(|e| IoError::from_std("pread", "", &e))?;
        }
        Ok(&self.buffer[self.used..self.filled])
    }

    fn consume(&mut self, count: usize) {
        self.used += count;
        self.offset_bytes += count as u64;
    }

    fn skip(&mut self, count: u64) -> Result<u64, LayerError> {
        let step = count.min(self.size_bytes.saturating_sub(self.offset_bytes));
        let buffered = (self.filled - self.used) as u64;
        if step <= buffered {
            self.consume(usize::try_from(step).unwrap_or(0));
        } else {
            (self.used, self.filled) = (0, 0);
            self.offset_bytes += step;
        }
        Ok(step)
    }
}

#[cfg(test)]
impl Chunks for &[u8] {
    fn chunk(&mut self) -> Result<&[u8], LayerError> {
        Ok(self)
    }

    fn consume(&mut self, count: usize) {
        *self = &self[count..];
    }
}
