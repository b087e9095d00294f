//! Decompression by content: gzip with any number of members, zstd with skippable frames, or none.
//!
//! The media type is not believed: engines have failed on blobs that are named otherwise than they are.

use std::io::{self, BufRead, Chain, Cursor, Read};

use flate2::bufread::GzDecoder;
use serde::{Deserialize, Serialize};

use crate::LayerError;

/// How a blob is compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Compression {
    /// Not at all.
    None,
    /// RFC 1952.
    Gzip,
    /// RFC 8878.
    Zstd,
}

impl Compression {
    /// The OCI layer media type of a blob compressed so.
    pub fn media_type(self) -> &'static str {
        match self {
            Self::None => "application/vnd.oci.image.layer.v1.tar",
            Self::Gzip => "application/vnd.oci.image.layer.v1.tar+gzip",
            Self::Zstd => "application/vnd.oci.image.layer.v1.tar+zstd",
        }
    }
}

/// A failure of [`Decompressor`].
#[derive(Debug)]
pub enum DecompressError {
    /// The source could not be read.
    Source(io::Error),
    /// The bytes are not what their first ones announce, or end early.
    Corrupt(String),
    /// A zstd frame looks back further than [`ZSTD_WINDOW_BYTES_MAX`].
    WindowTooLarge,
}

/// How far back a zstd frame may look, which is held in memory: what `zstd --long` makes by itself, and more than any of
/// its levels. Source: RFC 8878 section 3.1.1.1.2 lets decoders refuse windows above a limit of their own.
pub const ZSTD_WINDOW_BYTES_MAX: u64 = 1 << ZSTD_WINDOW_LOG_MAX;
const ZSTD_WINDOW_LOG_MAX: u32 = 27;
/// How libzstd calls that (ZSTD_error_frameParameter_windowTooLarge).
const ZSTD_WINDOW_ERROR: &str = "too much memory";

/// `LIMIT_EXCEEDED` for [`DecompressError::WindowTooLarge`] in `subject`.
#[must_use]
pub fn window_too_large(subject: String) -> LayerError {
    LayerError::LimitExceeded {
        limit: "zstd_window_bytes",
        limit_value: ZSTD_WINDOW_BYTES_MAX,
        actual: ZSTD_WINDOW_BYTES_MAX + 1,
        subject,
    }
}

/// How many first bytes tell the compression.
const MAGIC_BYTES: usize = 10;

/// Reads the uncompressed bytes of a source.
pub struct Decompressor<R: BufRead> {
    state: State<Tracked<R>>,
    compression: Compression,
}

enum State<R: BufRead> {
    Plain(R),
    Gzip(Box<GzDecoder<R>>),
    Zstd(zstd::stream::read::Decoder<'static, R>),
    /// Behind the last gzip member.
    Ended(R),
    Broken,
}

impl<R: BufRead> std::fmt::Debug for Decompressor<R> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Decompressor({:?})", self.compression)
    }
}

impl<R: BufRead> Decompressor<R> {
    /// Looks at the first bytes of `source` and gets ready.
    ///
    /// # Errors
    /// `Source` if it cannot be read; `Corrupt` for a compression that layers do not have, named.
    pub fn new(mut source: R) -> Result<Self, DecompressError> {
        let magic = read_magic(&mut source).map_err(DecompressError::Source)?;
        let source = Tracked { inner: Cursor::new(magic.clone()).chain(source), error: None };
        let (state, compression) = match magic.as_slice() {
            [0x1f, 0x8b, ..] => (State::Gzip(Box::new(GzDecoder::new(source))), Compression::Gzip),
            [0x28, 0xb5, 0x2f, 0xfd, ..] | [0x50..=0x5f, 0x2a, 0x4d, 0x18, ..] => {
                let mut decoder =
                    zstd::stream::read::Decoder::with_buffer(source).map_err(DecompressError::Source)?;
                decoder.window_log_max(ZSTD_WINDOW_LOG_MAX).map_err(DecompressError::Source)?;
                (State::Zstd(decoder), Compression::Zstd)
            }
            [0xfd, b'7', b'z', b'X', b'Z', 0, ..] => return Err(unsupported("xz")),
            // The block's magic too: a plain archive may begin with a file named so.
            [b'B', b'Z', b'h', b'1'..=b'9', 0x31, 0x41, 0x59, 0x26, 0x53, 0x59] => {
                return Err(unsupported("bzip2"))
            }
            _ => (State::Plain(source), Compression::None),
        };
        Ok(Self { state, compression })
    }

    /// The compression found.
    pub fn compression(&self) -> Compression {
        self.compression
    }

    /// Fills some of `buffer`; 0 at the end of the source, which has been read whole by then. What follows the last
    /// gzip member and is no member itself is passed over, as gzip does.
    ///
    /// # Errors
    /// `Source`, `Corrupt`; also where the source ends within a member or frame.
    pub fn read(&mut self, buffer: &mut [u8]) -> Result<usize, DecompressError> {
        loop {
            match &mut self.state {
                State::Plain(source) => {
                    return retry(|| source.read(buffer)).map_err(DecompressError::Source)
                }
                State::Zstd(decoder) => {
                    let result = retry(|| decoder.read(buffer));
                    return result.map_err(|e| failure(decoder.get_mut().error.take(), &e));
                }
                State::Gzip(decoder) => {
                    let read = retry(|| decoder.read(buffer))
                        .map_err(|e| failure(decoder.get_mut().error.take(), &e))?;
                    if read > 0 {
                        return Ok(read);
                    }
                    self.next_member()?;
                }
                State::Ended(source) => {
                    let len = source.fill_buf().map_err(DecompressError::Source)?.len();
                    if len == 0 {
                        return Ok(0);
                    }
                    source.consume(len);
                }
                State::Broken => return Err(DecompressError::Corrupt("the stream failed before".into())),
            }
        }
    }

    fn next_member(&mut self) -> Result<(), DecompressError> {
        let State::Gzip(decoder) = std::mem::replace(&mut self.state, State::Broken) else { return Ok(()) };
        let mut source = decoder.into_inner();
        let magic = read_magic(&mut source).map_err(DecompressError::Source)?;
        let is_member = magic.starts_with(&[0x1f, 0x8b]);
        let Tracked { inner, .. } = source;
        let source = Tracked { inner: rewind(inner, magic), error: None };
        self.state =
            if is_member { State::Gzip(Box::new(GzDecoder::new(source))) } else { State::Ended(source) };
        Ok(())
    }
}

type Inner<R> = Chain<Cursor<Vec<u8>>, R>;

/// Puts `magic` back in front of what was read from.
fn rewind<R: BufRead>(inner: Inner<R>, mut magic: Vec<u8>) -> Inner<R> {
    let (first, rest) = inner.into_inner();
    let used = usize::try_from(first.position()).unwrap_or(usize::MAX);
    magic.extend_from_slice(first.get_ref().get(used..).unwrap_or(&[]));
    Cursor::new(magic).chain(rest)
}

fn unsupported(name: &str) -> DecompressError {
    DecompressError::Corrupt(format!("{name} is no compression of layers; gzip, zstd and none are"))
}

fn failure(source: Option<io::Error>, error: &io::Error) -> DecompressError {
    match source {
        Some(error) => DecompressError::Source(error),
        None if error.kind() == io::ErrorKind::UnexpectedEof => {
            DecompressError::Corrupt("the compressed stream ends early".into())
        }
        None if error.to_string().contains(ZSTD_WINDOW_ERROR) => DecompressError::WindowTooLarge,
        None => DecompressError::Corrupt(error.to_string()),
    }
}

fn retry(mut read: impl FnMut() -> io::Result<usize>) -> io::Result<usize> {
    loop {
        match read() {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            result => return result,
        }
    }
}

fn read_magic(source: &mut impl Read) -> io::Result<Vec<u8>> {
    let mut magic = vec![0; MAGIC_BYTES];
    let mut filled = 0;
    while filled < magic.len() {
        let read = retry(|| source.read(&mut magic[filled..]))?;
        if read == 0 {
            break;
        }
        filled += read;
    }
    magic.truncate(filled);
    Ok(magic)
}

/// A source that remembers its own failure, so that it is not taken for a fault of the bytes.
struct Tracked<R> {
    inner: Inner<R>,
    error: Option<io::Error>,
}

impl<R: BufRead> Tracked<R> {
    fn note<T>(error: &mut Option<io::Error>, result: io::Result<T>) -> io::Result<T> {
        result.map_err(|failed| {
            if failed.kind() == io::ErrorKind::Interrupted {
                return failed;
            }
            let again = match failed.raw_os_error() {
                Some(errno) => io::Error::from_raw_os_error(errno),
                None => io::Error::from(failed.kind()),
            };
            *error = Some(failed);
            again
        })
    }
}

impl<R: BufRead> Read for Tracked<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let result = self.inner.read(buffer);
        Self::note(&mut self.error, result)
    }
}

impl<R: BufRead> BufRead for Tracked<R> {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        // The borrow of a returned buffer cannot be noted and returned at once, so the failure is looked for first.
        let failed = self.inner.fill_buf().err();
        match failed {
            Some(failed) => Err(Self::note::<()>(&mut self.error, Err(failed)).unwrap_err()),
            None => self.inner.fill_buf(),
        }
    }

    fn consume(&mut self, count: usize) {
        self.inner.consume(count);
    }
}
