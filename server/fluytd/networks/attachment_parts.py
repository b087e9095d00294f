"""What attaching a container decides by itself: names, the way out, and which field of a request is wrong. Pure."""

import itertools
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Final

from fluytd.containers.model import Container
from fluytd.containers.spec import AttachmentSpec
from fluytd.errors import FieldInvalid
from fluytd.networks.elements import with_default_route
from fluytd.networks.model import Endpoint
from fluytd.networks.publishing import Joined

#: Fields of an attachment that are wrong only for the network that it names.
_OF_ATTACHMENT: Final = frozenset({"ipv4_address", "ipv6_address", "mac_address"})


@contextmanager
def told_at(place: str) -> Iterator[None]:
    """What is wrong with a field of an attachment is told with the attachment's place in the request."""
    try:
        yield
    except FieldInvalid as error:
        if error.field not in _OF_ATTACHMENT:
            raise
        raise FieldInvalid(field=f"{place}.{error.field}", rule=error.metadata["rule"]) from None


def check_sources(container: Container, network_name: str) -> None:
    """Raises FIELD_INVALID for a port that only some may reach: no plugin can be told of that."""
    for index, port in enumerate(container.spec.network.published_ports):
        if port.allowed_sources:
            field = f"spec.network.published_ports[{index}].allowed_sources"
            rule = f"cannot be carried out on {network_name}: CNI has no sources of a port"
            raise FieldInvalid(field=field, rule=rule)


def holder_of(container: Container) -> str:
    """Who an error names."""
    return f"container {container.name}"


def with_way_out(joined: Joined, endpoints: Sequence[Endpoint]) -> tuple[Endpoint, ...]:
    """The endpoints, the one of the highest priority as the way out."""
    wanted = [
        AttachmentSpec(one.network_id, gateway_priority=joined.priorities.get(one.network_id, 0)) for one in endpoints
    ]
    return with_default_route(endpoints, wanted)


def free_name(taken: set[str]) -> str:
    """The first of eth0, eth1, … that no interface has."""
    return next(name for number in itertools.count() if (name := f"eth{number}") not in taken)
