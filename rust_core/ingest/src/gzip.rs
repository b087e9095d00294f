//! gzip on all processors: the stream is cut into pieces of one size, each a gzip member of its own.
//!
//! Members that follow each other are one gzip file (RFC 1952, section 2.2), which Go, Python, zlib's gzread and gzip
//! read as such. Where the pieces begin depends on the stream alone, so that the same stream gives the same bytes on any
//! host, whatever the number of its processors.

use std::collections::VecDeque;
use std::io::Write;
use std::sync::mpsc::{self, Receiver, Sender};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

use errors::IoError;
use flate2::write::DeflateEncoder;
use flate2::{Compression, GzBuilder};

use crate::IngestError;

/// Bytes of one piece: large enough that cutting costs below a hundredth in size.
const PIECE_BYTES: usize = 1024 * 1024;
/// Threads at most, whatever the host has: beyond that reading the files is what takes the time.
const THREAD_COUNT_MAX: usize = 4;
/// What gzip, pigz and Go take by default. Source: gzip(1), `-6`.
const LEVEL: Compression = Compression::new(6);
/// Bytes at each of three places of a piece by which it is decided whether it is compressed at all.
const SAMPLE_BYTES: usize = 16 * 1024;
/// Samples that do not lose a sixteenth together are of what is compressed already, or encrypted.
const LEAST_GAIN: usize = 16;
/// "Unknown" system, so that no host can be told from the bytes. Source: RFC 1952, section 2.3, OS.
const SYSTEM_UNKNOWN: u8 = 255;

type Compressed = std::io::Result<Vec<u8>>;

struct Job {
    piece: Vec<u8>,
    answer: Sender<Compressed>,
}

/// A compressor; what it gives goes to the function that each call takes. Memory: two pieces a thread.
pub(crate) struct Gzip {
    piece: Vec<u8>,
    jobs: Option<Sender<Job>>,
    queue: Arc<Mutex<Receiver<Job>>>,
    threads: Vec<JoinHandle<()>>,
    thread_count_max: usize,
    waiting: VecDeque<Receiver<Compressed>>,
    is_empty: bool,
}

/// Takes compressed bytes.
pub(crate) type Sink<'a> = dyn FnMut(&[u8]) -> Result<(), IngestError> + 'a;

impl Gzip {
    /// No thread runs before there is a whole piece.
    pub fn new() -> Self {
        let processors = std::thread::available_parallelism().map_or(1, usize::from);
        Self::with_threads(processors.min(THREAD_COUNT_MAX))
    }

    fn with_threads(thread_count_max: usize) -> Self {
        let (jobs, queue) = mpsc::channel();
        Self {
            piece: Vec::new(),
            jobs: Some(jobs),
            queue: Arc::new(Mutex::new(queue)),
            threads: Vec::new(),
            thread_count_max,
            waiting: VecDeque::new(),
            is_empty: true,
        }
    }

    /// Takes the next bytes of the stream.
    pub fn write(&mut self, mut data: &[u8], sink: &mut Sink<'_>) -> Result<(), IngestError> {
        while !data.is_empty() {
            let count = data.len().min(PIECE_BYTES - self.piece.len());
            self.piece.extend_from_slice(&data[..count]);
            data = &data[count..];
            if self.piece.len() == PIECE_BYTES {
                self.dispatch(sink)?;
            }
        }
        Ok(())
    }

    /// The stream is over: all of it has been given to `sink`.
    pub fn finish(mut self, sink: &mut Sink<'_>) -> Result<(), IngestError> {
        if !self.piece.is_empty() || self.is_empty {
            self.dispatch(sink)?;
        }
        while self.take(sink)? {}
        Ok(())
    }

    fn dispatch(&mut self, sink: &mut Sink<'_>) -> Result<(), IngestError> {
        self.is_empty = false;
        if self.threads.len() < self.thread_count_max {
            let queue = Arc::clone(&self.queue);
            let started = std::thread::Builder::new().name("gzip".into()).spawn(move || work(&queue));
            self.threads.push(started.map_err(|e| IoError::from_std("clone", "gzip thread", &e))?);
        }
        let (answer, waiting) = mpsc::channel();
        let piece = std::mem::take(&mut self.piece);
        if let Some(jobs) = &self.jobs {
            // A thread that has gone is told by the answer that never comes.
            let _ = jobs.send(Job { piece, answer });
        }
        self.waiting.push_back(waiting);
        while self.waiting.len() > 2 * self.thread_count_max {
            self.take(sink)?;
        }
        Ok(())
    }

    /// Gives the oldest piece to `sink`; false if none is under way.
    fn take(&mut self, sink: &mut Sink<'_>) -> Result<bool, IngestError> {
        let Some(waiting) = self.waiting.pop_front() else { return Ok(false) };
        let lost = |_| std::io::Error::other("the compressing thread has gone");
        let compressed = waiting.recv().map_err(lost).and_then(|answer| answer);
        sink(&compressed.map_err(|e| IoError::from_std("deflate", "gzip", &e))?)?;
        Ok(true)
    }
}

impl Drop for Gzip {
    fn drop(&mut self) {
        self.jobs = None;
        for thread in self.threads.drain(..) {
            // A panic of a thread has been told as an answer that never came.
            let _ = thread.join();
        }
    }
}

fn work(queue: &Mutex<Receiver<Job>>) {
    loop {
        let job = queue.lock().unwrap_or_else(PoisonError::into_inner).recv();
        let Ok(Job { piece, answer }) = job else { return };
        // Nobody waits for it where the stream was given up.
        let _ = answer.send(compress(&piece));
    }
}

/// A piece that gains nothing is stored as it is, which is a hundred times as fast; the piece alone decides.
fn compress(piece: &[u8]) -> Compressed {
    let level = if gains(piece)? { LEVEL } else { Compression::none() };
    let mut encoder = GzBuilder::new().operating_system(SYSTEM_UNKNOWN).write(Vec::new(), level);
    encoder.write_all(piece)?;
    encoder.finish()
}

/// Whether three samples get smaller; a small piece is not looked at.
fn gains(piece: &[u8]) -> std::io::Result<bool> {
    if piece.len() < 8 * SAMPLE_BYTES {
        return Ok(true);
    }
    let mut compressed = 0;
    for at in [0, piece.len() / 2, piece.len() - SAMPLE_BYTES] {
        let mut encoder = DeflateEncoder::new(Vec::new(), Compression::fast());
        encoder.write_all(&piece[at..at + SAMPLE_BYTES])?;
        compressed += encoder.finish()?.len();
    }
    Ok(compressed < 3 * SAMPLE_BYTES - 3 * SAMPLE_BYTES / LEAST_GAIN)
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use super::*;

    fn gzip(data: &[u8], thread_count: usize, step: usize) -> Vec<u8> {
        let (mut out, mut gzip) = (Vec::new(), Gzip::with_threads(thread_count));
        let mut sink = |bytes: &[u8]| {
            out.extend_from_slice(bytes);
            Ok(())
        };
        data.chunks(step).for_each(|piece| gzip.write(piece, &mut sink).unwrap());
        gzip.finish(&mut sink).unwrap();
        out
    }

    #[test]
    fn the_same_stream_gives_the_same_bytes_however_it_comes_and_is_read_back() {
        for len in [0, 1, PIECE_BYTES, 5 * PIECE_BYTES + 17] {
            let data: Vec<u8> = (0..len).map(|n| (n / 7 % 251) as u8).collect();
            let one = gzip(&data, 1, 999_999);
            assert_eq!(gzip(&data, 4, 4_321), one, "{len}");
            let mut back = Vec::new();
            flate2::read::MultiGzDecoder::new(one.as_slice()).read_to_end(&mut back).unwrap();
            assert!(back == data, "{len}");
        }
    }

    #[test]
    fn what_cannot_get_smaller_is_stored_and_what_is_beside_it_is_not() {
        // Source: xorshift64, Marsaglia 2003.
        let mut state = 88_172_645_463_325_252_u64;
        let mut next = || {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state.to_le_bytes()
        };
        let noise: Vec<u8> = (0..PIECE_BYTES / 8).flat_map(|_| next()).collect();
        let text = b"the same again, ".repeat(PIECE_BYTES / 16);
        assert!(!gains(&noise).unwrap());
        // A header before it changes nothing.
        assert!(!gains(&[&text[..1536], &noise[1536..]].concat()).unwrap());
        assert!(gains(&text).unwrap());
        assert!(gains(&[&noise[..PIECE_BYTES / 2], &text[..PIECE_BYTES / 2]].concat()).unwrap());
        let data = [noise, text].concat();
        let packed = gzip(&data, 2, 77_777);
        assert!(packed.len() < PIECE_BYTES + PIECE_BYTES / 50, "{}", packed.len());
        let mut back = Vec::new();
        flate2::read::MultiGzDecoder::new(packed.as_slice()).read_to_end(&mut back).unwrap();
        assert!(back == data);
    }

    #[test]
    fn a_sink_that_fails_ends_it() {
        let mut gzip = Gzip::with_threads(2);
        let full = || IngestError::from(IoError::new("write", "disk", 28));
        let mut failed = None;
        for _ in 0..20 {
            failed = failed.or(gzip.write(&vec![1; PIECE_BYTES], &mut |_| Err(full())).err());
        }
        assert_eq!(failed, Some(full()));
    }
}
