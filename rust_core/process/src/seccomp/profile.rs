//! The default profile as data: one line a system call, in `profile.txt`.

use std::collections::HashMap;

/// A calling convention with numbers of its own, in the order of the columns of `profile.txt`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Abi {
    X86_64,
    I386,
    Aarch64,
}

impl Abi {
    /// AUDIT_ARCH_* of linux/audit.h, by which a filter tells them apart.
    pub(super) fn audit_number(self) -> u32 {
        match self {
            Self::X86_64 => 0xc000_003e,
            Self::I386 => 0x4000_0003,
            Self::Aarch64 => 0xc000_00b7,
        }
    }
}

/// Those that programs on this host may use, the commonest first.
pub(super) fn abis_of_this_host() -> &'static [Abi] {
    if cfg!(target_arch = "aarch64") {
        &[Abi::Aarch64]
    } else {
        &[Abi::X86_64, Abi::I386]
    }
}

/// What a line says of its call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Rule {
    Allow,
    OnlyWithCapability,
    NotImplemented,
    Clone,
    Socket,
    Personality,
}

/// One system call.
#[derive(Debug)]
pub(super) struct Line {
    pub(super) name: &'static str,
    /// By [`Abi`]; None where it has no such call.
    pub(super) numbers: [Option<u32>; 3],
    pub(super) rule: Rule,
    /// Any of them allows the call without condition.
    pub(super) capabilities: Vec<&'static str>,
}

/// The numbers of a system call on this architecture by its name, of any that this engine knows.
pub(super) fn numbers_of(abi: Abi) -> HashMap<&'static str, u32> {
    let further =
        include_str!("calls.txt").lines().filter(|line| !line.starts_with('#')).filter_map(|line| {
            let mut fields = line.split(' ');
            let name = fields.next()?;
            Some((name, fields.nth(abi as usize)?.parse().ok()?))
        });
    let named = lines().filter_map(|line| Some((line.name, line.numbers[abi as usize]?)));
    named.chain(further).collect()
}

/// Every line of the profile.
pub(super) fn lines() -> impl Iterator<Item = Line> {
    include_str!("profile.txt").lines().filter(|line| !line.starts_with('#')).filter_map(parse)
}

// The file is part of this program: a test proves that no line is passed over.
fn parse(line: &'static str) -> Option<Line> {
    let mut fields = line.split(' ');
    let name = fields.next()?;
    let mut numbers = [None; 3];
    for number in &mut numbers {
        *number = match fields.next()? {
            "-" => None,
            text => Some(text.parse().ok()?),
        };
    }
    let rule = match fields.next()? {
        "allow" => Rule::Allow,
        "with" => Rule::OnlyWithCapability,
        "enosys" => Rule::NotImplemented,
        "clone" => Rule::Clone,
        "socket" => Rule::Socket,
        "personality" => Rule::Personality,
        _ => return None,
    };
    Some(Line { name, numbers, rule, capabilities: fields.collect() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_line_of_the_profile_is_understood() {
        let written = include_str!("profile.txt").lines().filter(|line| !line.starts_with('#')).count();
        assert_eq!(lines().count(), written);
        assert!(written > 400);
        for line in lines() {
            assert!(line.numbers.iter().any(Option::is_some), "{}", line.name);
            assert!(line.rule != Rule::OnlyWithCapability || !line.capabilities.is_empty(), "{}", line.name);
        }
    }
}
