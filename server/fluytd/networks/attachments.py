"""Containers on networks: who gets which addresses and ports, and what the kernel is told of it.

A container joins (addresses and ports are taken, on the event loop), is attached (the kernel is told, on a worker),
and after its run is detached (the kernel forgets its ports) and leaves (addresses and ports are free). What it has
stands in its record before the kernel is told, so that a daemon that finds it running takes the same again.
"""

import itertools
import logging
import secrets
from collections.abc import Callable, Sequence
from contextlib import ExitStack, suppress
from dataclasses import replace
from typing import Final

from fluytd import failpoints
from fluytd.containers.model import Container
from fluytd.containers.spec import AttachmentSpec
from fluytd.errors import AddressInUse, EngineError, FieldInvalid
from fluytd.networks.attachment_parts import check_sources, free_name, holder_of, told_at, with_way_out
from fluytd.networks.cni.attachments import PluginNetworks
from fluytd.networks.elements import (
    attachment_spec,
    bridge_spec,
    network_elements,
    port_elements,
    with_default_route,
)
from fluytd.networks.kernel_spec import Element
from fluytd.networks.model import Endpoint, PublishedPort, mac_of
from fluytd.networks.names import Names
from fluytd.networks.ports import Held, HostPorts, Kernel, Namespace
from fluytd.networks.publishing import Joined, Publisher, each, key_of
from fluytd.networks.table import NetworkEntry, NetworkTable

_log = logging.getLogger(__name__)

#: In the name of an interface that waits for a container, behind the engine's prefix.
WAITING_MARK: Final = "_"
_IPV6: Final = 6
_IPV4: Final = 4


class Attachments:
    """Implements `containers.ports.Networking`. `join`, `leave` and `adopt` belong to the event loop; what blocks is
    called on workers."""

    def __init__(
        self,
        table: NetworkTable,
        kernel: Kernel,
        host_ports: HostPorts,
        names: Names,
        plugins: PluginNetworks,
        *,
        link_prefix: str,
        publish_address: str = "",
    ) -> None:
        """`link_prefix`: begins the names of this engine's interfaces, 7 characters. `publish_address`: of the host,
        for ports that name none; empty for all."""
        self._table = table
        self._kernel = kernel
        self._host_ports = host_ports
        self._plugins = plugins
        self._prefix = link_prefix
        self._names = names
        self._joined: dict[str, Joined] = {}
        self._publisher = Publisher(self._joined, kernel, host_ports, publish_address)
        #: Told (by a worker) of a container that has addresses which only its attachment brought.
        self.on_addresses: Callable[[Container], None] = lambda _: None
        #: Those that were found running, until the kernel has what they need.
        self._adopted: list[Container] = []
        #: Those of them in which names are not answered yet.
        self._unserved: dict[str, Container] = {}

    @property
    def publisher(self) -> Publisher:
        """Ports of running containers."""
        return self._publisher

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
            if attachment.ipv6_address and network.is_bridged and not network.has_ipv6:
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
            for index, attachment in enumerate(wanted):
                with told_at(f"spec.network.attachments[{index}]"):
                    endpoints.append(self._take(container, attachment, endpoints, undo))
            chosen = with_default_route(endpoints, wanted)
            held: Held = {}
            published = tuple(self._publisher.publish(each(container), chosen, held, undo))
            undo.pop_all()
        priorities = {endpoint.network_id: one.gateway_priority for endpoint, one in zip(chosen, wanted, strict=True)}
        self._remember(container.id, Joined(chosen, published, held, priorities))
        self._names.put(container, chosen)
        return chosen, published

    def attach(self, container: Container, namespace: Namespace) -> None:
        """The container's namespace has its interfaces, and its ports lead there. Raises KERNEL_FEATURE_MISSING,
        CNI_PLUGIN_FAILED, FIELD_INVALID, IO_FAILED; `detach` and `leave` are the caller's to call then. Blocking."""
        attached = tuple(
            [
                self._attach(container, endpoint, namespace, f"spec.network.attachments[{index}]")
                for index, endpoint in enumerate(container.endpoints)
            ]
        )
        if attached != container.endpoints:
            self._learn(container, attached)
        self._names.serve(container, container.endpoints, namespace)
        self._kernel.change_table(
            [*itertools.chain.from_iterable(port_elements(p, container.endpoints) for p in container.published_ports)],
            [],
        )
        self._publisher.lead(container.id)

    def make_waiting(self, namespace: Namespace) -> None:
        """An interface waits in the namespace, of no container yet: the first `attach` there takes it. By its name the
        next daemon knows the host's end as one of this engine's, and removes it. Raises KERNEL_FEATURE_MISSING,
        IO_FAILED. Blocking."""
        self._kernel.make_waiting(f"{self._prefix}{WAITING_MARK}{secrets.token_hex(4)[1:]}", namespace)

    def _attach(self, container: Container, endpoint: Endpoint, namespace: Namespace, place: str) -> Endpoint:
        """The endpoint as it is now: what plugins gave it is not known before. `place`: the field that asks for it."""
        entry = self._table.get(endpoint.network_id)
        if entry is None:
            raise FieldInvalid(field="network", rule=f"{endpoint.network_name} was deleted meanwhile")
        network = entry.network
        if not network.is_bridged:
            if endpoint.is_default_route:
                check_sources(container, network.name)
            with told_at(place):
                return self._plugins.add(container.id, network, endpoint, container.published_ports, namespace)
        self._kernel.make_bridge(bridge_spec(network), network_elements(network))
        self._kernel.attach(attachment_spec(network, endpoint), namespace)
        return endpoint

    def _learn(self, container: Container, endpoints: tuple[Endpoint, ...]) -> None:
        self._joined[container.id].endpoints = endpoints
        for endpoint in endpoints:
            self._entry(endpoint).endpoints[container.id] = endpoint
        self._names.put(container, [one for one in endpoints if not one.is_bridged])
        self.on_addresses(replace(container, endpoints=endpoints))

    def detach(self, container_id: str) -> None:
        """Nothing of the host leads to the container any more. Idempotent. Raises IO_FAILED. Blocking."""
        self._names.stop(container_id)
        joined = self._joined.get(container_id)
        if joined is not None:
            elements = [port_elements(port, joined.endpoints) for port in joined.ports]
            self._kernel.change_table([], [*itertools.chain.from_iterable(elements)])
        self._plugins.remove(container_id)

    def leave(self, container_id: str) -> list[str]:
        """Its addresses and ports are free. Idempotent. Returns the host's interfaces that led to it: they go with its
        namespace, and are to be removed where that lives on."""
        joined = self._joined.pop(container_id, None)
        self._names.stop(container_id)
        if joined is None:
            return []
        self._host_ports.release(itertools.chain.from_iterable(joined.held.values()))
        for endpoint in joined.endpoints:
            self._give_back(container_id, endpoint)
        return [endpoint.host_interface for endpoint in joined.endpoints if endpoint.is_bridged]

    def remove_links(self, names: Sequence[str]) -> None:
        """These interfaces are gone. Raises IO_FAILED. Blocking (20 ms for each that still is there)."""
        for name in names:
            self._kernel.remove_link(name)

    def adopt(self, container: Container) -> None:
        """A container that was found running has what its record says. What another program has taken meanwhile is
        logged: the table leads to the container all the same."""
        held: Held = {}
        container = replace(container, endpoints=tuple([self._recorded(container, one) for one in container.endpoints]))
        for endpoint in container.endpoints:
            entry = self._table.get(endpoint.network_id)
            if entry is None:
                _log.error("container %s: its network %s has no record", container.id, endpoint.network_name)
                continue
            entry.endpoints[container.id] = endpoint
            for address in endpoint.addresses if endpoint.is_bridged else ():
                text, version = address.partition("/")[0], _IPV6 if ":" in address else _IPV4
                try:
                    entry.take(holder_of(container), version, text)
                except AddressInUse as error:
                    _log.error("container %s: %s", container.id, error)
        for port in container.published_ports:
            try:
                sockets, _ = self._host_ports.hold(port.host_address, port.host_port, port.protocol)
            except EngineError as error:
                _log.warning("container %s: its port cannot be held: %s", container.id, error)
            else:
                held[key_of(port)] = sockets
        priorities = self._priorities(container)
        self._joined[container.id] = Joined(container.endpoints, container.published_ports, held, priorities)
        self._names.put(container, container.endpoints)
        self._adopted.append(container)
        if Names.are_served(container.endpoints) or self._plugins.has(container.id):
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
        endpoints = (one for joined in self._joined.values() for one in joined.endpoints)
        links = frozenset(one.host_interface for one in endpoints if one.is_bridged)
        swept, missing = self._kernel.settle(elements, keep_links=links, link_prefix=self._prefix)
        for name in swept:
            _log.info("the interface %s belonged to no container any more and was removed", name)
        for container in self._adopted:
            for endpoint in container.endpoints:
                if endpoint.host_interface in missing or not self._is_attached(container, endpoint):
                    self._attach_again(container, endpoint)
            if swept:
                self._route_again(container)
            self._publisher.lead(container.id)
        self._adopted.clear()
        self._plugins.sweep(self._joined)

    def serve_again(self) -> None:
        """Names are answered in the adopted containers, whose sockets went with a dead daemon, and plugins have said
        what is wrong with what they gave. To be called once, after the last `adopt`; some 10 ms for each. Blocking."""
        for container_id in [*self._unserved]:
            container = self._unserved.pop(container_id)
            if container_id in self._joined:
                self._serve_again(container)
                self._check_plugins(container)
            if container_id not in self._joined:
                # It has left meanwhile.
                self._names.stop(container_id)
                self._plugins.remove(container_id)

    def _attach_again(self, container: Container, endpoint: Endpoint) -> None:
        """An interface that a record has and a dead daemon had not made yet is there."""
        try:
            namespace = self._kernel.open_namespace(container.host_pid)
            if not endpoint.is_bridged:
                self._plugins.hold(container.id, namespace)
                self._plugins.remove(container.id, endpoint.network_id)
            attached = self._attach(container, endpoint, namespace, "spec.network.attachments")
            if attached != endpoint:
                others = self.endpoints(container.id)
                self._learn(container, tuple(attached if one == endpoint else one for one in others))
        except EngineError as error:
            _log.error("container %s: it could not be attached to %s: %s", container.id, endpoint.network_name, error)

    def _route_again(self, container: Container) -> None:
        """What a dead daemon was taking away may have been the way out, which the record says is another one."""
        try:
            self._route_by(container, container.endpoints)
        except EngineError as error:
            _log.error("container %s: its way out is not as recorded: %s", container.id, error)

    def _serve_again(self, container: Container) -> None:
        try:
            namespace = self._kernel.open_namespace(container.host_pid)
            self._names.serve(container, self.endpoints(container.id), namespace)
        except EngineError as error:
            _log.error("container %s: names cannot be answered in it: %s", container.id, error)

    def _check_plugins(self, container: Container) -> None:
        """Plugins say whether what they gave an adopted container is still there; and they will find its namespace."""
        if not self._plugins.has(container.id):
            return
        try:
            self._plugins.hold(container.id, self._kernel.open_namespace(container.host_pid))
            for wrong in self._plugins.check(container.id):
                _log.error("container %s: %s", container.id, wrong)
        except EngineError as error:
            _log.error("container %s: its plugins cannot be asked: %s", container.id, error)

    def _is_attached(self, container: Container, endpoint: Endpoint) -> bool:
        return endpoint.is_bridged or self._plugins.is_complete(container.id, endpoint.network_id)

    def _recorded(self, container: Container, endpoint: Endpoint) -> Endpoint:
        return endpoint if endpoint.is_bridged else self._plugins.recorded(container.id, endpoint)

    def rename(self, container: Container) -> None:
        """A container that runs is known by its present name."""
        if container.id in self._joined:
            self._names.put(container, self.endpoints(container.id))

    def connect(self, container: Container, attachment: AttachmentSpec) -> Endpoint:
        """An endpoint on one more network for a container that runs; the kernel is told by `attach_live`. It gives the
        way out if its priority is above that of all others.

        Raises as `join`.
        """
        joined = self._joined[container.id]
        with ExitStack() as undo:
            with told_at("attachment"):
                endpoint = self._take(container, attachment, joined.endpoints, undo)
            undo.pop_all()
        joined.priorities[endpoint.network_id] = attachment.gateway_priority
        joined.endpoints = with_way_out(joined, (*joined.endpoints, endpoint))
        for one in joined.endpoints:
            self._entry(one).endpoints[container.id] = one
        self._names.put(container, [endpoint])
        return joined.endpoints[-1]

    def attach_live(self, container: Container, endpoint: Endpoint) -> None:
        """The running container, whose record is that of before, has the interface; published ports lead there if it
        gives the way out now. Raises IO_FAILED, SUPERVISOR_LOST. Blocking."""
        failpoints.hit("network.connect.attach")
        namespace = self._kernel.open_namespace(container.host_pid)
        try:
            attached = self._attach(container, endpoint, namespace, "attachment")
        except EngineError:
            self._plugins.remove(container.id, endpoint.network_id)
            raise
        if attached != endpoint:
            others = self.endpoints(container.id)
            self._learn(container, tuple(attached if one == endpoint else one for one in others))
            endpoint = attached
        self._names.serve(container, self.endpoints(container.id), namespace)
        if endpoint.is_default_route:
            ports = container.published_ports
            added = itertools.chain.from_iterable(port_elements(port, [endpoint]) for port in ports)
            removed = itertools.chain.from_iterable(port_elements(port, container.endpoints) for port in ports)
            self._kernel.change_table([*added], [*removed])
            self._publisher.lead(container.id)

    def disconnect(self, container_id: str, network_id: str) -> Endpoint | None:
        """The container's endpoint on that network, whose addresses are free now; None if it has none."""
        joined = self._joined.get(container_id)
        gone = next((one for one in joined.endpoints if one.network_id == network_id), None) if joined else None
        if joined is None or gone is None:
            return None
        joined.priorities.pop(network_id, None)
        joined.endpoints = with_way_out(joined, [one for one in joined.endpoints if one is not gone])
        for endpoint in joined.endpoints:
            self._entry(endpoint).endpoints[container_id] = endpoint
        self._give_back(container_id, gone)
        return gone

    def detach_live(self, container: Container, gone: Endpoint, rest: Sequence[Endpoint]) -> None:
        """The interface of `gone` is not there any more, and the one of the `rest` that took its way out over gives it;
        published ports lead there. Raises IO_FAILED, SUPERVISOR_LOST. Blocking."""
        failpoints.hit("network.disconnect.detach")
        if gone.is_default_route:
            # Before the interface goes, by which a next daemon knows that this was not completed.
            self._route_by(container, rest)
        if gone.is_bridged:
            self._kernel.remove_link(gone.host_interface)
        else:
            self._plugins.hold(container.id, self._kernel.open_namespace(container.host_pid))
            self._plugins.remove(container.id, gone.network_id)
        self._names.restrict(container, rest)
        if not gone.is_default_route:
            return
        ports = container.published_ports
        removed = itertools.chain.from_iterable(port_elements(port, [gone]) for port in ports)
        added = itertools.chain.from_iterable(port_elements(port, rest) for port in ports)
        self._kernel.change_table([*added], [*removed])
        self._publisher.lead(container.id)

    def _route_by(self, container: Container, endpoints: Sequence[Endpoint]) -> None:
        """The container's way out is by the endpoint that gives it. Raises IO_FAILED, SUPERVISOR_LOST. Blocking."""
        way = next((one for one in endpoints if one.is_default_route and one.is_bridged), None)
        if way is not None and container.host_pid:
            spec = attachment_spec(self._entry(way).network, way)
            self._kernel.open_namespace(container.host_pid).route_by(spec)

    def _priorities(self, container: Container) -> dict[str, int]:
        found = {}
        for one in container.spec.network.attachments:
            with suppress(EngineError):  # a network without a record is told of elsewhere
                found[self.id_of(one.network)] = one.gateway_priority
        return found

    def endpoints(self, container_id: str) -> tuple[Endpoint, ...]:
        """What the container has now."""
        joined = self._joined.get(container_id)
        return joined.endpoints if joined is not None else ()

    def _take(
        self, container: Container, attachment: AttachmentSpec, others: Sequence[Endpoint], undo: ExitStack
    ) -> Endpoint:
        entry = self._table.find(attachment.network)
        network = entry.network
        name = attachment.interface_name or free_name({one.interface_name for one in others})
        if not network.is_bridged:
            # Until plugins have answered, the addresses are those that the caller wants.
            return Endpoint(
                network_id=network.id,
                network_name=network.name,
                ipv4_address=attachment.ipv4_address,
                ipv6_address=attachment.ipv6_address,
                ipv4_gateway="",
                ipv6_gateway="",
                mac_address=attachment.mac_address.lower(),
                interface_name=name,
                host_interface="",
                aliases=attachment.aliases,
                driver=network.driver,
                has_names=True,
            )
        holder = holder_of(container)
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
            interface_name=name,
            host_interface=self._prefix + secrets.token_hex(4),
            aliases=attachment.aliases,
            is_internal=network.is_internal,
            has_names=not network.is_default,
        )

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
