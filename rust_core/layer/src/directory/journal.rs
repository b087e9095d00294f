//! What directories are told at a layer's end, in the order in which they were made, so that a layer of very many takes
//! no more memory than one of few: beyond a bound the records lie in a file without a name in the layer's folder.
//!
//! A record is written once, behind the one before it, and read once, the newest first:
//!
//! ```text
//! event 1, made 1, has a time 1, mode 4, uid 4, gid 4, seconds 8, nanos 4, bytes of the path 4, path,
//! of each extended attribute (bytes of the name 4, bytes of the value 4, name, value), bytes of all this 4
//! ```

use std::fs::File;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use errors::IoError;

use super::attributes::Attributes;
use crate::ledger::Made;
use crate::{scratch, LayerError, Time};

/// What is kept in memory, and written or read at once. The directories of most images fit in.
const TAIL_BYTES: usize = 256 * 1024;
const LENGTH_BYTES: usize = 4;

/// What happened to a directory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Event {
    /// It was made.
    New,
    /// It was there, and is told otherwise.
    Again,
    /// It is no directory any more, nor is any below it.
    Gone,
}

const EVENTS: [Event; 3] = [Event::New, Event::Again, Event::Gone];
const MADE: [Made; 2] = [Made::ByEntry, Made::Implied];

/// One record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Record {
    pub event: Event,
    pub path: Vec<u8>,
    pub made: Made,
    pub attributes: Attributes,
}

/// Takes records.
#[derive(Debug)]
pub(super) struct Journal {
    folder: OwnedFd,
    /// The file's name in errors.
    path: PathBuf,
    file: Option<File>,
    /// What the file holds.
    kept_bytes: u64,
    /// Whole records behind those.
    tail: Vec<u8>,
}

impl Journal {
    /// Nothing is written yet. `folder` is the layer's, and lies at `path`.
    pub fn new(folder: OwnedFd, path: &Path) -> Self {
        Self { folder, path: path.join(scratch::NAME), file: None, kept_bytes: 0, tail: Vec::new() }
    }

    /// Adds a record of the directory `path`.
    pub fn add(
        &mut self,
        event: Event,
        path: &[u8],
        made: Made,
        attributes: &Attributes,
    ) -> Result<(), LayerError> {
        let start = self.tail.len();
        let time = attributes.mtime.unwrap_or_default();
        self.tail.extend_from_slice(&[event as u8, made as u8, attributes.mtime.is_some().into()]);
        for number in [attributes.mode, attributes.uid, attributes.gid] {
            self.tail.extend_from_slice(&number.to_le_bytes());
        }
        self.tail.extend_from_slice(&time.seconds.to_le_bytes());
        self.tail.extend_from_slice(&time.nanos.to_le_bytes());
        self.put_length(path.len());
        self.tail.extend_from_slice(path);
        for (name, value) in &attributes.xattrs {
            self.put_length(name.len());
            self.put_length(value.len());
            self.tail.extend_from_slice(name);
            self.tail.extend_from_slice(value);
        }
        self.put_length(self.tail.len() - start);
        if self.tail.len() >= TAIL_BYTES {
            self.spill()?;
        }
        Ok(())
    }

    /// The limits of a path and of an entry's attributes are far below 4 GiB.
    fn put_length(&mut self, length: usize) {
        self.tail.extend_from_slice(&u32::try_from(length).unwrap_or(u32::MAX).to_le_bytes());
    }

    fn spill(&mut self) -> Result<(), LayerError> {
        let file = match &mut self.file {
            Some(file) => file,
            none => none.insert(scratch::unnamed(self.folder.as_fd())?),
        };
        file.write_all_at(&self.tail, self.kept_bytes)
            .map_err(|error| IoError::from_std("pwrite", &self.path, &error))?;
        self.kept_bytes += self.tail.len() as u64;
        self.tail.clear();
        Ok(())
    }

    /// What was added, and the journal is empty.
    pub fn take(&mut self) -> Backwards {
        let (start, bytes) = (std::mem::take(&mut self.kept_bytes), std::mem::take(&mut self.tail));
        Backwards { path: self.path.clone(), file: self.file.take(), start, bytes }
    }
}

/// Gives the records back, the newest first.
#[derive(Debug)]
pub(super) struct Backwards {
    path: PathBuf,
    file: Option<File>,
    /// Where in the file `bytes` begin, which are read and not yet given.
    start: u64,
    bytes: Vec<u8>,
}

impl Backwards {
    /// The next older record; `None` after the first.
    pub fn next(&mut self) -> Result<Option<Record>, LayerError> {
        if self.start == 0 && self.bytes.is_empty() {
            return Ok(None);
        }
        self.cover(LENGTH_BYTES)?;
        let mut length = [0; LENGTH_BYTES];
        length.copy_from_slice(&self.bytes[self.bytes.len() - LENGTH_BYTES..]);
        let length = u32::from_le_bytes(length) as usize;
        self.cover(length + LENGTH_BYTES)?;
        let start = self.bytes.len() - LENGTH_BYTES - length;
        let record = decode(&self.bytes[start..start + length]);
        self.bytes.truncate(start);
        Ok(Some(record))
    }

    /// At least `count` bytes are read.
    fn cover(&mut self, count: usize) -> Result<(), LayerError> {
        if self.bytes.len() >= count {
            return Ok(());
        }
        let missing = (count - self.bytes.len()).max(TAIL_BYTES);
        let step = usize::try_from(self.start).unwrap_or(usize::MAX).min(missing);
        let cut = IoError::new("pread", &self.path, 0);
        let Some(file) = self.file.as_ref().filter(|_| step + self.bytes.len() >= count) else {
            return Err(cut.into());
        };
        let mut bytes = vec![0; step];
        self.start -= step as u64;
        file.read_exact_at(&mut bytes, self.start)
            .map_err(|error| IoError::from_std("pread", &self.path, &error))?;
        bytes.append(&mut self.bytes);
        self.bytes = bytes;
        Ok(())
    }
}

/// Little-endian numbers and bytes from the front of a record, which is as long as it was written.
struct Fields<'b>(&'b [u8]);

impl Fields<'_> {
    fn array<const N: usize>(&mut self) -> [u8; N] {
        let Some((first, rest)) = self.0.split_first_chunk() else { return [0; N] };
        self.0 = rest;
        *first
    }

    fn u32(&mut self) -> u32 {
        u32::from_le_bytes(self.array())
    }

    fn bytes(&mut self, length: u32) -> Vec<u8> {
        let (first, rest) = self.0.split_at(self.0.len().min(length as usize));
        self.0 = rest;
        first.to_vec()
    }
}

fn decode(bytes: &[u8]) -> Record {
    let mut fields = Fields(bytes);
    let [event, made, has_time] = fields.array();
    let (mode, uid, gid) = (fields.u32(), fields.u32(), fields.u32());
    let time = Time { seconds: i64::from_le_bytes(fields.array()), nanos: fields.u32() };
    let length = fields.u32();
    let path = fields.bytes(length);
    let mut xattrs = Vec::new();
    while !fields.0.is_empty() {
        let (name, value) = (fields.u32(), fields.u32());
        xattrs.push((fields.bytes(name), fields.bytes(value)));
    }
    Record {
        event: EVENTS[usize::from(event) % EVENTS.len()],
        made: MADE[usize::from(made) % MADE.len()],
        path,
        attributes: Attributes { mode, uid, gid, mtime: (has_time != 0).then_some(time), xattrs },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(number: u32) -> Record {
        let seconds = -(1 << 40) - i64::from(number);
        let xattr = |n: u32| (format!("user.{n}").into_bytes(), vec![0xff; (n * 37) as usize]);
        Record {
            event: EVENTS[number as usize % 3],
            path: format!("{number}/").repeat(number as usize % 60).into_bytes(),
            made: MADE[number as usize % 2],
            attributes: Attributes {
                mode: 0o7000 + number % 0o1000,
                uid: u32::MAX - number,
                gid: number << 8,
                mtime: (!number.is_multiple_of(5)).then_some(Time { seconds, nanos: 999_999_999 - number }),
                xattrs: (0..number % 4).map(xattr).collect(),
            },
        }
    }

    fn journal(folder: &tempfile::TempDir) -> Journal {
        Journal::new(crate::tree::open_root(folder.path()).unwrap(), folder.path())
    }

    fn put(journal: &mut Journal, record: &Record) {
        journal.add(record.event, &record.path, record.made, &record.attributes).unwrap();
    }

    #[test]
    fn records_come_back_newest_first_whether_a_file_was_needed_or_not() {
        let folder = tempfile::tempdir().unwrap();
        for count in [0, 1, 700, 20_000] {
            let mut journal = journal(&folder);
            (0..count).for_each(|n| put(&mut journal, &record(n)));
            assert_eq!(journal.file.is_some(), count > 5_000);
            assert!(journal.tail.len() < TAIL_BYTES);
            assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0, "the file has a name");
            let mut back = journal.take();
            for n in (0..count).rev() {
                assert_eq!(back.next().unwrap(), Some(record(n)));
            }
            assert_eq!(back.next().unwrap(), None);
            assert_eq!(journal.take().next().unwrap(), None);
        }
    }

    #[test]
    fn a_record_larger_than_what_is_read_at_once_comes_back_too() {
        let folder = tempfile::tempdir().unwrap();
        let mut journal = journal(&folder);
        let mut large = record(7);
        large.attributes.xattrs = (0..256).map(|_| (b"user.x".to_vec(), vec![7; 65_536])).collect();
        for record in [&record(1), &large, &record(2)] {
            put(&mut journal, record);
        }
        let mut back = journal.take();
        for expected in [record(2), large, record(1)] {
            assert!(back.next().unwrap() == Some(expected));
        }
        assert_eq!(back.next().unwrap(), None);
    }

    #[test]
    fn a_file_that_was_cut_is_an_error_and_no_record() {
        let folder = tempfile::tempdir().unwrap();
        let mut journal = journal(&folder);
        (0..20_000).for_each(|n| put(&mut journal, &record(n)));
        journal.file.as_ref().unwrap().set_len(1_000).unwrap();
        let mut back = journal.take();
        let error = loop {
            match back.next() {
                Ok(record) => assert!(record.is_some()),
                Err(error) => break error,
            }
        };
        assert!(matches!(&error, LayerError::Io(error) if error.operation == "pread"), "{error}");
    }
}
