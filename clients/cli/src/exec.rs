//! `fluyt exec`: a further process in a running container, with the caller's streams and terminal.

use std::path::PathBuf;

use clap::Args;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::Channel;

use crate::api::v1::exec_request::Action as Request;
use crate::api::v1::exec_response::Event;
use crate::api::v1::exec_service_client::ExecServiceClient;
use crate::api::v1::{exec_session::Exit, ExecRequest, ExecSession, ExecSpec, ExecStart};
use crate::caller::{self, forward_signals, forward_sizes, pump_stdin};
use crate::container_flags::variables;
use crate::failure::Failure;
use crate::render;
use crate::signals::Signals;
use crate::terminal::{self, RawMode};

/// `fluyt exec`
#[derive(Args, Debug)]
#[command(after_help = "Examples:
  fluyt exec -it web sh
  fluyt exec web cat /etc/nginx/nginx.conf
  tar c site | fluyt exec -i -w /srv web tar x

Exit code: the process's; 128 + n if signal n ended it; 127 if the command is not found, 126 if it cannot be
executed, 125 if the engine or a flag is at fault; 0 after the detach keys.")]
pub struct ExecCommand {
    /// Give it standard input
    #[arg(short, long)]
    interactive: bool,
    /// Give it a terminal of this terminal's size
    #[arg(short, long)]
    tty: bool,
    /// Let it run by itself and print its session's id
    #[arg(short, long)]
    detach: bool,
    /// User inside the container: uid, uid:gid, name or name:group
    #[arg(short, long)]
    user: Option<String>,
    /// Working directory inside the container
    #[arg(short, long, value_name = "DIR")]
    workdir: Option<String>,
    /// Environment variable, NAME=value; a bare NAME is taken from the caller's environment or, absent there, removed
    #[arg(short, long, value_name = "NAME[=VALUE]")]
    env: Vec<String>,
    /// File with a variable a line, literal, blank lines and lines beginning with # skipped
    #[arg(long, value_name = "FILE")]
    env_file: Vec<PathBuf>,
    /// All capabilities of the kernel, no seccomp filter
    #[arg(long)]
    privileged: bool,
    /// Keys that leave the process running, empty for none; default: ctrl-p,ctrl-q with -t, else none
    #[arg(long, value_name = "KEYS")]
    detach_keys: Option<String>,
    /// Container: name, id or unique prefix of it
    #[arg(value_name = "CONTAINER")]
    container: String,
    /// Command and its arguments
    #[arg(value_name = "COMMAND", required = true, trailing_var_arg = true, allow_hyphen_values = true)]
    args: Vec<String>,
}

impl ExecCommand {
    fn request(&self) -> Result<ExecRequest, Failure> {
        let spec = ExecSpec {
            args: self.args.clone(),
            env: variables(&self.env_file, &self.env, |name| std::env::var(name).ok())?,
            user: self.user.clone().unwrap_or_default(),
            working_dir: self.workdir.clone().unwrap_or_default(),
            tty: self.tty,
            terminal_size: if self.tty { terminal::size() } else { None },
            open_stdin: self.interactive && !self.detach,
            privileged: self.privileged,
            detach: self.detach,
            detach_keys: caller::keys_of(self.detach_keys.as_deref()),
            ..ExecSpec::default()
        };
        let start = ExecStart { container: self.container.clone(), spec: Some(spec), ..ExecStart::default() };
        Ok(ExecRequest { action: Some(Request::Start(start)) })
    }
}

/// Runs `fluyt exec`; the answer is the exit code. The terminal is as it was, however this ends.
///
/// # Errors
/// What the engine answers; a failed start carries 125, 126 or 127.
pub async fn run(channel: Channel, command: ExecCommand) -> Result<u8, Failure> {
    let has_keyboard = command.tty && command.interactive && !command.detach;
    if has_keyboard && !terminal::is_input() {
        return Err(Failure::usage(
            "-t with -i needs a terminal at standard input",
            "leave -t out for a pipe",
        ));
    }
    // A signal on a terminal of ours is for us; one of the container's terminal is a key that it sees itself.
    let signals = Signals::listen()?;
    let (actions, queue) = mpsc::channel::<ExecRequest>(caller::QUEUE);
    let sizes = if command.tty && !command.detach { Some(forward_sizes(actions.clone())?) } else { None };
    let signal_end = forward_signals(signals, actions.clone(), !command.tty);
    tokio::pin!(signal_end);
    // The size is read after its changes are watched. A change may come before `start`, which must be the first: the
    // watching task runs only once this one waits, and the queue holds several.
    let _ = actions.try_send(command.request()?);
    let mut client = ExecServiceClient::new(channel);
    let opened = tokio::select! {
        opened = client.exec(ReceiverStream::new(queue)) => opened?,
        code = &mut signal_end => return Ok(code),
    };
    let mut events = opened.into_inner();
    let mut raw = None;
    let mut pump = None;
    let result = async {
        loop {
            let event = tokio::select! {
                event = events.message() => event?,
                code = &mut signal_end => return Ok(code),
            };
            match event.and_then(|message| message.event) {
                Some(Event::Started(session)) if command.detach => {
                    render::line(&session.id)?;
                    return Ok(0);
                }
                Some(Event::Started(_)) => {
                    if has_keyboard {
                        raw = Some(RawMode::enter()?);
                    }
                    if command.interactive {
                        pump = Some(tokio::spawn(pump_stdin(actions.clone(), false)));
                    }
                }
                Some(Event::Stdout(chunk)) => render::bytes(&chunk.data, false)?,
                Some(Event::Stderr(chunk)) => render::bytes(&chunk.data, true)?,
                Some(Event::Exited(session)) => return exit_code(&session),
                Some(Event::Detached(session)) => {
                    drop(raw.take());
                    eprintln!("\nfluyt: left session {}, which goes on", session.id);
                    return Ok(0);
                }
                None => return Err(Failure::cut_off("process")),
            }
        }
    }
    .await;
    drop(raw);
    for task in [sizes, pump].into_iter().flatten() {
        task.abort();
    }
    result
}

/// The exit code of an ended process: its own, or 128 and the signal.
fn exit_code(session: &ExecSession) -> Result<u8, Failure> {
    if let Some(failure) = &session.failure {
        return Err(Failure::recorded(failure));
    }
    match session.exit {
        Some(Exit::ExitCode(code)) => Ok(u8::try_from(code).unwrap_or(u8::MAX)),
        Some(Exit::Signal(number)) => Ok(u8::try_from(128 + number).unwrap_or(u8::MAX)),
        None => Err(Failure::new(
            format!("session {} ended without an exit code", session.id),
            "see the daemon's log; the container's supervisor may have been lost",
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_signal_is_added_to_128() {
        let session = ExecSession { exit: Some(Exit::Signal(15)), ..Default::default() };
        assert_eq!(exit_code(&session).ok(), Some(143));
        let session = ExecSession { exit: Some(Exit::ExitCode(3)), ..Default::default() };
        assert_eq!(exit_code(&session).ok(), Some(3));
        assert!(exit_code(&ExecSession::default()).is_err());
    }
}
