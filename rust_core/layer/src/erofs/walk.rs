//! Finding the directory that an entry goes into: one component at a time in memory, links followed inside the root.

use std::borrow::Cow;
use std::os::fd::AsFd;

use ::erofs::{Attributes, InodeId, Kind};

use super::attributes;
use super::writer::ErofsWriter;
use crate::entry::components;
use crate::finish::IMPLIED_MODE;
use crate::ledger::Made;
use crate::lower::{attributes_of, LowerNode};
use crate::route::{Missing, Place, Route, Step, Turn};
use crate::{LayerError, Rule};

impl ErofsWriter<'_> {
    /// The path of a directory, or of `name` in it.
    pub(super) fn path_of(&self, directory: InodeId, name: &[u8]) -> Result<Vec<u8>, LayerError> {
        let mut names = vec![Cow::from(name)];
        let mut here = directory;
        while let Some((above, own)) = self.tree.parent(here).map_err(|error| self.full(name, error))? {
            names.push(own);
            here = above;
        }
        names.reverse();
        names.retain(|name| !name.is_empty());
        Ok(names.join(&b'/'))
    }

    /// The directory at `path`, no link followed; `None` if the layer has none there.
    pub(super) fn directory_at(&self, path: &[u8]) -> Result<Option<InodeId>, LayerError> {
        let mut here = self.tree.root();
        for name in components(path) {
            match self.tree.find_directory(here, name).map_err(|error| self.full(path, error))? {
                Some(found) => here = found,
                None => return Ok(None),
            }
        }
        Ok(Some(here))
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
    ) -> Result<Place<InodeId>, LayerError> {
        let mut route = Route::new(components(path));
        let mut levels = vec![self.tree.root()];
        while let Some(turn) = route.turn() {
            let Turn::Down(name) = turn else {
                // The root's parent is the root.
                levels.truncate(levels.len().saturating_sub(1).max(1));
                continue;
            };
            let here = levels.last().copied().unwrap_or(self.tree.root());
            self.ledger.check_component(entry, levels.len(), &name)?;
            let target = match self.find(here, &name)? {
                Some(found) if self.tree.kind(found) == Kind::Directory => {
                    levels.push(found);
                    continue;
                }
                Some(found) if self.tree.kind(found) == Kind::Symlink && follows_links => {
                    self.tree.target(found).map_err(|error| self.full(&name, error))?
                }
                Some(_) => return Ok(Place::Blocked),
                None => match self.step_missing(here, &name, missing, route.is_past_link())? {
                    Step::Made(made) => {
                        levels.push(made);
                        continue;
                    }
                    Step::Link(target) => target,
                    Step::Left => return Ok(Place::Absent(route.rest(self.path_of(here, &name)?))),
                },
            };
            let followed = route.follow(&target, self.ledger.limits.symlink_count);
            if followed.map_err(|rule| self.ledger.rejected(entry, rule))? {
                levels.truncate(1);
            }
        }
        Ok(Place::Entered(levels.last().copied().unwrap_or(self.tree.root())))
    }

    fn step_missing(
        &mut self,
        here: InodeId,
        name: &[u8],
        missing: Missing,
        is_past_link: bool,
    ) -> Result<Step<InodeId>, LayerError> {
        // The path is of use only where there are layers to look at.
        let path = if self.ledger.finish.is_some() { self.path_of(here, name)? } else { Vec::new() };
        let attributes = match self.ledger.lower_at(&path, missing, is_past_link, || self.is_hidden(&path))? {
            LowerNode::Symlink(_, target) => return Ok(Step::Link(target)),
            _ if missing.leaves() => return Ok(Step::Left),
            LowerNode::Directory(fd) => {
                let (status, xattrs) = attributes_of(fd.as_fd(), name)?;
                attributes::of_status(&mut self.tree, Kind::Directory, &status, &xattrs)
                    .map_err(|fault| self.fault(&path, fault))?
            }
            LowerNode::Absent | LowerNode::File(_) | LowerNode::Other(_) => {
                Attributes { mode: u16::try_from(IMPLIED_MODE).unwrap_or(0), ..Attributes::default() }
            }
        };
        Ok(Step::Made(self.make_directory(here, name, attributes, Made::Implied)?))
    }

    /// True if this layer has a directory at `path` that hides what lies below.
    pub(super) fn is_opaque_at(&self, path: &[u8]) -> Result<bool, LayerError> {
        Ok(self.directory_at(path)?.is_some_and(|found| self.is_opaque(found)))
    }

    /// True if nothing of the lower layers shows at `path`.
    pub(super) fn is_hidden(&self, path: &[u8]) -> Result<bool, LayerError> {
        self.ledger.is_hidden(path, |above| self.is_opaque_at(above))
    }
}
