//! What limits mean in the files of the unified hierarchy.

use crate::limits::DEFAULT_CPU_PERIOD_MICROS;
use crate::plan::{IfAbsent, Write, NO_SWAP_ACCOUNT};
use crate::{Amount, CheckedLimits};

/// The weight (1 to 10000) that these shares (2 to 262144) mean: 1024 shares are the default weight of 100.
///
/// Source: runc 1.3.2 and crun 1.23, `10^((l^2 + 125 l) / 612 - 7/34)` with l = log2(shares), rounded up.
#[must_use]
pub fn cpu_weight(shares: u64) -> u64 {
    if shares <= 2 {
        return 1;
    }
    if shares >= 262_144 {
        return 10_000;
    }
    let l = (shares as f64).log2();
    let weight = 10_f64.powf((l * l + 125.0 * l) / 612.0 - 7.0 / 34.0);
    // The formula hits whole numbers exactly; rounding noise must not lift them to the next.
    (weight - 1e-9).ceil() as u64
}

/// The writes that `limits` need for `controller`.
pub(crate) fn writes(controller: &'static str, limits: &CheckedLimits) -> Vec<Write> {
    match controller {
        "memory" => memory(limits),
        "cpu" => cpu(limits),
        "cpuset" => crate::plan::cpuset(limits),
        "pids" => crate::plan::pids(limits),
        "io" => crate::block_io::writes_v2(limits),
        "hugetlb" => crate::huge_pages::writes_v2(&limits.huge_pages),
        _ => Vec::new(),
    }
}

fn memory(limits: &CheckedLimits) -> Vec<Write> {
    let mut writes = Vec::new();
    if let Some(memory) = limits.memory {
        writes.push(Write::new("memory.max", memory.text("max"), "memory_limit_bytes"));
    }
    // v2 counts swap alone.
    let swap = match (limits.memory_and_swap, limits.memory) {
        (Some(Amount::Limited(total)), Some(Amount::Limited(memory))) => {
            Some(Amount::Limited(total - memory))
        }
        (Some(Amount::Unlimited), _) => Some(Amount::Unlimited),
        _ => None,
    };
    if let Some(swap) = swap {
        let write = Write::new("memory.swap.max", swap.text("max"), "memory_swap_limit_bytes");
        writes.push(write.if_absent(NO_SWAP_ACCOUNT));
    }
    if let Some(reserved) = limits.memory_reservation {
        writes.push(Write::new("memory.low", reserved.text("0"), "memory_reservation_bytes"));
    }
    if let Some(swappiness) = limits.memory_swappiness {
        let absent =
            IfAbsent::Clamp { given: "the host's", reason: "cgroup v2 has no swappiness of a group" };
        let write = Write::new("memory.swappiness", swappiness.to_string(), "memory_swappiness");
        writes.push(write.if_absent(absent));
    }
    if limits.oom_kill_disabled == Some(true) {
        let absent = IfAbsent::Clamp { given: "it kills", reason: "cgroup v2 cannot leave off killing" };
        writes.push(Write::new("memory.oom_control", "1".to_owned(), "oom_kill_disabled").if_absent(absent));
    }
    writes
}

fn cpu(limits: &CheckedLimits) -> Vec<Write> {
    let mut writes = Vec::new();
    if limits.cpu_quota.is_some() || limits.cpu_period.is_some() {
        let quota = limits.cpu_quota.unwrap_or(Amount::Unlimited).text("max");
        let period = limits.cpu_period.unwrap_or(DEFAULT_CPU_PERIOD_MICROS);
        // The kernel holds burst <= quota at every moment.
        if limits.cpu_burst.is_some() {
            writes.push(Write::new("cpu.max.burst", "0".to_owned(), "cpu_burst_micros"));
        }
        writes.push(Write::new("cpu.max", format!("{quota} {period}"), "cpu_quota_micros"));
    }
    if let Some(burst) = limits.cpu_burst {
        writes.push(Write::new("cpu.max.burst", burst.to_string(), "cpu_burst_micros"));
    }
    if limits.cpu_real_time_runtime.is_some() || limits.cpu_real_time_period.is_some() {
        let write = Write::new("cpu.rt_runtime_us", "0".to_owned(), "cpu_real_time_runtime_micros");
        writes.push(write.if_absent(IfAbsent::Unsupported("cpu_real_time")));
    }
    if let Some(shares) = limits.cpu_shares {
        writes.push(Write::new("cpu.weight", cpu_weight(shares).to_string(), "cpu_shares"));
    }
    writes
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Limits;

    fn planned(controller: &'static str, limits: &Limits) -> Vec<(&'static str, String)> {
        writes(controller, &limits.check().unwrap())
            .into_iter()
            .map(|write| (write.file, write.value))
            .collect()
    }

    #[test]
    fn c01_shares_become_weights_by_the_new_formula() {
        for (shares, weight) in [(2, 1), (3, 2), (512, 59), (1024, 100), (2048, 174), (262_144, 10_000)] {
            assert_eq!(cpu_weight(shares), weight, "{shares} shares");
        }
        let limits = Limits { cpu_shares: Some(1024), ..Limits::default() };
        assert_eq!(planned("cpu", &limits), [("cpu.weight", "100".to_owned())]);
    }

    #[test]
    fn c01_unset_shares_leave_the_file_untouched() {
        assert_eq!(planned("cpu", &Limits::default()), []);
    }

    proptest::proptest! {
        #[test]
        fn c01_more_shares_never_weigh_less(shares in 2_u64..262_144) {
            let (weight, next) = (cpu_weight(shares), cpu_weight(shares + 1));
            proptest::prop_assert!((1..=10_000).contains(&weight) && weight <= next);
        }
    }

    #[test]
    fn c02_swap_max_is_what_is_left_above_memory() {
        const M: i64 = 1 << 20;
        for (memory, swap, expected) in [
            (64 * M, Some(96 * M), "33554432"),
            (64 * M, Some(64 * M), "0"),
            (64 * M, Some(-1), "max"),
            (64 * M, None, "67108864"),
            (64 * M, Some(0), "67108864"),
            (-1, None, "max"),
        ] {
            let limits = Limits {
                memory_limit_bytes: Some(memory),
                memory_swap_limit_bytes: swap,
                ..Limits::default()
            };
            let writes = planned("memory", &limits);
            assert_eq!(writes[1], ("memory.swap.max", expected.to_owned()), "{memory} {swap:?}");
        }
        let limits = Limits { memory_swap_limit_bytes: Some(-1), ..Limits::default() };
        assert_eq!(planned("memory", &limits), [("memory.swap.max", "max".to_owned())]);
    }

    #[test]
    fn c05_pids_zero_minus_one_and_sixteen() {
        for (value, expected) in [(0, "max"), (-1, "max"), (16, "16")] {
            let limits = Limits { pids_limit: Some(value), ..Limits::default() };
            assert_eq!(planned("pids", &limits), [("pids.max", expected.to_owned())]);
        }
    }

    #[test]
    fn quota_and_period_are_one_value() {
        let of = |quota, period| {
            planned(
                "cpu",
                &Limits { cpu_quota_micros: quota, cpu_period_micros: period, ..Limits::default() },
            )
        };
        assert_eq!(of(Some(50_000), None), [("cpu.max", "50000 100000".to_owned())]);
        assert_eq!(of(Some(50_000), Some(20_000)), [("cpu.max", "50000 20000".to_owned())]);
        assert_eq!(of(Some(-1), None), [("cpu.max", "max 100000".to_owned())]);
        assert_eq!(of(None, Some(20_000)), [("cpu.max", "max 20000".to_owned())]);
    }
}
