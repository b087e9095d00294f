"""Questions for names as a program in a container asks them, and a name server that answers all with one address."""

import contextlib
import ipaddress
import socket
import struct
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from tests.support.namespaces import Machine

A: Final = 1
PTR: Final = 12
AAAA: Final = 28
NOERROR: Final = 0
SERVFAIL: Final = 2
#: Where containers ask.
RESOLVER: Final = "127.0.0.11"
_PORT: Final = 53
#: How long an answer may take, in seconds.
PATIENCE: Final = 10


@dataclass(frozen=True)
class Answer:
    """What came back."""

    code: int
    #: Addresses and names, sorted.
    values: tuple[str, ...]
    is_truncated: bool


def question(name: str, kind: int, number: int = 7) -> bytes:
    """One question. Source: RFC 1035 4.1."""
    labels = b"".join(bytes((len(part),)) + part.encode() for part in name.split(".") if part)
    return struct.pack("!6H", number, 0x0100, 1, 0, 0, 0) + labels + b"\0" + struct.pack("!2H", kind, 1)


def ask(machine: Machine, name: str, kind: int = A, *, by_tcp: bool = False) -> Answer:
    """The resolver's answer to a process in that network."""
    return machine.inside(lambda: read(_by_tcp(question(name, kind)) if by_tcp else _by_udp(question(name, kind))))


def _by_udp(asked: bytes) -> bytes:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
        client.settimeout(PATIENCE)
        client.connect((RESOLVER, _PORT))
        client.send(asked)
        return client.recv(4096)


def _by_tcp(asked: bytes) -> bytes:
    with socket.create_connection((RESOLVER, _PORT), timeout=PATIENCE) as client, client.makefile("rb") as stream:
        client.sendall(struct.pack("!H", len(asked)) + asked)
        (length,) = struct.unpack("!H", stream.read(2))
        return stream.read(length)


def read(message: bytes) -> Answer:
    """The answer in the message, which has one question."""
    flags, _, count = struct.unpack_from("!3H", message, 2)
    _, at = _name(message, 12)
    at += 4
    values = []
    for _ in range(count):
        _, at = _name(message, at)
        kind, length = struct.unpack_from("!H6xH", message, at)
        at += 10
        if kind in (A, AAAA):
            values.append(str(ipaddress.ip_address(message[at : at + length])))
        elif kind == PTR:
            values.append(_name(message, at)[0])
        at += length
    return Answer(flags & 15, tuple(sorted(values)), bool(flags & 0x0200))


def _name(message: bytes, at: int) -> tuple[str, int]:
    labels, end = [], 0
    while length := message[at]:
        if length >= 0xC0:
            end = end or at + 2
            at = struct.unpack_from("!H", message, at)[0] & 0x3FFF
        else:
            labels.append(message[at + 1 : at + 1 + length].decode())
            at += 1 + length
    return ".".join(labels), end or at + 1


class NameServer:
    """Answers by UDP and TCP at one address of a machine, always with 192.0.2.1; what it was asked is in `asked`.

    `truncates`: by UDP it says that there is more by TCP.
    """

    def __init__(self, machine: Machine, address: str, *, truncates: bool = False) -> None:
        """It answers."""
        self.asked: list[str] = []
        self._truncates = truncates
        self._udp = machine.inside(lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
        self._udp.bind((address, _PORT))
        self._tcp = machine.inside(lambda: socket.create_server((address, _PORT)))
        self._threads = [
            threading.Thread(target=_until_closed, args=(one,)) for one in (self._datagram, self._connection)
        ]
        for thread in self._threads:
            thread.start()

    def _answer(self, asked: bytes, kind: str) -> bytes:
        name, end = _name(asked, 12)
        self.asked.append(f"{kind} {name}")
        head, body = asked[:2], asked[12 : end + 4]
        if kind == "udp" and self._truncates:
            return head + struct.pack("!5H", 0x8380, 1, 0, 0, 0) + body
        record = b"\xc0\x0c" + struct.pack("!2HIH", A, 1, 60, 4) + bytes((192, 0, 2, 1))
        return head + struct.pack("!5H", 0x8180, 1, 1, 0, 0) + body + record

    def _datagram(self) -> None:
        asked, sender = self._udp.recvfrom(4096)
        if not asked:
            raise OSError("it was closed")
        self._udp.sendto(self._answer(asked, "udp"), sender)

    def _connection(self) -> None:
        connection, _ = self._tcp.accept()
        with connection, connection.makefile("rb") as stream:
            if len(head := stream.read(2)) < 2:
                return
            answer = self._answer(stream.read(struct.unpack("!H", head)[0]), "tcp")
            connection.sendall(struct.pack("!H", len(answer)) + answer)

    def __enter__(self) -> "NameServer":
        return self

    def __exit__(self, *_: object) -> None:
        for one in (self._udp, self._tcp):
            with contextlib.suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
            one.close()
        for thread in self._threads:
            thread.join()


def _until_closed(work: Callable[[], None]) -> None:
    # A closed socket ends it.
    with contextlib.suppress(OSError):
        while True:
            work()
