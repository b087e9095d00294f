//! Joins a header with the extended headers before it into the parts of an entry.

use super::header::Header;
use super::pax::Records;
use super::{name, Fault, BLOCK_BYTES};
use crate::entry::{Entry, EntryKind, Time};
use crate::{Limits, Rule, Xattr};

/// The device numbers that Linux holds. Source: kernel, include/linux/kdev_t.h.
const DEVICE_MAJOR_MAX: i64 = 0xfff;
const DEVICE_MINOR_MAX: i64 = 0xf_ffff;
/// The one id that chown(2) takes for "leave it".
const ID_NONE: i64 = 0xffff_ffff;

/// What extended headers said of the entry that comes.
#[derive(Debug, Default)]
pub(super) struct Pending {
    pub records: Records,
    pub long_name: Option<Vec<u8>>,
    long_link: Option<Vec<u8>>,
    is_used: bool,
}

impl Pending {
    /// True if there was any.
    pub fn is_used(&self) -> bool {
        self.is_used
    }

    /// Adds the body of one extended header.
    pub fn add(&mut self, type_flag: u8, body: &[u8], limits: &Limits) -> Result<(), Fault> {
        self.is_used = true;
        let text = || body[..body.iter().position(|b| *b == 0).unwrap_or(body.len())].to_vec();
        match type_flag {
            b'L' => self.long_name = Some(text()),
            b'K' => self.long_link = Some(text()),
            _ => self.records.add(body, limits)?,
        }
        Ok(())
    }

    /// The best name known so far, for a message.
    pub fn shown_name(&self, block: &[u8; BLOCK_BYTES as usize]) -> Vec<u8> {
        let known = self.records.path.as_ref().or(self.long_name.as_ref());
        known.cloned().unwrap_or_else(|| block[..100].split(|b| *b == 0).next().unwrap_or(&[]).to_vec())
    }
}

/// A header, what came before it, and the limits both are read under.
pub(super) struct Parts<'a> {
    pub header: &'a Header<'a>,
    pub pending: &'a Pending,
    pub limits: &'a Limits,
}

impl Parts<'_> {
    /// All but the kind.
    pub fn common(&self, raw_name: &[u8]) -> Result<Entry, Fault> {
        let records = &self.pending.records;
        let mtime = match records.mtime {
            Some(time) => time,
            None => Time { seconds: self.header.mtime()?, nanos: 0 },
        };
        let mode = self.header.mode()? & 0o7777;
        let kept = |(name, _): &&Xattr| !crate::xattr::steers_overlay(name);
        Ok(Entry {
            path: name::normalise(raw_name, self.limits)?,
            kind: EntryKind::Directory,
            mode: u32::try_from(mode).unwrap_or(0),
            uid: id(records.uid, self.header.uid()?, Rule::UserId)?,
            gid: id(records.gid, self.header.gid()?, Rule::GroupId)?,
            mtime,
            xattrs: records.xattrs.iter().filter(kept).cloned().collect(),
            data_offset_bytes: 0,
            data_size_bytes: 0,
        })
    }

    /// The kind, a file's size still open.
    pub fn kind(&self, raw_name: &[u8]) -> Result<EntryKind, Fault> {
        let file = EntryKind::File { size_bytes: 0, extents: None };
        match self.header.type_flag() {
            // Old tars stored a directory as a file whose name ends in a slash (X21).
            0 if raw_name.ends_with(b"/") => Ok(EntryKind::Directory),
            0 | b'0' | b'7' | b'S' => Ok(file),
            b'1' => Ok(EntryKind::Hardlink { target: name::normalise(&self.link_name(), self.limits)? }),
            b'2' => self.symlink(),
            b'3' => self.device().map(|(major, minor)| EntryKind::CharDevice { major, minor }),
            b'4' => self.device().map(|(major, minor)| EntryKind::BlockDevice { major, minor }),
            b'5' => Ok(EntryKind::Directory),
            b'6' => Ok(EntryKind::Fifo),
            _ => Err(Fault::Rule(Rule::EntryType)),
        }
    }

    fn link_name(&self) -> Vec<u8> {
        let known = self.pending.records.link_path.as_ref().or(self.pending.long_link.as_ref());
        known.cloned().unwrap_or_else(|| self.header.link_name())
    }

    fn symlink(&self) -> Result<EntryKind, Fault> {
        let target = self.link_name();
        if target.is_empty() {
            return Err(Fault::Rule(Rule::LinkEmpty));
        }
        Fault::check("path_bytes", self.limits.path_bytes, target.len() as u64)?;
        Ok(EntryKind::Symlink { target })
    }

    fn device(&self) -> Result<(u32, u32), Fault> {
        let (major, minor) = self.header.device()?;
        if !(0..=DEVICE_MAJOR_MAX).contains(&major) || !(0..=DEVICE_MINOR_MAX).contains(&minor) {
            return Err(Fault::Rule(Rule::DeviceNumber));
        }
        Ok((u32::try_from(major).unwrap_or(0), u32::try_from(minor).unwrap_or(0)))
    }
}

fn id(record: Option<i64>, header: i64, rule: Rule) -> Result<u32, Fault> {
    let value = record.unwrap_or(header);
    match u32::try_from(value) {
        Ok(id) if value != ID_NONE => Ok(id),
        _ => Err(Fault::Rule(rule)),
    }
}
