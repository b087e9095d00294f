//! The one pass: bytes come from a feed, are stored and hashed as a blob, and go on to the layer store.

use std::io::{self, Read};

use bytes::{Buf, Bytes};
use content::{Digest, Ingest};
use layer::{LayerError, LayerInfo, LayerStage, Limits, StageRequest};

use crate::feed::Feed;
use crate::{IngestError, Phase, Task};

/// How much of a blob is still fetched after its layer was refused, only to learn whether the blob was the right one.
pub const DRAIN_MAX_BYTES: u64 = 1024 * 1024 * 1024;
/// Read size where nothing but the ingest looks at the bytes.
const BUFFER_BYTES: usize = 256 * 1024;

/// Reads a blob from its first byte, what was stored by an earlier call first. Everything that is read has been stored
/// and hashed; the end is only given once the whole blob has its digest and is staged. So a layer is never finished
/// from bytes that are not its blob.
struct Tee<'a> {
    /// None once the blob is staged, or is given up.
    ingest: Option<Ingest>,
    feed: &'a mut dyn Feed,
    task: Task<'a>,
    pending: Bytes,
    is_replayed: bool,
    /// Told once; nothing is read after it.
    failure: Option<IngestError>,
}

impl<'a> Tee<'a> {
    fn new(ingest: Ingest, feed: &'a mut dyn Feed, task: Task<'a>) -> Self {
        let offset = ingest.offset_bytes();
        task.progress.set_fetched(offset);
        task.progress.enter(if offset > 0 { Phase::Verifying } else { Phase::Downloading });
        Self { ingest: Some(ingest), feed, task, pending: Bytes::new(), is_replayed: false, failure: None }
    }

    fn next(&mut self, buffer: &mut [u8]) -> Result<usize, IngestError> {
        let Some(ingest) = &mut self.ingest else { return Ok(0) };
        if !self.is_replayed {
            if self.task.cancel.is_cancelled() {
                return Err(IngestError::Cancelled { subject: ingest.digest().to_string() });
            }
            let replayed = ingest.replay(buffer)?;
            if replayed > 0 {
                return Ok(replayed);
            }
            self.is_replayed = true;
            self.task.progress.enter(Phase::Downloading);
        }
        if self.pending.is_empty() && ingest.offset_bytes() < ingest.expected_size_bytes() {
            if let Some(piece) = self.feed.next_piece(ingest.offset_bytes())? {
                sys::failpoint::hit("ingest.append");
                ingest.append(&piece)?;
                self.task.progress.set_fetched(ingest.offset_bytes());
                self.pending = piece;
            }
        }
        if self.pending.is_empty() {
            // Checks size and digest; takes the ingest, since it cannot be read any more.
            if let Some(ingest) = self.ingest.take() {
                self.task.progress.enter(Phase::Extracting);
                ingest.complete()?;
            }
            return Ok(0);
        }
        let count = self.pending.len().min(buffer.len());
        self.pending.copy_to_slice(&mut buffer[..count]);
        Ok(count)
    }

    /// Stores the rest of the blob, at most `max_bytes` of it; true if the whole is staged then.
    fn drain(&mut self, max_bytes: u64) -> Result<bool, IngestError> {
        let mut buffer = vec![0; BUFFER_BYTES];
        let mut drained = 0;
        while self.ingest.is_some() && drained <= max_bytes {
            drained += self.next(&mut buffer)? as u64;
        }
        Ok(self.ingest.is_none())
    }

    /// The failure to tell where the layer store gave `error`: that of the source if it has one; if the bytes were
    /// refused, first whether they are those of the digest at all.
    fn explain(&mut self, error: LayerError) -> IngestError {
        if let Some(failure) = self.failure.take() {
            return failure;
        }
        let is_about_bytes = match &error {
            LayerError::Rejected { .. }
            | LayerError::Corrupt { .. }
            | LayerError::DiffIdMismatch { .. }
            | LayerError::LimitExceeded { .. } => true,
            LayerError::Io(_)
            | LayerError::Source { .. }
            | LayerError::NotFound { .. }
            | LayerError::DataCorrupt { .. }
            | LayerError::Cancelled { .. }
            | LayerError::Mount { .. }
            | LayerError::Unrepresentable { .. }
            | LayerError::FeatureMissing { .. } => false,
        };
        if !is_about_bytes {
            return error.into();
        }
        match self.drain(DRAIN_MAX_BYTES) {
            Ok(true) => error.into(),
            // Too long to find out: bytes that nobody verified and nobody can unpack are not kept to be resumed.
            Ok(false) => match self.ingest.as_mut().map(Ingest::restart) {
                Some(Err(failed)) => failed.into(),
                _ => error.into(),
            },
            Err(failure) => failure,
        }
    }
}

impl Read for Tee<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if buffer.is_empty() {
            return Ok(0);
        }
        if self.failure.is_some() {
            return Err(io::Error::other("the source failed before"));
        }
        self.next(buffer).map_err(|error| {
            let told = io::Error::other(error.to_string());
            self.failure = Some(error);
            told
        })
    }
}

/// The blob of `ingest` is whole, verified and staged, fed by `feed`. Blocking.
pub(crate) fn store_blob(ingest: Ingest, feed: &mut dyn Feed, task: Task<'_>) -> Result<(), IngestError> {
    Tee::new(ingest, feed, task).drain(u64::MAX)?;
    Ok(())
}

/// As `store_blob`, and the layer of `stage` is staged from the same bytes as they pass. Blocking.
pub(crate) fn store_blob_and_layer(
    ingest: Ingest,
    feed: &mut dyn Feed,
    stage: LayerStage<'_>,
    expected_diff_id: Option<&Digest>,
    task: Task<'_>,
) -> Result<LayerInfo, IngestError> {
    let subject = ingest.digest().to_string();
    let mut tee = Tee::new(ingest, feed, task);
    let info = write_layer(stage, &mut tee, &subject, expected_diff_id, task);
    let info = info.map_err(|error| tee.explain(error))?;
    // The layer store reads to the end, which stages the blob; this only holds it to that.
    tee.drain(u64::MAX)?;
    sys::failpoint::hit("ingest.layer.staged");
    Ok(info)
}

/// The layer of `stage` is staged from `source`. Blocking.
pub(crate) fn write_layer(
    stage: LayerStage<'_>,
    source: impl Read + Send,
    subject: &str,
    expected_diff_id: Option<&Digest>,
    task: Task<'_>,
) -> Result<LayerInfo, LayerError> {
    let request = StageRequest {
        subject,
        expected_diff_id,
        limits: &Limits::default(),
        finish: None,
        progress: task.progress.restart_extraction(),
        is_cancelled: &|| task.cancel.is_cancelled(),
    };
    stage.write(source, &request)
}
