//! A part of a file on its way to a registry: read by a thread of its own, counted as it leaves, watched while it does.

use std::convert::Infallible;
use std::fs::File;
use std::future::Future;
use std::os::unix::fs::FileExt;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll};
use std::thread;
use std::time::Instant;

use bytes::Bytes;
use errors::IoError;
use http_body::{Body, Frame, SizeHint};
use reqwest::Response;
use tokio::sync::mpsc;

use crate::client::ClientConfig;
use crate::http::{describe, Pace, COMMIT_TIMEOUT};
use crate::retry::Failure;
use crate::RegistryError;

/// Size of the pieces read from a file.
const PIECE_BYTES: u64 = 256 * 1024;
/// How many pieces wait between the file and the connection.
const PIECE_QUEUE_LENGTH: usize = 4;

/// A part of a file that is to be sent. `reached` tells how many bytes of the whole file have left.
#[derive(Debug, Clone)]
pub(crate) struct UploadBody {
    pub file: Arc<File>,
    pub start: u64,
    pub end: u64,
    pub reached: Arc<AtomicU64>,
    pub subject: String,
}

/// The stream that a connection takes pieces from. It has a known length, so that none is sent chunked.
#[derive(Debug)]
pub(crate) struct Pieces {
    pieces: mpsc::Receiver<Bytes>,
    left: u64,
    at: u64,
    reached: Arc<AtomicU64>,
    has_left: Arc<AtomicU64>,
}

/// What is known of a stream that a connection has taken.
#[derive(Debug)]
pub(crate) struct Sent {
    has_left: Arc<AtomicU64>,
    unreadable: Arc<OnceLock<IoError>>,
    length: u64,
    subject: String,
}

impl UploadBody {
    /// The bytes from the start on. A thread reads them until they are taken or the stream is dropped.
    pub fn open(&self) -> Result<(Pieces, Sent), RegistryError> {
        let (sender, pieces) = mpsc::channel(PIECE_QUEUE_LENGTH);
        let (file, start, end) = (Arc::clone(&self.file), self.start, self.end);
        let unreadable = Arc::new(OnceLock::new());
        let slot = Arc::clone(&unreadable);
        let path = self.subject.clone();
        thread::Builder::new()
            .name("fluyt-upload".to_owned())
            .spawn(move || {
                if let Err(error) = read_into(&file, start, end, &sender) {
                    // Nothing was stored before: there is one reader.
                    let _ = slot.set(IoError::from_std("pread", path, &error));
                }
            })
            .map_err(|error| IoError::from_std("clone", "", &error))?;
        self.reached.store(start, Ordering::Relaxed);
        let has_left = Arc::new(AtomicU64::new(0));
        let length = end - start;
        let sent =
            Sent { has_left: Arc::clone(&has_left), unreadable, length, subject: self.subject.clone() };
        let reached = Arc::clone(&self.reached);
        Ok((Pieces { pieces, left: length, at: start, reached, has_left }, sent))
    }
}

/// Sends the bytes of a range; ends early where nobody takes them any more.
fn read_into(file: &File, mut at: u64, end: u64, sender: &mpsc::Sender<Bytes>) -> std::io::Result<()> {
    while at < end {
        let mut piece = vec![0; PIECE_BYTES.min(end - at) as usize];
        file.read_exact_at(&mut piece, at)?;
        at += piece.len() as u64;
        if sender.blocking_send(Bytes::from(piece)).is_err() {
            break;
        }
    }
    Ok(())
}

impl Body for Pieces {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let piece = match self.pieces.poll_recv(context) {
            Poll::Ready(piece) => piece,
            Poll::Pending => return Poll::Pending,
        };
        Poll::Ready(piece.map(|piece| {
            let length = piece.len() as u64;
            self.left = self.left.saturating_sub(length);
            self.at += length;
            self.reached.store(self.at, Ordering::Relaxed);
            self.has_left.fetch_add(length, Ordering::Relaxed);
            Ok(Frame::data(piece))
        }))
    }

    fn is_end_stream(&self) -> bool {
        self.left == 0
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.left)
    }
}

impl Sent {
    /// The answer to the request that carries the stream. While bytes leave, each stall timeout must bring some, and
    /// each pace window enough; once all have left, the registry has [`COMMIT_TIMEOUT`].
    pub async fn watch(
        &self,
        sending: impl Future<Output = reqwest::Result<Response>>,
        config: &ClientConfig,
    ) -> Result<Response, Failure> {
        let mut sending = std::pin::pin!(sending);
        let mut pace = Pace::default();
        let mut counted = 0;
        loop {
            let since = Instant::now();
            let has_all_left = counted == self.length;
            let limit =
                if has_all_left { COMMIT_TIMEOUT } else { config.stall_timeout.min(config.pace_window) };
            if let Ok(outcome) = tokio::time::timeout(limit, sending.as_mut()).await {
                return outcome.map_err(|error| self.failure(error));
            }
            let left = self.has_left.load(Ordering::Relaxed);
            if has_all_left {
                return Err(Failure::retry("no answer in time after an upload"));
            }
            if left == counted && left < self.length && config.stall_timeout <= config.pace_window {
                return Err(Failure::retry("the upload stalled"));
            }
            if left < self.length {
                pace.count(config, since, left - counted, &self.subject)?;
            }
            counted = left;
        }
    }

    fn failure(&self, error: reqwest::Error) -> Failure {
        match self.unreadable.get() {
            Some(error) => RegistryError::Io(error.clone()).into(),
            None => Failure::retry(describe(error)),
        }
    }
}
