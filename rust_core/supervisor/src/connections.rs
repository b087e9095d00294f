//! The daemons that are connected: the one that started this supervisor, and those that found it later.

use std::collections::VecDeque;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use control::peer;
use control::wire::{Report, Request, Running};
use process::ServerMounts;
use rustix::io::Errno;
use rustix::net::SocketFlags;

use crate::execs::Execs;

/// Connections that are served at once; a further one is closed unserved.
pub const MAX_CONNECTIONS: usize = 8;

/// What a daemon is to be told of a further process, by our number of it.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Due {
    /// What it has come to.
    State(u64),
    /// Its output has grown.
    Output(u64),
}

struct Connection {
    /// Ours, never used twice.
    number: u64,
    socket: OwnedFd,
    /// The lowest log segment that this daemon needs.
    hold: Option<u64>,
    /// What its queue had no room for yet: two entries for each further process at most.
    due: VecDeque<Due>,
    /// Further processes of which it has the descriptors.
    introduced: Vec<u64>,
}

/// All connections, and what travels over them.
pub struct Connections {
    listener: OwnedFd,
    init: OwnedFd,
    own: OwnedFd,
    stdin: Option<OwnedFd>,
    terminal: Option<OwnedFd>,
    server_mounts: ServerMounts,
    open: Vec<Connection>,
    next_number: u64,
}

/// What came of a daemon's messages.
#[derive(Default)]
pub struct Served {
    /// A hold on the log may have moved.
    pub has_moved: bool,
}

impl Connections {
    /// Serves `listener`; the others are handed to each daemon. `own`: pidfd of this program.
    pub fn new(
        listener: OwnedFd,
        init: OwnedFd,
        own: OwnedFd,
        stdin: Option<OwnedFd>,
        terminal: Option<OwnedFd>,
        server_mounts: ServerMounts,
    ) -> Self {
        Self { listener, init, own, stdin, terminal, server_mounts, open: Vec::new(), next_number: 0 }
    }

    /// The process whose end ends all.
    pub fn init(&self) -> BorrowedFd<'_> {
        self.init.as_fd()
    }

    /// Readable when a daemon wants to connect.
    pub fn listener(&self) -> BorrowedFd<'_> {
        self.listener.as_fd()
    }

    /// The connected daemons, by their place, and whether something is due to each.
    pub fn sockets(&self) -> impl Iterator<Item = (BorrowedFd<'_>, bool)> {
        self.open.iter().map(|connection| (connection.socket.as_fd(), !connection.due.is_empty()))
    }

    /// The lowest segment that any daemon needs.
    pub fn hold(&self) -> Option<u64> {
        self.open.iter().filter_map(|connection| connection.hold).min()
    }

    /// Tells a daemon what runs, and serves it from now on. `hold`: the log segment that it needs until it says otherwise.
    pub fn adopt(&mut self, socket: OwnedFd, running: &Running, execs: &Execs, hold: Option<u64>) {
        if self.open.len() == MAX_CONNECTIONS {
            return;
        }
        let due: VecDeque<Due> = execs.iter().map(|exec| Due::State(exec.serial)).collect();
        let report = Report::Running(Running {
            has_stdin: self.stdin.is_some(),
            has_terminal: self.terminal.is_some(),
            exec_count: due.len() as u32,
            ..running.clone()
        });
        let mut fds = vec![self.init.as_fd(), self.own.as_fd()];
        fds.extend(self.stdin.as_ref().map(AsFd::as_fd));
        fds.extend(self.terminal.as_ref().map(AsFd::as_fd));
        if rustix::io::ioctl_fionbio(&socket, true).is_ok() && peer::send(&socket, &report, &fds).is_ok() {
            let number = self.next_number;
            self.next_number += 1;
            self.open.push(Connection { number, socket, hold, due, introduced: Vec::new() });
        }
    }

    /// Accepts a daemon if it is root's or our own user's.
    pub fn accept(&mut self, running: &Running, execs: &Execs) {
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        // A daemon that has given up meanwhile is no error.
        let Ok(socket) = rustix::net::accept_with(&self.listener, flags) else { return };
        if peer::is_trusted(&socket) == Ok(true) {
            self.adopt(socket, running, execs, None);
        }
    }

    /// Takes the messages of the daemon at `place`; a daemon that has gone, or talks nonsense, is dropped with its hold.
    pub fn serve(&mut self, place: usize, execs: &mut Execs) -> Served {
        let mut served = Served::default();
        let number = self.open[place].number;
        loop {
            let mut over = None;
            match peer::receive::<Request>(&self.open[place].socket) {
                Ok(Some((Request::HoldLog { segment }, _))) => {
                    self.open[place].hold = segment;
                    served.has_moved = true;
                }
                Ok(Some((Request::CloseStdin, _))) => self.stdin = None,
                Ok(Some((Request::ForceServers, _))) => self.server_mounts.force(self.init.as_fd()),
                Ok(Some((Request::Exec { id, open_stdin, is_held }, mut fds))) => {
                    execs.begin(self.init.as_fd(), id.clone(), fds.pop(), open_stdin);
                    if let Some(exec) = execs.find(&id) {
                        exec.take(number, is_held.then_some(0));
                        over = exec.is_over().then_some(exec.serial);
                    }
                }
                Ok(Some((Request::ExecTake { id, position }, _))) => over = execs.take(number, &id, position),
                Ok(Some((Request::ExecCloseStdin { id }, _))) => {
                    if let Some(exec) = execs.find(&id) {
                        exec.close_stdin();
                    }
                }
                Ok(Some((Request::ExecKill { id }, _))) => {
                    if let Some(exec) = execs.find(&id) {
                        exec.kill();
                    }
                }
                Ok(Some((Request::ExecForget { id }, _))) => execs.forget(&id),
                Err(Errno::AGAIN) => return served,
                Ok(
                    Some((Request::Start { .. } | Request::OpenSockets | Request::Proceed { .. }, _)) | None,
                )
                | Err(_) => {
                    self.open.swap_remove(place);
                    served.has_moved = true;
                    for serial in execs.leave(number) {
                        self.owe_state(serial);
                    }
                    return served;
                }
            }
            if let Some(serial) = over {
                self.owe_state(serial);
            }
        }
    }

    /// Takes the messages of all daemons.
    pub fn serve_all(&mut self, execs: &mut Execs) {
        // Places shift when a daemon is dropped, so the last comes first.
        for place in (0..self.open.len()).rev() {
            self.serve(place, execs);
        }
    }

    /// Every daemon is to be told what a further process has come to.
    pub fn owe_state(&mut self, serial: u64) {
        for connection in &mut self.open {
            if !connection.due.contains(&Due::State(serial)) {
                connection.due.push_back(Due::State(serial));
            }
        }
    }

    /// Tells every daemon what is due to it, as far as its queue has room.
    pub fn tell_due(&mut self, execs: &mut Execs) {
        let serials: Vec<u64> = execs.iter().map(|exec| exec.serial).collect();
        for connection in &mut self.open {
            for &serial in &serials {
                if execs.get(serial).is_some_and(|exec| exec.owes_news(connection.number)) {
                    connection.due.push_back(Due::Output(serial));
                }
            }
            while let Some(&due) = connection.due.front() {
                let sent = match due {
                    Due::State(serial) => execs.get(serial).map(|exec| {
                        let is_introduced = connection.introduced.contains(&serial);
                        let (report, fds) = exec.report(is_introduced);
                        if report.has_spool {
                            connection.introduced.push(serial);
                        }
                        peer::send(&connection.socket, &Report::Exec(report), &fds)
                    }),
                    Due::Output(serial) => execs.get(serial).map(|exec| {
                        let report = Report::ExecOutput { id: exec.id.clone(), extent: exec.extent() };
                        peer::send(&connection.socket, &report, &[])
                    }),
                };
                // One that was forgotten is nobody's news; of one that has gone, the end is seen when it is read from.
                if sent == Some(Err(Errno::AGAIN)) {
                    if let Due::State(serial) = due {
                        connection.introduced.retain(|&one| one != serial);
                    }
                    break;
                }
                connection.due.pop_front();
            }
            connection.introduced.retain(|serial| serials.contains(serial));
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
