//! Walks a log backwards, so that the last lines are found without reading the rest.

use std::ops::ControlFlow;

use errors::IoError;

use crate::cursor::{Cursor, Position};
use crate::format::{self, Header, HEADER_BYTES, MAX_PHYSICAL_BYTES};
use crate::segment::LogDir;

/// Bytes that are read at once.
const BLOCK_BYTES: u64 = 64 * 1024;
/// How far back from the last wanted line the first piece of a line is looked for. A stream whose last pieces stand
/// farther back begins with a fragment.
pub const JOIN_LOOKBACK_BYTES: u64 = 8 * 1024 * 1024;

/// Where the last `line_count` lines begin, of those that began before `until_unix_nanos`. A last line without its
/// newline counts as one. 0 gives the end of what is counted.
///
/// # Errors
/// The error of the first system call that failed. Segments that are rotated away meanwhile are passed over.
pub fn find_tail(dir: &LogDir, line_count: u64, until_unix_nanos: Option<i64>) -> Result<Cursor, IoError> {
    // Times in a log never go back, so that a piece which is too late has only later ones behind it.
    let is_late = |header: Header| until_unix_nanos.is_some_and(|until| header.time_unix_nanos >= until);
    let numbers = dir.list()?;
    let mut walk = TailWalk::new(line_count);
    let mut end = None;
    for &segment in numbers.iter().rev() {
        let Some(file) = dir.open_segment(segment)? else { continue };
        let size = dir.size_of(segment, &file)?;
        let read = |buffer: &mut [u8], at| dir.read_at(segment, &file, buffer, at);
        if end.is_none() && until_unix_nanos.is_some() {
            let mut head = [0; HEADER_BYTES];
            let got = read(&mut head, 0)?;
            if format::parse(&head[..got]).is_some_and(is_late) {
                continue; // the whole segment is
            }
        }
        let flow = lines_backwards(size, read, |offset, header, length| {
            if is_late(header) {
                return ControlFlow::Continue(());
            }
            let here = Position { segment, offset };
            end.get_or_insert(Position { segment, offset: offset + length });
            walk.piece(here, header, length)
        })?;
        if flow.is_break() {
            break;
        }
    }
    let first = numbers.first().copied().unwrap_or(1);
    Ok(walk.cursor(end.unwrap_or(Position { segment: numbers.last().copied().unwrap_or(first), offset: 0 })))
}

/// What is known while pieces go by from the newest to the oldest.
struct TailWalk {
    wanted: u64,
    found: u64,
    /// The earliest wanted piece that ends a line.
    next: Option<Position>,
    streams: [StreamWalk; 2],
    /// Bytes seen since the last wanted line was found.
    beyond: u64,
}

#[derive(Clone, Copy, Default)]
struct StreamWalk {
    is_seen: bool,
    /// The earliest known piece of the earliest wanted line.
    start: Option<Position>,
    /// Whether pieces before `start` may belong to that line.
    may_grow: bool,
}

impl TailWalk {
    fn new(wanted: u64) -> Self {
        Self { wanted, found: 0, next: None, streams: [StreamWalk::default(); 2], beyond: 0 }
    }

    fn piece(&mut self, here: Position, header: Header, length: u64) -> ControlFlow<()> {
        let is_complete = self.found >= self.wanted;
        if is_complete && !self.streams.iter().any(|stream| stream.may_grow) {
            return ControlFlow::Break(());
        }
        if is_complete {
            self.beyond += length;
        }
        let stream = &mut self.streams[header.stream.index()];
        let is_last = !std::mem::replace(&mut stream.is_seen, true);
        if header.is_full || is_last {
            stream.may_grow = !is_complete;
            if !is_complete {
                self.found += 1;
                stream.start = Some(here);
                if header.is_full {
                    self.next = Some(here);
                }
            }
        } else if stream.may_grow {
            stream.start = Some(here);
        }
        if self.beyond > JOIN_LOOKBACK_BYTES {
            return ControlFlow::Break(());
        }
        ControlFlow::Continue(())
    }

    fn cursor(self, end: Position) -> Cursor {
        let next = self.next.unwrap_or(end);
        Cursor { next, open: self.streams.map(|stream| stream.start.filter(|&start| start < next)) }
    }
}

/// Calls `visit` with offset, header and length of each whole physical line of one segment, from the last to the first.
/// Lines without a valid header are passed over.
fn lines_backwards(
    size: u64,
    mut read: impl FnMut(&mut [u8], u64) -> Result<usize, IoError>,
    mut visit: impl FnMut(u64, Header, u64) -> ControlFlow<()>,
) -> Result<ControlFlow<()>, IoError> {
    let mut base = size;
    // The beginning of a line whose start is not read yet, with all that follows of it.
    let mut carry: Vec<u8> = Vec::new();
    let mut is_torn_end = true;
    while base > 0 {
        let block = BLOCK_BYTES.min(base);
        base -= block;
        let mut bytes = vec![0; block as usize];
        let got = read(&mut bytes, base)?;
        if (got as u64) < block {
            // Cut back by its writer meanwhile: what was read after this place is no longer there.
            bytes.truncate(got);
            carry.clear();
        }
        bytes.append(&mut carry);
        let mut end = bytes.len();
        if is_torn_end {
            let Some(newline) = memchr::memrchr(b'\n', &bytes) else { continue };
            end = newline + 1;
            is_torn_end = false;
        }
        while end > 0 {
            let start = match memchr::memrchr(b'\n', &bytes[..end - 1]) {
                Some(newline) => newline + 1,
                None if base == 0 => 0,
                None => break,
            };
            if let Some(header) = format::parse(&bytes[start..end]) {
                let flow = visit(base + start as u64, header, (end - start) as u64);
                if flow.is_break() {
                    return Ok(flow);
                }
            }
            end = start;
        }
        bytes.truncate(end);
        if bytes.len() > MAX_PHYSICAL_BYTES {
            // No writer made this line; its end is enough to find its start.
            bytes.drain(..bytes.len() - 1);
        }
        carry = bytes;
    }
    Ok(ControlFlow::Continue(()))
}
