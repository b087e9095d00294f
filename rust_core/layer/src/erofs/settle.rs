//! What is settled when all entries are known: waiting links, markers, and the facts.

use ::erofs::{Attributes, InodeId, Kind, New, Special};

use super::writer::ErofsWriter;
use crate::entry::join;
use crate::ledger::{hides_all, Made};
use crate::route::{Missing, Place};
use crate::xattr::{OPAQUE, OPAQUE_VALUE};
use crate::{FactPath, LayerError};

impl ErofsWriter<'_> {
    pub(super) fn settle(&mut self) -> Result<(), LayerError> {
        self.ledger.sort_whiteouts();
        self.settle_links()?;
        self.settle_opaques()?;
        self.settle_whiteouts()?;
        self.record_implied()?;
        self.mark_opaques()
    }

    /// Finds the directory of a marker at the end. A link or file of this layer that came after the marker has
    /// replaced the directory, and with it what the marker was about.
    fn marker_directory(&mut self, path: &[u8]) -> Result<Option<Vec<u8>>, LayerError> {
        let place = self.walk(path, self.ledger.marker_missing(), false, path)?;
        place.path(|found| self.path_of(found, b""))
    }

    fn settle_opaques(&mut self) -> Result<(), LayerError> {
        for marked in std::mem::take(&mut self.ledger.opaques) {
            let Some(directory) = self.marker_directory(&marked)? else { continue };
            if directory.is_empty() {
                self.ledger.hide_root()?;
            }
            if self.directory_at(&directory)?.is_none() {
                if self.is_hidden(&directory)? || !self.ledger.may_be_below(&directory)? {
                    continue;
                }
                self.enter(&directory, Missing::MakeFromLower, &marked)?;
                self.ledger.record_marked(directory.clone());
            }
            // A link of a lower layer may have led elsewhere; then nothing stands at the path itself.
            if let Some(own) = self.directory_at(&directory)? {
                self.set_opaque(own);
            }
        }
        Ok(())
    }

    fn settle_whiteouts(&mut self) -> Result<(), LayerError> {
        self.ledger.sort_whiteouts();
        for (noted, names) in std::mem::take(&mut self.ledger.whiteouts) {
            let Some(directory) = self.marker_directory(&noted)? else { continue };
            if hides_all(&directory, |path| self.is_opaque_at(path))? {
                continue;
            }
            let own = match self.walk(&directory, Missing::Leave, false, &directory)? {
                Place::Entered(found) => Some(found),
                Place::Absent(_) | Place::Blocked => None,
            };
            let mut entered = None;
            for name in names.iter() {
                if !self.needs_device(own, &directory, name)? {
                    continue;
                }
                let here = match entered {
                    Some(here) => here,
                    None => *entered.insert(self.enter(&directory, Missing::MakeFromLower, &noted)?),
                };
                self.clear(here, name)?;
                self.add(here, name, New::Special(Special::CharDevice(0, 0)), Attributes::default())?;
            }
            if entered.is_some() {
                self.ledger.record_marked(directory);
            }
        }
        Ok(())
    }

    /// Whether a whiteout needs a device. What this layer has itself at the name, in `own`, hides what lies below: a
    /// file by being there, a directory by being opaque. Over known layers, what none of them has needs none (X25).
    fn needs_device(
        &mut self,
        own: Option<InodeId>,
        directory: &[u8],
        name: &[u8],
    ) -> Result<bool, LayerError> {
        let found = match own {
            Some(own) => self.find(own, name)?,
            None => None,
        };
        match found {
            Some(found) if self.tree.kind(found) == Kind::Directory => {
                self.set_opaque(found);
                Ok(false)
            }
            Some(_) => Ok(false),
            None => self.ledger.needs_whiteout(&join(directory, name)),
        }
    }

    /// Records the directories without an entry, but for those in which nothing of a lower layer shows.
    fn record_implied(&mut self) -> Result<(), LayerError> {
        if self.ledger.finish.is_some() {
            return Ok(());
        }
        let implied = self.tree.directories().filter(|id| self.record(*id).made == Made::Implied);
        let mut found = Vec::new();
        for id in implied {
            let path = self.path_of(id, b"")?;
            if !self.is_hidden(&path)? {
                found.push(FactPath(path));
            }
        }
        // Parents come before children.
        found.sort_unstable();
        self.ledger.written.facts.implied_parents = found;
        Ok(())
    }

    fn mark_opaques(&mut self) -> Result<(), LayerError> {
        let opaque: Vec<InodeId> = self.tree.directories().filter(|id| self.is_opaque(*id)).collect();
        for id in opaque {
            let attributes = self.tree.attributes(id).unwrap_or_default();
            let xattrs = self
                .tree
                .xattrs(attributes.xattrs, [(OPAQUE.as_bytes(), OPAQUE_VALUE)])
                .map_err(|error| self.fault(b"", super::attributes::Fault::Image(error)))?;
            self.set_attributes(id, Attributes { xattrs, ..attributes }, b"")?;
        }
        Ok(())
    }
}
