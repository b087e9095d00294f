//! How a file with holes is cut into chunks of one size: as few as cost the least space.
//!
//! EROFS finds a chunk by an address of whole blocks. A piece of a file can stay where it lies if it begins on a block
//! there and in the file and fills its chunk; all other pieces are copied into the image, padded with zeros.

use crate::format::{CHUNK_BITS_MAX, CHUNK_INDEX_BYTES};

/// A run of bytes of a file: offset in the file, offset in the other file (the device), length.
type Run = (u64, u64, u64);

/// Where one chunk comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Chunk {
    /// Zeros.
    Hole,
    /// Blocks of the device from this one on.
    Device(u32),
    /// Must be copied into the image; then blocks of the image from this one on.
    Image(u32),
}

/// The chunks of one file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChunkMap {
    /// The size of a chunk is 2^bits blocks.
    pub bits: u32,
    /// Each chunk of the file, in order.
    pub chunks: Vec<Chunk>,
}

/// Chunks larger than this are not looked at for a file with holes.
const LARGEST_BYTES: u64 = 1 << 24;

impl ChunkMap {
    /// The number of bits for one chunk that holds `size_bytes` (more than 0).
    pub(crate) fn bits_of_whole(size_bytes: u64, block_bits: u8) -> u32 {
        let blocks = size_bytes.div_ceil(1 << block_bits).max(1);
        blocks.next_power_of_two().trailing_zeros().min(CHUNK_BITS_MAX)
    }

    /// The map of a file of `size_bytes` whose bytes lie in `runs` (ascending, not overlapping, within the size); what
    /// lies between them is zeros. Chunks to be copied are `Image(0)`, for the caller to fill in. `None` if the
    /// addresses and the copied chunks would take more than `own_bytes_max`.
    pub fn plan(runs: &[Run], size_bytes: u64, block_bits: u8, own_bytes_max: u64) -> Option<Self> {
        let block_bytes = 1_u64 << block_bits;
        let largest = size_bytes.next_power_of_two().min(LARGEST_BYTES).max(block_bytes);
        let choices = (u32::from(block_bits)..=largest.trailing_zeros()).rev();
        let index_bytes = |bits: u32| size_bytes.div_ceil(1 << bits) * CHUNK_INDEX_BYTES;
        let cost = |bits: u32| {
            let copied =
                touched(runs, size_bytes, bits, block_bytes).filter(|(_, chunk)| *chunk == Chunk::Image(0));
            index_bytes(bits) + copied.count() as u64 * (1 << bits)
        };
        // Chunks whose addresses alone are too many are not looked at closely.
        let costs = choices.filter(|bits| index_bytes(*bits) <= own_bytes_max).map(|bits| (cost(bits), bits));
        let (_, bits) = costs.min_by_key(|(cost, _)| *cost).filter(|(cost, _)| *cost <= own_bytes_max)?;
        let mut chunks = vec![Chunk::Hole; usize::try_from(size_bytes.div_ceil(1 << bits)).ok()?];
        for (number, chunk) in touched(runs, size_bytes, bits, block_bytes) {
            chunks[usize::try_from(number).ok()?] = chunk;
        }
        Some(Self { bits: bits - u32::from(block_bits), chunks })
    }
}

/// The chunks of 2^`bits` bytes that hold data, ascending, each once. One pass over the runs and the chunks they fill.
fn touched(
    runs: &[Run],
    size_bytes: u64,
    bits: u32,
    block_bytes: u64,
) -> impl Iterator<Item = (u64, Chunk)> + '_ {
    let chunk_bytes = 1_u64 << bits;
    let mut last = None;
    let pieces = runs.iter().filter(|run| run.2 > 0).flat_map(move |&(offset, at, len)| {
        let (first, end) = (offset >> bits, (offset + len).div_ceil(chunk_bytes));
        (first..end).map(move |number| {
            let start = number << bits;
            let stop = (start + chunk_bytes).min(size_bytes);
            let fills = offset <= start && offset + len >= stop;
            let from = at + start.saturating_sub(offset);
            let is_aligned = from.is_multiple_of(block_bytes);
            match u32::try_from(from / block_bytes) {
                Ok(block) if fills && is_aligned && block < u32::MAX => (number, Chunk::Device(block)),
                _ => (number, Chunk::Image(0)),
            }
        })
    });
    // A chunk that two runs share fills with neither, so the first word about it stands.
    pieces.filter(move |(number, _)| last.replace(*number) != Some(*number))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn one_chunk_holds_a_whole_file() {
        for (size, bits) in [(1, 0), (512, 0), (513, 1), (1024, 1), (1025, 2), (1 << 38, 29)] {
            assert_eq!(ChunkMap::bits_of_whole(size, 9), bits, "{size}");
        }
    }

    #[test]
    fn aligned_runs_stay_where_they_are() {
        let runs = [(0, 1024, 4096), (1 << 20, 5120, 4096)];
        let map = ChunkMap::plan(&runs, (1 << 20) + 4096, 9, u64::MAX).unwrap();
        assert_eq!((map.bits, map.chunks.len()), (3, 257));
        assert_eq!(
            (map.chunks[0], map.chunks[1], map.chunks[256]),
            (Chunk::Device(2), Chunk::Hole, Chunk::Device(10))
        );
    }

    #[test]
    fn runs_that_begin_within_a_block_are_copied() {
        let map = ChunkMap::plan(&[(5, 512, 3)], 9, 9, u64::MAX).unwrap();
        assert_eq!(map, ChunkMap { bits: 0, chunks: vec![Chunk::Image(0)] });
        // A large hole makes the chunks larger, not the addresses many.
        let map = ChunkMap::plan(&[(1 << 30, 512, 3)], (1 << 30) + 3, 9, u64::MAX).unwrap();
        assert!(map.chunks.len() < 40_000, "{}", map.chunks.len());
        assert_eq!(ChunkMap::plan(&[], 1 << 40, 9, 1 << 18), None);
        assert_eq!(ChunkMap::plan(&[(1, 512, 1)], 1 << 24, 9, 1 << 8), None);
        assert!(ChunkMap::plan(&[], 1 << 40, 9, 1 << 20).unwrap().chunks.iter().all(|c| *c == Chunk::Hole));
    }

    proptest! {
        #[test]
        fn every_byte_comes_from_its_run(
            pieces in proptest::collection::vec((0u64..3000, 1u64..3000), 0..6),
            tail in 0u64..2000,
        ) {
            let (mut offset, mut at, mut runs) = (0, 512, Vec::new());
            for (gap, len) in pieces {
                runs.push((offset + gap, at, len));
                offset += gap + len;
                at += len;
            }
            let size = offset + tail;
            prop_assume!(size > 0);
            let map = ChunkMap::plan(&runs, size, 9, u64::MAX).unwrap();
            let chunk_bytes = 512u64 << map.bits;
            prop_assert_eq!(map.chunks.len() as u64, size.div_ceil(chunk_bytes));
            for byte in 0..size {
                let run = runs.iter().find(|run| (run.0..run.0 + run.2).contains(&byte));
                match (map.chunks[(byte / chunk_bytes) as usize], run) {
                    (Chunk::Device(block), run) => {
                        let found = u64::from(block) * 512 + byte % chunk_bytes;
                        prop_assert_eq!(run.map(|run| run.1 + byte - run.0), Some(found));
                    }
                    (Chunk::Hole, run) => prop_assert!(run.is_none()),
                    (Chunk::Image(_), _) => {}
                }
            }
        }
    }
}
