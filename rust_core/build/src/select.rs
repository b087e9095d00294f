//! What the sources of a copy name in a tree: found by path or pattern, links followed where an instruction names them
//! and left alone below (case B13).

use crate::content::Content;
use crate::error::{shown, CopyRule};
use crate::glob;
use crate::limits::{MAX_LAYER_ENTRIES, MAX_PATH_DEPTH};
use crate::tree::{check, clean, follow, join, split_last, Meta, MetaKind, Tree};
use crate::BuildError;

/// What a source asks for.
#[derive(Clone, Copy)]
pub struct SelectionRequest<'a> {
    /// A path or pattern from the tree's root.
    pub pattern: &'a [u8],
    /// Finding nothing is an error.
    pub is_required: bool,
    /// With `--parents`: the pattern below `pattern`, whose matches keep their directories; empty for none.
    pub parents_pattern: &'a [u8],
    /// Says of a path, and whether it is a directory, that it is left out. Paths are those below a copied directory, as
    /// BuildKit has it (fsutil copy.go), with `--parents` those below its fixed part; of a file that is named or matched
    /// the path from the tree's root, as Docker's reference has it. A directory that is named is never left out itself.
    pub is_excluded: &'a dyn Fn(&[u8], bool) -> bool,
    /// The caller gave up.
    pub is_cancelled: &'a dyn Fn() -> bool,
}

/// Something that a copy takes along.
#[derive(Debug, Clone)]
pub(crate) struct Picked {
    /// Below the destination: for a match its own name or, with `--parents`, its path; for what lies below a directory
    /// the path from it.
    pub name: Vec<u8>,
    pub meta: Meta,
    pub content: Content,
}

/// A path that a source names.
#[derive(Debug, Clone)]
pub(crate) struct Match {
    pub top: Picked,
    /// All below a directory, a directory before what is in it.
    pub below: Vec<Picked>,
    /// It keeps its name although it is a directory (`--parents`).
    pub keeps_name: bool,
}

/// What all sources of one instruction in one tree come to.
#[derive(Debug, Clone, Default)]
pub struct Selection {
    pub(crate) matches: Vec<Match>,
    pub(crate) has_owners: bool,
    pub(crate) entry_count: u64,
}

impl Selection {
    /// How many entries there are.
    pub fn entry_count(&self) -> u64 {
        self.entry_count
    }

    /// How many paths were named.
    pub fn match_count(&self) -> usize {
        self.matches.len()
    }
}

/// What `request` names in `tree`. Blocking (looks at every entry below it, reads no content).
///
/// # Errors
/// `BUILD_SOURCE_NOT_FOUND`, `BUILD_COPY_REJECTED` (pattern, kind, links), `LIMIT_EXCEEDED`, `IO_FAILED`, `CANCELLED`.
pub fn select(tree: &dyn Tree, request: &SelectionRequest<'_>) -> Result<Selection, BuildError> {
    let mut picker = Picker { tree, request, selection: Selection::default(), leaves_out: false };
    picker.selection.has_owners = tree.has_owners();
    if request.parents_pattern.is_empty() {
        picker.named()?;
    } else {
        picker.with_parents()?;
    }
    if picker.selection.matches.is_empty() && request.is_required && !picker.leaves_out {
        let path = shown(request.pattern);
        return Err(BuildError::SourceNotFound { path, tree: tree.name().to_owned() });
    }
    Ok(picker.selection)
}

struct Picker<'a> {
    tree: &'a dyn Tree,
    request: &'a SelectionRequest<'a>,
    selection: Selection,
    /// Something was found and left out.
    leaves_out: bool,
}

impl Picker<'_> {
    fn named(&mut self) -> Result<(), BuildError> {
        for path in self.expand(self.request.pattern)? {
            let Some((real, meta)) = follow(self.tree, &path)? else { continue };
            if !meta.is_directory() && (self.request.is_excluded)(&path, false) {
                self.leaves_out = true;
                continue;
            }
            let name = split_last(&path).1.to_vec();
            self.take(name, &real, meta, false)?;
        }
        Ok(())
    }

    /// The paths that the pattern matches, in order. A path without a wildcard is itself, be it there or not.
    fn expand(&self, pattern: &[u8]) -> Result<Vec<Vec<u8>>, BuildError> {
        let cleaned = clean(pattern);
        if !glob::has_meta(&cleaned) {
            return Ok(vec![cleaned]);
        }
        let parts: Vec<&[u8]> = cleaned.split(|b| *b == b'/').collect();
        let mut found = vec![Vec::new()];
        for (index, part) in parts.iter().enumerate() {
            let is_last = index + 1 == parts.len();
            let mut next = Vec::new();
            for directory in &found {
                next.extend(self.step(directory, part, is_last)?);
            }
            found = next;
        }
        Ok(found)
    }

    fn step(&self, directory: &[u8], part: &[u8], is_last: bool) -> Result<Vec<Vec<u8>>, BuildError> {
        self.check_cancelled()?;
        let Some((real, meta)) = follow(self.tree, directory)? else { return Ok(Vec::new()) };
        if !meta.is_directory() {
            return Ok(Vec::new());
        }
        if !glob::has_meta(part) {
            let path = join(directory, part);
            let is_there = follow(self.tree, &path)?.is_some_and(|(_, meta)| is_last || meta.is_directory());
            return Ok(if is_there { vec![path] } else { Vec::new() });
        }
        let mut found = Vec::new();
        for name in self.tree.list(&real)? {
            let is_match = glob::matches(part, &name)
                .map_err(|_| BuildError::rejected(self.request.pattern, CopyRule::Pattern))?;
            if is_match {
                found.push(join(directory, &name));
            }
        }
        Ok(found)
    }

    /// `--parents`: everything below the pattern's directory that matches, and what is below that.
    fn with_parents(&mut self) -> Result<(), BuildError> {
        let Some((base, meta)) = follow(self.tree, self.request.pattern)? else { return Ok(()) };
        if !meta.is_directory() {
            return Ok(());
        }
        let cleaned = clean(self.request.parents_pattern);
        let parts: Vec<&[u8]> = cleaned.split(|b| *b == b'/').filter(|part| !part.is_empty()).collect();
        self.descend(&base, &[], &parts)
    }

    fn descend(&mut self, base: &[u8], below: &[u8], parts: &[&[u8]]) -> Result<(), BuildError> {
        self.check_cancelled()?;
        let Some((part, rest)) = parts.split_first() else {
            let path = join(base, below);
            let path = path.strip_suffix(b"/").unwrap_or(&path);
            return match self.tree.stat(path)? {
                Some(meta) if (self.request.is_excluded)(below, meta.is_directory()) => {
                    self.leaves_out = true;
                    Ok(())
                }
                Some(meta) => {
                    // A link that is named is followed, as without `--parents`.
                    let (real, meta) = follow(self.tree, path)?.unwrap_or((path.to_vec(), meta));
                    self.take(below.to_vec(), &real, meta, true)
                }
                None => Ok(()),
            };
        };
        if *part == b"**" {
            self.descend(base, below, rest)?;
        } else if !glob::has_meta(part) {
            return self.descend(base, &join(below, part), rest);
        }
        let directory = join(base, below);
        let directory = directory.strip_suffix(b"/").unwrap_or(&directory);
        if !self.tree.stat(directory)?.is_some_and(|meta| meta.is_directory()) {
            return Ok(());
        }
        check("MAX_PATH_DEPTH", MAX_PATH_DEPTH, crate::tree::parts(directory).count() as u64, directory)?;
        for name in self.tree.list(directory)? {
            let next = join(below, &name);
            if *part == b"**" {
                self.descend(base, &next, parts)?;
            } else if glob::matches(part, &name)
                .map_err(|_| BuildError::rejected(self.request.parents_pattern, CopyRule::Pattern))?
            {
                self.descend(base, &next, rest)?;
            }
        }
        Ok(())
    }

    fn take(&mut self, name: Vec<u8>, path: &[u8], meta: Meta, keeps_name: bool) -> Result<(), BuildError> {
        let mut below = Vec::new();
        if meta.is_directory() {
            self.walk(path, if keeps_name { &name } else { b"" }, &mut below)?;
        } else if meta.kind == MetaKind::Socket {
            return Err(BuildError::rejected(path, CopyRule::Kind));
        }
        self.count(path)?;
        let content = self.tree.content(path, &meta)?;
        self.selection.matches.push(Match { top: Picked { name, meta, content }, below, keeps_name });
        Ok(())
    }

    fn count(&mut self, path: &[u8]) -> Result<(), BuildError> {
        self.selection.entry_count += 1;
        check("MAX_LAYER_ENTRIES", MAX_LAYER_ENTRIES, self.selection.entry_count, path)
    }

    /// All below the directory `top`, in order, links as they are; sockets are passed over. `before` stands before the
    /// paths that are asked about.
    fn walk(&mut self, top: &[u8], before: &[u8], found: &mut Vec<Picked>) -> Result<(), BuildError> {
        let mut pending: Vec<Vec<u8>> = vec![Vec::new()];
        while let Some(below) = pending.pop() {
            self.check_cancelled()?;
            let directory = if below.is_empty() { top.to_vec() } else { join(top, &below) };
            check(
                "MAX_PATH_DEPTH",
                MAX_PATH_DEPTH,
                crate::tree::parts(&directory).count() as u64,
                &directory,
            )?;
            for name in self.tree.list(&directory)? {
                let (path, name) = (join(&directory, &name), join(&below, &name));
                let Some(meta) = self.tree.stat(&path)? else { continue };
                let is_directory = meta.is_directory();
                let is_excluded = (self.request.is_excluded)(&join(before, &name), is_directory);
                if is_directory {
                    // What is below an excluded directory may be included again.
                    pending.push(name.clone());
                }
                if is_excluded || meta.kind == MetaKind::Socket {
                    continue;
                }
                self.count(&path)?;
                let content = self.tree.content(&path, &meta)?;
                found.push(Picked { name, meta, content });
            }
        }
        found.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(())
    }

    fn check_cancelled(&self) -> Result<(), BuildError> {
        if (self.request.is_cancelled)() {
            return Err(BuildError::Cancelled { subject: self.tree.name().to_owned() });
        }
        Ok(())
    }
}
