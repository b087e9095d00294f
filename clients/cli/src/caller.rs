//! What the caller of a process sends it: input, its end, sizes of the terminal, signals, the wish to leave. One queue,
//! bounded, filled by tasks of its own so that output is read whatever the process does with its input.

use std::time::Duration;

use tokio::io::AsyncReadExt;
use tokio::signal::unix::{signal, SignalKind};
use tokio::sync::mpsc;

use crate::api::v1::types::{CloseStdin, TerminalSize};
use crate::api::v1::{attach_container_request, exec_request, AttachContainerRequest, ExecRequest};
use crate::failure::Failure;
use crate::signals::Signals;
use crate::terminal;

/// Bytes of standard input sent in one message; the API takes at most 256 KiB.
const STDIN_CHUNK_BYTES: usize = 64 * 1024;
/// Messages that wait for the engine before reading stops.
pub const QUEUE: usize = 4;
/// How long a signal may wait behind input that the process does not read before the command leaves.
const SIGNAL_PATIENCE: Duration = Duration::from_secs(2);

/// One thing said to the process.
#[derive(Debug)]
pub enum Action {
    /// Input.
    Stdin(Vec<u8>),
    /// Input is over.
    CloseStdin,
    /// The caller's terminal has another size.
    Resize(TerminalSize),
    /// A signal, by name.
    Signal(&'static str),
}

impl From<Action> for ExecRequest {
    fn from(action: Action) -> Self {
        use exec_request::Action as To;
        let action = match action {
            Action::Stdin(data) => To::Stdin(data),
            Action::CloseStdin => To::CloseStdin(CloseStdin {}),
            Action::Resize(size) => To::Resize(size),
            Action::Signal(name) => To::Signal(name.to_owned()),
        };
        Self { action: Some(action) }
    }
}

impl From<Action> for AttachContainerRequest {
    fn from(action: Action) -> Self {
        use attach_container_request::Action as To;
        let action = match action {
            Action::Stdin(data) => To::Stdin(data),
            Action::CloseStdin => To::CloseStdin(CloseStdin {}),
            Action::Resize(size) => To::Resize(size),
            Action::Signal(name) => To::Signal(name.to_owned()),
        };
        Self { action: Some(action) }
    }
}

/// What the engine is told of `--detach-keys`: nothing for its default, and that none are wanted for an empty text.
pub fn keys_of(flag: Option<&str>) -> String {
    match flag {
        Some("") => "none".to_owned(),
        Some(keys) => keys.to_owned(),
        None => String::new(),
    }
}

/// Sends standard input piece by piece, then says that it is over. Ends when the engine takes no more: the stream stays
/// open for output until the other side ends it. `stays`: the end of input is a keyboard that is gone, which is not for a
/// process to know that others may type to.
pub async fn pump_stdin<R: From<Action>>(actions: mpsc::Sender<R>, stays: bool) {
    let mut stdin = tokio::io::stdin();
    let mut buffer = vec![0; STDIN_CHUNK_BYTES];
    loop {
        match stdin.read(&mut buffer).await {
            Ok(count) if count > 0 => {
                if actions.send(Action::Stdin(buffer[..count].to_vec()).into()).await.is_err() {
                    return;
                }
            }
            // A terminal that is gone is the end of input too.
            _ => {
                if !stays {
                    // Whoever takes no more has ended, which its stream tells.
                    let _ = actions.send(Action::CloseStdin.into()).await;
                }
                actions.closed().await;
                return;
            }
        }
    }
}

/// Sends each new size of the caller's terminal. Made before the first size is read, none is missed.
///
/// # Errors
/// Changes cannot be watched.
pub fn forward_sizes<R: From<Action> + Send + 'static>(
    actions: mpsc::Sender<R>,
) -> Result<tokio::task::JoinHandle<()>, Failure> {
    let mut changes = signal(SignalKind::window_change())
        .map_err(|error| Failure::new(format!("cannot watch the terminal's size: {error}"), ""))?;
    Ok(tokio::spawn(async move {
        while changes.recv().await.is_some() {
            if let Some(size) = terminal::size() {
                if actions.send(Action::Resize(size).into()).await.is_err() {
                    return;
                }
            }
        }
    }))
}

/// Sends each signal on. Returns, with the exit code that says so, when one is the end of the command: it could not be
/// sent within [`SIGNAL_PATIENCE`] because the process does not read its input, or signals are not to be sent on.
pub async fn forward_signals<R: From<Action>>(
    mut signals: Signals,
    actions: mpsc::Sender<R>,
    is_sent_on: bool,
) -> u8 {
    loop {
        let caught = signals.next().await;
        if !is_sent_on {
            return caught.exit_code();
        }
        let message = Action::Signal(caught.name).into();
        match actions.send_timeout(message, SIGNAL_PATIENCE).await {
            Ok(()) => {}
            Err(mpsc::error::SendTimeoutError::Timeout(_)) => return caught.exit_code(),
            // It has ended, and its stream is about to tell how.
            Err(mpsc::error::SendTimeoutError::Closed(_)) => std::future::pending().await,
        }
    }
}
