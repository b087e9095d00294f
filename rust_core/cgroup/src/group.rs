//! One group in all its hierarchies, as it was made.

use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::fs::{openat, Mode, OFlags};

use crate::files::io;
use crate::{CgroupError, DeviceControl, Version};

/// A limit that was not given as it was asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Clamp {
    /// The field of the limits.
    pub limit: &'static str,
    /// What was to be written.
    pub requested: String,
    /// What holds instead.
    pub given: &'static str,
    /// Why.
    pub reason: &'static str,
}

impl std::fmt::Display for Clamp {
    /// `field: reason (what holds)`, as callers are told.
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "{}: {} ({})", self.limit, self.reason, self.given)
    }
}

/// What the host gave.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    /// Limits that were not given.
    pub clamps: Vec<Clamp>,
    /// What holds for devices.
    pub devices: DeviceControl,
}

/// The group in one hierarchy.
#[derive(Debug, Clone)]
pub(crate) struct Member {
    pub(crate) hierarchy: usize,
    pub(crate) version: Version,
    pub(crate) parent: Arc<OwnedFd>,
    pub(crate) path: PathBuf,
}

/// A group that was made: one directory in each hierarchy that it needs. Dropping it removes nothing.
#[derive(Debug, Clone)]
pub struct Group {
    pub(crate) name: String,
    pub(crate) members: Vec<Member>,
    pub(crate) report: Report,
}

/// Open files by which a process joins a group.
#[derive(Debug)]
pub struct JoinFiles {
    /// `tasks` of each v1 hierarchy, open for writing: the process writes `0` into each, itself, while it has one
    /// thread. Any other way takes the thread-group lock, which may wait 5 to 7 ms.
    pub tasks: Vec<OwnedFd>,
    /// The v2 directory, for CLONE_INTO_CGROUP; None on a host without v2.
    pub unified: Option<OwnedFd>,
}

impl Group {
    /// The group's name below its parent.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its directories, v1 first, the unified one last.
    pub fn paths(&self) -> impl Iterator<Item = &Path> {
        self.members.iter().map(|member| member.path.as_path())
    }

    /// What the host gave of what was asked.
    #[must_use]
    pub fn report(&self) -> &Report {
        &self.report
    }

    /// Opens what a process needs to join, all CLOEXEC.
    ///
    /// # Errors
    /// [`CgroupError::Io`], ENOENT if the group was removed.
    pub fn join_files(&self) -> Result<JoinFiles, CgroupError> {
        let mut files = JoinFiles { tasks: Vec::with_capacity(self.members.len()), unified: None };
        for member in &self.members {
            let below = Path::new(&self.name);
            let open = |name: &Path, flags| {
                openat(member.parent.as_fd(), name, flags | OFlags::CLOEXEC, Mode::empty())
                    .map_err(|errno| io("openat", &member.path, errno))
            };
            match member.version {
                Version::V1 => files.tasks.push(open(&below.join("tasks"), OFlags::WRONLY)?),
                Version::V2 => files.unified = Some(open(below, OFlags::PATH | OFlags::DIRECTORY)?),
            }
        }
        Ok(files)
    }
}
