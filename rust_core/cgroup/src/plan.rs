//! From limits and a layout to the writes that set them, in order: pure.

use crate::{Amount, CgroupError, CheckedLimits, Layout, Version};

/// What a file that is not there means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum IfAbsent {
    /// The limit cannot be given: an error.
    Reject,
    /// The host has switched this off (swap accounting): go on without, and report it.
    Clamp,
}

/// One value for one control file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Write {
    /// The file's name in the group.
    pub file: &'static str,
    /// What is written.
    pub value: String,
    /// The field of the limits that asks for it.
    pub limit: &'static str,
    /// What to do without the file.
    pub if_absent: IfAbsent,
}

/// A write and the hierarchy it goes to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PlannedWrite {
    /// The hierarchy's place in [`Layout::hierarchies`].
    pub hierarchy: usize,
    /// The write.
    pub write: Write,
}

/// What a v1 memory group has now, which decides the order of changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CurrentMemory {
    /// memory.limit_in_bytes.
    pub memory: Amount,
    /// memory.memsw.limit_in_bytes.
    pub memory_and_swap: Amount,
}

impl CurrentMemory {
    /// A fresh group.
    pub const UNLIMITED: Self = Self { memory: Amount::Unlimited, memory_and_swap: Amount::Unlimited };
}

/// Controllers that hold a limit of ours, in the order in which they are written.
const LIMITED: [&str; 4] = ["cpuset", "cpu", "memory", "pids"];

/// The writes that give a group `limits` on a host of this layout, in the order the kernel takes them.
///
/// # Errors
/// [`CgroupError::ControllerMissing`] for a limit whose controller the host does not offer.
pub fn plan(
    limits: &CheckedLimits,
    layout: &Layout,
    current: CurrentMemory,
) -> Result<Vec<PlannedWrite>, CgroupError> {
    let mut planned = Vec::new();
    for controller in LIMITED {
        let home = layout.home(controller);
        let version = home.map_or(Version::V2, |index| layout.hierarchies()[index].version);
        let writes = match version {
            Version::V1 => crate::v1::writes(controller, limits, current),
            Version::V2 => crate::v2::writes(controller, limits),
        };
        for write in writes {
            match home {
                Some(hierarchy) => planned.push(PlannedWrite { hierarchy, write }),
                // Nothing is asked for by writing what holds anyway.
                None if write.value == "max" => {}
                None => return Err(CgroupError::ControllerMissing { controller, limit: write.limit }),
            }
        }
    }
    Ok(planned)
}

/// The cpuset files have the same names in both versions.
pub(crate) fn cpuset(limits: &CheckedLimits) -> Vec<Write> {
    [("cpuset.cpus", "cpuset_cpus", &limits.cpuset_cpus), ("cpuset.mems", "cpuset_mems", &limits.cpuset_mems)]
        .into_iter()
        .filter_map(|(file, limit, list)| {
            list.clone().map(|value| Write { file, value, limit, if_absent: IfAbsent::Reject })
        })
        .collect()
}

/// So has the pids file.
pub(crate) fn pids(limits: &CheckedLimits) -> Vec<Write> {
    limits
        .pids
        .map(|pids| Write {
            file: "pids.max",
            value: pids.text("max"),
            limit: "pids_limit",
            if_absent: IfAbsent::Reject,
        })
        .into_iter()
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Limits;

    fn layout(text: &str) -> Layout {
        Layout::from_mountinfo(text).unwrap()
    }

    const MEMORY_V1_ONLY: &str = "36 31 0:32 / /no/memory rw - cgroup cgroup rw,memory\n";

    #[test]
    fn a_limit_without_its_controller_is_an_error_that_names_it() {
        let limits = Limits { pids_limit: Some(16), ..Limits::default() }.check().unwrap();
        let error = plan(&limits, &layout(MEMORY_V1_ONLY), CurrentMemory::UNLIMITED).unwrap_err();
        assert_eq!(error, CgroupError::ControllerMissing { controller: "pids", limit: "pids_limit" });
        let limits = Limits { pids_limit: Some(-1), ..Limits::default() }.check().unwrap();
        assert_eq!(plan(&limits, &layout(MEMORY_V1_ONLY), CurrentMemory::UNLIMITED).unwrap(), []);
    }

    #[test]
    fn each_controller_is_written_in_the_version_that_holds_it() {
        let directory = tempfile::tempdir().unwrap();
        std::fs::write(directory.path().join("cgroup.controllers"), "pids hugetlb\n").unwrap();
        let text = format!("{MEMORY_V1_ONLY}30 23 0:26 / {} rw - cgroup2 c rw\n", directory.path().display());
        let limits = Limits { memory_limit_bytes: Some(64 << 20), pids_limit: Some(16), ..Limits::default() };
        let planned = plan(&limits.check().unwrap(), &layout(&text), CurrentMemory::UNLIMITED).unwrap();
        let files: Vec<_> = planned.iter().map(|one| (one.hierarchy, one.write.file)).collect();
        assert_eq!(
            files,
            [(0, "memory.limit_in_bytes"), (0, "memory.memsw.limit_in_bytes"), (1, "pids.max")]
        );
    }
}
