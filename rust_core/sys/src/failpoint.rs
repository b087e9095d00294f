//! Named places at which a test can kill this process, so that recovery is tested at every side effect.
//!
//! `FLUYT_FAILPOINT=name` arms one: the process that reaches it kills itself with SIGKILL (the first process of a pid
//! namespace, which is immune to that, with a trap). With `FLUYT_FAILPOINT=name:N` it dies at the N-th time (counted
//! from 1) that it comes by. Unarmed, a failpoint costs one comparison.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::OnceLock;

/// The environment variable that arms a failpoint.
pub const VARIABLE: &str = "FLUYT_FAILPOINT";

struct Armed {
    name: String,
    at: u64,
    seen: AtomicU64,
}

static ARMED: OnceLock<Option<Armed>> = OnceLock::new();

fn parse(value: &str) -> Armed {
    let (name, at) = match value.rsplit_once(':') {
        Some((name, count)) => (name, count.parse().unwrap_or(1)),
        None => (value, 1),
    };
    Armed { name: name.to_owned(), at, seen: AtomicU64::new(0) }
}

fn armed() -> Option<&'static Armed> {
    ARMED.get_or_init(|| std::env::var(VARIABLE).ok().map(|value| parse(&value))).as_ref()
}

/// Kills this process if `name` is the armed failpoint and its count is reached; otherwise does nothing.
pub fn hit(name: &str) {
    let Some(armed) = armed() else { return };
    if armed.name == name && armed.seen.fetch_add(1, Ordering::Relaxed) + 1 == armed.at {
        let _ = rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::KILL);
        // Still here: the first process of a pid namespace, which the kernel keeps from signals of its own namespace.
        // It cannot be kept from a trap. Source: pid_namespaces(7); kernel/signal.c, force_sig_info_to_task.
        std::process::abort();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_may_carry_a_count() {
        let armed = parse("pull.blob:3");
        assert_eq!((armed.name.as_str(), armed.at), ("pull.blob", 3));
        let armed = parse("pull.blob");
        assert_eq!((armed.name.as_str(), armed.at), ("pull.blob", 1));
    }

    #[test]
    fn an_unarmed_failpoint_does_nothing() {
        hit("never.armed.in.tests");
    }
}
