//! `fluyt start`: containers that were made, or have ended, run; one of them with the caller's streams if asked.

use clap::Args;
use tonic::transport::Channel;

use crate::api::v1::container_service_client::ContainerServiceClient;
use crate::api::v1::{GetContainerRequest, StartContainerRequest};
use crate::containers::each;
use crate::failure::Failure;
use crate::joined::{self, Wish};
use crate::signals::Signals;

/// `fluyt start`
#[derive(Args, Debug)]
#[command(after_help = "Examples:
  fluyt start job
  fluyt start -ai shell

Exit code with -a or -i: the container's, as of `fluyt run`; 0 after the detach keys.")]
pub struct StartCommand {
    /// Show its output, and send signals on to it if it has no terminal
    #[arg(short, long)]
    attach: bool,
    /// Give it standard input
    #[arg(short, long)]
    interactive: bool,
    /// Keys that leave the container running, empty for none; default: ctrl-p,ctrl-q with a terminal, else none
    #[arg(long, value_name = "KEYS")]
    detach_keys: Option<String>,
    /// Containers: ids, unique beginnings of ids, or names
    #[arg(required = true)]
    containers: Vec<String>,
}

/// Runs `fluyt start`.
///
/// # Errors
/// Standard output is closed; with `-a` or `-i` what the engine answers.
pub async fn run(channel: Channel, command: StartCommand) -> Result<u8, Failure> {
    if command.attach || command.interactive {
        return attached(channel, command).await;
    }
    each(command.containers, |name| {
        let mut client = ContainerServiceClient::new(channel.clone());
        async move {
            let request = StartContainerRequest { container: name.clone(), ..Default::default() };
            client.start_container(request).await?;
            Ok(name)
        }
    })
    .await
}

/// Joins one container before it starts, so that no byte of output is missed.
async fn attached(channel: Channel, command: StartCommand) -> Result<u8, Failure> {
    let [name] = command.containers.as_slice() else {
        return Err(Failure::usage("-a and -i are for one container", "start the others without them"));
    };
    let signals = Signals::listen()?;
    let mut client = ContainerServiceClient::new(channel.clone());
    let request = GetContainerRequest { container: name.clone(), ..Default::default() };
    let container = client.get_container(request).await?.into_inner().container.unwrap_or_default();
    let spec = container.spec.unwrap_or_default();
    let wish = Wish {
        container: container.id.clone(),
        has_terminal: spec.tty,
        stdin: command.interactive && spec.open_stdin,
        stdout: true,
        stderr: true,
        await_start: true,
        detach_keys: command.detach_keys,
        sends_signals: !spec.tty,
        ..Wish::default()
    };
    let start = || async move {
        let request = StartContainerRequest { container: container.id, ..Default::default() };
        client.start_container(request).await?;
        Ok(())
    };
    joined::join(channel, signals, &wish, start).await?.exit_code()
}
