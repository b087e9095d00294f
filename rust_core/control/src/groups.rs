//! The cgroups of one start: made with their limits, described for the process that joins them, removed again if the
//! start fails.

use std::path::Path;
use std::time::Duration;

use cgroup::{CgroupHost, Group, Version};
use process::spec::{CgroupJoin, CgroupV1};

use crate::error::ControlError;
use crate::start::ContainerStart;

/// How long a failed start waits for the last process of its groups to leave.
const REMOVE_TIMEOUT: Duration = Duration::from_secs(5);

/// Groups that are removed when dropped, with whatever runs in them, unless they are released.
pub(crate) struct Groups<'a> {
    host: &'a CgroupHost,
    start: &'a ContainerStart,
    group: Group,
    is_released: bool,
}

impl<'a> Groups<'a> {
    /// The groups stand, with their limits.
    pub(crate) fn make(host: &'a CgroupHost, start: &'a ContainerStart) -> Result<Self, ControlError> {
        let group =
            host.create(&start.cgroup_parent, &start.cgroup_name, &start.limits, &start.device_access())?;
        Ok(Self { host, start, group, is_released: false })
    }

    /// What a process needs to join them.
    pub(crate) fn join(&self) -> CgroupJoin {
        let mut join = CgroupJoin::default();
        for path in self.group.paths() {
            let Some(hierarchy) = self.hierarchy(path) else { continue };
            let dir = path.to_string_lossy().into_owned();
            match hierarchy.version {
                Version::V1 => {
                    let view = hierarchy.mount_point.file_name().unwrap_or_default();
                    join.v1.push(CgroupV1 { view: view.to_string_lossy().into_owned(), dir });
                }
                Version::V2 => join.v2_dir = Some(dir),
            }
        }
        join
    }

    /// The control file that counts kills for lack of memory, if there is a memory controller.
    pub(crate) fn oom_counter(&self) -> Option<String> {
        let layout = self.host.layout();
        let home = &layout.hierarchies()[layout.home("memory")?];
        let file = match home.version {
            Version::V1 => "memory.oom_control",
            Version::V2 => "memory.events",
        };
        let dir = self.group.paths().find(|path| path.starts_with(&home.mount_point))?;
        Some(dir.join(file).to_string_lossy().into_owned())
    }

    /// Limits that the host did not give, as `field: reason`.
    pub(crate) fn clamps(&self) -> Vec<String> {
        self.group.report().clamps.iter().map(ToString::to_string).collect()
    }

    /// They are the container's from now on.
    pub(crate) fn release(mut self) {
        self.is_released = true;
    }

    /// The hierarchy of a group's directory: the one mounted deepest above it.
    fn hierarchy(&self, path: &Path) -> Option<&cgroup::Hierarchy> {
        let above =
            self.host.layout().hierarchies().iter().filter(|entry| path.starts_with(&entry.mount_point));
        above.max_by_key(|entry| entry.mount_point.as_os_str().len())
    }
}

impl Drop for Groups<'_> {
    fn drop(&mut self) {
        if self.is_released {
            return;
        }
        let (parent, name) = (&self.start.cgroup_parent, &self.start.cgroup_name);
        // The failure that brought us here is the one that is told; a group that stays is found by recovery.
        let _ = self.host.kill(parent, name);
        let _ = self.host.remove(parent, name, REMOVE_TIMEOUT);
    }
}
