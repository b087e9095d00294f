//! A tar that is pushed piece by piece into an unpacker on a thread of its own, so that whoever waits for the pieces
//! waits with no thread at all.

use std::io::Read;
use std::sync::mpsc::{self, Receiver as Queue, SyncSender};
use std::sync::{Mutex, PoisonError};
use std::thread::JoinHandle;

use errors::IoError;

use rustix::io::Errno;
use sys::landlock::Reach;

use super::{ArchiveSource, CopyError, Placed, Unpacker};
use crate::{fence, LayerError, Limits};

/// Pieces that wait for the unpacker before the sender does.
const QUEUE_LENGTH: usize = 2;

enum Piece {
    Bytes(Vec<u8>),
    End,
}

/// Takes the pieces of one tar. Dropping it gives the rest up; what was unpacked stays.
#[derive(Debug)]
pub struct Receiver {
    state: Mutex<State>,
    subject: String,
}

#[derive(Debug)]
enum State {
    Running(SyncSender<Piece>, JoinHandle<Result<Placed, CopyError>>),
    Ended(Result<Placed, CopyError>),
}

/// A copy that failed, or could not be made by the owner of the files.
enum Failure {
    Copy(CopyError),
    Owner(Errno),
}

impl From<Errno> for Failure {
    fn from(errno: Errno) -> Self {
        Self::Owner(errno)
    }
}

/// Begins to unpack what [`Receiver::write`] brings.
///
/// # Errors
/// `IO_FAILED` if there can be no thread.
pub fn begin(unpacker: Unpacker, limits: &Limits, subject: &str) -> Result<Receiver, CopyError> {
    let (sender, queue) = mpsc::sync_channel(QUEUE_LENGTH);
    let (limits, name) = (limits.clone(), subject.to_owned());
    let thread = std::thread::Builder::new()
        .name("copy".into())
        .spawn(move || {
            let pieces = Pieces { queue, current: Vec::new(), used: 0, is_ended: false };
            // Before it has an owner's rights only, and none to give some up.
            let writable = unpacker.writable();
            fence::enter(Reach { readable: &[], writable: &writable })?;
            drop(writable);
            let ids = unpacker.ids();
            let run = || unpacker.run(ArchiveSource::new(pieces, &limits, &name)?);
            match ids {
                None => run(),
                // Nobody else can make files where owners are shifted. The thread ends with this.
                Some(ids) => {
                    sys::user_namespace::as_owner(ids.first_id, ids.first_id, || run().map_err(Failure::Copy))
                        .map_err(|failure| match failure {
                            Failure::Copy(error) => error,
                            Failure::Owner(errno) => {
                                CopyError::from(IoError::new("setfsuid", &name, errno.raw_os_error()))
                            }
                        })
                }
            }
        })
        .map_err(|error| CopyError::from(IoError::from_std("clone", "copy thread", &error)))?;
    Ok(Receiver { state: Mutex::new(State::Running(sender, thread)), subject: subject.to_owned() })
}

impl Receiver {
    /// The bytes are with the unpacker. Blocking while it is behind.
    ///
    /// # Errors
    /// Why it has ended before the archive did, again at each call; see [`Unpacker::run`].
    pub fn write(&self, bytes: Vec<u8>) -> Result<(), CopyError> {
        self.send(Piece::Bytes(bytes)).map(|_| ())
    }

    /// All is unpacked. Blocking. Idempotent.
    ///
    /// # Errors
    /// As [`Unpacker::run`].
    pub fn finish(&self) -> Result<Placed, CopyError> {
        let state = &mut *self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if let State::Running(sender, _) = state {
            // A receiver that is gone has an answer already.
            let _ = sender.send(Piece::End);
        }
        self.settle(state)
    }

    /// No more is unpacked; returns when nothing is written any more. Blocking. Idempotent.
    pub fn abort(&self) {
        let state = &mut *self.state.lock().unwrap_or_else(PoisonError::into_inner);
        // Its outcome is of no interest: whoever aborts has a reason of their own.
        let _ = self.settle(state);
    }

    fn send(&self, piece: Piece) -> Result<(), CopyError> {
        let state = &mut *self.state.lock().unwrap_or_else(PoisonError::into_inner);
        match state {
            State::Running(sender, _) => match sender.send(piece) {
                Ok(()) => Ok(()),
                Err(mpsc::SendError(_)) => self.settle(state).and_then(|_| self.gone()),
            },
            State::Ended(outcome) => outcome.clone().and_then(|_| self.gone()),
        }
    }

    fn gone(&self) -> Result<(), CopyError> {
        Err(LayerError::Cancelled { subject: self.subject.clone() }.into())
    }

    /// Waits for the thread, whose queue is closed by this.
    fn settle(&self, state: &mut State) -> Result<Placed, CopyError> {
        let cancelled = || Err(LayerError::Cancelled { subject: self.subject.clone() }.into());
        if let State::Running(sender, thread) = std::mem::replace(state, State::Ended(cancelled())) {
            drop(sender);
            // A thread that panicked has said so itself.
            *state = State::Ended(thread.join().unwrap_or_else(|_| cancelled()));
        }
        match state {
            State::Ended(outcome) => outcome.clone(),
            State::Running(..) => cancelled(),
        }
    }
}

/// What the unpacker reads.
struct Pieces {
    queue: Queue<Piece>,
    current: Vec<u8>,
    used: usize,
    is_ended: bool,
}

impl Read for Pieces {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        while self.used == self.current.len() {
            if self.is_ended {
                return Ok(0);
            }
            match self.queue.recv() {
                Ok(Piece::Bytes(bytes)) => (self.current, self.used) = (bytes, 0),
                Ok(Piece::End) => self.is_ended = true,
                // Given up: the archive must not pass for a whole one.
                Err(mpsc::RecvError) => return Err(std::io::Error::from_raw_os_error(cancelled_errno())),
            }
        }
        let count = buffer.len().min(self.current.len() - self.used);
        buffer[..count].copy_from_slice(&self.current[self.used..self.used + count]);
        self.used += count;
        Ok(count)
    }
}

fn cancelled_errno() -> i32 {
    rustix::io::Errno::CANCELED.raw_os_error()
}
