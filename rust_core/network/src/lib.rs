//! Networks of containers as the kernel knows them: bridges, veth pairs, addresses, routes and one nftables table.
//!
//! All of it is told to the kernel by netlink sockets: those of the caller's namespace, which this crate opens, and those
//! that were opened inside a container's namespace and are handed in. No namespace is joined, and no program executed but the plugins of `plugin`, which a caller names.
//! What networks there are and who gets which address is decided elsewhere.

mod conntrack;
mod error;
mod link;
mod link_spec;
mod netlink;
pub mod nft;
pub mod plugin;
mod settings;

pub use error::NetworkError;
pub use link::{Links, Port, WaitingPair, MAX_INTERFACE_NAME_BYTES, WAITING_INNER_NAME};
pub use link_spec::{Attachment, Bridge, Cidr};
pub use netlink::Netlink;
pub use settings::allow_forwarding;
