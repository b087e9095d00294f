//! Where the bytes of a file are, and reading them piece by piece.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use errors::IoError;

use crate::chunks::ChunkRef;
use crate::error::shown;
use crate::mounted::MountedFile;
use crate::BuildError;

/// Bytes of a file, not read yet.
#[derive(Debug, Clone)]
pub enum Content {
    /// In memory.
    Bytes(Arc<[u8]>),
    /// Chunks of the chunk store, in order; each is verified when it is read.
    Chunks(Vec<ChunkRef>),
    /// A part of a file that nobody else writes.
    Range(Arc<File>, u64, u64),
    /// A file of a mounted tree, opened when it is read.
    Mounted(MountedFile),
}

impl Content {
    /// Nothing.
    pub fn empty() -> Self {
        Self::Bytes(Arc::from([]))
    }

    /// How many bytes it has.
    pub fn size_bytes(&self) -> u64 {
        match self {
            Self::Bytes(bytes) => bytes.len() as u64,
            Self::Chunks(chunks) => chunks.iter().map(|chunk| u64::from(chunk.size_bytes())).sum(),
            Self::Range(_, _, size) => *size,
            Self::Mounted(file) => file.size_bytes(),
        }
    }

    /// A reader at its beginning.
    ///
    /// # Errors
    /// `IO_FAILED` where a file cannot be opened.
    pub(crate) fn open(&self) -> Result<Reader, BuildError> {
        Ok(match self {
            Self::Mounted(file) => Reader::File(Arc::new(file.open()?), 0, file.size_bytes()),
            Self::Range(file, offset, size) => Reader::File(Arc::clone(file), *offset, *size),
            Self::Bytes(bytes) => Reader::Bytes(Arc::clone(bytes), 0),
            Self::Chunks(chunks) => Reader::Chunks(chunks.clone().into_iter()),
        })
    }

    /// All of it, for small files. Raises `LIMIT_EXCEEDED` (`name` of the limit) beyond `max_bytes`.
    ///
    /// # Errors
    /// As [`Reader::next`].
    pub fn read(&self, max_bytes: u64, limit: &'static str, subject: &[u8]) -> Result<Vec<u8>, BuildError> {
        if self.size_bytes() > max_bytes {
            return Err(BuildError::limit(limit, max_bytes, self.size_bytes(), &shown(subject)));
        }
        let (mut reader, mut all) = (self.open()?, Vec::new());
        while reader.next(&mut all)? {}
        Ok(all)
    }
}

/// Bytes of one `pread`.
const PIECE_BYTES: u64 = 256 * 1024;

/// Reads a file's bytes in order.
#[derive(Debug)]
pub(crate) enum Reader {
    Bytes(Arc<[u8]>, usize),
    Chunks(std::vec::IntoIter<ChunkRef>),
    File(Arc<File>, u64, u64),
}

impl Reader {
    /// Appends the next piece to `buffer`; false at the end. A file that became shorter is filled with zeros.
    ///
    /// # Errors
    /// `IO_FAILED`; `CONTEXT_INCOMPLETE` for a chunk that is damaged.
    pub fn next(&mut self, buffer: &mut Vec<u8>) -> Result<bool, BuildError> {
        match self {
            Self::Bytes(bytes, used) => {
                buffer.extend_from_slice(&bytes[*used..]);
                let had = *used < bytes.len();
                *used = bytes.len();
                Ok(had)
            }
            Self::Chunks(chunks) => match chunks.next() {
                None => Ok(false),
                Some(chunk) => chunk.read(buffer).map(|()| true),
            },
            Self::File(_, _, 0) => Ok(false),
            Self::File(file, offset, left) => {
                let wanted = PIECE_BYTES.min(*left) as usize;
                let start = buffer.len();
                buffer.resize(start + wanted, 0);
                let count = file
                    .read_at(&mut buffer[start..], *offset)
                    .map_err(|error| IoError::from_std("pread", "build", &error))?;
                let count = if count == 0 { wanted } else { count };
                buffer.truncate(start + count);
                *offset += count as u64;
                *left -= count as u64;
                Ok(true)
            }
        }
    }
}
