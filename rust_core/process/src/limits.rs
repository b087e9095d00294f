//! Resource limits and the OOM score; what this host does not let us give is clamped and told.

use std::os::fd::BorrowedFd;

use rustix::fs::{openat, Mode, OFlags};
use rustix::io::Errno;
use rustix::process::{getrlimit, setrlimit, Resource, Rlimit as Pair};

use crate::at::{At, Outcome};
use crate::failure::StartFailure;
use crate::report::Reporter;
use crate::spec::Rlimit;
use crate::step::Step;

const RESOURCES: [(&str, Resource); 16] = [
    ("RLIMIT_AS", Resource::As),
    ("RLIMIT_CORE", Resource::Core),
    ("RLIMIT_CPU", Resource::Cpu),
    ("RLIMIT_DATA", Resource::Data),
    ("RLIMIT_FSIZE", Resource::Fsize),
    ("RLIMIT_LOCKS", Resource::Locks),
    ("RLIMIT_MEMLOCK", Resource::Memlock),
    ("RLIMIT_MSGQUEUE", Resource::Msgqueue),
    ("RLIMIT_NICE", Resource::Nice),
    ("RLIMIT_NOFILE", Resource::Nofile),
    ("RLIMIT_NPROC", Resource::Nproc),
    ("RLIMIT_RSS", Resource::Rss),
    ("RLIMIT_RTPRIO", Resource::Rtprio),
    ("RLIMIT_RTTIME", Resource::Rttime),
    ("RLIMIT_SIGPENDING", Resource::Sigpending),
    ("RLIMIT_STACK", Resource::Stack),
];

fn parse(limit: &Rlimit) -> Outcome<(Resource, Pair)> {
    let refuse = |rule: &str| Err(StartFailure::rule(Step::Rlimit, &limit.name, rule));
    let Some((_, resource)) = RESOURCES.iter().find(|(name, _)| *name == limit.name) else {
        return refuse("not the name of a resource limit");
    };
    let value = |number: i64| match number {
        -1 => Ok(None),
        0.. => Ok(Some(number as u64)),
        _ => Err(StartFailure::rule(Step::Rlimit, &limit.name, "a limit is -1 (none) or not negative")),
    };
    let pair = Pair { current: value(limit.soft)?, maximum: value(limit.hard)? };
    if is_above(pair.current, pair.maximum) {
        return refuse("the soft limit is above the hard limit");
    }
    Ok((*resource, pair))
}

fn is_above(left: Option<u64>, right: Option<u64>) -> bool {
    left.unwrap_or(u64::MAX) > right.unwrap_or(u64::MAX)
}

fn lower_of(left: Option<u64>, right: Option<u64>) -> Option<u64> {
    if is_above(left, right) {
        right
    } else {
        left
    }
}

/// Names and values are ones that setrlimit takes.
///
/// # Errors
/// The limit with the rule it breaks, at step `rlimit`.
pub(crate) fn check(limits: &[Rlimit]) -> Outcome<()> {
    limits.iter().try_for_each(|limit| parse(limit).map(drop))
}

/// The hard limits are no lower than those of `limits`, as far as this process may raise them; nothing is lowered and no
/// soft limit changes. In a user namespace none can be raised any more.
pub(crate) fn raise(limits: &[Rlimit]) -> Outcome<()> {
    for limit in limits {
        let (resource, asked) = parse(limit)?;
        let held = getrlimit(resource);
        if is_above(asked.maximum, held.maximum) {
            match setrlimit(resource, Pair { current: held.current, maximum: asked.maximum }) {
                // `set` tells.
                Ok(()) | Err(Errno::PERM) => {}
                Err(errno) => return Err(StartFailure::kernel(Step::Rlimit, &limit.name, errno)),
            }
        }
    }
    Ok(())
}

/// Each limit is in force, or as near to it as the caller's own hard limit allows, which is told.
pub(crate) fn set(limits: &[Rlimit], reporter: &Reporter) -> Outcome<()> {
    for limit in limits {
        let (resource, asked) = parse(limit)?;
        match setrlimit(resource, asked) {
            Err(Errno::PERM) => {
                let held = getrlimit(resource).maximum;
                let maximum = lower_of(asked.maximum, held);
                let given = Pair { current: lower_of(asked.current, maximum), maximum };
                setrlimit(resource, given).at(Step::Rlimit, &limit.name)?;
                reporter.clamp(&format!(
                    "rlimits[{}].hard: {} lowered to {}, the engine's own, which only CAP_SYS_RESOURCE raises",
                    limit.name.trim_start_matches("RLIMIT_").to_ascii_lowercase(),
                    text(asked.maximum),
                    text(maximum),
                ));
            }
            answer => answer.at(Step::Rlimit, &limit.name)?,
        }
    }
    Ok(())
}

fn text(value: Option<u64>) -> String {
    value.map_or_else(|| "unlimited".to_owned(), |number| number.to_string())
}

/// The OOM score is `adjustment`, or stays as it is where lowering it is not allowed, which is told. `proc` is a
/// proc file system of the caller's pid namespace.
pub(crate) fn set_oom_score(proc: BorrowedFd<'_>, adjustment: i32, reporter: &Reporter) -> Outcome<()> {
    const PATH: &str = "self/oom_score_adj";
    let file = openat(proc, PATH, OFlags::RDWR | OFlags::CLOEXEC, Mode::empty()).at(Step::OomScore, PATH)?;
    match rustix::io::write(&file, adjustment.to_string().as_bytes()) {
        Err(Errno::ACCESS | Errno::PERM) => {
            let mut buffer = [0; 16];
            let count = rustix::io::pread(&file, &mut buffer, 0).at(Step::OomScore, PATH)?;
            let held = String::from_utf8_lossy(&buffer[..count]).trim().to_owned();
            reporter.clamp(&format!(
                "oom_score_adj: {adjustment} raised to {held}, the engine's own, which only CAP_SYS_RESOURCE lowers"
            ));
            Ok(())
        }
        answer => answer.map(drop).at(Step::OomScore, PATH),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limit(name: &str, soft: i64, hard: i64) -> Rlimit {
        Rlimit { name: name.to_owned(), soft, hard }
    }

    #[test]
    fn limits_that_mean_nothing_are_refused_by_name() {
        for bad in [
            limit("NOFILE", 1, 1),
            limit("rlimit_nofile", 1, 1),
            limit("RLIMIT_NOFILE", 2, 1),
            limit("RLIMIT_NOFILE", -1, 1),
            limit("RLIMIT_NOFILE", -2, -1),
        ] {
            let failure = check(std::slice::from_ref(&bad)).expect_err("refused");
            assert_eq!((failure.step, failure.path), (Step::Rlimit, bad.name));
        }
        check(&[limit("RLIMIT_NOFILE", 1, -1), limit("RLIMIT_CORE", -1, -1)]).expect("both are good");
    }

    #[test]
    fn the_lower_of_two_treats_none_as_the_highest() {
        assert_eq!(lower_of(None, Some(5)), Some(5));
        assert_eq!(lower_of(Some(4), Some(5)), Some(4));
        assert_eq!(lower_of(Some(4), None), Some(4));
        assert_eq!(lower_of(None, None), None);
    }
}
