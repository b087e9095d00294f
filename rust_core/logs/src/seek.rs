//! Finds where lines of a given time begin, by binary search: times in a log never go back.

use errors::IoError;

use crate::cursor::{Cursor, Position};
use crate::format::{self, Header, HEADER_BYTES, MAX_PHYSICAL_BYTES};
use crate::segment::LogDir;

/// Reading begins so far before the time, so that lines which were open then are known; it passes over what is too
/// early. A line that began farther back begins with a fragment.
pub const LOOKBACK_BYTES: u64 = 1024 * 1024;
/// The search stops when so many bytes are left.
const WINDOW_BYTES: u64 = 64 * 1024;

/// A place at or before the first line of `since_unix_nanos` or later, far enough to know the lines open there.
///
/// # Errors
/// The error of the first system call that failed. Segments that are rotated away meanwhile are passed over.
pub fn find_since(dir: &LogDir, since_unix_nanos: i64) -> Result<Cursor, IoError> {
    let numbers = dir.list()?;
    let mut start = Position { segment: numbers.first().copied().unwrap_or(1), offset: 0 };
    // How far the search has still to step back once the time is found.
    let mut lookback = None;
    for &segment in numbers.iter().rev() {
        let Some(file) = dir.open_segment(segment)? else { break };
        let mut read = |buffer: &mut [u8], at| dir.read_at(segment, &file, buffer, at);
        let mut head = [0; HEADER_BYTES];
        let got = read(&mut head, 0)?;
        let size = dir.size_of(segment, &file)?;
        let (place, left) = match (lookback, format::parse(&head[..got])) {
            (Some(left), _) => (size, left),
            (None, Some(header)) if header.time_unix_nanos < since_unix_nanos => {
                (search(size, since_unix_nanos, &mut read)?, LOOKBACK_BYTES)
            }
            // Empty, torn or later: what is wanted may begin in the one before.
            (None, _) => (0, 0),
        };
        start = Position { segment, offset: line_from(place.saturating_sub(left), &mut read)? };
        if start.offset > 0 {
            break;
        }
        if left > 0 {
            lookback = Some(left.saturating_sub(place));
            if left <= place {
                break;
            }
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
