//! A profile of the caller's own, in the JSON form of Docker's `--security-opt seccomp=FILE` or of the OCI's
//! `linux.seccomp`, and the program that it means. Of rules for one call those with conditions come first, in their order,
//! then the first without; what none fits has the default action.
//!
//! Sources: OCI runtime-spec config-linux.md, Seccomp; moby profiles/seccomp/seccomp.go for `archMap`, `includes` and
//! `excludes`; libseccomp for what conditions mean; linux/seccomp.h for the answers.

use std::collections::BTreeMap;

use errors::Catalogued;
use serde::Deserialize;

use super::bpf::{self, plain, Instruction};
use super::conditions::{self, Condition, Rule};
use super::profile::{self, Abi};

/// The longest profile.
pub const MAX_PROFILE_BYTES: usize = 256 * 1024;
/// The longest program: BPF_MAXINSNS of linux/bpf_common.h.
pub const MAX_FILTER_INSTRUCTIONS: usize = 4096;
/// What the x32 calling convention of x86-64 adds to its numbers; this engine lets no program use it.
const X32: u32 = 0x4000_0000;

const KILL_PROCESS: u32 = 0x8000_0000;
const KILL_THREAD: u32 = 0;
const TRAP: u32 = 0x0003_0000;
const ERRNO: u32 = 0x0005_0000;
const TRACE: u32 = 0x7ff0_0000;
const LOG: u32 = 0x7ffc_0000;
const ALLOW: u32 = 0x7fff_0000;
/// EPERM and ENOSYS of errno(3).
const EPERM: u32 = 1;
const ENOSYS: u32 = 38;
/// The largest errno that the kernel gives back: MAX_ERRNO of linux/err.h.
const MAX_ERRNO: u32 = 4095;

/// A profile that is none, or asks for what this engine does not do.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the seccomp profile is refused: {rule}")]
pub struct ProfileInvalid {
    /// What it would have to be.
    pub rule: String,
}

impl Catalogued for ProfileInvalid {
    fn reason(&self) -> &'static str {
        "FIELD_INVALID"
    }

    fn metadata(&self) -> Vec<(&'static str, String)> {
        vec![("field", "spec.security.seccomp.json".to_owned()), ("rule", self.rule.clone())]
    }
}

fn invalid(rule: impl Into<String>) -> ProfileInvalid {
    ProfileInvalid { rule: rule.into() }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Document {
    default_action: String,
    default_errno_ret: Option<u32>,
    #[serde(default)]
    architectures: Option<Vec<String>>,
    #[serde(default)]
    arch_map: Option<Vec<ArchitectureMap>>,
    #[serde(default)]
    flags: Option<Vec<String>>,
    #[serde(default)]
    listener_path: Option<String>,
    #[serde(default)]
    syscalls: Option<Vec<Call>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ArchitectureMap {
    architecture: String,
    #[serde(default)]
    sub_architectures: Option<Vec<String>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Call {
    #[serde(default)]
    name: Option<String>,
    #[serde(default)]
    names: Option<Vec<String>>,
    action: String,
    errno_ret: Option<u32>,
    #[serde(default)]
    args: Option<Vec<Argument>>,
    #[serde(default)]
    includes: Option<Filter>,
    #[serde(default)]
    excludes: Option<Filter>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Argument {
    index: u32,
    value: u64,
    #[serde(default)]
    value_two: u64,
    op: String,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase")]
struct Filter {
    #[serde(default)]
    caps: Option<Vec<String>>,
    #[serde(default)]
    arches: Option<Vec<String>>,
    #[serde(default)]
    min_kernel: Option<String>,
}

/// The program of the profile for a process that may have `capabilities`.
pub(super) fn compile(text: &str, capabilities: &[String]) -> Result<Vec<u8>, ProfileInvalid> {
    if text.len() > MAX_PROFILE_BYTES {
        return Err(invalid(format!("it is at most {MAX_PROFILE_BYTES} bytes long (MAX_PROFILE_BYTES)")));
    }
    let document: Document =
        serde_json::from_str(text).map_err(|error| invalid(format!("it cannot be read: {error}")))?;
    if document.listener_path.as_deref().is_some_and(|path| !path.is_empty()) {
        return Err(invalid("a listener (listenerPath) is not supported"));
    }
    // Without threads beside the one that installs it, there is nothing to synchronise.
    let is_needless = |flag: &&String| flag.as_str() != "SECCOMP_FILTER_FLAG_TSYNC";
    if let Some(flag) = document.flags.iter().flatten().find(is_needless) {
        return Err(invalid(format!("the flag {flag} is not supported")));
    }
    let abis = architectures(&document)?;
    let default = action(&document.default_action, document.default_errno_ret)?;
    let calls = document.syscalls.iter().flatten();
    let calls: Vec<&Call> = calls.filter(|call| is_meant(call, capabilities)).collect();
    let sections = abis
        .into_iter()
        .map(|abi| Ok((abi.audit_number(), ranges(abi, default, &calls)?)))
        .collect::<Result<Vec<_>, ProfileInvalid>>()?;
    let program = bpf::assemble(&sections, &|judged: &Judged| judged.instructions());
    let length = program.len() / 8;
    if length > MAX_FILTER_INSTRUCTIONS {
        let rule = format!("it needs {length} instructions, {MAX_FILTER_INSTRUCTIONS} at most are taken");
        return Err(invalid(format!("{rule} (MAX_FILTER_INSTRUCTIONS)")));
    }
    Ok(program)
}

/// The architectures whose programs run; without any, that of the host.
fn architectures(document: &Document) -> Result<Vec<Abi>, ProfileInvalid> {
    let native = profile::abis_of_this_host()[0];
    let listed = document.architectures.iter().flatten();
    let mapped =
        document.arch_map.iter().flatten().filter(|entry| abi_of(&entry.architecture) == Some(native));
    let subordinate = mapped.flat_map(|entry| entry.sub_architectures.iter().flatten());
    if document.architectures.is_some() && document.arch_map.is_some() {
        return Err(invalid("it has either architectures or archMap"));
    }
    let mut abis = vec![native];
    for name in listed.chain(subordinate) {
        match abi_of(name) {
            Some(abi) if profile::abis_of_this_host().contains(&abi) && !abis.contains(&abi) => {
                abis.push(abi)
            }
            // No program of another architecture runs here.
            _ if name.starts_with("SCMP_ARCH_") => {}
            _ => return Err(invalid(format!("{name:?} is no architecture, as SCMP_ARCH_X86_64 is"))),
        }
    }
    Ok(abis)
}

fn abi_of(name: &str) -> Option<Abi> {
    match name {
        "SCMP_ARCH_X86_64" => Some(Abi::X86_64),
        "SCMP_ARCH_X86" => Some(Abi::I386),
        "SCMP_ARCH_AARCH64" => Some(Abi::Aarch64),
        _ => None,
    }
}

fn action(name: &str, errno: Option<u32>) -> Result<u32, ProfileInvalid> {
    let errno = errno.unwrap_or(EPERM);
    match name {
        "SCMP_ACT_ALLOW" => Ok(ALLOW),
        "SCMP_ACT_LOG" => Ok(LOG),
        "SCMP_ACT_TRAP" => Ok(TRAP),
        "SCMP_ACT_KILL" | "SCMP_ACT_KILL_THREAD" => Ok(KILL_THREAD),
        "SCMP_ACT_KILL_PROCESS" => Ok(KILL_PROCESS),
        "SCMP_ACT_ERRNO" | "SCMP_ACT_TRACE" if errno > MAX_ERRNO => {
            Err(invalid(format!("errnoRet {errno} is above {MAX_ERRNO}")))
        }
        "SCMP_ACT_ERRNO" => Ok(ERRNO | errno),
        "SCMP_ACT_TRACE" => Ok(TRACE | errno),
        _ => Err(invalid(format!("the action {name:?} is not supported"))),
    }
}

/// Whether the entry is for this host and a process with these capabilities.
fn is_meant(call: &Call, capabilities: &[String]) -> bool {
    let architecture = if cfg!(target_arch = "aarch64") { "arm64" } else { "amd64" };
    let holds = |names: &Option<Vec<String>>| {
        names.as_ref().map(|names| {
            let is_held = |name: &String| capabilities.contains(&name.trim_start_matches("CAP_").to_owned());
            (names.iter().any(is_held), names.iter().all(is_held), names.is_empty())
        })
    };
    let is_here =
        |filter: &Filter| filter.arches.as_ref().map(|arches| arches.iter().any(|arch| arch == architecture));
    if let Some(excludes) = &call.excludes {
        let is_new = excludes.min_kernel.as_deref().is_some_and(is_kernel_at_least);
        let has_any = holds(&excludes.caps).is_some_and(|(any, ..)| any);
        if is_here(excludes) == Some(true) || has_any || is_new {
            return false;
        }
    }
    call.includes.as_ref().is_none_or(|includes| {
        let is_listed = includes.arches.as_ref().is_none_or(Vec::is_empty) || is_here(includes) == Some(true);
        let has_all = holds(&includes.caps).is_none_or(|(_, all, is_empty)| all || is_empty);
        let is_new =
            includes.min_kernel.as_deref().is_none_or(|text| text.is_empty() || is_kernel_at_least(text));
        is_listed && has_all && is_new
    })
}

/// Whether this kernel is of that version, `4.8`, or later.
fn is_kernel_at_least(wanted: &str) -> bool {
    let version = |text: &str| {
        let mut numbers = text.split(|letter: char| !letter.is_ascii_digit());
        let mut next = || numbers.next().and_then(|number| number.parse::<u32>().ok()).unwrap_or(0);
        (next(), next())
    };
    let release = rustix::system::uname().release().to_string_lossy().into_owned();
    version(&release) >= version(wanted)
}

/// What happens to one number.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Judged {
    rules: Vec<Rule>,
    otherwise: u32,
}

impl Judged {
    fn instructions(&self) -> Vec<Instruction> {
        let mut program: Vec<Instruction> = self.rules.iter().flat_map(conditions::instructions).collect();
        program.push(plain(bpf::RETURN, self.otherwise));
        program
    }
}

/// What happens to each number, as (first number, what) of consecutive ranges that begin at 0.
fn ranges(abi: Abi, default: u32, calls: &[&Call]) -> Result<Vec<(u32, Judged)>, ProfileInvalid> {
    let numbers = profile::numbers_of(abi);
    let mut found: BTreeMap<u32, (Vec<Rule>, Option<u32>)> = BTreeMap::new();
    for call in calls {
        let result = action(&call.action, call.errno_ret)?;
        let rules = rules_of(call.args.as_deref().unwrap_or_default(), result)?;
        for name in call.names.iter().flatten().chain(&call.name) {
            // As libseccomp's users do, a name that no kernel known here has is passed over.
            let Some(number) = numbers.get(name.as_str()) else { continue };
            let (conditional, always) = found.entry(*number).or_default();
            if rules.is_empty() {
                always.get_or_insert(result);
            }
            conditional.extend(rules.iter().cloned());
        }
    }
    let untold = Judged { rules: Vec::new(), otherwise: default };
    let mut ranges: Vec<(u32, Judged)> = vec![(0, untold.clone())];
    let mut push = |first: u32, judged: Judged| {
        if ranges.last().is_some_and(|(begin, _)| *begin == first) {
            ranges.pop();
        }
        if ranges.last().is_none_or(|(_, last)| *last != judged) {
            ranges.push((first, judged));
        }
    };
    for (number, (rules, always)) in found {
        push(number, Judged { rules, otherwise: always.unwrap_or(default) });
        push(number + 1, untold.clone());
    }
    if abi == Abi::X86_64 {
        // Under numbers of their own the same calls would pass the profile by.
        push(X32, Judged { rules: Vec::new(), otherwise: ERRNO | ENOSYS });
    }
    Ok(ranges)
}

/// The conditions of one entry: all must hold, but where two are about one argument each stands for itself, as runc has
/// it.
fn rules_of(arguments: &[Argument], result: u32) -> Result<Vec<Rule>, ProfileInvalid> {
    let conditions = arguments
        .iter()
        .map(|argument| {
            Condition::new(argument.index, argument.value, argument.value_two, &argument.op).map_err(invalid)
        })
        .collect::<Result<Vec<_>, _>>()?;
    let is_repeated = (0..6).any(|index| conditions.iter().filter(|one| one.index == index).count() > 1);
    if conditions.is_empty() {
        return Ok(Vec::new());
    }
    if is_repeated {
        return Ok(conditions.into_iter().map(|one| Rule { conditions: vec![one], result }).collect());
    }
    Ok(vec![Rule { conditions, result }])
}
