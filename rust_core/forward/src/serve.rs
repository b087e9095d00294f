//! Ports that are had, and the thread that serves them.

use std::io;
use std::net::{Ipv6Addr, SocketAddr, SocketAddrV6, TcpListener, UdpSocket};
use std::os::fd::OwnedFd;
use std::sync::mpsc;
use std::sync::{Arc, Mutex, PoisonError};

use rustix::io::Errno;
use rustix::net::{sockopt, AddressFamily, SocketFlags, SocketType};
use tokio::runtime::{Builder, Handle, Runtime};
use tokio::sync::{watch, Semaphore};
use tokio::task::AbortHandle;

use crate::error::ForwardError;
use crate::limits::{BACKLOG, CLOSE_TIMEOUT, MAX_CONNECTIONS_OF_ALL, MAX_PEERS_OF_ALL};
use crate::{tcp, udp};

/// What a port is of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Protocol {
    /// Connections.
    Tcp,
    /// Datagrams.
    Udp,
}

/// Serves ports of `::1`. Shared between threads.
#[derive(Debug)]
pub struct Forwarder {
    connections: Arc<Semaphore>,
    peers: Arc<Semaphore>,
    /// Made with the first port.
    runtime: Mutex<Option<Runtime>>,
}

impl Default for Forwarder {
    fn default() -> Self {
        Self {
            connections: Arc::new(Semaphore::new(MAX_CONNECTIONS_OF_ALL)),
            peers: Arc::new(Semaphore::new(MAX_PEERS_OF_ALL)),
            runtime: Mutex::default(),
        }
    }
}

/// Held by a task after its socket: it goes when the socket is closed.
pub(crate) struct Done(#[allow(dead_code, reason = "its end is what counts")] mpsc::Sender<()>);

impl Forwarder {
    /// The port of `::1` (0: a free one) is had, and what comes there waits until `Port::lead_to` says where it goes.
    /// A socket of the caller's that is bound to the port of all addresses has to have `SO_REUSEADDR` meanwhile.
    ///
    /// # Errors
    /// `IO_FAILED`, with EADDRINUSE if another has the port, EADDRNOTAVAIL or EAFNOSUPPORT if there is no `::1`.
    pub fn listen(&self, protocol: Protocol, port: u16) -> Result<Port, ForwardError> {
        let subject = format!("[::1]:{port}");
        let socket =
            bound(protocol, port).map_err(|(what, errno)| ForwardError::refused(what, &subject, errno))?;
        let failed = |operation| move |error: io::Error| ForwardError::from_std(operation, "[::1]", &error);
        let handle = self.handle().map_err(failed("clone"))?;
        let (targets, to) = watch::channel(Vec::new());
        let (done, closed) = mpsc::channel();
        let entered = handle.enter();
        let (number, task) = match protocol {
            Protocol::Tcp => {
                let listener = tokio::net::TcpListener::from_std(TcpListener::from(socket))
                    .map_err(failed("epoll_ctl"))?;
                let number = listener.local_addr().map_err(failed("getsockname"))?.port();
                (number, handle.spawn(tcp::forward(listener, Done(done), to, Arc::clone(&self.connections))))
            }
            Protocol::Udp => {
                let socket =
                    tokio::net::UdpSocket::from_std(UdpSocket::from(socket)).map_err(failed("epoll_ctl"))?;
                let number = socket.local_addr().map_err(failed("getsockname"))?.port();
                (number, handle.spawn(udp::forward(socket, Done(done), to, Arc::clone(&self.peers))))
            }
        };
        drop(entered);
        Ok(Port { number, targets, task: task.abort_handle(), closed: Mutex::new(closed) })
    }

    /// Ports of any address that were closed before are free: no child has their sockets that was made meanwhile and
    /// has not become another program yet. Blocking (half a millisecond while a child is
    /// made, else not at all).
    pub fn settle(&self) {
        sys::executing::wait_for_children();
    }

    fn handle(&self) -> io::Result<Handle> {
        let mut runtime = self.runtime.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(runtime) = runtime.as_ref() {
            return Ok(runtime.handle().clone());
        }
        let mut builder = Builder::new_multi_thread();
        let made =
            builder.worker_threads(1).thread_name("fluyt-forward").enable_io().enable_time().build()?;
        let handle = made.handle().clone();
        *runtime = Some(made);
        Ok(handle)
    }
}

impl Drop for Forwarder {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.lock().unwrap_or_else(PoisonError::into_inner).take() {
            runtime.shutdown_background();
        }
    }
}

/// A port of `::1`, had until it is closed or dropped.
#[derive(Debug)]
pub struct Port {
    number: u16,
    targets: watch::Sender<Vec<SocketAddr>>,
    task: AbortHandle,
    closed: Mutex<mpsc::Receiver<()>>,
}

impl Port {
    /// Its number.
    #[must_use]
    pub fn number(&self) -> u16 {
        self.number
    }

    /// What comes from now on goes to the first of these that takes it; connections stay where they are. With none it
    /// waits. Never blocks.
    pub fn lead_to(&self, targets: Vec<SocketAddr>) {
        self.targets.send_replace(targets);
    }

    /// The port is free, and connections are cut. Idempotent. Blocking (until the thread has let go, well below a
    /// millisecond).
    pub fn close(&self) {
        self.task.abort();
        let closed = self.closed.lock().unwrap_or_else(PoisonError::into_inner);
        // Nothing is ever sent: it ends when the task has dropped its side.
        let _ = closed.recv_timeout(CLOSE_TIMEOUT);
    }
}

impl Drop for Port {
    fn drop(&mut self) {
        self.task.abort();
    }
}

fn bound(protocol: Protocol, port: u16) -> Result<OwnedFd, (&'static str, Errno)> {
    let kind = match protocol {
        Protocol::Tcp => SocketType::STREAM,
        Protocol::Udp => SocketType::DGRAM,
    };
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket =
        rustix::net::socket_with(AddressFamily::INET6, kind, flags, None).map_err(|e| ("socket", e))?;
    let failed = |errno| ("setsockopt", errno);
    sockopt::set_ipv6_v6only(&socket, true).map_err(failed)?;
    // For the caller's socket, and for connections of before that linger.
    sockopt::set_socket_reuseaddr(&socket, true).map_err(failed)?;
    let address = SocketAddrV6::new(Ipv6Addr::LOCALHOST, port, 0, 0);
    rustix::net::bind(&socket, &address).map_err(|e| ("bind", e))?;
    match protocol {
        Protocol::Tcp => rustix::net::listen(&socket, BACKLOG).map_err(|e| ("listen", e))?,
        // Datagrams would go to whoever bound it last.
        Protocol::Udp => sockopt::set_socket_reuseaddr(&socket, false).map_err(failed)?,
    }
    Ok(socket)
}
