//! The signals that a command hands on to the process that it stands for.

use tokio::signal::unix::{signal, Signal, SignalKind};

use crate::failure::Failure;

/// A signal that came: its name, as the API takes it, and its number.
#[derive(Debug, Clone, Copy)]
pub struct Caught {
    /// `SIGINT` for example.
    pub name: &'static str,
    number: u8,
}

impl Caught {
    /// The exit code of a command that the signal ended.
    pub fn exit_code(self) -> u8 {
        128 + self.number
    }
}

/// Signals as they come, from the time this is made; they no longer end the program by themselves.
pub struct Signals {
    streams: Vec<(Caught, Signal)>,
}

impl Signals {
    /// Begins to listen.
    ///
    /// # Errors
    /// The signals cannot be listened for.
    pub fn listen() -> Result<Self, Failure> {
        let kinds = [
            ("SIGINT", SignalKind::interrupt()),
            ("SIGTERM", SignalKind::terminate()),
            ("SIGHUP", SignalKind::hangup()),
            ("SIGQUIT", SignalKind::quit()),
            ("SIGUSR1", SignalKind::user_defined1()),
            ("SIGUSR2", SignalKind::user_defined2()),
        ];
        let streams = kinds
            .into_iter()
            .map(|(name, kind)| {
                let number = u8::try_from(kind.as_raw_value()).expect("signals have small numbers");
                signal(kind).map(|stream| (Caught { name, number }, stream))
            })
            .collect::<Result<_, _>>()
            .map_err(|error| Failure::new(format!("cannot listen for signals: {error}"), ""))?;
        Ok(Self { streams })
    }

    /// Waits for the next one. Cancel-safe: none is lost.
    pub async fn next(&mut self) -> Caught {
        std::future::poll_fn(|context| {
            for (caught, stream) in &mut self.streams {
                if stream.poll_recv(context).is_ready() {
                    return std::task::Poll::Ready(*caught);
                }
            }
            std::task::Poll::Pending
        })
        .await
    }
}
