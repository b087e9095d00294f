"""Ports by which containers are chosen in lists. Pure."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from fluytd.containers.model import Container
from fluytd.errors import FieldInvalid

MAX_PORT: Final = 65_535
#: `80`, `53/udp`, `8000-8010/tcp`.
_PORTS: Final = re.compile(r"([0-9]{1,5})(?:-([0-9]{1,5}))?(?:/(tcp|udp|sctp))?", re.ASCII | re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class PortRange:
    """Ports inside of a container: `first` to `last`, of one protocol."""

    first: int
    last: int
    protocol: str = "tcp"

    def meets(self, other: "PortRange") -> bool:
        """Whether a port is in both."""
        return self.protocol == other.protocol and self.first <= other.last and other.first <= self.last


def from_text(text: str, field: str) -> PortRange:
    """The ports that are written so. Raises FIELD_INVALID."""
    found = _PORTS.fullmatch(text)
    first, last = (int(found[1]), int(found[2] or found[1])) if found is not None else (0, 0)
    if found is None or not 1 <= first <= last <= MAX_PORT:
        raise FieldInvalid(field=field, rule=f"must be ports of 1 to {MAX_PORT} as `80`, `53/udp` or `8000-8010/tcp`")
    return PortRange(first, last, (found[3] or "tcp").lower())


def is_published(container: Container, wanted: tuple[PortRange, ...]) -> bool:
    """Whether one of these ports is published, or is asked to be when it runs."""
    return any(one.meets(ports) for ports in _published(container) for one in wanted)


def is_exposed(container: Container, wanted: tuple[PortRange, ...]) -> bool:
    """Whether the image, the spec or a published port exposes one of these."""
    return any(one.meets(ports) for ports in (*_exposed(container), *_published(container)) for one in wanted)


def _published(container: Container) -> Iterator[PortRange]:
    for asked in container.spec.network.published_ports:
        yield PortRange(asked.container_port, asked.container_port + asked.port_count - 1, asked.protocol)
    # Those of `publish_all_ports` too.
    for port in container.published_ports:
        yield PortRange(port.container_port, port.container_port, port.protocol)


def _exposed(container: Container) -> Iterator[PortRange]:
    for text in (*container.image.exposed_ports, *container.spec.network.exposed_ports):
        if _PORTS.fullmatch(text):  # an image may say what is no port
            first, _, protocol = text.partition("/")
            begin, _, end = first.partition("-")
            yield PortRange(int(begin), int(end or begin), (protocol or "tcp").lower())
