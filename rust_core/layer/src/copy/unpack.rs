//! The entries of a tar, put into a directory of a tree.

use std::os::fd::BorrowedFd;

use rustix::fs::{FileType, Mode};
use rustix::io::Errno;

use super::place::{remove, Spot, MOUNTED};
use super::root::{name_of, Place, Root};
use super::{CopyError, Ids};
use crate::directory::attributes::Attributes;
use crate::directory::nodes::write_data;
use crate::entry::{components, split_last};
use crate::error::shown;
use crate::tar::{ArchiveEnd, Chunks, TarReader};
use crate::tree::file_type;
use crate::{xattr, Entry, EntryData, EntryKind, Limits, Rule};

/// Mode of a directory that no entry told of.
const IMPLIED_MODE: u32 = 0o755;
/// Set-user-id and set-group-id.
const SET_ID_BITS: u32 = 0o6000;

/// What an archive calls its one tree, and what that is to be called; empty: the tree's content has no directory above it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rename {
    /// First part of each name in the archive; an entry with another one is refused.
    pub from: Vec<u8>,
    /// In its place.
    pub to: Vec<u8>,
}

/// How entries are put down.
#[derive(Debug, Clone, Default)]
pub struct UnpackOptions {
    /// User and group of all files; `None` as the entries say.
    pub owner: Option<(u32, u32)>,
    /// A file may take a directory's place and the other way round; else that is an error.
    pub replace_kinds: bool,
    /// Links that stand where an entry's directories should be are walked, within the root; else they are an error.
    pub follow_links: bool,
    /// What could give power on this side is left out or refused: set-id bits, attributes other than `user.`, devices.
    pub is_plain: bool,
    /// Another name for the tree.
    pub rename: Option<Rename>,
}

/// What was put down.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Placed {
    /// Entries.
    pub entry_count: u64,
    /// Bytes of files, without their holes.
    pub size_bytes: u64,
}

/// A directory of a tree that takes entries.
#[derive(Debug)]
pub struct Unpacker {
    root: Root,
    /// The way from the root to the directory.
    base: Vec<Place>,
    options: UnpackOptions,
    limits: Limits,
    subject: String,
    placed: Placed,
    /// With their holes.
    file_bytes: u64,
    /// What directories get at the end, when nothing is written into them any more.
    directories: Vec<(Vec<u8>, Attributes)>,
    held_bytes: u64,
    /// The directory of the entry before: most are followed by others of the same.
    here: Option<(Vec<u8>, Vec<Place>)>,
    /// Whose what this process makes is.
    maker: (u32, u32),
}

impl Unpacker {
    /// Into the directory `path`, which must be there. Blocking.
    ///
    /// # Errors
    /// `PATH_NOT_FOUND`, `PATH_WRONG_KIND`, `FILE_SYSTEM_READ_ONLY`, `IO_FAILED`.
    pub fn new(
        root: Root,
        path: &[u8],
        options: UnpackOptions,
        limits: &Limits,
        subject: &str,
    ) -> Result<Self, CopyError> {
        let base = root.resolve(&root.top(), path, true)?.into_directory(path)?;
        if let Some(directory) = base.last() {
            directory.check_writable(path)?;
        }
        let maker = root.ids().map_or_else(
            || (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw()),
            |ids| (ids.first_id, ids.first_id),
        );
        Ok(Self {
            root,
            base,
            options,
            limits: limits.clone(),
            subject: subject.to_owned(),
            placed: Placed::default(),
            file_bytes: 0,
            directories: Vec::new(),
            held_bytes: 0,
            here: None,
            maker,
        })
    }

    /// What owners show shifted by where it unpacks.
    pub(super) fn ids(&self) -> Option<Ids> {
        self.root.ids()
    }

    /// Everything beneath which it may come to write.
    pub(super) fn writable(&self) -> Vec<BorrowedFd<'_>> {
        self.root.all().collect()
    }

    /// All entries of the tar are there. Whatever fails, what came before stays, each file whole, and directories have
    /// their attributes. Blocking.
    ///
    /// # Errors
    /// `ENTRY_REJECTED`, `TAR_CORRUPT` (also for one without its end marker, which may have been cut), `LIMIT_EXCEEDED`,
    /// `PATH_WRONG_KIND`, `FILE_SYSTEM_READ_ONLY`, `STORAGE_FULL`, `IO_FAILED`, and what reading raises.
    pub fn run<C: Chunks>(mut self, chunks: C) -> Result<Placed, CopyError> {
        let mut reader = TarReader::new(chunks, &self.subject, &self.limits);
        let applied = self.apply_all(&mut reader);
        let settled = self.settle();
        applied.and(settled)?;
        // What follows the marker is read, so that whoever sends it can send it all.
        let end = reader.end();
        let mut rest = reader.into_chunks();
        while let count @ 1.. = rest.chunk()?.len() {
            rest.consume(count);
        }
        if end != Some(ArchiveEnd::Marked) {
            let detail = "the archive has no end marker: it may have been cut".to_owned();
            return Err(CopyError::Corrupt { detail });
        }
        Ok(self.placed)
    }

    fn apply_all<C: Chunks>(&mut self, reader: &mut TarReader<C>) -> Result<(), CopyError> {
        while let Some(entry) = reader.next_entry()? {
            self.apply(entry, reader)?;
        }
        Ok(())
    }

    fn apply(&mut self, mut entry: Entry, data: &mut dyn EntryData) -> Result<(), CopyError> {
        self.placed.entry_count += 1;
        let path = self.renamed(entry.path.as_bytes())?;
        let attributes = self.attributes(&mut entry)?;
        if path.is_empty() {
            // The directory itself is the receiver's, whatever the archive says of it.
            return match entry.kind {
                EntryKind::Directory => Ok(()),
                _ => Err(CopyError::rejected(b"", Rule::RootNotDirectory.to_string())),
            };
        }
        let (parent, name) = split_last(&path);
        let levels = self.enter(parent)?;
        let Some(directory) = levels.last() else { return Ok(()) };
        let existing = self.root.step(directory, name, &path)?;
        if let EntryKind::Directory = entry.kind {
            self.make_directory(directory, name, &path, existing.map(|(_, status)| file_type(&status)))?;
            return self.hold(path, attributes);
        }
        let mut mounted = None;
        if let Some((place, status)) = &existing {
            if file_type(status) == FileType::Directory {
                self.make_way(
                    directory,
                    name,
                    &path,
                    FileType::Directory,
                    "something else than a directory",
                )?;
            } else if place.is_mounted_on(directory, &path)? {
                mounted = Some(place);
            }
        }
        if mounted.is_some() && !matches!(entry.kind, EntryKind::File { .. }) {
            return Err(CopyError::NotCopyable { path: shown(&path), rule: MOUNTED.into() });
        }
        let spot = Spot { directory, name, path: &path };
        match &entry.kind {
            EntryKind::File { size_bytes, extents } => {
                self.count(*size_bytes, &path)?;
                let failed = |operation, error: &std::io::Error| {
                    crate::LayerError::from(errors::IoError::from_std(
                        operation,
                        crate::tree::bytes_path(&path),
                        error,
                    ))
                };
                spot.file(mounted, &attributes, self.maker, &mut |file| {
                    Ok(write_data(file, *size_bytes, extents.as_deref(), data, &failed)?)
                })?;
                self.placed.size_bytes += entry.data_size_bytes;
                Ok(())
            }
            EntryKind::Symlink { target } => spot.symlink(target, &attributes),
            EntryKind::Hardlink { target } => self.link(&spot, target.as_bytes()),
            EntryKind::Fifo => spot.device(FileType::Fifo, 0, &attributes),
            EntryKind::CharDevice { major, minor } => {
                self.device(&spot, FileType::CharacterDevice, (*major, *minor), &attributes)
            }
            EntryKind::BlockDevice { major, minor } => {
                self.device(&spot, FileType::BlockDevice, (*major, *minor), &attributes)
            }
            // The reader leaves markers uninterpreted, and directories are done.
            EntryKind::Directory | EntryKind::Whiteout | EntryKind::Opaque => Ok(()),
        }
    }

    /// The path with its new name.
    fn renamed(&self, path: &[u8]) -> Result<Vec<u8>, CopyError> {
        let Some(rename) = &self.options.rename else { return Ok(path.to_vec()) };
        let rest = if rename.from.is_empty() {
            path
        } else {
            match path.strip_prefix(rename.from.as_slice()) {
                Some(b"") => b"",
                Some([b'/', rest @ ..]) => rest,
                _ => return Err(CopyError::rejected(path, "the name is not below what was asked for")),
            }
        };
        Ok(match (rename.to.is_empty(), rest.is_empty()) {
            (true, _) => rest.to_vec(),
            (_, true) => rename.to.clone(),
            _ => crate::entry::join(&rename.to, rest),
        })
    }

    /// What the entry is to have, as it is outside of the container's user namespace.
    fn attributes(&self, entry: &mut Entry) -> Result<Attributes, CopyError> {
        let mut attributes = Attributes::of_entry(entry);
        if let Some((uid, gid)) = self.options.owner {
            (attributes.uid, attributes.gid) = (uid, gid);
        }
        if self.options.is_plain {
            attributes.mode &= !SET_ID_BITS;
            attributes.xattrs.retain(|(name, _)| name.starts_with(b"user."));
        }
        (attributes.uid, attributes.gid) =
            self.outside((attributes.uid, attributes.gid), entry.path.as_bytes())?;
        if let Some(ids) = self.root.ids() {
            let outside = attributes.xattrs.into_iter().map(|attribute| ids.attribute_outside(attribute));
            attributes.xattrs = outside.collect::<Option<_>>().ok_or_else(|| {
                let rule = "an access list names an id that the container does not have";
                CopyError::rejected(entry.path.as_bytes(), rule)
            })?;
        }
        Ok(attributes)
    }

    /// User and group as they are outside.
    fn outside(&self, (uid, gid): (u32, u32), path: &[u8]) -> Result<(u32, u32), CopyError> {
        let Some(ids) = self.root.ids() else { return Ok((uid, gid)) };
        match (ids.outside(uid), ids.outside(gid)) {
            (Some(uid), Some(gid)) => Ok((uid, gid)),
            (user, _) => {
                let id = if user.is_none() { uid } else { gid };
                let rule = format!("the id {id} is none of the container's {} ids", ids.count);
                Err(CopyError::rejected(path, rule))
            }
        }
    }

    /// The way to the directory `parent` below the base; what is missing is made.
    fn enter(&mut self, parent: &[u8]) -> Result<Vec<Place>, CopyError> {
        if let Some((path, levels)) = &self.here {
            if path == parent {
                return Ok(levels.clone());
            }
        }
        let mut levels = self.base.clone();
        let mut path = Vec::new();
        for name in components(parent) {
            crate::entry::push(&mut path, name);
            let Some(here) = levels.last() else { break };
            let found = self.root.resolve(&levels, name, self.options.follow_links)?;
            match &found.place {
                Some((_, status)) if file_type(status) == FileType::Directory => {
                    levels = found.into_directory(&path)?;
                    continue;
                }
                Some((_, status)) => {
                    self.make_way(here, name, &path, file_type(status), name_of(FileType::Directory))?;
                }
                // A link that leads nowhere is in the way as any other.
                None if found.name != name => {
                    self.make_way(here, name, &path, FileType::Symlink, name_of(FileType::Directory))?;
                }
                None => {}
            }
            self.make_directory(here, name, &path, None)?;
            let (uid, gid) = match self.options.owner {
                Some(owner) => self.outside(owner, &path)?,
                None => self.maker,
            };
            self.hold(path.clone(), Attributes { mode: IMPLIED_MODE, uid, gid, ..Attributes::default() })?;
            levels = self.root.resolve(&levels, name, false)?.into_directory(&path)?;
        }
        if let Some(directory) = levels.last() {
            directory.check_writable(parent)?;
        }
        self.here = Some((parent.to_vec(), levels.clone()));
        Ok(levels)
    }

    /// The directory `name` is there, closed to others until it has its attributes.
    fn make_directory(
        &self,
        directory: &Place,
        name: &[u8],
        path: &[u8],
        existing: Option<FileType>,
    ) -> Result<(), CopyError> {
        match existing {
            Some(FileType::Directory) => return Ok(()),
            Some(kind) => self.make_way(directory, name, path, kind, name_of(FileType::Directory))?,
            None => {}
        }
        match rustix::fs::mkdirat(directory.as_fd(), name, Mode::from_raw_mode(0o700)) {
            // Somebody else made it since it was looked for; what it is, is found out when it is entered.
            Ok(()) | Err(Errno::EXIST) => Ok(()),
            Err(errno) => Err(CopyError::call("mkdirat", path, errno)),
        }
    }

    /// What has the name goes, if it may.
    fn make_way(
        &self,
        directory: &Place,
        name: &[u8],
        path: &[u8],
        found: FileType,
        wanted: &'static str,
    ) -> Result<(), CopyError> {
        if !self.options.replace_kinds {
            return Err(CopyError::WrongKind { path: shown(path), found: name_of(found), wanted });
        }
        remove(&self.root, directory, name, path)
    }

    fn link(&self, spot: &Spot<'_>, target: &[u8]) -> Result<(), CopyError> {
        let target = self.renamed(target)?;
        let found = self.root.resolve(&self.base, &target, false)?;
        let (Some((_, status)), Some(parent)) = (&found.place, found.parents.last()) else {
            return Err(CopyError::rejected(spot.path, "the hard link's target is not there"));
        };
        if file_type(status) == FileType::Directory {
            return Err(CopyError::rejected(spot.path, Rule::HardlinkToDirectory.to_string()));
        }
        spot.link(parent, &found.name)
    }

    fn device(
        &self,
        spot: &Spot<'_>,
        kind: FileType,
        (major, minor): (u32, u32),
        attributes: &Attributes,
    ) -> Result<(), CopyError> {
        if self.options.is_plain {
            return Err(CopyError::rejected(spot.path, "a device is made only where owners are kept"));
        }
        if kind == FileType::CharacterDevice && (major, minor) == (0, 0) {
            return Err(CopyError::rejected(spot.path, "the device 0:0 would hide a file of the image"));
        }
        spot.device(kind, rustix::fs::makedev(major, minor), attributes)
    }

    fn count(&mut self, size_bytes: u64, path: &[u8]) -> Result<(), CopyError> {
        self.file_bytes = self.file_bytes.saturating_add(size_bytes);
        self.check("layer_size_bytes", self.limits.layer_size_bytes, self.file_bytes, path)
    }

    fn hold(&mut self, path: Vec<u8>, attributes: Attributes) -> Result<(), CopyError> {
        const OVERHEAD_BYTES: u64 = 128;
        self.held_bytes += path.len() as u64 + xattr::weight(&attributes.xattrs) + OVERHEAD_BYTES;
        self.check("pending_bytes", self.limits.pending_bytes, self.held_bytes, &path)?;
        self.directories.push((path, attributes));
        Ok(())
    }

    fn check(
        &self,
        limit: &'static str,
        limit_value: u64,
        actual: u64,
        path: &[u8],
    ) -> Result<(), CopyError> {
        if actual > limit_value {
            let subject = format!("{}: entry {:?}", self.subject, shown(path));
            return Err(crate::LayerError::LimitExceeded { limit, limit_value, actual, subject }.into());
        }
        Ok(())
    }

    /// Directories get their attributes, what lies deeper first: a directory may be closed to us by its own.
    fn settle(&mut self) -> Result<(), CopyError> {
        let mut outcome = Ok(());
        for (path, attributes) in std::mem::take(&mut self.directories).into_iter().rev() {
            outcome = outcome.and(self.settle_one(&path, &attributes));
        }
        outcome
    }

    fn settle_one(&self, path: &[u8], attributes: &Attributes) -> Result<(), CopyError> {
        let (parent, name) = split_last(path);
        let found = match self.root.resolve(&self.base, parent, self.options.follow_links) {
            // Whoever took it away since has no use for its attributes.
            Err(CopyError::NotFound { .. } | CopyError::WrongKind { .. }) => return Ok(()),
            found => found?,
        };
        let Ok(levels) = found.into_directory(parent) else { return Ok(()) };
        let Some(directory) = levels.last() else { return Ok(()) };
        let Some((place, status)) = self.root.step(directory, name, path)? else { return Ok(()) };
        if file_type(&status) != FileType::Directory {
            return Ok(());
        }
        let fd = Root::open_listable(&place, path)?;
        let failed = |failure| match failure {
            crate::directory::attributes::Failure::Call(operation, errno) => {
                CopyError::call(operation, path, errno)
            }
            crate::directory::attributes::Failure::Xattr => {
                CopyError::rejected(path, Rule::Xattr.to_string())
            }
        };
        attributes.set(std::os::fd::AsFd::as_fd(&fd), (status.st_uid, status.st_gid)).map_err(failed)
    }
}
