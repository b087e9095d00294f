//! The stream of entries: headers joined with their extended headers, data handed over in place.

use super::compose::{Parts, Pending};
use super::header::Header;
use super::{sparse, Chunks, Fault, BLOCK_BYTES};
use crate::entry::{Entry, EntryData, EntryKind, Extent};
use crate::error::shown;
use crate::{LayerError, Limits, Rule};

/// How the archive ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ArchiveEnd {
    /// By the end marker, two blocks of zeros.
    Marked,
    /// By the end of the stream, between two entries. Whether that is the whole archive only its digest can tell.
    Unmarked,
}

/// Reads the entries of a tar stream in order. Whiteouts are not interpreted: they are the files they look like.
#[derive(Debug)]
pub struct TarReader<C> {
    chunks: C,
    subject: String,
    limits: Limits,
    offset_bytes: u64,
    /// Data of the current entry that was not consumed, and the padding behind it.
    data_left: u64,
    padding_left: u64,
    header_count: u64,
    end: Option<ArchiveEnd>,
}

impl<C: Chunks> TarReader<C> {
    /// A reader at the start of an archive; `subject` names it in errors.
    pub fn new(chunks: C, subject: &str, limits: &Limits) -> Self {
        Self {
            chunks,
            subject: subject.to_owned(),
            limits: limits.clone(),
            offset_bytes: 0,
            data_left: 0,
            padding_left: 0,
            header_count: 0,
            end: None,
        }
    }

    /// How the archive ended; `None` before `next_entry` returned `None`.
    pub fn end(&self) -> Option<ArchiveEnd> {
        self.end
    }

    /// The next entry, or `None` at the archive's end. Data of the entry before it that was not read is passed over.
    ///
    /// # Errors
    /// `LAYER_CORRUPT` for a malformed or cut archive, `LAYER_REJECTED` for an entry that breaks a rule,
    /// `LIMIT_EXCEEDED`, and what reading the source raises.
    pub fn next_entry(&mut self) -> Result<Option<Entry>, LayerError> {
        if self.end.is_some() {
            return Ok(None);
        }
        let mut pending = Pending::default();
        loop {
            self.skip_entry()?;
            let Some(block) = self.read_header(pending.is_used())? else { return Ok(None) };
            self.header_count += 1;
            let fault = |reader: &Self, fault| reader.fault(fault, &pending.shown_name(&block));
            let limit = Fault::check("entry_count", self.limits.entry_count, self.header_count);
            limit.map_err(|f| fault(self, f))?;
            let header = Header::parse(&block).map_err(|f| fault(self, f))?;
            match header.type_flag() {
                b'x' | b'L' | b'K' => {
                    let body = self.read_extended(&header)?;
                    pending.add(header.type_flag(), &body, &self.limits).map_err(|f| {
                        let name = pending.shown_name(&block);
                        self.fault(f, &name)
                    })?;
                }
                // Global headers: what they say of single entries is ignored, as Docker and containerd do (X24).
                // A volume label is no file either.
                b'g' | b'V' => self.pass_over(&header)?,
                _ => return self.entry(&header, pending, &block).map(Some),
            }
        }
    }

    fn fault(&self, fault: Fault, entry: &[u8]) -> LayerError {
        let digest = self.subject.clone();
        match fault {
            Fault::Rule(rule) => LayerError::Rejected { digest, entry: shown(entry), rule },
            Fault::Malformed(what) => {
                let detail = format!("{what}, at byte {}, entry {:?}", self.offset_bytes, shown(entry));
                LayerError::Corrupt { digest, detail }
            }
            Fault::Limit(limit, limit_value, actual) => {
                let subject = format!("{digest}: entry {:?}", shown(entry));
                LayerError::LimitExceeded { limit, limit_value, actual, subject }
            }
        }
    }

    fn truncated(&self) -> LayerError {
        let detail = format!("the archive ends early, at byte {}", self.offset_bytes);
        LayerError::Corrupt { digest: self.subject.clone(), detail }
    }

    fn skip_entry(&mut self) -> Result<(), LayerError> {
        let count = self.data_left + self.padding_left;
        if count > 0 {
            let skipped = self.chunks.skip(count)?;
            self.offset_bytes += skipped;
            if skipped < count {
                return Err(self.truncated());
            }
            (self.data_left, self.padding_left) = (0, 0);
        }
        Ok(())
    }

    /// Fills `block`; returns how many bytes there were before the stream's end.
    fn fill(&mut self, block: &mut [u8]) -> Result<usize, LayerError> {
        let mut filled = 0;
        while filled < block.len() {
            let chunk = self.chunks.chunk()?;
            let step = chunk.len().min(block.len() - filled);
            if step == 0 {
                break;
            }
            block[filled..filled + step].copy_from_slice(&chunk[..step]);
            self.chunks.consume(step);
            self.offset_bytes += step as u64;
            filled += step;
        }
        Ok(filled)
    }

    fn read_block(&mut self) -> Result<[u8; BLOCK_BYTES as usize], LayerError> {
        let mut block = [0; BLOCK_BYTES as usize];
        if self.fill(&mut block)? < block.len() {
            return Err(self.truncated());
        }
        Ok(block)
    }

    /// The next header's block, or `None` at the archive's end, which cannot come behind an extended header.
    fn read_header(&mut self, has_pending: bool) -> Result<Option<[u8; BLOCK_BYTES as usize]>, LayerError> {
        let mut block = [0; BLOCK_BYTES as usize];
        match self.fill(&mut block)? {
            0 if !has_pending => self.end = Some(ArchiveEnd::Unmarked),
            len if len < block.len() => return Err(self.truncated()),
            _ if block.iter().any(|b| *b != 0) => return Ok(Some(block)),
            _ if has_pending => return Err(self.truncated()),
            _ => self.end = Some(self.read_end_marker()?),
        }
        Ok(None)
    }

    fn read_end_marker(&mut self) -> Result<ArchiveEnd, LayerError> {
        let mut second = [0; BLOCK_BYTES as usize];
        match self.fill(&mut second)? {
            0 => Ok(ArchiveEnd::Unmarked),
            len if len < second.len() => Err(self.truncated()),
            _ if second.iter().all(|b| *b == 0) => Ok(ArchiveEnd::Marked),
            _ => Err(self.fault(Fault::Malformed("a block of zeros stands between two entries"), b"")),
        }
    }

    fn size_of(&self, header: &Header<'_>) -> Result<u64, LayerError> {
        let size = header.size().map_err(|f| self.fault(f, &header.name()))?;
        let malformed = Fault::Malformed("a size is negative");
        u64::try_from(size).map_err(|_| self.fault(malformed, &header.name()))
    }

    fn read_extended(&mut self, header: &Header<'_>) -> Result<Vec<u8>, LayerError> {
        let size = self.extended_size(header)?;
        let mut body = vec![0; usize::try_from(size).unwrap_or(usize::MAX)];
        if self.fill(&mut body)? < body.len() {
            return Err(self.truncated());
        }
        (self.data_left, self.padding_left) = (0, padding(size));
        Ok(body)
    }

    fn pass_over(&mut self, header: &Header<'_>) -> Result<(), LayerError> {
        let size = self.extended_size(header)?;
        (self.data_left, self.padding_left) = (size, padding(size));
        Ok(())
    }

    fn extended_size(&self, header: &Header<'_>) -> Result<u64, LayerError> {
        let size = self.size_of(header)?;
        Fault::check("extended_header_bytes", self.limits.extended_header_bytes, size)
            .map_err(|f| self.fault(f, &header.name()))?;
        Ok(size)
    }

    fn entry(
        &mut self,
        header: &Header<'_>,
        pending: Pending,
        block: &[u8; BLOCK_BYTES as usize],
    ) -> Result<Entry, LayerError> {
        let shown_name = pending.shown_name(block);
        let records = &pending.records;
        let sparse_name = if records.sparse.is_present() { records.sparse.name.as_ref() } else { None };
        let raw_name = sparse_name
            .or(records.path.as_ref())
            .or(pending.long_name.as_ref())
            .cloned()
            .unwrap_or_else(|| header.name());
        let parts = Parts { header, pending: &pending, limits: &self.limits };
        let common = parts.common(&raw_name).map_err(|f| self.fault(f, &shown_name))?;
        let kind = parts.kind(&raw_name).map_err(|f| self.fault(f, &shown_name))?;
        let mut entry = Entry { kind, ..common };
        if matches!(entry.kind, EntryKind::File { .. }) {
            let header_size = self.size_of(header)?;
            let data_size = records.size.unwrap_or(header_size);
            Fault::check("layer_size_bytes", self.limits.layer_size_bytes, data_size)
                .map_err(|f| self.fault(f, &shown_name))?;
            (self.data_left, self.padding_left) = (data_size, padding(data_size));
            self.describe_file(header, &pending, &mut entry).map_err(|e| match e {
                FileFault::Fault(fault) => self.fault(fault, &shown_name),
                FileFault::Error(error) => error,
            })?;
        }
        entry.data_offset_bytes = self.offset_bytes;
        entry.data_size_bytes = self.data_left;
        Ok(entry)
    }

    /// Settles a file's size and extents, reading a sparse map that stands before the data.
    fn describe_file(
        &mut self,
        header: &Header<'_>,
        pending: &Pending,
        entry: &mut Entry,
    ) -> Result<(), FileFault> {
        let records = &pending.records.sparse;
        let (size_bytes, extents) = if header.type_flag() == b'S' {
            let (slots, has_more, real_size) = header.gnu_sparse()?;
            let extents = self.read_gnu_map(slots, has_more)?;
            (u64::try_from(real_size).map_err(|_| Fault::Rule(Rule::SparseMap))?, Some(extents))
        } else if records.is_present() {
            let extents = match (records.major, records.minor) {
                (Some(1), Some(0)) => self.read_map()?,
                (None | Some(0), None | Some(0 | 1)) => sparse::from_records(records)?,
                _ => return Err(Fault::Malformed("an unknown version of PAX sparse files").into()),
            };
            let real_size = records.real_size.ok_or(Fault::Rule(Rule::SparseMap))?;
            (real_size, Some(extents))
        } else {
            (self.data_left, None)
        };
        Fault::check("layer_size_bytes", self.limits.layer_size_bytes, size_bytes)?;
        if let Some(extents) = &extents {
            sparse::check(extents, size_bytes, self.data_left)?;
        }
        entry.kind = EntryKind::File { size_bytes, extents };
        Ok(())
    }

    fn read_gnu_map(&mut self, slots: &[u8], mut has_more: bool) -> Result<Vec<Extent>, FileFault> {
        let mut extents = Vec::new();
        sparse::add_gnu_slots(&mut extents, slots)?;
        let mut map_bytes = 0;
        while has_more {
            map_bytes += BLOCK_BYTES;
            Fault::check("sparse_map_bytes", self.limits.sparse_map_bytes, map_bytes)?;
            let block = self.read_block()?;
            sparse::add_gnu_slots(&mut extents, &block[..504])?;
            has_more = block[504] != 0;
        }
        Ok(extents)
    }

    fn read_map(&mut self) -> Result<Vec<Extent>, FileFault> {
        let mut reader = sparse::MapReader::default();
        let mut map_bytes = 0;
        loop {
            map_bytes += BLOCK_BYTES;
            Fault::check("sparse_map_bytes", self.limits.sparse_map_bytes, map_bytes)?;
            self.data_left = self.data_left.checked_sub(BLOCK_BYTES).ok_or(Fault::Rule(Rule::SparseMap))?;
            let block = self.read_block()?;
            if reader.feed(&block)? {
                return Ok(reader.finish()?);
            }
        }
    }

    /// The stream behind the entries, to be read to its end: what follows the end marker counts for the digest.
    pub fn into_chunks(self) -> C {
        self.chunks
    }
}

impl<C: Chunks> EntryData for TarReader<C> {
    fn chunk(&mut self) -> Result<&[u8], LayerError> {
        if self.data_left == 0 {
            return Ok(&[]);
        }
        if self.chunks.chunk()?.is_empty() {
            return Err(self.truncated());
        }
        let chunk = self.chunks.chunk()?;
        let len = usize::try_from(self.data_left).unwrap_or(usize::MAX).min(chunk.len());
        Ok(&chunk[..len])
    }

    fn consume(&mut self, count: usize) {
        self.chunks.consume(count);
        self.data_left -= count as u64;
        self.offset_bytes += count as u64;
    }
}

/// A fault, or an error that came with its message from below.
enum FileFault {
    Fault(Fault),
    Error(LayerError),
}

impl From<Fault> for FileFault {
    fn from(fault: Fault) -> Self {
        Self::Fault(fault)
    }
}

impl From<LayerError> for FileFault {
    fn from(error: LayerError) -> Self {
        Self::Error(error)
    }
}

fn padding(size: u64) -> u64 {
    (BLOCK_BYTES - size % BLOCK_BYTES) % BLOCK_BYTES
}
