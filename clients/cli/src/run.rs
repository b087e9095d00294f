//! `fluyt run`: one container from image to exit code. Signals that reach this program reach the container.

use std::time::Duration;

use clap::Args;
use tonic::transport::Channel;

use crate::api::v1::container_service_client::ContainerServiceClient;
use crate::api::v1::run_container_response::Event as RunEvent;
use crate::api::v1::types::{self, container::Exit};
use crate::api::v1::{
    wait_container_request, CreateContainerRequest, DeleteContainerRequest, KillContainerRequest,
    RunContainerRequest, StartContainerRequest, WaitContainerRequest,
};
use crate::container_flags::ContainerFlags;
use crate::credentials;
use crate::failure::Failure;
use crate::images;
use crate::joined::{self, Outcome, Wish};
use crate::progress::Progress;
use crate::render;
use crate::signals::{Caught, Signals};
use crate::terminal;

/// How long an ended container of `--rm` is waited for until it is gone.
const REMOVAL_PATIENCE: Duration = Duration::from_secs(30);

/// What `--attach` joins.
const STREAMS: [&str; 3] = ["stdin", "stdout", "stderr"];

/// `fluyt run`
#[derive(Args, Debug)]
#[command(after_help = "Examples:
  fluyt run --rm debian:12 cat /etc/os-release
  fluyt run -d --name web -m 256m --cpus 0.5 nginx
  echo hello | fluyt run -i --rm busybox cat
  fluyt run -it --rm busybox sh

Exit code: the container's; 128 + n if signal n ended it; 127 if the command is not found, 126 if it cannot be
executed, 125 if the engine or a flag is at fault; 0 after the detach keys.")]
pub struct RunCommand {
    /// Leave the container running and print its id
    #[arg(short, long)]
    detach: bool,
    /// Join this stream only: stdin, stdout or stderr; may be repeated; default: all, of them stdin with -i
    #[arg(short, long, value_name = "STREAM", value_parser = STREAMS)]
    attach: Vec<String>,
    /// Keys that leave the container running, empty for none; default: ctrl-p,ctrl-q with -t, else none
    #[arg(long, value_name = "KEYS")]
    detach_keys: Option<String>,
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
    /// Print no progress of a pull
    #[arg(short, long)]
    quiet: bool,
    #[command(flatten)]
    container: ContainerFlags,
}

/// `fluyt create`
#[derive(Args, Debug)]
#[command(after_help = "Examples:\n  fluyt create --name job busybox sh -c 'echo hello'\n  fluyt start job")]
pub struct CreateCommand {
    /// Print no progress of a pull
    #[arg(short, long)]
    quiet: bool,
    #[command(flatten)]
    container: ContainerFlags,
}

impl RunCommand {
    fn joins(&self) -> bool {
        let flags = &self.container;
        !self.detach && (flags.interactive || flags.tty || !self.attach.is_empty())
    }

    fn wish(&self) -> Wish {
        let wants = |name: &str| self.attach.is_empty() || self.attach.iter().any(|one| one == name);
        Wish {
            has_terminal: self.container.tty,
            stdin: self.container.interactive && wants("stdin"),
            stdout: wants("stdout"),
            stderr: wants("stderr"),
            include_logs: true,
            detach_keys: self.detach_keys.clone(),
            sends_signals: self.sig_proxy,
            ..Wish::default()
        }
    }

    fn spec(&self) -> Result<types::ContainerSpec, Failure> {
        let spec = self.container.spec(|name| std::env::var(name).ok())?;
        // Nobody who could be the first to leave has its input.
        Ok(types::ContainerSpec { stdin_once: spec.stdin_once && !self.detach, ..spec })
    }
}

/// Runs `fluyt run`; the answer is the exit code.
///
/// # Errors
/// What the engine answers; a failed start carries 125, 126 or 127.
pub async fn run(channel: Channel, command: RunCommand) -> Result<u8, Failure> {
    if command.joins() {
        return joined(channel, command).await;
    }
    let spec = command.spec()?;
    let mut cid_file = command.container.cid_file()?;
    let request = RunContainerRequest {
        spec: Some(spec),
        name: command.container.name.clone().unwrap_or_default(),
        detach: command.detach,
        auth: credentials::for_run(&channel, &command.container.image, &command.container.pull).await?,
        ..Default::default()
    };
    let mut client = ContainerServiceClient::new(channel.clone());
    let mut events = client.run_container(request).await?.into_inner();
    let mut signals = Signals::listen()?;
    let mut progress = Progress::new(command.quiet);
    let mut id = String::new();
    loop {
        let event = tokio::select! {
            event = events.message() => event?,
            caught = signals.next(), if !id.is_empty() => {
                if !command.sig_proxy {
                    return Ok(caught.exit_code());
                }
                forward(&channel, &id, caught).await;
                continue;
            }
        };
        match event.and_then(|message| message.event) {
            Some(RunEvent::Pull(operation)) => progress.show(&operation),
            Some(RunEvent::Created(container)) => {
                progress.end();
                cid_file.write(&container.id)?;
                id = container.id;
            }
            Some(RunEvent::Started(container)) if command.detach => {
                render::line(&container.id)?;
                return Ok(0);
            }
            Some(RunEvent::Started(_)) => {}
            Some(RunEvent::Stdout(chunk)) => render::bytes(&chunk.data, false)?,
            Some(RunEvent::Stderr(chunk)) => render::bytes(&chunk.data, true)?,
            Some(RunEvent::Exited(container)) => {
                if command.container.rm {
                    removed(&channel, &id).await;
                }
                return exit_code(&container);
            }
            None => return Err(Failure::cut_off("container")),
        }
    }
}

/// Runs `fluyt create`: prints the id of a container that is ready to start.
///
/// # Errors
/// What the engine answers.
pub async fn create(channel: Channel, command: CreateCommand) -> Result<u8, Failure> {
    let id = create_container(&channel, &command.container, command.quiet, None).await?;
    render::line(id)?;
    Ok(0)
}

async fn create_container(
    channel: &Channel,
    flags: &ContainerFlags,
    quiet: bool,
    size: Option<types::TerminalSize>,
) -> Result<String, Failure> {
    let mut client = ContainerServiceClient::new(channel.clone());
    let mut spec = flags.spec(|name| std::env::var(name).ok())?;
    if let Some(size) = size {
        (spec.tty_width, spec.tty_height) = (size.width, size.height);
    }
    let mut cid_file = flags.cid_file()?;
    let request = CreateContainerRequest {
        spec: Some(spec),
        name: flags.name.clone().unwrap_or_default(),
        ..Default::default()
    };
    if flags.pull == "always" {
        images::pull_image(channel.clone(), &flags.image, flags.platform.as_deref(), quiet).await?;
    }
    let answer = match client.create_container(request.clone()).await {
        Err(status) if flags.pull == "missing" => {
            let failure = Failure::from(status);
            if failure.reason != "IMAGE_NOT_FOUND" {
                return Err(failure);
            }
            images::pull_image(channel.clone(), &flags.image, flags.platform.as_deref(), quiet).await?;
            client.create_container(request).await?
        }
        answer => answer?,
    };
    let id = answer.into_inner().container.unwrap_or_default().id;
    cid_file.write(&id)?;
    Ok(id)
}

/// Joins before the start, so that no byte of output is missed, and feeds standard input.
async fn joined(channel: Channel, command: RunCommand) -> Result<u8, Failure> {
    let signals = Signals::listen()?;
    let mut wish = command.wish();
    wish.check()?;
    let (flags, quiet) = (&command.container, command.quiet);
    let id = create_container(&channel, flags, quiet, flags.tty.then(terminal::size).flatten()).await?;
    wish.container.clone_from(&id);
    if !wish.stdout && !wish.stderr {
        render::line(&id)?;
    }
    let start = || async {
        let request = StartContainerRequest { container: id.clone(), ..Default::default() };
        if let Err(status) = ContainerServiceClient::new(channel.clone()).start_container(request).await {
            remove_failed(&channel, &id, flags.rm).await;
            return Err(Failure::from(status));
        }
        Ok(())
    };
    let outcome = joined::join(channel.clone(), signals, &wish, start).await?;
    if flags.rm && matches!(outcome, Outcome::Ended(_)) {
        removed(&channel, &id).await;
    }
    outcome.exit_code()
}

/// Returns once a container of `--rm` is gone, so that its name is free for whoever comes next. A removal that fails or
/// takes longer than [`REMOVAL_PATIENCE`] is told on standard error; the exit code stays the container's.
async fn removed(channel: &Channel, id: &str) {
    let condition = wait_container_request::Condition::Removed.into();
    let request = WaitContainerRequest { container: id.to_owned(), condition };
    let mut client = ContainerServiceClient::new(channel.clone());
    match tokio::time::timeout(REMOVAL_PATIENCE, client.wait_container(request)).await {
        Ok(Ok(_)) => {}
        Ok(Err(status)) => {
            let failure = Failure::from(status);
            if failure.reason != "CONTAINER_NOT_FOUND" {
                eprintln!("{failure}");
            }
        }
        Err(_) => eprintln!(
            "fluyt: container {id} is still there {} seconds after its end; remove it with `fluyt rm -f {id}`",
            REMOVAL_PATIENCE.as_secs()
        ),
    }
}

/// With `--rm`, a container that could not be started is removed; its start failure is what the person must see.
async fn remove_failed(channel: &Channel, id: &str, is_auto_remove: bool) {
    if is_auto_remove {
        let request = DeleteContainerRequest { container: id.to_owned(), force: true, ..Default::default() };
        if let Err(status) = ContainerServiceClient::new(channel.clone()).delete_container(request).await {
            let failure = Failure::from(status);
            if failure.reason != "CONTAINER_NOT_FOUND" {
                eprintln!("{failure}");
            }
        }
    }
}

/// The exit code of an ended container: its own, or 128 and the signal.
///
/// # Errors
/// The failure of a start that did not succeed.
pub fn exit_code(container: &types::Container) -> Result<u8, Failure> {
    if let Some(failure) = &container.failure {
        return Err(Failure::recorded(failure));
    }
    match container.exit {
        Some(Exit::ExitCode(code)) => Ok(u8::try_from(code).unwrap_or(u8::MAX)),
        Some(Exit::Signal(number)) => Ok(u8::try_from(128 + number).unwrap_or(u8::MAX)),
        None => Err(Failure::new(
            format!("the container ended without an exit code: {}", container.message),
            "see `fluyt inspect` and `fluyt events`",
        )),
    }
}

async fn forward(channel: &Channel, id: &str, caught: Caught) {
    let request = KillContainerRequest {
        container: id.to_owned(),
        signal: caught.name.to_owned(),
        ..Default::default()
    };
    // A container that ended meanwhile cannot take a signal; how it ended comes on the stream.
    let _ = ContainerServiceClient::new(channel.clone()).kill_container(request).await;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_signal_is_added_to_128() {
        let container = types::Container { exit: Some(Exit::Signal(9)), ..Default::default() };
        assert_eq!(exit_code(&container).ok(), Some(137));
        let container = types::Container { exit: Some(Exit::ExitCode(3)), ..Default::default() };
        assert_eq!(exit_code(&container).ok(), Some(3));
        assert!(exit_code(&types::Container::default()).is_err());
    }
}
