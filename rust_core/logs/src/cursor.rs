//! Places in a log and their text form, which clients keep and hand back.

use std::fmt;

use crate::format::STREAMS;
use crate::segment::MAX_SEGMENT;

/// Longest text that is parsed as a cursor.
pub const MAX_CURSOR_BYTES: usize = 128;

/// A byte offset in a segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Position {
    /// The segment's number, from 1.
    pub segment: u64,
    /// Bytes from the segment's start; always the start of a physical line.
    pub offset: u64,
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.segment, self.offset)
    }
}

/// Where reading goes on: every line that ends at or after `next` is still to be delivered. The two streams are
/// mixed in the file, so a line of one may have begun before a line of the other was delivered; `open` says where.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cursor {
    /// The next physical line that was not looked at.
    pub next: Position,
    /// By stream: the first piece of a line that is not yet ended at `next`.
    pub open: [Option<Position>; 2],
}

impl Cursor {
    /// A place at which no line is open.
    pub fn at(next: Position) -> Self {
        Self { next, open: [None; 2] }
    }

    /// The lowest place that has to be read again.
    pub fn first(&self) -> Position {
        self.open.iter().flatten().copied().fold(self.next, Position::min)
    }

    /// Parses what `Display` writes; None for anything else.
    pub fn parse(text: &str) -> Option<Self> {
        if text.len() > MAX_CURSOR_BYTES {
            return None;
        }
        let mut parts = text.split(',');
        let mut cursor = Self::at(parse_position(parts.next()?)?);
        for part in parts {
            let (index, place) = match part.split_at_checked(1)? {
                ("o", place) => (0, place),
                ("e", place) => (1, place),
                _ => return None,
            };
            let open = parse_position(place)?;
            if cursor.open[index].is_some() || open >= cursor.next {
                return None;
            }
            cursor.open[index] = Some(open);
        }
        Some(cursor)
    }
}

impl fmt::Display for Cursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.next)?;
        for (stream, mark) in STREAMS.iter().zip(["o", "e"]) {
            if let Some(open) = self.open[stream.index()] {
                write!(f, ",{mark}{open}")?;
            }
        }
        Ok(())
    }
}

fn parse_position(text: &str) -> Option<Position> {
    let (segment, offset) = text.split_once(':')?;
    let number = |digits: &str| {
        let is_plain = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
        is_plain.then(|| digits.parse::<u64>().ok()).flatten()
    };
    let (segment, offset) = (number(segment)?, number(offset)?);
    ((1..=MAX_SEGMENT).contains(&segment) && offset <= i64::MAX as u64)
        .then_some(Position { segment, offset })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_cursor_without_open_lines_is_segment_and_offset() {
        let cursor = Cursor::at(Position { segment: 3, offset: 4096 });
        assert_eq!(cursor.to_string(), "3:4096");
        assert_eq!(Cursor::parse("3:4096"), Some(cursor));
    }

    #[test]
    fn nonsense_is_no_cursor() {
        for text in
            ["", ":", "1", "0:0", "1:-1", "+1:0", "1:0,", "1:5,x1:0", "1:5,o1:9", "1:5,o1:0,o1:1", "1:0 "]
        {
            assert_eq!(Cursor::parse(text), None, "{text:?}");
        }
        assert_eq!(Cursor::parse(&"1".repeat(MAX_CURSOR_BYTES + 1)), None);
    }

    proptest! {
        #[test]
        fn the_text_form_loses_nothing(
            segment in 1..=MAX_SEGMENT, offset in 1..1u64 << 62, stdout: Option<u64>, stderr: Option<u64>,
        ) {
            let back = |value: Option<u64>| value.map(|value| Position { segment, offset: value % offset });
            let cursor = Cursor { next: Position { segment, offset }, open: [back(stdout), back(stderr)] };
            prop_assert_eq!(Cursor::parse(&cursor.to_string()), Some(cursor));
        }

        #[test]
        fn any_text_is_parsed_without_a_panic(text in ".{0,40}") {
            let _ = Cursor::parse(&text);
        }
    }
}
