//! Takes the entries of one layer and writes them as files.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::ops::Bound;
use std::os::fd::OwnedFd;
use std::path::PathBuf;

use content::Digest;
use errors::IoError;
use rustix::fs::Mode;
use rustix::io::Errno;

use super::attributes::{Attributes, Failure};
use super::walk::{Missing, Place};
use crate::error::shown;
use crate::port::{LayerWriter, Written};
use crate::stage::{Finish, StageRequest};
use crate::tree::bytes_path;
use crate::{Entry, EntryData, EntryKind, LayerError, Limits, Rule};

/// What a directory is told at the end, when nothing is written into it any more (X22, X23).
#[derive(Debug, Clone)]
pub(super) struct DirectoryRecord {
    pub attributes: Attributes,
    pub made: Made,
    pub is_opaque: bool,
}

/// Why a directory is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Made {
    /// It has an entry.
    ByEntry,
    /// Something lies in it.
    Implied,
}

/// A directory on the way to the current one.
#[derive(Debug)]
pub(super) struct Level {
    pub name: Vec<u8>,
    pub fd: OwnedFd,
}

/// A hard link whose target was not there when the link came.
#[derive(Debug, Clone)]
pub(super) struct PendingLink {
    pub path: Vec<u8>,
    pub target: Vec<u8>,
}

/// Writes one layer's tree. Everything in the tree was made by this value, so what it remembers of directories is all
/// there is; nobody else writes there.
#[derive(Debug)]
pub(super) struct DirectoryWriter<'a> {
    pub root: OwnedFd,
    path: PathBuf,
    pub subject: &'a str,
    pub limits: &'a Limits,
    pub finish: Option<Finish<'a>>,
    pub implied_before: HashSet<&'a [u8]>,
    /// The way from the root to the current directory.
    pub levels: Vec<Level>,
    /// All directories made, by path; the root under the empty path.
    pub directories: BTreeMap<Vec<u8>, DirectoryRecord>,
    /// Names hidden below, by the directory that they are in.
    pub whiteouts: BTreeMap<Vec<u8>, BTreeSet<Vec<u8>>>,
    /// Directories marked opaque.
    pub opaques: BTreeSet<Vec<u8>>,
    pub links: Vec<PendingLink>,
    pub written: Written,
    made_count: u64,
    pending_bytes: u64,
    /// User and group of this process: what it makes is theirs already.
    pub maker: (u32, u32),
}

/// What a pending path costs in memory beyond its bytes.
const PENDING_OVERHEAD_BYTES: u64 = 128;

impl<'a> DirectoryWriter<'a> {
    pub fn new(root: OwnedFd, path: PathBuf, request: &StageRequest<'a>) -> Self {
        let facts = request.finish.map(|finish| finish.facts);
        let implied = facts.map_or(&[][..], |facts| &facts.implied_parents);
        let attributes = Attributes { mode: 0o755, ..Attributes::default() };
        let record = DirectoryRecord { attributes, made: Made::ByEntry, is_opaque: false };
        Self {
            root,
            path,
            subject: request.subject,
            limits: request.limits,
            finish: request.finish,
            implied_before: implied.iter().map(|path| path.0.as_slice()).collect(),
            levels: Vec::new(),
            directories: BTreeMap::from([(Vec::new(), record)]),
            whiteouts: BTreeMap::new(),
            opaques: BTreeSet::new(),
            links: Vec::new(),
            written: Written::default(),
            made_count: 0,
            pending_bytes: 0,
            maker: (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw()),
        }
    }

    pub(super) fn rejected(&self, entry: &[u8], rule: Rule) -> LayerError {
        LayerError::Rejected { digest: self.subject.to_owned(), entry: shown(entry), rule }
    }

    pub(super) fn check(
        &self,
        entry: &[u8],
        limit: &'static str,
        limit_value: u64,
        actual: u64,
    ) -> Result<(), LayerError> {
        if actual > limit_value {
            let subject = format!("{}: entry {:?}", self.subject, shown(entry));
            return Err(LayerError::LimitExceeded { limit, limit_value, actual, subject });
        }
        Ok(())
    }

    /// A failed call on `name` in the current directory.
    pub(super) fn call_error(&self, operation: &'static str, name: &[u8], errno: Errno) -> LayerError {
        let path = self.path.join(bytes_path(&self.path_here(name)));
        IoError::new(operation, path, errno.raw_os_error()).into()
    }

    pub(super) fn attribute_error(&self, name: &[u8], failure: Failure) -> LayerError {
        match failure {
            Failure::Call(operation, errno) => self.call_error(operation, name, errno),
            Failure::Xattr => self.rejected(&self.path_here(name), Rule::Xattr),
        }
    }

    /// Counts what waits for the end against its limit.
    pub(super) fn hold(&mut self, path: &[u8], bytes: u64) -> Result<(), LayerError> {
        self.pending_bytes += path.len() as u64 + bytes + PENDING_OVERHEAD_BYTES;
        self.check(path, "pending_bytes", self.limits.pending_bytes, self.pending_bytes)
    }

    /// The directory `name` is in the current one, recorded under `path`. A directory that is there keeps its content
    /// (X06, X29); anything else is replaced, and then hides what the lower layers have.
    pub(super) fn make_directory(
        &mut self,
        name: &[u8],
        path: Vec<u8>,
        attributes: Attributes,
        made: Made,
    ) -> Result<(), LayerError> {
        self.made_count += 1;
        self.check(&path, "entry_count", self.limits.entry_count, self.made_count)?;
        self.hold(&path, attributes.weight())?;
        let mut is_opaque = false;
        // Kept closed until the end, when the mode is set.
        let mode = Mode::from_raw_mode(0o700);
        match rustix::fs::mkdirat(self.here(), name, mode) {
            Ok(()) => {}
            Err(Errno::EXIST) => match self.directories.get(&path) {
                Some(known) => is_opaque = known.is_opaque,
                None => {
                    self.clear(name)?;
                    is_opaque = true;
                    rustix::fs::mkdirat(self.here(), name, mode)
                        .map_err(|errno| self.call_error("mkdirat", name, errno))?;
                }
            },
            Err(errno) => return Err(self.call_error("mkdirat", name, errno)),
        }
        self.directories.insert(path, DirectoryRecord { attributes, made, is_opaque });
        Ok(())
    }

    /// Forgets what was recorded at and below `path`, which is no directory any more.
    pub(super) fn forget(&mut self, path: &[u8]) {
        let below =
            |candidate: &[u8]| candidate.starts_with(path) && candidate.get(path.len()) == Some(&b'/');
        let range = (Bound::Included(path.to_vec()), Bound::Unbounded);
        let is_gone = |candidate: &Vec<u8>| candidate == path || below(candidate);
        let in_reach = |candidate: &&Vec<u8>| candidate.starts_with(path);
        let gone = |keys: &mut dyn Iterator<Item = &Vec<u8>>| -> Vec<Vec<u8>> {
            keys.take_while(in_reach).filter(|key| is_gone(key)).cloned().collect()
        };
        for key in gone(&mut self.directories.range(range.clone()).map(|(key, _)| key)) {
            self.directories.remove(&key);
        }
        for key in gone(&mut self.whiteouts.range(range.clone()).map(|(key, _)| key)) {
            self.whiteouts.remove(&key);
        }
        for key in gone(&mut self.opaques.range(range)) {
            self.opaques.remove(&key);
        }
    }

    /// Notes a marker for the end: it hides what lies below whatever its place in the archive (X01). Its directory is
    /// found now as far as this layer has it, since a later entry may put a link there (X03).
    fn note(&mut self, directory: &[u8], hidden: Option<&[u8]>) -> Result<(), LayerError> {
        let path = match self.walk(directory, Missing::Leave, true, directory)? {
            Place::Entered => self.path_here(b""),
            Place::Absent(path) => path,
            Place::Blocked => return Ok(()),
        };
        self.hold(&path, hidden.map_or(0, |name| name.len() as u64))?;
        match hidden {
            Some(name) => {
                self.whiteouts.entry(path).or_default().insert(name.to_vec());
            }
            None => {
                self.opaques.insert(path);
            }
        }
        Ok(())
    }
}

impl LayerWriter for DirectoryWriter<'_> {
    fn apply(&mut self, mut entry: Entry, data: &mut dyn EntryData) -> Result<(), LayerError> {
        self.made_count += 1;
        self.check(entry.path.as_bytes(), "entry_count", self.limits.entry_count, self.made_count)?;
        self.written.entry_count += 1;
        let path = std::mem::take(&mut entry.path);
        if entry.kind == EntryKind::Opaque {
            return self.note(path.as_bytes(), None);
        }
        let Some((parent, name)) = path.split_last() else {
            if entry.kind != EntryKind::Directory {
                return Err(self.rejected(b"", Rule::RootNotDirectory));
            }
            let attributes = Attributes::of_entry(&mut entry);
            self.hold(b"", attributes.weight())?;
            let is_opaque = false;
            let record = DirectoryRecord { attributes, made: Made::ByEntry, is_opaque };
            self.directories.insert(Vec::new(), record);
            return Ok(());
        };
        if entry.kind == EntryKind::Whiteout {
            return self.note(parent, Some(name));
        }
        self.enter(parent, Missing::Make, path.as_bytes())?;
        let attributes = Attributes::of_entry(&mut entry);
        match entry.kind {
            EntryKind::Directory => {
                self.make_directory(name, self.path_here(name), attributes, Made::ByEntry)
            }
            EntryKind::File { size_bytes, extents } => {
                self.make_file(name, size_bytes, extents.as_deref(), &attributes, data)
            }
            EntryKind::Hardlink { target } => self.make_link(name, target.as_bytes(), path.as_bytes()),
            kind => self.make_node(name, &kind, &attributes),
        }
    }

    fn finish(&mut self, _diff_id: &Digest) -> Result<Written, LayerError> {
        self.settle()
    }
}
