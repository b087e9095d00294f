"""Containers on networks: who gets which addresses and ports, and what the kernel is told of it.

A container joins (addresses and ports are taken, on the event loop), is attached (the kernel is told, on a worker),
and after its run is detached (the kernel forgets its ports) and leaves (addresses and ports are free). What it has
stands in its record before the kernel is told, so that a daemon that finds it running takes the same again.
"""

import itertools
import logging
import secrets
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from typing import Final

from fluytd import failpoints
from fluytd.containers.model import Container
from fluytd.containers.publishing import expanded
from fluytd.containers.spec import AttachmentSpec, PortSpec
from fluytd.errors import AddressInUse, EngineError, FieldInvalid, LimitExceeded
from fluytd.networks import kernel_spec
from fluytd.networks.kernel_spec import BridgeSpec, Element
from fluytd.networks.model import (
    MAX_PUBLISHED_PORTS,
    PROTOCOL_NUMBERS,
    Endpoint,
    Network,
    PublishedPort,
    mac_of,
)
from fluytd.networks.names import Names
from fluytd.networks.ports import Held, HostPorts, Kernel, Namespace, PortChange
from fluytd.networks.table import NetworkEntry, NetworkTable

_log = logging.getLogger(__name__)

_IPV6: Final = 6
_IPV4: Final = 4


@dataclass(slots=True)
class Joined:
    """What one container has."""

    endpoints: tuple[Endpoint, ...]
    ports: tuple[PublishedPort, ...]
    held: Held = field(default_factory=dict)


class Attachments:
    """Implements `containers.ports.Networking`. `join`, `leave` and `adopt` belong to the event loop; what blocks is
    called on workers."""

    def __init__(
        self,
        table: NetworkTable,
        kernel: Kernel,
        host_ports: HostPorts,
        names: Names,
        *,
        link_prefix: str,
        publish_address: str = "",
    ) -> None:
        """`link_prefix`: begins the names of this engine's interfaces, 7 characters. `publish_address`: of the host,
        for ports that name none; empty for all."""
        self._table = table
        self._kernel = kernel
        self._host_ports = host_ports
        self._prefix = link_prefix
        self._publish_address = publish_address
        self._names = names
        self._joined: dict[str, Joined] = {}
        #: Those that were found running, until the kernel has what they need.
        self._adopted: list[Container] = []
        #: Those of them in which names are not answered yet.
        self._unserved: dict[str, Container] = {}

    @property
    def default_id(self) -> str:
        """The id of the engine's own network."""
        return self._table.default.network.id

    def id_of(self, reference: str) -> str:
        """The id of a network. Raises NETWORK_NOT_FOUND, NETWORK_AMBIGUOUS."""
        return self._table.find(reference).network.id

    def check(self, attachments: Sequence[AttachmentSpec]) -> None:
        """Every network is there. Raises NETWORK_NOT_FOUND, NETWORK_AMBIGUOUS, FIELD_INVALID (named twice)."""
        seen: set[str] = set()
        for index, attachment in enumerate(attachments):
            place = f"spec.network.attachments[{index}]"
            try:
                network = self._table.find(attachment.network).network
            except EngineError as error:
                raise error.at(f"{place}.network") from None
            if network.id in seen:
                raise FieldInvalid(field=f"{place}.network", rule=f"names {network.name} a second time")
            seen.add(network.id)
            if attachment.ipv6_address and not network.has_ipv6:
                raise FieldInvalid(field=f"{place}.ipv6_address", rule=f"needs IPv6, which {network.name} has not")

    def join(self, container: Container) -> tuple[tuple[Endpoint, ...], tuple[PublishedPort, ...]]:
        """The addresses and ports of the coming run, the container's from now on.

        Raises NETWORK_NOT_FOUND, ADDRESS_IN_USE, ADDRESSES_EXHAUSTED, PORT_IN_USE, FIELD_INVALID, LIMIT_EXCEEDED;
        nothing is taken then.
        """
        spec = container.spec.network
        wanted = spec.attachments
        if not wanted and not spec.is_detached:
            wanted = (AttachmentSpec(network=self.default_id),)
        with ExitStack() as undo:
            endpoints: list[Endpoint] = []
            for attachment in wanted:
                endpoints.append(self._take(container, attachment, endpoints, undo))
            chosen = with_default_route(endpoints, wanted)
            held: Held = {}
            published = tuple(self._publish(_each(container), chosen, held, undo))
            undo.pop_all()
        self._remember(container.id, Joined(chosen, published, held))
        self._names.put(container, chosen)
        return chosen, published

    def attach(self, container: Container, namespace: Namespace) -> None:
        """The container's namespace has its interfaces, and its ports lead there. Raises KERNEL_FEATURE_MISSING,
        IO_FAILED; `detach` and `leave` are the caller's to call then. Blocking."""
        for endpoint in container.endpoints:
            self._attach(endpoint, namespace)
        self._names.serve(container, container.endpoints, namespace)
        self._kernel.change_table(
            [*itertools.chain.from_iterable(port_elements(p, container.endpoints) for p in container.published_ports)],
            [],
        )

    def _attach(self, endpoint: Endpoint, namespace: Namespace) -> None:
        entry = self._table.get(endpoint.network_id)
        if entry is None:
            raise FieldInvalid(field="network", rule=f"{endpoint.network_name} was deleted meanwhile")
        network = entry.network
        self._kernel.make_bridge(bridge_spec(network), network_elements(network))
        self._kernel.attach(self._attachment_spec(network, endpoint), namespace)

    def detach(self, container_id: str) -> None:
        """Nothing of the host leads to the container any more. Idempotent. Raises IO_FAILED. Blocking."""
        self._names.stop(container_id)
        joined = self._joined.get(container_id)
        if joined is not None:
            elements = [port_elements(port, joined.endpoints) for port in joined.ports]
            self._kernel.change_table([], [*itertools.chain.from_iterable(elements)])

    def leave(self, container_id: str) -> list[str]:
        """Its addresses and ports are free. Idempotent. Returns the host's interfaces that led to it: they go with its
        namespace, and are to be removed where that lives on."""
        joined = self._joined.pop(container_id, None)
        self._names.stop(container_id)
        if joined is None:
            return []
        for held in itertools.chain.from_iterable(joined.held.values()):
            held.close()
        for endpoint in joined.endpoints:
            self._give_back(container_id, endpoint)
        return [endpoint.host_interface for endpoint in joined.endpoints]

    def remove_links(self, names: Sequence[str]) -> None:
        """These interfaces are gone. Raises IO_FAILED. Blocking (20 ms for each that still is there)."""
        for name in names:
            self._kernel.remove_link(name)

    def adopt(self, container: Container) -> None:
        """A container that was found running has what its record says. What another program has taken meanwhile is
        logged: the table leads to the container all the same."""
        held: Held = {}
        for endpoint in container.endpoints:
            entry = self._table.get(endpoint.network_id)
            if entry is None:
                _log.error("container %s: its network %s has no record", container.id, endpoint.network_name)
                continue
            entry.endpoints[container.id] = endpoint
            for address in endpoint.addresses:
                text, version = address.partition("/")[0], _IPV6 if ":" in address else _IPV4
                try:
                    entry.take(container.id, version, text)
                except AddressInUse as error:
                    _log.error("container %s: %s", container.id, error)
        for port in container.published_ports:
            try:
                sockets, _ = self._host_ports.hold(port.host_address, port.host_port, port.protocol)
            except EngineError as error:
                _log.warning("container %s: its port cannot be held: %s", container.id, error)
            else:
                held[_key(port)] = sockets
        self._joined[container.id] = Joined(container.endpoints, container.published_ports, held)
        self._names.put(container, container.endpoints)
        self._adopted.append(container)
        if Names.are_served(container.endpoints):
            self._unserved[container.id] = container

    def settle(self) -> None:
        """The kernel has what the adopted containers need, and nothing else of this engine. To be called once, after
        the last `adopt`. Raises KERNEL_FEATURE_MISSING, IO_FAILED. Blocking."""
        elements: list[Element] = []
        for joined in self._joined.values():
            for port in joined.ports:
                elements += port_elements(port, joined.endpoints)
        for entry in self._table:
            if entry.endpoints:
                elements += network_elements(entry.network)
        links = frozenset(one.host_interface for joined in self._joined.values() for one in joined.endpoints)
        swept, missing = self._kernel.settle(elements, keep_links=links, link_prefix=self._prefix)
        for name in swept:
            _log.info("the interface %s belonged to no container any more and was removed", name)
        for container in self._adopted:
            for endpoint in container.endpoints:
                if endpoint.host_interface in missing:
                    self._attach_again(container, endpoint)
        self._adopted.clear()

    def serve_again(self) -> None:
        """Names are answered in the adopted containers, whose sockets went with a dead daemon. To be called once, after
        the last `adopt`; some 10 ms for each. Blocking."""
        for container_id in [*self._unserved]:
            container = self._unserved.pop(container_id)
            if container_id in self._joined:
                self._serve_again(container)
            if container_id not in self._joined:
                self._names.stop(container_id)  # it has left meanwhile

    def _attach_again(self, container: Container, endpoint: Endpoint) -> None:
        """An interface that a record has and a dead daemon had not made yet is there."""
        try:
            self._attach(endpoint, self._kernel.open_namespace(container.host_pid))
        except EngineError as error:
            _log.error("container %s: it could not be attached to %s: %s", container.id, endpoint.network_name, error)

    def _serve_again(self, container: Container) -> None:
        try:
            namespace = self._kernel.open_namespace(container.host_pid)
            self._names.serve(container, self.endpoints(container.id), namespace)
        except EngineError as error:
            _log.error("container %s: names cannot be answered in it: %s", container.id, error)

    def rename(self, container: Container) -> None:
        """A container that runs is known by its present name."""
        if container.id in self._joined:
            self._names.put(container, self.endpoints(container.id))

    def connect(self, container: Container, attachment: AttachmentSpec) -> Endpoint:
        """An endpoint on one more network for a container that runs; the kernel is told by `attach_live`.

        Raises as `join`.
        """
        joined = self._joined[container.id]
        with ExitStack() as undo:
            endpoint = self._take(container, attachment, joined.endpoints, undo)
            undo.pop_all()
        has_way_out = any(one.is_default_route for one in joined.endpoints)
        endpoint = replace(endpoint, is_default_route=not has_way_out and not endpoint.is_internal)
        joined.endpoints = (*joined.endpoints, endpoint)
        self._entry(endpoint).endpoints[container.id] = endpoint
        self._names.put(container, [endpoint])
        return endpoint

    def attach_live(self, container: Container, endpoint: Endpoint) -> None:
        """The running container has the interface. Raises IO_FAILED, SUPERVISOR_LOST. Blocking."""
        failpoints.hit("network.connect.attach")
        namespace = self._kernel.open_namespace(container.host_pid)
        self._attach(endpoint, namespace)
        self._names.serve(container, self.endpoints(container.id), namespace)
        if endpoint.is_default_route:
            elements = itertools.chain.from_iterable(port_elements(p, [endpoint]) for p in container.published_ports)
            self._kernel.change_table([*elements], [])

    def disconnect(self, container_id: str, network_id: str) -> Endpoint | None:
        """The container's endpoint on that network, whose addresses are free now; None if it has none."""
        joined = self._joined.get(container_id)
        gone = next((one for one in joined.endpoints if one.network_id == network_id), None) if joined else None
        if joined is None or gone is None:
            return None
        rest = [one for one in joined.endpoints if one is not gone]
        if gone.is_default_route:
            # The first that has a way out takes it over.
            heir = next((one for one in rest if not one.is_internal), None)
            rest = [replace(one, is_default_route=True) if one is heir else one for one in rest]
        joined.endpoints = tuple(rest)
        for endpoint in rest:
            self._entry(endpoint).endpoints[container_id] = endpoint
        self._give_back(container_id, gone)
        return gone

    def detach_live(self, container: Container, gone: Endpoint, rest: Sequence[Endpoint]) -> None:
        """The interface of `gone` is not there any more, and the one of the `rest` that took its way out over gives it;
        published ports lead there. Raises IO_FAILED, SUPERVISOR_LOST. Blocking."""
        failpoints.hit("network.disconnect.detach")
        self._kernel.remove_link(gone.host_interface)
        self._names.restrict(container, rest)
        if not gone.is_default_route:
            return
        ports = container.published_ports
        removed = itertools.chain.from_iterable(port_elements(port, [gone]) for port in ports)
        added = itertools.chain.from_iterable(port_elements(port, rest) for port in ports)
        self._kernel.change_table([*added], [*removed])
        heir = next((one for one in rest if one.is_default_route), None)
        if heir is not None and container.host_pid:
            network = self._entry(heir).network
            self._kernel.open_namespace(container.host_pid).route_by(self._attachment_spec(network, heir))

    def change_ports(
        self, container: Container, added: Sequence[PortSpec], removed: Sequence[PublishedPort]
    ) -> PortChange:
        """What it takes to publish other ports of a container that runs: the added ones are held from now on, until
        `make_change` or `drop_change`.

        Raises PORT_IN_USE, FIELD_INVALID, LIMIT_EXCEEDED; nothing is held then.
        """
        joined = self._joined[container.id]
        kept = tuple(port for port in joined.ports if port not in removed)
        free: Held = {_key(port): joined.held.get(_key(port), ()) for port in removed}
        held: Held = {}
        wanted = expanded(added, "add_published_ports")
        with ExitStack() as undo:
            new = tuple(self._publish(wanted, joined.endpoints, held, undo, free=free, kept_count=len(kept)))
            undo.pop_all()
        return PortChange(new, tuple(removed), held, (*kept, *new))

    def make_change(self, container_id: str, change: PortChange) -> None:
        """What comes to the added ports goes to the container, and to the removed ones does not; those are free.

        Raises IO_FAILED; `drop_change` is the caller's to call then. Blocking.
        """
        joined = self._joined.get(container_id)
        if joined is None:
            return  # it has ended meanwhile, and left
        added = itertools.chain.from_iterable(port_elements(port, joined.endpoints) for port in change.added)
        removed = itertools.chain.from_iterable(port_elements(port, joined.endpoints) for port in change.removed)
        failpoints.hit("network.publish.table")
        self._kernel.change_table([*added], [*removed])
        joined.ports = change.ports
        taken = {_key(port) for port in change.added}
        for key in {_key(port) for port in change.removed} - taken:
            for socket in joined.held.pop(key, ()):
                socket.close()
        joined.held |= change.held

    def drop_change(self, change: PortChange) -> None:
        """The ports that it would have added are free. Idempotent."""
        for socket in itertools.chain.from_iterable(change.held.values()):
            socket.close()

    def endpoints(self, container_id: str) -> tuple[Endpoint, ...]:
        """What the container has now."""
        joined = self._joined.get(container_id)
        return joined.endpoints if joined is not None else ()

    def _take(
        self, container: Container, attachment: AttachmentSpec, others: Sequence[Endpoint], undo: ExitStack
    ) -> Endpoint:
        entry = self._table.find(attachment.network)
        network = entry.network
        holder = f"container {container.name}"
        ipv4 = entry.take(holder, _IPV4, attachment.ipv4_address)
        undo.callback(entry.give_back, ipv4)
        ipv6 = entry.take(holder, _IPV6, attachment.ipv6_address)
        undo.callback(entry.give_back, ipv6)
        ipv4_subnet, ipv6_subnet = network.subnet(_IPV4), network.subnet(_IPV6)
        return Endpoint(
            network_id=network.id,
            network_name=network.name,
            ipv4_address=ipv4,
            ipv6_address=ipv6,
            ipv4_gateway=ipv4_subnet.gateway if ipv4_subnet is not None else "",
            ipv6_gateway=ipv6_subnet.gateway if ipv6_subnet is not None else "",
            mac_address=attachment.mac_address.lower() or mac_of(ipv4.partition("/")[0]),
            interface_name=attachment.interface_name or _free_name({one.interface_name for one in others}),
            host_interface=self._prefix + secrets.token_hex(4),
            aliases=attachment.aliases,
            is_internal=network.is_internal,
            has_names=not network.is_default,
        )

    def _publish(
        self,
        wanted: Sequence[tuple[str, PortSpec]],
        endpoints: Sequence[Endpoint],
        held: Held,
        undo: ExitStack,
        *,
        free: Held | None = None,
        kept_count: int = 0,
    ) -> Iterator[PublishedPort]:
        if len(wanted) + kept_count > MAX_PUBLISHED_PORTS:
            raise LimitExceeded(
                limit="MAX_PUBLISHED_PORTS",
                limit_value=MAX_PUBLISHED_PORTS,
                actual=len(wanted) + kept_count,
                subject="spec.network.published_ports",
            )
        if not any(not endpoint.is_internal for endpoint in endpoints):
            return  # nothing leads to a network without a way out, as Docker has it
        for place, port in wanted:
            address = port.host_address or self._publish_address
            if (address, port.host_port, port.protocol) in (free or ()):
                # The container's own, on its way out.
                yield PublishedPort(port.container_port, port.host_port, address, port.protocol, port.allowed_sources)
                continue
            try:
                sockets, number = self._host_ports.hold(address, port.host_port, port.protocol)
            except EngineError as error:
                raise self._named(error).at(f"{place}.{error.field or 'host_port'}") from None
            for one in sockets:
                undo.callback(one.close)
            published = PublishedPort(port.container_port, number, address, port.protocol, port.allowed_sources)
            held[_key(published)] = sockets
            yield published

    def _named(self, error: EngineError) -> EngineError:
        """The error with the container's name where one of ours holds the port."""
        facts = error.metadata
        for container_id, joined in self._joined.items():
            for port in joined.ports:
                if error.reason == "PORT_IN_USE" and (str(port.host_port), port.protocol) == (
                    facts["port"],
                    facts["protocol"],
                ):
                    holder = f"container {container_id[:12]}"
                    return type(error)(**(facts | {"holder": holder}))
        return error

    def _remember(self, container_id: str, joined: Joined) -> None:
        self._joined[container_id] = joined
        for endpoint in joined.endpoints:
            self._entry(endpoint).endpoints[container_id] = endpoint

    def _give_back(self, container_id: str, endpoint: Endpoint) -> None:
        entry = self._table.get(endpoint.network_id)
        if entry is None:
            return
        entry.endpoints.pop(container_id, None)
        self._names.remove(container_id, endpoint)
        for address in endpoint.addresses:
            entry.give_back(address)

    def _entry(self, endpoint: Endpoint) -> NetworkEntry:
        return self._table.find(endpoint.network_id)

    def _attachment_spec(self, network: Network, endpoint: Endpoint) -> kernel_spec.AttachmentSpec:
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
    """What the table is told of a network."""
    kinds = {
        "bridge": True,
        "internal": network.is_internal,
        "open": not network.is_isolated and not network.is_internal,
        "masqueraded": network.is_masqueraded,
    }
    return [Element(kind, bridge=network.bridge_name) for kind, is_so in kinds.items() if is_so]


def port_elements(port: PublishedPort, endpoints: Sequence[Endpoint]) -> list[Element]:
    """What the table is told of a published port: it leads to the endpoint that gives the way out."""
    target = next((one for one in endpoints if one.is_default_route), None)
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


def _key(port: PublishedPort) -> tuple[str, int, str]:
    return port.host_address, port.host_port, port.protocol


def _each(container: Container) -> Sequence[tuple[str, PortSpec]]:
    """Every port that is to be published by itself, and the field that asks for it; those of a host port come before
    those that take any."""
    spec = container.spec.network
    found = expanded(spec.published_ports, "spec.network.published_ports")
    if spec.publish_all_ports:
        named = {(port.container_port, port.protocol) for _, port in found}
        for exposed in container.image.exposed_ports:
            number, _, protocol = exposed.partition("/")
            protocol = protocol.lower() or "tcp"
            if number.isdecimal() and protocol in PROTOCOL_NUMBERS and (int(number), protocol) not in named:
                found.append(("spec.network.publish_all_ports", PortSpec(int(number), protocol=protocol)))
    return sorted(found, key=lambda one: one[1].host_port == 0)


def _free_name(taken: set[str]) -> str:
    return next(name for number in itertools.count() if (name := f"eth{number}") not in taken)
