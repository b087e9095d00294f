//! What a writer of either kind remembers of the layer that it writes, whatever it writes it to: what was counted, the
//! markers and links that wait for the end, and the facts.

mod below;
mod names;

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::ops::Bound;

use crate::error::shown;
use crate::port::Written;
use crate::stage::{Finish, StageRequest};
use crate::turn::{self, Taken};
use crate::{Entry, EntryKind, EntryPath, FactPath, LayerError, Limits, MissingLink, Rule};

pub(crate) use below::hides_all;
pub(crate) use names::Names;

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

/// What an entry asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Aim<'e> {
    /// A marker in a directory; it hides a name, or with `None` all.
    Marker(&'e [u8], Option<&'e [u8]>),
    /// The root has these attributes.
    Root,
    /// A file of whatever kind in a directory, by its name there.
    Name(&'e [u8], &'e [u8]),
}

/// The bookkeeping of one layer's writer.
#[derive(Debug)]
pub(crate) struct Ledger<'a> {
    pub subject: &'a str,
    pub limits: &'a Limits,
    pub finish: Option<Finish<'a>>,
    /// Directories that had no entry of their own when the layer was stored by itself.
    implied_before: HashSet<&'a [u8]>,
    /// Names hidden below, by the directory that they are in.
    pub whiteouts: BTreeMap<Vec<u8>, Names>,
    /// Directories marked opaque.
    pub opaques: BTreeSet<Vec<u8>>,
    pub links: Vec<PendingLink>,
    pub written: Written,
    made_count: u64,
    pending_bytes: u64,
    request: StageRequest<'a>,
    /// Taken once the layer holds much.
    turn: Option<Taken<'static>>,
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
            request: *request,
            turn: None,
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

    /// `name` may be the component at `depth` on the way to `entry`.
    pub fn check_component(&self, entry: &[u8], depth: usize, name: &[u8]) -> Result<(), LayerError> {
        self.check(entry, "path_depth", self.limits.path_depth, depth as u64)?;
        self.check(entry, "name_bytes", self.limits.name_bytes, name.len() as u64)
    }

    /// Counts one thing made against `entry_count`: an entry, or a directory whether an entry asks for it or not.
    pub fn count_made(&mut self, entry: &[u8]) -> Result<(), LayerError> {
        self.made_count += 1;
        self.check(entry, "entry_count", self.limits.entry_count, self.made_count)
    }

    /// Counts the next entry of the archive and tells what it asks for.
    pub fn admit<'e>(&mut self, path: &'e EntryPath, entry: &Entry) -> Result<Aim<'e>, LayerError> {
        self.count_made(path.as_bytes())?;
        self.written.entry_count += 1;
        if !matches!(entry.kind, EntryKind::Opaque | EntryKind::Whiteout) {
            self.written.max_id = self.written.max_id.max(entry.uid).max(entry.gid);
        }
        Ok(match (path.split_last(), &entry.kind) {
            (_, EntryKind::Opaque) => Aim::Marker(path.as_bytes(), None),
            (None, EntryKind::Directory) => Aim::Root,
            (None, _) => return Err(self.rejected(b"", Rule::RootNotDirectory)),
            (Some((parent, name)), EntryKind::Whiteout) => Aim::Marker(parent, Some(name)),
            (Some((parent, name)), _) => Aim::Name(parent, name),
        })
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

    /// Counts `bytes` kept until the end against their limit, wherever they are kept. Waits while another layer holds much, if this
    /// one does too.
    pub fn hold(&mut self, entry: &[u8], bytes: u64) -> Result<(), LayerError> {
        self.pending_bytes = self.pending_bytes.saturating_add(bytes);
        self.check(entry, "pending_bytes", self.limits.pending_bytes, self.pending_bytes)?;
        if self.pending_bytes > turn::FREE_BYTES && self.turn.is_none() {
            self.turn = turn::LARGE.take(self.request.is_cancelled);
            if self.turn.is_none() {
                return Err(LayerError::Cancelled { subject: self.subject.to_owned() });
            }
        }
        Ok(())
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
                self.whiteouts.entry(directory).or_default().insert(name);
            }
            None => {
                self.opaques.insert(directory);
            }
        }
        Ok(())
    }

    /// The names that are hidden can be looked up quickly.
    pub fn sort_whiteouts(&mut self) {
        self.whiteouts.values_mut().for_each(Names::sort);
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
        forget_paths(&mut self.opaques, path);
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

/// Removes `path` and paths below it.
pub(crate) fn forget_paths(set: &mut BTreeSet<Vec<u8>>, path: &[u8]) {
    let range = (Bound::Included(path.to_vec()), Bound::Unbounded);
    for key in at_or_below(set.range(range), path) {
        set.remove(&key);
    }
}

/// Removes what is kept under `path` and paths below it.
fn forget_below<V>(map: &mut BTreeMap<Vec<u8>, V>, path: &[u8]) {
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

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicU64;

    use super::*;

    #[test]
    fn what_was_noted_at_and_below_a_path_is_forgotten_and_no_neighbour() {
        let (limits, progress) = (Limits::default(), AtomicU64::new(0));
        let mut ledger = Ledger::new(&StageRequest {
            subject: "sha256:a",
            expected_diff_id: None,
            limits: &limits,
            finish: None,
            progress: &progress,
            is_cancelled: &|| false,
        });
        for path in ["", "a", "a!", "a/b", "a/b/c", "a0", "b/a"] {
            ledger.note_marker(path.into(), None).unwrap();
            ledger.note_marker(path.into(), Some(b"x")).unwrap();
        }
        ledger.forget(b"a");
        let left = ["", "a!", "a0", "b/a"].map(|path| path.as_bytes().to_vec());
        assert_eq!(ledger.opaques.iter().collect::<Vec<_>>(), left.iter().collect::<Vec<_>>());
        assert_eq!(ledger.whiteouts.keys().collect::<Vec<_>>(), left.iter().collect::<Vec<_>>());
    }
}
