//! Bridges, the veth pairs that tie containers to them, and what an interface inside a container is given.

use std::net::{IpAddr, Ipv4Addr};
use std::os::fd::{AsRawFd, BorrowedFd};
use std::sync::{Mutex, MutexGuard, PoisonError};

use netlink_packet_core::{NLM_F_CREATE, NLM_F_EXCL, NLM_F_REPLACE};
use netlink_packet_route::address::{AddressAttribute, AddressFlags, AddressMessage, AddressScope};
use netlink_packet_route::link::{
    AfSpecInet6, AfSpecUnspec, In6AddrGenMode, InfoBridgePort, InfoData, InfoKind, InfoPortData,
    InfoPortKind, InfoVeth, LinkAttribute, LinkFlags, LinkInfo, LinkMessage,
};
use netlink_packet_route::route::{
    RouteAddress, RouteAttribute, RouteFlags, RouteHeader, RouteMessage, RouteProtocol, RouteScope, RouteType,
};
use netlink_packet_route::RouteNetlinkMessage;
use rustix::io::Errno;

use crate::error::NetworkError;
use crate::link_spec::{family, Attachment, Bridge, Cidr, IPV4_BITS};
use crate::netlink::Netlink;

/// The longest name of an interface. Source: linux/if.h, IFNAMSIZ with its NUL.
pub const MAX_INTERFACE_NAME_BYTES: usize = 15;
/// What the inner end of a pair is called until it is taken: the name that most containers want.
pub const WAITING_INNER_NAME: &str = "eth0";
/// A veth pair that leads into a namespace and has no bridge and no container yet. It goes with that namespace.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WaitingPair {
    host_name: String,
    host_index: u32,
    inner_index: u32,
}

/// An interface of the host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Port {
    /// Its name.
    pub name: String,
    /// Its number.
    pub index: u32,
    /// The number of the bridge that it is a port of; 0 for none.
    pub bridge_index: u32,
}

/// Links of one network namespace, by its netlink socket. Shared between threads.
#[derive(Debug)]
pub struct Links {
    netlink: Mutex<Netlink>,
}

impl Links {
    /// Over a socket for links, addresses and routes.
    pub fn new(netlink: Netlink) -> Self {
        Self { netlink: Mutex::new(netlink) }
    }

    /// The links of the calling thread's namespace.
    ///
    /// # Errors
    /// `IO_FAILED` without netlink.
    pub fn open() -> Result<Self, NetworkError> {
        Netlink::route()
            .map(Self::new)
            .map_err(|errno| NetworkError::refused("socket", "NETLINK_ROUTE", errno))
    }

    /// The bridge is there, up, with these addresses; one of that name is taken as it is. Idempotent.
    ///
    /// # Errors
    /// `KERNEL_FEATURE_MISSING` without bridges; `IO_FAILED` (EEXIST: the name is another kind of link's).
    pub fn make_bridge(&self, bridge: &Bridge) -> Result<(), NetworkError> {
        let mut message = LinkMessage::default();
        message.attributes.push(LinkAttribute::IfName(checked(&bridge.name)?));
        message.attributes.push(LinkAttribute::Address(bridge.hardware_address.to_vec()));
        if bridge.mtu > 0 {
            message.attributes.push(LinkAttribute::Mtu(bridge.mtu));
        }
        message.attributes.push(LinkAttribute::LinkInfo(vec![LinkInfo::Kind(InfoKind::Bridge)]));
        set_up(&mut message);
        let made = self.lock().request(RouteNetlinkMessage::NewLink(message), NLM_F_CREATE | NLM_F_EXCL);
        match made {
            Ok(()) | Err(Errno::EXIST) => {}
            Err(Errno::OPNOTSUPP) => return Err(NetworkError::FeatureMissing { feature: "bridge" }),
            Err(errno) => return Err(NetworkError::refused("make bridge", &bridge.name, errno)),
        }
        let index = self.index(&bridge.name)?;
        for address in &bridge.addresses {
            self.add_address(index, *address, &bridge.name)?;
        }
        if made.is_err() {
            let mut message = LinkMessage::default();
            message.header.index = index;
            set_up(&mut message);
            self.change(RouteNetlinkMessage::SetLink(message), 0, "set up", &bridge.name)?;
        }
        Ok(())
    }

    /// A veth pair leads into the namespace, tied to nothing yet: both ends are down, the inner one has the name
    /// [`WAITING_INNER_NAME`]. `namespace` and `inside` as in [`Links::attach`].
    ///
    /// # Errors
    /// `KERNEL_FEATURE_MISSING` without veth; `IO_FAILED` (EEXIST: a name is taken). Nothing is left then.
    pub fn make_waiting(
        &self,
        host_name: &str,
        namespace: BorrowedFd<'_>,
        inside: &Links,
    ) -> Result<WaitingPair, NetworkError> {
        let mut peer = LinkMessage::default();
        peer.attributes.push(LinkAttribute::IfName(WAITING_INNER_NAME.to_owned()));
        self.make_veth(host_name, LinkMessage::default(), peer, namespace)?;
        let found = self.index(host_name).and_then(|host_index| {
            let inner_index = inside.index(WAITING_INNER_NAME)?;
            Ok(WaitingPair { host_name: host_name.to_owned(), host_index, inner_index })
        });
        found.inspect_err(|_| {
            // As in `attach`.
            let _ = self.remove(host_name);
        })
    }

    /// A veth pair ties the container's namespace to the bridge, and its end there is up, with addresses and routes.
    /// `namespace` and `inside` are a descriptor of the namespace and the links in it; `waiting` is a pair that leads there
    /// already, and is taken if it is still there. On failure nothing is left.
    ///
    /// # Errors
    /// `KERNEL_FEATURE_MISSING` without veth; `IO_FAILED` (ENODEV: there is no such bridge; EEXIST: a name is taken).
    pub fn attach(
        &self,
        attachment: &Attachment,
        namespace: BorrowedFd<'_>,
        inside: &Links,
        waiting: Option<WaitingPair>,
    ) -> Result<(), NetworkError> {
        let bridge = self.index(&attachment.bridge)?;
        let mut is_there = false;
        if let Some(pair) = waiting {
            is_there = self.take_waiting(attachment, bridge, inside, &pair).inspect_err(|_| {
                // As below.
                let _ = self.remove(&pair.host_name);
            })?;
        }
        let made = if is_there { Ok(()) } else { self.make_pair(attachment, bridge, namespace) }
            .and_then(|()| self.set_up_port(&attachment.host_name))
            .and_then(|()| inside.configure(attachment));
        made.inspect_err(|error| {
            if error.errno() == Errno::EXIST.raw_os_error() {
                return; // the name is another's
            }
            // What made the attachment fail is told; a pair that stays has no owner and is swept by its name.
            let _ = self.remove(&attachment.host_name);
        })
    }

    /// The pair is that of the attachment, its host end a port of the bridge; false if somebody has removed it.
    fn take_waiting(
        &self,
        attachment: &Attachment,
        bridge: u32,
        inside: &Links,
        pair: &WaitingPair,
    ) -> Result<bool, NetworkError> {
        let mut message = LinkMessage::default();
        message.header.index = pair.host_index;
        message.attributes.push(LinkAttribute::IfName(checked(&attachment.host_name)?));
        message.attributes.push(LinkAttribute::Controller(bridge));
        let mut inner = LinkMessage::default();
        inner.header.index = pair.inner_index;
        inner.attributes.push(LinkAttribute::Address(attachment.hardware_address.to_vec()));
        if attachment.name != WAITING_INNER_NAME {
            inner.attributes.push(LinkAttribute::IfName(checked(&attachment.name)?));
        }
        if attachment.mtu > 0 {
            message.attributes.push(LinkAttribute::Mtu(attachment.mtu));
            inner.attributes.push(LinkAttribute::Mtu(attachment.mtu));
        }
        match self.lock().request(RouteNetlinkMessage::SetLink(message), 0) {
            Ok(()) => {}
            Err(Errno::NODEV) => return Ok(false),
            Err(errno) => return Err(NetworkError::refused("take veth", &attachment.host_name, errno)),
        }
        inside.change(RouteNetlinkMessage::SetLink(inner), 0, "take veth", &attachment.name).inspect_err(
            |_| {
                // As in `attach`: it has its new name already.
                let _ = self.remove(&attachment.host_name);
            },
        )?;
        Ok(true)
    }

    fn make_pair(
        &self,
        attachment: &Attachment,
        bridge: u32,
        namespace: BorrowedFd<'_>,
    ) -> Result<(), NetworkError> {
        let mut peer = LinkMessage::default();
        peer.attributes.push(LinkAttribute::IfName(checked(&attachment.name)?));
        peer.attributes.push(LinkAttribute::Address(attachment.hardware_address.to_vec()));
        let mut message = LinkMessage::default();
        message.attributes.push(LinkAttribute::Controller(bridge));
        if attachment.mtu > 0 {
            peer.attributes.push(LinkAttribute::Mtu(attachment.mtu));
            message.attributes.push(LinkAttribute::Mtu(attachment.mtu));
        }
        self.make_veth(&attachment.host_name, message, peer, namespace)
    }

    fn make_veth(
        &self,
        host_name: &str,
        mut host: LinkMessage,
        mut peer: LinkMessage,
        namespace: BorrowedFd<'_>,
    ) -> Result<(), NetworkError> {
        peer.attributes.push(LinkAttribute::NetNsFd(namespace.as_raw_fd()));
        host.attributes.push(LinkAttribute::IfName(checked(host_name)?));
        host.attributes.push(LinkAttribute::LinkInfo(vec![
            LinkInfo::Kind(InfoKind::Veth),
            LinkInfo::Data(InfoData::Veth(InfoVeth::Peer(peer))),
        ]));
        match self.lock().request(RouteNetlinkMessage::NewLink(host), NLM_F_CREATE | NLM_F_EXCL) {
            Ok(()) => Ok(()),
            Err(Errno::OPNOTSUPP) => Err(NetworkError::FeatureMissing { feature: "veth" }),
            Err(errno) => Err(NetworkError::refused("make veth", host_name, errno)),
        }
    }

    /// The port of a bridge is up.
    fn set_up_port(&self, name: &str) -> Result<(), NetworkError> {
        // A port of a bridge speaks for nobody: it comes up only once it is one, without an address of its own.
        let mut message = LinkMessage::default();
        message.attributes.push(LinkAttribute::IfName(name.to_owned()));
        message.attributes.push(link_local(In6AddrGenMode::None));
        // Where frames of bridges pass through nftables (br_netfilter), a container's way to itself by a published port
        // leads back to the port that it came from.
        message.attributes.push(LinkAttribute::LinkInfo(vec![
            LinkInfo::PortKind(InfoPortKind::Bridge),
            LinkInfo::PortData(InfoPortData::BridgePort(vec![InfoBridgePort::HairpinMode(true)])),
        ]));
        set_up(&mut message);
        // Only RTM_NEWLINK takes what belongs to the port.
        self.change(RouteNetlinkMessage::NewLink(message), 0, "set up", name)
    }

    /// The interface of that name has addresses and routes.
    fn configure(&self, attachment: &Attachment) -> Result<(), NetworkError> {
        let index = self.index(&attachment.name)?;
        let mut message = LinkMessage::default();
        message.header.index = index;
        if attachment.addresses.iter().any(|one| one.address.is_ipv6()) {
            message.attributes.push(link_local(In6AddrGenMode::Eui64));
        }
        set_up(&mut message);
        self.change(RouteNetlinkMessage::SetLink(message), 0, "set up", &attachment.name)?;
        for address in &attachment.addresses {
            self.add_address(index, *address, &attachment.name)?;
        }
        for gateway in &attachment.gateways {
            let everything = match gateway {
                IpAddr::V4(_) => Cidr { address: Ipv4Addr::UNSPECIFIED.into(), prefix: 0 },
                IpAddr::V6(_) => Cidr { address: std::net::Ipv6Addr::UNSPECIFIED.into(), prefix: 0 },
            };
            self.add_route(index, everything, Some(*gateway), &attachment.name)?;
        }
        Ok(())
    }

    /// The routes of an interface that has addresses already: hosts on the link, and ways out.
    ///
    /// # Errors
    /// `IO_FAILED`.
    pub fn route_by(&self, attachment: &Attachment) -> Result<(), NetworkError> {
        self.configure(&Attachment { addresses: Vec::new(), ..attachment.clone() })
    }

    /// A link of that name with these addresses is there, tied to nothing: for who looks at what a namespace had that has
    /// gone.
    ///
    /// # Errors
    /// `KERNEL_FEATURE_MISSING` without veth; `IO_FAILED` (EEXIST: the name is taken).
    pub fn stand_in(&self, name: &str, addresses: &[Cidr]) -> Result<(), NetworkError> {
        let mut message = LinkMessage::default();
        message.attributes.push(LinkAttribute::IfName(checked(name)?));
        message.attributes.push(LinkAttribute::LinkInfo(vec![LinkInfo::Kind(InfoKind::Veth)]));
        match self.lock().request(RouteNetlinkMessage::NewLink(message), NLM_F_CREATE | NLM_F_EXCL) {
            Ok(()) => {}
            Err(Errno::OPNOTSUPP) => return Err(NetworkError::FeatureMissing { feature: "veth" }),
            Err(errno) => return Err(NetworkError::refused("make veth", name, errno)),
        }
        let index = self.index(name)?;
        addresses.iter().try_for_each(|address| self.add_address(index, *address, name))
    }

    /// The interface is gone, and with one end of a veth pair the other. Idempotent.
    ///
    /// # Errors
    /// `IO_FAILED`.
    pub fn remove(&self, name: &str) -> Result<(), NetworkError> {
        let mut message = LinkMessage::default();
        message.attributes.push(LinkAttribute::IfName(checked(name)?));
        match self.lock().request(RouteNetlinkMessage::DelLink(message), 0) {
            Ok(()) | Err(Errno::NODEV) => Ok(()),
            Err(errno) => Err(NetworkError::refused("remove link", name, errno)),
        }
    }

    /// All interfaces, in no order.
    ///
    /// # Errors
    /// `IO_FAILED`.
    pub fn list(&self) -> Result<Vec<Port>, NetworkError> {
        let found = self.dump(RouteNetlinkMessage::GetLink(LinkMessage::default()), "list links")?;
        let ports = found.into_iter().filter_map(|message| match message {
            RouteNetlinkMessage::NewLink(link) => {
                let mut port = Port { name: String::new(), index: link.header.index, bridge_index: 0 };
                for attribute in link.attributes {
                    match attribute {
                        LinkAttribute::IfName(name) => port.name = name,
                        LinkAttribute::Controller(index) => port.bridge_index = index,
                        _ => {}
                    }
                }
                Some(port)
            }
            _ => None,
        });
        Ok(ports.collect())
    }

    /// The networks that the host's routes lead to, default routes and those of `except` left out; in no order.
    ///
    /// # Errors
    /// `IO_FAILED`.
    pub fn routed(&self, except: &[String]) -> Result<Vec<Cidr>, NetworkError> {
        let own: Vec<u32> = self
            .list()?
            .into_iter()
            .filter(|port| except.contains(&port.name))
            .map(|port| port.index)
            .collect();
        let found = self.dump(RouteNetlinkMessage::GetRoute(RouteMessage::default()), "list routes")?;
        let networks = found.into_iter().filter_map(|message| {
            let RouteNetlinkMessage::NewRoute(route) = message else { return None };
            let (mut destination, mut link) = (None, 0);
            for attribute in &route.attributes {
                match attribute {
                    RouteAttribute::Destination(RouteAddress::Inet(address)) => {
                        destination = Some((*address).into())
                    }
                    RouteAttribute::Destination(RouteAddress::Inet6(address)) => {
                        destination = Some((*address).into())
                    }
                    RouteAttribute::Oif(index) => link = *index,
                    _ => {}
                }
            }
            let prefix = route.header.destination_prefix_length;
            destination.filter(|_| prefix > 0 && !own.contains(&link)).map(|address| Cidr { address, prefix })
        });
        Ok(networks.collect())
    }

    fn index(&self, name: &str) -> Result<u32, NetworkError> {
        let mut message = LinkMessage::default();
        message.attributes.push(LinkAttribute::IfName(checked(name)?));
        let fail = |errno| NetworkError::refused("find link", name, errno);
        let answer = self.lock().ask(RouteNetlinkMessage::GetLink(message)).map_err(fail)?;
        match answer {
            RouteNetlinkMessage::NewLink(link) => Ok(link.header.index),
            _ => Err(fail(Errno::BADMSG)),
        }
    }

    fn add_address(&self, index: u32, cidr: Cidr, name: &str) -> Result<(), NetworkError> {
        let mut message = AddressMessage::default();
        message.header.family = family(cidr.address);
        message.header.prefix_len = cidr.prefix;
        message.header.scope = AddressScope::Universe;
        message.header.index = index;
        message.attributes.push(AddressAttribute::Local(cidr.address));
        message.attributes.push(AddressAttribute::Address(cidr.address));
        match cidr.address {
            IpAddr::V4(address) if cidr.prefix < IPV4_BITS - 1 => {
                let hosts = u32::MAX >> cidr.prefix;
                let broadcast = Ipv4Addr::from(u32::from(address) | hosts);
                message.attributes.push(AddressAttribute::Broadcast(broadcast));
            }
            IpAddr::V4(_) => {}
            // Addresses are given out once: nothing is gained by waiting for a duplicate to show itself.
            IpAddr::V6(_) => message.attributes.push(AddressAttribute::Flags(AddressFlags::Nodad)),
        }
        self.change(
            RouteNetlinkMessage::NewAddress(message),
            NLM_F_CREATE | NLM_F_REPLACE,
            "add address",
            name,
        )
    }

    fn add_route(
        &self,
        index: u32,
        destination: Cidr,
        gateway: Option<IpAddr>,
        name: &str,
    ) -> Result<(), NetworkError> {
        let mut message = RouteMessage::default();
        message.header.address_family = family(destination.address);
        message.header.destination_prefix_length = destination.prefix;
        message.header.table = RouteHeader::RT_TABLE_MAIN;
        message.header.protocol = RouteProtocol::Static;
        message.header.kind = RouteType::Unicast;
        message.header.scope = if gateway.is_some() { RouteScope::Universe } else { RouteScope::Link };
        if destination.prefix > 0 {
            message.attributes.push(RouteAttribute::Destination(destination.address.into()));
        }
        if let Some(gateway) = gateway {
            // A gateway given by hand may lie outside the subnet.
            message.header.flags = RouteFlags::Onlink;
            message.attributes.push(RouteAttribute::Gateway(gateway.into()));
        }
        message.attributes.push(RouteAttribute::Oif(index));
        self.change(RouteNetlinkMessage::NewRoute(message), NLM_F_CREATE | NLM_F_REPLACE, "add route", name)
    }

    fn change(
        &self,
        message: RouteNetlinkMessage,
        flags: u16,
        operation: &'static str,
        subject: &str,
    ) -> Result<(), NetworkError> {
        self.lock().request(message, flags).map_err(|errno| NetworkError::refused(operation, subject, errno))
    }

    fn dump(
        &self,
        message: RouteNetlinkMessage,
        operation: &'static str,
    ) -> Result<Vec<RouteNetlinkMessage>, NetworkError> {
        self.lock().dump(message).map_err(|errno| NetworkError::refused(operation, "", errno))
    }

    fn lock(&self) -> MutexGuard<'_, Netlink> {
        // Nothing panics while it holds this.
        self.netlink.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn set_up(message: &mut LinkMessage) {
    message.header.flags = LinkFlags::Up;
    message.header.change_mask = LinkFlags::Up;
}

/// Whether the kernel makes a link-local address by itself.
fn link_local(mode: In6AddrGenMode) -> LinkAttribute {
    LinkAttribute::AfSpecUnspec(vec![AfSpecUnspec::Inet6(vec![AfSpecInet6::AddrGenMode(mode)])])
}

fn checked(name: &str) -> Result<String, NetworkError> {
    let is_valid = !name.is_empty()
        && name.len() <= MAX_INTERFACE_NAME_BYTES
        && !matches!(name, "." | "..")
        && name.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'/' && byte != b':');
    if is_valid {
        return Ok(name.to_owned());
    }
    let rule = format!(
        "{name:?} is no interface name of at most MAX_INTERFACE_NAME_BYTES ({MAX_INTERFACE_NAME_BYTES})"
    );
    Err(NetworkError::FieldInvalid { field: "interface_name", rule })
}
