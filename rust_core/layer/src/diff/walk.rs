//! Goes through the tree in one fixed order: a directory before what is in it, names by their bytes.

use std::collections::BTreeSet;
use std::os::fd::AsFd;

use rustix::fs::FileType;

use super::node::Node;
use super::view::{self, Found, Member, RootIndex, Roots, UPPER};
use crate::error::shown;
use crate::{LayerError, Limits, Rule};

/// What is gone through.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Scope {
    /// What the writable layer has itself, whiteouts included.
    Changes,
    /// What the merged tree shows.
    Whole,
}

/// A file that the walk came by.
#[derive(Debug)]
pub(crate) struct Met {
    /// From the root, without a leading `/`; empty for the root.
    pub path: Vec<u8>,
    pub node: Node,
    /// What the layers below the writable one show there; absent in a walk of the whole.
    pub below: Found,
    /// It hides what lies below it.
    pub is_whiteout: bool,
}

impl Met {
    /// True for a directory in whose place a lower one stood whose content does not show any more.
    pub fn is_opaque(&self) -> bool {
        self.node.steering.is_opaque && matches!(self.below, Found::Directory(_))
    }
}

/// The directory that the walk stands in.
struct Level {
    /// Whose files are met, highest first.
    members: Vec<Member>,
    /// What they are compared with.
    lowers: Vec<Member>,
}

/// A directory whose names are not all done.
struct Frame {
    path: Vec<u8>,
    members: Vec<RootIndex>,
    lowers: Vec<RootIndex>,
    /// What is left to do, the next at the end; `None` until it is listed.
    names: Option<Vec<Vec<u8>>>,
}

/// A walk under way. It holds the names of the directories above it and opens one directory of each layer at a time.
pub(crate) struct Walk {
    roots: Roots,
    scope: Scope,
    /// Paths that are passed over, with all below them.
    skipped: BTreeSet<Vec<u8>>,
    limits: Limits,
    subject: String,
    frames: Vec<Frame>,
    level: Option<Level>,
    left_bytes: u64,
    met_count: u64,
    is_begun: bool,
}

impl std::fmt::Debug for Walk {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Walk")
            .field("scope", &self.scope)
            .field("subject", &self.subject)
            .finish_non_exhaustive()
    }
}

impl Walk {
    pub fn new(
        roots: Roots,
        scope: Scope,
        skipped: BTreeSet<Vec<u8>>,
        limits: &Limits,
        subject: &str,
    ) -> Self {
        Self {
            roots,
            scope,
            skipped,
            limits: limits.clone(),
            subject: subject.to_owned(),
            frames: Vec::new(),
            level: None,
            left_bytes: limits.pending_bytes,
            met_count: 0,
            is_begun: false,
        }
    }

    pub fn roots(&self) -> &Roots {
        &self.roots
    }

    /// The next file; the root comes first. One that vanishes while it is looked at is passed over.
    pub fn next(&mut self) -> Result<Option<Met>, LayerError> {
        if !self.is_begun {
            self.is_begun = true;
            return self.begin().map(Some);
        }
        while let Some(name) = self.next_name()? {
            let Some(frame) = self.frames.last() else { return Ok(None) };
            let path = join(&frame.path, &name);
            if self.skipped.contains(&path) {
                continue;
            }
            if !self.enter()? {
                continue;
            }
            if let Some(met) = self.meet(&path, &name)? {
                self.met_count += 1;
                self.check("entry_count", self.limits.entry_count, self.met_count, &path)?;
                return Ok(Some(met));
            }
        }
        Ok(None)
    }

    fn begin(&mut self) -> Result<Met, LayerError> {
        let lowers = self.roots.lowers();
        let (members, lowers) = match self.scope {
            Scope::Changes => (vec![UPPER], lowers),
            Scope::Whole => ([UPPER].into_iter().chain(lowers).collect(), Vec::new()),
        };
        let gone = || LayerError::Io(crate::tree::io("openat2", b"", rustix::io::Errno::NOENT));
        let opened = self.roots.open(b"", &[UPPER])?;
        let upper = opened.first().ok_or_else(gone)?;
        let node = Node::open(upper.fd.as_fd(), b"")?.ok_or_else(gone)?;
        let below = if lowers.is_empty() { Found::Absent } else { Found::Directory(lowers.clone()) };
        self.frames.push(Frame { path: Vec::new(), members, lowers, names: None });
        Ok(Met { path: Vec::new(), node, below, is_whiteout: false })
    }

    /// The next name of the innermost directory, which is left where there is none.
    fn next_name(&mut self) -> Result<Option<Vec<u8>>, LayerError> {
        loop {
            let Some(frame) = self.frames.last_mut() else { return Ok(None) };
            let Some(names) = &mut frame.names else {
                self.list()?;
                continue;
            };
            if let Some(name) = names.pop() {
                self.left_bytes += view::weight(&name);
                return Ok(Some(name));
            }
            self.frames.pop();
            self.level = None;
        }
    }

    fn list(&mut self) -> Result<(), LayerError> {
        let mut all = BTreeSet::new();
        if self.enter()? {
            let members = self.level.as_ref().map_or(&[][..], |level| &level.members);
            let path = self.frames.last().map_or(&[][..], |frame| &frame.path);
            for member in members {
                let mut left_bytes = self.left_bytes;
                let Some(names) = view::names(member.fd.as_fd(), path, &mut left_bytes)? else {
                    return Err(self.exceeded("pending_bytes", self.limits.pending_bytes, path));
                };
                // What several layers have is remembered once.
                for name in names {
                    let weight = view::weight(&name);
                    if all.insert(name) {
                        self.left_bytes -= weight;
                    }
                }
            }
        }
        if let Some(frame) = self.frames.last_mut() {
            frame.names = Some(all.into_iter().rev().collect());
        }
        Ok(())
    }

    /// The innermost directory is open; false if it has vanished, and what it held with it.
    fn enter(&mut self) -> Result<bool, LayerError> {
        if self.level.is_some() {
            return Ok(true);
        }
        let Some(frame) = self.frames.last_mut() else { return Ok(false) };
        let members = self.roots.open(&frame.path, &frame.members)?;
        if members.is_empty() {
            let names = frame.names.replace(Vec::new()).unwrap_or_default();
            self.left_bytes += names.iter().map(|name| view::weight(name)).sum::<u64>();
            return Ok(false);
        }
        let lowers = self.roots.open(&frame.path, &frame.lowers)?;
        self.level = Some(Level { members, lowers });
        Ok(true)
    }

    fn meet(&mut self, path: &[u8], name: &[u8]) -> Result<Option<Met>, LayerError> {
        self.check("path_bytes", self.limits.path_bytes, path.len() as u64, path)?;
        let Some(Level { members, lowers }) = &self.level else { return Ok(None) };
        let (place, roots) = match self.scope {
            Scope::Changes => (members.first(), vec![UPPER]),
            Scope::Whole => match view::find(members, name)? {
                Found::Absent => return Ok(None),
                Found::Leaf(root, _) => (members.iter().find(|member| member.root == root), Vec::new()),
                Found::Directory(roots) => {
                    (members.iter().find(|member| Some(&member.root) == roots.first()), roots)
                }
            },
        };
        let Some(place) = place else { return Ok(None) };
        let Some(node) = Node::open(place.fd.as_fd(), name)? else { return Ok(None) };
        let is_whiteout = view::is_whiteout(place, name, &node.status)?;
        let below = view::find(lowers, name)?;
        if node.steering.is_redirected {
            return Err(LayerError::Unrepresentable { path: shown(path), rule: Rule::Redirected });
        }
        if node.kind() == FileType::Directory {
            let depth = self.frames.len() as u64;
            self.check("path_depth", self.limits.path_depth, depth, path)?;
            let lowers = match &below {
                Found::Directory(roots) if !node.steering.is_opaque => roots.clone(),
                _ => Vec::new(),
            };
            // A directory that took the place of another kind of file since it was looked up merges with nothing.
            let members = if roots.is_empty() { vec![place.root] } else { roots };
            self.frames.push(Frame { path: path.to_vec(), members, lowers, names: None });
            self.level = None;
        }
        Ok(Some(Met { path: path.to_vec(), node, below, is_whiteout }))
    }

    fn check(
        &self,
        limit: &'static str,
        limit_value: u64,
        actual: u64,
        path: &[u8],
    ) -> Result<(), LayerError> {
        if actual > limit_value {
            let subject = format!("{}: {:?}", self.subject, shown(path));
            return Err(LayerError::LimitExceeded { limit, limit_value, actual, subject });
        }
        Ok(())
    }

    fn exceeded(&self, limit: &'static str, limit_value: u64, path: &[u8]) -> LayerError {
        let subject = format!("{}: {:?}", self.subject, shown(path));
        LayerError::LimitExceeded { limit, limit_value, actual: limit_value + 1, subject }
    }
}

/// `name` in the directory `path`.
pub(crate) fn join(path: &[u8], name: &[u8]) -> Vec<u8> {
    if path.is_empty() {
        return name.to_vec();
    }
    [path, b"/", name].concat()
}
