//! Reads a log from any place, over rotations, and joins pieces into whole lines. It never waits: the hub tells when to
//! look again.

use std::os::fd::OwnedFd;
use std::path::Path;

use errors::IoError;

use crate::cursor::{Cursor, Position, MAX_CURSOR_BYTES};
use crate::error::LogsError;
use crate::format::{self, Header, Stream, HEADER_BYTES, MAX_PHYSICAL_BYTES, STREAMS};
use crate::hub::{LogHub, Subscription};
use crate::scan;
use crate::seek;
use crate::segment::LogDir;
use crate::wire::{self, Page};

/// A line up to this length is one record; a longer one is delivered in pieces of about this length.
pub const MAX_RECORD_BYTES: usize = 1024 * 1024;
/// What each record counts towards the size of a batch besides its data.
pub const RECORD_COST_BYTES: usize = 64;
/// Bytes that are read at once.
const BLOCK_BYTES: usize = 64 * 1024;

/// One line, or a piece of one that is longer than [`MAX_RECORD_BYTES`] or was never ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogRecord {
    /// Which stream it came from.
    pub stream: Stream,
    /// Exact bytes; ends with a newline unless the process wrote none.
    pub data: Vec<u8>,
    /// When the line's first piece was written.
    pub time_unix_nanos: i64,
    /// Reading from here begins right after this record.
    pub cursor: Cursor,
}

/// Where reading begins and what is passed over.
#[derive(Debug, Clone, Default)]
pub struct ReadRange {
    /// Text of an earlier record's cursor; takes precedence over `tail_lines`.
    pub cursor: Option<String>,
    /// Begin so many lines before the present end, or before `until_unix_nanos` if that is earlier.
    pub tail_lines: Option<u64>,
    /// Lines that began earlier are passed over.
    pub since_unix_nanos: Option<i64>,
    /// Lines that began then or later are passed over.
    pub until_unix_nanos: Option<i64>,
}

/// A line of one stream that has begun and not ended.
#[derive(Debug, Default)]
struct OpenLine {
    data: Vec<u8>,
    time_unix_nanos: i64,
    start: Option<Position>,
    last: Option<Position>,
}

/// The segment that is being read.
#[derive(Debug)]
struct Current {
    number: u64,
    file: OwnedFd,
    /// Where `buffer` begins in it.
    offset: u64,
}

/// A position in one container's log.
#[derive(Debug)]
pub struct LogReader {
    dir: LogDir,
    subscription: Option<Subscription>,
    current: Option<Current>,
    /// The segment and offset to open when there is no current one.
    wanted: Position,
    /// Pieces before this place count only if they belong to a line in `resume.open`.
    resume: Cursor,
    buffer: Vec<u8>,
    /// How much of `buffer` is used up.
    used: usize,
    lines: [OpenLine; 2],
    since: Option<i64>,
    until: Option<i64>,
    is_past_until: bool,
    skipped_bytes: u64,
    skipped_segments: u64,
}

impl LogReader {
    /// A reader of the log in `dir`, which must exist and may be empty. Blocking (disk only).
    ///
    /// # Errors
    /// `CURSOR_INVALID` if the cursor is no text of ours, lies after the log's end or not between two lines; a cursor
    /// whose segment was rotated away is good, reading goes on with the oldest. Else the system call that failed.
    pub fn open(dir: &Path, range: &ReadRange) -> Result<Self, LogsError> {
        Self::new(dir, range, None)
    }

    /// As `open`, and `hub` tells from now on when the log may have grown.
    ///
    /// # Errors
    /// As `open`.
    pub fn follow(dir: &Path, range: &ReadRange, hub: &LogHub) -> Result<Self, LogsError> {
        // Before the log is looked at, so that nothing escapes in between.
        let subscription = hub.subscribe(dir)?;
        Self::new(dir, range, Some(subscription))
    }

    fn new(dir: &Path, range: &ReadRange, subscription: Option<Subscription>) -> Result<Self, LogsError> {
        let dir = LogDir::open(dir)?;
        let start = match (&range.cursor, range.tail_lines, range.since_unix_nanos) {
            (Some(text), _, _) => checked_cursor(&dir, text)?,
            (None, Some(count), _) => scan::find_tail(&dir, count, range.until_unix_nanos)?,
            (None, None, Some(since)) => seek::find_since(&dir, since)?,
            (None, None, None) => Cursor::at(Position { segment: 1, offset: 0 }),
        };
        Ok(Self {
            dir,
            subscription,
            current: None,
            wanted: start.first(),
            resume: start,
            buffer: Vec::new(),
            used: 0,
            lines: Default::default(),
            since: range.since_unix_nanos,
            until: range.until_unix_nanos,
            is_past_until: false,
            skipped_bytes: 0,
            skipped_segments: 0,
        })
    }

    /// What the hub calls this reader; None if it does not follow.
    pub fn token(&self) -> Option<u64> {
        self.subscription.as_ref().map(Subscription::token)
    }

    /// True if the log may have grown since the last `read` began, as far as the hub was asked; true always for a reader
    /// without one.
    pub fn has_news(&self) -> bool {
        self.subscription.as_ref().is_none_or(Subscription::has_news)
    }

    /// True once a line of `until` or later was met: nothing more will come.
    pub fn is_past_until(&self) -> bool {
        self.is_past_until
    }

    /// The segment that is read next: the lowest this reader needs, to be held with the supervisor.
    pub fn segment(&self) -> u64 {
        self.current.as_ref().map_or(self.wanted.segment, |current| current.number)
    }

    /// Bytes that were no valid log line and were passed over (a line torn by a crash, for example).
    pub fn skipped_bytes(&self) -> u64 {
        self.skipped_bytes
    }

    /// Segments that were rotated away before this reader came to them.
    pub fn skipped_segments(&self) -> u64 {
        self.skipped_segments
    }

    /// Whole lines after the position, in the order in which they ended, at most about `max_bytes` of them (each costs
    /// its data and [`RECORD_COST_BYTES`]); empty at the present end. Segments that were rotated away unread are
    /// passed over. Blocking (disk only).
    ///
    /// # Errors
    /// The error of the first system call that failed; the position is kept.
    pub fn read(&mut self, max_bytes: usize) -> Result<Vec<LogRecord>, LogsError> {
        let mut records = Vec::new();
        self.read_into(&mut records, max_bytes)?;
        Ok(records)
    }

    /// As `read`, and once the end is reached, lines that are not ended count as records too: after the writer has
    /// gone, or at any time by a caller that wants bytes at once rather than whole lines.
    ///
    /// # Errors
    /// As `read`.
    pub fn read_final(&mut self, max_bytes: usize) -> Result<Vec<LogRecord>, LogsError> {
        let mut records = Vec::new();
        if self.read_into(&mut records, max_bytes)? {
            self.end_open_lines(&mut records);
        }
        Ok(records)
    }

    /// As `read`, or `read_final` where `is_final`, serialized for the API; of a stream that is not wanted, by
    /// [`Stream::index`], only the cursor tells.
    ///
    /// # Errors
    /// As `read`.
    pub fn read_page(
        &mut self,
        max_bytes: usize,
        is_final: bool,
        wanted: [bool; 2],
    ) -> Result<Page, LogsError> {
        let records = if is_final { self.read_final(max_bytes)? } else { self.read(max_bytes)? };
        Ok(wire::page(&records, wanted))
    }

    /// True if the present end was reached.
    fn read_into(&mut self, records: &mut Vec<LogRecord>, max_bytes: usize) -> Result<bool, IoError> {
        if let Some(subscription) = &self.subscription {
            subscription.clear();
        }
        let mut cost = 0;
        while cost < max_bytes {
            if self.is_past_until {
                return Ok(true);
            }
            let Some(length) = self.next_physical(records)? else { return Ok(true) };
            let before = records.len();
            self.take_physical(length, records);
            cost +=
                records[before..].iter().map(|record| record.data.len() + RECORD_COST_BYTES).sum::<usize>();
        }
        Ok(false)
    }

    /// Length of the physical line at the start of the unused buffer, its newline included; None at the present end.
    fn next_physical(&mut self, records: &mut Vec<LogRecord>) -> Result<Option<usize>, IoError> {
        let mut searched = 0;
        loop {
            let rest = &self.buffer[self.used..];
            if let Some(newline) = memchr::memchr(b'\n', &rest[searched..]) {
                return Ok(Some(searched + newline + 1));
            }
            searched = rest.len();
            if searched > MAX_PHYSICAL_BYTES {
                // No writer of ours made this: look for its end, keep none of it.
                self.skip(searched);
                searched = 0;
            }
            if self.fill()? {
                continue;
            }
            if !self.advance(records)? {
                // A line that is not whole yet is read again: its writer may have to take it back (a full disk).
                self.buffer.truncate(self.used);
                return Ok(None);
            }
            searched = 0;
        }
    }

    /// Appends more of the current segment to the buffer; false at its present end.
    fn fill(&mut self) -> Result<bool, IoError> {
        let Some(current) = &self.current else { return Ok(false) };
        self.buffer.drain(..self.used);
        let at = current.offset + self.used as u64;
        let kept = self.buffer.len();
        self.buffer.resize(kept + BLOCK_BYTES, 0);
        let got = self.dir.read_at(current.number, &current.file, &mut self.buffer[kept..], at + kept as u64);
        self.buffer.truncate(kept + *got.as_ref().unwrap_or(&0));
        self.used = 0;
        if let Some(current) = &mut self.current {
            current.offset = at;
        }
        Ok(got? > 0)
    }

    /// Goes on with the next segment if there is one and this one is read to its end.
    fn advance(&mut self, records: &mut Vec<LogRecord>) -> Result<bool, IoError> {
        let Some((number, file)) = self.next_segment()? else { return Ok(false) };
        if let Some(current) = &self.current {
            // The writer may have added to this one before it began the next.
            let last = current.number;
            if self.fill()? {
                return Ok(true);
            }
            self.skip(self.buffer.len() - self.used);
            if number != last + 1 {
                // What ended these lines is gone.
                self.end_open_lines(records);
            }
        }
        let expected = self.current.as_ref().map_or(self.wanted.segment, |current| current.number + 1);
        self.skipped_segments += number.saturating_sub(expected);
        let offset = if number == self.wanted.segment { self.wanted.offset } else { 0 };
        self.buffer.clear();
        self.used = 0;
        self.current = Some(Current { number, file, offset });
        Ok(true)
    }

    fn next_segment(&self) -> Result<Option<(u64, OwnedFd)>, IoError> {
        let lowest = self.current.as_ref().map_or(self.wanted.segment, |current| current.number + 1);
        if let Some(file) = self.dir.open_segment(lowest)? {
            return Ok(Some((lowest, file)));
        }
        if let Some(current) = &self.current {
            let stat = rustix::fs::fstat(&current.file)
                .map_err(|errno| self.dir.error("fstat", current.number, errno))?;
            if stat.st_nlink > 0 {
                return Ok(None);
            }
        }
        // Rotated away: the lowest that stands. It may go as well before it is open.
        loop {
            let Some(number) = self.dir.list()?.into_iter().find(|&number| number >= lowest) else {
                return Ok(None);
            };
            if let Some(file) = self.dir.open_segment(number)? {
                return Ok(Some((number, file)));
            }
        }
    }

    fn skip(&mut self, count: usize) {
        self.used += count;
        self.skipped_bytes += count as u64;
    }

    /// Uses up one physical line.
    fn take_physical(&mut self, length: usize, records: &mut Vec<LogRecord>) {
        let line = self.used..self.used + length;
        let Some(current) = &self.current else { return };
        let here = Position { segment: current.number, offset: current.offset + self.used as u64 };
        let after = Position { offset: here.offset + length as u64, ..here };
        let header = format::parse(&self.buffer[line.clone()]).filter(|_| length <= MAX_PHYSICAL_BYTES);
        let Some(header) = header else { return self.skip(length) };
        if self.is_wanted(here, header) {
            let open = &mut self.lines[header.stream.index()];
            if open.start.is_none() {
                open.start = Some(here);
                open.time_unix_nanos = header.time_unix_nanos;
            }
            open.last = Some(here);
            // The newline of the physical line is the process's own where the tag says so.
            let end = if header.is_full { line.end } else { line.end - 1 };
            open.data.extend_from_slice(&self.buffer[line.start + HEADER_BYTES..end]);
            if header.is_full || open.data.len() >= MAX_RECORD_BYTES {
                self.end_line(header.stream, after, records);
            }
        }
        self.used += length;
    }

    fn is_wanted(&mut self, here: Position, header: Header) -> bool {
        if here < self.resume.next {
            return self.resume.open[header.stream.index()].is_some_and(|start| here >= start);
        }
        let is_begun = self.lines[header.stream.index()].start.is_some();
        if !is_begun && self.until.is_some_and(|until| header.time_unix_nanos >= until) {
            // Lines that began before may still end.
            self.is_past_until = self.lines.iter().all(|line| line.start.is_none());
            return false;
        }
        true
    }

    /// Delivers what a stream's open line holds, as far as it is within `since`.
    fn end_line(&mut self, stream: Stream, after: Position, records: &mut Vec<LogRecord>) {
        let line = std::mem::take(&mut self.lines[stream.index()]);
        if line.start.is_none() || self.since.is_some_and(|since| line.time_unix_nanos < since) {
            return;
        }
        let open = [0, 1].map(|index| self.lines[index].start);
        let next = after.max(self.resume.next);
        records.push(LogRecord {
            stream,
            data: line.data,
            time_unix_nanos: line.time_unix_nanos,
            cursor: Cursor { next, open },
        });
    }

    fn end_open_lines(&mut self, records: &mut Vec<LogRecord>) {
        let Some(current) = &self.current else { return };
        let after = Position { segment: current.number, offset: current.offset + self.used as u64 };
        let mut streams = STREAMS;
        streams.sort_by_key(|stream| self.lines[stream.index()].last);
        for stream in streams {
            self.end_line(stream, after, records);
        }
    }
}

/// A cursor that a client gave, checked against the log.
fn checked_cursor(dir: &LogDir, text: &str) -> Result<Cursor, LogsError> {
    let invalid = || {
        let mut cursor = text.to_owned();
        cursor.truncate(text.floor_char_boundary(MAX_CURSOR_BYTES));
        LogsError::CursorInvalid { cursor }
    };
    let mut cursor = Cursor::parse(text).ok_or_else(invalid)?;
    let newest = dir.list()?.last().copied().unwrap_or(1);
    if cursor.next.segment > newest || !is_line_start(dir, cursor.next)? {
        return Err(invalid());
    }
    for open in &mut cursor.open {
        let Some(position) = *open else { continue };
        if !is_line_start(dir, position)? {
            return Err(invalid());
        }
        if dir.open_segment(position.segment)?.is_none() {
            *open = None;
        }
    }
    Ok(cursor)
}

/// Whether a physical line begins there, or the segment ends there, or is gone.
fn is_line_start(dir: &LogDir, position: Position) -> Result<bool, IoError> {
    let Some(before) = position.offset.checked_sub(1) else { return Ok(true) };
    let Some(file) = dir.open_segment(position.segment)? else { return Ok(true) };
    let mut byte = [0];
    let got = dir.read_at(position.segment, &file, &mut byte, before)?;
    Ok(got == 1 && byte == *b"\n")
}
