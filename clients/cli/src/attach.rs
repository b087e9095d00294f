//! `fluyt attach`: the streams of a container that runs, for as long as it runs or until the caller leaves.

use clap::Args;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::Channel;

use crate::api::v1::attach_container_request::Action as Request;
use crate::api::v1::attach_container_response::Event;
use crate::api::v1::container_service_client::ContainerServiceClient;
use crate::api::v1::types::{AttachOptions, ContainerSpec};
use crate::api::v1::{AttachContainerRequest, GetContainerRequest};
use crate::caller::{self, forward_signals, pump_stdin};
use crate::detach_keys::DetachKeys;
use crate::failure::Failure;
use crate::render;
use crate::run::exit_code;
use crate::signals::Signals;

/// `fluyt attach`
#[derive(Args, Debug)]
#[command(after_help = "Examples:
  fluyt attach web
  fluyt attach --no-stdin --sig-proxy=false web

Output comes from now on; `fluyt logs` has what was before. Exit code: as of `fluyt run`; 0 after the detach keys.")]
pub struct AttachCommand {
    /// Give it no standard input
    #[arg(long)]
    no_stdin: bool,
    /// Send signals on to the container; with =false they end this command only
    #[arg(
        long,
        value_name = "BOOL",
        num_args = 0..=1,
        require_equals = true,
        default_value_t = true,
        default_missing_value = "true",
        action = clap::ArgAction::Set
    )]
    sig_proxy: bool,
    /// Keys that leave the container running, as ctrl-p,ctrl-q; default: none
    #[arg(long, value_name = "KEYS", value_parser = DetachKeys::parse)]
    detach_keys: Option<DetachKeys>,
    /// Container: name, id or unique prefix of it
    #[arg(value_name = "CONTAINER")]
    container: String,
}

/// Runs `fluyt attach`; the answer is the container's exit code, or 0 if the caller left.
///
/// # Errors
/// What the engine answers; a container with a terminal is refused, since that is not built.
pub async fn run(channel: Channel, command: AttachCommand) -> Result<u8, Failure> {
    let mut client = ContainerServiceClient::new(channel);
    let request = GetContainerRequest { container: command.container.clone(), ..Default::default() };
    let container = client.get_container(request).await?.into_inner().container.unwrap_or_default();
    let spec = container.spec.unwrap_or_default();
    refuse_terminal(&command.container, &spec)?;
    let has_stdin = spec.open_stdin && !command.no_stdin;
    let signals = Signals::listen()?;
    let (actions, queue) = mpsc::channel::<AttachContainerRequest>(caller::QUEUE);
    let open = AttachOptions {
        container: container.id,
        stdin: has_stdin,
        stdout: true,
        stderr: true,
        hold: true,
        ..Default::default()
    };
    // The queue is empty and holds several.
    let _ = actions.try_send(AttachContainerRequest { action: Some(Request::Open(open)) });
    let mut events = client.attach_container(ReceiverStream::new(queue)).await?.into_inner();
    let keys = command.detach_keys.unwrap_or_else(DetachKeys::none);
    let pump = has_stdin.then(|| tokio::spawn(pump_stdin(actions.clone(), keys)));
    // It holds the queue's sending end to the last: the engine takes its loss for the end of input.
    let signal_end = forward_signals(signals, actions, command.sig_proxy);
    tokio::pin!(signal_end);
    let result = async {
        loop {
            let event = tokio::select! {
                event = events.message() => event?,
                code = &mut signal_end => return Ok(code),
            };
            match event.and_then(|message| message.event) {
                Some(Event::Attached(_)) => {}
                Some(Event::Stdout(chunk)) => render::bytes(&chunk.data, false)?,
                Some(Event::Stderr(chunk)) => render::bytes(&chunk.data, true)?,
                Some(Event::Exited(container)) => return exit_code(&container),
                Some(Event::Detached(container)) => {
                    eprintln!("fluyt: left container {}, which goes on", container.name);
                    return Ok(0);
                }
                None => return Err(Failure::cut_off("container")),
            }
        }
    }
    .await;
    if let Some(pump) = pump {
        pump.abort();
    }
    result
}

/// Joining the terminal of a container's first process is not built; its keys and sizes would be lost.
fn refuse_terminal(name: &str, spec: &ContainerSpec) -> Result<(), Failure> {
    if spec.tty {
        return Err(Failure::new(
            format!("container {name} has a terminal; joining one is not built"),
            format!("`fluyt exec -it {name} sh` gives it another process with a terminal"),
        ));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_terminal_is_refused_with_what_to_do() {
        let failure = refuse_terminal("web", &ContainerSpec { tty: true, ..Default::default() }).unwrap_err();
        assert!(failure.to_string().contains("fluyt exec -it web sh"), "{failure}");
        assert!(refuse_terminal("web", &ContainerSpec::default()).is_ok());
    }
}
