//! A caller joined to a container's first process: `attach`, `start -a` and `run` that is not left behind.

use std::future::Future;

use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::Channel;

use crate::api::v1::attach_container_request::Action as Request;
use crate::api::v1::attach_container_response::Event;
use crate::api::v1::container_service_client::ContainerServiceClient;
use crate::api::v1::types::{AttachOptions, Container, TerminalSize};
use crate::api::v1::AttachContainerRequest;
use crate::caller::{self, forward_signals, forward_sizes, pump_stdin, Action};
use crate::failure::Failure;
use crate::render;
use crate::run::exit_code;
use crate::signals::Signals;
use crate::terminal::{self, RawMode};

/// How to join.
#[derive(Debug, Default)]
pub struct Wish {
    /// Id or name of the container.
    pub container: String,
    /// Whether it has a terminal.
    pub has_terminal: bool,
    /// Give it standard input.
    pub stdin: bool,
    /// Show its standard output.
    pub stdout: bool,
    /// Show its standard error.
    pub stderr: bool,
    /// Begin with what it has written before.
    pub include_logs: bool,
    /// It may have ended: wait for its next start.
    pub await_start: bool,
    /// Keys that leave it; None: the engine's.
    pub detach_keys: Option<String>,
    /// Signals go to it, and do not end this command.
    pub sends_signals: bool,
    /// A program that runs already is to draw its screen again.
    pub redraws: bool,
}

impl Wish {
    /// Refuses keys from what is no terminal.
    ///
    /// # Errors
    /// The container has a terminal, input is wanted, and standard input is a pipe or a file.
    pub fn check(&self) -> Result<(), Failure> {
        if self.has_terminal && self.stdin && !terminal::is_input() {
            return Err(Failure::usage(
                "the container has a terminal, and standard input is none",
                "leave -t out for a pipe, or give no input",
            ));
        }
        Ok(())
    }

    fn options(&self, size: Option<TerminalSize>) -> AttachOptions {
        AttachOptions {
            container: self.container.clone(),
            stdin: self.stdin,
            stdout: self.stdout,
            stderr: self.stderr,
            include_logs: self.include_logs,
            await_start: self.await_start,
            detach_keys: caller::keys_of(self.detach_keys.as_deref()),
            terminal_size: size,
            hold: true,
            ..Default::default()
        }
    }
}

/// How the command ended.
#[derive(Debug)]
pub enum Outcome {
    /// The container has ended.
    Ended(Container),
    /// The caller has left it.
    Left(Container),
    /// A signal ended this command alone; its exit code.
    Signalled(u8),
}

impl Outcome {
    /// The exit code; a sentence on standard error where the container goes on.
    ///
    /// # Errors
    /// As [`exit_code`].
    pub fn exit_code(&self) -> Result<u8, Failure> {
        match self {
            Self::Ended(container) => exit_code(container),
            Self::Left(container) => {
                eprintln!("\nfluyt: left container {}, which goes on", container.name);
                Ok(0)
            }
            Self::Signalled(code) => Ok(*code),
        }
    }
}

/// Joins the container, does `joined` (its start, say), and stays until it has ended or the caller has left. The caller's
/// terminal is as it was, however this ends.
///
/// # Errors
/// What the engine answers, or what `joined` does.
pub async fn join<F>(
    channel: Channel,
    signals: Signals,
    wish: &Wish,
    joined: impl FnOnce() -> F,
) -> Result<Outcome, Failure>
where
    F: Future<Output = Result<(), Failure>>,
{
    wish.check()?;
    let has_keyboard = wish.has_terminal && wish.stdin;
    let (actions, queue) = mpsc::channel::<AttachContainerRequest>(caller::QUEUE);
    // The size is read after its changes are watched. A change may come before `open`, which must be the first: the
    // watching task runs only once this one waits, and the queue holds several.
    let sizes = if wish.has_terminal { Some(forward_sizes(actions.clone())?) } else { None };
    let size = if wish.has_terminal { terminal::size() } else { None };
    let shown = size.map(|size| if wish.redraws { another(size) } else { size });
    let _ = actions.try_send(AttachContainerRequest { action: Some(Request::Open(wish.options(shown))) });
    let signal_end = forward_signals(signals, actions.clone(), wish.sends_signals);
    tokio::pin!(signal_end);
    let mut client = ContainerServiceClient::new(channel);
    let opened = tokio::select! {
        opened = client.attach_container(ReceiverStream::new(queue)) => opened?,
        code = &mut signal_end => return Ok(Outcome::Signalled(code)),
    };
    let mut events = opened.into_inner();
    let mut joined = Some(joined);
    let mut raw = None;
    let mut pump = None;
    let result = async {
        loop {
            let event = tokio::select! {
                event = events.message() => event?,
                code = &mut signal_end => return Ok(Outcome::Signalled(code)),
            };
            match event.and_then(|message| message.event) {
                Some(Event::Attached(_)) => {
                    if has_keyboard {
                        raw = Some(RawMode::enter()?);
                    }
                    if let Some(size) = size.filter(|_| wish.redraws) {
                        // Its program draws anew at a size that is another one; what the queue has no room for is
                        // behind a size that is newer.
                        let _ = actions.try_send(Action::Resize(size).into());
                    }
                    if let Some(joined) = joined.take() {
                        joined().await?;
                    }
                    if wish.stdin {
                        pump = Some(tokio::spawn(pump_stdin(actions.clone(), has_keyboard)));
                    }
                }
                Some(Event::Stdout(chunk)) => render::bytes(&chunk.data, false)?,
                Some(Event::Stderr(chunk)) => render::bytes(&chunk.data, true)?,
                Some(Event::Exited(container)) => return Ok(Outcome::Ended(container)),
                Some(Event::Detached(container)) => return Ok(Outcome::Left(container)),
                None => return Err(Failure::cut_off("container")),
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

/// A size that differs, by one row.
fn another(size: TerminalSize) -> TerminalSize {
    TerminalSize { height: if size.height > 1 { size.height - 1 } else { 2 }, ..size }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_size_is_one_that_a_terminal_may_have() {
        for height in [1, 2, 24, 65_535] {
            let found = another(TerminalSize { width: 80, height });
            assert_ne!(found.height, height);
            assert!((1..=65_535).contains(&found.height));
        }
    }

    #[test]
    fn who_left_ends_with_0_and_who_was_ended_by_a_signal_says_so() {
        assert_eq!(Outcome::Left(Container::default()).exit_code().ok(), Some(0));
        assert_eq!(Outcome::Signalled(143).exit_code().ok(), Some(143));
    }
}
