//! Finding the directory that an entry goes into: one component at a time, by fd, links followed inside the root.

use std::os::fd::{AsFd, BorrowedFd};

use rustix::io::Errno;

use super::attributes::Attributes;
use super::writer::{DirectoryWriter, Level};
use crate::entry::components;
use crate::finish::IMPLIED_MODE;
use crate::ledger::Made;
use crate::lower::{attributes_of, LowerNode};
use crate::route::{Missing, Place, Route, Step, Turn};
use crate::tree::{io, open_dir};
use crate::{LayerError, Rule};

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
            Place::Entered(()) => Ok(()),
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
    ) -> Result<Place<()>, LayerError> {
        let mut names = components(path).peekable();
        let mut shared = 0;
        // Levels are real directories of this layer, so a path that begins with their names begins in them.
        while self.levels.get(shared).is_some_and(|level| names.peek() == Some(&level.name.as_slice())) {
            names.next();
            shared += 1;
        }
        self.levels.truncate(shared);
        let mut route = Route::new(names);
        while let Some(turn) = route.turn() {
            let Turn::Down(name) = turn else {
                self.levels.pop();
                continue;
            };
            self.ledger.check_component(entry, self.levels.len() + 1, &name)?;
            let target = match open_dir(self.here(), &name) {
                Ok(fd) => {
                    self.levels.push(Level { name, fd });
                    continue;
                }
                Err(Errno::NOENT) => match self.step_missing(&name, missing, route.is_past_link())? {
                    Step::Made(level) => {
                        self.levels.push(level);
                        continue;
                    }
                    Step::Link(target) => target,
                    Step::Left => return Ok(Place::Absent(route.rest(self.path_here(&name)))),
                },
                Err(Errno::NOTDIR | Errno::LOOP) => match self.read_link(&name)? {
                    Some(target) if follows_links => target,
                    _ => return Ok(Place::Blocked),
                },
                Err(errno) => return Err(io("openat", &self.path_here(&name), errno).into()),
            };
            let followed = route.follow(&target, self.ledger.limits.symlink_count);
            if followed.map_err(|rule| self.ledger.rejected(entry, rule))? {
                self.levels.clear();
            }
        }
        Ok(Place::Entered(()))
    }

    fn read_link(&self, name: &[u8]) -> Result<Option<Vec<u8>>, LayerError> {
        match rustix::fs::readlinkat(self.here(), name, Vec::new()) {
            Ok(target) => Ok(Some(target.into_bytes())),
            Err(Errno::INVAL) => Ok(None),
            Err(errno) => Err(io("readlinkat", &self.path_here(name), errno).into()),
        }
    }

    fn step_missing(
        &mut self,
        name: &[u8],
        missing: Missing,
        is_past_link: bool,
    ) -> Result<Step<Level>, LayerError> {
        let path = self.path_here(name);
        let attributes = match self.ledger.lower_at(&path, missing, is_past_link, || self.is_hidden(&path))? {
            LowerNode::Symlink(_, target) => return Ok(Step::Link(target)),
            _ if missing.leaves() => return Ok(Step::Left),
            LowerNode::Directory(fd) => {
                let (status, xattrs) = attributes_of(fd.as_fd(), name)?;
                Attributes::of_status(&status, xattrs)
            }
            LowerNode::Absent | LowerNode::File(_) | LowerNode::Other(_) => {
                Attributes { mode: IMPLIED_MODE, ..Attributes::default() }
            }
        };
        self.make_directory(name, path, attributes, Made::Implied)?;
        let fd = open_dir(self.here(), name).map_err(|errno| io("openat", name, errno))?;
        Ok(Step::Made(Level { name: name.to_vec(), fd }))
    }

    /// True if this layer has a directory at `path` that hides what lies below.
    pub(super) fn is_opaque_at(&self, path: &[u8]) -> Result<bool, LayerError> {
        Ok(self.opaques.contains(path))
    }

    /// True if nothing of the lower layers shows at `path`.
    pub(super) fn is_hidden(&self, path: &[u8]) -> Result<bool, LayerError> {
        self.ledger.is_hidden(path, |above| self.is_opaque_at(above))
    }
}
