//! Where the bytes of a blob come from: a registry, or a range of a local file.

use std::os::fd::BorrowedFd;

use bytes::Bytes;
use errors::IoError;
use registry::BlobReader;
use sys::cancel::CancelToken;

use crate::fetch::RemoteBlob;
use crate::local::FileRange;
use crate::{IngestError, Progress};

/// Size of the pieces read from a local file.
const PIECE_BYTES: usize = 256 * 1024;

/// The bytes of one blob, in order.
pub(crate) trait Feed: Send {
    /// The next piece; `offset_bytes` is where it begins in the blob. It goes up by the length of each piece, and may
    /// go back to 0 once. `None` where the source has no more.
    fn next_piece(&mut self, offset_bytes: u64) -> Result<Option<Bytes>, IngestError>;
}

/// A blob in a registry. The first piece sends the first request.
pub(crate) struct RegistryFeed<'a> {
    blob: &'a RemoteBlob<'a>,
    progress: &'a Progress,
    cancel: &'a CancelToken,
    /// How many of its places are not asked.
    skipped: usize,
    reader: Option<BlobReader>,
    counted_requests: u64,
}

impl<'a> RegistryFeed<'a> {
    pub fn new(
        blob: &'a RemoteBlob<'a>,
        skipped: usize,
        progress: &'a Progress,
        cancel: &'a CancelToken,
    ) -> Self {
        Self { blob, progress, cancel, skipped, reader: None, counted_requests: 0 }
    }

    /// Which place gave the first byte; `None` if none did.
    pub fn first_origin(&self) -> Option<usize> {
        self.reader.as_ref()?.first_origin()
    }
}

impl Feed for RegistryFeed<'_> {
    fn next_piece(&mut self, offset_bytes: u64) -> Result<Option<Bytes>, IngestError> {
        let reader = match &mut self.reader {
            Some(reader) => reader,
            slot => {
                let RemoteBlob { client, source } = self.blob;
                sys::failpoint::hit("ingest.fetch.open");
                slot.insert(client.open_blob(source, offset_bytes, self.skipped, self.cancel)?)
            }
        };
        let piece = reader.next_chunk();
        let requests = reader.request_count();
        self.progress.add_requests(requests - self.counted_requests);
        self.counted_requests = requests;
        Ok(piece?)
    }
}

/// A range of a local file, read by pread: the offset of the descriptor is neither used nor moved.
pub(crate) struct FileFeed<'a> {
    range: &'a FileRange<'a>,
    cancel: &'a CancelToken,
    buffer: Vec<u8>,
}

impl<'a> FileFeed<'a> {
    pub fn new(range: &'a FileRange<'a>, cancel: &'a CancelToken) -> Self {
        Self { range, cancel, buffer: vec![0; PIECE_BYTES] }
    }
}

impl Feed for FileFeed<'_> {
    fn next_piece(&mut self, offset_bytes: u64) -> Result<Option<Bytes>, IngestError> {
        if self.cancel.is_cancelled() {
            return Err(IngestError::Cancelled { subject: "a local file".to_owned() });
        }
        let left = self.range.size_bytes.saturating_sub(offset_bytes);
        let wanted = usize::try_from(left).unwrap_or(PIECE_BYTES).min(PIECE_BYTES);
        if wanted == 0 {
            return Ok(None);
        }
        let read = pread(self.range.fd, &mut self.buffer[..wanted], self.range.offset_bytes + offset_bytes)?;
        if read == 0 {
            // The file is shorter than the range: it was cut after it was listed.
            return Err(IoError::new("pread", "", 0).into());
        }
        Ok(Some(Bytes::copy_from_slice(&self.buffer[..read])))
    }
}

/// Some bytes of a file at an offset; 0 at its end.
pub(crate) fn pread(fd: BorrowedFd<'_>, buffer: &mut [u8], offset_bytes: u64) -> Result<usize, IoError> {
    loop {
        match rustix::io::pread(fd, &mut *buffer, offset_bytes) {
            Err(rustix::io::Errno::INTR) => {}
            outcome => return outcome.map_err(|errno| IoError::new("pread", "", errno.raw_os_error())),
        }
    }
}
