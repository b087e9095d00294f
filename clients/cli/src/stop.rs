//! `fluyt stop`: some containers or all, all at once.

use clap::Args;
use tonic::transport::Channel;

use crate::api::v1::container_service_client::ContainerServiceClient;
use crate::api::v1::types::container::State;
use crate::api::v1::types::restart_policy::Mode;
use crate::api::v1::types::{Container, ContainerFilter};
use crate::api::v1::StopContainerRequest;
use crate::connect;
use crate::containers;
use crate::failure::Failure;
use crate::render;
use crate::units;

/// Containers that share a connection. The daemon answers 512 calls of one at a time, and each of these may last as long
/// as its container's grace: more of them would wait for one another.
const CONTAINERS_PER_CONNECTION: usize = 256;

/// `fluyt stop`
#[derive(Args, Debug)]
#[command(after_help = "Examples:\n  fluyt stop -t 30 web worker\n  fluyt stop --all")]
pub struct StopCommand {
    /// All containers that run, are paused, or may be started again by their restart policy
    #[arg(short, long)]
    all: bool,
    /// Seconds to wait before the container is killed, -1 to wait for ever; default: the container's own
    #[arg(short, long, visible_alias = "time", value_name = "SECONDS", value_parser = units::parse_grace)]
    timeout: Option<units::Grace>,
    /// Signal in place of the container's own
    #[arg(short, long)]
    signal: Option<String>,
    /// Containers: ids, unique beginnings of ids, or names
    containers: Vec<String>,
}

/// Runs `fluyt stop`; `host` is the daemon's address, for further connections.
///
/// # Errors
/// Standard output is closed; with `--all` also what the engine answers to the question which containers there are.
pub async fn run(host: &str, channel: Channel, command: StopCommand) -> Result<u8, Failure> {
    let names = if command.all { stoppable(channel.clone()).await? } else { command.containers };
    let mut calls = Vec::with_capacity(names.len());
    for (number, part) in names.chunks(CONTAINERS_PER_CONNECTION).enumerate() {
        let connection = if number == 0 { channel.clone() } else { connect::channel(host)? };
        for name in part {
            let name = name.clone();
            let mut client = ContainerServiceClient::new(connection.clone());
            let request = StopContainerRequest {
                container: name.clone(),
                timeout: command.timeout.and_then(units::Grace::message),
                signal: command.signal.clone().unwrap_or_default(),
                ..Default::default()
            };
            calls.push(tokio::spawn(async move {
                client.stop_container(request).await.map(|_| name).map_err(Failure::from)
            }));
        }
    }
    let mut exit_code = 0;
    for call in calls {
        match call.await.unwrap_or_else(|error| Err(Failure::new(error.to_string(), ""))) {
            Ok(name) => render::line(name)?,
            // Nobody named it: that it has gone meanwhile is what was wanted.
            Err(failure) if command.all && failure.reason == "CONTAINER_NOT_FOUND" => {}
            Err(failure) => {
                eprintln!("{failure}");
                exit_code = 1;
            }
        }
    }
    Ok(exit_code)
}

/// Ids of those that run or that a restart policy may have run again, newest first.
///
/// # Errors
/// What the engine answers.
async fn stoppable(channel: Channel) -> Result<Vec<String>, Failure> {
    let found = containers::all(channel, &ContainerFilter::default(), false, usize::MAX).await?;
    Ok(found.into_iter().filter(may_run).map(|container| container.id).collect())
}

fn may_run(container: &Container) -> bool {
    match container.state() {
        State::Starting | State::Running | State::Paused | State::Stopping => true,
        State::Exited => {
            let policy = container.spec.as_ref().and_then(|spec| spec.restart_policy.as_ref());
            policy.is_some_and(|policy| !matches!(policy.mode(), Mode::Unspecified | Mode::No))
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::v1::types::{ContainerSpec, RestartPolicy};

    #[test]
    fn all_are_those_that_run_or_may_be_started_again() {
        let of = |state: State, mode: Mode| {
            let restart_policy = Some(RestartPolicy { mode: mode.into(), ..Default::default() });
            let spec = Some(ContainerSpec { restart_policy, ..Default::default() });
            Container { state: state.into(), spec, ..Default::default() }
        };
        for state in [State::Starting, State::Running, State::Paused, State::Stopping] {
            assert!(may_run(&of(state, Mode::No)), "{state:?}");
        }
        assert!(may_run(&of(State::Exited, Mode::Always)));
        for state in [State::Exited, State::Created, State::Deleting, State::Unknown] {
            assert!(!may_run(&of(state, Mode::No)), "{state:?}");
        }
    }
}
