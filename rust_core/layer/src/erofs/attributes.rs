//! Owner, mode, times and extended attributes as the index holds them.
//!
//! The directory kind learns from setxattr(2) what may be kept; here the same answers are given without asking, so that
//! a layer looks the same in both.

use ::erofs::{Attributes, ImageError, Kind, Tree, XattrSet};
use rustix::fs::Stat;

use super::acl;
use crate::{Entry, EntryKind, Rule, Time, Xattr};

/// Linux's XATTR_NAME_MAX (limits.h).
const XATTR_NAME_BYTES_MAX: usize = 255;
const CAPABILITY: &[u8] = b"security.capability";

/// Why attributes cannot be kept.
#[derive(Debug)]
pub(super) enum Fault {
    /// A rule is broken.
    Rule(Rule),
    /// The index has no room.
    Image(ImageError),
}

/// What an attribute comes to.
enum Answer {
    Keep,
    /// Left out, as other engines do with what a file system or a type of file cannot hold.
    Drop,
}

impl From<Rule> for Fault {
    fn from(rule: Rule) -> Self {
        Self::Rule(rule)
    }
}

/// The type that an entry makes.
pub(super) fn kind_of(kind: &EntryKind) -> Kind {
    match kind {
        EntryKind::Directory | EntryKind::Opaque => Kind::Directory,
        EntryKind::File { .. } | EntryKind::Hardlink { .. } => Kind::File,
        EntryKind::Symlink { .. } => Kind::Symlink,
        EntryKind::CharDevice { .. } | EntryKind::Whiteout => Kind::CharDevice,
        EntryKind::BlockDevice { .. } => Kind::BlockDevice,
        EntryKind::Fifo => Kind::Fifo,
    }
}

pub(super) fn of_entry(tree: &mut Tree, entry: &Entry) -> Result<Attributes, Fault> {
    let kind = kind_of(&entry.kind);
    let mode = if kind == Kind::Symlink { 0o777 } else { entry.mode };
    build(tree, kind, mode, (entry.uid, entry.gid), entry.mtime, &entry.xattrs)
}

/// Those of a file of a lower layer.
pub(super) fn of_status(
    tree: &mut Tree,
    kind: Kind,
    status: &Stat,
    xattrs: &[Xattr],
) -> Result<Attributes, Fault> {
    let nanos = u32::try_from(status.st_mtime_nsec).unwrap_or(0);
    let mtime = Time { seconds: status.st_mtime, nanos };
    build(tree, kind, status.st_mode & 0o7777, (status.st_uid, status.st_gid), mtime, xattrs)
}

fn build(
    tree: &mut Tree,
    kind: Kind,
    mode: u32,
    (uid, gid): (u32, u32),
    mtime: Time,
    xattrs: &[Xattr],
) -> Result<Attributes, Fault> {
    // Twelve bits, by the reader's word.
    let mut mode = u16::try_from(mode & 0o7777).unwrap_or(0);
    let mut kept = Vec::new();
    for (name, value) in xattrs {
        if let Answer::Keep = answer(kind, name, value, &mut mode)? {
            kept.push((name.as_slice(), value.as_slice()));
        }
    }
    let xattrs = tree.xattrs(XattrSet::default(), kept).map_err(|error| match error {
        ImageError::XattrName | ImageError::XattrSize => Fault::Rule(Rule::Xattr),
        error => Fault::Image(error),
    })?;
    Ok(Attributes { mode, uid, gid, mtime_seconds: mtime.seconds, mtime_nanos: mtime.nanos, xattrs })
}

/// What setxattr(2) on a file system with all handlers would answer. An access list changes the mode.
fn answer(kind: Kind, name: &[u8], value: &[u8], mode: &mut u16) -> Result<Answer, Rule> {
    if name.is_empty() || name.len() > XATTR_NAME_BYTES_MAX || name.contains(&0) {
        return Err(Rule::Xattr);
    }
    // xattr(7): user attributes are for regular files and directories only. The kernel looks at this first.
    if name.starts_with(b"user.") && !matches!(kind, Kind::File | Kind::Directory) {
        return Ok(Answer::Drop);
    }
    if matches!(name, b"user." | b"trusted." | b"security.") {
        return Err(Rule::Xattr);
    }
    if matches!(name, acl::ACCESS | acl::DEFAULT) {
        return acl_answer(kind, name, value, mode);
    }
    if name == CAPABILITY && !is_capability(value) {
        return Err(Rule::Xattr);
    }
    let is_held = [&b"trusted."[..], b"security.", b"user."].iter().any(|prefix| name.starts_with(prefix));
    Ok(if is_held { Answer::Keep } else { Answer::Drop })
}

fn acl_answer(kind: Kind, name: &[u8], value: &[u8], mode: &mut u16) -> Result<Answer, Rule> {
    if kind == Kind::Symlink {
        return Ok(Answer::Drop);
    }
    let Some(list) = acl::parse(value).ok_or(Rule::Xattr)? else { return Ok(Answer::Drop) };
    if name == acl::DEFAULT {
        return if kind == Kind::Directory { Ok(Answer::Keep) } else { Err(Rule::Xattr) };
    }
    *mode = *mode & !0o777 | list.mode;
    Ok(if list.is_mode_only { Answer::Drop } else { Answer::Keep })
}

/// As validheader() of security/commoncap.c: version 2 without, version 3 with the root's user id.
fn is_capability(value: &[u8]) -> bool {
    let version = value.first_chunk::<4>().map(|magic| u32::from_le_bytes(*magic) & 0xff00_0000);
    matches!((version, value.len()), (Some(0x0200_0000), 20) | (Some(0x0300_0000), 24))
}
