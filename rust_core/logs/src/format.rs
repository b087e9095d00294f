//! The header of one physical log line: time, stream, tag. Every header that is written has the same length, so that
//! writing needs no allocation and reading no search. Anything else is refused by the parser.

/// Length of a header: 30 bytes of time, 6 of stream, 1 of tag, each followed by a space.
pub const HEADER_BYTES: usize = 40;
/// Most content bytes in one physical line; a longer line is written as several pieces.
pub const MAX_PIECE_BYTES: usize = 32 * 1024;
/// Longest physical line, its newline included.
pub const MAX_PHYSICAL_BYTES: usize = HEADER_BYTES + MAX_PIECE_BYTES + 1;

const TIME_BYTES: usize = 30;
const STREAM_AT: usize = 31;
const TAG_AT: usize = 38;
const NANOS_PER_SECOND: i64 = 1_000_000_000;
const SECONDS_PER_DAY: i64 = 86_400;

/// Which of a process's two output streams a line came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stream {
    /// Descriptor 1.
    Stdout,
    /// Descriptor 2.
    Stderr,
}

impl Stream {
    /// The word that stands in the log: `stdout` or `stderr`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Stdout => "stdout",
            Self::Stderr => "stderr",
        }
    }

    /// 0 for stdout, 1 for stderr.
    pub fn index(self) -> usize {
        match self {
            Self::Stdout => 0,
            Self::Stderr => 1,
        }
    }
}

/// Both streams, in the order of [`Stream::index`].
pub const STREAMS: [Stream; 2] = [Stream::Stdout, Stream::Stderr];

/// What a header says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header {
    /// Nanoseconds since 1970, 0 to the year 2262.
    pub time_unix_nanos: i64,
    /// The stream that the content came from.
    pub stream: Stream,
    /// True where the process ended the content with a newline (`F`).
    pub is_full: bool,
}

/// Writes a header into bytes of its own. Times before 1970 become 1970.
pub fn encode(header: Header) -> [u8; HEADER_BYTES] {
    let mut out = *b"0000-00-00T00:00:00.000000000Z stdout P ";
    let nanos = header.time_unix_nanos.max(0);
    let (seconds, fraction) = (nanos / NANOS_PER_SECOND, nanos % NANOS_PER_SECOND);
    let (days, of_day) = (seconds / SECONDS_PER_DAY, seconds % SECONDS_PER_DAY);
    let (year, month, day) = civil_from_days(days);
    put(&mut out[0..4], year);
    put(&mut out[5..7], month);
    put(&mut out[8..10], day);
    put(&mut out[11..13], of_day / 3600);
    put(&mut out[14..16], of_day / 60 % 60);
    put(&mut out[17..19], of_day % 60);
    put(&mut out[20..29], fraction);
    out[STREAM_AT..STREAM_AT + 6].copy_from_slice(header.stream.as_str().as_bytes());
    set_full(&mut out, header.is_full);
    out
}

/// Changes the tag of an encoded header.
pub fn set_full(header: &mut [u8; HEADER_BYTES], is_full: bool) {
    header[TAG_AT] = if is_full { b'F' } else { b'P' };
}

/// Reads the header at the start of a physical line; None if it is not one that [`encode`] writes.
pub fn parse(line: &[u8]) -> Option<Header> {
    let head: &[u8; HEADER_BYTES] = line.get(..HEADER_BYTES)?.try_into().ok()?;
    let is_full = match head[TAG_AT] {
        b'F' => true,
        b'P' => false,
        _ => return None,
    };
    let stream = match &head[STREAM_AT..STREAM_AT + 6] {
        b"stdout" => Stream::Stdout,
        b"stderr" => Stream::Stderr,
        _ => return None,
    };
    let separators = [(4, b'-'), (7, b'-'), (10, b'T'), (13, b':'), (16, b':'), (19, b'.'), (29, b'Z')];
    let spaces = [(TIME_BYTES, b' '), (TAG_AT - 1, b' '), (TAG_AT + 1, b' ')];
    if separators.iter().chain(&spaces).any(|&(at, byte)| head[at] != byte) {
        return None;
    }
    let (year, month, day) = (take(&head[0..4])?, take(&head[5..7])?, take(&head[8..10])?);
    let (hour, minute, second) = (take(&head[11..13])?, take(&head[14..16])?, take(&head[17..19])?);
    if !(1970..=2261).contains(&year) || !(1..=12).contains(&month) || !(1..=31).contains(&day) {
        return None;
    }
    if hour > 23 || minute > 59 || second > 59 {
        return None;
    }
    let seconds = days_from_civil(year, month, day) * SECONDS_PER_DAY + hour * 3600 + minute * 60 + second;
    let time_unix_nanos = seconds * NANOS_PER_SECOND + take(&head[20..29])?;
    Some(Header { time_unix_nanos, stream, is_full })
}

fn put(out: &mut [u8], mut value: i64) {
    for byte in out.iter_mut().rev() {
        *byte = b'0' + (value % 10) as u8;
        value /= 10;
    }
}

fn take(digits: &[u8]) -> Option<i64> {
    digits.iter().try_fold(0i64, |sum, byte| byte.is_ascii_digit().then(|| sum * 10 + i64::from(byte - b'0')))
}

/// Source: Howard Hinnant, "chrono-Compatible Low-Level Date Algorithms", `civil_from_days`; days are not negative.
fn civil_from_days(days: i64) -> (i64, i64, i64) {
    let shifted = days + 719_468;
    let (era, of_era) = (shifted / 146_097, shifted % 146_097);
    let year_of_era = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * of_year + 2) / 153;
    let day = of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = if shifted_month < 10 { shifted_month + 3 } else { shifted_month - 9 };
    (year_of_era + era * 400 + i64::from(month <= 2), month, day)
}

/// The inverse of [`civil_from_days`]. Source: the same page, `days_from_civil`.
fn days_from_civil(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let (era, year_of_era) = (year / 400, year % 400);
    let shifted_month = if month > 2 { month - 3 } else { month + 9 };
    let of_year = (153 * shifted_month + 2) / 5 + day - 1;
    let of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + of_year;
    era * 146_097 + of_era - 719_468
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_header_is_the_text_that_cri_readers_expect() {
        let header =
            Header { time_unix_nanos: 1_795_580_623_000_000_042, stream: Stream::Stderr, is_full: true };
        assert_eq!(&encode(header), b"2026-11-25T04:23:43.000000042Z stderr F ");
    }

    #[test]
    fn a_leap_day_is_a_day() {
        let header =
            Header { time_unix_nanos: 1_709_164_800_000_000_000, stream: Stream::Stdout, is_full: false };
        assert_eq!(&encode(header), b"2024-02-29T00:00:00.000000000Z stdout P ");
    }

    #[test]
    fn what_the_writer_never_writes_is_refused() {
        for line in [
            &b"2026-11-25T04:23:43.000000042Z stdout X "[..],
            b"2026-11-25T04:23:43.000000042Z stdin! F ",
            b"2026-13-25T04:23:43.000000042Z stdout F ",
            b"2026-11-25T04:23:43.00000004 Z stdout F ",
            b"2026-11-25T04:23:43.000000042Z stdout F",
            b"",
        ] {
            assert_eq!(parse(line), None, "{}", String::from_utf8_lossy(line));
        }
    }

    proptest! {
        #[test]
        fn every_time_comes_back(time in 0i64..9_200_000_000_000_000_000, stderr: bool, is_full: bool) {
            let stream = if stderr { Stream::Stderr } else { Stream::Stdout };
            let header = Header { time_unix_nanos: time, stream, is_full };
            prop_assert_eq!(parse(&encode(header)), Some(header));
        }

        #[test]
        fn any_bytes_are_parsed_without_a_panic(line in proptest::collection::vec(any::<u8>(), 0..64)) {
            let _ = parse(&line);
        }
    }
}
