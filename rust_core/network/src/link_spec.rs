//! What links are made of: addresses, bridges, and what a container's interface is given.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use netlink_packet_route::AddressFamily;

use crate::error::NetworkError;

/// Bits of an address.
pub(crate) const IPV4_BITS: u8 = 32;
const IPV6_BITS: u8 = 128;

/// An address with the length of its network's prefix.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Cidr {
    /// The address, of a host or of the network.
    pub address: IpAddr,
    /// Bits of the prefix.
    pub prefix: u8,
}

impl FromStr for Cidr {
    type Err = NetworkError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let refuse =
            || NetworkError::FieldInvalid { field: "cidr", rule: format!("{text:?} is no address/prefix") };
        let (address, prefix) = text.split_once('/').ok_or_else(refuse)?;
        let address: IpAddr = address.parse().map_err(|_| refuse())?;
        let prefix: u8 = prefix.parse().map_err(|_| refuse())?;
        if prefix > bits(address) {
            return Err(refuse());
        }
        Ok(Self { address, prefix })
    }
}

impl fmt::Display for Cidr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.prefix)
    }
}

fn bits(address: IpAddr) -> u8 {
    if address.is_ipv4() {
        IPV4_BITS
    } else {
        IPV6_BITS
    }
}

pub(crate) fn family(address: IpAddr) -> AddressFamily {
    if address.is_ipv4() {
        AddressFamily::Inet
    } else {
        AddressFamily::Inet6
    }
}

/// A network's bridge on the host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bridge {
    /// Name of its interface.
    pub name: String,
    /// Its hardware address, so that it does not change with its ports.
    pub hardware_address: [u8; 6],
    /// Maximum transmission unit; 0 is the kernel's default.
    pub mtu: u32,
    /// The host's addresses on it: the gateways of its containers.
    pub addresses: Vec<Cidr>,
}

/// How a container's interface comes to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attachment {
    /// The bridge that the host's end is a port of.
    pub bridge: String,
    /// Name of the host's end.
    pub host_name: String,
    /// Name of the container's end.
    pub name: String,
    /// Hardware address of the container's end.
    pub hardware_address: [u8; 6],
    /// Maximum transmission unit; 0 is the kernel's default.
    pub mtu: u32,
    /// Addresses of the container's end.
    pub addresses: Vec<Cidr>,
    /// Gateways of the default routes; none without a way out.
    pub gateways: Vec<IpAddr>,
}
