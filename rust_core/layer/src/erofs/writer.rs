//! Takes the entries of one layer and builds the tree of its index.

use std::fs::File;
use std::io::BufWriter;
use std::path::{Path, PathBuf};

use ::erofs::{
    Attributes, ImageError, ImageWriter, InodeId, Kind, New, Special, Tree, DEFAULT_BLOCK_BITS,
    NAME_OVERHEAD_BYTES, OWNER_BYTES,
};
use content::{Algorithm, Digest, Hasher};
use errors::IoError;

use super::attributes::{self, Fault};
use super::{DATA_NAME, INDEX_NAME};
use crate::finish::IMPLIED_MODE;
use crate::ledger::{Aim, Ledger, Made};
use crate::port::{LayerWriter, RawSink, Written};
use crate::route::Missing;
use crate::stage::StageRequest;
use crate::{scratch, xattr, Entry, EntryData, EntryKind, LayerError, Rule};

/// Why a directory is there, and whether it hides what the lower layers have in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct DirectoryRecord {
    pub made: Made,
    pub is_opaque: bool,
}

/// Builds one layer's index. The rules are those of the directory kind; the tree is in memory instead of on disk.
#[derive(Debug)]
pub(super) struct ErofsWriter<'a> {
    path: PathBuf,
    /// Directories have a mark, their [`DirectoryRecord`]. It is dropped before the ledger, which then gives another
    /// layer the right to be large.
    pub tree: Tree,
    pub ledger: Ledger<'a>,
    data: File,
    is_data_new: bool,
    index: Option<ImageWriter<BufWriter<File>>>,
    /// Distinct owners that are counted against the limit of memory.
    counted_owners: usize,
}

/// The buffer before the index, whose parts are small.
const INDEX_BUFFER_BYTES: usize = 256 * 1024;

/// What an index cannot hold, or a failed write to it, by the name of the layer's folder.
pub(super) fn image_error(path: &Path, subject: &str, error: ImageError) -> LayerError {
    match error {
        ImageError::Write(error) => IoError::from_std("write", path.join(INDEX_NAME), &error).into(),
        ImageError::Records { doing, error } => {
            IoError::from_std(doing, path.join(scratch::NAME), &error).into()
        }
        ImageError::Full { limit, what } => LayerError::LimitExceeded {
            limit: "index_addresses",
            limit_value: limit,
            actual: limit.saturating_add(1),
            subject: format!("{subject}: {what}"),
        },
        // Both are told of before, where the entry is known.
        ImageError::XattrName | ImageError::XattrSize => {
            LayerError::Rejected { digest: subject.to_owned(), entry: String::new(), rule: Rule::Xattr }
        }
    }
}

impl DirectoryRecord {
    const IMPLIED: u8 = 1;
    const OPAQUE: u8 = 2;

    /// As the tree keeps it.
    fn mark(self) -> u8 {
        let made = if self.made == Made::Implied { Self::IMPLIED } else { 0 };
        made | if self.is_opaque { Self::OPAQUE } else { 0 }
    }

    fn of_mark(mark: u8) -> Self {
        let made = if mark & Self::IMPLIED != 0 { Made::Implied } else { Made::ByEntry };
        Self { made, is_opaque: mark & Self::OPAQUE != 0 }
    }
}

impl<'a> ErofsWriter<'a> {
    pub fn new(
        path: &Path,
        data: File,
        is_data_new: bool,
        index: File,
        records: File,
        request: &StageRequest<'a>,
    ) -> Result<Self, LayerError> {
        let mode = u16::try_from(IMPLIED_MODE).unwrap_or(0);
        let tree = Tree::new(Attributes { mode, ..Attributes::default() }, records);
        let index = ImageWriter::new(BufWriter::with_capacity(INDEX_BUFFER_BYTES, index), DEFAULT_BLOCK_BITS)
            .map_err(|error| image_error(path, request.subject, error))?;
        Ok(Self {
            path: path.to_path_buf(),
            ledger: Ledger::new(request),
            data,
            is_data_new,
            index: Some(index),
            tree,
            counted_owners: 0,
        })
    }

    pub(super) fn fault(&self, entry: &[u8], fault: Fault) -> LayerError {
        match fault {
            Fault::Rule(rule) => self.ledger.rejected(entry, rule),
            Fault::Image(error) => image_error(&self.path, &self.ledger.subject_of(entry), error),
        }
    }

    pub(super) fn full(&self, entry: &[u8], error: ImageError) -> LayerError {
        image_error(&self.path, &self.ledger.subject_of(entry), error)
    }

    /// Blocks of the index itself hold `bytes`; the answer is the first.
    pub(super) fn append(&mut self, bytes: &[u8]) -> Result<u32, LayerError> {
        let (path, subject) = (&self.path, self.ledger.subject);
        match &mut self.index {
            Some(index) => index
                .append_blocks(bytes, bytes.len() as u64)
                .map_err(|error| image_error(path, subject, error)),
            None => unreachable!("the index is closed by finish, the last call"),
        }
    }

    pub(super) fn is_opaque(&self, directory: InodeId) -> bool {
        self.record(directory).is_opaque
    }

    pub(super) fn set_opaque(&mut self, directory: InodeId) {
        self.set_record(directory, DirectoryRecord { is_opaque: true, ..self.record(directory) });
    }

    pub(super) fn record(&self, directory: InodeId) -> DirectoryRecord {
        DirectoryRecord::of_mark(self.tree.mark(directory))
    }

    fn set_record(&mut self, directory: InodeId, record: DirectoryRecord) {
        self.tree.set_mark(directory, record.mark());
    }

    /// What `name` is in a directory of this layer.
    pub(super) fn find(&self, directory: InodeId, name: &[u8]) -> Result<Option<InodeId>, LayerError> {
        self.tree.find(directory, name).map_err(|error| self.full(name, error))
    }

    /// Adds a file under a name that is free.
    pub(super) fn add(
        &mut self,
        directory: InodeId,
        name: &[u8],
        new: New<'_>,
        attributes: Attributes,
    ) -> Result<InodeId, LayerError> {
        let target_bytes = if let New::Symlink(target) = &new { target.len() as u64 } else { 0 };
        self.ledger.hold(name, NAME_OVERHEAD_BYTES + name.len() as u64 + target_bytes)?;
        let added =
            self.tree.add(directory, name, new, attributes).map_err(|error| self.full(name, error))?;
        self.count_owners(name)?;
        Ok(added)
    }

    /// Replaces the attributes of a file that is there.
    pub(super) fn set_attributes(
        &mut self,
        id: InodeId,
        attributes: Attributes,
        entry: &[u8],
    ) -> Result<(), LayerError> {
        self.tree.set_attributes(id, attributes).map_err(|error| self.full(entry, error))?;
        self.count_owners(entry)
    }

    fn count_owners(&mut self, entry: &[u8]) -> Result<(), LayerError> {
        let added = self.tree.owner_count() - self.counted_owners;
        self.counted_owners += added;
        self.ledger.hold(entry, OWNER_BYTES * added as u64)
    }

    pub(super) fn link(&mut self, directory: InodeId, name: &[u8], id: InodeId) -> Result<(), LayerError> {
        self.ledger.hold(name, NAME_OVERHEAD_BYTES + name.len() as u64)?;
        self.tree.link(directory, name, id).map_err(|error| self.full(name, error))
    }

    /// The name is free in the directory: a file is dropped, a directory goes with all in it (X28, X29).
    pub(super) fn clear(&mut self, directory: InodeId, name: &[u8]) -> Result<(), LayerError> {
        let Some(found) = self.find(directory, name)? else { return Ok(()) };
        let is_directory = self.tree.kind(found) == Kind::Directory;
        let path = if is_directory { self.path_of(directory, name)? } else { Vec::new() };
        let mut freed = 0;
        let removed = self.tree.remove(directory, name, &mut |_, kind, size| {
            if kind == Kind::File {
                freed += size;
            }
        });
        removed.map_err(|error| self.full(name, error))?;
        self.ledger.uncount_size(freed);
        if is_directory {
            self.ledger.forget(&path);
        }
        Ok(())
    }

    /// The directory `name` is in `here`. A directory that is there keeps its content (X06, X29); anything else is
    /// replaced, and then hides what the lower layers have.
    pub(super) fn make_directory(
        &mut self,
        here: InodeId,
        name: &[u8],
        attributes: Attributes,
        made: Made,
    ) -> Result<InodeId, LayerError> {
        self.ledger.count_made(name)?;
        let found = self.find(here, name)?;
        if let Some(directory) = found.filter(|found| self.tree.kind(*found) == Kind::Directory) {
            self.set_attributes(directory, attributes, name)?;
            self.set_record(directory, DirectoryRecord { made, ..self.record(directory) });
            return Ok(directory);
        }
        self.clear(here, name)?;
        let directory = self.add(here, name, New::Directory, attributes)?;
        self.set_record(directory, DirectoryRecord { made, is_opaque: found.is_some() });
        Ok(directory)
    }

    /// Notes a marker, in its directory as far as this layer has it by now: a later entry may put a link there (X03).
    fn note_marker(&mut self, directory: &[u8], hidden: Option<&[u8]>) -> Result<(), LayerError> {
        let place = self.walk(directory, Missing::Leave, true, directory)?;
        let Some(path) = place.path(|found| self.path_of(found, b""))? else { return Ok(()) };
        self.ledger.note_marker(path, hidden)
    }

    fn write_index(&mut self, diff_id: &Digest) -> Result<(), LayerError> {
        let Some(index) = self.index.take() else { unreachable!("finish is called once") };
        let data_path = self.path.join(DATA_NAME);
        let data = self.data.metadata().map_err(|e| IoError::from_std("fstat", &data_path, &e))?;
        let blocks = data.len().div_ceil(1 << DEFAULT_BLOCK_BITS);
        // What the kernel tells file systems apart by: a layer's index and one settled over others are not the same.
        let mut uuid = [0; 16];
        for (byte, pair) in uuid.iter_mut().zip(diff_id.hex().as_bytes().chunks_exact(2)) {
            let digits = std::str::from_utf8(pair).unwrap_or("0");
            *byte = u8::from_str_radix(digits, 16).unwrap_or(0);
        }
        uuid[0] ^= u8::from(self.ledger.finish.is_some());
        let blocks = u32::try_from(blocks).ok();
        let too_large = || LayerError::LimitExceeded {
            limit: "index_addresses",
            limit_value: u64::from(u32::MAX) << DEFAULT_BLOCK_BITS,
            actual: data.len(),
            subject: self.ledger.subject.to_owned(),
        };
        let (out, summary) = index
            .finish(&mut self.tree, Some(blocks.ok_or_else(too_large)?), uuid)
            .map_err(|error| image_error(&self.path, self.ledger.subject, error))?;
        let index_path = self.path.join(INDEX_NAME);
        let file = out.into_inner().map_err(|e| IoError::from_std("write", &index_path, e.error()))?;
        self.ledger.written.index_digest = Some(digest_of(&file, &index_path)?);
        self.ledger.written.stored_bytes = Some(data.len() + summary.size_bytes);
        Ok(())
    }
}

/// The digest of a file, from its first byte.
pub(super) fn digest_of(file: &File, path: &Path) -> Result<Digest, LayerError> {
    use std::os::unix::fs::FileExt;
    let (mut hasher, mut buffer, mut at) = (Hasher::new(Algorithm::Sha256), vec![0; INDEX_BUFFER_BYTES], 0);
    loop {
        let read = file.read_at(&mut buffer, at).map_err(|e| IoError::from_std("pread", path, &e))?;
        if read == 0 {
            return Ok(hasher.finish());
        }
        hasher.update(&buffer[..read]);
        at += read as u64;
    }
}

impl LayerWriter for ErofsWriter<'_> {
    fn raw_sink(&mut self) -> Result<Option<RawSink>, LayerError> {
        if !self.is_data_new {
            return Ok(None);
        }
        let path = self.path.join(DATA_NAME);
        let file = self.data.try_clone().map_err(|e| IoError::from_std("fcntl", &path, &e))?;
        Ok(Some(RawSink::new(file, path)))
    }

    fn apply(&mut self, mut entry: Entry, data: &mut dyn EntryData) -> Result<(), LayerError> {
        let path = std::mem::take(&mut entry.path);
        let (parent, name) = match self.ledger.admit(&path, &entry)? {
            Aim::Marker(directory, hidden) => return self.note_marker(directory, hidden),
            Aim::Root => {
                self.ledger.hold(b"", xattr::weight(&entry.xattrs))?;
                let attributes =
                    attributes::of_entry(&mut self.tree, &entry).map_err(|fault| self.fault(b"", fault))?;
                return self.set_attributes(self.tree.root(), attributes, b"");
            }
            Aim::Name(parent, name) => (parent, name),
        };
        let here = self.enter(parent, Missing::Make, path.as_bytes())?;
        if let EntryKind::Hardlink { target } = &entry.kind {
            return self.make_link(here, name, target.as_bytes(), path.as_bytes());
        }
        self.ledger.hold(path.as_bytes(), xattr::weight(&entry.xattrs))?;
        let attributes = attributes::of_entry(&mut self.tree, &entry)
            .map_err(|fault| self.fault(path.as_bytes(), fault))?;
        let new = match &entry.kind {
            EntryKind::Directory => {
                return self.make_directory(here, name, attributes, Made::ByEntry).map(drop);
            }
            EntryKind::File { size_bytes, extents } => {
                self.clear(here, name)?;
                self.ledger.count_size(*size_bytes, || path.as_bytes())?;
                let (extents, offset) = (extents.as_deref(), entry.data_offset_bytes);
                New::File(*size_bytes, self.file_data(path.as_bytes(), *size_bytes, extents, offset, data)?)
            }
            EntryKind::Symlink { target } => New::Symlink(target),
            EntryKind::CharDevice { major, minor } => New::Special(Special::CharDevice(*major, *minor)),
            EntryKind::BlockDevice { major, minor } => New::Special(Special::BlockDevice(*major, *minor)),
            EntryKind::Fifo => New::Special(Special::Fifo),
            EntryKind::Hardlink { .. } | EntryKind::Whiteout | EntryKind::Opaque => {
                unreachable!("taken above")
            }
        };
        self.clear(here, name)?;
        self.add(here, name, new, attributes).map(drop)
    }

    fn finish(&mut self, diff_id: &Digest) -> Result<Written, LayerError> {
        self.settle()?;
        sys::failpoint::hit("layer.stage.index");
        self.write_index(diff_id)?;
        Ok(std::mem::take(&mut self.ledger.written))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_an_image_cannot_hold_is_told_by_a_named_limit() {
        let full = ImageError::Full { what: "names", limit: 7 };
        let error = image_error(Path::new("/layers/x"), "sha256:a", full);
        let LayerError::LimitExceeded { limit, limit_value, actual, subject } = error else {
            panic!("{error}")
        };
        assert_eq!(
            (limit, limit_value, actual, subject.as_str()),
            ("index_addresses", 7, 8, "sha256:a: names")
        );
        let disk = std::io::Error::from_raw_os_error(28);
        let error = image_error(Path::new("/layers/x"), "sha256:a", ImageError::Write(disk));
        assert!(matches!(error, LayerError::Io(error) if error.path == Path::new("/layers/x/index.erofs")));
        let disk = ImageError::Records { doing: "pread", error: std::io::Error::from_raw_os_error(5) };
        let error = image_error(Path::new("/layers/x"), "sha256:a", disk);
        assert!(matches!(error, LayerError::Io(error) if error.path == Path::new("/layers/x/records.tmp")));
    }

    #[test]
    fn what_is_known_of_a_directory_survives_as_a_mark() {
        for made in [Made::ByEntry, Made::Implied] {
            for is_opaque in [false, true] {
                let record = DirectoryRecord { made, is_opaque };
                assert_eq!(DirectoryRecord::of_mark(record.mark()), record);
            }
        }
        let fresh = DirectoryRecord { made: Made::ByEntry, is_opaque: false };
        assert_eq!(DirectoryRecord::of_mark(0), fresh);
    }
}
