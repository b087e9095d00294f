//! Containers: pause, unpause, restart, rename, update, prune.

use clap::Args;
use tonic::transport::Channel;

use crate::api::v1::container_service_client::ContainerServiceClient;
use crate::api::v1::types;
use crate::api::v1::{
    PauseContainerRequest, PruneContainersRequest, RenameContainerRequest, RestartContainerRequest,
    ResumeContainerRequest, UpdateContainerRequest,
};
use crate::clock::parse_timestamp;
use crate::confinement_flags::FurtherLimits;
use crate::confirm::confirm;
use crate::containers::each;
use crate::failure::Failure;
use crate::lifecycle_flags::parse_restart_policy;
use crate::ports::parse_published;
use crate::render::{self, Format};
use crate::units;

/// `fluyt pause`
#[derive(Args, Debug)]
#[command(after_help = "Example:\n  fluyt pause web")]
pub struct PauseCommand {
    /// Containers: ids, unique beginnings of ids, or names
    #[arg(required = true)]
    containers: Vec<String>,
}

/// `fluyt unpause`
#[derive(Args, Debug)]
#[command(after_help = "Example:\n  fluyt unpause web")]
pub struct UnpauseCommand {
    /// Containers: ids, unique beginnings of ids, or names
    #[arg(required = true)]
    containers: Vec<String>,
}

/// `fluyt restart`
#[derive(Args, Debug)]
#[command(after_help = "Example:\n  fluyt restart -t 30 web")]
pub struct RestartCommand {
    /// Seconds to wait before the container is killed, -1 to wait for ever; default: the container's own
    #[arg(short, long, visible_alias = "time", value_name = "SECONDS", value_parser = units::parse_grace)]
    timeout: Option<units::Grace>,
    /// Signal in place of the container's own
    #[arg(short, long)]
    signal: Option<String>,
    /// Containers: ids, unique beginnings of ids, or names
    #[arg(required = true)]
    containers: Vec<String>,
}

/// `fluyt rename`
#[derive(Args, Debug)]
#[command(after_help = "Example:\n  fluyt rename web old-web")]
pub struct RenameCommand {
    /// Container: id, unique beginning of an id, or name
    container: String,
    /// The new name
    name: String,
}

/// `fluyt update`
#[derive(Args, Debug)]
#[command(
    after_help = "Examples:\n  fluyt update -m 512m --memory-swap 1g web\n  fluyt update --restart unless-stopped $(fluyt ps -q)\n  fluyt update --publish-rm 80 --publish-add 8080:80 web"
)]
pub struct UpdateCommand {
    /// Publish this port too, as 8080:80 or 127.0.0.1::53/udp; at once if the container runs
    #[arg(long, value_name = "PORTS", value_parser = parse_published)]
    publish_add: Vec<types::PublishedPort>,
    /// Publish this port no longer, as 80, or 8080:80 for one of several
    #[arg(long, value_name = "PORTS", value_parser = parse_published)]
    publish_rm: Vec<types::PublishedPort>,
    /// Memory limit, as 512m; 0 for none
    #[arg(short, long, value_name = "SIZE", value_parser = units::parse_bytes)]
    memory: Option<i64>,
    /// Limit of memory and swap together; -1 for no limit
    #[arg(long, value_name = "SIZE", value_parser = units::parse_bytes_or_unlimited)]
    memory_swap: Option<i64>,
    /// Memory that the container is pushed back to when the host runs short
    #[arg(long, value_name = "SIZE", value_parser = units::parse_bytes)]
    memory_reservation: Option<i64>,
    /// Number of processors, as 0.5; 0 for no limit
    #[arg(long, value_name = "NUMBER", value_parser = units::parse_cpus)]
    cpus: Option<i64>,
    /// Microseconds of processor time in a period; -1 for no limit
    #[arg(long, value_name = "MICROS")]
    cpu_quota: Option<i64>,
    /// Length of a period in microseconds
    #[arg(long, value_name = "MICROS")]
    cpu_period: Option<i64>,
    /// Weight against other containers, 2 to 262144
    #[arg(short, long, value_name = "SHARES")]
    cpu_shares: Option<i64>,
    /// Processors it may run on, as 0-1,3
    #[arg(long, value_name = "LIST")]
    cpuset_cpus: Option<String>,
    /// Memory nodes it may use, as 0
    #[arg(long, value_name = "LIST")]
    cpuset_mems: Option<String>,
    /// Number of processes and threads; -1 for no limit
    #[arg(long, value_name = "COUNT")]
    pids_limit: Option<i64>,
    /// Further limits
    #[command(flatten)]
    further: FurtherLimits,
    /// When it is started again: no, on-failure[:COUNT], always or unless-stopped
    #[arg(long, value_name = "POLICY", value_parser = parse_restart_policy)]
    restart: Option<types::RestartPolicy>,
    /// Containers: ids, unique beginnings of ids, or names
    #[arg(required = true)]
    containers: Vec<String>,
}

/// `fluyt container prune`
#[derive(Args, Debug)]
#[command(
    after_help = "Examples:\n  fluyt container prune --dry-run\n  fluyt container prune -f --filter label=role=job --filter until=24h"
)]
pub struct PruneCommand {
    /// Do not ask
    #[arg(short, long)]
    force: bool,
    /// Only tell what would go
    #[arg(long)]
    dry_run: bool,
    /// label=NAME[=VALUE], or until=TIME: those made before it; a span is one back from now
    #[arg(long, value_name = "NAME=VALUE")]
    filter: Vec<String>,
    /// Output
    #[arg(long, value_enum, default_value_t)]
    format: Format,
}

/// Runs `fluyt pause`.
///
/// # Errors
/// Standard output is closed.
pub async fn pause(channel: Channel, command: PauseCommand) -> Result<u8, Failure> {
    each(command.containers, |name| {
        let mut client = ContainerServiceClient::new(channel.clone());
        async move {
            client
                .pause_container(PauseContainerRequest { container: name.clone(), ..Default::default() })
                .await?;
            Ok(name)
        }
    })
    .await
}

/// Runs `fluyt unpause`.
///
/// # Errors
/// Standard output is closed.
pub async fn unpause(channel: Channel, command: UnpauseCommand) -> Result<u8, Failure> {
    each(command.containers, |name| {
        let mut client = ContainerServiceClient::new(channel.clone());
        async move {
            client
                .resume_container(ResumeContainerRequest { container: name.clone(), ..Default::default() })
                .await?;
            Ok(name)
        }
    })
    .await
}

/// Runs `fluyt restart`.
///
/// # Errors
/// Standard output is closed.
pub async fn restart(channel: Channel, command: RestartCommand) -> Result<u8, Failure> {
    each(command.containers, |name| {
        let mut client = ContainerServiceClient::new(channel.clone());
        let request = RestartContainerRequest {
            container: name.clone(),
            timeout: command.timeout.and_then(units::Grace::message),
            signal: command.signal.clone().unwrap_or_default(),
            ..Default::default()
        };
        async move {
            client.restart_container(request).await?;
            Ok(name)
        }
    })
    .await
}

/// Runs `fluyt rename`.
///
/// # Errors
/// What the engine answers.
pub async fn rename(channel: Channel, command: RenameCommand) -> Result<u8, Failure> {
    let request =
        RenameContainerRequest { container: command.container, name: command.name, ..Default::default() };
    ContainerServiceClient::new(channel).rename_container(request).await?;
    Ok(0)
}

/// Runs `fluyt update`.
///
/// # Errors
/// No limit was named, or standard output is closed.
pub async fn update(channel: Channel, command: UpdateCommand) -> Result<u8, Failure> {
    let mut resources = types::Resources {
        memory_limit_bytes: command.memory,
        memory_swap_limit_bytes: command.memory_swap,
        memory_reservation_bytes: command.memory_reservation,
        cpu_quota_micros: command.cpu_quota,
        cpu_period_micros: command.cpu_period,
        cpu_shares: command.cpu_shares,
        nano_cpus: command.cpus,
        cpuset_cpus: command.cpuset_cpus.unwrap_or_default(),
        cpuset_mems: command.cpuset_mems.unwrap_or_default(),
        pids_limit: command.pids_limit,
        ..Default::default()
    };
    command.further.apply(&mut resources);
    let changes_ports = !command.publish_add.is_empty() || !command.publish_rm.is_empty();
    if resources == types::Resources::default() && command.restart.is_none() && !changes_ports {
        return Err(Failure::usage("nothing to update was named", "see `fluyt update --help`"));
    }
    each(command.containers, |name| {
        let mut client = ContainerServiceClient::new(channel.clone());
        let request = UpdateContainerRequest {
            container: name.clone(),
            resources: Some(resources.clone()),
            restart_policy: command.restart,
            add_published_ports: command.publish_add.clone(),
            remove_published_ports: command.publish_rm.clone(),
            ..Default::default()
        };
        async move {
            client.update_container(request).await?;
            Ok(name)
        }
    })
    .await
}

/// Runs `fluyt container prune`.
///
/// # Errors
/// A filter that is not known, there is no terminal to ask on, or what the engine answers.
pub async fn prune(channel: Channel, command: PruneCommand) -> Result<u8, Failure> {
    let filter = prune_filter(&command.filter)?;
    if !command.force && !command.dry_run && !confirm("This will delete all containers that do not run.")? {
        return Ok(1);
    }
    let request =
        PruneContainersRequest { filter: Some(filter), dry_run: command.dry_run, ..Default::default() };
    let answer = ContainerServiceClient::new(channel).prune_containers(request).await?.into_inner();
    if command.format == Format::Json {
        render::json_lines([&answer])?;
        return Ok(0);
    }
    for id in &answer.deleted {
        render::line(id)?;
    }
    let verb = if command.dry_run { "Would free" } else { "Freed" };
    render::line(format!("{verb} {}", units::human_bytes(answer.reclaimed_bytes)))?;
    Ok(0)
}

fn prune_filter(texts: &[String]) -> Result<types::ContainerFilter, Failure> {
    let mut filter = types::ContainerFilter::default();
    for text in texts {
        match text.split_once('=') {
            Some(("label", value)) => filter.labels.push(value.to_owned()),
            Some(("until", value)) => {
                let time = parse_timestamp(value).map_err(|message| Failure::usage(message, ""))?;
                filter.before_time = Some(time);
            }
            _ => {
                return Err(Failure::usage(format!("--filter {text} is not known"), "write label= or until="))
            }
        }
    }
    Ok(filter)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::now_seconds;

    #[test]
    fn a_prune_filter_that_is_not_known_is_refused() {
        let filter = prune_filter(&["label=a=b".to_owned(), "until=10m".to_owned()]).unwrap();
        assert_eq!(filter.labels, ["a=b"]);
        assert!(filter.before_time.unwrap().seconds < now_seconds());
        for text in ["status=exited", "until=soon", "label"] {
            assert!(prune_filter(&[text.to_owned()]).is_err(), "{text}");
        }
    }
}
