//! The output of a further process: a ring in a memory file that the supervisor writes and the daemon reads, so that
//! the bytes pass through no socket, outlive the daemon, and take a bounded amount of memory whoever reads or does not.
//!
//! ```text
//! position 0        oldest                taken               head
//!    ┄┄┄┄┄┄┄┄┄┄┄┄┄┄┄┄┼─────────────────────┼────────────────────┤
//!      overwritten     can be read again     not read yet: at most MAX_UNREAD_BYTES, then the process waits
//! ```
//! Positions only grow; a position stands at itself modulo [`SPOOL_BYTES`] in the file. Each chunk is a frame: position,
//! bytes of output before it, time, length and stream, 32 bytes, then the bytes.

use std::os::fd::OwnedFd;

use errors::IoError;
use rustix::fs::{memfd_create, MemfdFlags};
use rustix::io::Errno;

/// Size of the ring: what is kept of a process's output, its frames' heads included.
pub const SPOOL_BYTES: u64 = 512 * 1024;
/// Output that a reader has not taken yet; beyond it the process waits.
pub const MAX_UNREAD_BYTES: u64 = 256 * 1024;
/// Longest content of one frame.
pub const MAX_FRAME_BYTES: usize = 64 * 1024;
const HEAD_BYTES: usize = 32;

/// Which of the process's outputs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SpoolStream {
    /// Standard output, or the terminal's.
    Stdout,
    /// Standard error.
    Stderr,
}

#[derive(Clone, Copy)]
struct Head {
    position: u64,
    content: u64,
    time_unix_nanos: i64,
    length: u32,
    stream: SpoolStream,
}

impl Head {
    fn encode(self) -> [u8; HEAD_BYTES] {
        let mut bytes = [0; HEAD_BYTES];
        bytes[..8].copy_from_slice(&self.position.to_le_bytes());
        bytes[8..16].copy_from_slice(&self.content.to_le_bytes());
        bytes[16..24].copy_from_slice(&self.time_unix_nanos.to_le_bytes());
        bytes[24..28].copy_from_slice(&self.length.to_le_bytes());
        bytes[28] = u8::from(self.stream == SpoolStream::Stderr);
        bytes
    }

    /// None if it is not the head of a frame at `position`.
    fn decode(bytes: &[u8; HEAD_BYTES], position: u64) -> Option<Self> {
        let word = |at: usize| bytes[at..at + 8].try_into().map(u64::from_le_bytes).unwrap_or_default();
        let length = bytes[24..28].try_into().map(u32::from_le_bytes).unwrap_or_default();
        let stream = if bytes[28] == 0 { SpoolStream::Stdout } else { SpoolStream::Stderr };
        let head = Self {
            position: word(0),
            content: word(8),
            time_unix_nanos: word(16).cast_signed(),
            length,
            stream,
        };
        (head.position == position && length as usize <= MAX_FRAME_BYTES).then_some(head)
    }

    fn end(&self) -> u64 {
        self.position + (HEAD_BYTES + self.length as usize) as u64
    }
}

/// The parts of the file that `length` bytes at `position` stand in: (offset, length), the second empty unless they
/// wrap.
fn parts(position: u64, length: usize) -> [(u64, usize); 2] {
    let at = position % SPOOL_BYTES;
    let first = length.min((SPOOL_BYTES - at) as usize);
    [(at, first), (0, length - first)]
}

fn read_at(file: &OwnedFd, position: u64, buffer: &mut [u8]) -> Result<(), Errno> {
    let mut done = 0;
    for (offset, length) in parts(position, buffer.len()) {
        let mut part = 0;
        while part < length {
            match rustix::io::pread(file, &mut buffer[done + part..done + length], offset + part as u64) {
                // A hole at the end of a file that has not been filled once: nothing of ours stands there.
                Ok(0) => return Err(Errno::NODATA),
                Ok(count) => part += count,
                Err(Errno::INTR) => {}
                Err(errno) => return Err(errno),
            }
        }
        done += length;
    }
    Ok(())
}

fn write_at(file: &OwnedFd, position: u64, bytes: &[u8]) -> Result<(), Errno> {
    let mut done = 0;
    for (offset, length) in parts(position, bytes.len()) {
        let mut part = 0;
        while part < length {
            match rustix::io::pwrite(file, &bytes[done + part..done + length], offset + part as u64) {
                Ok(count) => part += count,
                Err(Errno::INTR) => {}
                Err(errno) => return Err(errno),
            }
        }
        done += length;
    }
    Ok(())
}

fn head_at(file: &OwnedFd, position: u64) -> Result<Option<Head>, Errno> {
    let mut bytes = [0; HEAD_BYTES];
    read_at(file, position, &mut bytes)?;
    Ok(Head::decode(&bytes, position))
}

/// The writing side.
#[derive(Debug)]
pub struct SpoolWriter {
    file: OwnedFd,
    head: u64,
    oldest: u64,
    content: u64,
}

impl SpoolWriter {
    /// An empty ring; it takes memory as it is written.
    ///
    /// # Errors
    /// The memfd_create(2) error.
    pub fn new() -> Result<Self, IoError> {
        let file = memfd_create("fluyt-exec", MemfdFlags::CLOEXEC)
            .map_err(|errno| IoError::new("memfd_create", "", errno.raw_os_error()))?;
        Ok(Self { file, head: 0, oldest: 0, content: 0 })
    }

    /// The file, for a reader.
    pub fn file(&self) -> &OwnedFd {
        &self.file
    }

    /// Where the next frame will stand.
    pub fn head(&self) -> u64 {
        self.head
    }

    /// Where the first frame stands that can still be read.
    pub fn oldest(&self) -> u64 {
        self.oldest
    }

    /// Bytes of output so far.
    pub fn content_bytes(&self) -> u64 {
        self.content
    }

    /// How many bytes a chunk may have. `taken`: what a reader has read, and before which alone frames may be
    /// overwritten; None without one. `is_last`: the process has ended, and all of the ring may be filled.
    pub fn room(&self, taken: Option<u64>, is_last: bool) -> usize {
        let bound = if is_last { SPOOL_BYTES } else { MAX_UNREAD_BYTES };
        let free = taken.map_or(bound, |taken| (taken + bound).saturating_sub(self.head));
        (free.saturating_sub(HEAD_BYTES as u64) as usize).min(MAX_FRAME_BYTES)
    }

    /// Takes over a chunk that fits `room`; the oldest frames go for it.
    ///
    /// # Errors
    /// The write error (no memory): the chunk is lost then.
    pub fn append(&mut self, stream: SpoolStream, chunk: &[u8], time_unix_nanos: i64) -> Result<(), Errno> {
        debug_assert!(chunk.len() <= MAX_FRAME_BYTES);
        let length = chunk.len() as u32;
        let head = Head { position: self.head, content: self.content, time_unix_nanos, length, stream };
        while self.oldest + SPOOL_BYTES < head.end() {
            match head_at(&self.file, self.oldest)? {
                Some(old) => self.oldest = old.end(),
                // Cannot be: every frame was written whole. Nothing of it is shown.
                None => self.oldest = self.head,
            }
        }
        write_at(&self.file, self.head, &head.encode())?;
        write_at(&self.file, self.head + HEAD_BYTES as u64, chunk)?;
        self.head = head.end();
        self.content += u64::from(length);
        Ok(())
    }
}

/// A chunk of output that was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SpoolRecord {
    /// Of which output.
    pub stream: SpoolStream,
    /// When it was read from the process.
    pub time_unix_nanos: i64,
    /// Bytes of output before this chunk.
    pub offset: u64,
    /// Exact bytes.
    pub data: Vec<u8>,
}

/// Reads whole frames from `position` on, until about `max_bytes` were read or `head` is reached. Returns them and the
/// position after them. The caller holds `position`, so that it is not overwritten meanwhile.
///
/// # Errors
/// The read error; EBADMSG if no frame stands at `position`.
pub fn read(
    file: &OwnedFd,
    mut position: u64,
    head: u64,
    max_bytes: usize,
) -> Result<(Vec<SpoolRecord>, u64), Errno> {
    let mut records = Vec::new();
    let mut size = 0;
    while position < head && size < max_bytes {
        let frame = head_at(file, position)?.ok_or(Errno::BADMSG)?;
        let mut data = vec![0; frame.length as usize];
        read_at(file, position + HEAD_BYTES as u64, &mut data)?;
        size += data.len();
        let Head { time_unix_nanos, content: offset, stream, .. } = frame;
        records.push(SpoolRecord { stream, time_unix_nanos, offset, data });
        position = frame.end();
    }
    Ok((records, position))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn all(writer: &SpoolWriter) -> Vec<SpoolRecord> {
        read(writer.file(), writer.oldest(), writer.head(), usize::MAX).unwrap().0
    }

    #[test]
    fn frames_come_back_in_order_with_their_offsets() {
        let mut writer = SpoolWriter::new().unwrap();
        writer.append(SpoolStream::Stdout, b"one", 1).unwrap();
        writer.append(SpoolStream::Stderr, b"", 2).unwrap();
        writer.append(SpoolStream::Stderr, b"three", 3).unwrap();
        let found: Vec<_> =
            all(&writer).into_iter().map(|record| (record.stream, record.offset, record.data)).collect();
        assert_eq!(
            found,
            [
                (SpoolStream::Stdout, 0, b"one".to_vec()),
                (SpoolStream::Stderr, 3, Vec::new()),
                (SpoolStream::Stderr, 3, b"three".to_vec())
            ]
        );
        assert_eq!(writer.content_bytes(), 8);
    }

    #[test]
    fn a_reader_that_takes_nothing_leaves_no_room_and_loses_nothing() {
        let mut writer = SpoolWriter::new().unwrap();
        let mut written = 0;
        loop {
            let room = writer.room(Some(0), false);
            if room == 0 {
                break;
            }
            writer.append(SpoolStream::Stdout, &vec![b'x'; room], 0).unwrap();
            written += room;
        }
        assert!(writer.head() <= MAX_UNREAD_BYTES);
        assert_eq!(all(&writer).iter().map(|record| record.data.len()).sum::<usize>(), written);
        assert!(writer.room(Some(0), true) > 0, "the rest of an ended process fits");
    }

    #[test]
    fn what_was_overwritten_is_no_frame() {
        let mut writer = SpoolWriter::new().unwrap();
        for _ in 0..32 {
            writer.append(SpoolStream::Stdout, &[b'y'; MAX_FRAME_BYTES], 0).unwrap();
        }
        assert!(writer.head() - writer.oldest() <= SPOOL_BYTES);
        assert_eq!(read(writer.file(), 0, writer.head(), 1), Err(Errno::BADMSG));
    }

    proptest! {
        #[test]
        fn the_newest_frames_are_whole_whatever_was_written(
            lengths in proptest::collection::vec(0..MAX_FRAME_BYTES, 1..60)
        ) {
            let mut writer = SpoolWriter::new().unwrap();
            let mut sent = Vec::new();
            for (number, length) in lengths.iter().enumerate() {
                let data = vec![number as u8; *length];
                writer.append(SpoolStream::Stdout, &data, number as i64).unwrap();
                sent.push(data);
            }
            let kept = all(&writer);
            prop_assert!(!kept.is_empty());
            let tail = &sent[sent.len() - kept.len()..];
            prop_assert!(kept.iter().zip(tail).all(|(record, data)| record.data == *data));
            let last = kept.last().unwrap();
            prop_assert_eq!(last.offset + last.data.len() as u64, writer.content_bytes());
        }
    }
}
