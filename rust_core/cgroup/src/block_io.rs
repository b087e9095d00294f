//! Block I/O: the weight of a group and bounds for single devices, in the words of both versions.

use crate::plan::{IfAbsent, Write};
use crate::{CgroupError, CheckedLimits};

/// The least weight.
///
/// Source: moby daemon/daemon_unix.go, `BlkioWeight`.
pub const MIN_IO_WEIGHT: u64 = 10;
/// The most weight.
pub const MAX_IO_WEIGHT: u64 = 1000;
/// The most devices with bounds of their own.
pub const MAX_IO_DEVICES: usize = 64;

const NO_BFQ: &str = "the kernel weighs block I/O only where the BFQ scheduler or io.cost is there";

/// Bounds on one block device; 0 is none.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct IoDevice {
    /// Its number, major first.
    pub number: (u32, u32),
    /// Bytes read per second.
    pub read_bytes_per_second: u64,
    /// Bytes written per second.
    pub write_bytes_per_second: u64,
    /// Reads per second.
    pub read_ops_per_second: u64,
    /// Writes per second.
    pub write_ops_per_second: u64,
    /// Weight on this device, 10 to 1000.
    pub weight: u64,
}

/// Every bound and weight is one that the kernel can take.
pub(crate) fn check(devices: &[IoDevice]) -> Result<(), CgroupError> {
    let invalid = |rule: String| CgroupError::FieldInvalid { field: "io_device_limits", rule };
    if devices.len() > MAX_IO_DEVICES {
        return Err(invalid(format!("are at most {MAX_IO_DEVICES} (MAX_IO_DEVICES)")));
    }
    match devices.iter().find(|device| device.weight != 0 && !is_weight(device.weight)) {
        None => Ok(()),
        Some(_) => Err(invalid(format!("have weights between {MIN_IO_WEIGHT} and {MAX_IO_WEIGHT}"))),
    }
}

fn is_weight(weight: u64) -> bool {
    (MIN_IO_WEIGHT..=MAX_IO_WEIGHT).contains(&weight)
}

/// io.weight (1 to 10000) that a weight of 10 to 1000 means; 100, the default of both, stays 100 only on BFQ's scale, so
/// that the ends meet the ends.
///
/// Source: runc libcontainer/cgroups/utils.go, ConvertBlkIOToIOWeightValue.
pub(crate) fn io_weight(weight: u64) -> u64 {
    1 + (weight.saturating_sub(10)) * 9999 / 990
}

/// The writes of `limits` for the files of the v1 controller `blkio`.
pub(crate) fn writes_v1(limits: &CheckedLimits) -> Vec<Write> {
    let mut writes = Vec::new();
    if let Some(weight) = limits.io_weight {
        writes.push(
            Write::new("blkio.bfq.weight", weight.to_string(), "io_weight")
                .if_absent(IfAbsent::Clamp { given: "no weight", reason: NO_BFQ }),
        );
    }
    for device in &limits.io_devices {
        let key = key_of(device);
        if device.weight != 0 {
            writes.push(
                Write::new("blkio.bfq.weight_device", format!("{key} {}", device.weight), "io_device_limits")
                    .keyed(&key)
                    .if_absent(IfAbsent::Clamp { given: "no weight", reason: NO_BFQ }),
            );
        }
        for (file, value) in [
            ("blkio.throttle.read_bps_device", device.read_bytes_per_second),
            ("blkio.throttle.write_bps_device", device.write_bytes_per_second),
            ("blkio.throttle.read_iops_device", device.read_ops_per_second),
            ("blkio.throttle.write_iops_device", device.write_ops_per_second),
        ] {
            writes.push(Write::new(file, format!("{key} {value}"), "io_device_limits").keyed(&key));
        }
    }
    // A fresh group has no bound: nothing is asked for by writing none.
    writes
}

/// The writes of `limits` for the files of the v2 controller `io`.
pub(crate) fn writes_v2(limits: &CheckedLimits) -> Vec<Write> {
    let mut writes = Vec::new();
    let clamp = IfAbsent::Clamp { given: "no weight", reason: NO_BFQ };
    if let Some(weight) = limits.io_weight {
        let value = format!("default {}", io_weight(weight));
        writes.push(Write::new("io.weight", value, "io_weight").if_absent(clamp));
    }
    let bound = |value: u64| if value == 0 { "max".to_owned() } else { value.to_string() };
    for device in &limits.io_devices {
        let key = key_of(device);
        if device.weight != 0 {
            let value = format!("{key} {}", io_weight(device.weight));
            writes.push(Write::new("io.weight", value, "io_device_limits").keyed(&key).if_absent(clamp));
        }
        let value = format!(
            "{key} rbps={} wbps={} riops={} wiops={}",
            bound(device.read_bytes_per_second),
            bound(device.write_bytes_per_second),
            bound(device.read_ops_per_second),
            bound(device.write_ops_per_second),
        );
        writes.push(Write::new("io.max", value, "io_device_limits").keyed(&key));
    }
    writes
}

fn key_of(device: &IoDevice) -> String {
    format!("{}:{}", device.number.0, device.number.1)
}

/// What is written to a file of devices to have again what it said of `key` in `text`: its line, or no bound.
pub(crate) fn line_of(file: &str, key: &str, text: &str) -> String {
    let begins = |line: &&str| line.split(' ').next() == Some(key);
    match text.lines().find(begins) {
        Some(line) => line.to_owned(),
        None if file == "io.max" => format!("{key} rbps=max wbps=max riops=max wiops=max"),
        None if file.ends_with("weight") => format!("{key} default"),
        None => format!("{key} 0"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Limits;

    fn limits() -> CheckedLimits {
        let device = IoDevice {
            number: (7, 0),
            read_bytes_per_second: 1024,
            write_ops_per_second: 9,
            weight: 500,
            ..IoDevice::default()
        };
        Limits { io_weight: Some(300), io_devices: vec![device], ..Limits::default() }.check().unwrap()
    }

    fn texts(writes: &[Write]) -> Vec<(&str, &str)> {
        writes.iter().map(|write| (write.file, write.value.as_str())).collect()
    }

    #[test]
    fn bounds_are_written_a_device_a_line() {
        assert_eq!(
            texts(&writes_v1(&limits())),
            [
                ("blkio.bfq.weight", "300"),
                ("blkio.bfq.weight_device", "7:0 500"),
                ("blkio.throttle.read_bps_device", "7:0 1024"),
                ("blkio.throttle.write_bps_device", "7:0 0"),
                ("blkio.throttle.read_iops_device", "7:0 0"),
                ("blkio.throttle.write_iops_device", "7:0 9"),
            ]
        );
        assert_eq!(
            texts(&writes_v2(&limits())),
            [
                ("io.weight", "default 2930"),
                ("io.weight", "7:0 4950"),
                ("io.max", "7:0 rbps=1024 wbps=max riops=max wiops=9"),
            ]
        );
    }

    #[test]
    fn the_ends_of_the_scale_meet_those_of_v2() {
        assert_eq!((io_weight(10), io_weight(1000)), (1, 10_000));
    }

    #[test]
    fn a_line_is_given_back_or_taken_away() {
        let text = "8:0 1\n7:0 1024\n";
        assert_eq!(line_of("blkio.throttle.read_bps_device", "7:0", text), "7:0 1024");
        assert_eq!(line_of("blkio.throttle.read_bps_device", "7:1", text), "7:1 0");
        assert_eq!(line_of("io.weight", "7:1", "default 100\n"), "7:1 default");
        assert!(line_of("io.max", "7:1", "").contains("wiops=max"));
    }

    #[test]
    fn too_many_devices_and_odd_weights_are_refused_by_name() {
        let many = vec![IoDevice::default(); MAX_IO_DEVICES + 1];
        assert!(check(&many).unwrap_err().to_string().contains("MAX_IO_DEVICES"));
        let odd = [IoDevice { weight: 9, ..IoDevice::default() }];
        assert!(check(&odd).unwrap_err().to_string().contains("between 10 and 1000"));
    }
}
