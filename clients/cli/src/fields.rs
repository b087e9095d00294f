//! Fields of the API as the flags and arguments that set them: what is wrong is told of what a person typed.

use std::sync::OnceLock;

use crate::arguments;

/// Flag that sets a field of the API and all below it; of several that fit the longest.
pub const FLAGS: &[(&str, &str)] = &[
    ("detach_keys", "--detach-keys"),
    ("spec.detach_keys", "--detach-keys"),
    ("name", "--name"),
    ("add_published_ports", "--publish-add"),
    ("remove_published_ports", "--publish-rm"),
    ("restart_policy", "--restart"),
    ("spec.platform", "--platform"),
    ("spec.pull_policy", "--pull"),
    ("spec.entrypoint", "--entrypoint"),
    ("spec.env", "--env"),
    ("spec.user", "--user"),
    ("spec.additional_groups", "--group-add"),
    ("spec.working_dir", "--workdir"),
    ("spec.hostname", "--hostname"),
    ("spec.domainname", "--domainname"),
    ("spec.labels", "--label"),
    ("spec.annotations", "--annotation"),
    ("spec.tty", "--tty"),
    ("spec.open_stdin", "--interactive"),
    ("spec.stop_signal", "--stop-signal"),
    ("spec.stop_timeout", "--stop-timeout"),
    ("spec.restart_policy", "--restart"),
    ("spec.health_check", "--health-cmd"),
    ("spec.health_check.interval", "--health-interval"),
    ("spec.health_check.timeout", "--health-timeout"),
    ("spec.health_check.retries", "--health-retries"),
    ("spec.health_check.start_period", "--health-start-period"),
    ("spec.health_check.start_interval", "--health-start-interval"),
    ("spec.auto_remove", "--rm"),
    ("spec.init", "--init"),
    ("spec.read_only_root", "--read-only"),
    ("spec.resources.memory_limit_bytes", "--memory"),
    ("spec.resources.memory_swap_limit_bytes", "--memory-swap"),
    ("spec.resources.memory_reservation_bytes", "--memory-reservation"),
    ("spec.resources.memory_swappiness", "--memory-swappiness"),
    ("spec.resources.oom_kill_disabled", "--oom-kill-disable"),
    ("spec.resources.nano_cpus", "--cpus"),
    ("spec.resources.cpu_quota_micros", "--cpu-quota"),
    ("spec.resources.cpu_period_micros", "--cpu-period"),
    ("spec.resources.cpu_shares", "--cpu-shares"),
    ("spec.resources.cpu_real_time_period_micros", "--cpu-rt-period"),
    ("spec.resources.cpu_real_time_runtime_micros", "--cpu-rt-runtime"),
    ("spec.resources.cpu_burst_micros", "--cpu-burst"),
    ("spec.resources.cpuset_cpus", "--cpuset-cpus"),
    ("spec.resources.cpuset_mems", "--cpuset-mems"),
    ("spec.resources.pids_limit", "--pids-limit"),
    ("spec.resources.io_weight", "--blkio-weight"),
    ("spec.resources.io_device_limits", "--device-read-bps and its like"),
    ("spec.resources.hugetlb_limits", "--hugetlb"),
    ("spec.rlimits", "--ulimit"),
    ("spec.oom_score_adj", "--oom-score-adj"),
    ("spec.shm_size_bytes", "--shm-size"),
    ("spec.security", "--security-opt"),
    ("spec.security.privileged", "--privileged"),
    ("spec.security.add_capabilities", "--cap-add"),
    ("spec.security.drop_capabilities", "--cap-drop"),
    ("spec.namespaces.pid", "--pid"),
    ("spec.namespaces.ipc", "--ipc"),
    ("spec.namespaces.uts", "--uts"),
    ("spec.namespaces.cgroup", "--cgroupns"),
    ("spec.namespaces.user", "--userns"),
    ("spec.network", "--network"),
    ("spec.network.published_ports", "--publish"),
    ("spec.network.publish_all_ports", "--publish-all"),
    ("spec.network.dns_servers", "--dns"),
    ("spec.network.dns_search", "--dns-search"),
    ("spec.network.dns_options", "--dns-option"),
    ("spec.network.extra_hosts", "--add-host"),
    ("spec.network.exposed_ports", "--expose"),
    ("spec.mounts", "--mount, --volume or --tmpfs"),
    ("spec.volumes_from", "--volumes-from"),
    ("spec.devices", "--device"),
    ("spec.cdi_devices", "--device or --gpus"),
    ("spec.device_cgroup_rules", "--device-cgroup-rule"),
    ("spec.sysctls", "--sysctl"),
    ("spec.storage_size_bytes", "--storage-opt or --storage-size"),
    ("spec.cgroup_parent", "--cgroup-parent"),
    ("spec.log", "--log-opt"),
    ("spec.log.driver", "--log-driver"),
];

/// What stands before a request's own fields in the first message of a stream.
const STREAM_PARTS: [&str; 3] = ["open.", "start.", "options."];

/// The arguments of the command that runs: id, and how it is typed.
static ARGUMENTS: OnceLock<Vec<(String, String)>> = OnceLock::new();

/// From now on a field of the API is shown as the argument of this command that set it. Only the first call counts.
pub fn show_for(command: &clap::Command) {
    ARGUMENTS.get_or_init(|| typed_arguments(command));
}

/// The engine's message about a field, with what was typed before it or, where that says as much, in place of the field.
pub fn shown(field: &str, message: String) -> String {
    match typed(field, ARGUMENTS.get().map(Vec::as_slice)) {
        Some(written) => about(field, written, &message),
        None => message,
    }
}

fn typed_arguments(command: &clap::Command) -> Vec<(String, String)> {
    command.get_arguments().map(|arg| (arg.get_id().to_string(), arguments::written(arg))).collect()
}

/// The flag or the place that sets a field, as it is typed. `arguments` are those of the command, None where that is not
/// known; a positional argument has the id of its field.
fn typed<'a>(field: &str, arguments: Option<&'a [(String, String)]>) -> Option<&'a str> {
    // An index or a key says which of several it is, and the flag is the same for all.
    let bare: String = field.split(']').map(|part| part.split('[').next().unwrap_or_default()).collect();
    let bare = STREAM_PARTS.iter().find_map(|part| bare.strip_prefix(part)).unwrap_or(&bare);
    // An update has the limits of a container's spec at another place.
    let in_spec = if bare.starts_with("resources.") { format!("spec.{bare}") } else { bare.to_owned() };
    let is_it = |name: &str| {
        in_spec.strip_prefix(name).is_some_and(|below| below.is_empty() || below.starts_with('.'))
    };
    let flag = FLAGS.iter().filter(|(name, _)| is_it(name)).max_by_key(|(name, _)| name.len());
    let flag = flag.map(|(_, flag)| *flag);
    let Some(arguments) = arguments else { return flag };
    let is_offered =
        |flag: &&str| flag.split([' ', ',']).any(|word| arguments.iter().any(|(_, written)| written == word));
    flag.filter(is_offered).or_else(|| {
        let is_named = |id: &str| id == bare || id.strip_suffix('s') == Some(bare);
        arguments.iter().find(|(id, _)| is_named(id)).map(|(_, written)| written.as_str())
    })
}

/// The engine's message with what was typed in place of the field; one that says where in a request it stands stays.
fn about(field: &str, written: &str, message: &str) -> String {
    let rule = message.strip_prefix(field).and_then(|rest| rest.strip_prefix(": "));
    match rule {
        Some(rule) if !field.contains(['[', '.']) => format!("{written}: {rule}"),
        _ => format!("{written}: {message}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_field_is_shown_as_what_this_command_has_for_it() {
        let of = |flags: &[&'static str], places: &[&'static str]| -> Vec<(String, String)> {
            let flags = flags.iter().map(|name| clap::Arg::new(*name).long(*name));
            let places = places.iter().map(|name| clap::Arg::new(*name));
            typed_arguments(&clap::Command::new("any").args(flags).args(places))
        };
        let run = of(&["name", "mount", "detach-keys"], &["image"]);
        let rename = of(&[], &["container", "name"]);
        let remove = of(&["force"], &["containers"]);
        for (field, arguments, written) in [
            ("name", &run, Some("--name")),
            ("name", &rename, Some("<NAME>")),
            ("name", &remove, None),
            ("container", &rename, Some("<CONTAINER>")),
            ("container", &remove, Some("<CONTAINERS>")),
            ("open.container", &rename, Some("<CONTAINER>")),
            ("start.spec.detach_keys", &run, Some("--detach-keys")),
            ("spec.mounts[2].target", &run, Some("--mount, --volume or --tmpfs")),
            ("spec.mounts[2].target", &rename, None),
            ("spec.user", &run, None),
            ("spec.hostname", &run, None),
        ] {
            assert_eq!(typed(field, Some(arguments)), written, "{field} of {arguments:?}");
        }
        assert_eq!(typed("name", None), Some("--name"));
    }

    #[test]
    fn what_was_typed_stands_in_place_of_the_field_unless_that_says_which_of_several() {
        assert_eq!(about("name", "<NAME>", "name: must be short"), "<NAME>: must be short");
        assert_eq!(about("name", "<NAME>", "the name is taken"), "<NAME>: the name is taken");
        let many = "spec.mounts[2].target: must not be the root";
        assert_eq!(about("spec.mounts[2].target", "--mount", many), format!("--mount: {many}"));
    }

    #[test]
    fn of_several_flags_that_fit_the_nearest_is_named() {
        for (field, flag) in [
            ("spec.log.segment_count", "--log-opt"),
            ("spec.log.driver", "--log-driver"),
            ("spec.network.attachments[0].network", "--network"),
            ("spec.network.published_ports[3].host_port", "--publish"),
            ("resources.io_device_limits[1].path", "--device-read-bps and its like"),
            ("spec.sysctls[a.b]", "--sysctl"),
            ("spec.namespaces.pid.mode", "--pid"),
        ] {
            assert_eq!(typed(field, None), Some(flag), "{field}");
        }
        assert_eq!(typed("spec.logs", None), None);
        assert_eq!(typed("spec", None), None);
    }
}
