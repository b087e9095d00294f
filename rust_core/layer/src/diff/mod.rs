//! What a container's writable layer gives back: a layer of its changes, a list of them, or the whole tree as tar.
//!
//! The tree is read as overlayfs would merge it, by fd and without a mount, so that it does not matter whether the
//! container runs, which kind of store keeps the layers below, or what links the container made: no path is ever
//! resolved by string, no link followed and no device opened.
//!
//! What overlayfs writes down becomes what a layer says: whiteouts and opaque directories become markers, and only where
//! a layer below has something to hide; its own attributes are never given out. Directories that overlayfs moved
//! (`redirect_dir`) cannot occur under the options that the engine mounts with, since rename(2) of a lower directory
//! fails with EXDEV there; one that is met all the same is refused, not lost (cases B23, M10).
//!
//! Source: OCI image-spec layer.md; kernel, Documentation/filesystems/overlayfs.rst.

mod changes;
mod mount_points;
pub(crate) mod node;
pub(crate) mod stream;
pub(crate) mod view;
pub(crate) mod walk;

use std::os::fd::OwnedFd;
use std::path::Path;

pub use changes::{Change, ChangeKind};
use stream::Tree;
pub use stream::{StreamFacts, TarStream};
use view::Roots;
use walk::{Scope, Walk};

use crate::tree::open_root;
use crate::{LayerError, Limits, LowerView};

/// A writable layer above stored ones.
#[derive(Debug)]
pub struct WritableTree {
    roots: Roots,
    limits: Limits,
    subject: String,
}

impl WritableTree {
    /// The tree of the directory `upper`, which the engine made itself, over `lowers`. `subject` names it in errors.
    ///
    /// # Errors
    /// `IO_FAILED` if there is no such directory.
    pub fn open(upper: &Path, lowers: LowerView, limits: &Limits, subject: &str) -> Result<Self, LayerError> {
        Ok(Self::new(open_root(upper)?, lowers, limits, subject))
    }

    /// As [`open`](Self::open) for an open directory.
    pub fn new(upper: OwnedFd, lowers: LowerView, limits: &Limits, subject: &str) -> Self {
        let roots = Roots::new(upper, lowers.into_roots());
        Self { roots, limits: limits.clone(), subject: subject.to_owned() }
    }

    fn changed(self, mount_points: &[Vec<u8>]) -> Result<Walk, LayerError> {
        let skipped = mount_points::find(&self.roots, mount_points, &self.limits)?;
        Ok(Walk::new(self.roots, Scope::Changes, skipped, &self.limits, &self.subject))
    }

    /// The changes as the uncompressed tar of a layer: the same tree gives the same bytes. Extracted over the same
    /// layers it gives the tree that the container sees, but for sockets and what is mounted there.
    ///
    /// `mount_points`: absolute paths inside on which something is mounted; where the engine made them, they and the
    /// directories made for them are left out. Blocking (looks at each of them).
    ///
    /// # Errors
    /// `IO_FAILED`; reading the answer fails as [`TarStream::read`] says.
    pub fn into_layer_tar(self, mount_points: &[Vec<u8>]) -> Result<TarStream, LayerError> {
        let (limits, subject) = (self.limits.clone(), self.subject.clone());
        Ok(TarStream::new(Tree::Merged(self.changed(mount_points)?), Scope::Changes, &limits, &subject))
    }

    /// All that the merged tree shows as tar, `/` first, mount points as they are below what is mounted there.
    pub fn into_whole_tar(self) -> TarStream {
        let (limits, subject) = (self.limits.clone(), self.subject.clone());
        let walk = Walk::new(self.roots, Scope::Whole, Default::default(), &self.limits, &self.subject);
        TarStream::new(Tree::Merged(walk), Scope::Whole, &limits, &subject)
    }

    /// Every path that is other than in the layers below, a directory before what is in it; `/` itself is not told.
    /// Of a directory in whose place another one was made, what the new one lacks is told as deleted. Blocking.
    ///
    /// # Errors
    /// `LIMIT_EXCEEDED`, `FILE_UNREPRESENTABLE` for a moved directory, `CANCELLED`, `IO_FAILED`.
    ///
    /// Source: the rules of `docker diff`, moby `pkg/archive/changes.go`.
    pub fn changes(
        self,
        mount_points: &[Vec<u8>],
        is_cancelled: &dyn Fn() -> bool,
    ) -> Result<Vec<Change>, LayerError> {
        let (limits, subject) = (self.limits.clone(), self.subject.clone());
        changes::collect(self.changed(mount_points)?, &limits, &subject, is_cancelled)
    }
}
