"""Ports of the host that lead to containers: held before anything is made, changed while a container runs."""

import ipaddress
import itertools
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Final

from fluytd import failpoints
from fluytd.containers.model import Container
from fluytd.containers.publishing import expanded
from fluytd.containers.spec import PortSpec
from fluytd.errors import EngineError, FieldInvalid, LimitExceeded, PortInUse
from fluytd.networks.elements import forward_targets, port_elements
from fluytd.networks.model import MAX_PUBLISHED_PORTS, PROTOCOL_NUMBERS, Endpoint, PublishedPort
from fluytd.networks.ports import Forwarding, Held, HeldPort, HostPorts, Kernel, PortChange

NOTHING_FREE: Final[Mapping[tuple[str, int, str], object]] = {}


@dataclass(slots=True)
class Joined:
    """What one container has."""

    endpoints: tuple[Endpoint, ...]
    ports: tuple[PublishedPort, ...]
    held: Held = field(default_factory=dict)
    #: By network, as the caller wants the way out.
    priorities: dict[str, int] = field(default_factory=dict)


class Publisher:
    """Ports of those containers that have joined."""

    def __init__(
        self, joined: Mapping[str, Joined], kernel: Kernel, host_ports: HostPorts, publish_address: str
    ) -> None:
        """`joined`: by container, kept by another. `publish_address`: of the host, for ports that name none; empty for
        all."""
        self._joined = joined
        self._kernel = kernel
        self._host_ports = host_ports
        self._publish_address = publish_address

    def publish(
        self,
        wanted: Sequence[tuple[str, PortSpec]],
        endpoints: Sequence[Endpoint],
        held: Held,
        undo: ExitStack,
        *,
        free: Mapping[tuple[str, int, str], object] = NOTHING_FREE,
        kept_count: int = 0,
    ) -> Iterator[PublishedPort]:
        """Each port as it is published, held from now on: what holds it goes into `held`, and its release into `undo`.
        `free`: what a removed port holds already. Raises PORT_IN_USE, FIELD_INVALID, LIMIT_EXCEEDED."""
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
            choices = range(port.host_port, port.host_port + port.host_port_count)
            own = next((one for one in choices if (address, one, port.protocol) in free), None)
            if own is not None:
                # The container's own, on its way out.
                free = {key: value for key, value in free.items() if key != (address, own, port.protocol)}
                yield PublishedPort(port.container_port, own, address, port.protocol, port.allowed_sources)
                continue
            try:
                sockets, number = self._hold(address, choices, port.protocol)
            except EngineError as error:
                raise _named(self._joined, held, error).at(f"{place}.{error.field or 'host_port'}") from None
            undo.callback(self._host_ports.release, sockets)
            published = PublishedPort(port.container_port, number, address, port.protocol, port.allowed_sources)
            held[key_of(published)] = sockets
            yield published

    def _hold(self, address: str, choices: range, protocol: str) -> tuple[Sequence[HeldPort], int]:
        """The first of these ports that is free. Raises PORT_IN_USE, FIELD_INVALID, IO_FAILED."""
        if len(choices) == 1:
            return self._host_ports.hold(address, choices[0], protocol)
        for number in choices:
            try:
                return self._host_ports.hold(address, number, protocol, names_holder=False)
            except PortInUse:
                continue
        span = f"{choices[0]}-{choices[-1]}"
        raise PortInUse(address=address or "the host", port=span, protocol=protocol, holder="others, each of them")

    def lead(self, container_id: str) -> None:
        """What forwarders of the container's ports take goes where it is now. Never blocks."""
        joined = self._joined.get(container_id)
        if joined is None:
            return  # it has ended meanwhile, and left
        for port in joined.ports:
            for one in joined.held.get(key_of(port), ()):
                if isinstance(one, Forwarding):
                    failpoints.hit("network.forward.lead")
                    one.lead_to(forward_targets(port, joined.endpoints))

    def change(self, container: Container, added: Sequence[PortSpec], removed: Sequence[PublishedPort]) -> PortChange:
        """What it takes to publish other ports of a container that runs: the added ones are held from now on, until
        `make` or `drop`.

        Raises PORT_IN_USE, FIELD_INVALID, LIMIT_EXCEEDED; nothing is held then.
        """
        joined = self._joined[container.id]
        way_out = next((one for one in joined.endpoints if one.is_default_route), None)
        if way_out is not None and not way_out.is_bridged:
            rule = f"the plugins of {way_out.network_name} are told of ports at the start of a container alone"
            raise FieldInvalid(field="add_published_ports" if added else "remove_published_ports", rule=rule)
        kept = tuple(port for port in joined.ports if port not in removed)
        free: Held = {key_of(port): joined.held.get(key_of(port), ()) for port in removed}
        held: Held = {}
        wanted = expanded(added, "add_published_ports")
        with ExitStack() as undo:
            new = tuple(self.publish(wanted, joined.endpoints, held, undo, free=free, kept_count=len(kept)))
            undo.pop_all()
        return PortChange(new, tuple(removed), held, (*kept, *new))

    def make(self, container_id: str, change: PortChange) -> None:
        """What comes to the added ports goes to the container, and to the removed ones does not; those are free.

        Raises IO_FAILED; `drop` is the caller's to call then. Blocking.
        """
        joined = self._joined.get(container_id)
        if joined is None:
            return  # it has ended meanwhile, and left
        added = itertools.chain.from_iterable(port_elements(port, joined.endpoints) for port in change.added)
        removed = itertools.chain.from_iterable(port_elements(port, joined.endpoints) for port in change.removed)
        failpoints.hit("network.publish.table")
        self._kernel.change_table([*added], [*removed])
        joined.ports = change.ports
        taken = {key_of(port) for port in change.added}
        gone = [joined.held.pop(key, ()) for key in {key_of(port) for port in change.removed} - taken]
        self._host_ports.release(itertools.chain.from_iterable(gone))
        joined.held |= change.held
        self.lead(container_id)

    def drop(self, change: PortChange) -> None:
        """The ports that it would have added are free. Idempotent."""
        self._host_ports.release(itertools.chain.from_iterable(change.held.values()))


def _named(joined_by_id: Mapping[str, Joined], held: Held, error: EngineError) -> EngineError:
    """The error with the container's name where one of ours holds the port; `held`: by the container that asks."""
    if error.reason != "PORT_IN_USE":
        return error
    facts = error.metadata

    def is_it(key: tuple[str, int, str]) -> bool:
        address, number, protocol = key
        return (str(number), protocol) == (facts["port"], facts["protocol"]) and meet(address, facts["address"])

    holders = {f"container {container_id[:12]}": map(key_of, one.ports) for container_id, one in joined_by_id.items()}
    for holder, keys in ({"another port of the same container": held} | holders).items():
        if any(map(is_it, keys)):
            return PortInUse(**(facts | {"holder": holder}))
    return error


def meet(one: str, other: str) -> bool:
    """Whether addresses of the host have one in common; an empty one is all of both families."""
    if not one or not other:
        return True
    first, second = ipaddress.ip_address(one), ipaddress.ip_address(other)
    return first.version == second.version and (first == second or first.is_unspecified or second.is_unspecified)


def key_of(port: PublishedPort) -> tuple[str, int, str]:
    """What a held port is known by."""
    return port.host_address, port.host_port, port.protocol


def each(container: Container) -> Sequence[tuple[str, PortSpec]]:
    """Every port that is to be published by itself, and the field that asks for it; those of a host port come before
    those of a range, and those before what takes any."""
    spec = container.spec.network
    found = expanded(spec.published_ports, "spec.network.published_ports")
    if spec.publish_all_ports:
        named = {(port.container_port, port.protocol) for _, port in found}
        for exposed in dict.fromkeys((*container.image.exposed_ports, *spec.exposed_ports)):
            number, _, protocol = exposed.partition("/")
            protocol = protocol.lower() or "tcp"
            if number.isdecimal() and protocol in PROTOCOL_NUMBERS and (int(number), protocol) not in named:
                found.append(("spec.network.publish_all_ports", PortSpec(int(number), protocol=protocol)))
    return sorted(found, key=lambda one: (one[1].host_port == 0, one[1].host_port_count > 1))
