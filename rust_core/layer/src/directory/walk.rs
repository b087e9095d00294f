//! Finding the directory that an entry goes into: one component at a time, by fd, links followed inside the root.

use std::collections::VecDeque;
use std::os::fd::{AsFd, BorrowedFd};

use rustix::io::Errno;

use super::attributes::Attributes;
use super::writer::{DirectoryWriter, Level};
use crate::entry::components;
use crate::finish::IMPLIED_MODE;
use crate::ledger::Made;
use crate::lower::{status_of, LowerNode};
use crate::tree::{io, open_dir};
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
    /// A directory of the layer, now the current one.
    Entered,
    /// A path that the layer does not have (only with `Missing::Leave` and `LeaveFromLower`).
    Absent(Vec<u8>),
    /// A file stands in the way.
    Blocked,
}

/// The path of the directory that the way `levels` leads to, or of `name` in it.
pub(super) fn path_in(levels: &[Level], name: &[u8]) -> Vec<u8> {
    let names = levels.iter().map(|level| level.name.as_slice());
    names.chain([name]).filter(|name| !name.is_empty()).collect::<Vec<_>>().join(&b'/')
}

impl DirectoryWriter<'_> {
    /// The current directory.
    pub(super) fn here(&self) -> BorrowedFd<'_> {
        self.levels.last().map_or(self.root.as_fd(), |level| level.fd.as_fd())
    }

    /// The path of the current directory, or of `name` in it.
    pub(super) fn path_here(&self, name: &[u8]) -> Vec<u8> {
        path_in(&self.levels, name)
    }

    /// Makes the directory `path` the current one, missing ones made; `entry` names the entry in errors.
    pub(super) fn enter(&mut self, path: &[u8], missing: Missing, entry: &[u8]) -> Result<(), LayerError> {
        match self.walk(path, missing, true, entry)? {
            Place::Entered => Ok(()),
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
        let mut left: VecDeque<Vec<u8>> = VecDeque::new();
        let mut shared = 0;
        // Levels are real directories of this layer, so a path that begins with their names begins in them.
        for component in components(path) {
            match self.levels.get(shared) {
                Some(level) if left.is_empty() && level.name == component => shared += 1,
                _ => left.push_back(component.to_vec()),
            }
        }
        self.levels.truncate(shared);
        let mut link_count = 0;
        while let Some(name) = left.pop_front() {
            match name.as_slice() {
                b"" | b"." => continue,
                b".." => {
                    self.levels.pop();
                    continue;
                }
                _ => {}
            }
            self.ledger.check(
                entry,
                "path_depth",
                self.ledger.limits.path_depth,
                self.levels.len() as u64 + 1,
            )?;
            self.ledger.check(entry, "name_bytes", self.ledger.limits.name_bytes, name.len() as u64)?;
            let target = match open_dir(self.here(), &name) {
                Ok(fd) => {
                    self.levels.push(Level { name, fd });
                    continue;
                }
                Err(Errno::NOENT) => match self.step_missing(&name, missing, link_count > 0)? {
                    Step::Made => continue,
                    Step::Link(target) => target,
                    Step::Left => return Ok(Place::Absent(self.rest_path(&name, left))),
                },
                Err(Errno::NOTDIR | Errno::LOOP) => match self.read_link(&name)? {
                    Some(target) if follows_links => target,
                    _ => return Ok(Place::Blocked),
                },
                Err(errno) => return Err(io("openat", &self.path_here(&name), errno).into()),
            };
            link_count += 1;
            if link_count > self.ledger.limits.symlink_count {
                return Err(self.ledger.rejected(entry, Rule::SymlinkLoop));
            }
            if target.starts_with(b"/") {
                self.levels.clear();
            }
            for component in target.split(|b| *b == b'/').rev() {
                left.push_front(component.to_vec());
            }
        }
        Ok(Place::Entered)
    }

    fn read_link(&self, name: &[u8]) -> Result<Option<Vec<u8>>, LayerError> {
        match rustix::fs::readlinkat(self.here(), name, Vec::new()) {
            Ok(target) => Ok(Some(target.into_bytes())),
            Err(Errno::INVAL) => Ok(None),
            Err(errno) => Err(io("readlinkat", &self.path_here(name), errno).into()),
        }
    }

    /// The path of a missing `name` and what follows it.
    fn rest_path(&self, name: &[u8], left: VecDeque<Vec<u8>>) -> Vec<u8> {
        let mut names: Vec<Vec<u8>> = self.levels.iter().map(|level| level.name.clone()).collect();
        names.push(name.to_vec());
        for name in left {
            match name.as_slice() {
                b"" | b"." => {}
                b".." => {
                    names.pop();
                }
                _ => names.push(name),
            }
        }
        names.join(&b'/')
    }

    fn step_missing(
        &mut self,
        name: &[u8],
        missing: Missing,
        is_past_link: bool,
    ) -> Result<Step, LayerError> {
        let path = self.path_here(name);
        let mut attributes = Attributes { mode: IMPLIED_MODE, ..Attributes::default() };
        if let Some(finish) = self.ledger.finish {
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
                        attributes = Attributes::of_status(&status, xattrs);
                    }
                    LowerNode::Absent | LowerNode::File(_) | LowerNode::Other(_) => {}
                }
            }
        }
        if matches!(missing, Missing::Leave | Missing::LeaveFromLower) {
            return Ok(Step::Left);
        }
        self.make_directory(name, path, attributes, Made::Implied)?;
        let fd = open_dir(self.here(), name).map_err(|errno| io("openat", name, errno))?;
        self.levels.push(Level { name: name.to_vec(), fd });
        Ok(Step::Made)
    }

    /// True if nothing of the lower layers shows at `path`, since a directory above it is opaque.
    pub(super) fn is_hidden(&self, path: &[u8]) -> bool {
        let is_opaque = |path: &[u8]| {
            self.ledger.opaques.contains(path)
                || self.directories.get(path).is_some_and(|record| record.is_opaque)
        };
        let mut above = path;
        while !above.is_empty() {
            above = crate::entry::split_last(above).0;
            if is_opaque(above) {
                return true;
            }
        }
        false
    }
}

enum Step {
    /// Made and entered.
    Made,
    /// A lower layer has a link there, with this text.
    Link(Vec<u8>),
    /// Nothing there, nothing made.
    Left,
}
