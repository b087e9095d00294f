//! What a writable layer changes, path by path.

use std::os::fd::AsFd;

use rustix::fs::FileType;

use super::mount_points::same_attributes;
use super::node::{mtime, Node};
use super::view::{self, Found, RootIndex, UPPER};
use super::walk::{join, Met, Walk};
use crate::error::shown;
use crate::{LayerError, Limits};

/// What was done to a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum ChangeKind {
    /// No layer below has it.
    Added,
    /// Its content or its attributes may be others, or something in it was changed.
    Modified,
    /// It is gone, with all that was in it.
    Deleted,
}

/// One change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// From the root, without a leading `/`.
    pub path: Vec<u8>,
    /// What was done.
    pub kind: ChangeKind,
}

/// All changes, by path: a directory before what is in it.
pub(super) fn collect(
    mut walk: Walk,
    limits: &Limits,
    subject: &str,
    is_cancelled: &dyn Fn() -> bool,
) -> Result<Vec<Change>, LayerError> {
    let mut list = List { changes: Vec::new(), unsure: Vec::new(), bytes: 0, limits, subject };
    while let Some(met) = walk.next()? {
        if is_cancelled() {
            return Err(LayerError::Cancelled { subject: subject.to_owned() });
        }
        if !met.path.is_empty() {
            list.add(&walk, met)?;
        }
    }
    let mut changes = list.changes;
    changes.sort_by(|a, b| a.path.split(|c| *c == b'/').cmp(b.path.split(|c| *c == b'/')));
    Ok(changes)
}

struct List<'a> {
    changes: Vec<Change>,
    /// Directories that are as they were, unless something in them turns out to be changed.
    unsure: Vec<Vec<u8>>,
    bytes: u64,
    limits: &'a Limits,
    subject: &'a str,
}

impl List<'_> {
    fn add(&mut self, walk: &Walk, met: Met) -> Result<(), LayerError> {
        self.unsure.retain(|above| is_below(&met.path, above));
        if met.is_whiteout {
            return if met.below.is_absent() { Ok(()) } else { self.push(met.path, ChangeKind::Deleted) };
        }
        match &met.below {
            Found::Absent => self.push(met.path, ChangeKind::Added),
            Found::Directory(merged) if met.node.kind() == FileType::Directory => {
                if met.is_opaque() {
                    let gone = hidden(walk, &met.path, merged, self.limits)?;
                    self.push(met.path.clone(), ChangeKind::Modified)?;
                    return gone
                        .into_iter()
                        .try_for_each(|name| self.push(join(&met.path, &name), ChangeKind::Deleted));
                }
                if is_as_below(walk, &met, merged)? {
                    self.unsure.push(met.path);
                    return Ok(());
                }
                self.push(met.path, ChangeKind::Modified)
            }
            _ => self.push(met.path, ChangeKind::Modified),
        }
    }

    fn push(&mut self, path: Vec<u8>, kind: ChangeKind) -> Result<(), LayerError> {
        for above in std::mem::take(&mut self.unsure) {
            if is_below(&path, &above) {
                self.changes.push(Change { path: above, kind: ChangeKind::Modified });
            }
        }
        self.bytes += view::weight(&path);
        if self.bytes > self.limits.pending_bytes {
            return Err(LayerError::LimitExceeded {
                limit: "pending_bytes",
                limit_value: self.limits.pending_bytes,
                actual: self.bytes,
                subject: format!("{}: {:?}", self.subject, shown(&path)),
            });
        }
        self.changes.push(Change { path, kind });
        Ok(())
    }
}

fn is_below(path: &[u8], above: &[u8]) -> bool {
    path.strip_prefix(above).is_some_and(|rest| rest.first() == Some(&b'/'))
}

/// True if the directory has the attributes and the time that the highest lower layer's has.
fn is_as_below(walk: &Walk, met: &Met, merged: &[RootIndex]) -> Result<bool, LayerError> {
    let opened = walk.roots().open(&met.path, &merged[..1])?;
    let Some(lower) = opened.first() else { return Ok(false) };
    let Some(lower) = Node::open(lower.fd.as_fd(), b"")? else { return Ok(false) };
    Ok(same_attributes(&met.node, &lower) && met.node.mtime() == mtime(&lower.status))
}

/// What the lower layers show in a directory whose place another one took, and that one does not have.
fn hidden(
    walk: &Walk,
    path: &[u8],
    merged: &[RootIndex],
    limits: &Limits,
) -> Result<Vec<Vec<u8>>, LayerError> {
    let lowers = walk.roots().open(path, merged)?;
    let upper = walk.roots().open(path, &[UPPER])?;
    let mut gone = std::collections::BTreeSet::new();
    let mut left_bytes = limits.pending_bytes;
    for lower in &lowers {
        let names = view::names(lower.fd.as_fd(), path, &mut left_bytes)?;
        let names = names.ok_or_else(|| LayerError::LimitExceeded {
            limit: "pending_bytes",
            limit_value: limits.pending_bytes,
            actual: limits.pending_bytes + 1,
            subject: shown(path),
        })?;
        for name in names {
            if view::find(&upper, &name)?.is_absent() && !view::find(&lowers, &name)?.is_absent() {
                gone.insert(name);
            }
        }
    }
    Ok(gone.into_iter().collect())
}
