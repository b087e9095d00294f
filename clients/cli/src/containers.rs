//! Containers: ps, kill, wait, rm, and the container side of inspect.

use clap::Args;
use tonic::transport::Channel;

use crate::api::v1::container_service_client::ContainerServiceClient;
use crate::api::v1::types::container::{Exit, State};
use crate::api::v1::types::health::State as Health;
use crate::api::v1::types::{Container, ContainerFilter};
use crate::api::v1::wait_container_request::Condition;
use crate::api::v1::{
    DeleteContainerRequest, GetContainerRequest, KillContainerRequest, ListContainersRequest,
    WaitContainerRequest,
};
use crate::clock::now_seconds;
use crate::container_names;
use crate::failure::Failure;
use crate::images;
use crate::render;
use crate::run::exit_code;
use crate::template::Output;
use crate::units;

/// `fluyt ps`
#[derive(Args, Debug)]
#[command(
    after_help = "Examples:\n  fluyt ps\n  fluyt ps -a --filter exited=137\n  fluyt ps -q --filter label=role=web\n  fluyt ps -a --format json\n  fluyt ps --format 'table {{.Names}}\\t{{.Status}}'"
)]
pub struct ListCommand {
    /// Also those that do not run
    #[arg(short, long)]
    all: bool,
    /// Print only ids
    #[arg(short, long)]
    quiet: bool,
    /// Print whole ids and commands
    #[arg(long)]
    no_trunc: bool,
    /// Only the newest COUNT, whatever their state; 0 or less for no bound
    #[arg(short = 'n', long, value_name = "COUNT")]
    last: Option<i64>,
    /// Only the newest, whatever its state
    #[arg(short, long)]
    latest: bool,
    /// Print sizes of the writable layers
    #[arg(short, long)]
    size: bool,
    /// id=, name=, label=, status=, exited=, ancestor=, health=, network=, volume=, publish=, expose=, before= or since=
    #[arg(short, long, value_name = "NAME=VALUE")]
    filter: Vec<String>,
    /// Output: table, json, or a template of Go such as '{{.ID}} {{.Names}}'
    #[arg(long, value_name = "FORMAT", default_value = "table")]
    format: Output,
}

/// `fluyt kill`
#[derive(Args, Debug)]
#[command(after_help = "Example:\n  fluyt kill -s HUP web")]
pub struct KillCommand {
    /// Signal: a name with or without SIG, or a number
    #[arg(short, long, default_value = "SIGKILL")]
    signal: String,
    /// Containers: ids, unique beginnings of ids, or names
    #[arg(required = true)]
    containers: Vec<String>,
}

/// `fluyt wait`
#[derive(Args, Debug)]
#[command(after_help = "Example:\n  fluyt wait job    # prints its exit code")]
pub struct WaitCommand {
    /// not-running, next-exit or removed
    #[arg(long, value_parser = ["not-running", "next-exit", "removed"], default_value = "not-running")]
    condition: String,
    /// Containers: ids, unique beginnings of ids, or names
    #[arg(required = true)]
    containers: Vec<String>,
}

/// `fluyt rm`
#[derive(Args, Debug)]
#[command(after_help = "Examples:\n  fluyt rm job\n  fluyt rm -f $(fluyt ps -aq)")]
pub struct RemoveCommand {
    /// Kill it first if it runs; no failure if it is not there
    #[arg(short, long)]
    force: bool,
    #[arg(short, long, hide = true)]
    link: bool,
    /// Delete its anonymous volumes too
    #[arg(short, long)]
    volumes: bool,
    /// Containers: ids, unique beginnings of ids, or names
    #[arg(required = true)]
    containers: Vec<String>,
}

/// `fluyt inspect`
#[derive(Args, Debug)]
#[command(
    after_help = "Examples:\n  fluyt inspect web\n  fluyt inspect --type image debian:12\n  fluyt inspect -f '{{.State.Status}}' web"
)]
pub struct InspectCommand {
    /// container or image; default: whichever is found
    #[arg(long = "type", value_name = "TYPE", value_parser = ["container", "image"])]
    kind: Option<String>,
    #[command(flatten)]
    flags: InspectFlags,
    /// Containers or images
    #[arg(required = true)]
    names: Vec<String>,
}

/// `fluyt container inspect`
#[derive(Args, Debug)]
#[command(
    after_help = "Examples:\n  fluyt container inspect web\n  fluyt container inspect -s --format json web"
)]
pub struct ContainerInspectCommand {
    #[command(flatten)]
    flags: InspectFlags,
    /// Containers: ids, unique beginnings of ids, or names
    #[arg(required = true)]
    containers: Vec<String>,
}

impl From<ContainerInspectCommand> for InspectCommand {
    fn from(command: ContainerInspectCommand) -> Self {
        Self { kind: Some("container".to_owned()), flags: command.flags, names: command.containers }
    }
}

/// How containers are shown by `inspect` and `container inspect`.
#[derive(Args, Debug)]
struct InspectFlags {
    /// Tell the size of the container's writable layer
    #[arg(short, long)]
    size: bool,
    /// Output: table or json, both JSON, json one object a line; or a template of Go such as '{{.State.Status}}'
    #[arg(short, long, value_name = "FORMAT", default_value = "table", hide_default_value = true)]
    format: Output,
}

fn filter(texts: &[String]) -> Result<ContainerFilter, Failure> {
    let mut filter = ContainerFilter::default();
    for text in texts {
        let wrong = || {
            Failure::usage(
                format!("--filter {text} is not known"),
                "write id=, name=, label=, status=, exited=, ancestor=, health=, network=, volume=, publish=, expose=, before= or since=",
            )
        };
        match text.split_once('=').ok_or_else(wrong)? {
            ("id", value) => filter.ids.push(value.to_owned()),
            ("name", value) => filter.names.push(value.to_owned()),
            ("label", value) => filter.labels.push(value.to_owned()),
            ("ancestor", value) => filter.images.push(value.to_owned()),
            // Docker's words for what is no state here, or is called otherwise.
            ("status", "restarting") => filter.restarting = true,
            ("status", "removing") => filter.states.push(State::Deleting.into()),
            ("health", "none") => filter.health_states.push(Health::Unspecified.into()),
            ("exited", value) => filter.exit_codes.push(value.parse().map_err(|_| wrong())?),
            ("network", value) => filter.networks.push(value.to_owned()),
            ("volume", value) => filter.volumes.push(value.to_owned()),
            ("publish", value) => filter.published_ports.push(value.to_owned()),
            ("expose", value) => filter.exposed_ports.push(value.to_owned()),
            ("health", value) => {
                let name = format!("STATE_{}", value.to_uppercase());
                filter.health_states.push(Health::from_str_name(&name).ok_or_else(wrong)?.into());
            }
            ("before", value) => value.clone_into(&mut filter.before_container),
            ("since", value) => value.clone_into(&mut filter.since_container),
            ("status", value) => {
                let state = State::from_str_name(&format!("STATE_{}", value.to_uppercase())).ok_or_else(|| {
                    Failure::usage(
                        format!("`{value}` is not a state"),
                        "write creating, created, starting, running, paused, stopping, restarting, exited, deleting or unknown",
                    )
                })?;
                filter.states.push(state.into());
            }
            _ => return Err(wrong()),
        }
    }
    Ok(filter)
}

/// The newest containers that fit, at most `bound`, fetched page by page.
///
/// # Errors
/// What the engine answers.
pub async fn all(
    channel: Channel,
    filter: &ContainerFilter,
    include_size: bool,
    bound: usize,
) -> Result<Vec<Container>, Failure> {
    let mut client = ContainerServiceClient::new(channel);
    let mut found: Vec<Container> = Vec::new();
    let mut page_token = String::new();
    loop {
        let filter = Some(filter.clone());
        let request = ListContainersRequest { page_token, filter, include_size, ..Default::default() };
        let page = client.list_containers(request).await?.into_inner();
        found.extend(page.containers);
        page_token = page.next_page_token;
        if page_token.is_empty() || found.len() >= bound {
            break;
        }
    }
    found.truncate(bound);
    Ok(found)
}

/// Runs `fluyt ps`.
///
/// # Errors
/// A filter that is not known, or what the engine answers.
pub async fn list(channel: Channel, command: ListCommand) -> Result<u8, Failure> {
    let mut filter = filter(&command.filter)?;
    // Source: moby `daemon/list.go`: only a positive limit is one.
    let last = command.last.and_then(|count| usize::try_from(count).ok()).filter(|count| *count > 0);
    let bound = if command.latest { Some(1) } else { last };
    let has_states = !filter.states.is_empty() || filter.restarting;
    let is_all = command.all || bound.is_some() || has_states || !filter.exit_codes.is_empty();
    if !is_all {
        filter.restarting = true;
        filter.states.extend([State::Running, State::Paused, State::Stopping].map(i32::from));
    }
    // As in docker, a template that shows sizes asks for them.
    let with_size = command.size || matches!(&command.format, Output::Template(one) if one.names("Size"));
    let found = all(channel, &filter, with_size, bound.unwrap_or(usize::MAX)).await?;
    if command.format == Output::Json {
        render::json_lines(&found)?;
    } else if command.quiet {
        for container in &found {
            render::line(if command.no_trunc { &container.id } else { render::short_id(&container.id) })?;
        }
    } else if let Output::Template(template) = &command.format {
        let now = now_seconds();
        let rows: Vec<_> =
            found.iter().map(|one| container_names::listed(one, command.no_trunc, now)).collect();
        template.print(&container_names::COLUMNS, &rows)?;
    } else {
        render::line(table(&found, command.no_trunc, command.size))?;
    }
    Ok(0)
}

/// Containers as `fluyt ps` shows them.
pub fn table(containers: &[Container], no_trunc: bool, with_size: bool) -> String {
    let now = now_seconds();
    let columns = &container_names::COLUMNS[..if with_size { 8 } else { 7 }];
    let header: Vec<&str> = columns.iter().map(|(_, head)| *head).collect();
    let rows: Vec<Vec<String>> = containers
        .iter()
        .map(|container| {
            let row = container_names::columns(container, no_trunc, now);
            columns.iter().map(|(name, _)| row[*name].as_str().unwrap_or_default().to_owned()).collect()
        })
        .collect();
    render::table(&header, &rows)
}

/// State as `docker ps` words it.
pub fn status(container: &Container, now: i64) -> String {
    let since = |time: Option<&prost_types::Timestamp>| {
        units::human_span(time.map_or(0, |time| now.saturating_sub(time.seconds)))
    };
    match container.state() {
        State::Running => format!("Up {}{}", since(container.start_time.as_ref()), health(container)),
        State::Paused => format!("Up {} (Paused)", since(container.start_time.as_ref())),
        State::Stopping => format!("Up {} (Stopping)", since(container.start_time.as_ref())),
        State::Exited => {
            let code = match container.exit {
                Some(Exit::ExitCode(code)) => code.to_string(),
                Some(Exit::Signal(number)) => (128 + number).to_string(),
                None => "?".to_owned(),
            };
            let word = if container.reason == "RESTARTING" { "Restarting" } else { "Exited" };
            format!("{word} ({code}) {} ago", since(container.exit_time.as_ref()))
        }
        state => {
            let word = state.as_str_name().trim_start_matches("STATE_").to_lowercase();
            word[..1].to_uppercase() + &word[1..]
        }
    }
}

/// Its health as `docker ps` words it; empty without a health check.
fn health(container: &Container) -> &'static str {
    match container.health.as_ref().map(crate::api::v1::types::Health::state) {
        Some(Health::Starting) => " (health: starting)",
        Some(Health::Healthy) => " (healthy)",
        Some(Health::Unhealthy) => " (unhealthy)",
        Some(Health::Unspecified) | None => "",
    }
}

/// Prints each name as its call succeeds; a failure is told and the others are tried.
///
/// # Errors
/// Standard output is closed.
pub async fn each<F: std::future::Future<Output = Result<String, Failure>>>(
    names: Vec<String>,
    call: impl FnMut(String) -> F,
) -> Result<u8, Failure> {
    each_present(names, None, call).await
}

/// As [`each`], where what is not there is no failure (`absent`: the engine's reason for that): it is told all the same.
/// Source: docker/cli `cli/command/container/rm.go`, `network/remove.go`, of a forced removal.
///
/// # Errors
/// Standard output is closed.
pub async fn each_present<F: std::future::Future<Output = Result<String, Failure>>>(
    names: Vec<String>,
    absent: Option<&str>,
    mut call: impl FnMut(String) -> F,
) -> Result<u8, Failure> {
    let mut exit_code = 0;
    for name in names {
        match call(name).await {
            Ok(text) => render::line(text)?,
            Err(failure) => {
                eprintln!("{failure}");
                if absent != Some(failure.reason.as_str()) {
                    exit_code = 1;
                }
            }
        }
    }
    Ok(exit_code)
}

/// Runs `fluyt kill`.
///
/// # Errors
/// Standard output is closed.
pub async fn kill(channel: Channel, command: KillCommand) -> Result<u8, Failure> {
    let signal = command.signal;
    each(command.containers, |name| {
        let mut client = ContainerServiceClient::new(channel.clone());
        let request =
            KillContainerRequest { container: name.clone(), signal: signal.clone(), ..Default::default() };
        async move {
            client.kill_container(request).await?;
            Ok(name)
        }
    })
    .await
}

/// Runs `fluyt wait`: prints each container's exit code.
///
/// # Errors
/// What the engine answers.
pub async fn wait(channel: Channel, command: WaitCommand) -> Result<u8, Failure> {
    let condition = match command.condition.as_str() {
        "next-exit" => Condition::NextExit,
        "removed" => Condition::Removed,
        _ => Condition::NotRunning,
    };
    for name in command.containers {
        let request = WaitContainerRequest { container: name, condition: condition.into() };
        let answer = ContainerServiceClient::new(channel.clone()).wait_container(request).await?.into_inner();
        let container = answer.container.unwrap_or_default();
        let code = match exit_code(&container) {
            Ok(code) => code,
            Err(failure) => failure.exit_code,
        };
        render::line(code.to_string())?;
    }
    Ok(0)
}

/// Runs `fluyt rm`.
///
/// # Errors
/// Standard output is closed.
pub async fn remove(channel: Channel, command: RemoveCommand) -> Result<u8, Failure> {
    if command.link {
        return Err(Failure::usage(
            "--link is not offered",
            "there are no links; `fluyt network disconnect` takes a container off a network",
        ));
    }
    let absent = command.force.then_some("CONTAINER_NOT_FOUND");
    each_present(command.containers, absent, |name| {
        let mut client = ContainerServiceClient::new(channel.clone());
        let request = DeleteContainerRequest {
            container: name.clone(),
            force: command.force,
            delete_volumes: command.volumes,
            ..Default::default()
        };
        async move {
            client.delete_container(request).await?;
            Ok(name)
        }
    })
    .await
}

/// Runs `fluyt inspect`.
///
/// # Errors
/// A name that is neither a container's nor an image's, or what the engine answers.
pub async fn inspect(channel: Channel, command: InspectCommand) -> Result<u8, Failure> {
    for name in &command.names {
        let is_image_only = command.kind.as_deref() == Some("image");
        let is_container_only = command.kind.as_deref() == Some("container");
        if !is_image_only {
            let request = GetContainerRequest { container: name.clone(), include_size: command.flags.size };
            match ContainerServiceClient::new(channel.clone()).get_container(request).await {
                Ok(answer) => {
                    let container = answer.into_inner().container.unwrap_or_default();
                    command.flags.format.show(&container, container_names::inspected)?;
                    continue;
                }
                Err(status) => {
                    let failure = Failure::from(status);
                    if is_container_only || failure.reason != "CONTAINER_NOT_FOUND" {
                        return Err(failure);
                    }
                }
            }
        }
        match images::get(channel.clone(), name, None).await {
            Ok(image) => command.flags.format.show(&image, images::inspected)?,
            Err(failure) => {
                if is_image_only || failure.reason != "IMAGE_NOT_FOUND" {
                    return Err(failure);
                }
                return Err(Failure::new(
                    format!("no container and no image is called {}", render::printable(name)),
                    "list them with `fluyt ps -a` and `fluyt images`",
                ));
            }
        }
    }
    Ok(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_state_reads_as_dockers() {
        let time = |seconds| Some(prost_types::Timestamp { seconds, nanos: 0 });
        let up = Container { state: State::Running.into(), start_time: time(0), ..Default::default() };
        assert_eq!(status(&up, 120), "Up 2 minutes");
        let exited = Container {
            state: State::Exited.into(),
            exit: Some(Exit::Signal(9)),
            exit_time: time(60),
            ..Default::default()
        };
        assert_eq!(status(&exited, 120), "Exited (137) About a minute ago");
        let restarting = Container { reason: "RESTARTING".to_owned(), ..exited };
        assert_eq!(status(&restarting, 120), "Restarting (137) About a minute ago");
        let healthy = crate::api::v1::types::Health { state: Health::Healthy.into(), ..Default::default() };
        let healthy = Container { health: Some(healthy), ..up };
        assert_eq!(status(&healthy, 120), "Up 2 minutes (healthy)");
        let created = Container { state: State::Created.into(), ..Default::default() };
        assert_eq!(status(&created, 0), "Created");
    }

    #[test]
    fn an_unknown_filter_is_refused() {
        assert!(filter(&["status=running".to_owned(), "exited=3".to_owned()]).is_ok());
        let docker = ["status=restarting", "status=removing", "health=none"].map(str::to_owned);
        assert!(filter(&docker).unwrap().restarting);
        for text in ["colour=red", "status=dancing", "exited=x", "name"] {
            assert!(filter(&[text.to_owned()]).is_err(), "{text}");
        }
    }
}
