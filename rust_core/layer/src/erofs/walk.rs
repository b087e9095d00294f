//! Finding the directory that an entry goes into: one component at a time in memory, links followed inside the root.

use std::collections::VecDeque;
use std::os::fd::AsFd;

use ::erofs::{Attributes, InodeId, Kind};

use super::attributes;
use super::writer::ErofsWriter;
use crate::entry::{components, split_last};
use crate::finish::IMPLIED_MODE;
use crate::ledger::Made;
use crate::lower::{status_of, LowerNode};
use crate::tree::io;
use crate::{xattr, LayerError, Rule};

/// What to do about a component that the layer does not have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Missing {
    /// Make it a directory, as the lower layers have it where the layer's facts say that it has no entry of its own.
    Make,
    /// Make it a directory as the lower layers have it.
    MakeFromLower,
    /// Take it and the rest as they are written.
    Leave,
    /// As `Leave`, but follow links of the lower layers.
    LeaveFromLower,
}

/// Where a path led.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// A directory of the layer.
    Entered(InodeId),
    /// A path that the layer does not have (only with `Missing::Leave` and `LeaveFromLower`).
    Absent(Vec<u8>),
    /// A file stands in the way.
    Blocked,
}

enum Step {
    /// Made.
    Made(InodeId),
    /// A lower layer has a link there, with this text.
    Link(Vec<u8>),
    /// Nothing there, nothing made.
    Left,
}

impl ErofsWriter<'_> {
    /// The path of a directory, or of `name` in it.
    pub(super) fn path_of(&self, directory: InodeId, name: &[u8]) -> Vec<u8> {
        let mut names = vec![name];
        let mut here = directory;
        while let Some((above, name)) = self.tree.parent(here) {
            names.push(name);
            here = above;
        }
        names.reverse();
        names.retain(|name| !name.is_empty());
        names.join(&b'/')
    }

    /// The directory at `path`, no link followed; `None` if the layer has none there.
    pub(super) fn directory_at(&self, path: &[u8]) -> Option<InodeId> {
        let found = components(path).try_fold(self.tree.root(), |here, name| self.tree.find(here, name))?;
        (self.tree.kind(found) == Kind::Directory).then_some(found)
    }

    /// The directory that `path` means, missing ones made; `entry` names the entry in errors.
    pub(super) fn enter(
        &mut self,
        path: &[u8],
        missing: Missing,
        entry: &[u8],
    ) -> Result<InodeId, LayerError> {
        match self.walk(path, missing, true, entry)? {
            Place::Entered(directory) => Ok(directory),
            Place::Absent(_) | Place::Blocked => Err(self.ledger.rejected(entry, Rule::ParentNotDirectory)),
        }
    }

    /// Follows `path` from the root. With `follows_links` links of this layer are followed, else they block.
    pub(super) fn walk(
        &mut self,
        path: &[u8],
        missing: Missing,
        follows_links: bool,
        entry: &[u8],
    ) -> Result<Place, LayerError> {
        let mut left: VecDeque<Vec<u8>> = components(path).map(<[u8]>::to_vec).collect();
        let mut levels = vec![self.tree.root()];
        let mut link_count = 0;
        while let Some(name) = left.pop_front() {
            match name.as_slice() {
                b"" | b"." => continue,
                b".." => {
                    // The root's parent is the root.
                    levels.truncate(levels.len().saturating_sub(1).max(1));
                    continue;
                }
                _ => {}
            }
            let here = levels.last().copied().unwrap_or(self.tree.root());
            self.ledger.check(entry, "path_depth", self.ledger.limits.path_depth, levels.len() as u64)?;
            self.ledger.check(entry, "name_bytes", self.ledger.limits.name_bytes, name.len() as u64)?;
            let target = match self.tree.find(here, &name) {
                Some(found) if self.tree.kind(found) == Kind::Directory => {
                    levels.push(found);
                    continue;
                }
                Some(found) if self.tree.kind(found) == Kind::Symlink && follows_links => {
                    self.tree.target(found).to_vec()
                }
                Some(_) => return Ok(Place::Blocked),
                None => match self.step_missing(here, &name, missing, link_count > 0)? {
                    Step::Made(made) => {
                        levels.push(made);
                        continue;
                    }
                    Step::Link(target) => target,
                    Step::Left => return Ok(Place::Absent(self.rest_path(here, &name, left))),
                },
            };
            link_count += 1;
            if link_count > self.ledger.limits.symlink_count {
                return Err(self.ledger.rejected(entry, Rule::SymlinkLoop));
            }
            if target.starts_with(b"/") {
                levels.truncate(1);
            }
            for component in target.split(|b| *b == b'/').rev() {
                left.push_front(component.to_vec());
            }
        }
        Ok(Place::Entered(levels.last().copied().unwrap_or(self.tree.root())))
    }

    /// The path of a missing `name` and what follows it.
    fn rest_path(&self, here: InodeId, name: &[u8], left: VecDeque<Vec<u8>>) -> Vec<u8> {
        let path = self.path_of(here, name);
        let mut names: Vec<Vec<u8>> = components(&path).map(<[u8]>::to_vec).collect();
        for name in left {
            match name.as_slice() {
                b"" | b"." => {}
                b".." => drop(names.pop()),
                _ => names.push(name),
            }
        }
        names.join(&b'/')
    }

    fn step_missing(
        &mut self,
        here: InodeId,
        name: &[u8],
        missing: Missing,
        is_past_link: bool,
    ) -> Result<Step, LayerError> {
        let mode = u16::try_from(IMPLIED_MODE).unwrap_or(0);
        let mut attributes = Attributes { mode, ..Attributes::default() };
        if let Some(finish) = self.ledger.finish {
            let path = self.path_of(here, name);
            let asks = match missing {
                Missing::Make => is_past_link || self.ledger.implied_before.contains(path.as_slice()),
                Missing::MakeFromLower | Missing::LeaveFromLower => true,
                Missing::Leave => false,
            };
            if asks && !self.is_hidden(&path) {
                match finish.lowers.find(&path)? {
                    LowerNode::Symlink(_, target) => return Ok(Step::Link(target)),
                    LowerNode::Directory(fd) => {
                        let failed = |operation| move |errno| io(operation, name, errno);
                        let status = status_of(fd.as_fd()).map_err(failed("fstat"))?;
                        let xattrs = xattr::get_all(fd.as_fd()).map_err(failed("flistxattr"))?;
                        let found = attributes::of_status(&mut self.tree, Kind::Directory, &status, &xattrs);
                        attributes = found.map_err(|fault| self.fault(&path, fault))?;
                    }
                    LowerNode::Absent | LowerNode::File(_) | LowerNode::Other(_) => {}
                }
            }
        }
        if matches!(missing, Missing::Leave | Missing::LeaveFromLower) {
            return Ok(Step::Left);
        }
        Ok(Step::Made(self.make_directory(here, name, attributes, Made::Implied)?))
    }

    /// True if nothing of the lower layers shows at `path`, since a directory above it is opaque.
    pub(super) fn is_hidden(&self, path: &[u8]) -> bool {
        let mut above = path;
        while !above.is_empty() {
            above = split_last(above).0;
            let is_opaque = || self.directory_at(above).is_some_and(|directory| self.is_opaque(directory));
            if self.ledger.opaques.contains(above) || is_opaque() {
                return true;
            }
        }
        false
    }
}
