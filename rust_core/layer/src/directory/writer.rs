//! Takes the entries of one layer and writes them as files.

use std::collections::BTreeSet;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use content::Digest;
use errors::IoError;
use rustix::fs::{FileType, Mode};
use rustix::io::Errno;

use super::attributes::{Attributes, Failure};
use super::journal::{Event, Journal};
use crate::ledger::{forget_paths, Aim, Ledger, Made};
use crate::port::{LayerWriter, Written};
use crate::route::Missing;
use crate::stage::StageRequest;
use crate::tree::{self, bytes_path, file_type};
use crate::{xattr, Entry, EntryData, EntryKind, LayerError, Rule};

/// A directory on the way to the current one.
#[derive(Debug)]
pub(super) struct Level {
    pub name: Vec<u8>,
    pub fd: OwnedFd,
}

/// Writes one layer's tree. Everything in the tree was made by this value; nobody else writes there.
#[derive(Debug)]
pub(super) struct DirectoryWriter<'a> {
    pub root: OwnedFd,
    path: PathBuf,
    pub ledger: Ledger<'a>,
    /// The way from the root to the current directory.
    pub levels: Vec<Level>,
    /// What the root is told at the end.
    pub root_attributes: Attributes,
    /// What other directories are told at the end, when nothing is written into them any more (X22, X23).
    pub journal: Journal,
    /// Directories of this layer in which nothing of the lower layers shows.
    pub opaques: BTreeSet<Vec<u8>>,
    /// User and group of this process: what it makes is theirs already.
    pub maker: (u32, u32),
}

impl<'a> DirectoryWriter<'a> {
    /// Nothing is in the tree `root` yet; `folder` is the layer's and lies at `path`.
    pub fn new(root: OwnedFd, folder: OwnedFd, path: &Path, request: &StageRequest<'a>) -> Self {
        Self {
            root,
            path: path.join(super::TREE_NAME),
            ledger: Ledger::new(request),
            levels: Vec::new(),
            root_attributes: Attributes { mode: 0o755, ..Attributes::default() },
            journal: Journal::new(folder, path),
            opaques: BTreeSet::new(),
            maker: (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw()),
        }
    }

    /// A failed call on `name` in the current directory.
    pub(super) fn call_error(&self, operation: &'static str, name: &[u8], errno: Errno) -> LayerError {
        let path = self.path.join(bytes_path(&self.path_here(name)));
        IoError::new(operation, path, errno.raw_os_error()).into()
    }

    pub(super) fn attribute_error(&self, name: &[u8], failure: Failure) -> LayerError {
        match failure {
            Failure::Call(operation, errno) => self.call_error(operation, name, errno),
            Failure::Xattr => self.ledger.rejected(&self.path_here(name), Rule::Xattr),
        }
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
        self.ledger.count_made(&path)?;
        self.ledger.hold_path(&path, xattr::weight(&attributes.xattrs))?;
        // Kept closed until the end, when the mode is set.
        let mode = Mode::from_raw_mode(0o700);
        let event = match rustix::fs::mkdirat(self.here(), name, mode) {
            Ok(()) => Event::New,
            Err(Errno::EXIST) if self.has_directory(name)? => Event::Again,
            Err(Errno::EXIST) => {
                self.clear(name)?;
                rustix::fs::mkdirat(self.here(), name, mode)
                    .map_err(|errno| self.call_error("mkdirat", name, errno))?;
                self.opaques.insert(path.clone());
                Event::New
            }
            Err(errno) => return Err(self.call_error("mkdirat", name, errno)),
        };
        self.journal.add(event, &path, made, &attributes)
    }

    fn has_directory(&self, name: &[u8]) -> Result<bool, LayerError> {
        let status =
            tree::stat(self.here(), name).map_err(|errno| self.call_error("fstatat", name, errno))?;
        Ok(status.is_some_and(|status| file_type(&status) == FileType::Directory))
    }

    /// Forgets what was recorded at and below `path`, which is no directory any more.
    pub(super) fn forget(&mut self, path: &[u8]) -> Result<(), LayerError> {
        forget_paths(&mut self.opaques, path);
        self.ledger.forget(path);
        self.journal.add(Event::Gone, path, Made::ByEntry, &Attributes::default())
    }

    /// Notes a marker, in its directory as far as this layer has it by now: a later entry may put a link there (X03).
    fn note_marker(&mut self, directory: &[u8], hidden: Option<&[u8]>) -> Result<(), LayerError> {
        let place = self.walk(directory, Missing::Leave, true, directory)?;
        let Some(path) = place.path(|()| Ok(self.path_here(b"")))? else { return Ok(()) };
        self.ledger.note_marker(path, hidden)
    }
}

impl LayerWriter for DirectoryWriter<'_> {
    fn apply(&mut self, mut entry: Entry, data: &mut dyn EntryData) -> Result<(), LayerError> {
        let path = std::mem::take(&mut entry.path);
        let (parent, name) = match self.ledger.admit(&path, &entry)? {
            Aim::Marker(directory, hidden) => return self.note_marker(directory, hidden),
            Aim::Root => {
                let attributes = Attributes::of_entry(&mut entry);
                self.ledger.hold_path(b"", xattr::weight(&attributes.xattrs))?;
                self.root_attributes = attributes;
                return Ok(());
            }
            Aim::Name(parent, name) => (parent, name),
        };
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
