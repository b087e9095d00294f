"""What the kernel is told of networks, of containers on them and of their published ports. Pure."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Final

from fluytd.containers.spec import AttachmentSpec
from fluytd.networks import kernel_spec
from fluytd.networks.kernel_spec import BridgeSpec, Element
from fluytd.networks.model import PROTOCOL_NUMBERS, Endpoint, Network, PublishedPort, mac_of

_IPV4: Final = 4


def with_default_route(endpoints: Sequence[Endpoint], wanted: Sequence[AttachmentSpec]) -> tuple[Endpoint, ...]:
    """The endpoints, with the ways out given by the one of the highest priority; the first of several, and none that is
    internal."""
    candidates = [index for index, endpoint in enumerate(endpoints) if not endpoint.is_internal]
    best = max(candidates, key=lambda index: wanted[index].gateway_priority, default=None)
    return tuple(replace(one, is_default_route=index == best) for index, one in enumerate(endpoints))


def bridge_spec(network: Network) -> BridgeSpec:
    """The network's bridge, with its gateways as the host's addresses."""
    ipv4 = network.subnet(_IPV4)
    mac = mac_of(ipv4.gateway) if ipv4 is not None else mac_of("0.0.0.1")
    addresses = [f"{subnet.gateway}/{subnet.cidr.partition('/')[2]}" for subnet in network.subnets]
    return BridgeSpec(network.bridge_name, bytes.fromhex(mac.replace(":", "")), network.mtu, addresses)


def network_elements(network: Network) -> list[Element]:
    """What the table is told of a network; nothing of one without a bridge."""
    if not network.is_bridged:
        return []
    kinds = {
        "bridge": True,
        "internal": network.is_internal,
        "open": not network.is_isolated and not network.is_internal,
        "masqueraded": network.is_masqueraded,
    }
    return [Element(kind, bridge=network.bridge_name) for kind, is_so in kinds.items() if is_so]


def port_elements(port: PublishedPort, endpoints: Sequence[Endpoint]) -> list[Element]:
    """What the table is told of a published port: it leads to the endpoint that gives the way out, unless plugins see
    to that."""
    target = next((one for one in endpoints if one.is_default_route and one.is_bridged), None)
    elements: list[Element] = []
    for address in target.addresses if target is not None else ():
        bare = address.partition("/")[0]
        is_ipv6 = ":" in bare
        if port.host_address and (":" in port.host_address) != is_ipv6:
            continue
        to = {"address": bare, "protocol": PROTOCOL_NUMBERS[port.protocol], "port": port.container_port}
        given = "" if port.host_address in {"0.0.0.0", "::"} else port.host_address  # noqa: S104 - what was asked
        elements.append(Element("published", host_address=given, host_port=port.host_port, **to))  # type: ignore[arg-type]
        if port.allowed_sources:
            elements.append(Element("restricted", **to))  # type: ignore[arg-type]
            of_family = [source for source in port.allowed_sources if (":" in source) == is_ipv6]
            elements += [Element("allowed", source=source, **to) for source in of_family]  # type: ignore[arg-type]
    return elements


def forward_targets(port: PublishedPort, endpoints: Sequence[Endpoint]) -> list[str]:
    """Where a forwarder brings what comes to a published port: to the endpoint that gives the way out. Connections go
    by IPv6 if it has that and takes them, else by IPv4; datagrams, whose refusal may not be noticed, by IPv4."""
    target = next((one for one in endpoints if one.is_default_route), None)
    found = [address.partition("/")[0] for address in target.addresses] if target is not None else []
    ordered = found if port.protocol == "udp" else found[::-1]
    return [f"[{one}]:{port.container_port}" if ":" in one else f"{one}:{port.container_port}" for one in ordered]


def attachment_spec(network: Network, endpoint: Endpoint) -> kernel_spec.AttachmentSpec:
    """The container's interface on a network with a bridge."""
    gateways = [endpoint.ipv4_gateway, endpoint.ipv6_gateway] if endpoint.is_default_route else []
    return kernel_spec.AttachmentSpec(
        bridge=network.bridge_name,
        host_name=endpoint.host_interface,
        name=endpoint.interface_name,
        hardware_address=bytes.fromhex(endpoint.mac_address.replace(":", "")),
        mtu=network.mtu,
        addresses=list(endpoint.addresses),
        gateways=[gateway for gateway in gateways if gateway],
    )
