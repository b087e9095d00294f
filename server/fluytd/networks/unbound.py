"""Ports of protocols that the kernel has no sockets for. Nobody but containers of this engine can have them, so that it
is enough to know who has which."""

import ipaddress
import random
import threading
from typing import Final

from fluytd.errors import PortInUse

#: How often another number is tried where any will do.
MAX_RANDOM_TRIES: Final = 64
#: Numbers for who asks for any. Source: RFC 6335, the dynamic ports.
FIRST_ANY, LAST_ANY = 49_152, 65_535

_Key = tuple[ipaddress.IPv4Address | ipaddress.IPv6Address, int, str]


class UnboundPort:
    """Implements `ports.HeldPort`."""

    def __init__(self, owner: "UnboundPorts", key: _Key) -> None:
        self._owner = owner
        self._key = key

    @property
    def number(self) -> int:
        """The port."""
        return self._key[1]

    def close(self) -> None:
        """See `ports.HeldPort.close`."""
        self._owner.give_back(self._key)


class UnboundPorts:
    """Who has which; any thread may ask."""

    def __init__(self) -> None:
        self._taken: set[_Key] = set()
        self._lock = threading.Lock()

    def take(self, address: str, port: int, protocol: str) -> UnboundPort:
        """The port of that address is the caller's until it is closed; 0 takes a free one. Raises PORT_IN_USE."""
        where = ipaddress.ip_address(address)
        chosen = random.SystemRandom()
        numbers = [port] if port else [chosen.randint(FIRST_ANY, LAST_ANY) for _ in range(MAX_RANDOM_TRIES)]
        with self._lock:
            for number in numbers:
                key = (where, number, protocol)
                if not any(_collide(key, other) for other in self._taken):
                    self._taken.add(key)
                    return UnboundPort(self, key)
        raise PortInUse(address=address, port=port or "(any)", protocol=protocol, holder="others")

    def give_back(self, key: _Key) -> None:
        """The port is free. Idempotent."""
        with self._lock:
            self._taken.discard(key)


def _collide(one: _Key, other: _Key) -> bool:
    """Whether what comes to one could be meant for the other, as bind(2) has it."""
    if one[1:] != other[1:] or one[0].version != other[0].version:
        return False
    return one[0] == other[0] or one[0].is_unspecified or other[0].is_unspecified
