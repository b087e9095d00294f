//! Where the index says that a file's bytes are: in the archive where they can stay, else in the index's own blocks.

use std::io::Read;

use ::erofs::{Chunk, ChunkMap, FileData, DEFAULT_BLOCK_BITS};
use errors::IoError;

use super::writer::ErofsWriter;
use crate::{EntryData, Extent, LayerError};

/// EROFS's block here.
const BLOCK_BYTES: u64 = 1 << DEFAULT_BLOCK_BITS;
/// The size of the pieces in which a file of a lower layer is copied: whole blocks.
const COPY_BYTES: usize = 256 * 1024;

impl ErofsWriter<'_> {
    /// The bytes of a regular file whose data begins at `offset_bytes` of the archive.
    pub(super) fn file_data(
        &mut self,
        path: &[u8],
        size_bytes: u64,
        extents: Option<&[Extent]>,
        offset_bytes: u64,
        data: &mut dyn EntryData,
    ) -> Result<FileData, LayerError> {
        if size_bytes == 0 {
            return Ok(FileData::Hole);
        }
        let whole = [Extent { offset_bytes: 0, size_bytes }];
        let runs = runs(extents.unwrap_or(&whole), offset_bytes);
        if let (None, true, Ok(block)) =
            (extents, offset_bytes.is_multiple_of(BLOCK_BYTES), u32::try_from(offset_bytes / BLOCK_BYTES))
        {
            return Ok(FileData::Device(block));
        }
        if runs.is_empty() {
            return Ok(FileData::Hole);
        }
        let limit_value = self.ledger.limits.sparse_index_bytes;
        // What the archive stores of the file may be stored once more, but not more than that.
        let stored_bytes: u64 = runs.iter().map(|run| run.2).sum();
        let own_bytes_max = limit_value.saturating_add(stored_bytes);
        let Some(mut map) = ChunkMap::plan(&runs, size_bytes, DEFAULT_BLOCK_BITS, own_bytes_max) else {
            let subject = self.ledger.subject_of(path);
            let actual = limit_value.saturating_add(1);
            return Err(LayerError::LimitExceeded {
                limit: "sparse_index_bytes",
                limit_value,
                actual,
                subject,
            });
        };
        self.ledger.hold(path, (map.chunks.len() * size_of::<Chunk>()) as u64)?;
        if map.chunks.contains(&Chunk::Image(0)) {
            self.copy_chunks(&mut map, &runs, size_bytes, data)?;
        }
        Ok(FileData::Chunks(map))
    }

    /// Copies the chunks that cannot stay where they are, reading the data once, in order.
    fn copy_chunks(
        &mut self,
        map: &mut ChunkMap,
        runs: &[(u64, u64, u64)],
        size_bytes: u64,
        data: &mut dyn EntryData,
    ) -> Result<(), LayerError> {
        let chunk_bytes = BLOCK_BYTES << map.bits;
        let mut open: Option<(usize, Vec<u8>)> = None;
        for (offset, _, len) in runs {
            let (mut at, mut left) = (*offset, *len);
            while left > 0 {
                let number = usize::try_from(at / chunk_bytes).unwrap_or(usize::MAX);
                let within = at % chunk_bytes;
                let found = data.chunk()?;
                // The reader has checked that the extents take exactly the data there is.
                let step = left.min(chunk_bytes - within).min(found.len() as u64);
                if matches!(map.chunks[number], Chunk::Image(_)) {
                    let start = number as u64 * chunk_bytes;
                    if open.as_ref().is_none_or(|(current, _)| *current != number) {
                        self.close_chunk(map, open.take())?;
                        let bytes = chunk_bytes.min((size_bytes - start).next_multiple_of(BLOCK_BYTES));
                        open = Some((number, vec![0; usize::try_from(bytes).unwrap_or(0)]));
                    }
                    if let Some((_, buffer)) = &mut open {
                        let (from, len) =
                            (usize::try_from(within).unwrap_or(0), usize::try_from(step).unwrap_or(0));
                        buffer[from..from + len].copy_from_slice(&found[..len]);
                    }
                }
                data.consume(usize::try_from(step).unwrap_or(0));
                (at, left) = (at + step, left - step);
            }
        }
        self.close_chunk(map, open.take())
    }

    fn close_chunk(&mut self, map: &mut ChunkMap, open: Option<(usize, Vec<u8>)>) -> Result<(), LayerError> {
        if let Some((number, bytes)) = open {
            map.chunks[number] = Chunk::Image(self.append(&bytes)?);
        }
        Ok(())
    }

    /// The bytes of an open file of a lower layer, copied.
    pub(super) fn copy_data(
        &mut self,
        source: std::fs::File,
        path: &[u8],
    ) -> Result<(FileData, u64), LayerError> {
        let (mut source, mut total, mut first) = (source, 0, None);
        let mut buffer = Vec::new();
        loop {
            buffer.clear();
            let read = source
                .by_ref()
                .take(COPY_BYTES as u64)
                .read_to_end(&mut buffer)
                .map_err(|e| IoError::from_std("read", crate::tree::bytes_path(path), &e))?;
            if read == 0 {
                break;
            }
            total += read as u64;
            let block = self.append(&buffer)?;
            first.get_or_insert(block);
        }
        Ok((first.map_or(FileData::Hole, FileData::Image), total))
    }
}

/// The extents with the places of their data, which follow each other in the archive; without empty ones, and those
/// that go on where the one before ends taken together.
fn runs(extents: &[Extent], offset_bytes: u64) -> Vec<(u64, u64, u64)> {
    let mut runs: Vec<(u64, u64, u64)> = Vec::new();
    let mut at = offset_bytes;
    for extent in extents.iter().filter(|extent| extent.size_bytes > 0) {
        match runs.last_mut() {
            Some(last) if last.0 + last.2 == extent.offset_bytes => last.2 += extent.size_bytes,
            _ => runs.push((extent.offset_bytes, at, extent.size_bytes)),
        }
        at += extent.size_bytes;
    }
    runs
}
