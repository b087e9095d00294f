"""Networks, attachments and published ports <-> messages. Pure."""

import ipaddress
from collections.abc import Sequence
from typing import Final

from fluyt.v1 import networks_pb2
from fluyt.v1.types import network_pb2
from fluytd.api.convert.values import timestamp_of
from fluytd.containers.query import MAX_FILTER_VALUES
from fluytd.containers.spec import AttachmentSpec, PortSpec
from fluytd.errors import FieldInvalid, LimitExceeded
from fluytd.networks.model import (
    MAX_ALLOWED_SOURCES,
    MAX_PORT_CHOICES,
    MAX_PUBLISHED_PORTS,
    Endpoint,
    Network,
    NetworkRequest,
    PublishedPort,
    Subnet,
    is_interface_name,
    is_mac,
)
from fluytd.networks.service import NetworkFilter

#: Networks that one container may be on.
MAX_ATTACHMENTS: Final = 32
#: Aliases of a container on one network, and the longest. Source: RFC 1035 section 2.3.4.
MAX_ALIASES: Final = 64
MAX_ALIAS_CHARS: Final = 253
_MAX_PORT: Final = 65_535
_PROTOCOLS: Final = {
    network_pb2.TRANSPORT_PROTOCOL_UNSPECIFIED: "tcp",
    network_pb2.TRANSPORT_PROTOCOL_TCP: "tcp",
    network_pb2.TRANSPORT_PROTOCOL_UDP: "udp",
    network_pb2.TRANSPORT_PROTOCOL_SCTP: "sctp",
}


def to_network(network: Network, container_ids: Sequence[str]) -> networks_pb2.Network:
    """The message."""
    return networks_pb2.Network(
        id=network.id,
        name=network.name,
        version=network.version,
        driver=network.driver,
        driver_options=network.driver_options,
        subnets=[
            networks_pb2.Subnet(cidr=one.cidr, gateway=one.gateway, allocation_range=one.allocation_range)
            for one in network.subnets
        ],
        is_internal=network.is_internal,
        has_ipv6=network.has_ipv6,
        mtu=network.mtu,
        bridge_name=network.bridge_name,
        labels=network.labels,
        create_time=timestamp_of(network.create_time_unix_nanos),
        container_ids=container_ids,
    )


def from_create(request: networks_pb2.CreateNetworkRequest) -> NetworkRequest:
    """What is asked for; its rules are the model's."""
    return NetworkRequest(
        name=request.name,
        driver=request.driver or "bridge",
        driver_options=dict(request.driver_options),
        subnets=tuple(Subnet(one.cidr, one.gateway, one.allocation_range) for one in request.subnets),
        is_internal=request.internal,
        has_ipv6=request.enable_ipv6,
        mtu=request.mtu,
        labels=dict(request.labels),
    )


def from_network_filter(message: networks_pb2.NetworkFilter) -> NetworkFilter:
    """The filter. Raises LIMIT_EXCEEDED."""
    for name in ("ids", "names", "labels", "drivers"):
        _bounded(len(getattr(message, name)), MAX_FILTER_VALUES, "MAX_FILTER_VALUES", f"filter.{name}")
    return NetworkFilter(
        ids=tuple(message.ids),
        names=tuple(message.names),
        labels=tuple(message.labels),
        drivers=tuple(message.drivers),
        is_dangling=message.is_dangling if message.HasField("is_dangling") else None,
    )


def from_attachment(message: network_pb2.NetworkAttachment, place: str) -> AttachmentSpec:
    """How to be on a network. Raises FIELD_INVALID, LIMIT_EXCEEDED."""
    if not message.network:
        raise FieldInvalid(field=f"{place}.network", rule="must be given")
    for name, version in (("ipv4_address", 4), ("ipv6_address", 6)):
        text = getattr(message, name)
        if text and _version(text) != version:
            raise FieldInvalid(field=f"{place}.{name}", rule=f"must be an IPv{version} address")
    if message.mac_address and not is_mac(message.mac_address):
        raise FieldInvalid(field=f"{place}.mac_address", rule="must be a unicast address, as 02:46:0a:00:00:02")
    if message.interface_name and not is_interface_name(message.interface_name):
        raise FieldInvalid(field=f"{place}.interface_name", rule="must have 1 to 15 letters, digits, _, . or -")
    _bounded(len(message.aliases), MAX_ALIASES, "MAX_ALIASES", f"{place}.aliases")
    for index, alias in enumerate(message.aliases):
        if not 0 < len(alias) <= MAX_ALIAS_CHARS or not alias.isascii() or set(alias) & set(" \t\r\n/:\0"):
            rule = f"must be a host name of at most {MAX_ALIAS_CHARS} characters"
            raise FieldInvalid(field=f"{place}.aliases[{index}]", rule=rule)
    return AttachmentSpec(
        network=message.network,
        aliases=tuple(message.aliases),
        ipv4_address=message.ipv4_address,
        ipv6_address=str(ipaddress.ip_address(message.ipv6_address)) if message.ipv6_address else "",
        mac_address=message.mac_address,
        interface_name=message.interface_name,
        gateway_priority=message.gateway_priority,
    )


def from_attachments(messages: Sequence[network_pb2.NetworkAttachment]) -> tuple[AttachmentSpec, ...]:
    """The networks to be on. Raises FIELD_INVALID, LIMIT_EXCEEDED."""
    place = "spec.network.attachments"
    _bounded(len(messages), MAX_ATTACHMENTS, "MAX_ATTACHMENTS", place)
    found = tuple(from_attachment(one, f"{place}[{index}]") for index, one in enumerate(messages))
    names = [one.interface_name for one in found]
    for index, name in enumerate(names):
        if name and name in names[:index]:
            raise FieldInvalid(field=f"{place}[{index}].interface_name", rule=f"names {name} a second time")
    return found


def from_port(message: network_pb2.PublishedPort, place: str) -> PortSpec:
    """Ports to be published. Raises FIELD_INVALID, LIMIT_EXCEEDED."""
    count = message.port_count or 1
    _bounded(count, MAX_PUBLISHED_PORTS, "MAX_PUBLISHED_PORTS", f"{place}.port_count")
    if not 0 < message.container_port <= _MAX_PORT - count + 1:
        raise FieldInvalid(field=f"{place}.container_port", rule=f"must be from 1 to {_MAX_PORT}, a range's end too")
    if message.host_port > _MAX_PORT - count + 1:
        raise FieldInvalid(field=f"{place}.host_port", rule=f"must be at most {_MAX_PORT}, a range's end too")
    choices = message.host_port_count or 1
    _bounded(choices, MAX_PORT_CHOICES, "MAX_PORT_CHOICES", f"{place}.host_port_count")
    if choices > 1 and not (count == 1 and 0 < message.host_port <= _MAX_PORT - choices + 1):
        rule = f"must be 1 unless it is a range of the host, up to {_MAX_PORT}, for one port of the container"
        raise FieldInvalid(field=f"{place}.host_port_count", rule=rule)
    if message.protocol not in _PROTOCOLS:
        raise FieldInvalid(field=f"{place}.protocol", rule=f"{message.protocol} is not a protocol")
    if message.host_address and _version(message.host_address) is None:
        raise FieldInvalid(field=f"{place}.host_address", rule="must be an IP address")
    _bounded(len(message.allowed_sources), MAX_ALLOWED_SOURCES, "MAX_ALLOWED_SOURCES", f"{place}.allowed_sources")
    for index, source in enumerate(message.allowed_sources):
        try:
            ipaddress.ip_network(source, strict=False)
        except ValueError:
            raise FieldInvalid(field=f"{place}.allowed_sources[{index}]", rule="must be a network in CIDR") from None
    return PortSpec(
        container_port=message.container_port,
        host_port=message.host_port,
        port_count=count,
        host_address=str(ipaddress.ip_address(message.host_address)) if message.host_address else "",
        protocol=_PROTOCOLS[message.protocol],
        allowed_sources=tuple(str(ipaddress.ip_network(one, strict=False)) for one in message.allowed_sources),
        host_port_count=choices,
    )


def from_ports(
    messages: Sequence[network_pb2.PublishedPort], place: str = "spec.network.published_ports"
) -> tuple[PortSpec, ...]:
    """All that is to be published. Raises FIELD_INVALID, LIMIT_EXCEEDED."""
    _bounded(len(messages), MAX_PUBLISHED_PORTS, "MAX_PUBLISHED_PORTS", place)
    return tuple(from_port(one, f"{place}[{index}]") for index, one in enumerate(messages))


def to_attachment(spec: AttachmentSpec) -> network_pb2.NetworkAttachment:
    """The message."""
    return network_pb2.NetworkAttachment(
        network=spec.network,
        aliases=spec.aliases,
        ipv4_address=spec.ipv4_address,
        ipv6_address=spec.ipv6_address,
        mac_address=spec.mac_address,
        interface_name=spec.interface_name,
        gateway_priority=spec.gateway_priority,
    )


def to_port_spec(spec: PortSpec) -> network_pb2.PublishedPort:
    """The message of what was asked."""
    return network_pb2.PublishedPort(
        container_port=spec.container_port,
        host_port=spec.host_port,
        port_count=spec.port_count,
        host_address=spec.host_address,
        protocol=network_pb2.TransportProtocol.Value(f"TRANSPORT_PROTOCOL_{spec.protocol.upper()}"),
        allowed_sources=spec.allowed_sources,
        host_port_count=spec.host_port_count if spec.host_port_count > 1 else 0,
    )


def to_port(port: PublishedPort) -> network_pb2.PublishedPort:
    """The message of what came out."""
    return network_pb2.PublishedPort(
        container_port=port.container_port,
        host_port=port.host_port,
        port_count=1,
        host_address=port.host_address,
        protocol=network_pb2.TransportProtocol.Value(f"TRANSPORT_PROTOCOL_{port.protocol.upper()}"),
        allowed_sources=port.allowed_sources,
    )


def to_endpoint(endpoint: Endpoint) -> network_pb2.NetworkEndpoint:
    """The message."""
    return network_pb2.NetworkEndpoint(
        network_id=endpoint.network_id,
        network_name=endpoint.network_name,
        ipv4_address=endpoint.ipv4_address,
        ipv6_address=endpoint.ipv6_address,
        ipv4_gateway=endpoint.ipv4_gateway,
        ipv6_gateway=endpoint.ipv6_gateway,
        mac_address=endpoint.mac_address,
        interface_name=endpoint.interface_name,
        aliases=endpoint.aliases,
    )


def _version(text: str) -> int | None:
    try:
        return ipaddress.ip_address(text).version
    except ValueError:
        return None


def _bounded(actual: int, limit: int, name: str, subject: str) -> None:
    if actual > limit:
        raise LimitExceeded(limit=name, limit_value=limit, actual=actual, subject=subject)
