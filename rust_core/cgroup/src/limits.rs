//! What may be limited, and which values mean something on every host.

use crate::block_io::{self, MAX_IO_WEIGHT, MIN_IO_WEIGHT};
use crate::huge_pages;
use crate::{CgroupError, HugePages, IoDevice};

/// The least memory limit: below it a container cannot even start.
///
/// Source: Docker's floor, linuxMinMemory in moby daemon/daemon_unix.go.
pub const MIN_MEMORY_BYTES: u64 = 6 * 1024 * 1024;
/// The least CPU quota.
///
/// Source: min_cfs_quota_period in kernel/sched/core.c (1 ms).
pub const MIN_CPU_QUOTA_MICROS: u64 = 1_000;
/// The shortest period.
///
/// Source: as [`MIN_CPU_QUOTA_MICROS`].
pub const MIN_CPU_PERIOD_MICROS: u64 = 1_000;
/// The longest period.
///
/// Source: max_cfs_quota_period in kernel/sched/core.c (1 s).
pub const MAX_CPU_PERIOD_MICROS: u64 = 1_000_000;
/// The least CPU shares.
///
/// Source: MIN_SHARES in kernel/sched/sched.h.
pub const MIN_CPU_SHARES: u64 = 2;
/// The most CPU shares.
///
/// Source: MAX_SHARES in kernel/sched/sched.h.
pub const MAX_CPU_SHARES: u64 = 262_144;
/// The most CPU time that may be saved up.
///
/// Source: max_cfs_runtime in kernel/sched/core.c, without the part below a millisecond.
pub const MAX_CPU_BURST_MICROS: u64 = 1 << 43;
/// The longest real-time period.
///
/// Source: sysctl_sched_rt_period's range in kernel/sched/rt.c.
pub const MAX_CPU_REAL_TIME_PERIOD_MICROS: u64 = i32::MAX as u64;
/// The longest list of CPUs or memory nodes.
pub const MAX_CPUSET_BYTES: usize = 4096;

/// Period where none is given, as the kernel has it.
pub(crate) const DEFAULT_CPU_PERIOD_MICROS: u64 = 100_000;

/// Limits of one group, with the names and meanings of `ResourceLimits` in process_spec.py. None leaves what is
/// there; so does 0, as in Docker's API, but for pids, where 0 is unlimited.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of memory; -1 is unlimited.
    pub memory_limit_bytes: Option<i64>,
    /// Memory and swap together, in bytes; -1 is unlimited; unset it is twice the memory limit.
    pub memory_swap_limit_bytes: Option<i64>,
    /// Bytes that are reclaimed last; -1 is none.
    pub memory_reservation_bytes: Option<i64>,
    /// Microseconds of CPU time in each period; -1 is unlimited.
    pub cpu_quota_micros: Option<i64>,
    /// Length of a period in microseconds.
    pub cpu_period_micros: Option<i64>,
    /// Weight against other groups, 2 to 262144.
    pub cpu_shares: Option<i64>,
    /// CPUs that may be used: `0-3,8`.
    pub cpuset_cpus: Option<String>,
    /// Memory nodes that may be used: `0,1`.
    pub cpuset_mems: Option<String>,
    /// Processes and threads at once; -1 and 0 are unlimited.
    pub pids_limit: Option<i64>,
    /// Microseconds of CPU time that may be saved up; at most the quota. Unlike the others, 0 is written.
    pub cpu_burst_micros: Option<i64>,
    /// Length of a real-time period in microseconds.
    pub cpu_real_time_period_micros: Option<i64>,
    /// Microseconds of real-time CPU time in each real-time period. 0 is written.
    pub cpu_real_time_runtime_micros: Option<i64>,
    /// 0 to 100: how gladly memory is swapped out. 0 is written.
    pub memory_swappiness: Option<i64>,
    /// Processes wait for memory and are not killed.
    pub oom_kill_disabled: Option<bool>,
    /// Weight of block I/O, 10 to 1000.
    pub io_weight: Option<i64>,
    /// Bounds on single block devices; a bound of 0 takes one away.
    pub io_devices: Vec<IoDevice>,
    /// Bounds on huge pages.
    pub huge_pages: Vec<HugePages>,
}

/// A number, or no limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Amount {
    /// At most this many.
    Limited(u64),
    /// As many as there are.
    Unlimited,
}

impl Amount {
    /// The number, or `word`.
    pub(crate) fn text(self, word: &str) -> String {
        match self {
            Self::Limited(number) => number.to_string(),
            Self::Unlimited => word.to_owned(),
        }
    }
}

/// Limits after every check: what is None is left as it is.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CheckedLimits {
    /// Memory.
    pub memory: Option<Amount>,
    /// Memory and swap together; at least the memory.
    pub memory_and_swap: Option<Amount>,
    /// Memory reclaimed last; at most the memory.
    pub memory_reservation: Option<Amount>,
    /// CPU time in each period, microseconds.
    pub cpu_quota: Option<Amount>,
    /// The period, microseconds.
    pub cpu_period: Option<u64>,
    /// The weight.
    pub cpu_shares: Option<u64>,
    /// CPUs.
    pub cpuset_cpus: Option<String>,
    /// Memory nodes.
    pub cpuset_mems: Option<String>,
    /// Processes and threads.
    pub pids: Option<Amount>,
    /// CPU time saved up, microseconds.
    pub cpu_burst: Option<u64>,
    /// The real-time period, microseconds.
    pub cpu_real_time_period: Option<u64>,
    /// Real-time CPU time in each such period, microseconds.
    pub cpu_real_time_runtime: Option<u64>,
    /// 0 to 100.
    pub memory_swappiness: Option<u64>,
    /// Processes wait for memory.
    pub oom_kill_disabled: Option<bool>,
    /// The weight of block I/O.
    pub io_weight: Option<u64>,
    /// Devices with bounds of their own.
    pub io_devices: Vec<IoDevice>,
    /// Huge pages, by the place of their size.
    pub(crate) huge_pages: Vec<(usize, Amount)>,
}

impl CheckedLimits {
    /// Whether a group of a controller is needed that most containers do without.
    #[must_use]
    pub fn needs(&self, controller: &str) -> bool {
        match controller {
            "cpuset" => self.cpuset_cpus.is_some() || self.cpuset_mems.is_some(),
            "blkio" => self.io_weight.is_some() || !self.io_devices.is_empty(),
            "hugetlb" => !self.huge_pages.is_empty(),
            _ => false,
        }
    }
}

fn invalid(field: &'static str, rule: impl Into<String>) -> CgroupError {
    CgroupError::FieldInvalid { field, rule: rule.into() }
}

/// None for what is unset; -1 is unlimited; any other negative number is refused.
fn amount(field: &'static str, value: Option<i64>) -> Result<Option<Amount>, CgroupError> {
    match value {
        None | Some(0) => Ok(None),
        Some(-1) => Ok(Some(Amount::Unlimited)),
        Some(number) => match u64::try_from(number) {
            Ok(number) => Ok(Some(Amount::Limited(number))),
            Err(_) => Err(invalid(field, "is -1 (unlimited), 0 (unset) or positive")),
        },
    }
}

fn bounded(
    field: &'static str,
    value: Option<i64>,
    least: u64,
    most: u64,
) -> Result<Option<u64>, CgroupError> {
    match value {
        None | Some(0) => Ok(None),
        Some(number) => match u64::try_from(number) {
            Ok(number) if (least..=most).contains(&number) => Ok(Some(number)),
            _ => Err(invalid(field, format!("is between {least} and {most}"))),
        },
    }
}

/// As `bounded`, but that 0 is a value like others.
fn from_zero(field: &'static str, value: Option<i64>, most: u64) -> Result<Option<u64>, CgroupError> {
    match value.map(u64::try_from) {
        None => Ok(None),
        Some(Ok(number)) if number <= most => Ok(Some(number)),
        Some(_) => Err(invalid(field, format!("is between 0 and {most}"))),
    }
}

fn cpu_list(field: &'static str, value: Option<&String>) -> Result<Option<String>, CgroupError> {
    let Some(list) = value.filter(|list| !list.is_empty()) else { return Ok(None) };
    if list.len() > MAX_CPUSET_BYTES {
        return Err(invalid(field, format!("is at most {MAX_CPUSET_BYTES} bytes long (MAX_CPUSET_BYTES)")));
    }
    let is_number =
        |text: &str| !text.is_empty() && text.len() <= 9 && text.bytes().all(|byte| byte.is_ascii_digit());
    let is_part = |part: &str| match part.split_once('-') {
        Some((first, last)) => is_number(first) && is_number(last),
        None => is_number(part),
    };
    if list.split(',').all(is_part) {
        Ok(Some(list.clone()))
    } else {
        Err(invalid(field, "is a list of numbers and ranges such as 0-3,8"))
    }
}

impl Limits {
    /// The same limits, checked against the rules that hold on every host.
    ///
    /// # Errors
    /// [`CgroupError::FieldInvalid`] naming the field and the bound.
    pub fn check(&self) -> Result<CheckedLimits, CgroupError> {
        let memory = amount("memory_limit_bytes", self.memory_limit_bytes)?;
        if let Some(Amount::Limited(bytes)) = memory {
            if bytes < MIN_MEMORY_BYTES {
                let rule = format!("is at least {MIN_MEMORY_BYTES} (6 MiB, MIN_MEMORY_BYTES)");
                return Err(invalid("memory_limit_bytes", rule));
            }
        }
        let reservation = amount("memory_reservation_bytes", self.memory_reservation_bytes)?;
        if let (Some(Amount::Limited(bytes)), Some(Amount::Limited(reserved))) = (memory, reservation) {
            if reserved > bytes {
                return Err(invalid("memory_reservation_bytes", "is at most memory_limit_bytes"));
            }
        }
        let quota = amount("cpu_quota_micros", self.cpu_quota_micros)?;
        if let Some(Amount::Limited(micros)) = quota {
            if micros < MIN_CPU_QUOTA_MICROS {
                let rule = format!("is at least {MIN_CPU_QUOTA_MICROS} (MIN_CPU_QUOTA_MICROS)");
                return Err(invalid("cpu_quota_micros", rule));
            }
        }
        let burst = from_zero("cpu_burst_micros", self.cpu_burst_micros, MAX_CPU_BURST_MICROS)?;
        if let (Some(burst), Some(Amount::Limited(quota))) = (burst, quota) {
            if burst > quota {
                return Err(invalid("cpu_burst_micros", "is at most cpu_quota_micros"));
            }
        }
        block_io::check(&self.io_devices)?;
        let (runtime, period) = (self.cpu_real_time_runtime_micros, self.cpu_real_time_period_micros);
        Ok(CheckedLimits {
            cpu_burst: burst,
            cpu_real_time_period: bounded(
                "cpu_real_time_period_micros",
                period,
                1,
                MAX_CPU_REAL_TIME_PERIOD_MICROS,
            )?,
            cpu_real_time_runtime: from_zero(
                "cpu_real_time_runtime_micros",
                runtime,
                MAX_CPU_REAL_TIME_PERIOD_MICROS,
            )?,
            memory_swappiness: from_zero("memory_swappiness", self.memory_swappiness, 100)?,
            oom_kill_disabled: self.oom_kill_disabled,
            io_weight: bounded("io_weight", self.io_weight, MIN_IO_WEIGHT, MAX_IO_WEIGHT)?,
            io_devices: self.io_devices.clone(),
            huge_pages: huge_pages::check(&self.huge_pages)?,
            memory,
            memory_and_swap: self.check_swap(memory)?,
            memory_reservation: reservation,
            cpu_quota: quota,
            cpu_period: bounded(
                "cpu_period_micros",
                self.cpu_period_micros,
                MIN_CPU_PERIOD_MICROS,
                MAX_CPU_PERIOD_MICROS,
            )?,
            cpu_shares: bounded("cpu_shares", self.cpu_shares, MIN_CPU_SHARES, MAX_CPU_SHARES)?,
            cpuset_cpus: cpu_list("cpuset_cpus", self.cpuset_cpus.as_ref())?,
            cpuset_mems: cpu_list("cpuset_mems", self.cpuset_mems.as_ref())?,
            pids: match self.pids_limit {
                Some(0) => Some(Amount::Unlimited),
                other => amount("pids_limit", other)?,
            },
        })
    }

    /// Memory and swap together. Unset, it is twice the memory, as Docker has it.
    fn check_swap(&self, memory: Option<Amount>) -> Result<Option<Amount>, CgroupError> {
        let field = "memory_swap_limit_bytes";
        match (amount(field, self.memory_swap_limit_bytes)?, memory) {
            (None, Some(Amount::Limited(bytes))) => {
                Ok(Some(Amount::Limited(bytes.saturating_mul(2).min(i64::MAX as u64))))
            }
            (None, other) => Ok(other),
            (Some(Amount::Unlimited), _) => Ok(Some(Amount::Unlimited)),
            (Some(Amount::Limited(total)), Some(Amount::Limited(bytes))) if total >= bytes => {
                Ok(Some(Amount::Limited(total)))
            }
            (Some(Amount::Limited(_)), Some(Amount::Limited(_))) => {
                Err(invalid(field, "counts memory and swap together and is at least memory_limit_bytes"))
            }
            (Some(Amount::Limited(_)), _) => Err(invalid(field, "needs memory_limit_bytes")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(limits: Limits) -> (&'static str, String) {
        match limits.check() {
            Err(CgroupError::FieldInvalid { field, rule }) => (field, rule),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn every_bound_is_named_in_its_error() {
        let with = |change: fn(&mut Limits)| {
            let mut limits = Limits::default();
            change(&mut limits);
            limits
        };
        for (limits, field, word) in [
            (
                with(|l| l.memory_limit_bytes = Some(6 * 1024 * 1024 - 1)),
                "memory_limit_bytes",
                "MIN_MEMORY_BYTES",
            ),
            (with(|l| l.memory_limit_bytes = Some(-2)), "memory_limit_bytes", "-1"),
            (with(|l| l.cpu_quota_micros = Some(999)), "cpu_quota_micros", "1000"),
            (with(|l| l.cpu_period_micros = Some(999)), "cpu_period_micros", "1000000"),
            (with(|l| l.cpu_period_micros = Some(1_000_001)), "cpu_period_micros", "1000000"),
            (with(|l| l.cpu_shares = Some(1)), "cpu_shares", "262144"),
            (with(|l| l.cpu_shares = Some(262_145)), "cpu_shares", "262144"),
            (with(|l| l.cpuset_cpus = Some("0-".into())), "cpuset_cpus", "0-3,8"),
            (with(|l| l.cpuset_cpus = Some("0\n1".into())), "cpuset_cpus", "0-3,8"),
            (with(|l| l.cpuset_mems = Some(",".into())), "cpuset_mems", "0-3,8"),
            (with(|l| l.cpuset_mems = Some("1,".repeat(4000))), "cpuset_mems", "MAX_CPUSET_BYTES"),
            (with(|l| l.pids_limit = Some(-7)), "pids_limit", "-1"),
            (with(|l| l.memory_reservation_bytes = Some(-2)), "memory_reservation_bytes", "-1"),
        ] {
            let (found, rule) = refused(limits);
            assert!(found == field && rule.contains(word), "{found}: {rule}");
        }
    }

    #[test]
    fn c02_swap_below_memory_is_refused() {
        let limits = Limits {
            memory_limit_bytes: Some(64 << 20),
            memory_swap_limit_bytes: Some(63 << 20),
            ..Limits::default()
        };
        assert_eq!(refused(limits).0, "memory_swap_limit_bytes");
        let limits = Limits { memory_swap_limit_bytes: Some(64 << 20), ..Limits::default() };
        assert!(refused(limits).1.contains("needs memory_limit_bytes"));
    }

    #[test]
    fn a_reservation_above_the_limit_is_refused() {
        let limits = Limits {
            memory_limit_bytes: Some(64 << 20),
            memory_reservation_bytes: Some(65 << 20),
            ..Limits::default()
        };
        assert_eq!(refused(limits).0, "memory_reservation_bytes");
    }

    #[test]
    fn nothing_asked_is_nothing_changed_and_so_is_zero() {
        assert_eq!(Limits::default().check().unwrap(), CheckedLimits::default());
        let zero = Limits {
            memory_limit_bytes: Some(0),
            memory_swap_limit_bytes: Some(0),
            cpu_quota_micros: Some(0),
            cpu_period_micros: Some(0),
            cpu_shares: Some(0),
            cpuset_cpus: Some(String::new()),
            ..Limits::default()
        };
        assert_eq!(zero.check().unwrap(), CheckedLimits::default());
    }

    #[test]
    fn c05_zero_and_minus_one_pids_are_unlimited() {
        for value in [0, -1] {
            let limits = Limits { pids_limit: Some(value), ..Limits::default() };
            assert_eq!(limits.check().unwrap().pids, Some(Amount::Unlimited));
        }
    }

    proptest::proptest! {
        #[test]
        fn memory_and_swap_are_never_below_memory(memory in proptest::option::of(-2_i64..), swap in proptest::option::of(-2_i64..)) {
            let limits = Limits { memory_limit_bytes: memory, memory_swap_limit_bytes: swap, ..Limits::default() };
            if let Ok(CheckedLimits { memory: Some(Amount::Limited(memory)), memory_and_swap, .. }) = limits.check() {
                match memory_and_swap {
                    Some(Amount::Limited(total)) => proptest::prop_assert!(total >= memory),
                    other => proptest::prop_assert_eq!(other, Some(Amount::Unlimited)),
                }
            }
        }
    }
}
