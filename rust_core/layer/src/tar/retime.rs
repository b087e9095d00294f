//! An archive with no time in it later than a bound, made while it is read.

use super::{entry_headers, padding, Chunks, TarReader, END};
use crate::entry::EntryData;
use crate::{LayerError, Limits, TarSource, Time};

/// The archive behind `C`, its entries in the same order. One that this crate wrote, and in which no time is later, comes
/// out as it was, byte for byte; others with the same entries, as this crate writes them.
#[derive(Debug)]
pub struct Retimed<C> {
    /// None once the end was met.
    reader: Option<TarReader<C>>,
    subject: String,
    until: Time,
    limits: Limits,
    pending: Vec<u8>,
    used: usize,
    /// Zeros behind the data of the entry that is being sent; None: no data is.
    padding_bytes: Option<u64>,
}

impl<C: Chunks> Retimed<C> {
    /// Reads `chunks`, which `subject` names in errors. `until_seconds`: since 1970.
    pub fn new(chunks: C, subject: String, until_seconds: i64, limits: &Limits) -> Self {
        Self {
            reader: Some(TarReader::new(chunks, &subject, limits)),
            subject,
            until: Time { seconds: until_seconds, nanos: 0 },
            limits: limits.clone(),
            pending: Vec::new(),
            used: 0,
            padding_bytes: None,
        }
    }

    /// Puts the next headers, or the end, into `pending`.
    fn refill(&mut self) -> Result<(), LayerError> {
        let Some(reader) = &mut self.reader else { return Ok(()) };
        if let Some(mut entry) = reader.next_entry()? {
            entry.mtime = entry.mtime.min(self.until);
            self.pending = entry_headers(&entry, &self.limits)?;
            self.padding_bytes = (entry.data_size_bytes > 0).then(|| padding(entry.data_size_bytes));
            return Ok(());
        }
        // What stands behind the end marker belongs to the digest of the archive.
        if let Some(reader) = self.reader.take() {
            let mut chunks = reader.into_chunks();
            while chunks.skip(u64::MAX)? > 0 {}
        }
        self.pending.extend_from_slice(&END);
        Ok(())
    }
}

impl<C: Chunks> TarSource for Retimed<C> {
    fn read(&mut self, buffer: &mut [u8], is_cancelled: &dyn Fn() -> bool) -> Result<usize, LayerError> {
        loop {
            if is_cancelled() {
                return Err(LayerError::Cancelled { subject: self.subject.clone() });
            }
            if self.used < self.pending.len() {
                let count = buffer.len().min(self.pending.len() - self.used);
                buffer[..count].copy_from_slice(&self.pending[self.used..self.used + count]);
                self.used += count;
                return Ok(count);
            }
            self.pending.clear();
            self.used = 0;
            let Some(reader) = &mut self.reader else { return Ok(0) };
            let Some(padding_bytes) = self.padding_bytes else {
                self.refill()?;
                continue;
            };
            let chunk = reader.chunk()?;
            if chunk.is_empty() {
                self.pending.resize(usize::try_from(padding_bytes).unwrap_or(0), 0);
                self.padding_bytes = None;
                continue;
            }
            let count = buffer.len().min(chunk.len());
            buffer[..count].copy_from_slice(&chunk[..count]);
            reader.consume(count);
            return Ok(count);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Entry, EntryKind, EntryPath, Extent};

    fn entry(path: &str, kind: EntryKind, mtime: Time, data_size_bytes: u64) -> Entry {
        Entry {
            path: EntryPath::new(path.as_bytes().to_vec()).unwrap(),
            kind,
            mode: 0o640,
            uid: 3_000_000,
            gid: 7,
            mtime,
            xattrs: vec![(b"user.b".to_vec(), b"\x00=\n".to_vec()), (b"user.a".to_vec(), Vec::new())],
            data_offset_bytes: 0,
            data_size_bytes,
        }
    }

    /// An archive of one entry of each kind, those of odd number at `late`.
    fn archive(late: Time) -> Vec<u8> {
        let long = format!("{}/{}", "d".repeat(200), "n".repeat(120));
        let sparse = EntryKind::File {
            size_bytes: 1 << 33,
            extents: Some(vec![
                Extent { offset_bytes: 512, size_bytes: 700 },
                Extent { offset_bytes: 1 << 32, size_bytes: 5 },
            ]),
        };
        let target = EntryPath::new(long.clone().into_bytes()).unwrap();
        let kinds = [
            (EntryKind::Directory, 0),
            (EntryKind::File { size_bytes: 1000, extents: None }, 1000),
            (EntryKind::File { size_bytes: 1024, extents: None }, 1024),
            (sparse, 705),
            (EntryKind::Symlink { target: b"../elsewhere".to_vec() }, 0),
            (EntryKind::Hardlink { target }, 0),
            (EntryKind::CharDevice { major: 1, minor: 3 }, 0),
            (EntryKind::Fifo, 0),
            (EntryKind::File { size_bytes: 0, extents: None }, 0),
        ];
        let early = Time { seconds: -5, nanos: 250_000_000 };
        let mut bytes = Vec::new();
        for (number, (kind, size)) in kinds.into_iter().enumerate() {
            let path = match number {
                1 => long.clone(),
                8 => "a/.wh.gone".to_owned(),
                _ => format!("a/{number}"),
            };
            let time = if number % 2 == 1 { late } else { early };
            let one = entry(&path, kind, time, size);
            bytes.extend(entry_headers(&one, &Limits::default()).unwrap());
            bytes.extend((0..size).map(|byte| byte as u8));
            bytes.resize(bytes.len() + usize::try_from(padding(size)).unwrap(), 0);
        }
        bytes.extend_from_slice(&END);
        bytes
    }

    fn retimed(archive: &[u8], until_seconds: i64, step: usize) -> Result<Vec<u8>, LayerError> {
        let mut tar = Retimed::new(archive, "test".to_owned(), until_seconds, &Limits::default());
        let (mut out, mut buffer) = (Vec::new(), vec![0; step]);
        loop {
            let count = tar.read(&mut buffer, &|| false)?;
            if count == 0 {
                return Ok(out);
            }
            out.extend_from_slice(&buffer[..count]);
        }
    }

    #[test]
    fn late_times_come_down_to_the_bound_and_all_else_stays() {
        let late = Time { seconds: 1_700_000_000, nanos: 1 };
        let bound = Time { seconds: 1_000_000_000, nanos: 0 };
        for step in [1, 511, 65_536] {
            assert!(retimed(&archive(late), bound.seconds, step).unwrap() == archive(bound), "{step}");
        }
        assert!(retimed(&archive(late), late.seconds + 1, 4096).unwrap() == archive(late));
        // The same whole second, but later in it.
        let whole = Time { seconds: late.seconds, nanos: 0 };
        assert!(retimed(&archive(late), late.seconds, 4096).unwrap() == archive(whole));
    }

    #[test]
    fn an_archive_that_is_cut_or_cancelled_is_told_as_that() {
        let whole = archive(Time::default());
        let cut = &whole[..whole.len() / 2 + 3];
        assert!(matches!(retimed(cut, 0, 4096), Err(LayerError::Corrupt { .. })));
        let mut tar = Retimed::new(whole.as_slice(), "test".to_owned(), 0, &Limits::default());
        assert!(matches!(tar.read(&mut [0; 10], &|| true), Err(LayerError::Cancelled { .. })));
    }
}
