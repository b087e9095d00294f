//! Which device files a group may open.

use std::fmt;
use std::str::FromStr;

/// The most rules of a group besides the default ones.
pub const MAX_DEVICE_RULES: usize = 1024;

/// Devices of the two kinds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DeviceKind {
    /// Of blocks.
    Block,
    /// Of characters.
    Character,
}

/// Devices that may be used, besides the default ones.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeviceRule {
    /// Of which kind.
    pub kind: DeviceKind,
    /// None is any.
    pub major: Option<u32>,
    /// None is any.
    pub minor: Option<u32>,
    /// They may be read.
    pub read: bool,
    /// They may be written.
    pub write: bool,
    /// Nodes of them may be made.
    pub make: bool,
}

impl fmt::Display for DeviceRule {
    /// As `devices.allow` takes it.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let number = |number: Option<u32>| number.map_or_else(|| "*".to_owned(), |number| number.to_string());
        let kind = match self.kind {
            DeviceKind::Block => 'b',
            DeviceKind::Character => 'c',
        };
        write!(formatter, "{kind} {}:{} ", number(self.major), number(self.minor))?;
        for (is_given, letter) in [(self.read, "r"), (self.write, "w"), (self.make, "m")] {
            formatter.write_str(if is_given { letter } else { "" })?;
        }
        Ok(())
    }
}

/// A text that is no rule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NoRule;

impl FromStr for DeviceRule {
    type Err = NoRule;

    /// As `devices.allow` takes it.
    fn from_str(text: &str) -> Result<Self, NoRule> {
        let mut words = text.split(' ');
        let (Some(kind), Some(numbers), Some(access), None) =
            (words.next(), words.next(), words.next(), words.next())
        else {
            return Err(NoRule);
        };
        let kind = match kind {
            "b" => DeviceKind::Block,
            "c" => DeviceKind::Character,
            _ => return Err(NoRule),
        };
        let number = |text: &str| match text {
            "*" => Ok(None),
            text => text.parse().map(Some).map_err(|_| NoRule),
        };
        let (major, minor) = numbers.split_once(':').ok_or(NoRule)?;
        let has = |letter| access.contains(letter);
        let (major, minor) = (number(major)?, number(minor)?);
        Ok(Self { kind, major, minor, read: has('r'), write: has('w'), make: has('m') })
    }
}

/// Which devices the processes of a group may use.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DeviceAccess {
    /// Every one.
    All,
    /// Those of [`DEFAULT_DEVICE_RULES`] and these, [`MAX_DEVICE_RULES`] at most.
    Default(Vec<DeviceRule>),
}

/// What holds for the devices of a group.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DeviceControl {
    /// Only the devices of [`DEFAULT_DEVICE_RULES`] and those that were asked for.
    Enforced,
    /// Every device: the container is privileged.
    Unrestricted,
    /// The host's v2 tree controls devices by a BPF program, which this kernel or our rights do not allow: the
    /// capabilities and the container's own /dev are all that stands between it and a device.
    NotEnforced,
}

/// The devices of an unprivileged container: any node may be made, these may be opened. As `devices.allow` takes
/// them.
///
/// Source: moby daemon/pkg/oci/defaults.go and runc libcontainer/specconv, AllowedDevices: null, zero, full, random,
/// urandom, tty, console, ptmx and pseudo terminals.
pub const DEFAULT_DEVICE_RULES: [&str; 11] = [
    "c *:* m",
    "b *:* m",
    "c 1:3 rwm",
    "c 1:5 rwm",
    "c 1:7 rwm",
    "c 1:8 rwm",
    "c 1:9 rwm",
    "c 5:0 rwm",
    "c 5:1 rwm",
    "c 5:2 rwm",
    "c 136:* rwm",
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rule_is_read_as_it_is_written() {
        for text in DEFAULT_DEVICE_RULES {
            assert_eq!(text.parse::<DeviceRule>().unwrap().to_string(), text);
        }
        for text in ["", "c", "c 1:3", "x 1:3 r", "c 1 r", "c 1:3 r r", "c -1:3 r", "c 1:x r"] {
            assert_eq!(text.parse::<DeviceRule>(), Err(NoRule), "{text}");
        }
    }
}
