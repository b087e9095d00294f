//! Signals that end the program, for commands that have something to clean up or to cancel first.

use tokio::signal::unix::{signal, Signal, SignalKind};

use crate::failure::Failure;

/// Exit code of a command that SIGINT ended.
pub const INTERRUPTED: u8 = 130;

/// SIGINT and SIGTERM as they come, from the time this is made; they no longer end the program by themselves.
pub struct Interrupts {
    interrupt: Signal,
    terminate: Signal,
}

impl Interrupts {
    /// Begins to watch.
    ///
    /// # Errors
    /// The signals cannot be watched.
    pub fn new() -> Result<Self, Failure> {
        let watch = |kind| {
            signal(kind).map_err(|error| Failure::new(format!("cannot watch for signals: {error}"), ""))
        };
        Ok(Self { interrupt: watch(SignalKind::interrupt())?, terminate: watch(SignalKind::terminate())? })
    }

    /// Waits for the next one and answers the exit code that says so: 130 or 143. Cancel-safe: none is lost.
    pub async fn next(&mut self) -> u8 {
        tokio::select! {
            _ = self.interrupt.recv() => INTERRUPTED,
            _ = self.terminate.recv() => 143,
        }
    }
}
