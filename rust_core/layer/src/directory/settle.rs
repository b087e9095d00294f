//! What waits for a layer's end: links, markers, the attributes of directories, the facts.

use std::os::fd::AsFd;

use rustix::fs::{FileType, Mode};

use super::writer::{DirectoryRecord, DirectoryWriter};
use crate::entry::{join, split_last};
use crate::ledger::{hides_all, Made};
use crate::port::Written;
use crate::route::{Missing, Place};
use crate::tree;
use crate::xattr::{OPAQUE, OPAQUE_VALUE};
use crate::{FactPath, LayerError};

impl DirectoryWriter<'_> {
    pub(super) fn settle(&mut self) -> Result<Written, LayerError> {
        self.ledger.sort_whiteouts();
        self.settle_links()?;
        self.settle_opaques()?;
        self.settle_whiteouts()?;
        self.record_implied()?;
        self.settle_directories()?;
        Ok(std::mem::take(&mut self.ledger.written))
    }

    /// Finds the directory of a marker at the end. A link or file of this layer that came after the marker has
    /// replaced the directory, and with it what the marker was about.
    fn marker_directory(&mut self, path: &[u8]) -> Result<Option<Vec<u8>>, LayerError> {
        let place = self.walk(path, self.ledger.marker_missing(), false, path)?;
        place.path(|()| Ok(self.path_here(b"")))
    }

    fn settle_opaques(&mut self) -> Result<(), LayerError> {
        for marked in std::mem::take(&mut self.ledger.opaques) {
            let Some(directory) = self.marker_directory(&marked)? else { continue };
            if directory.is_empty() {
                self.ledger.hide_root()?;
            }
            if !self.directories.contains_key(&directory) {
                if self.is_hidden(&directory)? || !self.ledger.may_be_below(&directory)? {
                    continue;
                }
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
        self.ledger.sort_whiteouts();
        for (noted, names) in std::mem::take(&mut self.ledger.whiteouts) {
            let Some(directory) = self.marker_directory(&noted)? else { continue };
            if hides_all(&directory, |path| self.is_opaque_at(path))? {
                continue;
            }
            let is_here = self.walk(&directory, Missing::Leave, false, &directory)? == Place::Entered(());
            let mut is_entered = false;
            for name in names.iter() {
                if !self.needs_device(is_here, &directory, name)? {
                    continue;
                }
                if !is_entered {
                    self.enter(&directory, Missing::MakeFromLower, &noted)?;
                    is_entered = true;
                }
                self.make_whiteout(name)?;
            }
            if is_entered {
                self.ledger.record_marked(directory);
            }
        }
        Ok(())
    }

    /// Whether a whiteout needs a device. What this layer has itself at the name, in the directory that is entered if
    /// `is_here`, hides what lies below: a file by being there, a directory by being opaque. Over known layers, what none
    /// of them has needs none (X25).
    fn needs_device(&mut self, is_here: bool, directory: &[u8], name: &[u8]) -> Result<bool, LayerError> {
        let path = join(directory, name);
        if let Some(record) = self.directories.get_mut(&path) {
            record.is_opaque = true;
            return Ok(false);
        }
        let found = if is_here { tree::stat(self.here(), name) } else { Ok(None) };
        if found.map_err(|errno| self.call_error("fstatat", name, errno))?.is_some() {
            return Ok(false);
        }
        self.ledger.needs_whiteout(&path)
    }

    fn make_whiteout(&self, name: &[u8]) -> Result<(), LayerError> {
        let mode = Mode::from_raw_mode(0);
        rustix::fs::mknodat(self.here(), name, FileType::CharacterDevice, mode, 0)
            .map_err(|errno| self.call_error("mknodat", name, errno))
    }

    /// Records the directories without an entry, but for those in which nothing of a lower layer shows.
    fn record_implied(&mut self) -> Result<(), LayerError> {
        if self.ledger.finish.is_some() {
            return Ok(());
        }
        let mut found = Vec::new();
        for (path, record) in &self.directories {
            if record.made == Made::Implied && !self.is_hidden(path)? {
                found.push(FactPath(path.clone()));
            }
        }
        self.ledger.written.facts.implied_parents = found;
        Ok(())
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
