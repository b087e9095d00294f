"""Ports of the host, each held by a socket that is bound and never read, so that nobody else can bind it.

At ::1 nothing would lead from there to a container (docs/decisions/0028), so that a forwarder listens. Ports of a
protocol that the kernel lacks (SCTP, for programs that bring their own) nobody else can have: they are told apart here.
"""

import errno
import ipaddress
import socket
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Final, Protocol

from fluytd.errors import EngineError, FieldInvalid, IoFailed, PortInUse
from fluytd.networks.ports import Forwarding, HeldPort
from fluytd.networks.unbound import UnboundPorts

#: How often another number is tried when one that is free for IPv4 is not for IPv6.
MAX_RANDOM_TRIES: Final = 64
#: Processes that are looked at in order to name the holder of a port.
MAX_SCANNED_PROCESSES: Final = 8_192
_TYPES: Final = {
    "tcp": (socket.SOCK_STREAM, socket.IPPROTO_TCP),
    "udp": (socket.SOCK_DGRAM, socket.IPPROTO_UDP),
    "sctp": (socket.SOCK_STREAM, 132),
}
#: Answers that say: the host has no such family or protocol.
_ABSENT: Final = frozenset({errno.EAFNOSUPPORT, errno.EADDRNOTAVAIL, errno.EPROTONOSUPPORT, errno.ESOCKTNOSUPPORT})


#: What a forwarder passes on.
_FORWARDED: Final = frozenset({"tcp", "udp"})
_LOOPBACK: Final = "::1"
_LOOPBACK_ADDRESS: Final = ipaddress.ip_address(_LOOPBACK)


class LoopbackPort(Forwarding, Protocol):
    """See `_core.forward.Port`."""

    @property
    def number(self) -> int:
        """See there."""


class Loopback(Protocol):
    """Ports of ::1; see `_core.forward.Forwarder`."""

    def listen(self, protocol: str, port: int) -> LoopbackPort:
        """See there."""

    def settle(self) -> None:
        """See there."""


class SocketPorts:
    """Implements `ports.HostPorts`."""

    def __init__(self, loopback: Loopback) -> None:
        """`loopback`: who listens at ::1."""
        self._loopback = loopback
        self._unbound = UnboundPorts()

    def hold(
        self, address: str, port: int, protocol: str, *, names_holder: bool = True
    ) -> tuple[Sequence[HeldPort], int]:
        """See `ports.HostPorts.hold`."""
        for _ in range(MAX_RANDOM_TRIES):
            try:
                return self._hold(address, port, protocol)
            except PortInUse as error:
                if port and names_holder:
                    facts = error.metadata | {"holder": holder_of(port, protocol)}
                    raise PortInUse(**facts) from None
                if port:
                    raise
        raise PortInUse(address=address or "the host", port="(any)", protocol=protocol, holder="others")

    def release(self, held: Iterable[HeldPort]) -> None:
        """See `ports.HostPorts.release`."""
        has_any = False
        for one in held:
            one.close()
            has_any = True
        if has_any:
            self._loopback.settle()

    def _hold(self, address: str, port: int, protocol: str) -> tuple[list[HeldPort], int]:
        held: list[HeldPort] = []
        try:
            for one in [address] if address else ["0.0.0.0", "::"]:  # noqa: S104 - what was asked
                is_ipv6 = ":" in one
                if is_ipv6 and protocol in _FORWARDED and ipaddress.ip_address(one) == _LOOPBACK_ADDRESS:
                    listening = self._listen(port, protocol)
                    held.append(listening)
                    port = listening.number
                    continue
                bound = _bind(one, port, protocol, is_optional=not address)
                if bound is None and protocol not in _FORWARDED:
                    if address:
                        _check_is_here(one)
                    unbound = self._unbound.take(one, port, protocol)
                    held.append(unbound)
                    port = unbound.number
                    continue
                if bound is None:
                    continue
                held.append(bound)
                port = port or bound.getsockname()[1]
                if is_ipv6 and protocol in _FORWARDED and ipaddress.ip_address(one).is_unspecified:
                    held += self._listen_beside(bound, port, protocol)
        except BaseException:
            for one_held in held:
                one_held.close()
            raise
        return held, port

    def _listen_beside(self, bound: socket.socket, port: int, protocol: str) -> list[HeldPort]:
        """What listens at ::1 where the port of all addresses is held; nothing where there is no ::1."""
        # Two sockets have one port if both say so while they are bound. Afterwards neither does: else a third would.
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            return [self._loopback.listen(protocol, port)]
        except IoFailed as error:
            if int(error.metadata["errno"]) in _ABSENT:
                return []
            raise _refused(OSError(int(error.metadata["errno"]), ""), _LOOPBACK, port, protocol) from error
        finally:
            bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 0)

    def _listen(self, port: int, protocol: str) -> LoopbackPort:
        try:
            return self._loopback.listen(protocol, port)
        except IoFailed as error:
            raise _refused(OSError(int(error.metadata["errno"]), ""), _LOOPBACK, port, protocol) from error


def _bind(address: str, port: int, protocol: str, *, is_optional: bool) -> socket.socket | None:
    kind, number = _TYPES[protocol]
    is_ipv6 = ipaddress.ip_address(address).version == 6
    try:
        made = socket.socket(socket.AF_INET6 if is_ipv6 else socket.AF_INET, kind | socket.SOCK_CLOEXEC, number)
    except OSError as error:
        # Without the family or the protocol on the host nobody can take the port from us.
        if error.errno in _ABSENT:
            return None
        raise IoFailed(operation="socket", path=address, errno=error.errno) from error
    try:
        if is_ipv6:
            made.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        if protocol == "tcp":
            # Connections that a forwarder had, or a program that has gone, linger for a minute. Who listens is in the
            # way as ever, and so is who has bound it and says nothing of the kind.
            made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        # Nothing is to be kept of what comes by another way than the table's.
        made.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 0)
        made.bind((address, port))
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 0)
    except OSError as error:
        made.close()
        if error.errno == errno.EADDRNOTAVAIL and is_optional:
            return None
        raise _refused(error, address, port, protocol) from error
    return made


def _check_is_here(address: str) -> None:
    """Raises FIELD_INVALID for an address that the host has not, as `_bind` does where there is something to bind."""
    is_ipv6 = ipaddress.ip_address(address).version == 6
    try:
        with socket.socket(socket.AF_INET6 if is_ipv6 else socket.AF_INET, socket.SOCK_DGRAM) as probe:
            probe.bind((address, 0))
    except OSError as error:
        raise _refused(error, address, 0, "udp") from error


def _refused(error: OSError, address: str, port: int, protocol: str) -> EngineError:
    if error.errno == errno.EADDRINUSE:
        return PortInUse(address=address, port=port, protocol=protocol, holder="others")
    if error.errno == errno.EADDRNOTAVAIL:
        return FieldInvalid(field="host_address", rule=f"{address} is no address of this host")
    return IoFailed(operation="bind", path=f"{address}:{port}/{protocol}", errno=error.errno)


def holder_of(port: int, protocol: str) -> str:
    """The process that has the port, as well as can be found out. Blocking (reads /proc)."""
    inodes = {inode for suffix in ("", "6") for inode in _inodes(f"/proc/net/{protocol}{suffix}", port)}
    for count, name in enumerate(_names("/proc")):
        if count == MAX_SCANNED_PROCESSES:
            break
        if name.isdecimal() and _has_socket(name, inodes):
            try:
                return f"process {name} ({Path('/proc', name, 'comm').read_text().strip()})"
            except OSError:
                return f"process {name}"
    return "another process"


def _inodes(path: str, port: int) -> list[str]:
    # Source: proc_pid_net(5): local address and port in hexadecimal stand second, the inode tenth.
    try:
        lines = Path(path).read_text().splitlines()[1:]
    except OSError:
        return []
    rows = (line.split() for line in lines)
    return [row[9] for row in rows if len(row) > 9 and row[1].endswith(f":{port:04X}") and row[9] != "0"]


def _has_socket(pid: str, inodes: set[str]) -> bool:
    directory = f"/proc/{pid}/fd"
    for fd in _names(directory):
        try:
            target = str(Path(directory, fd).readlink())
        except OSError:
            continue
        if target.startswith("socket:[") and target[8:-1] in inodes:
            return True
    return False


def _names(directory: str) -> list[str]:
    try:
        return [entry.name for entry in Path(directory).iterdir()]
    except OSError:
        return []
