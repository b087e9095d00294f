//! What a writer of either kind remembers of the layer that it writes, whatever it writes it to: what was counted, the
//! markers and links that wait for the end, and the facts.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::ops::Bound;

use crate::error::shown;
use crate::port::Written;
use crate::stage::{Finish, StageRequest};
use crate::{FactPath, LayerError, Limits, MissingLink, Rule};

/// What a pending path costs in memory beyond its bytes.
const PENDING_OVERHEAD_BYTES: u64 = 128;

/// Why a directory is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Made {
    /// It has an entry.
    ByEntry,
    /// Something lies in it.
    Implied,
}

/// A hard link whose target was not there when the link came.
#[derive(Debug, Clone)]
pub(crate) struct PendingLink {
    pub path: Vec<u8>,
    pub target: Vec<u8>,
}

/// The bookkeeping of one layer's writer.
#[derive(Debug)]
pub(crate) struct Ledger<'a> {
    pub subject: &'a str,
    pub limits: &'a Limits,
    pub finish: Option<Finish<'a>>,
    /// Directories that had no entry of their own when the layer was stored by itself.
    pub implied_before: HashSet<&'a [u8]>,
    /// Names hidden below, by the directory that they are in.
    pub whiteouts: BTreeMap<Vec<u8>, BTreeSet<Vec<u8>>>,
    /// Directories marked opaque.
    pub opaques: BTreeSet<Vec<u8>>,
    pub links: Vec<PendingLink>,
    pub written: Written,
    made_count: u64,
    pending_bytes: u64,
}

impl<'a> Ledger<'a> {
    /// Nothing is written yet.
    pub fn new(request: &StageRequest<'a>) -> Self {
        let facts = request.finish.map(|finish| finish.facts);
        let implied = facts.map_or(&[][..], |facts| &facts.implied_parents);
        Self {
            subject: request.subject,
            limits: request.limits,
            finish: request.finish,
            implied_before: implied.iter().map(|path| path.0.as_slice()).collect(),
            whiteouts: BTreeMap::new(),
            opaques: BTreeSet::new(),
            links: Vec::new(),
            written: Written::default(),
            made_count: 0,
            pending_bytes: 0,
        }
    }

    /// The error that `entry` breaks `rule`.
    pub fn rejected(&self, entry: &[u8], rule: Rule) -> LayerError {
        LayerError::Rejected { digest: self.subject.to_owned(), entry: shown(entry), rule }
    }

    /// How errors name `entry` of this layer.
    pub fn subject_of(&self, entry: &[u8]) -> String {
        format!("{}: entry {:?}", self.subject, shown(entry))
    }

    /// `actual` is within the limit named `limit`, else `LIMIT_EXCEEDED` for `entry`.
    pub fn check(
        &self,
        entry: &[u8],
        limit: &'static str,
        limit_value: u64,
        actual: u64,
    ) -> Result<(), LayerError> {
        if actual > limit_value {
            let subject = self.subject_of(entry);
            return Err(LayerError::LimitExceeded { limit, limit_value, actual, subject });
        }
        Ok(())
    }

    /// Counts one thing made against `entry_count`: an entry, or a directory whether an entry asks for it or not.
    pub fn count_made(&mut self, entry: &[u8]) -> Result<(), LayerError> {
        self.made_count += 1;
        self.check(entry, "entry_count", self.limits.entry_count, self.made_count)
    }

    /// Counts an entry of the archive.
    pub fn count_entry(&mut self, entry: &[u8]) -> Result<(), LayerError> {
        self.count_made(entry)?;
        self.written.entry_count += 1;
        Ok(())
    }

    /// Counts a file's size, which a sparse file claims without storing it; `entry` is asked only for an error.
    pub fn count_size<P: AsRef<[u8]>>(
        &mut self,
        size_bytes: u64,
        entry: impl FnOnce() -> P,
    ) -> Result<(), LayerError> {
        let total = self.written.size_bytes.saturating_add(size_bytes);
        if total > self.limits.layer_size_bytes {
            let limit_value = self.limits.layer_size_bytes;
            self.check(entry().as_ref(), "layer_size_bytes", limit_value, total)?;
        }
        self.written.size_bytes = total;
        Ok(())
    }

    /// Files of `size_bytes` together are gone.
    pub fn uncount_size(&mut self, size_bytes: u64) {
        self.written.size_bytes -= size_bytes.min(self.written.size_bytes);
    }

    /// Counts `bytes` kept in memory until the end against their limit.
    pub fn hold(&mut self, entry: &[u8], bytes: u64) -> Result<(), LayerError> {
        self.pending_bytes = self.pending_bytes.saturating_add(bytes);
        self.check(entry, "pending_bytes", self.limits.pending_bytes, self.pending_bytes)
    }

    /// As `hold`, for `path` itself and `bytes` that go with it.
    pub fn hold_path(&mut self, path: &[u8], bytes: u64) -> Result<(), LayerError> {
        self.hold(path, path.len() as u64 + bytes + PENDING_OVERHEAD_BYTES)
    }

    /// Notes a marker in `directory` for the end: it hides what lies below whatever its place in the archive (X01).
    /// `hidden` is the name it hides, `None` for all.
    pub fn note_marker(&mut self, directory: Vec<u8>, hidden: Option<&[u8]>) -> Result<(), LayerError> {
        self.hold_path(&directory, hidden.map_or(0, |name| name.len() as u64))?;
        match hidden {
            Some(name) => {
                self.whiteouts.entry(directory).or_default().insert(name.to_vec());
            }
            None => {
                self.opaques.insert(directory);
            }
        }
        Ok(())
    }

    /// Notes a link for the end.
    pub fn note_link(&mut self, path: Vec<u8>, target: &[u8]) -> Result<(), LayerError> {
        self.hold_path(&path, target.len() as u64)?;
        self.links.push(PendingLink { path, target: target.to_vec() });
        Ok(())
    }

    /// Forgets the markers noted at and below `path`, which is no directory any more.
    pub fn forget(&mut self, path: &[u8]) {
        forget_below(&mut self.whiteouts, path);
        let range = (Bound::Included(path.to_vec()), Bound::Unbounded);
        for key in at_or_below(self.opaques.range(range), path) {
            self.opaques.remove(&key);
        }
    }

    /// Overlayfs looks for no attribute at the root of a layer, so what a root marker hides is hidden name by name:
    /// by whiteouts of all names of the lower layers if they are known, else by the fact that it does.
    pub fn hide_root(&mut self) -> Result<(), LayerError> {
        let Some(finish) = self.finish else {
            self.written.facts.is_root_opaque = true;
            return Ok(());
        };
        let names = finish.lowers.root_names()?;
        self.whiteouts.entry(Vec::new()).or_default().extend(names);
        Ok(())
    }

    /// Records a directory that holds whiteouts or was made for a marker.
    pub fn record_marked(&mut self, directory: Vec<u8>) {
        if self.finish.is_none() {
            self.written.facts.whiteout_directories.push(FactPath(directory));
        }
    }

    /// Records a link that this layer has no target for.
    pub fn record_missing(&mut self, link: PendingLink) {
        let (path, target) = (FactPath(link.path), FactPath(link.target));
        self.written.facts.missing_links.push(MissingLink { path, target });
    }
}

/// Removes what is kept under `path` and paths below it.
pub(crate) fn forget_below<V>(map: &mut BTreeMap<Vec<u8>, V>, path: &[u8]) {
    let range = (Bound::Included(path.to_vec()), Bound::Unbounded);
    for key in at_or_below(map.range(range).map(|(key, _)| key), path) {
        map.remove(&key);
    }
}

/// Those of `keys`, sorted and not before `path`, that are `path` or lie below it.
fn at_or_below<'k>(keys: impl Iterator<Item = &'k Vec<u8>>, path: &[u8]) -> Vec<Vec<u8>> {
    let rest = |key: &'k Vec<u8>| key.strip_prefix(path);
    keys.map_while(|key| rest(key).map(|rest| (key, rest)))
        .filter(|(_, rest)| rest.is_empty() || rest[0] == b'/')
        .map(|(key, _)| key.clone())
        .collect()
}
