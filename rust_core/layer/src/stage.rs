//! One pass over a layer's blob: decompress and hash on one thread, parse and write on the caller's.

use std::fs::File;
use std::io::{BufReader, Read};
use std::os::fd::BorrowedFd;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, Sender, SyncSender};
use std::sync::{mpsc, Arc};

use content::{Algorithm, Digest, Hasher};
use errors::IoError;

use crate::decompress::{window_too_large, Compression, DecompressError, Decompressor};
use crate::error::shown;
use crate::port::{LayerWriter, RawSink, Written};
use crate::tar::{ArchiveEnd, Chunks, FileChunks, TarReader};
use crate::{fence, whiteout, Facts, LayerError, Limits, LowerView};

/// Size of the pieces that go from the decompressing thread to the writing one.
const CHUNK_BYTES: usize = 256 * 1024;
/// Pieces on their way: what the decompressor may be ahead.
const CHUNK_COUNT: usize = 4;

/// How a layer is to be read.
#[derive(Clone, Copy)]
pub struct StageRequest<'a> {
    /// What errors call the layer: the blob's digest, or a word for an archive without one.
    pub subject: &'a str,
    /// The diff_id that the image's config gives; verified. Without it the archive must carry its end marker, since
    /// nothing else could tell that it was not cut between two entries.
    pub expected_diff_id: Option<&'a Digest>,
    /// The limits to read under.
    pub limits: &'a Limits,
    /// Settles the layer against those below it; `None` stores it by itself.
    pub finish: Option<Finish<'a>>,
    /// Counts uncompressed bytes as they are read.
    pub progress: &'a AtomicU64,
    /// Asked between pieces of work from both threads; true ends the call with `CANCELLED`.
    pub is_cancelled: &'a (dyn Fn() -> bool + Sync),
}

impl std::fmt::Debug for StageRequest<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("StageRequest").field("subject", &self.subject).finish_non_exhaustive()
    }
}

impl StageRequest<'_> {
    fn lower_roots(&self) -> Vec<BorrowedFd<'_>> {
        self.finish.map(|finish| finish.lowers.roots().collect()).unwrap_or_default()
    }
}

/// What a layer is settled against.
#[derive(Debug, Clone, Copy)]
pub struct Finish<'a> {
    /// The facts recorded when the same layer was staged by itself.
    pub facts: &'a Facts,
    /// The layers below it.
    pub lowers: &'a LowerView,
}

/// What a pass over a blob found.
#[derive(Debug)]
pub(crate) struct Pass {
    pub written: Written,
    pub diff_id: Digest,
    pub compression: Compression,
}

enum Message {
    Chunk(Vec<u8>),
    Failed(LayerError),
    Ended { compression: Compression },
}

/// Writes the layer behind `source` through `writer`, reading the source to its end. `folder` is all that is written to.
pub(crate) fn run<R: Read + Send>(
    source: R,
    writer: &mut dyn LayerWriter,
    folder: BorrowedFd<'_>,
    request: &StageRequest<'_>,
) -> Result<Pass, LayerError> {
    let raw_sink = writer.raw_sink()?;
    std::thread::scope(|scope| {
        let (sender, receiver) = mpsc::sync_channel(CHUNK_COUNT);
        let (recycle, recycled) = mpsc::channel();
        let producer = Producer { request: *request, sender, recycled };
        let failed = |e: &std::io::Error| IoError::from_std("clone", "layer reader thread", e);
        std::thread::Builder::new()
            .name("layer-reader".into())
            .spawn_scoped(scope, move || producer.run(source))
            .map_err(|e| failed(&e))?;
        let chunks = Received::new(receiver, recycle, request, raw_sink);
        fence::inside(&request.lower_roots(), folder, move || {
            let mut reader = TarReader::new(chunks, request.subject, request.limits);
            let end = apply_entries(&mut reader, writer, request)?;
            let (diff_id, compression) = reader.into_chunks().drain()?;
            check_end(end, &diff_id, request)?;
            let written = writer.finish(&diff_id)?;
            Ok(Pass { written, diff_id, compression })
        })
    })
}

/// As `run` for an archive that was read and verified before and is kept uncompressed in a file: its entries only, not
/// the data between them, are read again.
pub(crate) fn run_kept(
    archive: &File,
    diff_id: Digest,
    compression: Compression,
    writer: &mut dyn LayerWriter,
    folder: BorrowedFd<'_>,
    request: &StageRequest<'_>,
) -> Result<Pass, LayerError> {
    fence::inside(&request.lower_roots(), folder, move || {
        let mut reader = TarReader::new(FileChunks::new(archive)?, request.subject, request.limits);
        apply_entries(&mut reader, writer, request)?;
        let written = writer.finish(&diff_id)?;
        Ok(Pass { written, diff_id, compression })
    })
}

fn apply_entries<C: Chunks>(
    reader: &mut TarReader<C>,
    writer: &mut dyn LayerWriter,
    request: &StageRequest<'_>,
) -> Result<Option<ArchiveEnd>, LayerError> {
    while let Some(entry) = reader.next_entry()? {
        if (request.is_cancelled)() {
            return Err(LayerError::Cancelled { subject: request.subject.to_owned() });
        }
        let name = entry.path.clone();
        let entry = whiteout::interpret(entry).map_err(|rule| LayerError::Rejected {
            digest: request.subject.to_owned(),
            entry: shown(name.as_bytes()),
            rule,
        })?;
        if let Some(entry) = entry {
            writer.apply(entry, reader)?;
        }
    }
    Ok(reader.end())
}

fn check_end(
    end: Option<ArchiveEnd>,
    diff_id: &Digest,
    request: &StageRequest<'_>,
) -> Result<(), LayerError> {
    match request.expected_diff_id {
        Some(expected) if expected != diff_id => {
            Err(LayerError::DiffIdMismatch { expected: expected.clone(), actual: diff_id.clone() })
        }
        None if end != Some(ArchiveEnd::Marked) => {
            let detail = "the archive has no end marker: it may have been cut".to_owned();
            Err(LayerError::Corrupt { digest: request.subject.to_owned(), detail })
        }
        _ => Ok(()),
    }
}

/// The decompressing side.
struct Producer<'a> {
    request: StageRequest<'a>,
    sender: SyncSender<Message>,
    recycled: Receiver<Vec<u8>>,
}

impl Producer<'_> {
    fn run(self, source: impl Read) {
        let message = match self.pump(source) {
            Ok(Some(ended)) => ended,
            // The receiver is gone: it has failed and says so itself.
            Ok(None) => return,
            Err(error) => Message::Failed(error),
        };
        // A receiver that is gone needs no message.
        let _ = self.sender.send(message);
    }

    fn pump(&self, source: impl Read) -> Result<Option<Message>, LayerError> {
        let compressed = Arc::new(AtomicU64::new(0));
        let counting = Counting { source, count: Arc::clone(&compressed) };
        let mut decompressor = Decompressor::new(BufReader::with_capacity(CHUNK_BYTES, counting))
            .map_err(|e| self.failure(e))?;
        let mut total = 0u64;
        loop {
            let mut chunk = self.recycled.try_recv().unwrap_or_default();
            chunk.resize(CHUNK_BYTES, 0);
            let (filled, failure) = self.fill(&mut decompressor, &mut chunk);
            chunk.truncate(filled);
            if filled > 0 {
                total += filled as u64;
                self.check_size(total, compressed.load(Ordering::Relaxed), decompressor.compression())?;
                // What came before a failure goes first: it may have a fault of its own to tell.
                if self.sender.send(Message::Chunk(chunk)).is_err() {
                    return Ok(None);
                }
            }
            match failure {
                Some(error) => return Err(error),
                None if filled == 0 => break,
                None => {}
            }
        }
        if total == 0 {
            let detail = "the layer is empty: not even an end marker".to_owned();
            return Err(LayerError::Corrupt { digest: self.request.subject.to_owned(), detail });
        }
        Ok(Some(Message::Ended { compression: decompressor.compression() }))
    }

    /// Reads until the chunk is full or the stream ends: a source may give a few bytes at a time, and each chunk costs
    /// the same.
    fn fill<R: std::io::BufRead>(
        &self,
        decompressor: &mut Decompressor<R>,
        chunk: &mut [u8],
    ) -> (usize, Option<LayerError>) {
        let mut filled = 0;
        while filled < chunk.len() {
            if (self.request.is_cancelled)() {
                let subject = self.request.subject.to_owned();
                return (filled, Some(LayerError::Cancelled { subject }));
            }
            match decompressor.read(&mut chunk[filled..]) {
                Ok(0) => break,
                Ok(read) => {
                    filled += read;
                    self.request.progress.fetch_add(read as u64, Ordering::Relaxed);
                }
                Err(error) => return (filled, Some(self.failure(error))),
            }
        }
        (filled, None)
    }

    fn check_size(&self, total: u64, compressed: u64, compression: Compression) -> Result<(), LayerError> {
        let limits = self.request.limits;
        let exceeded = |limit, limit_value, actual| LayerError::LimitExceeded {
            limit,
            limit_value,
            actual,
            subject: self.request.subject.to_owned(),
        };
        if total > limits.layer_size_bytes {
            return Err(exceeded("layer_size_bytes", limits.layer_size_bytes, total));
        }
        let ratio = total / compressed.max(1);
        let counts = compression != Compression::None && total > limits.expansion_floor_bytes;
        if counts && ratio > limits.expansion_ratio {
            return Err(exceeded("expansion_ratio", limits.expansion_ratio, ratio));
        }
        Ok(())
    }

    fn failure(&self, error: DecompressError) -> LayerError {
        let digest = self.request.subject.to_owned();
        match error {
            DecompressError::Source(error) => {
                let error = IoError::from_std("read", self.request.subject, &error);
                LayerError::Source { digest, error }
            }
            DecompressError::Corrupt(detail) => LayerError::Corrupt { digest, detail },
            DecompressError::WindowTooLarge => window_too_large(digest),
        }
    }
}

struct Counting<R> {
    source: R,
    count: Arc<AtomicU64>,
}

impl<R: Read> Read for Counting<R> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let read = self.source.read(buffer)?;
        self.count.fetch_add(read as u64, Ordering::Relaxed);
        Ok(read)
    }
}

/// The writing side's view of the stream.
struct Received<'a> {
    receiver: Receiver<Message>,
    recycle: Sender<Vec<u8>>,
    chunk: Vec<u8>,
    used: usize,
    ended: Option<Compression>,
    subject: &'a str,
    /// Takes each chunk on its way: the decompressing thread is the slower one, and one large layer waits for it alone.
    hasher: Hasher,
    /// Gets each chunk before it is looked at, for the same reason.
    raw_sink: Option<RawSink>,
}

impl<'a> Received<'a> {
    fn new(
        receiver: Receiver<Message>,
        recycle: Sender<Vec<u8>>,
        request: &StageRequest<'a>,
        raw_sink: Option<RawSink>,
    ) -> Self {
        let algorithm = request.expected_diff_id.map_or(Algorithm::Sha256, Digest::algorithm);
        Self {
            receiver,
            recycle,
            chunk: Vec::new(),
            used: 0,
            ended: None,
            subject: request.subject,
            hasher: Hasher::new(algorithm),
            raw_sink,
        }
    }

    /// Reads to the stream's end and tells what it was.
    fn drain(mut self) -> Result<(Digest, Compression), LayerError> {
        loop {
            let len = self.chunk()?.len();
            if let Some(compression) = self.ended {
                return Ok((self.hasher.finish(), compression));
            }
            self.consume(len);
        }
    }
}

impl Chunks for Received<'_> {
    fn chunk(&mut self) -> Result<&[u8], LayerError> {
        if self.used == self.chunk.len() && self.ended.is_none() {
            match self.receiver.recv() {
                Ok(Message::Chunk(chunk)) => {
                    self.hasher.update(&chunk);
                    if let Some(sink) = &mut self.raw_sink {
                        sink.write(&chunk)?;
                    }
                    // A producer that has ended takes no buffers back.
                    let _ = self.recycle.send(std::mem::replace(&mut self.chunk, chunk));
                    self.used = 0;
                }
                Ok(Message::Ended { compression }) => self.ended = Some(compression),
                Ok(Message::Failed(error)) => return Err(error),
                // Only a panic of the producer ends it without a word; the scope passes that on.
                Err(mpsc::RecvError) => {
                    let subject = self.subject.to_owned();
                    return Err(LayerError::Cancelled { subject });
                }
            }
        }
        Ok(&self.chunk[self.used..])
    }

    fn consume(&mut self, count: usize) {
        self.used += count;
    }
}
