//! What waits for a layer's end: links, markers, the attributes of directories, the facts.

use std::collections::{BTreeSet, HashMap};
use std::os::fd::{AsFd, BorrowedFd};

use rustix::fs::{FileType, Mode};

use super::attributes::Attributes;
use super::journal::{Event, Record};
use super::writer::DirectoryWriter;
use crate::entry::{ancestors, join, split_last};
use crate::ledger::{hides_all, Made};
use crate::port::Written;
use crate::route::{Missing, Place};
use crate::tree::{self, file_type};
use crate::xattr::{OPAQUE, OPAQUE_VALUE};
use crate::{FactPath, LayerError};

impl DirectoryWriter<'_> {
    pub(super) fn settle(&mut self) -> Result<Written, LayerError> {
        self.ledger.sort_whiteouts();
        self.settle_links()?;
        self.settle_opaques()?;
        self.settle_whiteouts()?;
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
            if self.walk(&directory, Missing::Leave, false, &directory)? != Place::Entered(()) {
                if self.is_hidden(&directory)? || !self.ledger.may_be_below(&directory)? {
                    continue;
                }
                self.enter(&directory, Missing::MakeFromLower, &marked)?;
                self.ledger.record_marked(directory.clone());
            }
            if self.path_here(b"") == directory {
                self.opaques.insert(directory);
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
        let found = if is_here { tree::stat(self.here(), name) } else { Ok(None) };
        if let Some(status) = found.map_err(|errno| self.call_error("fstatat", name, errno))? {
            if file_type(&status) == FileType::Directory {
                self.opaques.insert(path);
            }
            return Ok(false);
        }
        self.ledger.needs_whiteout(&path)
    }

    fn make_whiteout(&self, name: &[u8]) -> Result<(), LayerError> {
        let mode = Mode::from_raw_mode(0);
        rustix::fs::mknodat(self.here(), name, FileType::CharacterDevice, mode, 0)
            .map_err(|errno| self.call_error("mknodat", name, errno))
    }

    /// Sets what directories are told last, the newest first, and records those without an entry, but for those in
    /// which nothing of a lower layer shows.
    fn settle_directories(&mut self) -> Result<(), LayerError> {
        let (mut records, mut lives, mut implied) = (self.journal.take(), Lives::default(), Vec::new());
        while let Some(record) = records.next()? {
            let Some(record) = lives.last_told(record) else { continue };
            let (parent, name) = split_last(&record.path);
            self.enter(parent, Missing::Leave, &record.path)?;
            let fd = tree::open_dir_readable(self.here(), name)
                .map_err(|errno| self.call_error("openat", name, errno))?;
            self.settle_directory(fd.as_fd(), &record.path, &record.attributes)?;
            let is_recorded = record.made == Made::Implied && self.ledger.finish.is_none();
            if is_recorded && !self.is_hidden(&record.path)? {
                implied.push(FactPath(record.path));
            }
        }
        implied.sort_unstable();
        self.ledger.written.facts.implied_parents = implied;
        self.levels.clear();
        self.settle_directory(self.root.as_fd(), b"", &self.root_attributes)
    }

    fn settle_directory(
        &self,
        fd: BorrowedFd<'_>,
        path: &[u8],
        attributes: &Attributes,
    ) -> Result<(), LayerError> {
        let name = split_last(path).1;
        if self.opaques.contains(path) {
            crate::xattr::set(fd, OPAQUE.as_bytes(), OPAQUE_VALUE)
                .map_err(|errno| self.call_error("fsetxattr", name, errno))?;
        }
        attributes.set(fd, self.maker).map_err(|failure| self.attribute_error(name, failure))
    }
}

/// Which records of directories count, of a journal that is read backwards. It remembers what was told of directories
/// again until it comes to where they were made: few, or at most what `pending_bytes` allows.
#[derive(Debug, Default)]
struct Lives {
    /// Directories that are gone, and all below, in what is older.
    gone: BTreeSet<Vec<u8>>,
    /// The last that was told of directories that are there.
    last: HashMap<Vec<u8>, Record>,
}

impl Lives {
    /// The last record of a directory that is there at the end, once the one that made it is met. None is given before
    /// those below it, since nothing can be made below it earlier.
    fn last_told(&mut self, record: Record) -> Option<Record> {
        let is_gone = !self.gone.is_empty()
            && std::iter::once(record.path.as_slice())
                .chain(ancestors(&record.path))
                .any(|path| self.gone.contains(path));
        match record.event {
            // What is older is of an earlier directory at this path, which has an end of its own.
            Event::New if is_gone => {
                self.gone.remove(&record.path);
                None
            }
            Event::New => Some(self.last.remove(&record.path).unwrap_or(record)),
            _ if is_gone => None,
            Event::Again => {
                self.last.entry(record.path.clone()).or_insert(record);
                None
            }
            Event::Gone => {
                self.gone.insert(record.path);
                None
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is told in the end, oldest directory first, as path and mode.
    fn told(events: &[(Event, &str)]) -> Vec<(String, u32)> {
        let mut lives = Lives::default();
        let record = |(mode, (event, path)): (u32, &(Event, &str))| Record {
            event: *event,
            path: path.as_bytes().to_vec(),
            made: Made::ByEntry,
            attributes: Attributes { mode, ..Attributes::default() },
        };
        let all: Vec<Record> = (0..).zip(events).map(record).collect();
        let mut told: Vec<_> = all
            .into_iter()
            .rev()
            .filter_map(|record| lives.last_told(record))
            .map(|record| (String::from_utf8(record.path).unwrap(), record.attributes.mode))
            .collect();
        assert!(lives.gone.is_empty() && lives.last.is_empty(), "something is left of {events:?}");
        told.reverse();
        told
    }

    fn is(expected: &[(&str, u32)], events: &[(Event, &str)]) {
        let expected: Vec<_> = expected.iter().map(|(path, mode)| ((*path).to_owned(), *mode)).collect();
        assert_eq!(told(events), expected, "{events:?}");
    }

    #[test]
    fn the_last_word_of_each_life_counts_and_what_is_gone_is_told_nothing() {
        use Event::{Again, Gone, New};
        is(&[], &[]);
        is(&[("a", 2), ("b", 1)], &[(New, "a"), (New, "b"), (Again, "a")]);
        is(&[("a", 3)], &[(New, "a"), (Again, "a"), (New, "a/b"), (Again, "a"), (Gone, "a/b")]);
        is(&[("ab", 2)], &[(New, "a"), (New, "a/b"), (New, "ab"), (Gone, "a")]);
        let again = [(New, "a"), (New, "a/b"), (Again, "a/b"), (Gone, "a"), (New, "a"), (New, "a/b")];
        is(&[("a", 4), ("a/b", 5)], &again);
        let twice =
            [(New, "a"), (Again, "a"), (Gone, "a"), (New, "a"), (Gone, "a"), (New, "a"), (Again, "a")];
        is(&[("a", 6)], &twice);
        let below = [(New, "a"), (New, "a/b"), (Gone, "a/b"), (New, "a/b"), (Gone, "a"), (New, "a")];
        is(&[("a", 5)], &below);
    }
}
