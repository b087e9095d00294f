"""Networks, what a container has on them, and ports of the host that lead to it: values and their rules. Pure."""

import ipaddress
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Final

from fluytd.errors import FieldInvalid, LimitExceeded, SubnetInUse, SubnetsExhausted

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Range = ipaddress.IPv4Network | ipaddress.IPv6Network

#: Names that stand for something else where a network is named.
RESERVED_NAMES: Final = frozenset({"none", "host", "container", "default", "private"})
#: Longest name, as that of a container.
MAX_NAME_CHARS: Final = 128
_NAME: Final = re.compile(rf"[a-zA-Z0-9][a-zA-Z0-9_.-]{{0,{MAX_NAME_CHARS - 1}}}")
_INTERFACE: Final = re.compile(r"[a-zA-Z0-9_.-]{1,15}")
#: Networks of one engine: each has a bridge, an interface of the host.
MAX_NETWORKS: Final = 1_024
MAX_LABELS: Final = 256
MAX_OPTIONS: Final = 32
#: Ports of one container that are published, each of a range counted.
MAX_PUBLISHED_PORTS: Final = 4_096
#: Ports of the host that one port may choose from: each is tried in turn.
MAX_PORT_CHOICES: Final = 4_096
#: Sources that may be named for one port.
MAX_ALLOWED_SOURCES: Final = 64
#: Smallest and largest MTU. Source: RFC 791 (68), RFC 8200 (1280 with IPv6); the kernel's IP_MAX_MTU.
MIN_MTU: Final = 68
MIN_IPV6_MTU: Final = 1_280
MAX_MTU: Final = 65_535
#: Prefix length of what a pool gives to a network: some 4,000 containers, and what IPv6 wants of a link.
IPV4_PREFIX: Final = 20
IPV6_PREFIX: Final = 64
#: A subnet of which nothing would be left for a container is refused beyond these.
LONGEST_IPV4_PREFIX: Final = 30
LONGEST_IPV6_PREFIX: Final = 126
#: IANA protocol numbers.
PROTOCOL_NUMBERS: Final = {"tcp": 6, "udp": 17, "sctp": 132}
#: Networks with a bridge of the engine's, and those whose containers CNI plugins attach.
BRIDGE: Final = "bridge"
CNI: Final = "cni"
#: Option of the driver `cni`: the name of its configuration list.
CONFLIST_OPTION: Final = "conflist"
#: Options of the driver `bridge`, with what they may be.
_SWITCH: Final = frozenset({"true", "false"})
_TRUTHS: Final[Mapping[str, str]] = {"true": "true", "1": "true", "false": "false", "0": "false"}
_DOCKERS_MTU: Final = "com.docker.network.driver.mtu"
#: Docker's names for options, with ours; empty: it is so anyway, or stands in a field of its own.
_DOCKERS: Final[Mapping[str, str]] = {
    _DOCKERS_MTU: "",
    "com.docker.network.bridge.enable_ip_masquerade": "masquerade",
    "com.docker.network.bridge.enable_icc": "",
}
OPTIONS: Final[Mapping[str, frozenset[str]]] = {"isolation": _SWITCH, "masquerade": _SWITCH}


@dataclass(frozen=True, slots=True)
class Subnet:
    """A range of addresses of a network, normalised."""

    cidr: str
    gateway: str
    #: Part that addresses are taken from; empty: all of it.
    allocation_range: str = ""


@dataclass(frozen=True, slots=True)
class Network:
    """One network's record."""

    id: str
    name: str
    #: Interface of its bridge on the host.
    bridge_name: str
    #: IPv4 first; at most one a family.
    subnets: tuple[Subnet, ...]
    create_time_unix_nanos: int
    driver: str = BRIDGE
    driver_options: dict[str, str] = field(default_factory=dict)
    is_internal: bool = False
    #: Bytes; 0 is the kernel's default.
    mtu: int = 0
    labels: dict[str, str] = field(default_factory=dict)
    version: int = 1
    #: Made by the engine itself; never deleted.
    is_default: bool = False

    def subnet(self, version: int) -> Subnet | None:
        """Its range of IP version 4 or 6."""
        return next((one for one in self.subnets if ipaddress.ip_network(one.cidr).version == version), None)

    @property
    def is_bridged(self) -> bool:
        """Whether it has a bridge of the engine's."""
        return self.driver == BRIDGE

    @property
    def has_ipv6(self) -> bool:
        """Whether its containers have IPv6."""
        return self.subnet(6) is not None

    @property
    def is_isolated(self) -> bool:
        """Whether other networks of the engine are out of reach."""
        return self.driver_options.get("isolation") != "false"

    @property
    def is_masqueraded(self) -> bool:
        """Whether what leaves it has the host's address."""
        return not self.is_internal and self.driver_options.get("masquerade") != "false"


@dataclass(frozen=True, slots=True)
class Endpoint:
    """A container on one network."""

    network_id: str
    network_name: str
    #: With prefix length.
    ipv4_address: str
    #: With prefix length; empty without IPv6.
    ipv6_address: str
    ipv4_gateway: str
    ipv6_gateway: str
    mac_address: str
    interface_name: str
    #: The other end, on the host.
    host_interface: str
    aliases: tuple[str, ...] = ()
    #: Its gateways are the container's.
    is_default_route: bool = False
    is_internal: bool = False
    #: The network's names resolve there.
    has_names: bool = False
    #: Of the network.
    driver: str = BRIDGE

    @property
    def is_bridged(self) -> bool:
        """Whether it is a port of a bridge of the engine's."""
        return self.driver == BRIDGE

    @property
    def addresses(self) -> tuple[str, ...]:
        """Its addresses with prefix length, IPv4 first."""
        return tuple(filter(None, (self.ipv4_address, self.ipv6_address)))


@dataclass(frozen=True, slots=True)
class PublishedPort:
    """A port of the host that leads to a container."""

    container_port: int
    host_port: int
    #: Empty: every address of the host, of both families where the container has both.
    host_address: str
    #: `tcp`, `udp` or `sctp`.
    protocol: str
    allowed_sources: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class NetworkRequest:
    """What a caller asks of a new network."""

    name: str
    driver: str = "bridge"
    driver_options: dict[str, str] = field(default_factory=dict)
    subnets: tuple[Subnet, ...] = ()
    is_internal: bool = False
    has_ipv6: bool = False
    mtu: int = 0
    labels: dict[str, str] = field(default_factory=dict)


def from_dockers(request: NetworkRequest) -> NetworkRequest:
    """The request with what Docker's names for options of a bridge ask for; others are left to `check_request`. Raises
    FIELD_INVALID for a value that is none, and for an MTU that is told twice and differently.

    Source: docs.docker.com/engine/network/drivers/bridge, "Options".
    """
    if request.driver != BRIDGE:
        return request
    options, mtu = dict(request.driver_options), request.mtu
    for name in sorted(set(options) & _DOCKERS.keys()):
        value, at = options.pop(name), f"driver_options[{name}]"
        if name == _DOCKERS_MTU:
            if not (value.isascii() and value.isdecimal() and len(value) <= len(str(MAX_MTU))):
                raise FieldInvalid(field=at, rule="must be a number of bytes")
            if mtu not in (0, int(value)):
                raise FieldInvalid(field=at, rule="says something else than mtu")
            mtu = int(value)
        elif value.lower() not in _TRUTHS:
            raise FieldInvalid(field=at, rule="must be true or false")
        elif _DOCKERS[name]:
            options.setdefault(_DOCKERS[name], _TRUTHS[value.lower()])
        elif _TRUTHS[value.lower()] == "false":
            raise FieldInvalid(field=at, rule="must be true: containers of one network always reach each other")
    return replace(request, driver_options=options, mtu=mtu)


def check_request(request: NetworkRequest) -> None:
    """Raises FIELD_INVALID, LIMIT_EXCEEDED for what can be told without knowing the other networks."""
    if not _NAME.fullmatch(request.name):
        rule = f"must have 1 to {MAX_NAME_CHARS} letters, digits, _, . or -, the first a letter or digit"
        raise FieldInvalid(field="name", rule=rule)
    if request.name in RESERVED_NAMES:
        raise FieldInvalid(field="name", rule=f"{request.name!r} stands for something else where a network is named")
    for limit, name, items in (
        (MAX_LABELS, "MAX_LABELS", request.labels),
        (MAX_OPTIONS, "MAX_OPTIONS", request.driver_options),
    ):
        if len(items) > limit:
            raise LimitExceeded(limit=name, limit_value=limit, actual=len(items), subject="network")
    if request.driver == CNI:
        _check_cni(request)
    for name, value in request.driver_options.items() if request.driver == BRIDGE else ():
        if name not in OPTIONS or value not in OPTIONS[name]:
            known = "; ".join(f"{option} is {' or '.join(sorted(values))}" for option, values in OPTIONS.items())
            raise FieldInvalid(field=f"driver_options[{name}]", rule=f"must be one of: {known}")
    least = MIN_IPV6_MTU if request.has_ipv6 else MIN_MTU
    if request.mtu and not least <= request.mtu <= MAX_MTU:
        raise FieldInvalid(field="mtu", rule=f"must be 0 or from {least} to {MAX_MTU} bytes")


def _check_cni(request: NetworkRequest) -> None:
    for name, value in request.driver_options.items():
        if name != CONFLIST_OPTION or not 0 < len(value) <= MAX_NAME_CHARS:
            rule = f"{CONFLIST_OPTION} alone can be said of this driver, with 1 to {MAX_NAME_CHARS} characters"
            raise FieldInvalid(field=f"driver_options[{name}]", rule=rule)
    of_others = {
        "subnets": bool(request.subnets),
        "internal": request.is_internal,
        "enable_ipv6": request.has_ipv6,
        "mtu": bool(request.mtu),
    }
    for name, is_given in of_others.items():
        if is_given:
            raise FieldInvalid(field=name, rule="is the affair of the plugins where the driver is cni")


def conflist_of(network: Network) -> str:
    """The name of the configuration list of a network of CNI plugins: its own unless it was given."""
    return network.driver_options.get(CONFLIST_OPTION) or network.name


def normalised(subnets: Sequence[Subnet]) -> tuple[Subnet, ...]:
    """The subnets as asked, with gateways, IPv4 first. Raises FIELD_INVALID (`subnets[i]...`)."""
    found: dict[int, Subnet] = {}
    for index, asked in enumerate(subnets):
        place = f"subnets[{index}]"
        whole = _network(asked.cidr, f"{place}.cidr")
        longest = LONGEST_IPV4_PREFIX if whole.version == 4 else LONGEST_IPV6_PREFIX
        if whole.prefixlen > longest:
            raise FieldInvalid(field=f"{place}.cidr", rule=f"must have a prefix of at most {longest} bits")
        if whole.is_multicast or whole.is_loopback or whole.is_link_local or whole.is_unspecified:
            raise FieldInvalid(field=f"{place}.cidr", rule="must be a range of unicast addresses")
        if whole.version in found:
            raise FieldInvalid(field=place, rule="must be the only one of its family")
        gateway = ipaddress.ip_address(int(whole.network_address) + 1)
        if asked.gateway:
            gateway = _address(asked.gateway, f"{place}.gateway")
            if not is_host(gateway, whole):
                raise FieldInvalid(field=f"{place}.gateway", rule=f"must be an address of {whole}")
        if asked.allocation_range:
            part = _network(asked.allocation_range, f"{place}.allocation_range")
            if part.version != whole.version or not part.subnet_of(whole):  # type: ignore[arg-type] # of one version
                raise FieldInvalid(field=f"{place}.allocation_range", rule=f"must be a part of {whole}")
        found[whole.version] = Subnet(str(whole), str(gateway), asked.allocation_range)
    return tuple(found[version] for version in sorted(found))


def is_host(address: Address, whole: Range) -> bool:
    """Whether the address can be a host's: in the range, and neither its first nor, of IPv4, its last."""
    if address not in whole or address == whole.network_address:
        return False
    return whole.version != 4 or address != whole.broadcast_address


def choose_subnet(pools: Iterable[str], prefix: int, used: Iterable[str]) -> Subnet:
    """The first range of that prefix in the pools that overlaps with none that is used. Raises SUBNETS_EXHAUSTED."""
    pools = list(pools)
    taken = [ipaddress.ip_network(one, strict=False) for one in used]
    for pool in pools:
        whole = ipaddress.ip_network(pool)
        for candidate in whole.subnets(new_prefix=max(prefix, whole.prefixlen)):
            if not any(overlap(candidate, other) for other in taken):
                return Subnet(str(candidate), str(ipaddress.ip_address(int(candidate.network_address) + 1)))
    raise SubnetsExhausted(pools=pools)


def check_free(subnets: Iterable[Subnet], networks: Iterable[Network], routed: Iterable[str]) -> None:
    """Raises SUBNET_IN_USE if a network, or a route of the host, has addresses of a subnet."""
    networks, routed = list(networks), list(routed)
    for subnet in subnets:
        whole = ipaddress.ip_network(subnet.cidr)
        for network in networks:
            if any(overlap(whole, ipaddress.ip_network(other.cidr)) for other in network.subnets):
                raise SubnetInUse(subnet=subnet.cidr, holder=f"network {network.name}")
        for route in routed:
            if overlap(whole, ipaddress.ip_network(route, strict=False)):
                raise SubnetInUse(subnet=subnet.cidr, holder=f"the host's route to {route}")


def overlap(one: Range, other: Range) -> bool:
    """Whether they have an address in common."""
    return one.version == other.version and one.overlaps(other)


def mac_of(ipv4_address: str) -> str:
    """A locally administered hardware address, as unique as the IPv4 address (without prefix length)."""
    octets = ipaddress.IPv4Address(ipv4_address).packed
    return ":".join(f"{octet:02x}" for octet in (0x02, 0x46, *octets))


def is_mac(text: str) -> bool:
    """Whether it is a unicast hardware address, `02:46:0a:00:00:02`."""
    return bool(re.fullmatch(r"[0-9a-fA-F]{2}(:[0-9a-fA-F]{2}){5}", text)) and int(text[:2], 16) % 2 == 0


def is_interface_name(text: str) -> bool:
    """Whether an interface can have this name."""
    return bool(_INTERFACE.fullmatch(text)) and text not in {".", "..", "lo", "all", "default"}


def _network(text: str, place: str) -> Range:
    try:
        return ipaddress.ip_network(text)
    except ValueError as error:
        raise FieldInvalid(field=place, rule=f"must be a network in CIDR: {error}") from None


def _address(text: str, place: str) -> Address:
    try:
        return ipaddress.ip_address(text)
    except ValueError:
        raise FieldInvalid(field=place, rule="must be an IP address") from None
