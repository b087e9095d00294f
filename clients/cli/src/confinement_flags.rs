//! Flags of `fluyt run` and `create` about what a process sees and may use: devices, namespaces, names; and limits that
//! few containers need, which `fluyt update` takes too. Names and grammar are Docker's. Pure.

use std::collections::BTreeMap;

use clap::Args;

use crate::api::v1::types;
use crate::failure::Failure;
use crate::flag_values::pairs;
use crate::units;
use types::namespace_spec::Mode;

/// Devices, namespaces and names.
#[derive(Args, Debug, Default)]
pub struct ConfinementFlags {
    /// Device of the host, /dev/x[:/dev/y][:rwm], or a CDI name, vendor.com/class=name
    #[arg(long, value_name = "DEVICE")]
    device: Vec<String>,
    /// Devices that may be used, as `c 1:3 rwm` or `b 8:* r`
    #[arg(long, value_name = "RULE")]
    device_cgroup_rule: Vec<String>,
    /// Process ids: private, host or container:NAME
    #[arg(long, value_name = "MODE", value_parser = parse_namespace)]
    pid: Option<types::NamespaceSpec>,
    /// System V IPC and /dev/shm: private, shareable, none, host or container:NAME
    #[arg(long, value_name = "MODE", value_parser = parse_ipc)]
    ipc: Option<types::NamespaceSpec>,
    /// Host name: private, host or container:NAME
    #[arg(long, value_name = "MODE", value_parser = parse_namespace)]
    uts: Option<types::NamespaceSpec>,
    /// View of the cgroup tree: private, host or container:NAME
    #[arg(long, value_name = "MODE", value_parser = parse_namespace)]
    cgroupns: Option<types::NamespaceSpec>,
    /// User ids: host, auto for a range of the container's own, or auto:COUNT
    #[arg(long, value_name = "MODE", value_parser = parse_users)]
    userns: Option<types::UserNamespaceSpec>,
    /// Parent of the container's cgroup
    #[arg(long, value_name = "PATH")]
    cgroup_parent: Option<String>,
    /// Annotation, NAME=value
    #[arg(long, value_name = "NAME=VALUE")]
    annotation: Vec<String>,
    /// Limits
    #[command(flatten)]
    pub limits: FurtherLimits,
}

/// Limits besides those that every engine has; `fluyt update` takes them too.
#[derive(Args, Debug, Default)]
pub struct FurtherLimits {
    /// Relative weight of block I/O, 10 to 1000
    #[arg(long, value_name = "WEIGHT")]
    blkio_weight: Option<i64>,
    /// Relative weight on one device, /dev/x:WEIGHT
    #[arg(long, value_name = "DEVICE:WEIGHT", value_parser = parse_count)]
    blkio_weight_device: Vec<(String, i64)>,
    /// Bytes read per second from one device, /dev/x:10m
    #[arg(long, value_name = "DEVICE:SIZE", value_parser = parse_rate)]
    device_read_bps: Vec<(String, i64)>,
    /// Bytes written per second to one device, /dev/x:10m
    #[arg(long, value_name = "DEVICE:SIZE", value_parser = parse_rate)]
    device_write_bps: Vec<(String, i64)>,
    /// Reads per second from one device, /dev/x:1000
    #[arg(long, value_name = "DEVICE:COUNT", value_parser = parse_count)]
    device_read_iops: Vec<(String, i64)>,
    /// Writes per second to one device, /dev/x:1000
    #[arg(long, value_name = "DEVICE:COUNT", value_parser = parse_count)]
    device_write_iops: Vec<(String, i64)>,
    /// How gladly memory is swapped out, 0 to 100; -1 for the host's way
    #[arg(long, value_name = "PERCENT")]
    memory_swappiness: Option<i64>,
    /// Let processes wait for memory, do not kill them
    #[arg(long)]
    oom_kill_disable: bool,
    /// Length of a real-time period in microseconds
    #[arg(long, value_name = "MICROS")]
    cpu_rt_period: Option<i64>,
    /// Real-time processor time in microseconds in each such period
    #[arg(long, value_name = "MICROS")]
    cpu_rt_runtime: Option<i64>,
    /// Microseconds of processor time that may be saved up for a burst
    #[arg(long, value_name = "MICROS")]
    cpu_burst: Option<i64>,
    /// Bound of huge pages of one size, as 2MB=512m; -1 for none
    #[arg(long, value_name = "PAGE=SIZE", value_parser = parse_huge_pages)]
    hugetlb: Vec<types::HugetlbLimit>,
}

impl ConfinementFlags {
    /// The specification has what these flags ask for.
    ///
    /// # Errors
    /// A device that is written wrong.
    pub fn apply(&self, spec: &mut types::ContainerSpec) -> Result<(), Failure> {
        for text in &self.device {
            if is_cdi(text) {
                spec.cdi_devices.push(text.clone());
            } else {
                spec.devices.push(parse_device(text)?);
            }
        }
        spec.device_cgroup_rules = self.device_cgroup_rule.clone();
        spec.cgroup_parent = self.cgroup_parent.clone().unwrap_or_default();
        spec.annotations = pairs(&self.annotation);
        spec.namespaces = Some(types::NamespacesSpec {
            pid: self.pid.clone(),
            ipc: self.ipc.clone(),
            uts: self.uts.clone(),
            cgroup: self.cgroupns.clone(),
            user: self.userns,
        });
        self.limits.apply(spec.resources.get_or_insert_default());
        Ok(())
    }
}

impl FurtherLimits {
    /// The limits have what these flags ask for.
    pub fn apply(&self, resources: &mut types::Resources) {
        resources.io_weight = self.blkio_weight;
        // Docker's word for none.
        resources.memory_swappiness = self.memory_swappiness.filter(|percent| *percent != -1);
        resources.oom_kill_disabled = self.oom_kill_disable.then_some(true);
        resources.cpu_real_time_period_micros = self.cpu_rt_period;
        resources.cpu_real_time_runtime_micros = self.cpu_rt_runtime;
        resources.cpu_burst_micros = self.cpu_burst;
        resources.hugetlb_limits = self.hugetlb.clone();
        let mut devices: BTreeMap<String, types::IoDeviceLimit> = BTreeMap::new();
        let mut each = |items: &[(String, i64)], set: fn(&mut types::IoDeviceLimit, i64)| {
            for (path, value) in items {
                let limit = devices.entry(path.clone()).or_default();
                limit.path = path.clone();
                set(limit, *value);
            }
        };
        each(&self.blkio_weight_device, |limit, value| limit.weight = value);
        each(&self.device_read_bps, |limit, value| limit.read_bytes_per_second = value);
        each(&self.device_write_bps, |limit, value| limit.write_bytes_per_second = value);
        each(&self.device_read_iops, |limit, value| limit.read_ops_per_second = value);
        each(&self.device_write_iops, |limit, value| limit.write_ops_per_second = value);
        resources.io_device_limits = devices.into_values().collect();
    }
}

/// A CDI name is no path.
fn is_cdi(text: &str) -> bool {
    !text.starts_with('/') && text.contains('/') && text.contains('=')
}

/// `/dev/x`, `/dev/x:/dev/y`, `/dev/x:rwm` or `/dev/x:/dev/y:rwm`.
fn parse_device(text: &str) -> Result<types::Device, Failure> {
    let is_mode = |part: &str| !part.is_empty() && part.chars().all(|letter| "rwm".contains(letter));
    let parts: Vec<&str> = text.split(':').collect();
    let (host, inside, mode) = match parts.as_slice() {
        [host] => (*host, "", ""),
        [host, mode] if is_mode(mode) => (*host, "", *mode),
        [host, inside] => (*host, *inside, ""),
        [host, inside, mode] if is_mode(mode) => (*host, *inside, *mode),
        _ => ("", "", ""),
    };
    if !host.starts_with('/') || !(inside.is_empty() || inside.starts_with('/')) {
        return Err(Failure::usage(
            format!("--device {text} is not a device"),
            "write /dev/x, /dev/x:/dev/y, /dev/x:/dev/y:rwm or a CDI name as vendor.com/class=name",
        ));
    }
    Ok(types::Device {
        host_path: host.to_owned(),
        container_path: inside.to_owned(),
        permissions: mode.to_owned(),
    })
}

/// As `host`, `auto` and `auto:COUNT`; empty is the engine's setting. Podman's `auto:size=COUNT` is taken too.
///
/// # Errors
/// What else may stand there.
pub fn parse_users(text: &str) -> Result<types::UserNamespaceSpec, String> {
    use types::user_namespace_spec::Mode as Users;
    let of = |mode: Users, size| Ok(types::UserNamespaceSpec { mode: mode.into(), size });
    match text {
        "" => of(Users::Unspecified, 0),
        "host" => of(Users::Host, 0),
        "auto" => of(Users::Auto, 0),
        _ => {
            let count = text.strip_prefix("auto:").map(|rest| rest.strip_prefix("size=").unwrap_or(rest));
            match count.and_then(|count| count.parse().ok()).filter(|count| *count > 0) {
                Some(count) => of(Users::Auto, count),
                None => Err("must be host, auto or auto:COUNT".to_owned()),
            }
        }
    }
}

fn parse_namespace(text: &str) -> Result<types::NamespaceSpec, String> {
    let (mode, container) = match text.split_once(':') {
        None if text == "host" => (Mode::Host, ""),
        None if matches!(text, "private" | "") => (Mode::Private, ""),
        Some(("container", name)) if !name.is_empty() => (Mode::Container, name),
        _ => return Err(format!("`{text}` is not a mode; write private, host or container:NAME")),
    };
    Ok(types::NamespaceSpec { mode: mode.into(), container: container.to_owned() })
}

fn parse_ipc(text: &str) -> Result<types::NamespaceSpec, String> {
    let mode = match text {
        "shareable" => Mode::Shareable,
        "none" => Mode::None,
        _ => {
            return parse_namespace(text).map_err(|_| {
                format!("`{text}` is not a mode; write private, shareable, none, host or container:NAME")
            })
        }
    };
    Ok(types::NamespaceSpec { mode: mode.into(), container: String::new() })
}

fn parse_rate(text: &str) -> Result<(String, i64), String> {
    parse_for_device(text, "SIZE", |value| units::parse_bytes(value).ok())
}

fn parse_count(text: &str) -> Result<(String, i64), String> {
    parse_for_device(text, "NUMBER", |value| value.parse().ok().filter(|number| *number >= 0))
}

fn parse_for_device(
    text: &str,
    what: &str,
    parse: impl Fn(&str) -> Option<i64>,
) -> Result<(String, i64), String> {
    text.rsplit_once(':')
        .filter(|(path, _)| path.starts_with('/'))
        .and_then(|(path, value)| Some((path.to_owned(), parse(value)?)))
        .ok_or_else(|| format!("`{text}` is no bound of a device; write /dev/x:{what}"))
}

fn parse_huge_pages(text: &str) -> Result<types::HugetlbLimit, String> {
    let wrong = || format!("`{text}` is no bound of huge pages; write 2MB=512m, or 2MB=-1 for none");
    let (page_size, bytes) = text.split_once('=').filter(|(size, _)| !size.is_empty()).ok_or_else(wrong)?;
    let limit_bytes = if bytes == "-1" { -1 } else { units::parse_bytes(bytes).map_err(|_| wrong())? };
    Ok(types::HugetlbLimit { page_size: page_size.to_owned(), limit_bytes })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn users_are_the_hosts_or_a_range() {
        let of = |text| parse_users(text).map(|users| (users.mode, users.size));
        assert_eq!(of(""), Ok((0, 0)));
        assert_eq!(of("auto"), Ok((1, 0)));
        assert_eq!(of("host"), Ok((2, 0)));
        assert_eq!(of("auto:131072"), Ok((1, 131_072)));
        assert_eq!(of("auto:size=1000"), Ok((1, 1000)));
        for wrong in ["auto:", "auto:0", "auto:-1", "auto:x", "keep-id", "Host", "auto:4294967296"] {
            assert!(of(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn devices_read_as_dockers() {
        for (text, host, inside, mode) in [
            ("/dev/fuse", "/dev/fuse", "", ""),
            ("/dev/fuse:r", "/dev/fuse", "", "r"),
            ("/dev/a:/dev/b", "/dev/a", "/dev/b", ""),
            ("/dev/a:/dev/b:rw", "/dev/a", "/dev/b", "rw"),
        ] {
            let device = parse_device(text).unwrap();
            assert_eq!(
                (&*device.host_path, &*device.container_path, &*device.permissions),
                (host, inside, mode)
            );
        }
        for text in ["", "fuse", "/dev/a:/dev/b:x", "/dev/a:b", "/dev/a:/b:rw:m"] {
            assert!(parse_device(text).is_err(), "{text}");
        }
        assert!(is_cdi("nvidia.com/gpu=all") && !is_cdi("/dev/a=b") && !is_cdi("a=b"));
    }

    #[test]
    fn namespaces_read_as_dockers() {
        assert_eq!(parse_namespace("container:web").unwrap().container, "web");
        assert_eq!(parse_ipc("shareable").unwrap().mode(), Mode::Shareable);
        assert_eq!(parse_ipc("none").unwrap().mode(), Mode::None);
        for text in ["container:", "other", "container", "host:x"] {
            assert!(parse_namespace(text).is_err() && parse_ipc(text).is_err(), "{text}");
        }
        assert!(parse_namespace("none").is_err());
    }

    #[test]
    fn bounds_of_one_device_are_one_limit() {
        let flags = FurtherLimits {
            device_read_bps: vec![parse_rate("/dev/vda:1m").unwrap()],
            device_write_iops: vec![parse_count("/dev/vda:9").unwrap()],
            ..FurtherLimits::default()
        };
        let mut resources = types::Resources::default();
        flags.apply(&mut resources);
        let [limit] = &*resources.io_device_limits else { panic!("{resources:?}") };
        assert_eq!((limit.read_bytes_per_second, limit.write_ops_per_second), (1 << 20, 9));
        for text in ["vda:1", "/dev/vda", "/dev/vda:x", "/dev/vda:-1"] {
            assert!(parse_count(text).is_err(), "{text}");
        }
        assert_eq!(parse_huge_pages("2MB=-1").unwrap().limit_bytes, -1);
        assert!(parse_huge_pages("2MB").is_err());
    }
}
