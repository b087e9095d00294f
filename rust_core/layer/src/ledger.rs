//! What a writer of either kind remembers of the layer that it writes, whatever it writes it to: what was counted, the
//! markers and links that wait for the end, and the facts.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::ops::Bound;

use crate::entry::{ancestors, split_last};
use crate::error::shown;
use crate::lower::LowerNode;
use crate::port::Written;
use crate::route::Missing;
use crate::stage::{Finish, StageRequest};
use crate::{EntryKind, EntryPath, FactPath, LayerError, Limits, MissingLink, Rule};

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
    pub fn admit<'e>(&mut self, path: &'e EntryPath, kind: &EntryKind) -> Result<Aim<'e>, LayerError> {
        self.count_made(path.as_bytes())?;
        self.written.entry_count += 1;
        Ok(match (path.split_last(), kind) {
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

    /// True if nothing of the lower layers shows at `path`, since a directory above it is opaque: marked so until now,
    /// or by `is_opaque`, which tells it of a directory that was made.
    pub fn is_hidden(&self, path: &[u8], is_opaque: impl Fn(&[u8]) -> bool) -> bool {
        ancestors(path).any(|above| self.opaques.contains(above) || is_opaque(above))
    }

    /// What the lower layers have at `path`, where this layer has nothing, if `missing` asks for it; else
    /// `LowerNode::Absent`. With `is_past_link` the path is not the one that an entry has, so no fact can tell of it.
    pub fn lower_at(
        &self,
        path: &[u8],
        missing: Missing,
        is_past_link: bool,
        is_hidden: impl FnOnce() -> bool,
    ) -> Result<LowerNode, LayerError> {
        let Some(finish) = self.finish else { return Ok(LowerNode::Absent) };
        let asks = match missing {
            Missing::Make => is_past_link || self.implied_before.contains(path),
            Missing::MakeFromLower | Missing::LeaveFromLower => true,
            Missing::Leave => false,
        };
        Ok(if asks && !is_hidden() { finish.lowers.find(path)? } else { LowerNode::Absent })
    }

    /// How a marker's directory is looked for at the end.
    pub fn marker_missing(&self) -> Missing {
        if self.finish.is_some() {
            Missing::LeaveFromLower
        } else {
            Missing::Leave
        }
    }

    /// True if a marker in `directory`, which this layer does not have, can have a meaning: one below has it. A layer
    /// that is stored by itself cannot know and keeps the marker.
    pub fn may_be_below(&self, directory: &[u8]) -> Result<bool, LayerError> {
        let Some(finish) = self.finish else { return Ok(true) };
        Ok(matches!(finish.lowers.find(directory)?, LowerNode::Directory(_)))
    }

    /// True if a whiteout of `path` needs a device. Over known layers, what none of them has needs none (X25).
    pub fn needs_whiteout(&self, path: &[u8]) -> Result<bool, LayerError> {
        let Some(finish) = self.finish else { return Ok(true) };
        Ok(!matches!(finish.lowers.find(path)?, LowerNode::Absent))
    }

    /// What the lower layers have of a waiting link's target, which led to `path`; `None` if they do not have it, or
    /// this layer hides it.
    pub fn link_source(
        &self,
        link: &PendingLink,
        path: &[u8],
        is_opaque: impl Fn(&[u8]) -> bool,
    ) -> Result<Option<LowerNode>, LayerError> {
        let Some(finish) = self.finish else { return Ok(None) };
        let (directory, name) = split_last(path);
        let is_whiteout = self.whiteouts.get(directory).is_some_and(|names| names.contains(name));
        if is_whiteout || self.is_hidden(path, is_opaque) {
            return Ok(None);
        }
        match finish.lowers.find(path)? {
            LowerNode::Absent => Ok(None),
            LowerNode::Directory(_) => Err(self.rejected(&link.path, Rule::HardlinkToDirectory)),
            node => Ok(Some(node)),
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

/// True if whiteouts in `directory` hide nothing more, since it is opaque or one above it is; not so the root, whose
/// marker has become whiteouts.
pub(crate) fn hides_all(directory: &[u8], is_opaque: impl Fn(&[u8]) -> bool) -> bool {
    std::iter::once(directory).chain(ancestors(directory)).any(|path| !path.is_empty() && is_opaque(path))
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
