//! `fluyt attach`: the streams of a container that runs, for as long as it runs or until the caller leaves.

use clap::Args;
use tonic::transport::Channel;

use crate::api::v1::container_service_client::ContainerServiceClient;
use crate::api::v1::GetContainerRequest;
use crate::failure::Failure;
use crate::joined::{self, Wish};
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
    /// Send signals on to a container without a terminal; with =false they end this command only
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
    /// Keys that leave the container running, empty for none; default: ctrl-p,ctrl-q with a terminal, else none
    #[arg(long, value_name = "KEYS")]
    detach_keys: Option<String>,
    /// Container: name, id or unique prefix of it
    #[arg(value_name = "CONTAINER")]
    container: String,
}

/// Runs `fluyt attach`; the answer is the container's exit code, or 0 if the caller left.
///
/// # Errors
/// What the engine answers.
pub async fn run(channel: Channel, command: AttachCommand) -> Result<u8, Failure> {
    let signals = Signals::listen()?;
    let mut client = ContainerServiceClient::new(channel.clone());
    let request = GetContainerRequest { container: command.container.clone(), ..Default::default() };
    let container = client.get_container(request).await?.into_inner().container.unwrap_or_default();
    let spec = container.spec.unwrap_or_default();
    let wish = Wish {
        container: container.id,
        has_terminal: spec.tty,
        stdin: spec.open_stdin && !command.no_stdin,
        stdout: true,
        stderr: true,
        detach_keys: command.detach_keys,
        sends_signals: command.sig_proxy && !spec.tty,
        redraws: true,
        ..Wish::default()
    };
    joined::join(channel, signals, &wish, || async { Ok(()) }).await?.exit_code()
}
