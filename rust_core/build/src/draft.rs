//! A layer being drawn up over a tree: directories that are made, files that are copied. Nothing is read or written
//! until it is streamed.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use layer::Time;

use crate::content::Content;
use crate::error::CopyRule;
use crate::limits::{MAX_LAYER_ENTRIES, MAX_SYMLINKS};
use crate::owner::user_of;
use crate::select::{Match, Picked, Selection};
use crate::tree::{check, join, parts, split_last, Meta, MetaKind, Tree};
use crate::BuildError;

/// uid and gid.
pub type Owner = (u32, u32);

/// What `--chmod` makes of a mode.
#[derive(Debug, Clone)]
pub enum ModeChange {
    /// The same for all.
    Set(u32),
    /// By the mode that it was: 4096 answers for files, then 4096 for directories.
    Table(Vec<u32>),
}

impl ModeChange {
    fn apply(&self, mode: u32, is_directory: bool) -> u32 {
        match self {
            Self::Set(mode) => *mode,
            Self::Table(table) => {
                let index = (mode & 0o7777) as usize + if is_directory { 0o10000 } else { 0 };
                table.get(index).copied().unwrap_or(mode)
            }
        }
    }
}

/// An entry of the layer.
#[derive(Debug, Clone)]
pub(crate) struct Node {
    pub meta: Meta,
    pub content: Content,
    /// The path in the layer that this is another name of.
    pub link: Option<Vec<u8>>,
}

/// Such a layer. `base` is the tree that it is to stand on.
#[derive(Debug)]
pub struct LayerDraft {
    base: Arc<dyn Tree>,
    /// Entries by path; directories of the base that lie above them are among them, as the base has them.
    nodes: BTreeMap<Vec<u8>, Node>,
    /// Entries that are more than such directories.
    change_count: u64,
    resolved: HashMap<Vec<u8>, Vec<u8>>,
    links: HashMap<(u64, u64), Vec<u8>>,
    /// Time of directories that are made.
    time: Time,
}

impl LayerDraft {
    /// Nothing yet, over `base`. `time`: that of directories that it makes itself.
    pub fn new(base: Arc<dyn Tree>, time: Time) -> Self {
        Self {
            base,
            nodes: BTreeMap::new(),
            change_count: 0,
            resolved: HashMap::new(),
            links: HashMap::new(),
            time,
        }
    }

    /// True if it would change nothing.
    pub fn is_empty(&self) -> bool {
        self.change_count == 0
    }

    pub(crate) fn into_nodes(self) -> BTreeMap<Vec<u8>, Node> {
        self.nodes
    }

    fn lookup(&self, path: &[u8]) -> Result<Option<Meta>, BuildError> {
        match self.nodes.get(path) {
            Some(node) => Ok(Some(node.meta.clone())),
            None => self.base.stat(path),
        }
    }

    /// The directory at `path` is there: made with its parents (0755, of `user`), or left as it is (case B10).
    ///
    /// # Errors
    /// `BUILD_COPY_REJECTED`, `USER_INVALID`, `IO_FAILED`.
    pub fn make_directory(&mut self, path: &[u8], user: &str) -> Result<(), BuildError> {
        let owner = if user.is_empty() { (0, 0) } else { user_of(self.base.as_ref(), user)? };
        self.resolve_directory(path, owner).map(|_| ())
    }

    /// Where the directory `path` is when links are followed inside the tree; what is missing is made for `owner`.
    fn resolve_directory(&mut self, path: &[u8], owner: Owner) -> Result<Vec<u8>, BuildError> {
        if let Some(known) = self.resolved.get(path) {
            return Ok(known.clone());
        }
        let mut rest: Vec<Vec<u8>> = parts(path).rev().map(<[u8]>::to_vec).collect();
        let mut here: Vec<u8> = Vec::new();
        let mut link_count = 0;
        while let Some(part) = rest.pop() {
            if part == b".." {
                here.truncate(split_last(&here).0.len());
                continue;
            }
            let next = join(&here, &part);
            match self.lookup(&next)?.map(|meta| meta.kind) {
                None => {
                    self.put(&next, Meta::directory(owner.0, owner.1, self.time), Content::empty(), None)?;
                    here = next;
                }
                Some(MetaKind::Directory) => here = next,
                Some(MetaKind::Symlink { target }) => {
                    link_count += 1;
                    if link_count > MAX_SYMLINKS {
                        return Err(BuildError::rejected(path, CopyRule::SymlinkLoop));
                    }
                    if target.first() == Some(&b'/') {
                        here.clear();
                    }
                    rest.extend(parts(&target).rev().map(<[u8]>::to_vec));
                }
                Some(_) => return Err(BuildError::rejected(&next, CopyRule::NotDirectory)),
            }
        }
        self.resolved.insert(path.to_vec(), here.clone());
        Ok(here)
    }

    /// Where a file that is to be at `path` goes: a link there that leads to a directory leads into it.
    fn resolve_file(
        &mut self,
        path: &[u8],
        name: &[u8],
        is_directory: bool,
        owner: Owner,
    ) -> Result<Vec<u8>, BuildError> {
        if is_directory || self.is_directory(path)? {
            return Ok(join(&self.resolve_directory(path, owner)?, name));
        }
        let cleaned = crate::tree::clean(path);
        let (parent, last) = split_last(&cleaned);
        Ok(join(&self.resolve_directory(parent, owner)?, last))
    }

    fn is_directory(&self, path: &[u8]) -> Result<bool, BuildError> {
        let view = View { draft: self };
        Ok(crate::tree::follow(&view, path)?.is_some_and(|(_, meta)| meta.is_directory()))
    }

    /// Copies what is selected to `destination`, an absolute path inside; a `/` or `/.` at its end means a directory,
    /// as do several matches (case B14).
    ///
    /// # Errors
    /// `BUILD_COPY_REJECTED`, `LIMIT_EXCEEDED`, `IO_FAILED`.
    pub fn copy(
        &mut self,
        selection: &Selection,
        destination: &[u8],
        owner: Option<Owner>,
        mode: Option<&ModeChange>,
        is_several: bool,
    ) -> Result<(), BuildError> {
        let made_by = owner.unwrap_or((0, 0));
        let is_directory = is_several
            || selection.matches.len() > 1
            || destination.ends_with(b"/")
            || destination.ends_with(b"/.");
        let adjust = |meta: &Meta| {
            let mut meta = meta.clone();
            if !selection.has_owners {
                (meta.uid, meta.gid) = (0, 0);
            }
            if let Some(owner) = owner {
                (meta.uid, meta.gid) = owner;
            }
            if let Some(change) = mode {
                if !matches!(meta.kind, MetaKind::Symlink { .. }) {
                    meta.mode = change.apply(meta.mode, meta.is_directory());
                }
            }
            meta
        };
        for Match { top, below, keeps_name } in &selection.matches {
            // Names of one file are one file again within what is copied together.
            self.links.clear();
            if *keeps_name {
                let root = self.resolve_directory(destination, made_by)?;
                let (parent, name) = split_last(&top.name);
                let parent = self.resolve_directory(&join(&root, parent), made_by)?;
                let target = if name.is_empty() { parent } else { join(&parent, name) };
                self.add(&target, adjust(&top.meta), top.content.clone())?;
                self.copy_below(&target, below, &adjust)?;
            } else if top.meta.is_directory() {
                let target = self.resolve_directory(destination, made_by)?;
                self.copy_below(&target, below, &adjust)?;
            } else {
                let target = self.resolve_file(destination, &top.name, is_directory, made_by)?;
                self.add(&target, adjust(&top.meta), top.content.clone())?;
            }
        }
        Ok(())
    }

    fn copy_below(
        &mut self,
        target: &[u8],
        below: &[Picked],
        adjust: &dyn Fn(&Meta) -> Meta,
    ) -> Result<(), BuildError> {
        for picked in below {
            self.add(&join(target, &picked.name), adjust(&picked.meta), picked.content.clone())?;
        }
        Ok(())
    }

    /// An entry is at `path`, whose parents are directories or are made; in place of what was there, unless one of
    /// both is a directory.
    pub(crate) fn add(&mut self, path: &[u8], meta: Meta, content: Content) -> Result<(), BuildError> {
        if path.is_empty() {
            return Ok(());
        }
        let existing = self.lookup(path)?;
        match existing {
            Some(existing) if existing.is_directory() && !meta.is_directory() => {
                return Err(BuildError::rejected(path, CopyRule::OverDirectory));
            }
            Some(existing) if !existing.is_directory() && meta.is_directory() => {
                return Err(BuildError::rejected(path, CopyRule::OverFile));
            }
            _ => {}
        }
        let first = meta.link_identity.and_then(|identity| self.links.get(&identity).cloned());
        match (meta.link_identity, &first) {
            (Some(identity), None) => {
                self.links.insert(identity, path.to_vec());
            }
            (Some(_), Some(first)) if first == path => return Ok(()),
            _ => {}
        }
        self.put(path, meta, content, first)
    }

    /// As `add`, for a link to another path of the layer or the base.
    pub(crate) fn add_link(&mut self, path: &[u8], target: Vec<u8>, meta: Meta) -> Result<(), BuildError> {
        if self.lookup(path)?.is_some_and(|existing| existing.is_directory()) {
            return Err(BuildError::rejected(path, CopyRule::OverDirectory));
        }
        self.put(path, meta, Content::empty(), Some(target))
    }

    /// Where an archive's entry `path` below `directory` goes: its parents are followed inside, or made.
    pub(crate) fn place(
        &mut self,
        directory: &[u8],
        path: &[u8],
        owner: Owner,
    ) -> Result<Vec<u8>, BuildError> {
        let (parent, name) = split_last(path);
        let parent = self.resolve_directory(&join(directory, parent), owner)?;
        Ok(join(&parent, name))
    }

    pub(crate) fn directory(&mut self, path: &[u8], owner: Owner) -> Result<Vec<u8>, BuildError> {
        self.resolve_directory(path, owner)
    }

    fn put(
        &mut self,
        path: &[u8],
        meta: Meta,
        content: Content,
        link: Option<Vec<u8>>,
    ) -> Result<(), BuildError> {
        if split_last(path).1.starts_with(b".wh.") {
            return Err(BuildError::rejected(path, CopyRule::WhiteoutPrefix));
        }
        self.put_parents(path)?;
        self.change_count += 1;
        check("MAX_LAYER_ENTRIES", MAX_LAYER_ENTRIES, self.nodes.len() as u64 + 1, path)?;
        // A place that was resolved through what stood here may lead elsewhere now.
        if matches!(meta.kind, MetaKind::Symlink { .. }) {
            self.resolved.clear();
        }
        self.nodes.insert(path.to_vec(), Node { meta, content, link });
        Ok(())
    }

    /// The directories above stand in the layer as the base has them, so that it can be read without the base.
    fn put_parents(&mut self, path: &[u8]) -> Result<(), BuildError> {
        let mut parent = split_last(path).0;
        while !parent.is_empty() && !self.nodes.contains_key(parent) {
            let meta = match self.base.stat(parent)? {
                Some(meta) if meta.is_directory() => meta,
                Some(_) => return Err(BuildError::rejected(parent, CopyRule::NotDirectory)),
                None => Meta::directory(0, 0, self.time),
            };
            self.nodes.insert(parent.to_vec(), Node { meta, content: Content::empty(), link: None });
            parent = split_last(parent).0;
        }
        Ok(())
    }
}

/// The base with the draft over it.
struct View<'a> {
    draft: &'a LayerDraft,
}

impl std::fmt::Debug for View<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("View")
    }
}

impl Tree for View<'_> {
    fn stat(&self, path: &[u8]) -> Result<Option<Meta>, BuildError> {
        self.draft.lookup(path)
    }

    fn list(&self, path: &[u8]) -> Result<Vec<Vec<u8>>, BuildError> {
        self.draft.base.list(path)
    }

    fn content(&self, _path: &[u8], _meta: &Meta) -> Result<Content, BuildError> {
        Ok(Content::empty())
    }

    fn name(&self) -> &str {
        self.draft.base.name()
    }

    fn has_owners(&self) -> bool {
        true
    }
}
