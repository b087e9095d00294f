//! A tree in memory: an uploaded context, or files that an instruction brings itself. Every entry is checked when it is
//! added, so that nothing hostile is ever in it.

use std::collections::btree_map::Entry as Slot;
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use errors::IoError;
use layer::Time;
use serde::{Deserialize, Serialize};

use crate::chunks::{ChunkDigest, ChunkStore};
use crate::content::Content;
use crate::error::{shown, EntryRule};
use crate::limits::{
    MAX_CHUNK_BYTES, MAX_CONTEXT_BYTES, MAX_CONTEXT_ENTRIES, MAX_CONTEXT_INDEX_BYTES, MAX_NAME_BYTES,
    MAX_PATH_BYTES, MAX_PATH_DEPTH,
};
use crate::tree::{check, split_last, Meta, MetaKind, Tree};
use crate::BuildError;

/// What an entry of a context is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum MemoryKind {
    /// A file of so many bytes, in these chunks.
    File {
        /// Its size.
        size_bytes: u64,
        /// Digests of its chunks in order.
        chunks: Vec<ChunkDigest>,
    },
    /// A directory.
    Directory,
    /// A link and its text.
    Symlink(Vec<u8>),
}

/// One entry of a context, as it was offered.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MemoryEntry {
    /// Relative to the context.
    pub path: Vec<u8>,
    /// What it is.
    pub kind: MemoryKind,
    /// At most 07777.
    pub mode: u32,
    /// Owner as the sender had it; no image ever shows it.
    pub uid: u32,
    /// Group as the sender had it.
    pub gid: u32,
    /// Seconds and nanoseconds since 1970.
    pub mtime: (i64, u32),
}

#[derive(Debug, Clone)]
struct Node {
    entry: MemoryEntry,
    content: Content,
}

/// Such a tree.
#[derive(Debug, Clone)]
pub struct MemoryTree {
    name: String,
    nodes: BTreeMap<Vec<u8>, Node>,
    index_bytes: u64,
    file_bytes: u64,
}

impl MemoryTree {
    /// An empty tree; `name` is what errors call it.
    pub fn new(name: &str) -> Self {
        Self { name: name.to_owned(), nodes: BTreeMap::new(), index_bytes: 0, file_bytes: 0 }
    }

    /// Adds an entry of a context; the same one again changes nothing.
    ///
    /// # Errors
    /// `CONTEXT_INVALID` with the rule, `LIMIT_EXCEEDED`; nothing was added then.
    pub fn add(&mut self, entry: MemoryEntry) -> Result<(), BuildError> {
        self.insert(entry, Content::empty())
    }

    /// Adds a file that an instruction brings, with its bytes.
    ///
    /// # Errors
    /// As [`add`](Self::add).
    pub fn add_bytes(&mut self, path: &[u8], mode: u32, data: Arc<[u8]>) -> Result<(), BuildError> {
        let kind = MemoryKind::File { size_bytes: data.len() as u64, chunks: Vec::new() };
        let entry = MemoryEntry { path: path.to_vec(), kind, mode, uid: 0, gid: 0, mtime: (0, 0) };
        self.insert(entry, Content::Bytes(data))
    }

    fn insert(&mut self, entry: MemoryEntry, content: Content) -> Result<(), BuildError> {
        check_entry(&entry, matches!(content, Content::Bytes(ref bytes) if !bytes.is_empty()))?;
        let path = entry.path.clone();
        let size = match &entry.kind {
            MemoryKind::File { size_bytes, .. } => *size_bytes,
            _ => 0,
        };
        let index = weight(&entry);
        check("MAX_CONTEXT_INDEX_BYTES", MAX_CONTEXT_INDEX_BYTES, self.index_bytes + index, &path)?;
        check("MAX_CONTEXT_BYTES", MAX_CONTEXT_BYTES, self.file_bytes.saturating_add(size), &path)?;
        let count = self.nodes.len() as u64 + 1;
        match self.nodes.entry(path) {
            Slot::Occupied(slot) if slot.get().entry == entry => return Ok(()),
            Slot::Occupied(slot) => return Err(invalid(slot.key(), EntryRule::Duplicate)),
            Slot::Vacant(slot) => {
                check("MAX_CONTEXT_ENTRIES", MAX_CONTEXT_ENTRIES, count, slot.key())?;
                slot.insert(Node { entry, content });
            }
        }
        self.index_bytes += index;
        self.file_bytes += size;
        Ok(())
    }

    /// The tree is complete: each entry's parents are directories, made where they were not named.
    ///
    /// # Errors
    /// `CONTEXT_INVALID`, `LIMIT_EXCEEDED`.
    pub fn close(&mut self) -> Result<(), BuildError> {
        let mut missing: Vec<Vec<u8>> = Vec::new();
        for path in self.nodes.keys() {
            let mut parent = split_last(path).0;
            while !parent.is_empty() {
                match self.nodes.get(parent) {
                    Some(node) if node.entry.kind == MemoryKind::Directory => {}
                    Some(_) => return Err(invalid(path, EntryRule::ParentNotDirectory)),
                    None => missing.push(parent.to_vec()),
                }
                parent = split_last(parent).0;
            }
        }
        missing.sort();
        missing.dedup();
        for path in missing {
            let kind = MemoryKind::Directory;
            self.add(MemoryEntry { path, kind, mode: 0o755, uid: 0, gid: 0, mtime: (0, 0) })?;
        }
        Ok(())
    }

    /// How many entries it has.
    pub fn len(&self) -> usize {
        self.nodes.len()
    }

    /// True if it has none.
    pub fn is_empty(&self) -> bool {
        self.nodes.is_empty()
    }

    /// Bytes of all its files.
    pub fn file_bytes(&self) -> u64 {
        self.file_bytes
    }

    /// Bytes that its entries take in memory, about.
    pub fn index_bytes(&self) -> u64 {
        self.index_bytes
    }

    /// Digests of all chunks that its files name, in order, some perhaps several times.
    pub fn chunk_digests(&self) -> Vec<ChunkDigest> {
        let mut digests = Vec::with_capacity(self.nodes.len());
        for node in self.nodes.values() {
            if let MemoryKind::File { chunks, .. } = &node.entry.kind {
                digests.extend_from_slice(chunks);
            }
        }
        digests
    }

    /// The same tree without what `is_dropped` says of a path, and of directories in which nothing is left.
    pub fn without(&self, is_dropped: &dyn Fn(&[u8], bool) -> bool) -> Self {
        let mut kept = Self::new(&self.name);
        for (path, node) in &self.nodes {
            if !is_dropped(path, node.entry.kind == MemoryKind::Directory) {
                kept.nodes.insert(path.clone(), node.clone());
            }
        }
        kept
    }

    /// Each file's bytes are found in `chunks`, and are held from now on.
    ///
    /// # Errors
    /// `CONTEXT_INCOMPLETE` naming `id`; `CONTEXT_INVALID` where chunks do not add up to the size.
    pub fn resolve(&mut self, id: &str, chunks: &ChunkStore) -> Result<(), BuildError> {
        let found = chunks.find(id, &self.chunk_digests())?;
        let mut found = found.into_iter();
        for (path, node) in &mut self.nodes {
            let MemoryKind::File { size_bytes, chunks } = &node.entry.kind else { continue };
            if chunks.is_empty() {
                continue;
            }
            let content = Content::Chunks(found.by_ref().take(chunks.len()).collect());
            if content.size_bytes() != *size_bytes {
                return Err(invalid(path, EntryRule::Size));
            }
            node.content = content;
        }
        Ok(())
    }

    /// Writes the entries to `path` so that they appear there whole. Blocking.
    ///
    /// # Errors
    /// `STORAGE_FULL`, `IO_FAILED`.
    pub fn save(&self, path: &Path) -> Result<(), BuildError> {
        let entries: Vec<&MemoryEntry> = self.nodes.values().map(|node| &node.entry).collect();
        let bytes = postcard::to_allocvec(&entries).map_err(|_| IoError::new("encode", path, 0))?;
        let beside = path.with_extension("part");
        std::fs::write(&beside, bytes).map_err(|e| IoError::from_std("write", &beside, &e))?;
        sys::failpoint::hit("context.tree.rename");
        std::fs::rename(&beside, path).map_err(|e| IoError::from_std("rename", path, &e))?;
        Ok(())
    }

    /// What [`save`](Self::save) wrote, checked again; `None` if it is not there or damaged. Blocking.
    ///
    /// # Errors
    /// `IO_FAILED`.
    pub fn load(name: &str, path: &Path) -> Result<Option<Self>, BuildError> {
        let bytes = match std::fs::read(path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(IoError::from_std("read", path, &error).into()),
        };
        let Ok(entries) = postcard::from_bytes::<Vec<MemoryEntry>>(&bytes) else { return Ok(None) };
        let mut tree = Self::new(name);
        for entry in entries {
            tree.add(entry)?;
        }
        Ok(Some(tree))
    }
}

fn weight(entry: &MemoryEntry) -> u64 {
    let inner = match &entry.kind {
        MemoryKind::File { chunks, .. } => chunks.len() * 32,
        MemoryKind::Symlink(target) => target.len(),
        MemoryKind::Directory => 0,
    };
    (2 * entry.path.len() + inner + 128) as u64
}

fn invalid(path: &[u8], rule: EntryRule) -> BuildError {
    BuildError::EntryInvalid { entry: shown(path), rule }
}

fn check_entry(entry: &MemoryEntry, has_bytes: bool) -> Result<(), BuildError> {
    let path = &entry.path;
    check("MAX_PATH_BYTES", MAX_PATH_BYTES, path.len() as u64, path)?;
    let mut depth = 0;
    for part in path.split(|b| *b == b'/') {
        if part.is_empty() || part == b"." || part == b".." || part.contains(&0) {
            return Err(invalid(path, EntryRule::Path));
        }
        check("MAX_NAME_BYTES", MAX_NAME_BYTES, part.len() as u64, path)?;
        depth += 1;
    }
    check("MAX_PATH_DEPTH", MAX_PATH_DEPTH, depth, path)?;
    if entry.mode & !0o7777 != 0 {
        return Err(invalid(path, EntryRule::Mode));
    }
    match &entry.kind {
        MemoryKind::Directory => {}
        MemoryKind::Symlink(target) => {
            check("MAX_PATH_BYTES", MAX_PATH_BYTES, target.len() as u64, path)?;
            if target.is_empty() || target.contains(&0) {
                return Err(invalid(path, EntryRule::LinkTarget));
            }
        }
        MemoryKind::File { size_bytes, chunks } => {
            // No chunk is empty or larger than its bound, so that the count follows from the size within limits.
            let most = chunks.len() as u64 * MAX_CHUNK_BYTES;
            let is_inline = has_bytes && chunks.is_empty();
            if !is_inline && (*size_bytes > most || (*size_bytes == 0) != chunks.is_empty()) {
                return Err(invalid(path, EntryRule::Size));
            }
        }
    }
    Ok(())
}

impl Tree for MemoryTree {
    fn stat(&self, path: &[u8]) -> Result<Option<Meta>, BuildError> {
        if path.is_empty() {
            return Ok(Some(Meta::directory(0, 0, Time::default())));
        }
        Ok(self.nodes.get(path).map(|node| {
            let entry = &node.entry;
            let kind = match &entry.kind {
                MemoryKind::Directory => MetaKind::Directory,
                MemoryKind::Symlink(target) => MetaKind::Symlink { target: target.clone() },
                MemoryKind::File { size_bytes, .. } => MetaKind::File { size_bytes: *size_bytes },
            };
            let (seconds, nanos) = entry.mtime;
            let mtime = Time { seconds, nanos };
            Meta { kind, mode: entry.mode, uid: 0, gid: 0, mtime, xattrs: Vec::new(), link_identity: None }
        }))
    }

    fn list(&self, path: &[u8]) -> Result<Vec<Vec<u8>>, BuildError> {
        let prefix = if path.is_empty() { Vec::new() } else { [path, b"/"].concat() };
        let below = self.nodes.range(prefix.clone()..).take_while(|(key, _)| key.starts_with(&prefix));
        // Those deeper below are passed over; a directory's whole subtree lies between its name and the next one.
        Ok(below
            .map(|(key, _)| &key[prefix.len()..])
            .filter(|rest| !rest.is_empty() && !rest.contains(&b'/'))
            .map(<[u8]>::to_vec)
            .collect())
    }

    fn content(&self, path: &[u8], _meta: &Meta) -> Result<Content, BuildError> {
        Ok(self.nodes.get(path).map_or_else(Content::empty, |node| node.content.clone()))
    }

    fn name(&self) -> &str {
        &self.name
    }

    fn has_owners(&self) -> bool {
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(path: &str, data: &[u8]) -> MemoryEntry {
        let chunks = if data.is_empty() { vec![] } else { vec![*blake3::hash(data).as_bytes()] };
        let kind = MemoryKind::File { size_bytes: data.len() as u64, chunks };
        MemoryEntry { path: path.into(), kind, mode: 0o644, uid: 1000, gid: 1000, mtime: (5, 0) }
    }

    fn link(path: &str, target: &str) -> MemoryEntry {
        MemoryEntry { kind: MemoryKind::Symlink(target.into()), ..file(path, b"") }
    }

    fn rule_of(entry: MemoryEntry) -> Option<EntryRule> {
        match MemoryTree::new("c").add(entry) {
            Err(BuildError::EntryInvalid { rule, .. }) => Some(rule),
            _ => None,
        }
    }

    #[test]
    fn hostile_entries_are_refused_with_the_rule_that_they_break() {
        for path in ["", "/a", "a/", "a//b", "a/../b", "..", ".", "a\0b"] {
            assert_eq!(rule_of(file(path, b"x")), Some(EntryRule::Path), "{path:?}");
        }
        assert_eq!(rule_of(link("l", "")), Some(EntryRule::LinkTarget));
        assert_eq!(rule_of(MemoryEntry { mode: 0o100_644, ..file("f", b"x") }), Some(EntryRule::Mode));
        let none = MemoryKind::File { size_bytes: 7, chunks: vec![] };
        assert_eq!(rule_of(MemoryEntry { kind: none, ..file("f", b"x") }), Some(EntryRule::Size));
        let many = MemoryKind::File { size_bytes: 0, chunks: vec![[0; 32]] };
        assert_eq!(rule_of(MemoryEntry { kind: many, ..file("f", b"x") }), Some(EntryRule::Size));
    }

    #[test]
    fn limits_of_paths_are_named() {
        let limit_of = |path: String| match MemoryTree::new("c").add(file(&path, b"x")) {
            Err(BuildError::LimitExceeded { limit, .. }) => limit,
            other => panic!("{other:?}"),
        };
        assert_eq!(limit_of("x".repeat(256)), "MAX_NAME_BYTES");
        assert_eq!(limit_of("x/".repeat(2050)), "MAX_PATH_BYTES");
        assert_eq!(limit_of(format!("{}x", "x/".repeat(200))), "MAX_PATH_DEPTH");
    }

    #[test]
    fn an_entry_below_a_link_is_refused_and_missing_parents_are_made() {
        let mut tree = MemoryTree::new("c");
        tree.add(file("a/b/c", b"x")).unwrap();
        tree.close().unwrap();
        assert!(tree.stat(b"a/b").unwrap().unwrap().is_directory());
        assert_eq!(tree.list(b"").unwrap(), vec![b"a".to_vec()]);
        tree.add(link("l", "/etc")).unwrap();
        tree.add(file("l/passwd", b"x")).unwrap();
        assert!(matches!(
            tree.close(),
            Err(BuildError::EntryInvalid { rule: EntryRule::ParentNotDirectory, .. })
        ));
    }

    #[test]
    fn the_same_entry_again_changes_nothing_and_another_one_is_refused() {
        let mut tree = MemoryTree::new("c");
        tree.add(file("a", b"x")).unwrap();
        tree.add(file("a", b"x")).unwrap();
        assert_eq!(tree.len(), 1);
        assert!(matches!(
            tree.add(file("a", b"y")),
            Err(BuildError::EntryInvalid { rule: EntryRule::Duplicate, .. })
        ));
    }

    #[test]
    fn names_that_are_not_text_and_names_that_sort_between_are_listed() {
        let mut tree = MemoryTree::new("c");
        for path in [&b"a/\xff"[..], b"a-b", b"a/x/y", b"a.c"] {
            tree.add(MemoryEntry { path: path.to_vec(), ..file("_", b"x") }).unwrap();
        }
        tree.close().unwrap();
        assert_eq!(tree.list(b"a").unwrap(), vec![b"x".to_vec(), b"\xff".to_vec()]);
        assert_eq!(tree.list(b"").unwrap(), vec![b"a".to_vec(), b"a-b".to_vec(), b"a.c".to_vec()]);
    }

    #[test]
    fn chunks_that_do_not_add_up_are_refused_when_they_are_there() {
        let root = tempfile::tempdir().unwrap();
        let chunks = ChunkStore::open(root.path(), 1 << 30).unwrap();
        let digest = chunks.put(b"hello").unwrap();
        let mut tree = MemoryTree::new("c");
        let kind = MemoryKind::File { size_bytes: 6, chunks: vec![digest] };
        tree.add(MemoryEntry { kind, ..file("f", b"x") }).unwrap();
        assert!(matches!(
            tree.resolve("c", &chunks),
            Err(BuildError::EntryInvalid { rule: EntryRule::Size, .. })
        ));
    }

    #[test]
    fn a_tree_is_read_back_as_it_was_saved() {
        let root = tempfile::tempdir().unwrap();
        let mut tree = MemoryTree::new("c");
        tree.add(file("a/b", b"x")).unwrap();
        tree.add(link("l", "a/b")).unwrap();
        tree.close().unwrap();
        tree.save(&root.path().join("t")).unwrap();
        let again = MemoryTree::load("c", &root.path().join("t")).unwrap().unwrap();
        assert_eq!(again.chunk_digests(), tree.chunk_digests());
        assert_eq!(again.stat(b"l").unwrap(), tree.stat(b"l").unwrap());
        assert!(MemoryTree::load("c", &root.path().join("absent")).unwrap().is_none());
    }
}
