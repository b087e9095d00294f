"""Ports of EXPOSE. Source: BuildKit frontend/dockerfile/dockerfile2llb/convert_expose.go."""

import ipaddress
import re
from dataclasses import dataclass

from fluytd.builds.dockerfile.mistakes import Mistake

_PROTOCOLS = frozenset({"tcp", "udp", "sctp"})
_MAX_PORT = 65_535
_NUMBER = re.compile(r"[0-9]{1,10}")


@dataclass(frozen=True, slots=True)
class Ports:
    """One word of EXPOSE."""

    #: `80/tcp`, in rising order.
    names: tuple[str, ...]
    #: The protocol is not all in lower case.
    has_odd_case: bool
    #: A host address or port stands before the port, which EXPOSE does not heed.
    names_host: bool


def parse_ports(text: str) -> Ports:
    """The ports of `80`, `80/udp`, `8000-8010/tcp`, `127.0.0.1:80:80`. Raises Mistake."""
    host, _, last = text.rpartition(":")
    address, _, host_port = host.rpartition(":")
    port, _, protocol = last.partition("/")
    shown_protocol = protocol or "tcp"
    if not port:
        raise Mistake(f"{text!r} has no port", "write PORT or PORT/PROTOCOL", text)
    if shown_protocol.lower() not in _PROTOCOLS:
        raise Mistake(f"{text!r} has an unknown protocol {protocol!r}", "use tcp, udp or sctp", text)
    if address and not _is_address(address):
        raise Mistake(f"{text!r} has no address before its ports but {address!r}", "write PORT/PROTOCOL alone", text)
    first, last_port = _range(port, text)
    if host_port:
        first_host, last_host = _range(host_port, text)
        if last_port - first != last_host - first_host and last_port != first:
            raise Mistake(f"the two ranges of {text!r} differ in length", "write PORT/PROTOCOL alone", text)
    return Ports(
        tuple(f"{number}/{shown_protocol.lower()}" for number in range(first, last_port + 1)),
        has_odd_case=shown_protocol != shown_protocol.lower(),
        names_host=bool(address or host_port),
    )


def _range(text: str, word: str) -> tuple[int, int]:
    start, dash, end = text.partition("-")
    first = _number(start, word)
    last = _number(end, word) if dash else first
    if last < first:
        raise Mistake(f"the range {text!r} runs backwards", "write the lower port first", word)
    return first, last


def _number(text: str, word: str) -> int:
    if _NUMBER.fullmatch(text) is None:
        raise Mistake(f"{word!r} is no port", "write a number from 0 to 65535, or a range such as 8000-8010", word)
    if int(text) > _MAX_PORT:
        raise Mistake(f"the port {text} is above {_MAX_PORT}", f"write a number from 0 to {_MAX_PORT}", word)
    return int(text)


def _is_address(text: str) -> bool:
    bare = text[1:-1] if text.startswith("[") and text.endswith("]") else text
    try:
        ipaddress.ip_address(bare)
    except ValueError:
        return False
    return True
