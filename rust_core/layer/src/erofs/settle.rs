//! What is settled when all entries are known: waiting links, markers, and the facts.

use std::collections::BTreeSet;

use ::erofs::{Attributes, InodeId, Kind, New, Special};

use super::walk::{Missing, Place};
use super::writer::ErofsWriter;
use crate::entry::split_last;
use crate::ledger::Made;
use crate::lower::LowerNode;
use crate::xattr::{OPAQUE, OPAQUE_VALUE};
use crate::{FactPath, LayerError};

impl ErofsWriter<'_> {
    pub(super) fn settle(&mut self) -> Result<(), LayerError> {
        self.settle_links()?;
        self.settle_opaques()?;
        self.settle_whiteouts()?;
        self.record_implied();
        self.mark_opaques()
    }

    /// Finds the directory of a marker at the end. A link or file of this layer that came after the marker has
    /// replaced the directory, and with it what the marker was about.
    fn marker_directory(&mut self, path: &[u8]) -> Result<Option<Vec<u8>>, LayerError> {
        let missing = if self.ledger.finish.is_some() { Missing::LeaveFromLower } else { Missing::Leave };
        Ok(match self.walk(path, missing, false, path)? {
            Place::Entered(found) => Some(self.path_of(found, b"")),
            Place::Absent(path) => Some(path),
            Place::Blocked => None,
        })
    }

    /// True if a marker in `directory` can have a meaning: this layer or one below has the directory. A layer that is
    /// stored by itself cannot know and keeps the marker.
    fn is_worth_making(&self, directory: &[u8]) -> Result<bool, LayerError> {
        let Some(finish) = self.ledger.finish else { return Ok(true) };
        let is_below = || finish.lowers.find(directory).map(|node| matches!(node, LowerNode::Directory(_)));
        Ok(self.directory_at(directory).is_some() || is_below()?)
    }

    fn settle_opaques(&mut self) -> Result<(), LayerError> {
        for marked in std::mem::take(&mut self.ledger.opaques) {
            let Some(directory) = self.marker_directory(&marked)? else { continue };
            if directory.is_empty() {
                self.ledger.hide_root()?;
            }
            let own = self.directory_at(&directory);
            if (own.is_none() && self.is_hidden(&directory)) || !self.is_worth_making(&directory)? {
                continue;
            }
            if own.is_none() {
                self.enter(&directory, Missing::MakeFromLower, &marked)?;
                self.ledger.record_marked(directory.clone());
            }
            // A link of a lower layer may have led elsewhere; then nothing stands at the path itself.
            if let Some(own) = self.directory_at(&directory) {
                self.set_opaque(own);
            }
        }
        Ok(())
    }

    fn settle_whiteouts(&mut self) -> Result<(), LayerError> {
        for (noted, names) in std::mem::take(&mut self.ledger.whiteouts) {
            let Some(directory) = self.marker_directory(&noted)? else { continue };
            let is_opaque = self.directory_at(&directory).is_some_and(|found| self.is_opaque(found));
            let is_root = directory.is_empty();
            if (is_opaque && !is_root) || self.is_hidden_below_root(&directory) {
                continue;
            }
            let names = self.names_to_hide(&directory, names)?;
            if names.is_empty() {
                continue;
            }
            let here = self.enter(&directory, Missing::MakeFromLower, &noted)?;
            for name in names {
                self.clear(here, &name);
                self.add(here, &name, New::Special(Special::CharDevice(0, 0)), Attributes::default())?;
            }
            self.ledger.record_marked(directory);
        }
        Ok(())
    }

    /// As `is_hidden`, but for the root, whose marker has become whiteouts.
    fn is_hidden_below_root(&self, path: &[u8]) -> bool {
        let mut above = path;
        loop {
            above = split_last(above).0;
            if above.is_empty() {
                return false;
            }
            if self.directory_at(above).is_some_and(|found| self.is_opaque(found)) {
                return true;
            }
        }
    }

    /// The names of whiteouts that need a device. What this layer has itself at the name hides what lies below: a
    /// file by being there, a directory by being opaque. Over known layers, what none of them has needs none (X25).
    fn names_to_hide(
        &mut self,
        directory: &[u8],
        names: BTreeSet<Vec<u8>>,
    ) -> Result<Vec<Vec<u8>>, LayerError> {
        let mut kept = Vec::new();
        let here = match self.walk(directory, Missing::Leave, false, directory)? {
            Place::Entered(found) => Some(found),
            Place::Absent(_) | Place::Blocked => None,
        };
        for name in names {
            match here.and_then(|here| self.tree.find(here, &name)) {
                Some(found) if self.tree.kind(found) == Kind::Directory => self.set_opaque(found),
                Some(_) => {}
                None => {
                    let mut path = directory.to_vec();
                    if !path.is_empty() {
                        path.push(b'/');
                    }
                    path.extend_from_slice(&name);
                    let is_absent = match self.ledger.finish {
                        Some(finish) => matches!(finish.lowers.find(&path)?, LowerNode::Absent),
                        None => false,
                    };
                    if !is_absent {
                        kept.push(name);
                    }
                }
            }
        }
        Ok(kept)
    }

    /// The directories that are reached from the root, with their paths, parents before children.
    fn live_directories(&self) -> Vec<(Vec<u8>, InodeId)> {
        let mut found: Vec<(Vec<u8>, InodeId)> = self
            .directories
            .keys()
            .filter(|id| **id == self.tree.root() || self.tree.link_count(**id) > 0)
            .map(|id| (self.path_of(*id, b""), *id))
            .collect();
        found.sort_unstable();
        found
    }

    /// Records the directories without an entry, but for those in which nothing of a lower layer shows.
    fn record_implied(&mut self) {
        if self.ledger.finish.is_some() {
            return;
        }
        let is_implied = |id: &InodeId| self.directories.get(id).is_some_and(|r| r.made == Made::Implied);
        let implied = self
            .live_directories()
            .into_iter()
            .filter(|(path, id)| is_implied(id) && !self.is_hidden(path))
            .map(|(path, _)| FactPath(path));
        self.ledger.written.facts.implied_parents = implied.collect();
    }

    fn mark_opaques(&mut self) -> Result<(), LayerError> {
        let opaque: Vec<InodeId> =
            self.directories.iter().filter(|(_, record)| record.is_opaque).map(|(id, _)| *id).collect();
        for id in opaque {
            let attributes = self.tree.attributes(id);
            let xattrs = self
                .tree
                .xattrs(attributes.xattrs, [(OPAQUE.as_bytes(), OPAQUE_VALUE)])
                .map_err(|error| self.fault(b"", super::attributes::Fault::Image(error)))?;
            self.tree.set_attributes(id, Attributes { xattrs, ..attributes });
        }
        Ok(())
    }
}
