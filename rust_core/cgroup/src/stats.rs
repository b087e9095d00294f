//! What a group uses and has suffered.

use crate::files::value_of;
use crate::{CgroupError, CgroupHost, Version};

/// Usage of a group at one moment; None where the host does not count it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Stats {
    /// Bytes of memory, page cache included.
    pub memory_current_bytes: Option<u64>,
    /// CPU time used since the group was made, in nanoseconds.
    pub cpu_usage_nanos: Option<u64>,
    /// Processes and threads.
    pub pids_current: Option<u64>,
}

impl CgroupHost {
    /// What the group uses now. Blocking (three small reads).
    ///
    /// # Errors
    /// [`CgroupError::Io`].
    pub fn stats(&self, parent: &str, name: &str) -> Result<Stats, CgroupError> {
        let number = |file| -> Result<Option<u64>, CgroupError> {
            Ok(self.read_file(parent, name, file)?.and_then(|text| text.trim().parse().ok()))
        };
        let memory = match self.version_of("memory") {
            Some(Version::V1) => number("memory.usage_in_bytes")?,
            Some(Version::V2) => number("memory.current")?,
            None => None,
        };
        // v2 counts CPU time in every group, whatever controllers it has.
        let cpu = if self.layout().unified().is_some() {
            let text = self.read_file(parent, name, "cpu.stat")?;
            self.unified_usage(parent, name)?.or_else(|| text.as_deref().and_then(usage_nanos))
        } else {
            number("cpuacct.usage")?
        };
        Ok(Stats {
            memory_current_bytes: memory,
            cpu_usage_nanos: cpu,
            pids_current: number("pids.current")?,
        })
    }

    /// How many processes of the group, and of groups below it, the kernel killed for want of memory since the group
    /// was made; None if the host does not count them or the group is absent.
    ///
    /// # Errors
    /// [`CgroupError::Io`].
    pub fn oom_kill_count(&self, parent: &str, name: &str) -> Result<Option<u64>, CgroupError> {
        let file = match self.version_of("memory") {
            Some(Version::V1) => "memory.oom_control",
            Some(Version::V2) => "memory.events",
            None => return Ok(None),
        };
        Ok(self.read_file(parent, name, file)?.and_then(|text| value_of(&text, "oom_kill")))
    }

    fn version_of(&self, controller: &str) -> Option<Version> {
        self.layout().home(controller).map(|index| self.version(index))
    }

    /// The unified group's cpu.stat: on a hybrid host the v1 cpu hierarchy has a file of the same name.
    fn unified_usage(&self, parent: &str, name: &str) -> Result<Option<u64>, CgroupError> {
        use std::os::fd::AsFd;
        let Some(index) = self.layout().unified() else { return Ok(None) };
        let path = self.path_in(index, parent, name)?;
        let Ok(directory) = crate::files::directory(&path) else { return Ok(None) };
        let text = crate::files::read(directory.as_fd(), std::path::Path::new("cpu.stat"));
        Ok(text.ok().as_deref().and_then(usage_nanos))
    }
}

fn usage_nanos(text: &str) -> Option<u64> {
    value_of(text, "usage_usec").map(|micros| micros.saturating_mul(1000))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counters_are_found_by_their_whole_name() {
        let events = "low 0\nhigh 0\nmax 3\noom 2\noom_kill 1\noom_group_kill 0\n";
        assert_eq!(value_of(events, "oom_kill"), Some(1));
        assert_eq!(value_of(events, "oom"), Some(2));
        assert_eq!(value_of("oom_kill_disable 0\nunder_oom 0\noom_kill 7\n", "oom_kill"), Some(7));
        assert_eq!(value_of("", "oom_kill"), None);
        assert_eq!(usage_nanos("usage_usec 12\nuser_usec 1\n"), Some(12_000));
    }
}
