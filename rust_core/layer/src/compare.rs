//! Two trees of the kind `directory` that ought to be the same: what was stored, and what the same blob gives again.

use std::collections::{BTreeSet, HashMap};
use std::fs::File;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::FileExt;

use rustix::fs::{FileType, Mode, OFlags, Stat};
use rustix::io::Errno;

use crate::error::shown;
use crate::tree::{self, file_type, io};
use crate::xattr::HOST_LABEL;
use crate::LayerError;

/// Bytes compared between two looks at the cancel flag.
const STEP_BYTES: usize = 256 * 1024;
/// Most bytes of the names of one file's extended attributes, and of one value. Source: xattr(7), `XATTR_LIST_MAX` and
/// `XATTR_SIZE_MAX`.
const XATTR_BYTES: usize = 65_536;

/// How two trees are compared.
pub(crate) struct Comparison<'a> {
    /// A directory or whiteout of the new tree that is not older has no time of its own: the archive does not give it
    /// one.
    pub written_since_seconds: i64,
    /// Told of each byte that was read and found the same.
    pub compared: &'a dyn Fn(u64),
    /// Asked between pieces of work.
    pub is_cancelled: &'a dyn Fn() -> bool,
}

struct Level {
    path: Vec<u8>,
    stored: OwnedFd,
    made: OwnedFd,
    names: std::vec::IntoIter<Vec<u8>>,
}

/// Inode of each file with several names, in the stored and in the new tree.
#[derive(Default)]
struct Links {
    stored: HashMap<u64, u64>,
    made: HashMap<u64, u64>,
}

impl Comparison<'_> {
    /// The first difference, in words, of the tree `stored` from the tree `made`; `None` if there is none. Both are
    /// roots open for reading. Blocking (reads both whole).
    pub fn difference(&self, stored: OwnedFd, made: OwnedFd) -> Result<Option<String>, LayerError> {
        let (at_root, to_root) = (status(&stored)?, status(&made)?);
        if let Some(found) = self.attributes(b"", &at_root, &to_root) {
            return Ok(Some(found));
        }
        let mut links = Links::default();
        let mut levels = Vec::new();
        if let Some(found) = self.enter(&mut levels, Vec::new(), stored, made)? {
            return Ok(Some(found));
        }
        while let Some(level) = levels.last_mut() {
            let Some(name) = level.names.next() else {
                levels.pop();
                continue;
            };
            if (self.is_cancelled)() {
                return Err(LayerError::Cancelled { subject: shown(&level.path) });
            }
            let path = [level.path.as_slice(), &name]
                .into_iter()
                .filter(|part| !part.is_empty())
                .collect::<Vec<_>>();
            let path = path.join(&b'/');
            let (stored, made) = (level.stored.as_fd(), level.made.as_fd());
            if let Some(found) = self.entry(stored, made, &name, &path, &mut links)? {
                return Ok(Some(found));
            }
            if is_directory(stored, &name)? {
                let open = |parent| {
                    tree::open_dir_readable(parent, &name).map_err(|errno| io("openat", &path, errno))
                };
                let (stored, made) = (open(stored)?, open(made)?);
                if let Some(found) = self.enter(&mut levels, path, stored, made)? {
                    return Ok(Some(found));
                }
            }
        }
        Ok(None)
    }

    /// Goes into two directories, if they hold the same names.
    fn enter(
        &self,
        levels: &mut Vec<Level>,
        path: Vec<u8>,
        stored: OwnedFd,
        made: OwnedFd,
    ) -> Result<Option<String>, LayerError> {
        let (has, should) = (names(stored.as_fd(), &path)?, names(made.as_fd(), &path)?);
        if let Some(name) = has.difference(&should).next() {
            return Ok(Some(format!("{} does not belong there", inside(&path, name))));
        }
        if let Some(name) = should.difference(&has).next() {
            return Ok(Some(format!("{} is missing", inside(&path, name))));
        }
        if let Some(found) = same_xattrs(stored.as_fd(), made.as_fd(), b".", &path)? {
            return Ok(Some(found));
        }
        levels.push(Level { path, stored, made, names: should.into_iter().collect::<Vec<_>>().into_iter() });
        Ok(None)
    }

    fn entry(
        &self,
        stored: BorrowedFd<'_>,
        made: BorrowedFd<'_>,
        name: &[u8],
        path: &[u8],
        links: &mut Links,
    ) -> Result<Option<String>, LayerError> {
        let look = |parent| tree::stat(parent, name).map_err(|errno| io("fstatat", path, errno));
        let (Some(is), Some(should)) = (look(stored)?, look(made)?) else {
            return Ok(Some(format!("{} went away meanwhile", shown(path))));
        };
        if let Some(found) = self.attributes(path, &is, &should) {
            return Ok(Some(found));
        }
        let kind = file_type(&should);
        if kind != FileType::Directory && (is.st_nlink > 1 || should.st_nlink > 1) {
            let pair =
                (links.stored.insert(is.st_ino, should.st_ino), links.made.insert(should.st_ino, is.st_ino));
            let is_new = pair == (None, None);
            if !is_new && pair != (Some(should.st_ino), Some(is.st_ino)) {
                return Ok(Some(format!("{} is another hard link", shown(path))));
            }
            if !is_new {
                return Ok(None);
            }
        }
        match kind {
            FileType::RegularFile if !self.same_bytes(stored, made, name, path, is.st_size)? => {
                return Ok(Some(format!("{} has other content", shown(path))));
            }
            FileType::Symlink => {
                let read = |parent| {
                    rustix::fs::readlinkat(parent, name, Vec::new())
                        .map_err(|errno| io("readlinkat", path, errno))
                };
                if read(stored)? != read(made)? {
                    return Ok(Some(format!("{} links to elsewhere", shown(path))));
                }
            }
            // Those of a directory are looked at when it is entered.
            FileType::Directory => return Ok(None),
            _ => {}
        }
        same_xattrs(stored, made, name, path)
    }

    fn attributes(&self, path: &[u8], is: &Stat, should: &Stat) -> Option<String> {
        let kind = file_type(should);
        let what = if path.is_empty() { "the root".to_owned() } else { shown(path) };
        if file_type(is) != kind {
            return Some(format!("{what} is of another type"));
        }
        if kind != FileType::Symlink && is.st_mode != should.st_mode {
            let bits = |status: &Stat| status.st_mode & 0o7777;
            return Some(format!("{what} has mode {:o}, not {:o}", bits(is), bits(should)));
        }
        if (is.st_uid, is.st_gid) != (should.st_uid, should.st_gid) {
            let (owner, expected) = ((is.st_uid, is.st_gid), (should.st_uid, should.st_gid));
            return Some(format!(
                "{what} belongs to {}:{}, not {}:{}",
                owner.0, owner.1, expected.0, expected.1
            ));
        }
        if kind == FileType::RegularFile && is.st_size != should.st_size {
            return Some(format!("{what} has {} bytes, not {}", is.st_size, should.st_size));
        }
        let is_device = matches!(kind, FileType::CharacterDevice | FileType::BlockDevice);
        if is_device && is.st_rdev != should.st_rdev {
            return Some(format!("{what} is another device"));
        }
        let times = |status: &Stat| (status.st_mtime, status.st_mtime_nsec);
        let is_whiteout = kind == FileType::CharacterDevice && should.st_rdev == 0;
        let may_be_untimed = kind == FileType::Directory || is_whiteout;
        let is_untimed = may_be_untimed && should.st_mtime >= self.written_since_seconds;
        if !is_untimed && times(is) != times(should) {
            return Some(format!("{what} was changed at {}, not {}", is.st_mtime, should.st_mtime));
        }
        None
    }

    fn same_bytes(
        &self,
        stored: BorrowedFd<'_>,
        made: BorrowedFd<'_>,
        name: &[u8],
        path: &[u8],
        size: i64,
    ) -> Result<bool, LayerError> {
        let open = |parent: BorrowedFd<'_>| {
            let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NOFOLLOW;
            let fd = rustix::fs::openat(parent, name, flags, Mode::empty());
            fd.map(File::from).map_err(|errno| io("openat", path, errno))
        };
        let (stored, made) = (open(stored)?, open(made)?);
        let size = u64::try_from(size).unwrap_or(0);
        let (mut one, mut other, mut at) = (vec![0; STEP_BYTES], vec![0; STEP_BYTES], 0);
        while at < size {
            if (self.is_cancelled)() {
                return Err(LayerError::Cancelled { subject: shown(path) });
            }
            let count = usize::try_from(size - at).unwrap_or(STEP_BYTES).min(STEP_BYTES);
            for (file, buffer) in [(&stored, &mut one), (&made, &mut other)] {
                let read = file.read_exact_at(&mut buffer[..count], at);
                read.map_err(|error| errors::IoError::from_std("pread", tree::bytes_path(path), &error))?;
            }
            if one[..count] != other[..count] {
                return Ok(false);
            }
            at += count as u64;
            (self.compared)(count as u64);
        }
        Ok(true)
    }
}

fn inside(path: &[u8], name: &[u8]) -> String {
    if path.is_empty() {
        return shown(name);
    }
    shown(&[path, name].join(&b'/'))
}

fn status(root: &OwnedFd) -> Result<Stat, LayerError> {
    Ok(rustix::fs::fstat(root).map_err(|errno| io("fstat", b"", errno))?)
}

fn is_directory(parent: BorrowedFd<'_>, name: &[u8]) -> Result<bool, LayerError> {
    let found = tree::stat(parent, name).map_err(|errno| io("fstatat", name, errno))?;
    Ok(found.is_some_and(|status| file_type(&status) == FileType::Directory))
}

fn names(directory: BorrowedFd<'_>, path: &[u8]) -> Result<BTreeSet<Vec<u8>>, LayerError> {
    let failed = |errno| io("getdents64", path, errno);
    let mut found = BTreeSet::new();
    for entry in rustix::fs::Dir::read_from(directory).map_err(failed)? {
        let entry = entry.map_err(failed)?;
        let name = entry.file_name().to_bytes();
        if !matches!(name, b"." | b"..") {
            found.insert(name.to_vec());
        }
    }
    Ok(found)
}

fn same_xattrs(
    stored: BorrowedFd<'_>,
    made: BorrowedFd<'_>,
    name: &[u8],
    path: &[u8],
) -> Result<Option<String>, LayerError> {
    let read = |parent| xattrs(parent, name).map_err(|errno| io("llistxattr", path, errno));
    let (has, should) = (read(stored)?, read(made)?);
    if has == should {
        return Ok(None);
    }
    let is_other = |(attribute, value): &(&Vec<u8>, &Vec<u8>)| should.get(*attribute) != Some(*value);
    let other = has.iter().find(is_other).map(|(attribute, _)| attribute);
    let attribute = other.or_else(|| should.keys().find(|attribute| !has.contains_key(*attribute)));
    let what = if path.is_empty() { "the root".to_owned() } else { shown(path) };
    Ok(Some(format!("{what} has another attribute {}", shown(attribute.map_or(b"", Vec::as_slice)))))
}

/// Every attribute of `name` in `parent` itself but the host's label. Links and devices cannot be opened, so that the
/// path goes through procfs to the directory held by fd and takes one component, which is not followed.
fn xattrs(parent: BorrowedFd<'_>, name: &[u8]) -> Result<HashMap<Vec<u8>, Vec<u8>>, Errno> {
    let mut path = format!("/proc/self/fd/{}/", parent.as_raw_fd()).into_bytes();
    path.extend_from_slice(name);
    let mut names = vec![0u8; XATTR_BYTES];
    let size = match rustix::fs::llistxattr(path.as_slice(), &mut names) {
        Ok(size) => size,
        Err(Errno::NOTSUP) => 0,
        Err(errno) => return Err(errno),
    };
    let mut found = HashMap::new();
    for attribute in
        names[..size].split(|byte| *byte == 0).filter(|name| !name.is_empty() && *name != HOST_LABEL)
    {
        let mut value = vec![0u8; XATTR_BYTES];
        match rustix::fs::lgetxattr(path.as_slice(), attribute, &mut value) {
            Ok(size) => found.insert(attribute.to_vec(), value[..size].to_vec()),
            Err(Errno::NODATA) => None,
            Err(errno) => return Err(errno),
        };
    }
    Ok(found)
}
