//! What is known of names that are no directories, in a file: millions of them would take hundreds of megabytes. Names
//! of directories lie there where they are very many.
//!
//! A record is written once, behind the one before it, and never changed:
//!
//! ```text
//! directory 4, bytes of the name 1, bytes of the body 4, name, body
//! ```
//!
//! The body is an [`Inode`], behind it the text of a symbolic link; or the number of the inode that the name leads to; a
//! directory's has none. A set of extended attributes is a body without a name.

use std::fs::File;
use std::io::{Error, ErrorKind};
use std::os::unix::fs::FileExt;

use crate::error::{narrow, ImageError};
use crate::file::Kind;
use crate::format::NAME_BYTES_MAX;

const HEAD_BYTES: usize = 9;
/// What is written at once.
const TAIL_BYTES: usize = 64 * 1024;
/// What is read at once: the least, twice as much whenever reading goes on where it ended, and the most.
const STEP_BYTES: usize = 512;
const WINDOW_BYTES: usize = 64 * 1024;
/// Records of one directory that lie within so many bytes are read at once.
const SPAN_BYTES: usize = 256 * 1024;

/// How a regular file's `place` is meant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Data {
    Hole,
    Device,
    Image,
    Chunks,
}

/// By their numbers in records.
const DATA: [Data; 4] = [Data::Hole, Data::Device, Data::Image, Data::Chunks];

/// An inode.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Inode {
    pub kind: Kind,
    /// A file's or link text's size; a device's number; a directory's size once it is laid out.
    pub size: u64,
    pub mtime_seconds: i64,
    pub mtime_nanos: u32,
    /// A number of [`crate::owner::Owners`].
    pub owner: u32,
    /// A file's first block or chunk map.
    pub place: u32,
    pub data: Data,
}

const INODE_BYTES: usize = 29;

impl Inode {
    fn encode(&self) -> [u8; INODE_BYTES] {
        let mut bytes = [0; INODE_BYTES];
        bytes[..8].copy_from_slice(&self.size.to_le_bytes());
        bytes[8..16].copy_from_slice(&self.mtime_seconds.to_le_bytes());
        bytes[16..20].copy_from_slice(&self.mtime_nanos.to_le_bytes());
        bytes[20..24].copy_from_slice(&self.owner.to_le_bytes());
        bytes[24..28].copy_from_slice(&self.place.to_le_bytes());
        bytes[28] = self.data as u8;
        bytes
    }
}

/// Little-endian numbers from the front of a record, which is as long as it was written.
struct Fields<'b>(&'b [u8]);

impl<'b> Fields<'b> {
    fn take<const N: usize>(&mut self) -> [u8; N] {
        let Some((first, rest)) = self.0.split_first_chunk() else { return [0; N] };
        self.0 = rest;
        *first
    }

    fn u32(&mut self) -> u32 {
        u32::from_le_bytes(self.take())
    }
}

/// One record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Record<'b> {
    pub name: &'b [u8],
    body: &'b [u8],
}

impl<'b> Record<'b> {
    /// The inode of a record that holds one of this kind.
    pub fn inode(&self, kind: Kind) -> Inode {
        let mut fields = Fields(self.body);
        Inode {
            kind,
            size: u64::from_le_bytes(fields.take()),
            mtime_seconds: i64::from_le_bytes(fields.take()),
            mtime_nanos: fields.u32(),
            owner: fields.u32(),
            place: fields.u32(),
            data: DATA[usize::from(fields.take::<1>()[0]) % DATA.len()],
        }
    }

    /// The text of a symbolic link.
    pub fn target(&self) -> &'b [u8] {
        self.body.get(INODE_BYTES..).unwrap_or_default()
    }

    /// What [`Records::add_bytes`] was given.
    pub fn bytes(&self) -> &'b [u8] {
        self.body
    }

    /// The inode that a further name leads to.
    pub fn original(&self) -> u32 {
        Fields(self.body).u32()
    }
}

/// The records of a tree.
#[derive(Debug)]
pub(crate) struct Records {
    file: File,
    /// What the file holds of them.
    kept_bytes: u64,
    /// Whole records behind those.
    tail: Vec<u8>,
}

fn failed(doing: &'static str) -> impl Fn(Error) -> ImageError {
    move |error| ImageError::Records { doing, error }
}

/// The length of a name in its one byte.
pub(crate) fn name_length(name: &[u8]) -> Result<u8, ImageError> {
    let too_long = ImageError::Full { what: "bytes in a name", limit: NAME_BYTES_MAX as u64 };
    u8::try_from(name.len()).map_err(|_| too_long)
}

impl Records {
    /// None yet; nothing is in `file`.
    pub fn new(file: File) -> Self {
        Self { file, kept_bytes: 0, tail: Vec::new() }
    }

    /// Adds an inode under its first name; `target` is the text of a symbolic link. Returns the record's place.
    pub fn add(
        &mut self,
        directory: u32,
        name: &[u8],
        inode: &Inode,
        target: &[u8],
    ) -> Result<u32, ImageError> {
        self.put(directory, name, &inode.encode(), target)
    }

    /// Adds a further name of the inode `original`.
    pub fn add_alias(&mut self, directory: u32, name: &[u8], original: u32) -> Result<u32, ImageError> {
        self.put(directory, name, &original.to_le_bytes(), &[])
    }

    #[cfg(test)]
    pub fn is_empty(&self) -> bool {
        self.kept_bytes == 0 && self.tail.is_empty()
    }

    /// Adds the name of a directory.
    pub fn add_directory(&mut self, directory: u32, name: &[u8]) -> Result<u32, ImageError> {
        self.put(directory, name, &[], &[])
    }

    /// Adds bytes that are no name's.
    pub fn add_bytes(&mut self, bytes: &[u8]) -> Result<u32, ImageError> {
        self.put(0, &[], bytes, &[])
    }

    fn put(&mut self, directory: u32, name: &[u8], body: &[u8], text: &[u8]) -> Result<u32, ImageError> {
        let name_bytes = name_length(name)?;
        let body_bytes = narrow("bytes of a link", (body.len() + text.len()) as u64)?;
        let place = narrow("bytes of names", self.kept_bytes + self.tail.len() as u64)?;
        self.tail.extend_from_slice(&directory.to_le_bytes());
        self.tail.push(name_bytes);
        self.tail.extend_from_slice(&body_bytes.to_le_bytes());
        self.tail.extend_from_slice(name);
        self.tail.extend_from_slice(body);
        self.tail.extend_from_slice(text);
        if self.tail.len() >= TAIL_BYTES {
            self.file.write_all_at(&self.tail, self.kept_bytes).map_err(failed("write"))?;
            self.kept_bytes += self.tail.len() as u64;
            self.tail.clear();
        }
        Ok(place)
    }

    /// Reads from `at` on as far as the buffer goes, and the records.
    fn read(&self, at: u64, buffer: &mut [u8]) -> Result<usize, ImageError> {
        if let Some(offset) = at.checked_sub(self.kept_bytes) {
            let rest = self.tail.get(usize::try_from(offset).unwrap_or(usize::MAX)..).unwrap_or_default();
            let len = rest.len().min(buffer.len());
            buffer[..len].copy_from_slice(&rest[..len]);
            return Ok(len);
        }
        let left = usize::try_from(self.kept_bytes - at).unwrap_or(usize::MAX);
        let len = buffer.len().min(left);
        self.file.read_exact_at(&mut buffer[..len], at).map_err(failed("pread"))?;
        Ok(len)
    }

    /// True if the record at `place` is that of `name` in `directory`.
    pub fn is_of(&self, place: u32, directory: u32, name: &[u8]) -> Result<bool, ImageError> {
        let mut buffer = [0; HEAD_BYTES + NAME_BYTES_MAX];
        let len = self.read(place.into(), &mut buffer[..HEAD_BYTES + name.len().min(NAME_BYTES_MAX)])?;
        let (mut fields, found) = (Fields(&buffer[..HEAD_BYTES]), &buffer[HEAD_BYTES.min(len)..len]);
        let is_there = fields.u32() == directory && usize::from(fields.take::<1>()[0]) == name.len();
        Ok(is_there && found == name)
    }
}

/// Part of the records in memory, for who reads many that lie near each other.
#[derive(Debug, Default)]
pub(crate) struct Window {
    start: u64,
    bytes: Vec<u8>,
}

impl Window {
    /// The record at `place`.
    pub fn get(&mut self, records: &Records, place: u32) -> Result<Record<'_>, ImageError> {
        self.cover(records, place, HEAD_BYTES)?;
        let mut fields = Fields(&self.bytes[self.offset(place)..]);
        let (_, name_bytes, body_bytes) = (fields.u32(), fields.take::<1>()[0], fields.u32());
        let (name_bytes, body_bytes) = (usize::from(name_bytes), body_bytes as usize);
        self.cover(records, place, HEAD_BYTES + name_bytes + body_bytes)?;
        let found = &self.bytes[self.offset(place) + HEAD_BYTES..][..name_bytes + body_bytes];
        let (name, body) = found.split_at(name_bytes);
        Ok(Record { name, body })
    }

    /// Reads the records from the one at `first` to the one at `last`, if they are not too many.
    pub fn load(&mut self, records: &Records, first: u32, last: u32) -> Result<(), ImageError> {
        let span = last.saturating_sub(first) as usize;
        if span > SPAN_BYTES {
            return Ok(());
        }
        self.fill(records, first, span + STEP_BYTES)
    }

    /// Of a place that is covered.
    fn offset(&self, place: u32) -> usize {
        usize::try_from(u64::from(place).saturating_sub(self.start)).unwrap_or(usize::MAX)
    }

    fn cover(&mut self, records: &Records, place: u32, len: usize) -> Result<(), ImageError> {
        let (at, end) = (u64::from(place), self.start + self.bytes.len() as u64);
        if self.start <= at && at + len as u64 <= end {
            return Ok(());
        }
        let goes_on = self.start <= at && at <= end;
        let size = if goes_on { (self.bytes.len() * 2).clamp(STEP_BYTES, WINDOW_BYTES) } else { STEP_BYTES };
        self.fill(records, place, size.max(len))?;
        if self.bytes.len() < len {
            return Err(failed("pread")(ErrorKind::UnexpectedEof.into()));
        }
        Ok(())
    }

    fn fill(&mut self, records: &Records, place: u32, size: usize) -> Result<(), ImageError> {
        self.bytes.resize(size, 0);
        let filled = records.read(place.into(), &mut self.bytes)?;
        self.bytes.truncate(filled);
        self.start = place.into();
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn inode(number: u32) -> Inode {
        Inode {
            kind: Kind::File,
            size: u64::from(number) << 33,
            mtime_seconds: -i64::from(number) - (1 << 40),
            mtime_nanos: 999_999_999 - number,
            owner: number + 1,
            place: number + 2,
            data: DATA[number as usize % 4],
        }
    }

    fn name(number: u32) -> Vec<u8> {
        format!("{number}").repeat(1 + number as usize % 40).into_bytes()
    }

    fn filled(count: u32) -> (Records, Vec<u32>) {
        let mut records = Records::new(tempfile::tempfile().unwrap());
        let places =
            (0..count).map(|n| records.add(n / 9, &name(n), &inode(n), &[b't'; 7]).unwrap()).collect();
        (records, places)
    }

    #[test]
    fn records_are_read_back_in_any_order_from_the_file_and_before_it() {
        let (records, places) = filled(5_000);
        assert!(records.kept_bytes > 0 && !records.tail.is_empty());
        let mut window = Window::default();
        let orders: [Vec<u32>; 3] = [
            (0..5_000).collect(),
            (0..5_000).rev().collect(),
            (0..5_000).map(|n| n * 1_237 % 5_000).collect(),
        ];
        for n in orders.into_iter().flatten() {
            let place = places[n as usize];
            let record = window.get(&records, place).unwrap();
            assert_eq!(record.name, name(n));
            assert_eq!((record.inode(Kind::File), record.target()), (inode(n), &[b't'; 7][..]));
            assert!(records.is_of(place, n / 9, &name(n)).unwrap());
            assert!(!records.is_of(place, n / 9 + 1, &name(n)).unwrap());
            assert!(!records.is_of(place, n / 9, &[name(n), vec![b'x']].concat()).unwrap());
            assert!(!records.is_of(place, n / 9, &name(n)[1..]).unwrap());
        }
    }

    #[test]
    fn records_of_a_span_are_read_at_once() {
        let (records, places) = filled(2_000);
        let mut window = Window::default();
        window.load(&records, places[100], places[300]).unwrap();
        let loaded = (window.start, window.bytes.len());
        for n in (100..=300).rev() {
            assert_eq!(window.get(&records, places[n as usize]).unwrap().name, name(n));
        }
        assert_eq!((window.start, window.bytes.len()), loaded);
    }

    #[test]
    fn a_further_name_tells_its_inode_and_a_name_too_long_is_refused() {
        let mut records = Records::new(tempfile::tempfile().unwrap());
        let place = records.add_alias(3, b"also", 77).unwrap();
        let mut window = Window::default();
        let record = window.get(&records, place).unwrap();
        assert_eq!((record.name, record.original()), (&b"also"[..], 77));
        let error = records.add_alias(3, &[b'n'; 256], 77).unwrap_err();
        assert!(matches!(error, ImageError::Full { what: "bytes in a name", limit: 255 }));
    }

    #[test]
    fn a_file_that_was_cut_is_an_error_and_no_record() {
        let (records, places) = filled(5_000);
        records.file.set_len(1_000).unwrap();
        let error = Window::default().get(&records, places[100]).unwrap_err();
        assert!(matches!(error, ImageError::Records { doing: "pread", .. }), "{error}");
        assert!(records.is_of(places[100], 11, &name(100)).is_err());
    }
}
