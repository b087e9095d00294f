//! Compression on all processors: the stream is cut into pieces of one size, each a gzip member or zstd frame of its own.
//!
//! Members that follow each other are one gzip file (RFC 1952, section 2.2), and frames one zstd file (RFC 8878, section
//! 3.1), which Go, Python, zlib's gzread, gzip and zstd read as such. Where the pieces begin depends on the stream alone, so
//! that the same stream gives the same bytes on any host, whatever the number of its processors.

use std::collections::VecDeque;
use std::sync::mpsc::{self, Receiver, Sender};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

use errors::IoError;

use crate::packing::Packing;
use crate::IngestError;

/// Threads at most, whatever the host has: beyond that reading the files is what takes the time.
const THREAD_COUNT_MAX: usize = 4;
type Compressed = std::io::Result<Vec<u8>>;

struct Job {
    piece: Vec<u8>,
    answer: Sender<Compressed>,
}

/// A compressor; what it gives goes to the function that each call takes. Memory: two pieces a thread.
pub(crate) struct Packer {
    packing: Packing,
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

impl Packer {
    /// No thread runs before there is a whole piece.
    pub fn new(packing: Packing) -> Self {
        let processors = std::thread::available_parallelism().map_or(1, usize::from);
        Self::with_threads(packing, processors.min(THREAD_COUNT_MAX))
    }

    fn with_threads(packing: Packing, thread_count_max: usize) -> Self {
        let (jobs, queue) = mpsc::channel();
        Self {
            packing,
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
        let piece_bytes = self.packing.piece_bytes();
        if piece_bytes == 0 {
            return sink(data);
        }
        while !data.is_empty() {
            let count = data.len().min(piece_bytes - self.piece.len());
            self.piece.extend_from_slice(&data[..count]);
            data = &data[count..];
            if self.piece.len() == piece_bytes {
                self.dispatch(sink)?;
            }
        }
        Ok(())
    }

    /// The stream is over: all of it has been given to `sink`.
    pub fn finish(mut self, sink: &mut Sink<'_>) -> Result<(), IngestError> {
        if !self.piece.is_empty() || (self.is_empty && self.packing.piece_bytes() > 0) {
            self.dispatch(sink)?;
        }
        while self.take(sink)? {}
        Ok(())
    }

    fn dispatch(&mut self, sink: &mut Sink<'_>) -> Result<(), IngestError> {
        self.is_empty = false;
        if self.threads.len() < self.thread_count_max {
            let (queue, packing) = (Arc::clone(&self.queue), self.packing);
            let started =
                std::thread::Builder::new().name("pack".into()).spawn(move || work(&queue, packing));
            self.threads.push(started.map_err(|e| IoError::from_std("clone", "compressing thread", &e))?);
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
        sink(&compressed.map_err(|e| IoError::from_std("compress", "layer", &e))?)?;
        Ok(true)
    }
}

impl Drop for Packer {
    fn drop(&mut self) {
        self.jobs = None;
        for thread in self.threads.drain(..) {
            // A panic of a thread has been told as an answer that never came.
            let _ = thread.join();
        }
    }
}

fn work(queue: &Mutex<Receiver<Job>>, packing: Packing) {
    loop {
        let job = queue.lock().unwrap_or_else(PoisonError::into_inner).recv();
        let Ok(Job { piece, answer }) = job else { return };
        // Nobody waits for it where the stream was given up.
        let _ = answer.send(packing.compress(&piece));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::packing::tests::unpacked;

    const PIECE_BYTES: usize = 4 * 1024 * 1024;

    fn packed(data: &[u8], packing: Packing, thread_count: usize, step: usize) -> Vec<u8> {
        let (mut out, mut packer) = (Vec::new(), Packer::with_threads(packing, thread_count));
        let mut sink = |bytes: &[u8]| {
            out.extend_from_slice(bytes);
            Ok(())
        };
        data.chunks(step).for_each(|piece| packer.write(piece, &mut sink).unwrap());
        packer.finish(&mut sink).unwrap();
        out
    }

    #[test]
    fn the_same_stream_gives_the_same_bytes_however_it_comes_and_is_read_back() {
        for packing in [Packing::Gzip { level: 6 }, Packing::Zstd { level: 3 }, Packing::Plain] {
            for len in [0, 1, PIECE_BYTES, 3 * PIECE_BYTES + 17] {
                let data: Vec<u8> = (0..len).map(|n| (n / 7 % 251) as u8).collect();
                let one = packed(&data, packing, 1, 999_999);
                assert!(packed(&data, packing, 4, 4_321) == one, "{packing:?} {len}");
                assert!(unpacked(packing, &one) == data, "{packing:?} {len}");
            }
        }
    }

    #[test]
    fn a_sink_that_fails_ends_it() {
        let mut packer = Packer::with_threads(Packing::default(), 2);
        let full = || IngestError::from(IoError::new("write", "disk", 28));
        let mut failed = None;
        for _ in 0..20 {
            failed = failed.or(packer.write(&vec![1; PIECE_BYTES], &mut |_| Err(full())).err());
        }
        assert_eq!(failed, Some(full()));
    }
}
