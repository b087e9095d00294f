//! Writes raw chunks of two streams as a bounded log: a header for each line, no allocation and one write(2) a
//! chunk, rotation by size. A full disk drops output and counts it; it never fails the container.

use std::os::fd::OwnedFd;
use std::path::Path;

use rustix::io::Errno;

use crate::error::LogsError;
use crate::format::{self, Header, Stream, HEADER_BYTES, MAX_PIECE_BYTES};
use crate::segment::{LogDir, MAX_SEGMENT};

/// Smallest segment: a few headers fit.
pub const MIN_SEGMENT_BYTES: u64 = 256;
/// While a reader holds a segment, at least so many may stand: the reader can only leave a finished segment for one
/// that exists.
pub const HELD_SEGMENT_MIN: u64 = 2;
/// Headers and content collected for one write(2).
const BATCH_BYTES: usize = 128 * 1024;

/// The bound of a log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LogLimits {
    segment_bytes: u64,
    segment_count: u64,
}

impl LogLimits {
    /// Segments of at most `segment_bytes` (raised to [`MIN_SEGMENT_BYTES`]), `segment_count` of them (at least 1).
    pub fn new(segment_bytes: u64, segment_count: u64) -> Self {
        Self { segment_bytes: segment_bytes.max(MIN_SEGMENT_BYTES), segment_count: segment_count.max(1) }
    }
}

/// What readers still need.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Hold {
    /// Nothing: the bound alone decides.
    None,
    /// This segment and those after it; at the bound the writer takes no more.
    Wait(u64),
    /// This segment and those after it; the log exceeds its bound rather than wait. For what stands in the pipes once
    /// the process has ended.
    Keep(u64),
}

/// What came of going on in a new segment.
enum Rotation {
    Done,
    /// A reader still needs the segment that would have to go.
    Held,
    /// The file system gives no new file.
    Failed,
}

/// The one writer of a log. Lives in the container's supervisor.
#[derive(Debug)]
pub struct LogWriter {
    dir: LogDir,
    limits: LogLimits,
    file: OwnedFd,
    segment: u64,
    oldest: u64,
    /// Bytes in the segment, those of the batch included.
    size: u64,
    batch: Box<[u8]>,
    batch_len: usize,
    batch_content: u64,
    dropped_bytes: u64,
    last_time: i64,
}

impl LogWriter {
    /// The log in `dir` can be appended to: its newest segment goes on, or the first one is made. A torn last line,
    /// which a crash may leave, ends its segment.
    ///
    /// # Errors
    /// The error of the first system call that failed.
    pub fn open(dir: &Path, limits: LogLimits) -> Result<Self, LogsError> {
        let dir = LogDir::open(dir)?;
        let numbers = dir.list()?;
        let (newest, oldest) = (numbers.last().copied(), numbers.first().copied().unwrap_or(1));
        let segment = newest.unwrap_or(1);
        let file = dir.open_for_append(segment, newest.is_none())?;
        let mut writer = Self {
            dir,
            limits,
            file,
            segment,
            oldest,
            size: 0,
            batch: Box::default(),
            batch_len: 0,
            batch_content: 0,
            dropped_bytes: 0,
            last_time: 0,
        };
        if newest.is_some() {
            writer.join_segment()?;
        }
        Ok(writer)
    }

    /// Goes on with a segment that an earlier writer left.
    fn join_segment(&mut self) -> Result<(), LogsError> {
        let stat =
            rustix::fs::fstat(&self.file).map_err(|errno| self.dir.error("fstat", self.segment, errno))?;
        self.size = u64::try_from(stat.st_size).unwrap_or(0);
        // Times in a log never go back, so that they can be searched, whatever the clock does between two runs.
        self.last_time =
            stat.st_mtime.saturating_mul(1_000_000_000).saturating_add(stat.st_mtime_nsec as i64);
        let mut last = [b'\n'];
        if let Some(at) = self.size.checked_sub(1) {
            self.dir.read_at(self.segment, &self.file, &mut last, at)?;
        }
        if last != *b"\n" {
            self.size = self.limits.segment_bytes.max(self.size);
        }
        Ok(())
    }

    /// Content bytes that were lost because the file system took no more.
    pub fn dropped_bytes(&self) -> u64 {
        self.dropped_bytes
    }

    /// Gives the memory of the last batch back; the next write takes new.
    pub fn release_memory(&mut self) {
        self.batch = Box::default();
    }

    /// Number of the segment that is written to.
    pub fn segment(&self) -> u64 {
        self.segment
    }

    /// Takes over `chunk`, which a process wrote to `stream` at `now_unix_nanos`.
    ///
    /// Returns how many bytes were taken. Fewer than all means that the log is at its bound and the oldest segment is
    /// held ([`Hold::Wait`]): the caller keeps the rest, reads no more from the pipes, and tries again when the hold
    /// has moved.
    pub fn write(&mut self, stream: Stream, chunk: &[u8], now_unix_nanos: i64, hold: Hold) -> usize {
        self.last_time = self.last_time.max(now_unix_nanos);
        if self.batch.is_empty() {
            self.batch = vec![0; BATCH_BYTES].into_boxed_slice();
        }
        let mut header = format::encode(Header { time_unix_nanos: self.last_time, stream, is_full: false });
        let mut rest = chunk;
        while !rest.is_empty() {
            let newline = memchr::memchr(b'\n', &rest[..rest.len().min(MAX_PIECE_BYTES + 1)]);
            let mut piece = newline.unwrap_or(rest.len().min(MAX_PIECE_BYTES));
            let needed = (HEADER_BYTES + piece + 1) as u64;
            if self.size + needed > self.limits.segment_bytes {
                if self.size > 0 {
                    match self.rotate(hold) {
                        Rotation::Done => continue,
                        Rotation::Held => break,
                        Rotation::Failed => {
                            self.dropped_bytes += rest.len() as u64;
                            return chunk.len();
                        }
                    }
                }
                piece = piece.min(self.limits.segment_bytes as usize - HEADER_BYTES - 1);
            }
            let is_full = newline == Some(piece);
            format::set_full(&mut header, is_full);
            self.append(&header, &rest[..piece]);
            rest = &rest[piece + usize::from(is_full)..];
        }
        self.flush();
        chunk.len() - rest.len()
    }

    /// Adds one physical line to the batch.
    fn append(&mut self, header: &[u8; HEADER_BYTES], piece: &[u8]) {
        let needed = HEADER_BYTES + piece.len() + 1;
        if self.batch_len + needed > self.batch.len() {
            self.flush();
        }
        let (head, content) = self.batch[self.batch_len..][..needed].split_at_mut(HEADER_BYTES);
        head.copy_from_slice(header);
        content[..piece.len()].copy_from_slice(piece);
        content[piece.len()] = b'\n';
        self.batch_len += needed;
        self.batch_content += piece.len() as u64;
        self.size += needed as u64;
    }

    /// Writes the batch. What the file system does not take is dropped and counted, and the segment is cut back to the
    /// last whole batch.
    fn flush(&mut self) {
        let mut written = 0;
        while written < self.batch_len {
            match rustix::io::write(&self.file, &self.batch[written..self.batch_len]) {
                Ok(0) | Err(Errno::INTR) => {}
                Ok(count) => written += count,
                Err(_) => {
                    self.drop_batch();
                    break;
                }
            }
        }
        self.batch_len = 0;
        self.batch_content = 0;
    }

    fn drop_batch(&mut self) {
        self.dropped_bytes += self.batch_content;
        self.size -= self.batch_len as u64;
        if rustix::fs::ftruncate(&self.file, self.size).is_err() {
            // A torn line stands there: the segment takes no more.
            self.size = self.limits.segment_bytes.max(self.size);
        }
    }

    /// Goes on in a new segment and unlinks those beyond the bound.
    fn rotate(&mut self, hold: Hold) -> Rotation {
        self.flush();
        let next = self.segment + 1;
        let (held, may_wait) = match hold {
            Hold::None => (u64::MAX, false),
            Hold::Wait(segment) => (segment, true),
            Hold::Keep(segment) => (segment, false),
        };
        let keep = self.limits.segment_count;
        let first_kept = (next + 1).saturating_sub(keep);
        let first_kept_with_hold = (next + 1).saturating_sub(keep.max(HELD_SEGMENT_MIN));
        if may_wait && first_kept_with_hold > held {
            return Rotation::Held;
        }
        if next > MAX_SEGMENT {
            return Rotation::Failed;
        }
        let Ok(file) = self.dir.open_for_append(next, true) else { return Rotation::Failed };
        self.file = file;
        self.segment = next;
        self.size = 0;
        while self.oldest < first_kept.min(held) {
            // One that cannot be unlinked now is tried again at the next rotation.
            if self.dir.unlink(self.oldest).is_err() {
                break;
            }
            self.oldest += 1;
        }
        Rotation::Done
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn content(dir: &Path, number: u64) -> Vec<u8> {
        std::fs::read(dir.join(format!("{number:08}.log"))).unwrap()
    }

    fn writer(dir: &Path, bytes: u64, count: u64) -> LogWriter {
        LogWriter::open(dir, LogLimits::new(bytes, count)).unwrap()
    }

    #[test]
    fn a_chunk_becomes_lines_and_a_piece() {
        let temp = tempfile::tempdir().unwrap();
        let mut log = writer(temp.path(), 4096, 2);
        assert_eq!(log.write(Stream::Stdout, b"one\n\nthree", 1, Hold::None), 10);
        let text = String::from_utf8(content(temp.path(), 1)).unwrap();
        let time = "1970-01-01T00:00:00.000000001Z";
        assert_eq!(text, format!("{time} stdout F one\n{time} stdout F \n{time} stdout P three\n"));
    }

    #[test]
    fn segments_never_exceed_their_bound_and_the_oldest_go() {
        let temp = tempfile::tempdir().unwrap();
        let mut log = writer(temp.path(), 1024, 2);
        for number in 0..500 {
            log.write(Stream::Stdout, format!("line {number}\n").as_bytes(), number, Hold::None);
        }
        log.write(Stream::Stdout, &[b'x'; 5000], 501, Hold::None);
        let numbers = LogDir::open(temp.path()).unwrap().list().unwrap();
        assert_eq!(numbers, [log.segment() - 1, log.segment()]);
        for number in numbers {
            let bytes = content(temp.path(), number);
            assert!(bytes.len() <= 1024);
            assert!(format::parse(&bytes).is_some(), "a segment begins with a header");
        }
    }

    #[test]
    fn a_held_segment_stops_the_writer_until_the_hold_moves() {
        let temp = tempfile::tempdir().unwrap();
        let mut log = writer(temp.path(), 256, 1);
        let chunk = [b'y'; 4000];
        let taken = log.write(Stream::Stdout, &chunk, 1, Hold::Wait(1));
        assert!(taken < chunk.len());
        assert_eq!(log.segment(), HELD_SEGMENT_MIN, "a reader at the end of segment 1 has one to go on with");
        assert_eq!(log.write(Stream::Stdout, &chunk[taken..], 1, Hold::Wait(1)), 0);
        let more = log.write(Stream::Stdout, &chunk[taken..], 1, Hold::Wait(2));
        assert!(more > 0 && taken + more < chunk.len());
        assert_eq!(
            log.write(Stream::Stdout, &chunk[taken + more..], 1, Hold::None),
            chunk.len() - taken - more
        );
    }

    #[test]
    fn a_log_goes_on_where_the_last_writer_stopped() {
        let temp = tempfile::tempdir().unwrap();
        writer(temp.path(), 4096, 2).write(Stream::Stdout, b"first\n", 1, Hold::None);
        let mut log = writer(temp.path(), 4096, 2);
        log.write(Stream::Stdout, b"second\n", 2, Hold::None);
        assert_eq!(log.segment(), 1);
        let bytes = content(temp.path(), 1);
        let times: Vec<_> = bytes.split_inclusive(|&byte| byte == b'\n').map(format::parse).collect();
        assert_eq!(times.len(), 2);
        assert!(times[1].unwrap().time_unix_nanos > 1_000_000_000, "time does not go back");
    }

    #[test]
    fn a_torn_line_ends_its_segment() {
        let temp = tempfile::tempdir().unwrap();
        std::fs::write(temp.path().join("00000004.log"), b"1970-01-01T00").unwrap();
        let mut log = writer(temp.path(), 4096, 2);
        log.write(Stream::Stderr, b"whole\n", 2, Hold::None);
        assert_eq!(log.segment(), 5);
        assert!(format::parse(&content(temp.path(), 5)).is_some());
    }

    #[test]
    fn a_full_device_drops_and_counts_and_goes_on() {
        let temp = tempfile::tempdir().unwrap();
        let mut log = writer(temp.path(), 4096, 2);
        let real = std::mem::replace(
            &mut log.file,
            std::fs::File::options().write(true).open("/dev/full").unwrap().into(),
        );
        assert_eq!(log.write(Stream::Stdout, b"lost\n", 1, Hold::None), 5);
        assert_eq!(log.dropped_bytes(), 4);
        log.file = real;
        log.size = 0;
        log.write(Stream::Stdout, b"kept\n", 2, Hold::None);
        assert!(String::from_utf8(content(temp.path(), 1)).unwrap().ends_with("stdout F kept\n"));
    }
}
