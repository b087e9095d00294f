//! The sockets of containers, and the thread that answers on them.

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddrV4, TcpListener, UdpSocket};
use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use domain::base::iana::Rcode;
use domain::base::Message;
use rustix::io::Errno;
use tokio::net::TcpStream;
use tokio::runtime::{Builder, Runtime};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::{sleep, sleep_until, timeout, Instant};

use crate::answer::{decide, fitting, refusal, Verdict};
use crate::error::ResolverError;
use crate::limits::{
    IDLE_TIMEOUT, MAX_CONNECTIONS, MAX_DATAGRAM_BYTES, MAX_FORWARDED, MAX_FORWARDED_OF_ALL,
    MAX_QUERIES_PER_SECOND,
};
use crate::table::{Client, Table};
use crate::upstream::{ask, read_message, write_message};

/// Where a container asks: on its own loopback device, which nobody else reaches. Docker's, which images count on.
pub const ADDRESS: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 11);
/// Connections that wait to be taken.
const BACKLOG: i32 = 16;
/// A socket that fails is tried again after so long.
const RETRY: Duration = Duration::from_millis(50);
const SECOND: Duration = Duration::from_secs(1);

/// The sockets of one container, bound.
#[derive(Debug)]
pub struct Listening {
    udp: UdpSocket,
    tcp: TcpListener,
}

impl Listening {
    /// Both sockets are bound to [`ADDRESS`], each at a free port, and take what comes. They were opened in the
    /// container's namespace, IPv4, not bound.
    ///
    /// # Errors
    /// `IO_FAILED`.
    pub fn bind(udp: OwnedFd, tcp: OwnedFd) -> Result<Self, ResolverError> {
        let refused = |operation| move |errno: Errno| ResolverError::refused(operation, "127.0.0.11", errno);
        for socket in [&udp, &tcp] {
            rustix::net::bind(socket, &SocketAddrV4::new(ADDRESS, 0)).map_err(refused("bind"))?;
            rustix::io::ioctl_fionbio(socket, true).map_err(refused("ioctl(FIONBIO)"))?;
        }
        rustix::net::listen(&tcp, BACKLOG).map_err(refused("listen"))?;
        Ok(Self { udp: udp.into(), tcp: tcp.into() })
    }

    /// The ports of the UDP and of the TCP socket.
    ///
    /// # Errors
    /// `IO_FAILED`.
    pub fn ports(&self) -> Result<(u16, u16), ResolverError> {
        let failed = |error: io::Error| ResolverError::from_std("getsockname", "127.0.0.11", &error);
        Ok((self.udp.local_addr().map_err(failed)?.port(), self.tcp.local_addr().map_err(failed)?.port()))
    }
}

/// Names of all containers, and the thread that answers. Shared between threads; no method blocks but by short locks.
#[derive(Debug)]
pub struct Resolver {
    table: Arc<Table>,
    forwarded: Arc<Semaphore>,
    serving: Mutex<HashMap<String, [AbortHandle; 2]>>,
    /// Made with the first container that is served.
    runtime: Mutex<Option<Runtime>>,
}

impl Default for Resolver {
    fn default() -> Self {
        Self {
            table: Arc::default(),
            forwarded: Arc::new(Semaphore::new(MAX_FORWARDED_OF_ALL)),
            serving: Mutex::default(),
            runtime: Mutex::default(),
        }
    }
}

impl Resolver {
    /// On the network of that id and name, the holder has these names and addresses, whatever it had. Its addresses have
    /// the first name.
    pub fn put(
        &self,
        network: &str,
        network_name: &str,
        holder: &str,
        names: &[String],
        addresses: &[IpAddr],
    ) {
        self.table.put(network, network_name, holder, names, addresses);
    }

    /// The holder has none on that network. Idempotent.
    pub fn remove(&self, network: &str, holder: &str) {
        self.table.remove(network, holder);
    }

    /// What the client of that id may ask, from now on.
    pub fn set_client(&self, id: &str, client: Client) {
        self.table.set_client(id, client);
    }

    /// The client is answered on these sockets; on earlier ones of its no longer.
    ///
    /// # Errors
    /// `IO_FAILED` without a thread.
    pub fn serve(&self, id: &str, sockets: Listening) -> Result<(), ResolverError> {
        let failed = |operation| move |error: io::Error| ResolverError::from_std(operation, id, &error);
        let mut runtime = self.runtime.lock().unwrap_or_else(PoisonError::into_inner);
        if runtime.is_none() {
            let mut builder = Builder::new_multi_thread();
            builder.worker_threads(1).thread_name("fluyt-names").enable_io().enable_time();
            *runtime = Some(builder.build().map_err(failed("clone"))?);
        }
        let Some(runtime) = runtime.as_ref() else { return Ok(()) };
        let entered = runtime.enter();
        let udp = tokio::net::UdpSocket::from_std(sockets.udp).map_err(failed("epoll_ctl"))?;
        let tcp = tokio::net::TcpListener::from_std(sockets.tcp).map_err(failed("epoll_ctl"))?;
        drop(entered);
        let service = Arc::new(Service {
            client: id.to_owned(),
            table: Arc::clone(&self.table),
            forwarded: Arc::new(Semaphore::new(MAX_FORWARDED)),
            forwarded_of_all: Arc::clone(&self.forwarded),
        });
        let tasks = [
            runtime.spawn(serve_udp(Arc::clone(&service), Arc::new(udp))).abort_handle(),
            runtime.spawn(serve_tcp(service, tcp)).abort_handle(),
        ];
        if let Some(old) = self.lock().insert(id.to_owned(), tasks) {
            old.iter().for_each(AbortHandle::abort);
        }
        Ok(())
    }

    /// The client is no longer answered, and its sockets are being closed. Idempotent.
    pub fn stop(&self, id: &str) {
        let tasks = self.lock().remove(id);
        tasks.iter().flatten().for_each(AbortHandle::abort);
        self.table.remove_client(id);
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, [AbortHandle; 2]>> {
        self.serving.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Resolver {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.lock().unwrap_or_else(PoisonError::into_inner).take() {
            runtime.shutdown_background();
        }
    }
}

/// What the tasks of one container share.
#[derive(Debug)]
struct Service {
    client: String,
    table: Arc<Table>,
    forwarded: Arc<Semaphore>,
    forwarded_of_all: Arc<Semaphore>,
}

impl Service {
    /// Leave to ask a name server; None if too many questions wait already.
    fn permit(&self) -> Option<[OwnedSemaphorePermit; 2]> {
        let own = Arc::clone(&self.forwarded).try_acquire_owned().ok()?;
        Some([own, Arc::clone(&self.forwarded_of_all).try_acquire_owned().ok()?])
    }

    /// What the name servers say, or that none can be asked.
    async fn forward(&self, question: &[u8], by_tcp: bool) -> Vec<u8> {
        let servers = self.table.servers(&self.client);
        ask(question, &servers, by_tcp).await
    }
}

fn failed(question: &[u8]) -> Vec<u8> {
    Message::from_slice(question).map(|message| refusal(message, Rcode::SERVFAIL)).unwrap_or_default()
}

/// Counts what is taken of one second.
struct Pace {
    until: Instant,
    left: u32,
}

impl Pace {
    fn new() -> Self {
        Self { until: Instant::now() + SECOND, left: MAX_QUERIES_PER_SECOND }
    }

    async fn next(&mut self) {
        if self.left == 0 {
            sleep_until(self.until).await;
        }
        if self.left == 0 || Instant::now() >= self.until {
            *self = Self::new();
        }
        self.left -= 1;
    }
}

async fn serve_udp(service: Arc<Service>, socket: Arc<tokio::net::UdpSocket>) {
    let mut pace = Pace::new();
    let mut asked = JoinSet::new();
    // One byte more tells what was cut.
    let mut buffer = [0; MAX_DATAGRAM_BYTES + 1];
    loop {
        pace.next().await;
        while asked.try_join_next().is_some() {}
        let Ok((length, sender)) = socket.recv_from(&mut buffer).await else {
            sleep(RETRY).await;
            continue;
        };
        if length > MAX_DATAGRAM_BYTES {
            continue;
        }
        let question = &buffer[..length];
        let answer = match decide(&service.table, &service.client, question, false) {
            Verdict::Ignore => continue,
            Verdict::Answer(answer) => answer,
            Verdict::Forward(room) => match service.permit() {
                None => failed(question),
                Some(permit) => {
                    let (service, socket, question) =
                        (Arc::clone(&service), Arc::clone(&socket), question.to_vec());
                    asked.spawn(async move {
                        let answer = fitting(service.forward(&question, false).await, room);
                        // What the container does not take is lost, as datagrams are.
                        let _ = socket.try_send_to(&answer, sender);
                        drop(permit);
                    });
                    continue;
                }
            },
        };
        let _ = socket.try_send_to(&answer, sender);
    }
}

async fn serve_tcp(service: Arc<Service>, listener: tokio::net::TcpListener) {
    let mut connections = JoinSet::new();
    loop {
        let Ok((stream, _)) = listener.accept().await else {
            sleep(RETRY).await;
            continue;
        };
        while connections.try_join_next().is_some() {}
        if connections.len() < MAX_CONNECTIONS {
            connections.spawn(converse(Arc::clone(&service), stream));
        }
    }
}

/// Answers on one connection, until it ends, says nothing or takes nothing.
async fn converse(service: Arc<Service>, mut stream: TcpStream) {
    let mut pace = Pace::new();
    loop {
        pace.next().await;
        let Ok(Ok(question)) = timeout(IDLE_TIMEOUT, read_message(&mut stream)).await else { return };
        let answer = match decide(&service.table, &service.client, &question, true) {
            Verdict::Ignore => return,
            Verdict::Answer(answer) => answer,
            Verdict::Forward(_) => match service.permit() {
                None => failed(&question),
                Some(_permit) => service.forward(&question, true).await,
            },
        };
        let Ok(Ok(())) = timeout(IDLE_TIMEOUT, write_message(&mut stream, &answer)).await else { return };
    }
}
