//! An archive on its way to the engine: a file or standard input, in bounded messages.

use std::io::Read as _;
use std::path::Path;

use indicatif::ProgressBar;
use tokio::io::AsyncReadExt;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio_stream::wrappers::ReceiverStream;

use crate::failure::Failure;

/// Bytes of an archive sent in one message.
const CHUNK_BYTES: usize = 512 * 1024;
/// Messages of an archive that wait for the engine before reading stops.
const CHUNK_QUEUE: usize = 4;

/// What is read from.
pub type Input = Box<dyn tokio::io::AsyncRead + Send + Unpin>;

/// The file, or standard input of none, and its size in bytes (0: not known).
///
/// # Errors
/// The file cannot be opened.
pub fn open(path: Option<&Path>) -> Result<(Input, i64), Failure> {
    match path {
        None => Ok((Box::new(tokio::io::stdin()), 0)),
        Some(path) => {
            let file = std::fs::File::open(path).map_err(|error| Failure::file("open", path, &error))?;
            let metadata = file.metadata().map_err(|error| Failure::file("stat", path, &error))?;
            let size = if metadata.is_file() { i64::try_from(metadata.len()).unwrap_or(0) } else { 0 };
            Ok((Box::new(tokio::fs::File::from_std(file)), size))
        }
    }
}

/// An archive being sent: `requests` is what the call takes, and [`Sending::settle`] takes its answer.
pub struct Sending {
    reader: JoinHandle<std::io::Result<()>>,
    bar: ProgressBar,
}

impl Sending {
    /// Begins to send `first`, then the input in pieces that `wrap` makes messages of; it ends early once the engine
    /// has closed the stream.
    pub fn begin<T: Send + 'static>(
        input: Input,
        bar: ProgressBar,
        first: T,
        wrap: fn(Vec<u8>) -> T,
    ) -> (Self, ReceiverStream<T>) {
        let (requests, queue) = mpsc::channel(CHUNK_QUEUE);
        let reader = tokio::spawn(send(input, bar.clone(), requests, first, wrap));
        (Self { reader, bar }, ReceiverStream::new(queue))
    }

    /// As `begin` for what is read by blocking calls.
    pub fn begin_blocking<T: Send + 'static>(
        input: impl std::io::Read + Send + 'static,
        bar: ProgressBar,
        first: T,
        wrap: fn(Vec<u8>) -> T,
    ) -> (Self, ReceiverStream<T>) {
        let (requests, queue) = mpsc::channel(CHUNK_QUEUE);
        let (shown, input) = (bar.clone(), Box::new(input));
        let reader =
            tokio::task::spawn_blocking(move || send_blocking(input, &shown, &requests, first, wrap));
        (Self { reader, bar }, ReceiverStream::new(queue))
    }

    /// The engine's answer; a failure to read the input explains a failed call better than the call does.
    ///
    /// # Errors
    /// The input cannot be read, or what the engine answers.
    pub async fn settle<T>(self, answer: Result<tonic::Response<T>, tonic::Status>) -> Result<T, Failure> {
        self.bar.finish_and_clear();
        if self.reader.is_finished() {
            if let Ok(Err(error)) = self.reader.await {
                return Err(Failure::new(format!("cannot read the archive: {error}"), ""));
            }
        }
        Ok(answer?.into_inner())
    }
}

async fn send<T>(
    mut input: Input,
    bar: ProgressBar,
    requests: mpsc::Sender<T>,
    first: T,
    wrap: fn(Vec<u8>) -> T,
) -> std::io::Result<()> {
    if requests.send(first).await.is_err() {
        return Ok(());
    }
    loop {
        let mut chunk = vec![0; CHUNK_BYTES];
        let count = input.read(&mut chunk).await?;
        if count == 0 {
            return Ok(());
        }
        chunk.truncate(count);
        bar.inc(count as u64);
        if requests.send(wrap(chunk)).await.is_err() {
            return Ok(());
        }
    }
}

fn send_blocking<T>(
    mut input: impl std::io::Read,
    bar: &ProgressBar,
    requests: &mpsc::Sender<T>,
    first: T,
    wrap: fn(Vec<u8>) -> T,
) -> std::io::Result<()> {
    let mut part = first;
    while requests.blocking_send(part).is_ok() {
        let mut chunk = Vec::new();
        let count = input.by_ref().take(CHUNK_BYTES as u64).read_to_end(&mut chunk)?;
        if count == 0 {
            return Ok(());
        }
        bar.inc(count as u64);
        part = wrap(chunk);
    }
    Ok(())
}
