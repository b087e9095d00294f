//! Further flags of Docker's `run` and `create`: those that come down to what the API has, and those that make no sense
//! here, which are refused with what to do instead. Pure but for `--label-file`.

use std::path::PathBuf;

use clap::Args;

use crate::api::v1::types;
use crate::failure::Failure;
use crate::flag_values::pairs;
use crate::units;

/// The vendor's kind of device that `--gpus` means unless it names a driver.
const GPU_KIND: &str = "nvidia.com/gpu";
/// Most devices that `--gpus` asks for by number.
const MAX_GPUS: usize = 64;

/// Names and meanings are Docker's.
#[derive(Args, Debug, Default)]
pub struct DockerFlags {
    /// File with a label a line, blank lines and lines beginning with # skipped
    #[arg(long, value_name = "FILE")]
    label_file: Vec<PathBuf>,
    /// Port that it listens on, for -P, as 80, 53/udp or 8000-8010
    #[arg(long, value_name = "PORT[-PORT][/PROTOCOL]")]
    expose: Vec<String>,
    /// Graphics processors, by their CDI names: all, a count, or device=0,1
    #[arg(long, value_name = "REQUEST")]
    gpus: Option<String>,
    /// Bound of the writable layer, as size=10g
    #[arg(long, value_name = "NAME=VALUE", conflicts_with = "storage_size")]
    storage_opt: Vec<String>,
    /// Bound of the writable layer, as 10g
    #[arg(long, value_name = "SIZE", value_parser = units::parse_bytes)]
    storage_size: Option<i64>,
    #[command(flatten)]
    refused: RefusedFlags,
}

/// Flags that would change nothing or mislead; none is shown in the help.
#[derive(Args, Debug, Default)]
struct RefusedFlags {
    #[arg(long, hide = true, num_args = 0..=1, default_missing_value = "true", require_equals = true)]
    disable_content_trust: Option<String>,
    #[arg(long, hide = true)]
    isolation: Option<String>,
    #[arg(long, hide = true)]
    runtime: Option<String>,
    #[arg(long, hide = true)]
    link: Option<String>,
    #[arg(long, hide = true)]
    link_local_ip: Option<String>,
    #[arg(long, hide = true)]
    kernel_memory: Option<String>,
    #[arg(long, hide = true, num_args = 0..=1, default_missing_value = "true", require_equals = true)]
    use_api_socket: Option<String>,
    #[arg(long, hide = true)]
    cpu_count: Option<String>,
    #[arg(long, hide = true)]
    cpu_percent: Option<String>,
    #[arg(long, hide = true)]
    io_maxbandwidth: Option<String>,
    #[arg(long, hide = true)]
    io_maxiops: Option<String>,
}

impl RefusedFlags {
    /// # Errors
    /// One was given; the failure says what to do instead.
    fn check(&self) -> Result<(), Failure> {
        let is_default = |value: &Option<String>, allowed: &str| {
            value.as_deref().is_none_or(|value| value == allowed || value.is_empty())
        };
        let given = [
            (
                !is_default(&self.isolation, "default"),
                "--isolation",
                "containers are isolated by namespaces; it is a choice of Windows alone, leave it out",
            ),
            (
                !is_default(&self.disable_content_trust, "true"),
                "--disable-content-trust=false",
                "signatures of this kind are not checked; name the image by its digest",
            ),
            (
                self.runtime.is_some(),
                "--runtime",
                "the engine executes containers itself; leave it out",
            ),
            (
                self.link.is_some(),
                "--link",
                "put both containers on one network (`fluyt network create`, --network): there each is found by its name",
            ),
            (
                self.link_local_ip.is_some(),
                "--link-local-ip",
                "a container has one address of each family on a network; choose it by --ip or --ip6",
            ),
            (self.kernel_memory.is_some(), "--kernel-memory", "kernels have no such limit any more; use --memory"),
            (
                self.use_api_socket.is_some(),
                "--use-api-socket",
                "who has the socket has the host; give it by -v /run/fluyt/fluytd.sock:/run/fluyt/fluytd.sock if that is meant",
            ),
            (self.cpu_count.is_some(), "--cpu-count", "it is a limit of Windows; use --cpus"),
            (self.cpu_percent.is_some(), "--cpu-percent", "it is a limit of Windows; use --cpus"),
            (
                self.io_maxbandwidth.is_some(),
                "--io-maxbandwidth",
                "it is a limit of Windows; use --device-read-bps and --device-write-bps",
            ),
            (
                self.io_maxiops.is_some(),
                "--io-maxiops",
                "it is a limit of Windows; use --device-read-iops and --device-write-iops",
            ),
        ];
        match given.iter().find(|(is_given, ..)| *is_given) {
            Some((_, flag, instead)) => {
                Err(Failure::usage(format!("{flag} is not offered"), (*instead).to_owned()))
            }
            None => Ok(()),
        }
    }
}

impl DockerFlags {
    /// Sets what these flags ask for; labels of `--label` that stand in the specification already win.
    ///
    /// # Errors
    /// A flag that is not offered or whose value does not make sense, or a file that cannot be read.
    pub fn apply(&self, spec: &mut types::ContainerSpec) -> Result<(), Failure> {
        self.refused.check()?;
        let mut labels = Vec::new();
        for path in &self.label_file {
            let text = std::fs::read_to_string(path).map_err(|error| Failure::file("read", path, &error))?;
            labels.extend(label_lines(&text));
        }
        for (name, value) in pairs(&labels) {
            spec.labels.entry(name).or_insert(value);
        }
        for text in &self.expose {
            let ports = parse_exposed(text).map_err(|rule| {
                Failure::usage(format!("--expose {text}: {rule}"), "write 80, 53/udp or 8000-8010/tcp")
            })?;
            spec.network.get_or_insert_default().exposed_ports.extend(ports);
        }
        if let Some(text) = &self.gpus {
            let names = parse_gpus(text).map_err(|rule| {
                Failure::usage(
                    format!("--gpus {text}: {rule}"),
                    "write all, a count, or device=0,1; or name the devices by --device vendor.com/class=name",
                )
            })?;
            spec.cdi_devices.extend(names);
        }
        if let Some(bytes) = self.storage_size {
            spec.storage_size_bytes = bytes;
        }
        for text in &self.storage_opt {
            let size = text.strip_prefix("size=").ok_or("only size is known".to_owned());
            spec.storage_size_bytes = size
                .and_then(units::parse_bytes)
                .map_err(|rule| Failure::usage(format!("--storage-opt {text}: {rule}"), "write size=10g"))?;
        }
        Ok(())
    }
}

/// The labels of a file, one a line.
fn label_lines(text: &str) -> impl Iterator<Item = String> + '_ {
    text.lines()
        .map(str::trim_start)
        .filter(|line| !line.is_empty() && !line.starts_with('#'))
        .map(str::to_owned)
}

/// `80`, `53/udp` or `8000-8010/tcp` as single ports with their protocols.
///
/// # Errors
/// What is wrong with it.
fn parse_exposed(text: &str) -> Result<Vec<String>, String> {
    let (ports, protocol) = text.split_once('/').unwrap_or((text, "tcp"));
    let protocol = protocol.to_lowercase();
    if !["tcp", "udp", "sctp"].contains(&protocol.as_str()) {
        return Err(format!("`{protocol}` is no protocol"));
    }
    let number = |text: &str| match text.parse::<u16>() {
        Ok(number) if number > 0 => Ok(number),
        _ => Err(format!("`{text}` is no port")),
    };
    let (first, last) = ports.split_once('-').unwrap_or((ports, ports));
    let (first, last) = (number(first)?, number(last)?);
    if first > last {
        return Err("the range ends before it begins".to_owned());
    }
    Ok((first..=last).map(|port| format!("{port}/{protocol}")).collect())
}

/// CDI names of what `--gpus` asks for.
///
/// # Errors
/// What is wrong with it.
fn parse_gpus(text: &str) -> Result<Vec<String>, String> {
    let mut kind = GPU_KIND.to_owned();
    let mut names: Vec<String> = Vec::new();
    let mut is_of_devices = false;
    // A list of devices has commas too, and is quoted where further keys follow: '"device=0,1",driver=nvidia'.
    for part in text.split(',').map(|part| part.trim_matches('"')) {
        match part.split_once('=') {
            Some(("driver", "nvidia")) => {}
            Some(("driver", vendor)) if vendor.contains('.') => kind = format!("{vendor}/gpu"),
            Some(("driver", vendor)) => {
                return Err(format!("the driver `{vendor}` has no CDI name; write its vendor's domain"))
            }
            Some(("capabilities", _)) => {
                return Err("capabilities are what the CDI specification of a device says".to_owned())
            }
            Some(("count", count)) => names.extend(counted(count)?),
            Some(("device", name)) => {
                is_of_devices = true;
                names.push(name.to_owned());
            }
            Some((key, _)) => return Err(format!("`{key}` is not known")),
            None if is_of_devices && !part.is_empty() => names.push(part.to_owned()),
            None => names.extend(counted(part)?),
        }
    }
    if names.is_empty() {
        return Err("it names no device".to_owned());
    }
    Ok(names.into_iter().map(|name| format!("{kind}={name}")).collect())
}

/// Names of so many devices, from the first.
fn counted(text: &str) -> Result<Vec<String>, String> {
    if text == "all" || text == "-1" {
        return Ok(vec!["all".to_owned()]);
    }
    match text.parse::<usize>() {
        Ok(count) if (1..=MAX_GPUS).contains(&count) => {
            Ok((0..count).map(|number| number.to_string()).collect())
        }
        _ => Err(format!("`{text}` is no count from 1 to {MAX_GPUS}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exposed_ports_are_read_one_by_one() {
        assert_eq!(parse_exposed("80").unwrap(), ["80/tcp"]);
        assert_eq!(parse_exposed("53/UDP").unwrap(), ["53/udp"]);
        assert_eq!(parse_exposed("8000-8002/sctp").unwrap(), ["8000/sctp", "8001/sctp", "8002/sctp"]);
        assert_eq!(parse_exposed("1-65535").unwrap().len(), 65_535);
        for text in ["", "0", "65536", "80/icmp", "9-8", "x", "80-", "1-2-3"] {
            assert!(parse_exposed(text).is_err(), "{text}");
        }
    }

    #[test]
    fn graphics_processors_are_named_as_cdi_has_them() {
        for (text, names) in [
            ("all", vec!["nvidia.com/gpu=all"]),
            ("2", vec!["nvidia.com/gpu=0", "nvidia.com/gpu=1"]),
            ("device=0,2", vec!["nvidia.com/gpu=0", "nvidia.com/gpu=2"]),
            ("\"device=GPU-1\",driver=amd.com", vec!["amd.com/gpu=GPU-1"]),
            ("count=-1,driver=nvidia", vec!["nvidia.com/gpu=all"]),
        ] {
            assert_eq!(parse_gpus(text).unwrap(), names, "{text}");
        }
        for text in ["", "0", "65", "few", "device=0,capabilities=utility", "driver=nvidia", "colour=red"] {
            assert!(parse_gpus(text).is_err(), "{text}");
        }
    }

    #[test]
    fn labels_of_a_file_stand_behind_those_of_the_command_line() {
        let dir = std::env::temp_dir().join(format!("fluyt-labels-{}", std::process::id()));
        std::fs::write(&dir, "# a comment\n\na=file\nb=c=d\nbare\n").unwrap();
        let flags = DockerFlags { label_file: vec![dir.clone()], ..DockerFlags::default() };
        let mut spec = types::ContainerSpec { labels: pairs(&["a=flag".to_owned()]), ..Default::default() };
        flags.apply(&mut spec).unwrap();
        std::fs::remove_file(&dir).unwrap();
        let expected = ["a=flag", "b=c=d", "bare"].map(str::to_owned);
        assert_eq!(spec.labels, pairs(&expected));
    }

    #[test]
    fn what_is_not_offered_says_what_to_do_instead() {
        let some = || Some("x".to_owned());
        for (refused, word) in [
            (RefusedFlags { link: some(), ..Default::default() }, "--network"),
            (RefusedFlags { link_local_ip: some(), ..Default::default() }, "--ip"),
            (RefusedFlags { isolation: some(), ..Default::default() }, "namespaces"),
            (RefusedFlags { runtime: some(), ..Default::default() }, "leave it out"),
            (RefusedFlags { io_maxiops: some(), ..Default::default() }, "--device-read-iops"),
        ] {
            let failure = refused.check().unwrap_err();
            assert!(failure.next_step.contains(word), "{failure}");
        }
        let harmless = RefusedFlags { isolation: Some("default".to_owned()), ..Default::default() };
        assert!(harmless.check().is_ok());
    }
}
