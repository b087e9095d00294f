//! Copies the process's two streams into its log.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use logs::{Hold, JournalWriter, LogWriter, Stream};
use rustix::io::Errno;

use crate::plan::now_unix_nanos;

/// Bytes read at once.
const CHUNK_BYTES: usize = 128 * 1024;
/// A process that fills its pipe gets one of this size; fewer wake-ups for it and for us.
const LARGE_PIPE_BYTES: usize = 256 * 1024;
/// A pipe begins at 64 KiB; a read of this much means that the process writes faster than we read.
/// Source: pipe(7).
const FULL_PIPE_BYTES: usize = 64 * 1024;

struct Source {
    pipe: Option<OwnedFd>,
    is_large: bool,
}

/// What came of a read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Progress {
    /// Something was read.
    Some,
    /// There is nothing now.
    Nothing,
    /// Every writer has closed.
    Ended,
}

/// The process's streams and its log.
pub struct Output {
    log: LogWriter,
    /// Where lines go besides.
    journal: Option<JournalWriter>,
    sources: [Source; 2],
    chunk: Box<[u8]>,
    /// A side of the terminal that a process writes to: while it is open, the terminal is not hung up because every
    /// process has closed it, and one that opens /dev/console later is heard.
    kept_open: Option<OwnedFd>,
    /// What the log would not take yet.
    rest: Option<(Stream, std::ops::Range<usize>)>,
}

/// Both streams by their place in `sources`.
pub const STREAMS: [Stream; 2] = logs::format::STREAMS;

impl Output {
    /// Copies from the reading ends, which do not block; a terminal has one only, and a writing side that is kept open
    /// until [`Output::let_go`].
    pub fn new(log: LogWriter, stdout: OwnedFd, stderr: Option<OwnedFd>, kept_open: Option<OwnedFd>) -> Self {
        let stdout = Some(stdout);
        let source = |pipe| Source { pipe, is_large: false };
        let sources = [source(stdout), source(stderr)];
        Self { log, journal: None, sources, chunk: Box::default(), kept_open, rest: None }
    }

    /// The journal gets all lines too.
    pub fn with_journal(self, journal: Option<JournalWriter>) -> Self {
        Self { journal, ..self }
    }

    /// The container has ended: its terminal ends with the last process that has it open.
    pub fn let_go(&mut self) {
        self.kept_open = None;
    }

    /// The pipe of a stream, unless it has ended.
    pub fn pipe(&self, stream: Stream) -> Option<BorrowedFd<'_>> {
        self.sources[stream.index()].pipe.as_ref().map(AsFd::as_fd)
    }

    /// True while the log is at its bound and held: nothing may be read.
    pub fn is_blocked(&self) -> bool {
        self.rest.is_some()
    }

    /// Output that the log lost, or the journal did not take.
    pub fn dropped_bytes(&self) -> u64 {
        self.log.dropped_bytes() + self.journal.as_ref().map_or(0, JournalWriter::dropped_bytes)
    }

    /// All has been copied: the journal gets what stands without a newline.
    pub fn finish(&mut self) {
        if let Some(journal) = &mut self.journal {
            journal.finish();
        }
    }

    /// Whether there are buffers to give back.
    pub fn has_buffers(&self) -> bool {
        !self.chunk.is_empty() && self.rest.is_none()
    }

    /// Gives the buffers back to the kernel; the next output takes new ones.
    pub fn release_buffers(&mut self) {
        if self.rest.is_none() {
            self.chunk = Box::default();
            self.log.release_memory();
            sys::memory::trim();
        }
    }

    /// Writes what was left over, as far as the hold allows.
    pub fn resume(&mut self, hold: Hold) {
        if let Some((stream, range)) = self.rest.take() {
            self.store(stream, range, hold);
        }
    }

    /// Copies one chunk of a stream.
    pub fn copy(&mut self, stream: Stream, hold: Hold) -> Progress {
        let source = &mut self.sources[stream.index()];
        let Some(pipe) = &source.pipe else { return Progress::Ended };
        if self.chunk.is_empty() {
            // Zeroed pages that nothing has touched take no memory.
            self.chunk = vec![0; CHUNK_BYTES].into_boxed_slice();
        }
        match rustix::io::read(pipe, &mut self.chunk[..]) {
            Ok(0) => {
                source.pipe = None;
                Progress::Ended
            }
            Ok(count) => {
                if count >= FULL_PIPE_BYTES && !source.is_large {
                    source.is_large = true;
                    // Refused where the user's pipes are at their bound; the pipe stays as it is then.
                    let _ = rustix::pipe::fcntl_setpipe_size(pipe, LARGE_PIPE_BYTES);
                }
                self.store(stream, 0..count, hold);
                Progress::Some
            }
            Err(Errno::AGAIN | Errno::INTR) => Progress::Nothing,
            Err(_) => {
                // A pipe gives no other error, a terminal EIO once nobody has it open; to try again for ever would be
                // worse than to end.
                source.pipe = None;
                Progress::Ended
            }
        }
    }

    fn store(&mut self, stream: Stream, range: std::ops::Range<usize>, hold: Hold) {
        let taken = self.log.write(stream, &self.chunk[range.clone()], now_unix_nanos(), hold);
        if let Some(journal) = &mut self.journal {
            journal.write(stream, &self.chunk[range.start..range.start + taken]);
        }
        if taken < range.len() {
            self.rest = Some((stream, range.start + taken..range.end));
        }
    }
}
