//! The control groups of this host: its layout, and the parents that were already made in it.

use std::collections::HashMap;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use rustix::fs::{Dir, FileType, Mode, OFlags};
use rustix::io::Errno;

use crate::files::{self, io};
use crate::{CgroupError, Layout, Version};

/// The longest `parent` setting.
const MAX_PARENT_BYTES: usize = 1024;
/// The longest name of a directory.
const MAX_NAME_BYTES: usize = 255;

/// Controllers in whose hierarchies a group of ours may lie; in others none is ever made.
pub(crate) const MANAGED: [&str; 9] =
    ["memory", "pids", "cpu", "devices", "cpuset", "cpuacct", "freezer", "blkio", "hugetlb"];

/// Ends the name of a parent that systemd has made for one container alone. Source: systemd.scope(5).
const SCOPE: &str = ".scope";

/// Prepared parents that are kept open; beyond that all are given up and made ready anew when they are needed.
pub const MAX_KEPT_PARENTS: usize = 256;

/// Makes, finds and removes groups at `<mount point>/<parent>/<name>` of each hierarchy. `parent` is a path from
/// the mount point, whatever group this process is in. One for a process; any thread may use it.
#[derive(Debug)]
pub struct CgroupHost {
    layout: Layout,
    parents: Mutex<HashMap<(String, usize), Arc<OwnedFd>>>,
}

impl CgroupHost {
    /// Reads this host's layout. Blocking.
    ///
    /// # Errors
    /// [`CgroupError::NoFileSystem`] on a host without cgroups.
    pub fn open() -> Result<Self, CgroupError> {
        Ok(Self::with_layout(Layout::read()?))
    }

    /// Works on this layout, for tests one of temporary directories.
    #[must_use]
    pub fn with_layout(layout: Layout) -> Self {
        Self { layout, parents: Mutex::default() }
    }

    /// What the host mounts.
    #[must_use]
    pub fn layout(&self) -> &Layout {
        &self.layout
    }

    /// Names of the child groups of `parent` in any hierarchy, sorted, each once; empty if `parent` is absent.
    /// Blocking.
    ///
    /// # Errors
    /// [`CgroupError::FieldInvalid`] for a parent that is no path; [`CgroupError::Io`].
    pub fn list_groups(&self, parent: &str) -> Result<Vec<String>, CgroupError> {
        let parent = check_parent(parent)?;
        let mut names = Vec::new();
        for index in self.managed() {
            names.extend(children(&self.mount_point(index).join(parent))?);
        }
        names.sort();
        names.dedup();
        Ok(names)
    }

    /// Content of a control file of the group in the hierarchy that has it, None if no hierarchy has. At most
    /// [`crate::MAX_CONTROL_FILE_BYTES`]. Blocking.
    ///
    /// # Errors
    /// [`CgroupError::FieldInvalid`] for a name that is a path; [`CgroupError::Io`].
    pub fn read_file(&self, parent: &str, name: &str, file: &str) -> Result<Option<String>, CgroupError> {
        check_name("file", file)?;
        for path in self.paths(parent, name)? {
            let directory = match files::directory(&path) {
                Ok(directory) => directory,
                Err(Errno::NOENT) => continue,
                Err(errno) => return Err(io("open", &path, errno)),
            };
            match files::read(directory.as_fd(), Path::new(file)) {
                Ok(content) => return Ok(Some(content)),
                // ENODEV: the group was removed while it was read.
                Err(Errno::NOENT | Errno::NODEV) => {}
                Err(errno) => return Err(io("read", &path.join(file), errno)),
            }
        }
        Ok(None)
    }

    /// Places of the hierarchies in which groups of ours may lie.
    pub(crate) fn managed(&self) -> impl Iterator<Item = usize> + '_ {
        self.layout.hierarchies().iter().enumerate().filter_map(|(index, hierarchy)| {
            let is_managed =
                hierarchy.version == Version::V2 || MANAGED.iter().any(|name| hierarchy.has(name));
            is_managed.then_some(index)
        })
    }

    pub(crate) fn mount_point(&self, index: usize) -> &Path {
        &self.layout.hierarchies()[index].mount_point
    }

    pub(crate) fn version(&self, index: usize) -> Version {
        self.layout.hierarchies()[index].version
    }

    /// The group's directories in every managed hierarchy, whether they exist or not.
    pub(crate) fn paths(&self, parent: &str, name: &str) -> Result<Vec<PathBuf>, CgroupError> {
        let parent = check_parent(parent)?;
        check_name("cgroup_name", name)?;
        Ok(self.managed().map(|index| self.mount_point(index).join(parent).join(name)).collect())
    }

    /// The group's directory in one hierarchy.
    pub(crate) fn path_in(&self, index: usize, parent: &str, name: &str) -> Result<PathBuf, CgroupError> {
        check_name("cgroup_name", name)?;
        Ok(self.mount_point(index).join(check_parent(parent)?).join(name))
    }

    /// Where the parent's directory is in this hierarchy.
    pub(crate) fn parent_in(&self, index: usize, parent: &str) -> Result<PathBuf, CgroupError> {
        Ok(self.mount_point(index).join(check_parent(parent)?))
    }

    /// The parent's directory in this hierarchy, made and prepared once.
    pub(crate) fn parent(&self, parent: &str, index: usize) -> Result<Arc<OwnedFd>, CgroupError> {
        let parent = check_parent(parent)?;
        let key = (parent.to_owned(), index);
        let mut parents = self.parents.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(directory) = parents.get(&key) {
            return Ok(Arc::clone(directory));
        }
        let directory = Arc::new(crate::prepare::prepare(&self.layout.hierarchies()[index], parent)?);
        if parent.ends_with(SCOPE) {
            // It goes with its container: to keep it open would keep what the kernel has of it.
            return Ok(directory);
        }
        if parents.len() >= MAX_KEPT_PARENTS {
            parents.clear();
        }
        parents.insert(key, Arc::clone(&directory));
        Ok(directory)
    }

    /// Forgets a prepared parent, which somebody has removed.
    pub(crate) fn forget_parent(&self, parent: &str, index: usize) -> Result<(), CgroupError> {
        let key = (check_parent(parent)?.to_owned(), index);
        self.parents.lock().unwrap_or_else(PoisonError::into_inner).remove(&key);
        Ok(())
    }
}

/// Names of the directories in `path`; none if it is absent.
pub(crate) fn children(path: &Path) -> Result<Vec<String>, CgroupError> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let directory = match rustix::fs::open(path, flags, Mode::empty()) {
        Ok(directory) => directory,
        Err(Errno::NOENT) => return Ok(Vec::new()),
        Err(errno) => return Err(io("open", path, errno)),
    };
    let mut names = Vec::new();
    for entry in Dir::new(directory).map_err(|errno| io("getdents64", path, errno))? {
        match entry {
            Ok(entry) if entry.file_type() == FileType::Directory => {
                let name = entry.file_name().to_string_lossy();
                if name != "." && name != ".." {
                    names.push(name.into_owned());
                }
            }
            Ok(_) => {}
            // The directory was removed while it was read.
            Err(Errno::NOENT) => break,
            Err(errno) => return Err(io("getdents64", path, errno)),
        }
    }
    Ok(names)
}

fn invalid(field: &'static str, rule: String) -> CgroupError {
    CgroupError::FieldInvalid { field, rule }
}

/// The parent without slashes around it.
pub(crate) fn check_parent(parent: &str) -> Result<&str, CgroupError> {
    let trimmed = parent.trim_matches('/');
    if trimmed.len() > MAX_PARENT_BYTES {
        return Err(invalid("cgroup_parent", format!("is at most {MAX_PARENT_BYTES} bytes long")));
    }
    for component in trimmed.split('/') {
        check_name("cgroup_parent", component)?;
    }
    Ok(trimmed)
}

pub(crate) fn check_name(field: &'static str, name: &str) -> Result<(), CgroupError> {
    let is_name = !name.is_empty()
        && name.len() <= MAX_NAME_BYTES
        && name != "."
        && name != ".."
        && !name.bytes().any(|byte| byte == b'/' || byte == 0 || byte == b'\n');
    if is_name {
        return Ok(());
    }
    Err(invalid(field, format!("is made of names of 1 to {MAX_NAME_BYTES} bytes, none of them `.` or `..`")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_parent_or_name_that_leads_elsewhere_is_refused() {
        assert_eq!(check_parent("/fluyt/").unwrap(), "fluyt");
        assert_eq!(check_parent("a/b").unwrap(), "a/b");
        for parent in
            ["", "/", "..", "a/../b", "a//b", "./a", "a\0", "a\n", &"x".repeat(256), &"x/".repeat(600)]
        {
            assert!(matches!(check_parent(parent), Err(CgroupError::FieldInvalid { .. })), "{parent:?}");
        }
        for name in ["", ".", "..", "a/b", "/a", "\0"] {
            assert!(check_name("cgroup_name", name).is_err(), "{name:?}");
        }
    }
}
