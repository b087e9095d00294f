//! The daemons that are connected: the one that started this supervisor, and those that found it later.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use control::peer;
use control::wire::{Report, Request, Running};
use rustix::io::Errno;
use rustix::net::SocketFlags;
use rustix::process::PidfdFlags;

/// Connections that are served at once; a further one is closed unserved.
pub const MAX_CONNECTIONS: usize = 8;

struct Connection {
    socket: OwnedFd,
    /// The lowest log segment that this daemon needs.
    hold: Option<u64>,
}

/// All connections, and what travels over them.
pub struct Connections {
    listener: OwnedFd,
    init: OwnedFd,
    stdin: Option<OwnedFd>,
    open: Vec<Connection>,
}

impl Connections {
    /// Serves `listener`; `init` and `stdin` are handed to each daemon.
    pub fn new(listener: OwnedFd, init: OwnedFd, stdin: Option<OwnedFd>) -> Self {
        Self { listener, init, stdin, open: Vec::new() }
    }

    /// The process whose end ends all.
    pub fn init(&self) -> BorrowedFd<'_> {
        self.init.as_fd()
    }

    /// Readable when a daemon wants to connect.
    pub fn listener(&self) -> BorrowedFd<'_> {
        self.listener.as_fd()
    }

    /// The connected daemons, by their place.
    pub fn sockets(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        self.open.iter().map(|connection| connection.socket.as_fd())
    }

    /// The lowest segment that any daemon needs.
    pub fn hold(&self) -> Option<u64> {
        self.open.iter().filter_map(|connection| connection.hold).min()
    }

    /// Tells a daemon what runs, and serves it from now on.
    pub fn adopt(&mut self, socket: OwnedFd, running: &Running) {
        if self.open.len() == MAX_CONNECTIONS {
            return;
        }
        let report = Report::Running(Running { has_stdin: self.stdin.is_some(), ..running.clone() });
        if rustix::io::ioctl_fionbio(&socket, true).is_ok() && self.send_running(&socket, &report).is_ok() {
            self.open.push(Connection { socket, hold: None });
        }
    }

    fn send_running(&self, socket: &OwnedFd, report: &Report) -> Result<(), Errno> {
        let own = rustix::process::pidfd_open(rustix::process::getpid(), PidfdFlags::empty())?;
        let mut fds = vec![self.init.as_fd(), own.as_fd()];
        fds.extend(self.stdin.as_ref().map(AsFd::as_fd));
        peer::send(socket, report, &fds)
    }

    /// Accepts a daemon if it is root's or our own user's.
    pub fn accept(&mut self, running: &Running) {
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        // A daemon that has given up meanwhile is no error.
        let Ok(socket) = rustix::net::accept_with(&self.listener, flags) else { return };
        if peer::is_trusted(&socket) == Ok(true) {
            self.adopt(socket, running);
        }
    }

    /// Takes the messages of the daemon at `place`; a daemon that has gone, or talks nonsense, is dropped with its hold.
    /// Returns true if a hold may have moved.
    pub fn serve(&mut self, place: usize) -> bool {
        let mut has_moved = false;
        loop {
            match peer::receive::<Request>(&self.open[place].socket) {
                Ok(Some((Request::HoldLog { segment }, _))) => {
                    self.open[place].hold = segment;
                    has_moved = true;
                }
                Ok(Some((Request::CloseStdin, _))) => self.stdin = None,
                Err(Errno::AGAIN) => return has_moved,
                Ok(Some((Request::Start { .. } | Request::Proceed { .. }, _)) | None) | Err(_) => {
                    self.open.swap_remove(place);
                    return true;
                }
            }
        }
    }

    /// Takes the messages of all daemons.
    pub fn serve_all(&mut self) {
        // Places shift when a daemon is dropped, so the last comes first.
        for place in (0..self.open.len()).rev() {
            self.serve(place);
        }
    }

    /// Tells every daemon; true if one took it.
    pub fn tell(&self, report: &Report) -> bool {
        let taken = self.open.iter().filter(|connection| peer::send(&connection.socket, report, &[]).is_ok());
        taken.count() > 0
    }

    /// Reaps children that were left to us; the container's own process is waited for by its pidfd.
    pub fn reap_orphans() {
        while let Ok(Some(_)) = rustix::process::wait(rustix::process::WaitOptions::NOHANG) {}
    }
}
