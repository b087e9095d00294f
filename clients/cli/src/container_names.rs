//! What templates call the parts of a container: the columns of `docker ps`, and the names of `docker inspect` that
//! scripts ask for.

use serde_json::{json, Map, Value};

use crate::api::v1::types::container::{Exit, State};
use crate::api::v1::types::health::State as Health;
use crate::api::v1::types::{Container, NetworkEndpoint};
use crate::clock;
use crate::ports;
use crate::render;
use crate::template::{self, Column};
use crate::units;

/// What stands above each column. Source: docker/cli `cli/command/formatter/container.go`.
pub const COLUMNS: [Column; 14] = [
    ("ID", "CONTAINER ID"),
    ("Image", "IMAGE"),
    ("Command", "COMMAND"),
    ("RunningFor", "CREATED"),
    ("Status", "STATUS"),
    ("Ports", "PORTS"),
    ("Names", "NAMES"),
    ("Size", "SIZE"),
    ("CreatedAt", "CREATED AT"),
    ("State", "STATE"),
    ("Labels", "LABELS"),
    ("Mounts", "MOUNTS"),
    ("LocalVolumes", "LOCAL VOLUMES"),
    ("Networks", "NETWORKS"),
];

/// A container as a line of `ps` for templates: the columns, and the API's message. Arguments as of [`columns`].
pub fn listed(container: &Container, no_trunc: bool, now: i64) -> Value {
    template::with(render::json(container), columns(container, no_trunc, now))
}

/// The columns of a container, texts by the names of [`COLUMNS`].
///
/// `no_trunc`: ids and commands are whole. `now`: seconds of the epoch.
pub fn columns(container: &Container, no_trunc: bool, now: i64) -> Value {
    let spec = container.spec.as_ref();
    let command = render::printable(&container.resolved_args.join(" "));
    let image = spec.map_or("", |spec| spec.image.as_str());
    let created = container.create_time.as_ref().map_or(0, |time| now - time.seconds);
    let volumes = container.mounts.iter().filter(|mount| mount.r#type == "volume").count();
    let networks: Vec<&str> = container.networks.iter().map(|one| one.network_name.as_str()).collect();
    let places = if container.mounts.is_empty() {
        container.volumes.clone()
    } else {
        container
            .mounts
            .iter()
            .map(|one| if one.name.is_empty() { &one.source } else { &one.name }.clone())
            .collect()
    };
    json!({
        "ID": if no_trunc { container.id.as_str() } else { render::short_id(&container.id) },
        "Image": render::printable(if no_trunc { image } else { image.strip_prefix("sha256:").map_or(image, render::short_id) }),
        "Command": format!("\"{}\"", if no_trunc { command } else { render::shorten(&command, 20) }),
        "RunningFor": format!("{} ago", units::human_span(created)),
        "Status": crate::containers::status(container, now),
        "Ports": ports::shown(&container.published_ports, &container.networks),
        "Names": container.name,
        "Size": size(container),
        "CreatedAt": container.create_time.as_ref().map_or_else(String::new, clock::point),
        "State": state(container),
        "Labels": spec.map_or_else(String::new, |spec| template::pairs(&spec.labels)),
        "Mounts": places.join(","),
        "LocalVolumes": volumes.max(container.volumes.len()).to_string(),
        "Networks": networks.join(","),
    })
}

/// A container for `inspect`: the API's message, and what Docker calls the parts that scripts ask for.
pub fn inspected(container: &Container) -> Value {
    let spec = container.spec.clone().unwrap_or_default();
    let state = state(container);
    let exit_code = match container.exit {
        Some(Exit::ExitCode(code)) => code,
        Some(Exit::Signal(number)) => 128 + number,
        None => 0,
    };
    let moment = |time: Option<&prost_types::Timestamp>| {
        time.map_or_else(
            || "0001-01-01T00:00:00Z".to_owned(),
            |time| units::format_time(time.seconds, time.nanos),
        )
    };
    let health = container.health.as_ref().map(|health| {
        let word = health.state().as_str_name().trim_start_matches("STATE_").to_lowercase();
        json!({"Status": if health.state() == Health::Unspecified { "none".to_owned() } else { word }})
    });
    let networks: Map<String, Value> =
        container.networks.iter().map(|one| (one.network_name.clone(), endpoint(one))).collect();
    let address = container.networks.first().map_or("", |one| one.ipv4_address.as_str());
    let names = json!({
        "Id": container.id,
        "Name": format!("/{}", container.name),
        "Created": moment(container.create_time.as_ref()),
        "Image": container.image_id,
        "RestartCount": container.restart_count,
        "Path": container.resolved_args.first(),
        "Args": container.resolved_args.get(1..).unwrap_or_default(),
        "State": {
            "Status": state,
            "Running": matches!(container.state(), State::Running | State::Paused | State::Stopping),
            "Paused": container.state() == State::Paused,
            "Restarting": state == "restarting",
            "OOMKilled": container.oom_killed,
            "Pid": container.host_pid,
            "ExitCode": exit_code,
            "Error": container.failure.as_ref().map_or("", |failure| failure.message.as_str()),
            "StartedAt": moment(container.start_time.as_ref()),
            "FinishedAt": moment(container.exit_time.as_ref()),
            "Health": health,
        },
        "Config": {
            "Image": spec.image,
            "Env": container.resolved_env,
            "Cmd": container.resolved_args,
            "Labels": spec.labels,
            "User": container.resolved_user,
            "WorkingDir": container.resolved_working_dir,
            "Tty": spec.tty,
        },
        "NetworkSettings": {"IPAddress": address, "Networks": networks},
        "Mounts": container.mounts.iter().map(|one| json!({
            "Type": one.r#type, "Name": one.name, "Source": one.source, "Destination": one.target,
            "RW": !one.read_only,
        })).collect::<Vec<_>>(),
    });
    template::with(render::json(container), names)
}

/// The writable layer's size, and with the image's; `~` before what was counted to a bound.
pub fn size(container: &Container) -> String {
    let mark = if container.writable_size_is_estimate { "~" } else { "" };
    let size = container.writable_size_bytes.unwrap_or(0);
    let whole = units::human_bytes(size + container.image_size_bytes);
    format!("{mark}{} (virtual {whole})", units::human_bytes(size))
}

/// Docker's word for the state.
fn state(container: &Container) -> String {
    if container.reason == "RESTARTING" {
        return "restarting".to_owned();
    }
    container.state().as_str_name().trim_start_matches("STATE_").to_lowercase()
}

fn endpoint(endpoint: &NetworkEndpoint) -> Value {
    json!({
        "NetworkID": endpoint.network_id,
        "IPAddress": endpoint.ipv4_address,
        "GlobalIPv6Address": endpoint.ipv6_address,
        "Gateway": endpoint.ipv4_gateway,
        "IPv6Gateway": endpoint.ipv6_gateway,
        "MacAddress": endpoint.mac_address,
        "Aliases": endpoint.aliases,
    })
}
