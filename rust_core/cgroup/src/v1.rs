//! What limits mean in the files of the v1 hierarchies, and in which order the kernel takes them.

use crate::plan::{CurrentMemory, IfAbsent, Write, NO_SWAP_ACCOUNT};
use crate::{Amount, CheckedLimits};

/// The writes that `limits` need for `controller`, in a group that now has the limits `current`.
pub(crate) fn writes(controller: &'static str, limits: &CheckedLimits, current: CurrentMemory) -> Vec<Write> {
    match controller {
        "memory" => memory(limits, current),
        "cpu" => cpu(limits),
        "cpuset" => crate::plan::cpuset(limits),
        "pids" => crate::plan::pids(limits),
        "blkio" => crate::block_io::writes_v1(limits),
        "hugetlb" => crate::huge_pages::writes_v1(&limits.huge_pages),
        _ => Vec::new(),
    }
}

fn memory(limits: &CheckedLimits, current: CurrentMemory) -> Vec<Write> {
    let mut writes = Vec::new();
    if let Some(memory) = limits.memory {
        writes.push(Write::new("memory.limit_in_bytes", memory.text("-1"), "memory_limit_bytes"));
    }
    if let Some(total) = limits.memory_and_swap {
        let write = Write::new("memory.memsw.limit_in_bytes", total.text("-1"), "memory_swap_limit_bytes")
            .if_absent(NO_SWAP_ACCOUNT);
        // The kernel holds limit <= memsw at every moment: what grows is lifted from above, what shrinks is
        // lowered from below.
        if at_least(total, current.memory_and_swap) {
            writes.insert(0, write);
        } else {
            writes.push(write);
        }
    }
    if let Some(reserved) = limits.memory_reservation {
        let value = reserved.text("-1");
        writes.push(Write::new("memory.soft_limit_in_bytes", value, "memory_reservation_bytes"));
    }
    if let Some(swappiness) = limits.memory_swappiness {
        writes.push(Write::new("memory.swappiness", swappiness.to_string(), "memory_swappiness"));
    }
    if let Some(is_disabled) = limits.oom_kill_disabled {
        let value = u8::from(is_disabled).to_string();
        writes.push(Write::new("memory.oom_control", value, "oom_kill_disabled"));
    }
    writes
}

/// Whether `new` is no less than `old`. A fresh group is unlimited, and setting that again may come at any time.
fn at_least(new: Amount, old: Amount) -> bool {
    match (new, old) {
        (Amount::Unlimited, _) => true,
        (Amount::Limited(_), Amount::Unlimited) => false,
        (Amount::Limited(new), Amount::Limited(old)) => new >= old,
    }
}

fn cpu(limits: &CheckedLimits) -> Vec<Write> {
    let mut writes = Vec::new();
    let mut push = |file, value, limit| {
        writes.push(Write::new(file, value, limit));
    };
    if let Some(shares) = limits.cpu_shares {
        push("cpu.shares", shares.to_string(), "cpu_shares");
    }
    if let Some(period) = limits.cpu_period {
        push("cpu.cfs_period_us", period.to_string(), "cpu_period_micros");
    }
    if let Some(quota) = limits.cpu_quota {
        // The kernel holds burst <= quota at every moment.
        if limits.cpu_burst.is_some() {
            push("cpu.cfs_burst_us", "0".to_owned(), "cpu_burst_micros");
        }
        push("cpu.cfs_quota_us", quota.text("-1"), "cpu_quota_micros");
    }
    if let Some(burst) = limits.cpu_burst {
        push("cpu.cfs_burst_us", burst.to_string(), "cpu_burst_micros");
    }
    for (file, value, limit) in [
        ("cpu.rt_period_us", limits.cpu_real_time_period, "cpu_real_time_period_micros"),
        ("cpu.rt_runtime_us", limits.cpu_real_time_runtime, "cpu_real_time_runtime_micros"),
    ] {
        if let Some(value) = value {
            let unsupported = IfAbsent::Unsupported("cpu_real_time");
            writes.push(Write::new(file, value.to_string(), limit).if_absent(unsupported));
        }
    }
    writes
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Limits;

    const M: i64 = 1 << 20;

    fn planned(
        controller: &'static str,
        limits: &Limits,
        current: CurrentMemory,
    ) -> Vec<(&'static str, String)> {
        writes(controller, &limits.check().unwrap(), current)
            .into_iter()
            .map(|write| (write.file, write.value))
            .collect()
    }

    fn memory_limits(memory: i64, total: Option<i64>) -> Limits {
        Limits { memory_limit_bytes: Some(memory), memory_swap_limit_bytes: total, ..Limits::default() }
    }

    fn files(writes: &[(&'static str, String)]) -> Vec<&'static str> {
        writes.iter().map(|(file, _)| *file).collect()
    }

    #[test]
    fn c01_shares_are_written_as_they_are() {
        let limits = Limits { cpu_shares: Some(1024), ..Limits::default() };
        assert_eq!(planned("cpu", &limits, CurrentMemory::UNLIMITED), [("cpu.shares", "1024".to_owned())]);
    }

    #[test]
    fn c02_memsw_is_the_sum_and_comes_after_the_limit_in_a_fresh_group() {
        let writes = planned("memory", &memory_limits(64 * M, None), CurrentMemory::UNLIMITED);
        assert_eq!(
            writes,
            [
                ("memory.limit_in_bytes", "67108864".to_owned()),
                ("memory.memsw.limit_in_bytes", "134217728".to_owned())
            ]
        );
        let writes = planned("memory", &memory_limits(64 * M, Some(-1)), CurrentMemory::UNLIMITED);
        assert!(writes.contains(&("memory.memsw.limit_in_bytes", "-1".to_owned())));
    }

    #[test]
    fn c06_growing_lifts_memsw_first_and_shrinking_lowers_the_limit_first() {
        let at = |memory: i64, total: i64| CurrentMemory {
            memory_and_swap: if total < 0 { Amount::Unlimited } else { Amount::Limited(total as u64) },
            memory: Amount::Limited(memory as u64),
        };
        let limit_first = ["memory.limit_in_bytes", "memory.memsw.limit_in_bytes"];
        let memsw_first = ["memory.memsw.limit_in_bytes", "memory.limit_in_bytes"];
        for (limits, current, order) in [
            (memory_limits(200 * M, Some(300 * M)), at(64 * M, 128 * M), memsw_first),
            (memory_limits(64 * M, Some(128 * M)), at(200 * M, 300 * M), limit_first),
            // One grows, the other shrinks.
            (memory_limits(100 * M, Some(110 * M)), at(64 * M, 128 * M), limit_first),
            (memory_limits(32 * M, Some(256 * M)), at(64 * M, 128 * M), memsw_first),
            (memory_limits(-1, None), at(64 * M, 128 * M), memsw_first),
            (memory_limits(64 * M, None), at(200 * M, -1), limit_first),
        ] {
            assert_eq!(files(&planned("memory", &limits, current)), order, "{limits:?} at {current:?}");
        }
    }

    proptest::proptest! {
        /// Whatever the change, the kernel's rule limit <= memsw holds after each single write.
        #[test]
        fn c06_the_order_never_breaks_the_kernels_rule(
            old_memory in 6_i64..1000, old_swap in 0_i64..1000, new_memory in 6_i64..1000, new_swap in 0_i64..1000,
        ) {
            let (mut memory, mut total) = (old_memory * M, (old_memory + old_swap) * M);
            let current = CurrentMemory {
                memory: Amount::Limited(memory as u64),
                memory_and_swap: Amount::Limited(total as u64),
            };
            let limits = memory_limits(new_memory * M, Some((new_memory + new_swap) * M));
            for (file, value) in planned("memory", &limits, current) {
                let value: i64 = value.parse().unwrap();
                if file == "memory.limit_in_bytes" { memory = value } else { total = value }
                proptest::prop_assert!(memory <= total, "{file} {value}");
            }
        }
    }

    #[test]
    fn c05_pids_zero_minus_one_and_sixteen() {
        for (value, expected) in [(0, "max"), (-1, "max"), (16, "16")] {
            let limits = Limits { pids_limit: Some(value), ..Limits::default() };
            assert_eq!(
                planned("pids", &limits, CurrentMemory::UNLIMITED),
                [("pids.max", expected.to_owned())]
            );
        }
    }

    #[test]
    fn the_period_is_written_before_the_quota() {
        let limits =
            Limits { cpu_quota_micros: Some(50_000), cpu_period_micros: Some(20_000), ..Limits::default() };
        assert_eq!(
            files(&planned("cpu", &limits, CurrentMemory::UNLIMITED)),
            ["cpu.cfs_period_us", "cpu.cfs_quota_us"]
        );
    }
}
