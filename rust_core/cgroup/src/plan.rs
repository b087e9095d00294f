//! From limits and a layout to the writes that set them, in order: pure.

use crate::{Amount, CgroupError, CheckedLimits, Layout, Version};

/// What a file that is not there means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum IfAbsent {
    /// The limit cannot be given: an error.
    Reject,
    /// The host cannot, by this name: an error that names it.
    Unsupported(&'static str),
    /// The host has switched this off (swap accounting, say): go on without, and report it.
    Clamp {
        /// What holds in its place.
        given: &'static str,
        /// Why.
        reason: &'static str,
    },
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
    /// The first word of the value's line in a file that has a line a device.
    pub key: Option<String>,
}

impl Write {
    /// A value for a file that must be there.
    pub(crate) fn new(file: &'static str, value: String, limit: &'static str) -> Self {
        Self { file, value, limit, if_absent: IfAbsent::Reject, key: None }
    }

    /// The same for a file that may be absent.
    pub(crate) fn if_absent(self, if_absent: IfAbsent) -> Self {
        Self { if_absent, ..self }
    }

    /// The same for a line of a file.
    pub(crate) fn keyed(self, key: &str) -> Self {
        Self { key: Some(key.to_owned()), ..self }
    }
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

/// What is done where swap is not accounted for.
pub(crate) const NO_SWAP_ACCOUNT: IfAbsent =
    IfAbsent::Clamp { given: "unlimited", reason: "the kernel does not account for swap (swapaccount=0)" };

/// Controllers that hold a limit of ours, in the order in which they are written.
const LIMITED: [&str; 7] = ["cpuset", "cpu", "memory", "pids", "blkio", "io", "hugetlb"];

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
        // One thing under two names: v1 has `blkio`, v2 has `io`; a host without either is told of v2's.
        if home.is_none() && (controller == "blkio" || (controller == "io" && layout.home("blkio").is_some()))
        {
            continue;
        }
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
        .filter_map(|(file, limit, list)| list.clone().map(|value| Write::new(file, value, limit)))
        .collect()
}

/// So has the pids file.
pub(crate) fn pids(limits: &CheckedLimits) -> Vec<Write> {
    limits.pids.map(|pids| Write::new("pids.max", pids.text("max"), "pids_limit")).into_iter().collect()
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
