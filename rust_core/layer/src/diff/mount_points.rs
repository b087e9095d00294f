//! What the engine made in a writable layer only to mount something on it: no change of the container's.

use std::collections::{BTreeSet, VecDeque};
use std::os::fd::AsFd;

use rustix::fs::FileType;

use super::node::Node;
use super::view::{self, Found, Roots, UPPER};
use super::walk::join;
use crate::entry::{components, split_last};
use crate::{LayerError, Limits};

/// The paths of the writable layer that are mount points and nothing else, and directories that hold only such, as far
/// as nothing else was changed about them.
///
/// `targets` are absolute paths inside, as the mounts name them: links on the way are followed in the tree. A target
/// counts if no layer below has it and it is as the engine makes it, an empty file or a directory without content.
pub(super) fn find(
    roots: &Roots,
    targets: &[Vec<u8>],
    limits: &Limits,
) -> Result<BTreeSet<Vec<u8>>, LayerError> {
    let mut found = BTreeSet::new();
    let mut candidates = BTreeSet::new();
    for target in targets {
        let Some(path) = resolve(roots, target, limits)? else { continue };
        let mut above: &[u8] = &path;
        while !above.is_empty() {
            candidates.insert((above.len(), above.to_vec()));
            above = split_last(above).0;
        }
    }
    // What lies deeper is longer than what it lies in, so that a directory comes after all that it holds.
    for (_, path) in candidates.into_iter().rev() {
        if is_artefact(roots, &path, &found)? {
            found.insert(path);
        }
    }
    Ok(found)
}

/// Where the target stands, links followed as if the tree were the root; `None` where there is nothing.
fn resolve(roots: &Roots, target: &[u8], limits: &Limits) -> Result<Option<Vec<u8>>, LayerError> {
    let mut left: VecDeque<Vec<u8>> = components(target).map(<[u8]>::to_vec).collect();
    let all: Vec<_> = [UPPER].into_iter().chain(roots.lowers()).collect();
    let mut here = vec![(Vec::new(), all)];
    let mut link_count = 0;
    while let Some(name) = left.pop_front() {
        match name.as_slice() {
            b"" | b"." => continue,
            b".." => {
                here.truncate(here.len().saturating_sub(1).max(1));
                continue;
            }
            _ => {}
        }
        let Some((path, merged)) = here.last() else { return Ok(None) };
        let members = roots.open(path, merged)?;
        let path = join(path, &name);
        match view::find(&members, &name)? {
            Found::Absent => return Ok(None),
            Found::Directory(roots) => here.push((path, roots)),
            Found::Leaf(root, status) => {
                if FileType::from_raw_mode(status.st_mode) != FileType::Symlink {
                    return Ok(left.is_empty().then_some(path));
                }
                link_count += 1;
                let place = members.iter().find(|member| member.root == root);
                let Some(place) = place.filter(|_| link_count <= limits.symlink_count) else {
                    return Ok(None);
                };
                let Some(node) = Node::open(place.fd.as_fd(), &name)? else { return Ok(None) };
                let text = node.link_text()?;
                if text.starts_with(b"/") {
                    here.truncate(1);
                }
                for component in text.split(|b| *b == b'/').rev() {
                    left.push_front(component.to_vec());
                }
            }
        }
    }
    Ok(here.pop().map(|(path, _)| path))
}

fn is_artefact(roots: &Roots, path: &[u8], found: &BTreeSet<Vec<u8>>) -> Result<bool, LayerError> {
    let (parent, name) = split_last(path);
    let opened = roots.open(parent, &[UPPER])?;
    let Some(upper) = opened.first() else { return Ok(false) };
    let Some(node) = Node::open(upper.fd.as_fd(), name)? else { return Ok(false) };
    let below = below(roots, path)?;
    match node.kind() {
        FileType::RegularFile => {
            let is_fresh = node.status.st_size == 0 && node.status.st_nlink == 1 && node.xattrs.is_empty();
            Ok(is_fresh && below.is_absent())
        }
        FileType::Directory => {
            let is_untouched = match &below {
                Found::Absent => true,
                Found::Directory(merged) => {
                    !node.steering.is_opaque && has_same_attributes(roots, &node, path, merged[0])?
                }
                Found::Leaf(..) => false,
            };
            Ok(is_untouched && holds_only(roots, path, found, below.is_absent())?)
        }
        _ => Ok(false),
    }
}

/// What the lower layers show at `path`.
fn below(roots: &Roots, path: &[u8]) -> Result<Found, LayerError> {
    let (mut here, mut merged) = (Vec::new(), roots.lowers());
    let mut names = components(path).peekable();
    while let Some(name) = names.next() {
        let members = roots.open(&here, &merged)?;
        match view::find(&members, name)? {
            Found::Directory(roots) => merged = roots,
            found if names.peek().is_none() => return Ok(found),
            _ => return Ok(Found::Absent),
        }
        here = join(&here, name);
    }
    Ok(if merged.is_empty() { Found::Absent } else { Found::Directory(merged) })
}

fn has_same_attributes(roots: &Roots, node: &Node, path: &[u8], lower: usize) -> Result<bool, LayerError> {
    let opened = roots.open(path, &[lower])?;
    let Some(lower) = opened.first() else { return Ok(false) };
    let Some(lower) = Node::open(lower.fd.as_fd(), b"")? else { return Ok(false) };
    Ok(same_attributes(node, &lower))
}

/// Mode, owner, group and extended attributes are the same.
pub(super) fn same_attributes(one: &Node, other: &Node) -> bool {
    let facts = |node: &Node| (node.status.st_mode, node.status.st_uid, node.status.st_gid);
    facts(one) == facts(other) && one.xattrs == other.xattrs
}

/// True if all that the directory holds are mount points; `may_be_empty` for one that no lower layer has.
fn holds_only(
    roots: &Roots,
    path: &[u8],
    found: &BTreeSet<Vec<u8>>,
    may_be_empty: bool,
) -> Result<bool, LayerError> {
    let opened = roots.open(path, &[UPPER])?;
    let Some(directory) = opened.first() else { return Ok(false) };
    let failed = |errno| LayerError::Io(crate::tree::io("getdents64", path, errno));
    let mut is_empty = true;
    for entry in rustix::fs::Dir::read_from(directory.fd.as_fd()).map_err(failed)? {
        let entry = entry.map_err(failed)?;
        let name = entry.file_name().to_bytes();
        if matches!(name, b"." | b"..") {
            continue;
        }
        is_empty = false;
        if !found.contains(&join(path, name)) {
            return Ok(false);
        }
    }
    Ok(may_be_empty || !is_empty)
}
