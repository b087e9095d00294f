//! What waits for a layer's end: links, markers, the attributes of directories, the facts.

use std::collections::BTreeSet;
use std::os::fd::AsFd;

use rustix::fs::{FileType, Mode};

use super::walk::{Missing, Place};
use super::writer::{DirectoryRecord, DirectoryWriter};
use crate::entry::split_last;
use crate::ledger::Made;
use crate::lower::LowerNode;
use crate::port::Written;
use crate::tree;
use crate::xattr::{OPAQUE, OPAQUE_VALUE};
use crate::{FactPath, LayerError};

impl DirectoryWriter<'_> {
    pub(super) fn settle(&mut self) -> Result<Written, LayerError> {
        self.settle_links()?;
        self.settle_opaques()?;
        self.settle_whiteouts()?;
        self.record_implied();
        self.settle_directories()?;
        Ok(std::mem::take(&mut self.ledger.written))
    }

    /// Finds the directory of a marker at the end. A link or file of this layer that came after the marker has
    /// replaced the directory, and with it what the marker was about.
    fn marker_directory(&mut self, path: &[u8]) -> Result<Option<Vec<u8>>, LayerError> {
        let missing = if self.ledger.finish.is_some() { Missing::LeaveFromLower } else { Missing::Leave };
        Ok(match self.walk(path, missing, false, path)? {
            Place::Entered => Some(self.path_here(b"")),
            Place::Absent(path) => Some(path),
            Place::Blocked => None,
        })
    }

    /// True if a marker in `directory` can have a meaning: this layer or one below has the directory. A layer that is
    /// stored by itself cannot know and keeps the marker.
    fn is_worth_making(&self, directory: &[u8]) -> Result<bool, LayerError> {
        let Some(finish) = self.ledger.finish else { return Ok(true) };
        let is_below = || finish.lowers.find(directory).map(|node| matches!(node, LowerNode::Directory(_)));
        Ok(self.directories.contains_key(directory) || is_below()?)
    }

    fn settle_opaques(&mut self) -> Result<(), LayerError> {
        for marked in std::mem::take(&mut self.ledger.opaques) {
            let Some(directory) = self.marker_directory(&marked)? else { continue };
            if directory.is_empty() {
                self.ledger.hide_root()?;
            }
            if self.is_hidden(&directory) && !self.directories.contains_key(&directory) {
                continue;
            }
            if !self.is_worth_making(&directory)? {
                continue;
            }
            if !self.directories.contains_key(&directory) {
                self.enter(&directory, Missing::MakeFromLower, &marked)?;
                self.ledger.record_marked(directory.clone());
            }
            if let Some(record) = self.directories.get_mut(&directory) {
                record.is_opaque = true;
            }
        }
        Ok(())
    }

    fn settle_whiteouts(&mut self) -> Result<(), LayerError> {
        for (noted, names) in std::mem::take(&mut self.ledger.whiteouts) {
            let Some(directory) = self.marker_directory(&noted)? else { continue };
            let is_opaque = self.directories.get(&directory).is_some_and(|record| record.is_opaque);
            let is_root = directory.is_empty();
            if (is_opaque && !is_root) || self.is_hidden_below_root(&directory) {
                continue;
            }
            let names = self.names_to_hide(&directory, names)?;
            if names.is_empty() {
                continue;
            }
            self.enter(&directory, Missing::MakeFromLower, &noted)?;
            for name in names {
                self.make_whiteout(&name)?;
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
            if self.directories.get(above).is_some_and(|record| record.is_opaque) {
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
        let is_here = self.walk(directory, Missing::Leave, false, directory)? == Place::Entered;
        for name in names {
            let mut path = directory.to_vec();
            if !path.is_empty() {
                path.push(b'/');
            }
            path.extend_from_slice(&name);
            if let Some(record) = self.directories.get_mut(&path) {
                record.is_opaque = true;
                continue;
            }
            let found = if is_here { tree::stat(self.here(), &name) } else { Ok(None) };
            if found.map_err(|errno| self.call_error("fstatat", &name, errno))?.is_some() {
                continue;
            }
            if let Some(finish) = self.ledger.finish {
                if matches!(finish.lowers.find(&path)?, LowerNode::Absent) {
                    continue;
                }
            }
            kept.push(name);
        }
        Ok(kept)
    }

    fn make_whiteout(&self, name: &[u8]) -> Result<(), LayerError> {
        let mode = Mode::from_raw_mode(0);
        rustix::fs::mknodat(self.here(), name, FileType::CharacterDevice, mode, 0)
            .map_err(|errno| self.call_error("mknodat", name, errno))
    }

    /// Records the directories without an entry, but for those in which nothing of a lower layer shows.
    fn record_implied(&mut self) {
        if self.ledger.finish.is_some() {
            return;
        }
        let is_implied = |(path, record): &(&Vec<u8>, &DirectoryRecord)| {
            record.made == Made::Implied && !self.is_hidden(path)
        };
        let implied = self.directories.iter().filter(is_implied).map(|(path, _)| FactPath(path.clone()));
        self.ledger.written.facts.implied_parents = implied.collect();
    }

    /// Sets what directories are told last, children before their parents so that no parent is closed too early.
    fn settle_directories(&mut self) -> Result<(), LayerError> {
        for (path, record) in std::mem::take(&mut self.directories).into_iter().rev() {
            if path.is_empty() {
                self.levels.clear();
                self.settle_directory(b"", &record, true)?;
                continue;
            }
            let (parent, name) = split_last(&path);
            self.enter(parent, Missing::Leave, &path)?;
            self.settle_directory(name, &record, false)?;
        }
        Ok(())
    }

    fn settle_directory(
        &self,
        name: &[u8],
        record: &DirectoryRecord,
        is_root: bool,
    ) -> Result<(), LayerError> {
        let opened;
        let fd = if is_root {
            self.root.as_fd()
        } else {
            opened = tree::open_dir_readable(self.here(), name)
                .map_err(|errno| self.call_error("openat", name, errno))?;
            opened.as_fd()
        };
        if record.is_opaque {
            crate::xattr::set(fd, OPAQUE.as_bytes(), OPAQUE_VALUE)
                .map_err(|errno| self.call_error("fsetxattr", name, errno))?;
        }
        record.attributes.set(fd, self.maker).map_err(|failure| self.attribute_error(name, failure))
    }
}
