//! Connections.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use rustix::net::sockopt;
use tokio::io::copy_bidirectional_with_sizes;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{watch, OwnedSemaphorePermit, Semaphore};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use crate::limits::{CONNECT_TIMEOUT, COPY_BYTES, MAX_CONNECTIONS, RETRY};
use crate::serve::Done;

/// Takes connections until it is aborted, or whoever says where they go is gone.
pub(crate) async fn forward(
    listener: TcpListener,
    done: Done,
    mut targets: watch::Receiver<Vec<SocketAddr>>,
    of_all: Arc<Semaphore>,
) {
    // The socket goes before what tells of it.
    let (_done, listener) = (done, listener);
    let own = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    let mut connections = JoinSet::new();
    loop {
        let Ok(permit) = Arc::clone(&own).acquire_owned().await else { return };
        if targets.wait_for(|targets| !targets.is_empty()).await.is_err() {
            return;
        }
        let Ok((client, _)) = listener.accept().await else {
            sleep(RETRY).await;
            continue;
        };
        while connections.try_join_next().is_some() {}
        // Waits in the hand, not in the queue: a port without connections has none of the permits of all.
        let Ok(permit_of_all) = Arc::clone(&of_all).acquire_owned().await else { return };
        let to = targets.borrow().clone();
        connections.spawn(carry(client, to, [permit, permit_of_all]));
    }
}

async fn carry(mut client: TcpStream, targets: Vec<SocketAddr>, _permits: [OwnedSemaphorePermit; 2]) {
    for target in targets {
        let Ok(Ok(mut server)) = timeout(CONNECT_TIMEOUT, TcpStream::connect(target)).await else { continue };
        // What the one sends at once the other has at once.
        if client.set_nodelay(true).and(server.set_nodelay(true)).is_ok() {
            // An error is one side's end, of which the other learns when both are dropped here.
            let _ = copy_bidirectional_with_sizes(&mut client, &mut server, COPY_BYTES, COPY_BYTES).await;
        }
        return;
    }
    // Nobody took it: a reset is the nearest to a refusal that is left.
    let _ = sockopt::set_socket_linger(&client, Some(Duration::ZERO));
}
