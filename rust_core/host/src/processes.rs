//! What procfs tells about processes, by their ids, and about the network that one of them is in.

use std::fs;

/// Length of the ticks in which the kernel counts a process's time.
///
/// Source: proc_pid_stat(5), USER_HZ is 100 on every architecture that we build for.
const TICK_NANOS: u64 = 10_000_000;
/// Most bytes of arguments that are kept of one process.
pub const MAX_ARGS_BYTES: usize = 4096;

/// One process at one moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProcessInfo {
    /// Its id as this process sees it.
    pub host_pid: u32,
    /// Its id in its own, innermost pid namespace.
    pub pid: u32,
    /// Its parent's id as this process sees it.
    pub parent_host_pid: u32,
    /// Its real user id, as this process's user namespace has it.
    pub uid: u32,
    /// One letter. Source: proc_pid_stat(5).
    pub state: char,
    /// When it began.
    pub start_time_unix_nanos: i64,
    /// CPU time that it used, in nanoseconds.
    pub cpu_usage_nanos: u64,
    /// Resident memory in bytes.
    pub resident_bytes: u64,
    /// Program and arguments, at most [`MAX_ARGS_BYTES`] together; the name in brackets where there are none.
    pub args: Vec<String>,
}

/// What is known of these processes, in their order; those that have ended meanwhile are left out. Blocking (three
/// small reads a process).
#[must_use]
pub fn processes(host_pids: &[u32]) -> Vec<ProcessInfo> {
    let Some(boot) = boot_unix_nanos() else { return Vec::new() };
    host_pids.iter().filter_map(|pid| read_one(*pid, boot)).collect()
}

/// (bytes received, bytes sent) on every interface but the loopback of the network namespace that a process is in;
/// None if it has ended. Blocking (one read).
#[must_use]
pub fn network_bytes(host_pid: u32) -> Option<(u64, u64)> {
    Some(sum_interfaces(&fs::read_to_string(format!("/proc/{host_pid}/net/dev")).ok()?))
}

fn boot_unix_nanos() -> Option<i64> {
    let text = fs::read_to_string("/proc/stat").ok()?;
    let seconds: i64 = text.lines().find_map(|line| line.strip_prefix("btime "))?.trim().parse().ok()?;
    seconds.checked_mul(1_000_000_000)
}

fn read_one(host_pid: u32, boot_unix_nanos: i64) -> Option<ProcessInfo> {
    let stat = fs::read_to_string(format!("/proc/{host_pid}/stat")).ok()?;
    let status = fs::read_to_string(format!("/proc/{host_pid}/status")).ok()?;
    // Empty for a zombie.
    let cmdline = fs::read(format!("/proc/{host_pid}/cmdline")).unwrap_or_default();
    parse(host_pid, &stat, &status, &cmdline, boot_unix_nanos)
}

fn parse(
    host_pid: u32,
    stat: &str,
    status: &str,
    cmdline: &[u8],
    boot_unix_nanos: i64,
) -> Option<ProcessInfo> {
    // The name stands in parentheses and may hold some itself: what follows the last one is plain.
    let (before, after) = stat.rsplit_once(')')?;
    let name = before.split_once('(')?.1;
    let fields: Vec<&str> = after.split_ascii_whitespace().collect();
    // Field numbers of proc_pid_stat(5), which counts from 1 and has two before the parenthesis's end.
    let field = |number: usize| fields.get(number - 3).copied();
    let nanos = |ticks: u64| ticks.saturating_mul(TICK_NANOS);
    let ticks = field(14)?.parse::<u64>().ok()?.saturating_add(field(15)?.parse().ok()?);
    let started = i64::try_from(nanos(field(22)?.parse().ok()?)).ok()?;
    let of_status = |key: &str| status.lines().find_map(|line| line.strip_prefix(key));
    Some(ProcessInfo {
        host_pid,
        pid: of_status("NSpid:")
            .and_then(|ids| ids.split_whitespace().last()?.parse().ok())
            .unwrap_or(host_pid),
        parent_host_pid: field(4)?.parse().ok()?,
        uid: of_status("Uid:")?.split_whitespace().next()?.parse().ok()?,
        state: field(3)?.chars().next()?,
        start_time_unix_nanos: boot_unix_nanos.saturating_add(started),
        cpu_usage_nanos: nanos(ticks),
        resident_bytes: kibibytes(status, "VmRSS:").unwrap_or(0),
        args: args(cmdline, name),
    })
}

fn kibibytes(text: &str, key: &str) -> Option<u64> {
    let value = text.lines().find_map(|line| line.strip_prefix(key))?;
    value.trim().trim_end_matches("kB").trim().parse::<u64>().ok()?.checked_mul(1024)
}

fn args(cmdline: &[u8], name: &str) -> Vec<String> {
    let bounded = &cmdline[..cmdline.len().min(MAX_ARGS_BYTES)];
    let bounded = bounded.strip_suffix(b"\0").unwrap_or(bounded);
    if bounded.is_empty() {
        return vec![format!("[{name}]")];
    }
    bounded.split(|byte| *byte == 0).map(|arg| String::from_utf8_lossy(arg).into_owned()).collect()
}

fn sum_interfaces(text: &str) -> (u64, u64) {
    let mut sums = (0_u64, 0_u64);
    for line in text.lines() {
        let Some((name, counters)) = line.split_once(':') else { continue };
        if name.trim() == "lo" {
            continue;
        }
        let mut numbers = counters.split_whitespace().map(|word| word.parse::<u64>().unwrap_or(0));
        sums.0 = sums.0.saturating_add(numbers.next().unwrap_or(0));
        // Seven more columns of what was received stand before what was sent.
        sums.1 = sums.1.saturating_add(numbers.nth(7).unwrap_or(0));
    }
    sums
}

#[cfg(test)]
mod tests {
    use super::*;

    const STAT: &str =
        "77 (a) (b) S 5 77 77 0 -1 4194560 1 0 0 0 150 50 0 0 20 0 1 0 1000 4096 3 18446744073709551615";
    const STATUS: &str = "Name:\ta) (b\nUid:\t1000\t0\t0\t0\nNSpid:\t77\t9\nVmRSS:\t    12 kB\n";

    #[test]
    fn a_name_with_parentheses_shifts_nothing() {
        let found = parse(77, STAT, STATUS, b"sh\0-c\0\0", 5_000_000_000).unwrap();
        assert_eq!(
            found,
            ProcessInfo {
                host_pid: 77,
                pid: 9,
                parent_host_pid: 5,
                uid: 1000,
                state: 'S',
                start_time_unix_nanos: 15_000_000_000,
                cpu_usage_nanos: 2_000_000_000,
                resident_bytes: 12 * 1024,
                args: vec!["sh".into(), "-c".into(), String::new()],
            }
        );
    }

    #[test]
    fn a_process_without_arguments_is_told_by_its_name() {
        assert_eq!(parse(77, STAT, STATUS, b"", 0).unwrap().args, ["[a) (b]"]);
    }

    #[test]
    fn arguments_are_bounded() {
        let found = parse(77, STAT, STATUS, &[b'x'; 10_000], 0).unwrap();
        assert_eq!(found.args, ["x".repeat(MAX_ARGS_BYTES)]);
    }

    #[test]
    fn a_torn_file_is_no_process() {
        for length in 0..STAT.len() - 40 {
            drop(parse(77, &STAT[..length], STATUS, b"", 0));
        }
        assert_eq!(parse(77, "77 (a", STATUS, b"", 0), None);
        assert_eq!(parse(77, STAT, "", b"", 0), None);
    }

    #[test]
    fn this_process_is_found_and_an_ended_one_left_out() {
        let me = std::process::id();
        let mut child = std::process::Command::new("true").spawn().unwrap();
        let gone = child.id();
        child.wait().unwrap();
        let found = processes(&[gone, me]);
        assert_eq!(found.iter().map(|one| one.host_pid).collect::<Vec<_>>(), [me]);
        assert!(found[0].resident_bytes > 0 && !found[0].args.is_empty());
    }

    #[test]
    fn the_loopback_does_not_count() {
        let text = "Inter-|   Receive\n face |bytes    packets\n    lo: 7 1 0 0 0 0 0 0 7 1 0 0 0 0 0 0\n  eth0: 10 1 0 0 0 0 0 0 20 1 0 0 0 0 0 0\neth1:1 1 0 0 0 0 0 0 2 1 0 0 0 0 0 0\n";
        assert_eq!(sum_interfaces(text), (11, 22));
        assert!(network_bytes(std::process::id()).is_some());
    }
}
