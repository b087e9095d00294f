//! Datagrams: each sender has a socket of its own towards the container, by which the answers come back.

use std::collections::HashMap;
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError, Weak};

use tokio::net::UdpSocket;
use tokio::sync::{watch, OwnedSemaphorePermit, Semaphore};
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::{sleep, timeout_at, Instant};

use crate::limits::{MAX_DATAGRAM_BYTES, MAX_PEERS, PEER_IDLE, RETRY};
use crate::serve::Done;

/// One sender.
struct Peer {
    /// Its task has the socket, and ends with it.
    server: Weak<UdpSocket>,
    heard: Arc<Mutex<Instant>>,
    task: AbortHandle,
}

impl Peer {
    fn heard(&self) -> Instant {
        *self.heard.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn note(heard: &Mutex<Instant>) {
    *heard.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
}

/// Passes datagrams on until it is aborted, or whoever says where they go is gone.
pub(crate) async fn forward(
    socket: UdpSocket,
    done: Done,
    mut targets: watch::Receiver<Vec<SocketAddr>>,
    of_all: Arc<Semaphore>,
) {
    // The socket goes before what tells of it. Peers have it for as long as they send an answer, on this same thread.
    let (_done, socket) = (done, Arc::new(socket));
    let mut tasks = JoinSet::new();
    let mut peers: HashMap<SocketAddr, Peer> = HashMap::new();
    let mut buffer = vec![0; MAX_DATAGRAM_BYTES];
    loop {
        if targets.wait_for(|targets| !targets.is_empty()).await.is_err() {
            return;
        }
        let Ok((length, sender)) = socket.recv_from(&mut buffer).await else {
            sleep(RETRY).await;
            continue;
        };
        while tasks.try_join_next().is_some() {}
        if targets.has_changed().unwrap_or(false) {
            peers.drain().for_each(|(_, peer)| peer.task.abort());
        }
        let target = targets.borrow_and_update().first().copied();
        let known = peers.get(&sender).and_then(|peer| Some((peer.server.upgrade()?, &peer.heard)));
        if let Some((server, heard)) = known {
            note(heard);
            // What the container does not take is lost, as datagrams are.
            let _ = server.try_send(&buffer[..length]);
            continue;
        }
        make_room(&mut peers);
        let Ok(permit) = Arc::clone(&of_all).try_acquire_owned() else { continue };
        // Nothing tells in time that nobody takes datagrams there, so that the others are not tried.
        let Some(target) = target else { continue };
        let Ok(server) = connected(target).await else { continue };
        let (server, heard) = (Arc::new(server), Arc::new(Mutex::new(Instant::now())));
        let _ = server.send(&buffer[..length]).await;
        let weak = Arc::downgrade(&server);
        let answering = Answering {
            sender,
            server,
            front: Arc::downgrade(&socket),
            heard: Arc::clone(&heard),
            _permit: permit,
        };
        let task = tasks.spawn(answering.run());
        peers.insert(sender, Peer { server: weak, heard, task });
    }
}

/// Those whose tasks have ended are forgotten, and where there is none the longest silent.
fn make_room(peers: &mut HashMap<SocketAddr, Peer>) {
    if peers.len() < MAX_PEERS {
        return;
    }
    peers.retain(|_, peer| !peer.task.is_finished());
    while peers.len() >= MAX_PEERS {
        let Some(silent) = peers.iter().min_by_key(|(_, peer)| peer.heard()).map(|(sender, _)| *sender)
        else {
            return;
        };
        if let Some(peer) = peers.remove(&silent) {
            peer.task.abort();
        }
    }
}

async fn connected(target: SocketAddr) -> io::Result<UdpSocket> {
    let any: SocketAddr = match target {
        SocketAddr::V4(_) => (Ipv4Addr::UNSPECIFIED, 0).into(),
        SocketAddr::V6(_) => (Ipv6Addr::UNSPECIFIED, 0).into(),
    };
    let socket = UdpSocket::bind(any).await?;
    socket.connect(target).await?;
    Ok(socket)
}

/// Brings one sender what the container answers.
struct Answering {
    sender: SocketAddr,
    server: Arc<UdpSocket>,
    front: Weak<UdpSocket>,
    heard: Arc<Mutex<Instant>>,
    _permit: OwnedSemaphorePermit,
}

impl Answering {
    async fn run(self) {
        loop {
            let heard = *self.heard.lock().unwrap_or_else(PoisonError::into_inner);
            let silent_until = heard + PEER_IDLE;
            match timeout_at(silent_until, self.server.readable()).await {
                Err(_) if self.is_silent_since(heard) => return,
                Err(_) => continue,
                Ok(Err(_)) => return,
                Ok(Ok(())) => {}
            }
            match self.pass_on() {
                Ok(true) => {}
                Ok(false) => return,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                // Refused, for example: what comes later is passed on all the same.
                Err(_) => sleep(RETRY).await,
            }
        }
    }

    fn is_silent_since(&self, heard: Instant) -> bool {
        *self.heard.lock().unwrap_or_else(PoisonError::into_inner) == heard
    }

    /// Whether the port still is there.
    fn pass_on(&self) -> io::Result<bool> {
        let mut buffer = [0; MAX_DATAGRAM_BYTES];
        let length = self.server.try_recv(&mut buffer)?;
        let Some(front) = self.front.upgrade() else { return Ok(false) };
        note(&self.heard);
        // What the sender does not take is lost, as datagrams are.
        let _ = front.try_send_to(&buffer[..length], self.sender);
        Ok(true)
    }
}
