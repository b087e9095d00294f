"""Ports of the host's IPv6 loopback address that lead to containers. One thread of the core serves all of them."""

from collections.abc import Sequence
from typing import final

@final
class Forwarder:
    """Takes ports of `::1`. Shared between threads."""

    def __new__(cls) -> Forwarder:
        """Has none; the thread begins with the first."""
    def listen(self, protocol: str, port: int) -> Port:
        """The port of `::1` (0: a free one), `tcp` or `udp`, until it is closed or dropped; what comes there waits for
        `lead_to`. A socket that the caller has bound to the port of all addresses needs SO_REUSEADDR meanwhile. Raises
        IO_FAILED (errno EADDRINUSE, EADDRNOTAVAIL or EAFNOSUPPORT among others). Never blocks for long."""
    def settle(self) -> None:
        """Ports of any address that were closed before are free: no child of this process has their sockets that was
        made meanwhile and is not another program yet. Blocks for about 1 ms while a child is made, else not at all."""

@final
class Port:
    """One port of `::1`. Shared between threads."""

    @property
    def number(self) -> int:
        """Its number."""
    def lead_to(self, targets: Sequence[str]) -> None:
        """What comes from now on goes to the first of these (`10.0.0.2:80`, `[fd00::2]:80`) that takes it; connections
        stay where they are. With none it waits. Raises ValueError. Never blocks."""
    def close(self) -> None:
        """The port is free, and its connections are cut. Idempotent. Never blocks for long (well below 1 ms)."""
