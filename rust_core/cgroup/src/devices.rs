//! Which device files a group may open.

/// What holds for the devices of a group.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DeviceControl {
    /// Only the devices of [`DEFAULT_DEVICE_RULES`].
    Enforced,
    /// Every device: the container is privileged.
    Unrestricted,
    /// The host's v2 tree controls devices by a BPF program, which is not installed: the capabilities and the
    /// container's own /dev are all that stands between it and a device.
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
