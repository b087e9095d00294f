//! Inside a container's namespace: what its processes send to a port of an address of theirs goes to another port, so that
//! the first is free for the container's own servers, those on every address too.

use std::net::Ipv4Addr;

use rustix::io::Errno;

use super::batch::Batch;
use super::expressions::{Base, Expressions, Meta};
use super::ruleset::{
    is_family, DELETE_TABLE, IPV4, NEW_CHAIN, NEW_RULE, NEW_TABLE, NLM_F_APPEND, NLM_F_CREATE, NLM_F_EXCL,
};
use crate::error::NetworkError;
use crate::netlink::Netlink;

/// The table in the container's namespace; it goes with that.
pub const REDIRECT_TABLE: &str = "fluyt_names";
const CHAIN: &str = "output";
/// Source: linux/netfilter.h, NF_INET_LOCAL_OUT; linux/netfilter_ipv4.h, NF_IP_PRI_NAT_DST.
const OUTPUT_HOOK: u32 = 3;
const PRIORITY: i32 = -100;
const TCP: u8 = 6;
const UDP: u8 = 17;

/// One port of an address and where what is sent there goes, by UDP and by TCP.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Redirected {
    /// The address, before and after.
    pub address: Ipv4Addr,
    /// The port that is asked.
    pub port: u16,
    /// The port that answers by UDP.
    pub udp_port: u16,
    /// The port that answers by TCP.
    pub tcp_port: u16,
}

/// In the namespace of the socket this is what is redirected, and nothing else; at once.
///
/// # Errors
/// `KERNEL_FEATURE_MISSING` if the kernel lacks a part of nftables that is needed, `IO_FAILED`.
pub fn redirect(netlink: &mut Netlink, redirected: Redirected) -> Result<(), NetworkError> {
    let answer = match run(netlink, redirected, false) {
        // Of an earlier daemon. To delete a table costs 10 ms, which a new namespace must not.
        Err(Errno::EXIST) => run(netlink, redirected, true),
        answer => answer,
    };
    answer.map_err(|errno| match errno {
        Errno::OPNOTSUPP | Errno::PROTONOSUPPORT => NetworkError::FeatureMissing { feature: "nf_tables" },
        errno => NetworkError::refused("nftables", REDIRECT_TABLE, errno),
    })
}

fn run(netlink: &mut Netlink, redirected: Redirected, replaces: bool) -> Result<(), Errno> {
    let mut batch = Batch::new();
    if replaces {
        batch.push(DELETE_TABLE, 0, |message| message.text(1, REDIRECT_TABLE).end());
    }
    batch.push(NEW_TABLE, NLM_F_CREATE | NLM_F_EXCL, |message| message.text(1, REDIRECT_TABLE).end());
    batch.push(NEW_CHAIN, NLM_F_CREATE, |message| {
        message.text(1, REDIRECT_TABLE).text(3, CHAIN).nested(4, |inner| {
            inner.number(1, OUTPUT_HOOK).number(2, PRIORITY.cast_unsigned());
        });
        message.number(5, 1).text(7, "nat");
    });
    for (protocol, port) in [(UDP, redirected.udp_port), (TCP, redirected.tcp_port)] {
        let mut the = Expressions::default();
        is_family(&mut the, IPV4);
        the.payload(Base::Network, 16, 4, 0).compare(0, false, &redirected.address.octets());
        the.meta(Meta::Protocol, 0).compare(0, false, &[protocol]);
        the.payload(Base::Transport, 2, 2, 0).compare(0, false, &redirected.port.to_be_bytes());
        the.load(0, &redirected.address.octets()).load(1, &port.to_be_bytes()).translate(IPV4, 0, 1);
        batch.push(NEW_RULE, NLM_F_CREATE | NLM_F_APPEND, |message| {
            message.text(1, REDIRECT_TABLE).text(2, CHAIN).bytes(4 | 1 << 15, &the.list.bytes);
        });
    }
    let (bytes, first, last) = batch.finish(netlink);
    netlink.batch(&bytes, first, last)
}
