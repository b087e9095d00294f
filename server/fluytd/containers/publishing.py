"""Which ports a container publishes once some come and some go. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

from fluytd.containers.model import Container
from fluytd.containers.spec import NetworkMode, PortSpec
from fluytd.errors import FieldInvalid
from fluytd.networks.model import MAX_PUBLISHED_PORTS, PublishedPort


@dataclass(frozen=True, slots=True)
class PortChanges:
    """What a caller asks for."""

    added: tuple[PortSpec, ...] = ()
    #: What is left open in one (host port 0, no host address) fits any.
    removed: tuple[PortSpec, ...] = ()


NO_CHANGES: Final = PortChanges()


def expanded(ports: Sequence[PortSpec], place: str) -> list[tuple[str, PortSpec]]:
    """Each port by itself, with the field that asks for it, in order; one more than MAX_PUBLISHED_PORTS at most."""
    found: list[tuple[str, PortSpec]] = []
    for index, asked in enumerate(ports):
        for offset in range(asked.port_count):
            if len(found) > MAX_PUBLISHED_PORTS:
                return found
            host_port = asked.host_port + offset if asked.host_port else 0
            one = replace(asked, container_port=asked.container_port + offset, host_port=host_port, port_count=1)
            found.append((f"{place}[{index}]", one))
    return found


def changed(container: Container, changes: PortChanges) -> tuple[tuple[PortSpec, ...], tuple[PublishedPort, ...]]:
    """(what it is to publish from now on, which of the ports of its run go).

    Raises FIELD_INVALID: it is on no network of the engine, or publishes no such port (`remove_published_ports[i]`).
    """
    spec = container.spec.network
    if spec.mode is not NetworkMode.BRIDGE:
        field = "add_published_ports" if changes.added else "remove_published_ports"
        raise FieldInvalid(field=field, rule="needs a container on networks of the engine")
    kept = list(spec.published_ports)
    gone: list[PublishedPort] = []
    for place, wanted in expanded(changes.removed, "remove_published_ports"):
        kept = [one for _, one in expanded(kept, "")]
        live = [port for port in container.published_ports if _fits(wanted, port) and port not in gone]
        found = [one for one in kept if _fits(wanted, one)]
        for port in live:
            # What it came of: the same number, else any number.
            origin = max((one for one in kept if _fits(one, port)), key=lambda one: one.host_port, default=None)
            found += [origin] if origin is not None and origin not in found else []
        if not live and not found:
            raise FieldInvalid(field=place, rule="is no port that the container publishes")
        gone += live
        for one in found:
            kept.remove(one)
    return (*kept, *changes.added), tuple(gone)


def _fits(wanted: PortSpec, port: PortSpec | PublishedPort) -> bool:
    last = port.host_port + (port.host_port_count if isinstance(port, PortSpec) else 1) - 1
    return (
        (wanted.container_port, wanted.protocol) == (port.container_port, port.protocol)
        and (
            not wanted.host_port
            or wanted.host_port <= port.host_port <= last < wanted.host_port + wanted.host_port_count
        )
        and wanted.host_address in ("", port.host_address)
    )
