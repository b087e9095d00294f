//! Connections that the kernel remembers: those of a port that leads elsewhere now are forgotten.
//!
//! Only for datagrams: what a client goes on to send would go to the address that the port led to before, for as long as it
//! sends. A TCP client's connection ends with its container.
//!
//! Source: linux/netfilter/nfnetlink_conntrack.h; net/netfilter/nf_conntrack_netlink.c, `ctnetlink_flush_conntrack`.

use std::net::IpAddr;

use rustix::io::Errno;

use crate::error::NetworkError;
use crate::netlink::Netlink;
use crate::nft::{Attributes, Target};

const NFNL_SUBSYS_CTNETLINK: u16 = 1;
const IPCTNL_MSG_CT_DELETE: u16 = 2;
const NLM_F_REQUEST: u16 = 1;
const NLM_F_ACK: u16 = 4;
const AF_INET: u8 = 2;
const AF_INET6: u8 = 10;
const CTA_TUPLE_REPLY: u16 = 2;
const CTA_FILTER: u16 = 25;
const CTA_TUPLE_IP: u16 = 1;
const CTA_TUPLE_PROTO: u16 = 2;
const CTA_IP_V4_SRC: u16 = 1;
const CTA_IP_V6_SRC: u16 = 3;
const CTA_PROTO_NUM: u16 = 1;
const CTA_PROTO_SRC_PORT: u16 = 2;
const CTA_FILTER_REPLY_FLAGS: u16 = 2;
/// Source address, protocol and source port are compared. Source: net/netfilter/nf_internals.h.
const COMPARED: u32 = 1 << 0 | 1 << 3 | 1 << 4;
const HEADER_BYTES: u32 = 16;
const FAMILY_BYTES: u32 = 4;

/// The kernel forgets connections that `target` answers. Where it cannot choose among them (before Linux 6.9), or tracks
/// none, nothing happens: they end by themselves.
///
/// # Errors
/// `IO_FAILED`.
pub fn forget(netlink: &mut Netlink, target: &Target) -> Result<(), NetworkError> {
    let mut attributes = Attributes::default();
    attributes.nested(CTA_TUPLE_REPLY, |tuple| {
        tuple.nested(CTA_TUPLE_IP, |ip| match target.address {
            IpAddr::V4(address) => ip.bytes(CTA_IP_V4_SRC, &address.octets()).end(),
            IpAddr::V6(address) => ip.bytes(CTA_IP_V6_SRC, &address.octets()).end(),
        });
        tuple.nested(CTA_TUPLE_PROTO, |protocol| {
            protocol.bytes(CTA_PROTO_NUM, &[target.protocol.0]);
            protocol.bytes(CTA_PROTO_SRC_PORT, &target.port.to_be_bytes());
        });
    });
    attributes
        .nested(CTA_FILTER, |filter| filter.bytes(CTA_FILTER_REPLY_FLAGS, &COMPARED.to_ne_bytes()).end());
    let number = netlink.take_sequences(1);
    let length = HEADER_BYTES + FAMILY_BYTES + u32::try_from(attributes.bytes.len()).unwrap_or(0);
    let mut bytes = length.to_ne_bytes().to_vec();
    bytes.extend_from_slice(&(NFNL_SUBSYS_CTNETLINK << 8 | IPCTNL_MSG_CT_DELETE).to_ne_bytes());
    bytes.extend_from_slice(&(NLM_F_REQUEST | NLM_F_ACK).to_ne_bytes());
    bytes.extend_from_slice(&number.to_ne_bytes());
    bytes.extend_from_slice(&[0; 4]);
    bytes.extend_from_slice(&[if target.address.is_ipv4() { AF_INET } else { AF_INET6 }, 0, 0, 0]);
    bytes.extend_from_slice(&attributes.bytes);
    match netlink.batch(&bytes, number, number) {
        // NOENT: an older kernel takes the filter for one connection. INVAL, OPNOTSUPP: it has no such filter, or no
        // connections at all.
        Ok(()) | Err(Errno::NOENT | Errno::INVAL | Errno::OPNOTSUPP) => Ok(()),
        Err(errno) => Err(NetworkError::refused("forget connections", &target.address.to_string(), errno)),
    }
}
