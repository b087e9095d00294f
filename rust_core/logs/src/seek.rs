//! Finds where lines of a given time begin, by binary search: times in a log never go back.

use errors::IoError;

use crate::cursor::{Cursor, Position};
use crate::format::{self, Header, HEADER_BYTES, MAX_PHYSICAL_BYTES};
use crate::segment::LogDir;

/// The search stops when so many bytes are left; the reader passes over what is too early among them. A line that
/// stands at the time and began farther back than this, or two segments back, begins with a fragment.
const WINDOW_BYTES: u64 = 256 * 1024;

/// A place at or a little before the first line of `since_unix_nanos` or later.
///
/// # Errors
/// The error of the first system call that failed. Segments that are rotated away meanwhile are passed over.
pub fn find_since(dir: &LogDir, since_unix_nanos: i64) -> Result<Cursor, IoError> {
    let numbers = dir.list()?;
    let mut start = Position { segment: numbers.first().copied().unwrap_or(1), offset: 0 };
    let mut is_found = false;
    for &segment in numbers.iter().rev() {
        let Some(file) = dir.open_segment(segment)? else { break };
        if is_found {
            let size = dir.size_of(segment, &file)?;
            let read = |buffer: &mut [u8], at| dir.read_at(segment, &file, buffer, at);
            start = Position { segment, offset: line_from(size.saturating_sub(WINDOW_BYTES), read)? };
            break;
        }
        let mut head = [0; HEADER_BYTES];
        let got = dir.read_at(segment, &file, &mut head, 0)?;
        match format::parse(&head[..got]) {
            Some(header) if header.time_unix_nanos < since_unix_nanos => {
                let size = dir.size_of(segment, &file)?;
                let read = |buffer: &mut [u8], at| dir.read_at(segment, &file, buffer, at);
                start = Position { segment, offset: search(size, since_unix_nanos, read)? };
                // A line may have begun just before the segment did.
                is_found = true;
                if start.offset > 0 {
                    break;
                }
            }
            // Empty, torn or later: what is wanted may begin in the one before.
            _ => start = Position { segment, offset: 0 },
        }
    }
    Ok(Cursor::at(start))
}

/// The start of a line before which all are too early.
fn search(
    size: u64,
    since: i64,
    mut read: impl FnMut(&mut [u8], u64) -> Result<usize, IoError>,
) -> Result<u64, IoError> {
    let (mut low, mut high) = (0, size);
    let mut buffer = vec![0; MAX_PHYSICAL_BYTES + HEADER_BYTES];
    while high - low > WINDOW_BYTES {
        let middle = low + (high - low) / 2;
        let got = read(&mut buffer, middle)?;
        match line_after(&buffer[..got]) {
            Some((at, header)) if header.time_unix_nanos < since => low = middle + at as u64,
            _ => high = middle,
        }
    }
    Ok(low)
}

/// The start of the first line at or after `offset`.
fn line_from(
    offset: u64,
    mut read: impl FnMut(&mut [u8], u64) -> Result<usize, IoError>,
) -> Result<u64, IoError> {
    let Some(before) = offset.checked_sub(1) else { return Ok(0) };
    let mut buffer = vec![0; MAX_PHYSICAL_BYTES + HEADER_BYTES];
    let got = read(&mut buffer, before)?;
    Ok(line_after(&buffer[..got]).map_or(offset, |(at, _)| before + at as u64))
}

/// The first line with a valid header that begins within `bytes`, which begin anywhere.
fn line_after(bytes: &[u8]) -> Option<(usize, Header)> {
    memchr::memchr_iter(b'\n', bytes).find_map(|newline| {
        let start = newline + 1;
        format::parse(&bytes[start..]).map(|header| (start, header))
    })
}
