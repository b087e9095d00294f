//! The loop: output, daemons, and the end of the process.

use control::wire::Running;
use logs::{Hold, Stream};
use rustix::event::{poll, PollFd, PollFlags, Timespec};
use rustix::fd::BorrowedFd;
use rustix::io::Errno;

use crate::connections::Connections;
use crate::ending::Ending;
use crate::exec::Part;
use crate::execs::Execs;
use crate::output::{Output, STREAMS};
use crate::plan::Spent;

/// Buffers are given back when nothing was written for so long.
const IDLE: Timespec = Timespec { tv_sec: 1, tv_nsec: 0 };

/// A running container.
pub struct Container {
    /// What daemons are told.
    pub running: Running,
    /// The log segment from which on the first daemon holds the log, if it asked for that.
    pub first_hold: Option<u64>,
    /// The daemons.
    pub connections: Connections,
    /// Further processes.
    pub execs: Execs,
    /// The streams and the log.
    pub output: Output,
    /// What is done at the end.
    pub ending: Ending,
    /// What is let go once the daemon has its answer.
    pub spent: Spent,
}

/// What a descriptor stands for.
#[derive(Clone, Copy)]
enum Event {
    Output(Stream),
    Daemon(usize),
    Exec(u64, Part),
    Listener,
    Init,
}

/// Serves until the container's process has ended and its exit record stands.
///
/// # Errors
/// The poll(2) error.
pub fn run(mut container: Container) -> Result<(), Errno> {
    loop {
        let events = container.wait()?;
        let mut has_moved = false;
        let mut has_ended = false;
        // Places shift when a daemon is dropped, so the last comes first; what daemons say, holds above all, comes before
        // output is copied.
        for event in events.into_iter().rev() {
            match event {
                Event::Output(stream) => {
                    let hold = container.hold();
                    if !container.output.is_blocked() {
                        container.output.copy(stream, hold);
                    }
                }
                Event::Daemon(place) => {
                    has_moved |= container.connections.serve(place, &mut container.execs).has_moved;
                }
                Event::Exec(serial, part) => {
                    if let Some(serial) = container.execs.serve(serial, part) {
                        container.connections.owe_state(serial);
                    }
                }
                Event::Listener => container.connections.accept(&container.running, &container.execs),
                Event::Init => has_ended = true,
            }
        }
        container.connections.tell_due(&mut container.execs);
        if has_moved {
            let hold = container.hold();
            container.output.resume(hold);
        }
        if has_ended {
            let Container { running, connections, execs, output, ending, .. } = container;
            return ending.finish(connections, execs, output, &running);
        }
    }
}

impl Container {
    fn hold(&self) -> Hold {
        self.connections.hold().map_or(Hold::None, Hold::Wait)
    }

    /// Blocks until something is to be done.
    fn wait(&mut self) -> Result<Vec<Event>, Errno> {
        loop {
            let has_buffers = self.output.has_buffers() || self.execs.has_buffers();
            let timeout = has_buffers.then_some(&IDLE);
            let mut watched: Vec<(Event, BorrowedFd<'_>, PollFlags)> = Vec::with_capacity(16);
            // The kernel looks at the descriptors in this order: whoever sent a hold before it made the process write
            // has both of them seen, and `run` takes the later ones first.
            if !self.output.is_blocked() {
                watched.extend(STREAMS.iter().filter_map(|&stream| {
                    self.output.pipe(stream).map(|pipe| (Event::Output(stream), pipe, PollFlags::IN))
                }));
            }
            for exec in self.execs.iter() {
                let parts = exec.parts();
                watched.extend(parts.map(|(part, fd)| (Event::Exec(exec.serial, part), fd, PollFlags::IN)));
            }
            watched.extend(self.connections.sockets().enumerate().map(|(place, (fd, is_due))| {
                let wanted = if is_due { PollFlags::IN | PollFlags::OUT } else { PollFlags::IN };
                (Event::Daemon(place), fd, wanted)
            }));
            watched.push((Event::Listener, self.connections.listener(), PollFlags::IN));
            watched.push((Event::Init, self.connections.init(), PollFlags::IN));
            let mut fds: Vec<PollFd<'_>> =
                watched.iter().map(|(_, fd, wanted)| PollFd::from_borrowed_fd(*fd, *wanted)).collect();
            match poll(&mut fds, timeout) {
                Ok(0) => {}
                Ok(_) => {
                    let ready = watched.iter().zip(&fds).filter(|(_, fd)| !fd.revents().is_empty());
                    return Ok(ready.map(|((event, ..), _)| *event).collect());
                }
                Err(Errno::INTR) => continue,
                Err(errno) => return Err(errno),
            }
            drop(fds);
            drop(watched);
            self.execs.release_buffers();
            self.output.release_buffers();
        }
    }
}
