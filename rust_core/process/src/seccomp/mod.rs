//! The seccomp filter of a container, compiled in the daemon into the bytes that the kernel takes.
//!
//! One program holds every rule and every architecture of the host; a number is found by bisection, so that the
//! kernel's check of the program at its installation, and each judged call, cost little.

mod bpf;
mod conditions;
mod custom;
mod profile;

use std::fmt;
use std::str::FromStr;

use bpf::Verdict;
pub use custom::{ProfileInvalid, MAX_FILTER_INSTRUCTIONS, MAX_PROFILE_BYTES};
use profile::{Abi, Rule};

/// Which system calls a container may make.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Profile {
    /// Docker's default: no new namespaces, mounts, modules, kernel keys, tracing of the kernel.
    Default,
    /// Every call.
    Unconfined,
    /// A profile in the JSON form of Docker's, or of the OCI's `linux.seccomp`.
    Json(String),
}

/// A name that is no profile.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnknownProfile {
    /// The name.
    pub name: String,
}

impl fmt::Display for UnknownProfile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "seccomp profile {:?}: it is `default`, `unconfined` or a profile in JSON", self.name)
    }
}

impl std::error::Error for UnknownProfile {}

impl FromStr for Profile {
    type Err = UnknownProfile;

    fn from_str(name: &str) -> Result<Self, Self::Err> {
        match name {
            "default" => Ok(Self::Default),
            "unconfined" => Ok(Self::Unconfined),
            json if json.trim_start().starts_with('{') => Ok(Self::Json(json.to_owned())),
            _ => Err(UnknownProfile { name: name.to_owned() }),
        }
    }
}

/// EPERM of errno(3): what the profile answers to a call that it does not allow.
const EPERM: u16 = 1;
/// ENOSYS of errno(3): what a program takes as "this kernel is older".
const ENOSYS: u16 = 38;

/// The filters of `profile` for a process that may have `capabilities` (without `CAP_`; they allow further calls), to
/// be installed in this order: one, or none. The same arguments give the same bytes; take them once for many starts.
///
/// A call that the profile does not name is EPERM, one newer than all it names ENOSYS, so that a C library falls back
/// to what it used before. On x86-64 programs of 32 bits (i386) are judged by the same rules; a program of any other
/// architecture is killed (SIGSYS) at its first call. A profile of the caller's own says itself what happens.
///
/// # Errors
/// [`ProfileInvalid`] for JSON that is no profile, or one that this engine cannot carry out.
pub fn compile(profile: &Profile, capabilities: &[String]) -> Result<Vec<Vec<u8>>, ProfileInvalid> {
    match profile {
        Profile::Unconfined => Ok(Vec::new()),
        Profile::Json(text) => custom::compile(text, capabilities).map(|filter| vec![filter]),
        Profile::Default => {
            let sections: Vec<(u32, Vec<(u32, Verdict)>)> = profile::abis_of_this_host()
                .iter()
                .map(|abi| (abi.audit_number(), ranges(*abi, capabilities)))
                .collect();
            Ok(vec![bpf::assemble(&sections, &bpf::leaf)])
        }
    }
}

/// What happens to each number, as (first number, verdict) of consecutive ranges that begin at 0.
fn ranges(abi: Abi, capabilities: &[String]) -> Vec<(u32, Verdict)> {
    let mut verdicts: Vec<(u32, Verdict)> = Vec::new();
    for line in profile::lines() {
        if let Some(number) = line.numbers[abi as usize] {
            verdicts.push((number, verdict(&line.rule, &line.capabilities, capabilities)));
        }
    }
    verdicts.sort_unstable_by_key(|(number, _)| *number);
    let after_last = verdicts.last().map_or(0, |(number, _)| number + 1);
    let mut ranges: Vec<(u32, Verdict)> = vec![(0, Verdict::Errno(EPERM))];
    let mut push = |first: u32, verdict: Verdict| {
        if ranges.last().is_some_and(|(begin, _)| *begin == first) {
            ranges.pop();
        }
        if ranges.last().is_none_or(|(_, last)| *last != verdict) {
            ranges.push((first, verdict));
        }
    };
    for (number, verdict) in verdicts {
        push(number, verdict);
        push(number + 1, Verdict::Errno(EPERM));
    }
    push(after_last, Verdict::Errno(ENOSYS));
    ranges
}

fn verdict(rule: &Rule, with: &[&str], held: &[String]) -> Verdict {
    if with.iter().any(|capability| held.iter().any(|name| name == capability)) {
        return Verdict::Allow;
    }
    match rule {
        Rule::Allow => Verdict::Allow,
        Rule::OnlyWithCapability => Verdict::Errno(EPERM),
        Rule::NotImplemented => Verdict::Errno(ENOSYS),
        Rule::Clone => Verdict::Clone,
        Rule::Socket => Verdict::Socket,
        Rule::Personality => Verdict::Personality,
    }
}

#[cfg(test)]
mod tests;
