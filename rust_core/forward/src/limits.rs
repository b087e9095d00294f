//! What those who ask at `::1` may have.

use std::time::Duration;

/// Connections to one port at a time; further ones wait to be taken.
pub const MAX_CONNECTIONS: usize = 512;
/// The same of all ports together. Each has two descriptors and two buffers.
pub const MAX_CONNECTIONS_OF_ALL: usize = 2048;
/// Senders of datagrams to one port that are told apart; for a further one the longest silent is forgotten.
pub const MAX_PEERS: usize = 256;
/// The same of all ports together; datagrams of further ones are dropped.
pub const MAX_PEERS_OF_ALL: usize = 2048;
/// Longest datagram. Source: RFC 8200, a payload length of 16 bits.
pub const MAX_DATAGRAM_BYTES: usize = 65_535;
/// How long a sender is known that neither sends nor is answered. Source: moby's docker-proxy, `UDPConnTrackTimeout`.
pub(crate) const PEER_IDLE: Duration = Duration::from_secs(90);
/// How long a container has to take a connection.
pub(crate) const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// What is copied at a time, each way.
pub(crate) const COPY_BYTES: usize = 32 * 1024;
/// Connections that wait to be taken, at most what the host allows.
pub(crate) const BACKLOG: i32 = 1024;
/// A socket that fails is tried again after so long.
pub(crate) const RETRY: Duration = Duration::from_millis(50);
/// How long closing waits for the thread to let go of a socket.
pub(crate) const CLOSE_TIMEOUT: Duration = Duration::from_secs(1);
