//! Hard links: to what this layer has, or at the end to what a lower layer has (X10).

use std::os::fd::{AsFd, OwnedFd};

use rustix::fs::{AtFlags, FileType};
use rustix::io::Errno;

use super::attributes::Attributes;
use super::writer::DirectoryWriter;
use crate::entry::{join, split_last};
use crate::ledger::PendingLink;
use crate::lower::{attributes_of, LowerNode};
use crate::route::{Missing, Place};
use crate::tree::{self, file_type};
use crate::{LayerError, Rule};

impl DirectoryWriter<'_> {
    /// Links `name` in the current directory to the path `target`; if this layer does not have it (yet), the link
    /// waits for the end.
    pub(super) fn make_link(&mut self, name: &[u8], target: &[u8], entry: &[u8]) -> Result<(), LayerError> {
        let path = self.path_here(name);
        if self.link_within(&path, target, entry)? {
            return Ok(());
        }
        // What the path holds until now is replaced all the same.
        self.enter_parent_of(&path)?;
        self.clear(name)?;
        self.ledger.note_link(path, target)
    }

    fn enter_parent_of(&mut self, path: &[u8]) -> Result<(), LayerError> {
        self.enter(split_last(path).0, Missing::Make, path)
    }

    /// Links `path` to `target` if this layer has the target; tells whether it did.
    fn link_within(&mut self, path: &[u8], target: &[u8], entry: &[u8]) -> Result<bool, LayerError> {
        if target.is_empty() {
            return Err(self.ledger.rejected(entry, Rule::HardlinkToDirectory));
        }
        let (parent, target_name) = split_last(target);
        if self.walk(parent, Missing::Leave, true, entry)? != Place::Entered(()) {
            return Ok(false);
        }
        let status = tree::stat(self.here(), target_name)
            .map_err(|errno| self.call_error("fstatat", target_name, errno))?;
        let Some(status) = status else { return Ok(false) };
        if file_type(&status) == FileType::Directory {
            return Err(self.ledger.rejected(entry, Rule::HardlinkToDirectory));
        }
        let directory: OwnedFd =
            self.here().try_clone_to_owned().map_err(|e| errors::IoError::from_std("fcntl", "", &e))?;
        self.enter_parent_of(path)?;
        let name = split_last(path).1;
        let existing =
            tree::stat(self.here(), name).map_err(|errno| self.call_error("fstatat", name, errno))?;
        if existing.is_some_and(|e| (e.st_dev, e.st_ino) == (status.st_dev, status.st_ino)) {
            return Ok(true);
        }
        if existing.is_some() {
            self.clear(name)?;
        }
        match rustix::fs::linkat(&directory, target_name, self.here(), name, AtFlags::empty()) {
            Ok(()) => Ok(true),
            // The target lay below the name that was cleared for the link.
            Err(Errno::NOENT) => Err(self.ledger.rejected(entry, Rule::HardlinkTargetMissing)),
            Err(errno) => Err(self.call_error("linkat", name, errno)),
        }
    }

    /// Makes the links that waited: the target may have come later, or a lower layer has it. Without lower layers to
    /// look at, the rest is recorded.
    pub(super) fn settle_links(&mut self) -> Result<(), LayerError> {
        for link in std::mem::take(&mut self.ledger.links) {
            self.enter_parent_of(&link.path)?;
            let name = split_last(&link.path).1;
            let existing =
                tree::stat(self.here(), name).map_err(|errno| self.call_error("fstatat", name, errno))?;
            // A later entry of the same path has won.
            if existing.is_some() || self.link_within(&link.path, &link.target, &link.path)? {
                continue;
            }
            if self.ledger.finish.is_none() {
                self.ledger.record_missing(link);
                continue;
            }
            let target = self.copy_up(&link)?;
            let is_made = match target {
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
        let place = self.walk(parent, Missing::LeaveFromLower, true, &link.path)?;
        let (directory, is_here) = match place {
            Place::Entered(()) => (self.path_here(b""), true),
            Place::Absent(path) => (path, false),
            Place::Blocked => return Ok(None),
        };
        let path = join(&directory, name);
        let copied = if is_here { tree::stat(self.here(), name) } else { Ok(None) };
        if copied.map_err(|errno| self.call_error("fstatat", name, errno))?.is_some() {
            return Ok(Some(path));
        }
        let is_opaque = |above: &[u8]| self.is_opaque_at(above);
        let Some(node) = self.ledger.link_source(link, &path, is_opaque)? else { return Ok(None) };
        self.enter(&directory, Missing::MakeFromLower, &link.path)?;
        match node {
            LowerNode::File(fd) => {
                let (status, xattrs) = attributes_of(fd.as_fd(), &path)?;
                let attributes = Attributes::of_status(&status, xattrs);
                let size_bytes = u64::try_from(status.st_size).unwrap_or(0);
                self.copy_file(name, fd, size_bytes, &attributes)?;
            }
            LowerNode::Symlink(status, target) => {
                self.make_symlink(name, &target)?;
                self.set_copied(name, &Attributes::of_status(&status, Vec::new()), true)?;
            }
            LowerNode::Other(status) => {
                self.mknod(name, file_type(&status), status.st_rdev)?;
                self.set_copied(name, &Attributes::of_status(&status, Vec::new()), false)?;
            }
            LowerNode::Absent | LowerNode::Directory(_) => {}
        }
        Ok(Some(path))
    }

    fn set_copied(&self, name: &[u8], attributes: &Attributes, is_link: bool) -> Result<(), LayerError> {
        attributes.set_at(self.here(), name, is_link).map_err(|failure| self.attribute_error(name, failure))
    }
}
