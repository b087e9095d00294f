//! Sparse maps of GNU tar: the old format in headers, PAX 0.0, 0.1 and 1.0.

use super::header::number;
use super::pax::{decimal, SparseRecords};
use super::Fault;
use crate::{Extent, Rule};

const BAD: Fault = Fault::Rule(Rule::SparseMap);

/// The pairs of a PAX 0.0 or 0.1 map.
pub(crate) fn from_records(records: &SparseRecords) -> Result<Vec<Extent>, Fault> {
    match &records.map {
        None => pairs(&records.numbers),
        Some(map) if map.is_empty() => Ok(Vec::new()),
        Some(map) => {
            let numbers: Result<Vec<u64>, Fault> = map.split(|b| *b == b',').map(decimal).collect();
            pairs(&numbers.map_err(|_| BAD)?)
        }
    }
}

fn pairs(numbers: &[u64]) -> Result<Vec<Extent>, Fault> {
    if !numbers.len().is_multiple_of(2) {
        return Err(BAD);
    }
    Ok(numbers.chunks_exact(2).map(|p| Extent { offset_bytes: p[0], size_bytes: p[1] }).collect())
}

/// Adds the slots of an old GNU header or extension block; an empty slot ends them.
pub(crate) fn add_gnu_slots(extents: &mut Vec<Extent>, slots: &[u8]) -> Result<(), Fault> {
    for slot in slots.chunks_exact(24) {
        if slot[0] == 0 {
            break;
        }
        let field = |bytes: &[u8]| u64::try_from(number(bytes)?).map_err(|_| BAD);
        extents.push(Extent { offset_bytes: field(&slot[..12])?, size_bytes: field(&slot[12..])? });
    }
    Ok(())
}

/// Reads a PAX 1.0 map from the blocks at the head of the data: a count, then twice as many numbers, each with its
/// newline. Feed blocks until it is whole.
#[derive(Debug, Default)]
pub(crate) struct MapReader {
    expected: Option<u64>,
    digits: Vec<u8>,
    numbers: Vec<u64>,
}

impl MapReader {
    /// Takes one block; true when the map is whole.
    pub fn feed(&mut self, block: &[u8]) -> Result<bool, Fault> {
        for byte in block {
            if self.is_whole() {
                return Ok(true);
            }
            if *byte != b'\n' {
                if self.digits.len() == 20 {
                    return Err(BAD);
                }
                self.digits.push(*byte);
                continue;
            }
            let value = decimal(&self.digits).map_err(|_| BAD)?;
            self.digits.clear();
            match self.expected {
                None => self.expected = Some(value.checked_mul(2).ok_or(BAD)?),
                Some(_) => self.numbers.push(value),
            }
        }
        Ok(self.is_whole())
    }

    fn is_whole(&self) -> bool {
        self.expected == Some(self.numbers.len() as u64)
    }

    /// The extents of a whole map.
    pub fn finish(&self) -> Result<Vec<Extent>, Fault> {
        pairs(&self.numbers)
    }
}

/// Refuses a map that runs backwards, overlaps, leaves the file or does not take exactly the data that is stored.
pub(crate) fn check(extents: &[Extent], size_bytes: u64, data_size_bytes: u64) -> Result<(), Fault> {
    let (mut end, mut total) = (0u64, 0u64);
    for extent in extents {
        if extent.offset_bytes < end {
            return Err(BAD);
        }
        end = extent.offset_bytes.checked_add(extent.size_bytes).ok_or(BAD)?;
        total += extent.size_bytes;
    }
    if end > size_bytes || total != data_size_bytes {
        return Err(BAD);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn extent(offset_bytes: u64, size_bytes: u64) -> Extent {
        Extent { offset_bytes, size_bytes }
    }

    #[test]
    fn a_map_must_fit_the_file_and_its_data() {
        assert_eq!(check(&[extent(0, 3), extent(8, 2), extent(10, 0)], 10, 5), Ok(()));
        assert_eq!(check(&[], 10, 0), Ok(()));
        for (extents, size, data) in [
            (vec![extent(0, 3)], 2, 3),
            (vec![extent(0, 3)], 10, 4),
            (vec![extent(4, 2), extent(5, 2)], 10, 4),
            (vec![extent(4, 2), extent(0, 2)], 10, 4),
            (vec![extent(u64::MAX, 2)], 10, 2),
        ] {
            assert_eq!(check(&extents, size, data), Err(BAD), "{extents:?}");
        }
    }

    #[test]
    fn a_map_may_end_anywhere_in_a_block() {
        let mut reader = MapReader::default();
        assert!(!reader.feed(b"2\n0\n3\n8").unwrap());
        assert!(reader.feed(b"\n2\n\0\0\0").unwrap());
        assert_eq!(reader.finish().unwrap(), vec![extent(0, 3), extent(8, 2)]);
    }

    proptest! {
        #[test]
        fn any_map_is_read_or_refused(block in "[0-9\\n,]{0,64}") {
            let mut reader = MapReader::default();
            if reader.feed(block.as_bytes()) == Ok(true) {
                let extents = reader.finish().unwrap();
                let _ = check(&extents, 100, 50);
            }
        }
    }
}
