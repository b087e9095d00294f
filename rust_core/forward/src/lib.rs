//! Ports of the host's IPv6 loopback address that lead to containers.
//!
//! The kernel translates what comes to any other address of the host; for `::1` it has no way (docs/decisions/0028), so
//! this listens there and copies. One thread serves all ports. Whoever may reach `::1` runs on the host, and is bounded
//! all the same (`limits`). Who has which port, and where it leads, is decided elsewhere.

mod error;
mod limits;
mod serve;
mod tcp;
mod udp;

pub use error::ForwardError;
pub use limits::{MAX_CONNECTIONS, MAX_CONNECTIONS_OF_ALL, MAX_DATAGRAM_BYTES, MAX_PEERS, MAX_PEERS_OF_ALL};
pub use serve::{Forwarder, Port, Protocol};
