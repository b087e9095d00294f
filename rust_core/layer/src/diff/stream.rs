//! A walk as a tar that is read piece by piece: nothing is read ahead, and memory does not grow with files.

use std::collections::{HashMap, VecDeque};
use std::fs::File;
use std::os::unix::fs::FileExt;

use errors::IoError;
use rustix::fs::FileType;

use super::mount_points::same_attributes;
use super::node::{self, Node};
use super::view::{self, Found};
use super::walk::{Met, Scope, Walk};
use crate::copy::{Ids, PlainWalk};
use crate::error::shown;
use crate::tar::{write, Fault};
use crate::tree::bytes_path;
use crate::{Entry, EntryKind, EntryPath, Extent, LayerError, Limits, Rule, Time};

/// Bytes of a file read at once.
const PIECE_BYTES: usize = 256 * 1024;
const WHITEOUT_PREFIX: &[u8] = b".wh.";

/// A tar being made. [`read`](Self::read) it to its end, where it answers 0; or drop it at any time.
///
/// A file that grows while it is read is cut at the size that its header says, one that shrinks is filled with zeros,
/// so that the archive is well-formed whatever is written to the tree meanwhile.
pub struct TarStream {
    tree: Tree,
    scope: Scope,
    /// Whose all is told to be, if not its owners'.
    owner: Option<(u32, u32)>,
    /// Owners are told as they are inside.
    ids: Option<Ids>,
    limits: Limits,
    subject: String,
    /// Bytes that go out next.
    pending: Vec<u8>,
    used: usize,
    data: Option<Data>,
    markers: VecDeque<Entry>,
    /// Where files with several names were met first.
    links: HashMap<(u64, u64), Vec<u8>>,
    link_bytes: u64,
    is_ended: bool,
    facts: StreamFacts,
}

/// What is gone through.
#[derive(Debug)]
pub(crate) enum Tree {
    /// Layers, merged.
    Merged(Walk),
    /// A directory as it stands.
    Plain(PlainWalk),
}

impl Tree {
    fn next(&mut self) -> Result<Option<Met>, LayerError> {
        match self {
            Self::Merged(walk) => walk.next(),
            Self::Plain(walk) => walk.next(),
        }
    }
}

/// What a tar came to.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct StreamFacts {
    /// Bytes given out.
    pub size_bytes: u64,
    /// Entries in it, markers included.
    pub entry_count: u64,
    /// Sockets that were left out: no tar holds them, and they mean nothing without their process.
    pub socket_count: u64,
}

/// What is left to send of a file.
struct Data {
    file: File,
    path: Vec<u8>,
    /// Extents that are left, the current one first.
    extents: VecDeque<Extent>,
    padding_bytes: u64,
}

impl std::fmt::Debug for TarStream {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TarStream")
            .field("tree", &self.tree)
            .field("facts", &self.facts)
            .finish_non_exhaustive()
    }
}

impl TarStream {
    pub(crate) fn new(tree: Tree, scope: Scope, limits: &Limits, subject: &str) -> Self {
        Self {
            tree,
            scope,
            owner: None,
            ids: None,
            limits: limits.clone(),
            subject: subject.to_owned(),
            pending: Vec::new(),
            used: 0,
            data: None,
            markers: VecDeque::new(),
            links: HashMap::new(),
            link_bytes: 0,
            is_ended: false,
            facts: StreamFacts::default(),
        }
    }

    /// Owners are told as who sees them shifted by `ids` has them inside.
    #[must_use]
    pub(crate) fn seen_from_inside(mut self, ids: Option<Ids>) -> Self {
        self.ids = ids;
        self
    }

    /// Each entry is told to be of this user and group.
    #[must_use]
    pub fn owned_by(mut self, uid: u32, gid: u32) -> Self {
        self.owner = Some((uid, gid));
        self
    }

    /// What came of it so far; all of it once `read` has answered 0.
    pub fn facts(&self) -> StreamFacts {
        self.facts
    }

    /// Fills some of `buffer`; 0 at the end of the archive. Blocking (reads files). After an error the archive is of no
    /// use.
    ///
    /// # Errors
    /// `FILE_UNREPRESENTABLE` for a name, a moved directory or an attribute that no layer can hold; `LIMIT_EXCEEDED`;
    /// `CANCELLED` once `is_cancelled` says so; `IO_FAILED`.
    pub fn read(&mut self, buffer: &mut [u8], is_cancelled: &dyn Fn() -> bool) -> Result<usize, LayerError> {
        if buffer.is_empty() {
            return Ok(0);
        }
        loop {
            if is_cancelled() {
                return Err(LayerError::Cancelled { subject: self.subject.clone() });
            }
            if self.used < self.pending.len() {
                let count = buffer.len().min(self.pending.len() - self.used);
                buffer[..count].copy_from_slice(&self.pending[self.used..self.used + count]);
                self.used += count;
                self.facts.size_bytes += count as u64;
                self.check("layer_size_bytes", self.limits.layer_size_bytes, self.facts.size_bytes, b"")?;
                return Ok(count);
            }
            if self.is_ended {
                return Ok(0);
            }
            self.pending.clear();
            self.used = 0;
            self.refill()?;
        }
    }

    /// Puts the next bytes into `pending`.
    fn refill(&mut self) -> Result<(), LayerError> {
        if self.read_data()? {
            return Ok(());
        }
        if let Some(marker) = self.markers.pop_front() {
            return self.add_headers(&marker);
        }
        match self.tree.next()? {
            Some(met) => self.add(met),
            None => {
                self.is_ended = true;
                self.pending.extend_from_slice(&write::END);
                Ok(())
            }
        }
    }

    /// The next piece of the current file; false if there is none.
    fn read_data(&mut self) -> Result<bool, LayerError> {
        let Some(data) = &mut self.data else { return Ok(false) };
        let Some(extent) = data.extents.front_mut() else {
            self.pending.resize(usize::try_from(data.padding_bytes).unwrap_or(0), 0);
            self.data = None;
            return Ok(!self.pending.is_empty());
        };
        let wanted = usize::try_from(extent.size_bytes).unwrap_or(usize::MAX).min(PIECE_BYTES);
        self.pending.resize(wanted, 0);
        let read = loop {
            match data.file.read_at(&mut self.pending, extent.offset_bytes) {
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                read => break read.map_err(|e| IoError::from_std("pread", bytes_path(&data.path), &e))?,
            }
        };
        if read > 0 {
            self.pending.truncate(read);
        }
        // Nothing read: the file became shorter, and the zeros in `pending` stand for what it lost.
        let sent = self.pending.len() as u64;
        extent.offset_bytes += sent;
        extent.size_bytes -= sent;
        if extent.size_bytes == 0 {
            data.extents.pop_front();
        }
        Ok(true)
    }

    fn add(&mut self, met: Met) -> Result<(), LayerError> {
        let is_layer = self.scope == Scope::Changes;
        if is_layer && (met.is_whiteout || met.node.kind() == FileType::Socket) {
            // A socket is left out, but what it took the place of must not come back.
            if !met.is_whiteout {
                self.facts.socket_count += 1;
            }
            let marker = marker(&met.path, EntryKind::Whiteout);
            return if met.below.is_absent() { Ok(()) } else { self.add_headers(&marker) };
        }
        if met.node.kind() == FileType::Socket {
            self.facts.socket_count += 1;
            return Ok(());
        }
        if is_layer && crate::entry::split_last(&met.path).1.starts_with(WHITEOUT_PREFIX) {
            return Err(LayerError::Unrepresentable { path: shown(&met.path), rule: Rule::WhiteoutPrefix });
        }
        if is_layer && met.path.is_empty() && self.is_same_root(&met)? {
            return Ok(());
        }
        let mut entry = self.entry(&met)?;
        let mut data = None;
        if let EntryKind::File { size_bytes, extents } = &mut entry.kind {
            let file = met.node.open_file(&met.path)?;
            let blocks = u64::try_from(met.node.status.st_blocks).unwrap_or(u64::MAX);
            *extents = node::extents(&file, *size_bytes, blocks);
            let runs: VecDeque<Extent> = match &extents {
                Some(extents) => extents.iter().copied().collect(),
                None => VecDeque::from([Extent { offset_bytes: 0, size_bytes: *size_bytes }]),
            };
            entry.data_size_bytes = runs.iter().map(|run| run.size_bytes).sum();
            data = Some(Data {
                file,
                path: met.path.clone(),
                extents: runs.into_iter().filter(|run| run.size_bytes > 0).collect(),
                padding_bytes: write::padding(entry.data_size_bytes),
            });
        }
        if is_layer && met.is_opaque() {
            self.markers.push_back(marker(&met.path, EntryKind::Opaque));
        }
        self.add_headers(&entry)?;
        self.data = data;
        Ok(())
    }

    fn entry(&mut self, met: &Met) -> Result<Entry, LayerError> {
        let node = &met.node;
        let path = EntryPath::from_normalised(met.path.clone());
        let kind = match (self.first_name(met)?, node.kind()) {
            (Some(target), _) => EntryKind::Hardlink { target: EntryPath::from_normalised(target) },
            (None, FileType::Directory) => EntryKind::Directory,
            (None, FileType::Symlink) => EntryKind::Symlink { target: node.link_text()? },
            (None, FileType::CharacterDevice) => {
                let (major, minor) = device(node);
                EntryKind::CharDevice { major, minor }
            }
            (None, FileType::BlockDevice) => {
                let (major, minor) = device(node);
                EntryKind::BlockDevice { major, minor }
            }
            (None, FileType::Fifo) => EntryKind::Fifo,
            (None, _) => EntryKind::File { size_bytes: node.size_bytes(), extents: None },
        };
        let is_link = matches!(kind, EntryKind::Hardlink { .. });
        let inside = |id| self.ids.map_or(id, |ids| ids.inside(id));
        let (uid, gid) = self.owner.unwrap_or((inside(node.status.st_uid), inside(node.status.st_gid)));
        let mut xattrs = if is_link { Vec::new() } else { node.xattrs.clone() };
        if let Some(ids) = self.ids {
            xattrs = xattrs.into_iter().map(|attribute| ids.attribute_inside(attribute)).collect();
        }
        Ok(Entry {
            path,
            kind,
            mode: node.status.st_mode & 0o7777,
            uid,
            gid,
            mtime: node.mtime(),
            xattrs,
            data_offset_bytes: 0,
            data_size_bytes: 0,
        })
    }

    /// The path at which the same file was met before.
    fn first_name(&mut self, met: &Met) -> Result<Option<Vec<u8>>, LayerError> {
        if met.node.status.st_nlink < 2 || met.node.kind() == FileType::Directory {
            return Ok(None);
        }
        if let Some(first) = self.links.get(&met.node.identity()) {
            return Ok(Some(first.clone()));
        }
        self.link_bytes += view::weight(&met.path);
        self.check("pending_bytes", self.limits.pending_bytes, self.link_bytes, &met.path)?;
        self.links.insert(met.node.identity(), met.path.clone());
        Ok(None)
    }

    /// True if `/` is as the layers below have it; that it holds other names than they do changes nothing.
    fn is_same_root(&self, met: &Met) -> Result<bool, LayerError> {
        let (Found::Directory(lowers), Tree::Merged(walk)) = (&met.below, &self.tree) else {
            return Ok(false);
        };
        let opened = walk.roots().open(b"", &lowers[..1])?;
        let Some(lower) = opened.first() else { return Ok(false) };
        let lower = Node::open(std::os::fd::AsFd::as_fd(&lower.fd), b"")?;
        Ok(lower.is_some_and(|lower| same_attributes(&met.node, &lower)))
    }

    fn add_headers(&mut self, entry: &Entry) -> Result<(), LayerError> {
        let path = entry.path.as_bytes();
        self.facts.entry_count += 1;
        let headers = write::headers(entry, &self.limits).map_err(|fault| self.fault(fault, path))?;
        self.pending.extend_from_slice(&headers);
        Ok(())
    }

    fn fault(&self, fault: Fault, path: &[u8]) -> LayerError {
        match fault {
            Fault::Rule(rule) => LayerError::Unrepresentable { path: shown(path), rule },
            Fault::Malformed(what) => LayerError::Corrupt {
                digest: self.subject.clone(),
                detail: format!("{what}: {:?}", shown(path)),
            },
            Fault::Limit(limit, limit_value, actual) => {
                let subject = format!("{}: {:?}", self.subject, shown(path));
                LayerError::LimitExceeded { limit, limit_value, actual, subject }
            }
        }
    }

    fn check(
        &self,
        limit: &'static str,
        limit_value: u64,
        actual: u64,
        path: &[u8],
    ) -> Result<(), LayerError> {
        Fault::check(limit, limit_value, actual).map_err(|fault| self.fault(fault, path))
    }
}

/// A marker, the same for the same path: it tells nothing of who made it or when.
fn marker(path: &[u8], kind: EntryKind) -> Entry {
    Entry {
        path: EntryPath::from_normalised(path.to_vec()),
        kind,
        mode: 0,
        uid: 0,
        gid: 0,
        mtime: Time::default(),
        xattrs: Vec::new(),
        data_offset_bytes: 0,
        data_size_bytes: 0,
    }
}

fn device(node: &Node) -> (u32, u32) {
    (rustix::fs::major(node.status.st_rdev), rustix::fs::minor(node.status.st_rdev))
}
