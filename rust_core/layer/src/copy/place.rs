//! A file under a name, whole or not at all, in a directory that others may be writing to.

use std::collections::hash_map::RandomState;
use std::fs::File;
use std::hash::{BuildHasher, Hasher};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};

use rustix::fs::{AtFlags, Dev, FileType, Mode, OFlags};
use rustix::io::Errno;

use super::root::{Place, Root};
use super::CopyError;
use crate::directory::attributes::{Attributes, Failure};
use crate::error::shown;

/// What a file is called until it has its name, where the file system cannot do without one.
const TEMPORARY_PREFIX: &str = ".fluyt-";
/// How often another name is tried where one is taken.
const MAX_NAME_ATTEMPTS: u32 = 16;
const NEW_MODE: Mode = Mode::from_raw_mode(0o600);

/// Why a name cannot be another file's.
pub(super) const MOUNTED: &str = "something is mounted on it or below it";

/// Where something is to stand.
#[derive(Clone, Copy)]
pub(super) struct Spot<'a> {
    pub directory: &'a Place,
    pub name: &'a [u8],
    /// For messages.
    pub path: &'a [u8],
}

/// Fills a new file.
pub(super) type Fill<'a> = dyn FnMut(&File) -> Result<(), CopyError> + 'a;

impl Spot<'_> {
    fn failed(&self, operation: &'static str) -> impl Fn(Errno) -> CopyError + '_ {
        move |errno| CopyError::call(operation, self.path, errno)
    }

    fn attribute_failed(&self, failure: Failure) -> CopyError {
        match failure {
            Failure::Call(operation, errno) => CopyError::call(operation, self.path, errno),
            Failure::Xattr => CopyError::rejected(self.path, crate::Rule::Xattr.to_string()),
        }
    }

    /// The name is a regular file with what `fill` writes and these attributes; until then it is what it was. What is
    /// mounted on the name is written in place.
    pub fn file(
        &self,
        mounted: Option<&Place>,
        attributes: &Attributes,
        maker: (u32, u32),
        fill: &mut Fill<'_>,
    ) -> Result<(), CopyError> {
        let new = NewFile::create(self)?;
        fill(&new.file)?;
        attributes.set(new.file.as_fd(), maker).map_err(|failure| self.attribute_failed(failure))?;
        if let Some(mounted) = mounted {
            return self.overwrite(mounted, &new.file);
        }
        new.put(self).map_err(self.failed("rename"))
    }

    /// The regular file that `mounted` holds has the bytes of `source`; owner and mode stay.
    fn overwrite(&self, mounted: &Place, source: &File) -> Result<(), CopyError> {
        mounted.check_writable(self.path)?;
        let kind = crate::tree::file_type(&mounted.stat(self.path)?);
        if kind != FileType::RegularFile {
            return Err(CopyError::call("rename", self.path, Errno::BUSY));
        }
        let flags = OFlags::WRONLY | OFlags::TRUNC | OFlags::CLOEXEC;
        let link = format!("/proc/self/fd/{}", mounted.as_fd().as_raw_fd());
        let mut target =
            File::from(rustix::fs::open(link, flags, Mode::empty()).map_err(self.failed("open"))?);
        let io = |operation| move |error: std::io::Error| CopyError::io(operation, self.path, &error);
        let mut source = source;
        std::io::Seek::rewind(&mut source).map_err(io("lseek"))?;
        std::io::copy(&mut source, &mut target).map_err(io("write"))?;
        Ok(())
    }

    /// The name is a link with this text.
    pub fn symlink(&self, target: &[u8], attributes: &Attributes) -> Result<(), CopyError> {
        let make = |name: &[u8]| rustix::fs::symlinkat(target, self.directory.as_fd(), name);
        self.node(true, attributes, "symlinkat", &make)
    }

    /// The name is a device or a pipe.
    pub fn device(&self, kind: FileType, device: Dev, attributes: &Attributes) -> Result<(), CopyError> {
        let make = |name: &[u8]| rustix::fs::mknodat(self.directory.as_fd(), name, kind, NEW_MODE, device);
        self.node(false, attributes, "mknodat", &make)
    }

    fn node(
        &self,
        is_link: bool,
        attributes: &Attributes,
        operation: &'static str,
        make: &dyn Fn(&[u8]) -> Result<(), Errno>,
    ) -> Result<(), CopyError> {
        let temporary = Temporary::make(self.directory, make).map_err(self.failed(operation))?;
        attributes
            .set_at(self.directory.as_fd(), &temporary.name, is_link)
            .map_err(|failure| self.attribute_failed(failure))?;
        temporary.rename(self.name).map_err(self.failed("rename"))
    }

    /// The name is one more name of what `target_name` in `target` is, a link itself.
    pub fn link(&self, target: &Place, target_name: &[u8]) -> Result<(), CopyError> {
        let make = |name: &[u8]| {
            rustix::fs::linkat(target.as_fd(), target_name, self.directory.as_fd(), name, AtFlags::empty())
        };
        let temporary = Temporary::make(self.directory, &make).map_err(self.failed("linkat"))?;
        temporary.rename(self.name).map_err(self.failed("rename"))
    }
}

/// A name that goes unless it is given up for another one.
struct Temporary<'a> {
    directory: &'a Place,
    name: Vec<u8>,
}

impl<'a> Temporary<'a> {
    fn make<T>(directory: &'a Place, make: &dyn Fn(&[u8]) -> Result<T, Errno>) -> Result<Self, Errno> {
        for _ in 0..MAX_NAME_ATTEMPTS {
            let name = format!("{TEMPORARY_PREFIX}{:016x}", RandomState::new().build_hasher().finish());
            match make(name.as_bytes()) {
                Ok(_) => return Ok(Self { directory, name: name.into_bytes() }),
                Err(Errno::EXIST) => {}
                Err(errno) => return Err(errno),
            }
        }
        Err(Errno::EXIST)
    }

    /// Two names of one file stay two by rename(2), so that the temporary one goes by itself in any case.
    fn rename(self, name: &[u8]) -> Result<(), Errno> {
        rustix::fs::renameat(self.directory.as_fd(), &self.name, self.directory.as_fd(), name)
    }
}

impl Drop for Temporary<'_> {
    fn drop(&mut self) {
        // It has its name by now, or nothing more can be done about it.
        let _ = rustix::fs::unlinkat(self.directory.as_fd(), &self.name, AtFlags::empty());
    }
}

/// A file without a name, or with one that nobody knows.
struct NewFile<'a> {
    file: File,
    temporary: Option<Temporary<'a>>,
}

impl<'a> NewFile<'a> {
    fn create(spot: &Spot<'a>) -> Result<Self, CopyError> {
        let flags = OFlags::RDWR | OFlags::CLOEXEC;
        let unnamed = rustix::fs::openat(spot.directory.as_fd(), c".", flags | OFlags::TMPFILE, NEW_MODE);
        match unnamed {
            Ok(fd) => return Ok(Self { file: File::from(fd), temporary: None }),
            // A file system, or a kernel, without such files.
            Err(Errno::OPNOTSUPP | Errno::ISDIR | Errno::INVAL) => {}
            Err(errno) => return Err(CopyError::call("open", spot.path, errno)),
        }
        let made = std::cell::RefCell::new(None::<OwnedFd>);
        let flags = flags | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW;
        let temporary = Temporary::make(spot.directory, &|name: &[u8]| {
            let fd = rustix::fs::openat(spot.directory.as_fd(), name, flags, NEW_MODE)?;
            *made.borrow_mut() = Some(fd);
            Ok(())
        })
        .map_err(spot.failed("openat"))?;
        let Some(fd) = made.into_inner() else {
            return Err(CopyError::call("openat", spot.path, Errno::BADF));
        };
        Ok(Self { file: File::from(fd), temporary: Some(temporary) })
    }

    /// Gives it its name, in place of what has it. A directory of that name stays: EISDIR.
    fn put(mut self, spot: &Spot<'a>) -> Result<(), Errno> {
        let temporary = match self.temporary.take() {
            Some(temporary) => temporary,
            None => {
                let link = format!("/proc/self/fd/{}", self.file.as_raw_fd());
                let named = |name: &[u8]| {
                    let directory = spot.directory.as_fd();
                    rustix::fs::linkat(rustix::fs::CWD, &link, directory, name, AtFlags::SYMLINK_FOLLOW)
                };
                match named(spot.name) {
                    Err(Errno::EXIST) => {}
                    answer => return answer,
                }
                Temporary::make(spot.directory, &named)?
            }
        };
        temporary.rename(spot.name)
    }
}

/// `name` goes with all in it, unless something is mounted on it or below it.
pub(super) fn remove(root: &Root, directory: &Place, name: &[u8], path: &[u8]) -> Result<(), CopyError> {
    let Some((place, _)) = root.step(directory, name, path)? else { return Ok(()) };
    let mut left = vec![(directory.clone(), place)];
    while let Some((above, place)) = left.pop() {
        if place.is_mounted_on(&above, path)? {
            return Err(CopyError::NotCopyable { path: shown(path), rule: MOUNTED.into() });
        }
        if crate::tree::file_type(&place.stat(path)?) != FileType::Directory {
            continue;
        }
        let listed = Root::open_listable(&place, path)?;
        let entries =
            rustix::fs::Dir::read_from(&listed).map_err(|e| CopyError::call("getdents64", path, e))?;
        for entry in entries {
            let entry = entry.map_err(|errno| CopyError::call("getdents64", path, errno))?;
            let name = entry.file_name().to_bytes();
            if matches!(name, b"." | b"..") {
                continue;
            }
            // Each that waits holds a descriptor, as each directory of a depth does.
            if let Some((below, status)) = root.step(&place, name, path)? {
                let is_directory = crate::tree::file_type(&status) == FileType::Directory;
                if is_directory {
                    left.push((place.clone(), below));
                } else if below.is_mounted_on(&place, path)? {
                    return Err(CopyError::NotCopyable { path: shown(path), rule: MOUNTED.into() });
                }
            }
        }
    }
    Ok(crate::tree::remove(directory.as_fd(), name)?)
}
