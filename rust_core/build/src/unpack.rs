//! ADD of a local archive: known by its content, never by its name (cases B11, B12), its entries drawn up in the layer.

use std::fs::File;
use std::io::{BufRead, BufReader, Read, Seek, Write};
use std::path::Path;
use std::sync::Arc;

use bzip2::bufread::MultiBzDecoder;
use errors::IoError;
use layer::decompress::Decompressor;
use layer::tar::{FileChunks, TarReader};
use layer::{EntryKind, LayerError, Limits};
use rustix::fs::{Mode, OFlags};

use crate::content::{Content, Reader};
use crate::draft::{LayerDraft, ModeChange, Owner};
use crate::error::CopyRule;
use crate::select::{Match, Selection};
use crate::tree::{Meta, MetaKind};
use crate::BuildError;

/// Where a copy goes, and as what.
#[derive(Debug, Clone, Copy)]
pub struct Target<'a> {
    /// As in [`LayerDraft::copy`], like all the rest.
    pub destination: &'a [u8],
    /// `--chown`.
    pub owner: Option<Owner>,
    /// `--chmod`.
    pub mode: Option<&'a ModeChange>,
    /// Other sources of the same instruction go there too.
    pub is_several: bool,
}

impl LayerDraft {
    /// Copies as [`copy`](LayerDraft::copy) what is no archive, and unpacks what is one into the directory
    /// `destination`. Archives are decompressed into a file without a name in `scratch`, at most
    /// `layer_size_bytes` of it. Blocking.
    ///
    /// # Errors
    /// As `copy`; `LAYER_REJECTED`, `LAYER_CORRUPT` for an archive that breaks a rule; `STORAGE_FULL`.
    pub fn add_unpacking(
        &mut self,
        selection: &Selection,
        target: &Target<'_>,
        scratch: &Path,
        is_cancelled: &dyn Fn() -> bool,
    ) -> Result<(), BuildError> {
        for found in &selection.matches {
            let archive = match found.top.meta.kind {
                MetaKind::File { .. } => open_archive(&found.top.content, scratch, is_cancelled)?,
                _ => None,
            };
            match archive {
                Some(archive) => self.unpack(archive, target, is_cancelled)?,
                None => {
                    let one = Selection::of(found.clone(), selection.has_owners);
                    let is_several = target.is_several || selection.matches.len() > 1;
                    self.copy(&one, target.destination, target.owner, target.mode, is_several)?;
                }
            }
        }
        Ok(())
    }

    fn unpack(
        &mut self,
        archive: File,
        target: &Target<'_>,
        is_cancelled: &dyn Fn() -> bool,
    ) -> Result<(), BuildError> {
        let owner = target.owner;
        let made_by = owner.unwrap_or((0, 0));
        let root = self.directory(target.destination, made_by)?;
        let file = Arc::new(archive);
        let mut reader = TarReader::new(FileChunks::new(&file)?, "the archive of ADD", &Limits::default());
        while let Some(entry) = reader.next_entry()? {
            if is_cancelled() {
                return Err(BuildError::Cancelled { subject: "ADD".to_owned() });
            }
            if entry.path.is_root() {
                continue;
            }
            let kind = match &entry.kind {
                EntryKind::Directory => MetaKind::Directory,
                EntryKind::File { size_bytes, extents: None } => MetaKind::File { size_bytes: *size_bytes },
                EntryKind::Symlink { target } => MetaKind::Symlink { target: target.clone() },
                EntryKind::Fifo => MetaKind::Fifo,
                EntryKind::CharDevice { major, minor } => {
                    MetaKind::Device { is_block: false, major: *major, minor: *minor }
                }
                EntryKind::BlockDevice { major, minor } => {
                    MetaKind::Device { is_block: true, major: *major, minor: *minor }
                }
                EntryKind::Hardlink { .. } => MetaKind::File { size_bytes: 0 },
                EntryKind::File { .. } | EntryKind::Whiteout | EntryKind::Opaque => {
                    return Err(BuildError::rejected(entry.path.as_bytes(), CopyRule::Kind));
                }
            };
            let (uid, gid) = owner.unwrap_or((entry.uid, entry.gid));
            let meta = Meta {
                kind,
                mode: entry.mode,
                uid,
                gid,
                mtime: entry.mtime,
                xattrs: entry.xattrs.clone(),
                link_identity: None,
            };
            let path = self.place(&root, entry.path.as_bytes(), made_by)?;
            if let EntryKind::Hardlink { target } = &entry.kind {
                let target = self.place(&root, target.as_bytes(), made_by)?;
                self.add_link(&path, target, meta)?;
                continue;
            }
            let content = Content::Range(Arc::clone(&file), entry.data_offset_bytes, entry.data_size_bytes);
            self.add(&path, meta, content)?;
        }
        Ok(())
    }
}

impl Selection {
    fn of(found: Match, has_owners: bool) -> Self {
        Self { entry_count: 1 + found.below.len() as u64, matches: vec![found], has_owners }
    }
}

/// Reads a content as a stream.
struct ContentRead {
    reader: Reader,
    buffer: Vec<u8>,
    used: usize,
}

impl Read for ContentRead {
    fn read(&mut self, into: &mut [u8]) -> std::io::Result<usize> {
        if self.used == self.buffer.len() {
            self.buffer.clear();
            self.used = 0;
            self.reader.next(&mut self.buffer).map_err(std::io::Error::other)?;
        }
        let count = into.len().min(self.buffer.len() - self.used);
        into[..count].copy_from_slice(&self.buffer[self.used..self.used + count]);
        self.used += count;
        Ok(count)
    }
}

/// The decompressed tar, if the content is one; `None` for any other file.
fn open_archive(
    content: &Content,
    scratch: &Path,
    is_cancelled: &dyn Fn() -> bool,
) -> Result<Option<File>, BuildError> {
    let source = || -> Result<BufReader<ContentRead>, BuildError> {
        Ok(BufReader::new(ContentRead { reader: content.open()?, buffer: Vec::new(), used: 0 }))
    };
    let mut magic = Vec::new();
    source()?
        .take(MAGIC_BYTES)
        .read_to_end(&mut magic)
        .map_err(|e| IoError::from_std("read", ARCHIVE, &e))?;
    let mut spool =
        Spool { scratch, file: None, head: Vec::new(), size_bytes: 0, is_cancelled, failure: None };
    let copied = match magic.as_slice() {
        [0xfd, b'7', b'z', b'X', b'Z', 0, ..] => {
            lzma_rs::xz_decompress(&mut source()?, &mut spool).map_err(|_| ())
        }
        [b'B', b'Z', b'h', b'1'..=b'9', 0x31, 0x41, 0x59, 0x26, 0x53, 0x59] => {
            std::io::copy(&mut MultiBzDecoder::new(source()?), &mut spool).map(|_| ()).map_err(|_| ())
        }
        _ => match Decompressor::new(source()?) {
            Ok(plain) => std::io::copy(&mut PlainRead(plain), &mut spool).map(|_| ()).map_err(|_| ()),
            Err(_) => return Ok(None),
        },
    };
    match (copied, spool) {
        (_, Spool { failure: Some(Ended::NoArchive), .. }) => Ok(None),
        (_, Spool { failure: Some(Ended::Failed(error)), .. }) => Err(error),
        // It began as an archive does, and what follows cannot be decompressed.
        (Err(()), Spool { file: Some(_), .. }) => {
            let detail = "its compressed data is damaged, or ends early".to_owned();
            Err(LayerError::Corrupt { digest: ARCHIVE.to_owned(), detail }.into())
        }
        (Err(()), _) => Ok(None),
        (Ok(()), Spool { file: Some(mut file), .. }) => {
            file.rewind().map_err(|e| IoError::from_std("lseek", scratch, &e))?;
            Ok(Some(file))
        }
        (Ok(()), Spool { file: None, .. }) => Ok(None),
    }
}

/// What errors call it.
const ARCHIVE: &str = "the archive of ADD";
/// How many first bytes tell the compression.
const MAGIC_BYTES: u64 = 10;
const HEADER_BYTES: usize = 512;

enum Ended {
    /// The first header is none.
    NoArchive,
    Failed(BuildError),
}

/// Takes what is decompressed: held back until the first header is there and is one, then written to a file without a
/// name, within the bound of a layer.
struct Spool<'a> {
    scratch: &'a Path,
    file: Option<File>,
    head: Vec<u8>,
    size_bytes: u64,
    is_cancelled: &'a dyn Fn() -> bool,
    failure: Option<Ended>,
}

impl Spool<'_> {
    fn take(&mut self, bytes: &[u8]) -> Result<(), Ended> {
        if (self.is_cancelled)() {
            return Err(Ended::Failed(BuildError::Cancelled { subject: ARCHIVE.to_owned() }));
        }
        self.size_bytes += bytes.len() as u64;
        let limit = Limits::default().layer_size_bytes;
        crate::tree::check("layer_size_bytes", limit, self.size_bytes, ARCHIVE.as_bytes())
            .map_err(Ended::Failed)?;
        if self.file.is_none() {
            self.head.extend_from_slice(bytes);
            if self.head.len() < HEADER_BYTES {
                return Ok(());
            }
            if !is_header(&self.head[..HEADER_BYTES]) {
                return Err(Ended::NoArchive);
            }
            let flags = OFlags::TMPFILE | OFlags::RDWR | OFlags::CLOEXEC;
            let fd = rustix::fs::open(self.scratch, flags, Mode::from_raw_mode(0o600))
                .map_err(|errno| failed("open", self.scratch, errno.raw_os_error()))?;
            let head = std::mem::take(&mut self.head);
            return self.write_out(File::from(fd), &head);
        }
        match self.file.take() {
            Some(file) => self.write_out(file, bytes),
            None => Ok(()),
        }
    }

    fn write_out(&mut self, mut file: File, bytes: &[u8]) -> Result<(), Ended> {
        file.write_all(bytes)
            .map_err(|error| failed("write", self.scratch, error.raw_os_error().unwrap_or(0)))?;
        self.file = Some(file);
        Ok(())
    }
}

fn failed(operation: &'static str, path: &Path, errno: i32) -> Ended {
    Ended::Failed(IoError::new(operation, path, errno).into())
}

impl Write for Spool<'_> {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.take(bytes).map(|()| bytes.len()).map_err(|ended| {
            self.failure = Some(ended);
            std::io::Error::other("the spool takes no more")
        })
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// A decompressor of layers as a stream.
struct PlainRead<R: BufRead>(Decompressor<R>);

impl<R: BufRead> Read for PlainRead<R> {
    fn read(&mut self, into: &mut [u8]) -> std::io::Result<usize> {
        self.0.read(into).map_err(|_| std::io::Error::other("the data is damaged"))
    }
}

/// A tar header's check sum is right. Source: POSIX pax, "ustar Interchange Format", chksum.
fn is_header(block: &[u8]) -> bool {
    let field: String = block[148..156].iter().map(|b| char::from(*b)).collect();
    let text = field.trim_matches(|c: char| c == ' ' || c == '\0');
    let Ok(expected) = u32::from_str_radix(text, 8) else { return false };
    let sum: u32 = block
        .iter()
        .enumerate()
        .map(|(at, b)| if (148..156).contains(&at) { 32 } else { u32::from(*b) })
        .sum();
    sum == expected
}
