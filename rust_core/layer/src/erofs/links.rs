//! Hard links: to what this layer has, or at the end to what a lower layer has (X10).

use std::fs::File;
use std::os::fd::AsFd;

use ::erofs::{InodeId, Kind, New, Special};
use rustix::fs::{FileType, Stat};

use super::attributes;
use super::writer::ErofsWriter;
use crate::entry::{join, split_last};
use crate::ledger::PendingLink;
use crate::lower::{attributes_of, LowerNode};
use crate::route::{Missing, Place};
use crate::tree::file_type;
use crate::{LayerError, Rule, Xattr};

impl ErofsWriter<'_> {
    /// Links `name` in `here` to the path `target`; if this layer does not have it (yet), the link waits for the end.
    pub(super) fn make_link(
        &mut self,
        here: InodeId,
        name: &[u8],
        target: &[u8],
        entry: &[u8],
    ) -> Result<(), LayerError> {
        let path = self.path_of(here, name)?;
        if self.link_within(&path, target, entry)? {
            return Ok(());
        }
        // What the path holds until now is replaced all the same.
        let here = self.enter(split_last(&path).0, Missing::Make, &path)?;
        self.clear(here, name)?;
        self.ledger.note_link(path, target)
    }

    /// Links `path` to `target` if this layer has the target; tells whether it did.
    fn link_within(&mut self, path: &[u8], target: &[u8], entry: &[u8]) -> Result<bool, LayerError> {
        if target.is_empty() {
            return Err(self.ledger.rejected(entry, Rule::HardlinkToDirectory));
        }
        let (parent, target_name) = split_last(target);
        let Place::Entered(directory) = self.walk(parent, Missing::Leave, true, entry)? else {
            return Ok(false);
        };
        let Some(found) = self.find(directory, target_name)? else { return Ok(false) };
        if self.tree.kind(found) == Kind::Directory {
            return Err(self.ledger.rejected(entry, Rule::HardlinkToDirectory));
        }
        let (above, name) = split_last(path);
        let here = self.enter(above, Missing::Make, path)?;
        let existing = self.find(here, name)?;
        if existing == Some(found) {
            return Ok(true);
        }
        if existing.is_some() {
            self.clear(here, name)?;
            // The target lay below the name that was cleared for the link.
            if self.tree.link_count(found) == 0 || self.find(directory, target_name)? != Some(found) {
                return Err(self.ledger.rejected(entry, Rule::HardlinkTargetMissing));
            }
        }
        self.link(here, name, found)?;
        Ok(true)
    }

    /// Makes the links that waited: the target may have come later, or a lower layer has it. Without lower layers to
    /// look at, the rest is recorded.
    pub(super) fn settle_links(&mut self) -> Result<(), LayerError> {
        for link in std::mem::take(&mut self.ledger.links) {
            let (above, name) = split_last(&link.path);
            let here = self.enter(above, Missing::Make, &link.path)?;
            // A later entry of the same path has won.
            if self.find(here, name)?.is_some() || self.link_within(&link.path, &link.target, &link.path)? {
                continue;
            }
            if self.ledger.finish.is_none() {
                self.ledger.record_missing(link);
                continue;
            }
            let is_made = match self.copy_up(&link)? {
                Some(target) => self.link_within(&link.path, &target, &link.path)?,
                None => false,
            };
            if !is_made {
                return Err(self.ledger.rejected(&link.path, Rule::HardlinkTargetMissing));
            }
        }
        Ok(())
    }

    /// Copies a link's target from the lower layers to its own path in this one, unless an earlier link did; returns
    /// that path, free of links of the lower layers. `None` if they do not have it, or this layer hides it.
    fn copy_up(&mut self, link: &PendingLink) -> Result<Option<Vec<u8>>, LayerError> {
        let (parent, name) = split_last(&link.target);
        let (directory, here) = match self.walk(parent, Missing::LeaveFromLower, true, &link.path)? {
            Place::Entered(found) => (self.path_of(found, b"")?, Some(found)),
            Place::Absent(path) => (path, None),
            Place::Blocked => return Ok(None),
        };
        let path = join(&directory, name);
        if let Some(here) = here {
            if self.find(here, name)?.is_some() {
                return Ok(Some(path));
            }
        }
        let is_opaque = |above: &[u8]| self.is_opaque_at(above);
        let Some(node) = self.ledger.link_source(link, &path, is_opaque)? else { return Ok(None) };
        let here = self.enter(&directory, Missing::MakeFromLower, &link.path)?;
        match node {
            LowerNode::File(fd) => {
                let (status, xattrs) = attributes_of(fd.as_fd(), &path)?;
                let (data, size_bytes) = self.copy_data(File::from(fd), &path)?;
                self.ledger.count_size(size_bytes, || &path)?;
                self.add_copied(here, name, New::File(size_bytes, data), (Kind::File, &status, &xattrs))?;
            }
            LowerNode::Symlink(status, target) => {
                self.add_copied(here, name, New::Symlink(&target), (Kind::Symlink, &status, &[]))?;
            }
            LowerNode::Other(status) => {
                let Some((kind, special)) = special_of(&status) else { return Ok(None) };
                self.add_copied(here, name, New::Special(special), (kind, &status, &[]))?;
            }
            LowerNode::Absent | LowerNode::Directory(_) => {}
        }
        Ok(Some(path))
    }

    fn add_copied(
        &mut self,
        here: InodeId,
        name: &[u8],
        new: New<'_>,
        (kind, status, xattrs): (Kind, &Stat, &[Xattr]),
    ) -> Result<(), LayerError> {
        let mut attributes = attributes::of_status(&mut self.tree, kind, status, xattrs)
            .map_err(|fault| self.fault(name, fault))?;
        if kind == Kind::Symlink {
            attributes.mode = 0o777;
        }
        self.add(here, name, new, attributes).map(drop)
    }
}

/// A special file of a lower layer; `None` for a socket, which no layer of ours has.
fn special_of(status: &Stat) -> Option<(Kind, Special)> {
    let (major, minor) = (rustix::fs::major(status.st_rdev), rustix::fs::minor(status.st_rdev));
    match file_type(status) {
        FileType::CharacterDevice => Some((Kind::CharDevice, Special::CharDevice(major, minor))),
        FileType::BlockDevice => Some((Kind::BlockDevice, Special::BlockDevice(major, minor))),
        FileType::Fifo => Some((Kind::Fifo, Special::Fifo)),
        _ => None,
    }
}
