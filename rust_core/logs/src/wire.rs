//! Records as callers of the API get them: serialized `fluyt.v1.ReadLogsResponse` messages with a `batch` each.
//!
//! To make an object of each line and a message of each object took most of a reading's processor time, so that lines
//! go from the log to the caller without either. The fields are those of `proto/fluyt/v1/logs.proto`, which never
//! change their numbers; a test reads what is written here with the generated messages.
//! Source: the protobuf encoding, <https://protobuf.dev/programming-guides/encoding/>.

use std::fmt::Write;

use crate::cursor::Cursor;
use crate::reader::LogRecord;

/// Most bytes of one record in a message; a longer line goes out in several.
pub const MAX_PIECE_BYTES: usize = 512 * 1024;
/// Most bytes of records in one message, unless it has one alone.
pub const MAX_MESSAGE_BYTES: usize = 256 * 1024;

const NANOS_PER_SECOND: i64 = 1_000_000_000;
/// Longest varint.
const MAX_VARINT_BYTES: usize = 10;
const LENGTH_DELIMITED: u8 = 2;

// Field numbers.
const RESPONSE_BATCH: u8 = 1;
const BATCH_RECORDS: u8 = 1;
const RECORD_STREAM: u8 = 1;
const RECORD_DATA: u8 = 2;
const RECORD_TIME: u8 = 3;
const RECORD_CURSOR: u8 = 4;
const TIME_SECONDS: u8 = 1;
const TIME_NANOS: u8 = 2;

/// Some records, serialized.
#[derive(Debug, Default)]
pub struct Page {
    /// Each a whole `ReadLogsResponse`; none where no record was of a stream that is wanted.
    pub messages: Vec<Vec<u8>>,
    /// Right after the last record, whichever stream it was of; None if there was no record.
    pub cursor: Option<Cursor>,
}

/// The records of the streams that are wanted, by [`crate::format::Stream::index`].
pub fn page(records: &[LogRecord], wanted: [bool; 2]) -> Page {
    let mut page = Page { messages: Vec::new(), cursor: records.last().map(|record| record.cursor) };
    let mut message = Message::default();
    let mut cursor = String::new();
    for record in records.iter().filter(|record| wanted[record.stream.index()]) {
        cursor.clear();
        // Writing to a string does not fail.
        let _ = write!(cursor, "{}", record.cursor);
        let mut rest = record.data.as_slice();
        loop {
            let (piece, left) = rest.split_at(rest.len().min(MAX_PIECE_BYTES));
            if message.data_bytes > 0 && message.data_bytes + piece.len() > MAX_MESSAGE_BYTES {
                page.messages.extend(std::mem::take(&mut message).finish());
            }
            // Only the last piece has a place to go on from: a cursor stands between lines.
            message.record(record, piece, if left.is_empty() { &cursor } else { "" });
            rest = left;
            if rest.is_empty() {
                break;
            }
        }
    }
    page.messages.extend(message.finish());
    page
}

/// A message that is being written: room for its own tag and length, then the records.
#[derive(Default)]
struct Message {
    bytes: Vec<u8>,
    data_bytes: usize,
}

impl Message {
    const HEAD_BYTES: usize = 1 + MAX_VARINT_BYTES;

    fn record(&mut self, record: &LogRecord, piece: &[u8], cursor: &str) {
        if self.bytes.is_empty() {
            self.bytes.resize(Self::HEAD_BYTES, 0);
        }
        let seconds = record.time_unix_nanos.div_euclid(NANOS_PER_SECOND);
        let nanos = record.time_unix_nanos.rem_euclid(NANOS_PER_SECOND);
        // Protobuf writes a negative number as the unsigned one of the same bits.
        let (seconds, nanos) = (seconds as u64, nanos as u64);
        let time = number_length(seconds) + number_length(nanos);
        let length = number_length(1)
            + bytes_length(piece.len())
            + 1
            + varint_length(time as u64)
            + time
            + bytes_length(cursor.len());
        tag(&mut self.bytes, BATCH_RECORDS, LENGTH_DELIMITED);
        varint(&mut self.bytes, length as u64);
        // STDOUT is 1, STDERR 2.
        number(&mut self.bytes, RECORD_STREAM, record.stream.index() as u64 + 1);
        bytes(&mut self.bytes, RECORD_DATA, piece);
        tag(&mut self.bytes, RECORD_TIME, LENGTH_DELIMITED);
        varint(&mut self.bytes, time as u64);
        number(&mut self.bytes, TIME_SECONDS, seconds);
        number(&mut self.bytes, TIME_NANOS, nanos);
        bytes(&mut self.bytes, RECORD_CURSOR, cursor.as_bytes());
        self.data_bytes += piece.len();
    }

    /// The message, if it has a record.
    fn finish(mut self) -> Option<Vec<u8>> {
        let length = self.bytes.len().checked_sub(Self::HEAD_BYTES)? as u64;
        let mut head = Vec::with_capacity(Self::HEAD_BYTES);
        tag(&mut head, RESPONSE_BATCH, LENGTH_DELIMITED);
        varint(&mut head, length);
        let begin = Self::HEAD_BYTES - head.len();
        self.bytes[begin..Self::HEAD_BYTES].copy_from_slice(&head);
        self.bytes.drain(..begin);
        Some(self.bytes)
    }
}

fn tag(out: &mut Vec<u8>, field: u8, wire_type: u8) {
    out.push(field << 3 | wire_type);
}

fn varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

fn varint_length(value: u64) -> usize {
    (64 - (value | 1).leading_zeros() as usize).div_ceil(7)
}

/// Length of a number's field; one of 0 is left out.
fn number_length(value: u64) -> usize {
    if value == 0 {
        0
    } else {
        1 + varint_length(value)
    }
}

fn number(out: &mut Vec<u8>, field: u8, value: u64) {
    if value != 0 {
        tag(out, field, 0);
        varint(out, value);
    }
}

/// Length of a field of so many bytes; one of none is left out.
fn bytes_length(length: usize) -> usize {
    if length == 0 {
        0
    } else {
        1 + varint_length(length as u64) + length
    }
}

fn bytes(out: &mut Vec<u8>, field: u8, value: &[u8]) {
    if !value.is_empty() {
        tag(out, field, LENGTH_DELIMITED);
        varint(out, value.len() as u64);
        out.extend_from_slice(value);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cursor::Position;
    use crate::format::Stream;

    fn record(stream: Stream, data: &[u8]) -> LogRecord {
        let cursor = Cursor::at(Position { segment: 1, offset: 7 });
        LogRecord { stream, data: data.to_vec(), time_unix_nanos: 2 * NANOS_PER_SECOND + 3, cursor }
    }

    #[test]
    fn a_record_is_written_as_the_api_has_it() {
        let page = page(&[record(Stream::Stderr, b"hi")], [true; 2]);
        let expected = b"\x0a\x13\x0a\x11\x08\x02\x12\x02hi\x1a\x04\x08\x02\x10\x03\x22\x031:7";
        assert_eq!(page.messages, [expected.to_vec()]);
    }

    #[test]
    fn what_is_not_wanted_moves_the_cursor_alone() {
        let page = page(&[record(Stream::Stdout, b"x"), record(Stream::Stderr, b"y")], [false; 2]);
        assert!(page.messages.is_empty());
        assert_eq!(page.cursor.map(|cursor| cursor.to_string()).as_deref(), Some("1:7"));
        assert!(super::page(&[], [true; 2]).cursor.is_none());
    }

    #[test]
    fn messages_and_pieces_have_their_bounds() {
        let long = vec![b'x'; 2 * MAX_PIECE_BYTES + 1];
        let page = page(&[record(Stream::Stdout, b"a"), record(Stream::Stdout, &long)], [true; 2]);
        let lengths: Vec<_> = page.messages.iter().map(Vec::len).collect();
        // "a" alone, two whole pieces, and one byte behind the second, which is beyond the bound.
        assert_eq!(lengths.len(), 4, "{lengths:?}");
        assert!(lengths.iter().all(|&length| length <= MAX_PIECE_BYTES + 64), "{lengths:?}");
        let cursors = page.messages.iter().filter(|message| message.ends_with(b"1:7")).count();
        assert_eq!(cursors, 2, "a line's last piece alone has a cursor");
    }

    #[test]
    fn lengths_of_varints_are_those_written() {
        for value in [0, 1, 127, 128, 16_383, 16_384, u64::from(u32::MAX), u64::MAX] {
            let mut out = Vec::new();
            varint(&mut out, value);
            assert_eq!(out.len(), varint_length(value), "{value}");
        }
    }
}
