//! What a container may have of the resolver.

use std::time::Duration;

/// Longest question by UDP; a longer one is not read. Source: RFC 6891 6.2.5, the size that EDNS starts with.
pub const MAX_DATAGRAM_BYTES: usize = 4096;
/// What an answer by UDP takes without EDNS. Source: RFC 1035 4.2.1.
pub(crate) const PLAIN_DATAGRAM_BYTES: usize = 512;
/// What this resolver says that it takes. Source: DNS flag day 2020, below what is fragmented anywhere.
pub(crate) const OWN_DATAGRAM_BYTES: u16 = 1232;
/// Questions of one container in a second; more wait in its socket, or are dropped there by the kernel.
pub const MAX_QUERIES_PER_SECOND: u32 = 10_000;
/// Questions of one container that name servers have been asked and have not answered; further ones fail.
pub const MAX_FORWARDED: usize = 128;
/// The same of all containers together.
pub const MAX_FORWARDED_OF_ALL: usize = 1024;
/// Connections of one container; further ones are closed.
pub const MAX_CONNECTIONS: usize = 32;
/// Name servers that are asked, one after the other. Source: resolv.conf(5), MAXNS.
pub const MAX_SERVERS: usize = 3;
/// How long one of them has.
pub(crate) const SERVER_TIMEOUT: Duration = Duration::from_secs(2);
/// How long a connection may say nothing, or take nothing.
pub(crate) const IDLE_TIMEOUT: Duration = Duration::from_secs(10);
/// How long an answer about a container holds: its address may be another's after a restart.
pub(crate) const TTL_SECONDS: u32 = 5;
