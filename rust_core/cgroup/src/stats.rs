//! What a group uses and has suffered.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use crate::files::{self, value_of};
use crate::host::check_name;
use crate::{CgroupError, CgroupHost, Version};

/// Length of the ticks in which v1 counts user and system time.
///
/// Source: cpuacct.rst, USER_HZ is 100 on every architecture that we build for.
const TICK_NANOS: u64 = 10_000_000;
/// v1 shows no limit as the largest number of bytes that is whole pages; nothing near it is a limit.
const NO_LIMIT_BYTES: u64 = 1 << 62;

/// Usage of a group at one moment; None where the host does not count it, or for a limit that there is none.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Stats {
    /// CPU time used since the group was made, in nanoseconds.
    pub cpu_usage_nanos: Option<u64>,
    /// The part of it in user mode.
    pub cpu_user_nanos: Option<u64>,
    /// The part of it in the kernel.
    pub cpu_system_nanos: Option<u64>,
    /// Periods in which the group was held back.
    pub cpu_throttled_periods: Option<u64>,
    /// Time for which it was held back, in nanoseconds.
    pub cpu_throttled_nanos: Option<u64>,
    /// Bytes of memory, page cache included.
    pub memory_current_bytes: Option<u64>,
    /// Bytes of page cache that can be dropped at once: those of files that were not used lately.
    pub memory_inactive_file_bytes: Option<u64>,
    /// The memory limit.
    pub memory_limit_bytes: Option<u64>,
    /// Bytes of swap.
    pub swap_current_bytes: Option<u64>,
    /// Processes and threads.
    pub pids_current: Option<u64>,
    /// Their bound.
    pub pids_limit: Option<u64>,
    /// Bytes read from block devices.
    pub io_read_bytes: Option<u64>,
    /// Bytes written to block devices.
    pub io_write_bytes: Option<u64>,
    /// Processes killed for want of memory.
    pub oom_kill_count: Option<u64>,
    /// Share of the last 10 s in which some process waited for a CPU, in percent.
    pub cpu_pressure_percent: Option<f64>,
    /// The same for memory.
    pub memory_pressure_percent: Option<f64>,
    /// The same for input and output.
    pub io_pressure_percent: Option<f64>,
}

/// What a group used when it was read last.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Before {
    /// Its figures then.
    pub stats: Stats,
    /// They hold the pressure of now: the kernel takes averages of it every two seconds only.
    ///
    /// Source: kernel/sched/psi.c, `PSI_FREQ`.
    pub pressure_is_new: bool,
}

/// The group's directory in one hierarchy.
struct Directory<'a> {
    version: Version,
    /// That of the parent: to look up one name more costs less than to open and close a directory.
    parent: BorrowedFd<'a>,
    name: &'a str,
}

impl Directory<'_> {
    /// Content of a file; None if it is absent, or the group was removed meanwhile, or the kernel has it switched off.
    fn read(&self, file: &str) -> Option<String> {
        files::read_single(self.parent, &format!("{}/{file}", self.name)).ok()
    }

    fn number(&self, file: &str) -> Option<u64> {
        self.read(file)?.trim().parse().ok()
    }

    fn pressure(&self, file: &str) -> Option<f64> {
        pressure(&self.read(file)?)
    }
}

impl CgroupHost {
    /// What the group uses now; all None if it is absent. Blocking (some small reads).
    ///
    /// # Errors
    /// [`CgroupError::FieldInvalid`] for a name that is a path.
    pub fn stats(&self, parent: &str, name: &str) -> Result<Stats, CgroupError> {
        Ok(self.stats_of(parent, &[name], &[])?.into_iter().next().unwrap_or_default())
    }

    /// As `stats`, of any number of groups, in their order. Blocking (some small reads a group).
    ///
    /// `before`, by the same index, is what a group used when it was read last. One whose processes have not run since
    /// and that has as much memory is taken to be as it was: only CPU time, memory, block devices and, of one that
    /// waited, pressure are read then. What changes without any of these (pages that others' want of memory makes
    /// inactive, a limit that somebody sets, a wait that has just begun) is found when it is read without `before`.
    ///
    /// # Errors
    /// As `stats`.
    pub fn stats_of(
        &self,
        parent: &str,
        names: &[&str],
        before: &[Option<Before>],
    ) -> Result<Vec<Stats>, CgroupError> {
        let homes = Homes::open(self, parent)?;
        let one = |(index, name): (usize, &&str)| {
            check_name("cgroup_name", name)?;
            Ok(homes.stats(name, before.get(index).copied().flatten()))
        };
        names.iter().enumerate().map(one).collect()
    }

    /// How many processes of the group, and of groups below it, the kernel killed for want of memory since the group
    /// was made; None if the host does not count them or the group is absent.
    ///
    /// # Errors
    /// [`CgroupError::Io`].
    pub fn oom_kill_count(&self, parent: &str, name: &str) -> Result<Option<u64>, CgroupError> {
        let file = match self.layout().home("memory").map(|index| self.version(index)) {
            Some(Version::V1) => "memory.oom_control",
            Some(Version::V2) => "memory.events",
            None => return Ok(None),
        };
        Ok(self.read_file(parent, name, file)?.and_then(|text| value_of(&text, "oom_kill")))
    }
}

/// The parent's directory in each hierarchy; None where there is none, or it has no parent of that name.
struct Homes {
    // v2 counts CPU time and pressure in every group, whatever controllers it has.
    unified: Option<(Version, OwnedFd)>,
    /// Groups of the unified hierarchy may count block devices: not where v1 has that controller.
    unified_io: bool,
    cpuacct: Option<(Version, OwnedFd)>,
    cpu: Option<(Version, OwnedFd)>,
    memory: Option<(Version, OwnedFd)>,
    pids: Option<(Version, OwnedFd)>,
}

impl Homes {
    fn open(host: &CgroupHost, parent: &str) -> Result<Self, CgroupError> {
        let home = |index: Option<usize>| -> Result<Option<(Version, OwnedFd)>, CgroupError> {
            let Some(index) = index else { return Ok(None) };
            let fd = files::directory(&host.parent_in(index, parent)?).ok();
            Ok(fd.map(|fd| (host.version(index), fd)))
        };
        let layout = host.layout();
        let unified = home(layout.unified())?;
        Ok(Self {
            unified_io: unified.as_ref().is_some_and(|(_, parent)| gives_io(parent.as_fd())),
            unified,
            cpuacct: home(layout.home("cpuacct"))?,
            cpu: home(layout.home("cpu"))?,
            memory: home(layout.home("memory"))?,
            pids: home(layout.home("pids"))?,
        })
    }

    fn stats(&self, name: &str, before: Option<Before>) -> Stats {
        type Fill = fn(&mut Stats, &Directory<'_>);
        let fill = |stats: &mut Stats, home: &Option<(Version, OwnedFd)>, fill: Fill| {
            if let Some((version, fd)) = home {
                fill(stats, &Directory { version: *version, parent: fd.as_fd(), name });
            }
        };
        let mut stats = Stats::default();
        fill(&mut stats, &self.unified, fill_cpu);
        if self.unified_io {
            fill(&mut stats, &self.unified, fill_io);
        }
        fill(&mut stats, &self.cpuacct, fill_cpuacct);
        fill(&mut stats, &self.memory, fill_memory_current);
        if let Some(before) = before {
            if let Some(mut same) = stats.as_before(before.stats) {
                if same.has_waited() && !before.pressure_is_new {
                    fill(&mut same, &self.unified, fill_pressure);
                }
                return same;
            }
        }
        fill(&mut stats, &self.unified, fill_pressure);
        fill(&mut stats, &self.cpu, fill_throttling);
        fill(&mut stats, &self.memory, fill_memory);
        fill(&mut stats, &self.pids, fill_pids);
        stats
    }
}

impl Stats {
    /// All figures, if what of them was read into `self` shows that the group is as it was `before`.
    fn as_before(&self, before: Self) -> Option<Self> {
        let is_same = self.cpu_usage_nanos.is_some()
            && self.cpu_usage_nanos == before.cpu_usage_nanos
            && self.memory_current_bytes == before.memory_current_bytes;
        is_same.then_some(Self {
            io_read_bytes: self.io_read_bytes,
            io_write_bytes: self.io_write_bytes,
            ..before
        })
    }

    /// Some process waited in the last 10 s, so pressure changes though nothing runs.
    fn has_waited(&self) -> bool {
        [self.cpu_pressure_percent, self.memory_pressure_percent, self.io_pressure_percent]
            .iter()
            .any(|percent| percent.is_some_and(|percent| percent > 0.0))
    }
}

/// Groups below may have io.stat: the parent gives them the controller, or does not tell.
fn gives_io(parent: BorrowedFd<'_>) -> bool {
    files::read_single(parent, "cgroup.subtree_control")
        .map_or(true, |text| text.split_whitespace().any(|controller| controller == "io"))
}

fn fill_cpu(stats: &mut Stats, directory: &Directory<'_>) {
    let text = directory.read("cpu.stat").unwrap_or_default();
    let nanos = |key| value_of(&text, key).map(|micros| micros.saturating_mul(1000));
    stats.cpu_usage_nanos = nanos("usage_usec");
    stats.cpu_user_nanos = nanos("user_usec");
    stats.cpu_system_nanos = nanos("system_usec");
}

fn fill_io(stats: &mut Stats, directory: &Directory<'_>) {
    if let Some(text) = directory.read("io.stat") {
        stats.io_read_bytes = Some(sum_of(&text, "rbytes="));
        stats.io_write_bytes = Some(sum_of(&text, "wbytes="));
    }
}

fn fill_pressure(stats: &mut Stats, directory: &Directory<'_>) {
    stats.cpu_pressure_percent = directory.pressure("cpu.pressure");
    stats.memory_pressure_percent = directory.pressure("memory.pressure");
    stats.io_pressure_percent = directory.pressure("io.pressure");
}

fn fill_cpuacct(stats: &mut Stats, directory: &Directory<'_>) {
    if directory.version == Version::V2 || stats.cpu_usage_nanos.is_some() {
        return;
    }
    stats.cpu_usage_nanos = directory.number("cpuacct.usage");
    let text = directory.read("cpuacct.stat").unwrap_or_default();
    let nanos = |key| value_of(&text, key).map(|ticks| ticks.saturating_mul(TICK_NANOS));
    stats.cpu_user_nanos = nanos("user");
    stats.cpu_system_nanos = nanos("system");
}

fn fill_throttling(stats: &mut Stats, directory: &Directory<'_>) {
    let text = directory.read("cpu.stat").unwrap_or_default();
    stats.cpu_throttled_periods = value_of(&text, "nr_throttled");
    stats.cpu_throttled_nanos = match directory.version {
        Version::V1 => value_of(&text, "throttled_time"),
        Version::V2 => value_of(&text, "throttled_usec").map(|micros| micros.saturating_mul(1000)),
    };
}

fn fill_memory_current(stats: &mut Stats, directory: &Directory<'_>) {
    stats.memory_current_bytes = directory.number(match directory.version {
        Version::V1 => "memory.usage_in_bytes",
        Version::V2 => "memory.current",
    });
}

fn fill_memory(stats: &mut Stats, directory: &Directory<'_>) {
    let text = directory.read("memory.stat").unwrap_or_default();
    let bounded = |limit: Option<u64>| limit.filter(|bytes| *bytes < NO_LIMIT_BYTES);
    match directory.version {
        Version::V1 => {
            stats.memory_inactive_file_bytes = value_of(&text, "total_inactive_file");
            // That of the group or of one above it, whichever is lower.
            stats.memory_limit_bytes = bounded(value_of(&text, "hierarchical_memory_limit"));
            stats.swap_current_bytes = value_of(&text, "total_swap");
            stats.oom_kill_count =
                directory.read("memory.oom_control").and_then(|text| value_of(&text, "oom_kill"));
        }
        Version::V2 => {
            stats.memory_inactive_file_bytes = value_of(&text, "inactive_file");
            stats.memory_limit_bytes = bounded(directory.number("memory.max"));
            stats.swap_current_bytes = directory.number("memory.swap.current");
            stats.oom_kill_count =
                directory.read("memory.events").and_then(|text| value_of(&text, "oom_kill"));
        }
    }
}

fn fill_pids(stats: &mut Stats, directory: &Directory<'_>) {
    stats.pids_current = directory.number("pids.current");
    stats.pids_limit = directory.number("pids.max");
}

/// The sum of all `key<number>` words of io.stat, one line a device.
fn sum_of(text: &str, key: &str) -> u64 {
    let values = text.split_whitespace().filter_map(|word| word.strip_prefix(key)?.parse::<u64>().ok());
    values.fold(0, u64::saturating_add)
}

/// avg10 of the line `some`. Source: psi.rst.
fn pressure(text: &str) -> Option<f64> {
    let line = text.lines().find(|line| line.starts_with("some "))?;
    line.split(' ').find_map(|word| word.strip_prefix("avg10=")?.parse().ok())
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
    }

    #[test]
    fn bytes_of_all_devices_are_added_up() {
        let text =
            "8:0 rbytes=10 wbytes=1 rios=1 wios=1 dbytes=0 dios=0\n8:16 rbytes=5 wbytes=2 rios=9 wios=1\n";
        assert_eq!((sum_of(text, "rbytes="), sum_of(text, "wbytes=")), (15, 3));
        assert_eq!(sum_of("", "rbytes="), 0);
    }

    #[test]
    fn pressure_is_that_of_some_process_in_ten_seconds() {
        let text = "some avg10=1.25 avg60=9.00 avg300=9.00 total=7\nfull avg10=0.50 avg60=0.00 avg300=0.00 total=1\n";
        assert_eq!(pressure(text), Some(1.25));
        assert_eq!(pressure(""), None);
    }
}
