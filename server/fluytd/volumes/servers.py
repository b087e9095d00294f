"""Servers of network file systems: found by name, and asked whether they are there before the kernel is told to mount.

The kernel takes addresses only, and waits for minutes for a server that is away.
"""

import asyncio
import os
import socket
import struct
from collections.abc import Mapping
from typing import Final

from fluytd.containers.volume_mounts import Server, server_of, with_address
from fluytd.errors import VolumeServerUnreachable

#: How long the address of a name is waited for.
RESOLVE_SECONDS: Final = 10.0
#: How long the server may take to accept a connection and to answer, over all its addresses.
CONNECT_SECONDS: Final = 10.0
#: Marks the last fragment of a message, the rest being its length; what is read of an answer. Source: RFC 5531, 11.
_LAST_FRAGMENT: Final = 0x8000_0000
_ANSWER_BYTES: Final = 12
_CALL, _REPLY, _RPC_VERSION = 0, 1, 2
#: Addresses of one name that are tried.
MAX_ADDRESSES: Final = 8


async def address_of(server: Server, volume: str) -> str:
    """The first address of the server at which it is there, IPv4 before IPv6; the first of all if no port is known.
    Raises VOLUME_SERVER_UNREACHABLE."""
    addresses = await _resolved(server, volume)
    if not server.port:
        return addresses[0]
    reasons: list[str] = []
    # Each has its share: one that does not answer must not take the time of those behind it.
    seconds = CONNECT_SECONDS / len(addresses)
    for address in addresses:
        try:
            async with asyncio.timeout(seconds):
                await _ask(address, server)
        except TimeoutError:
            reasons.append(f"{address} port {server.port}: no answer within {seconds:g} s")
        except OSError as error:
            reasons.append(f"{address} port {server.port}: {error.strerror or error}")
        else:
            return address
    raise VolumeServerUnreachable(volume=volume, server=server.host, detail="; ".join(reasons))


async def _ask(address: str, server: Server) -> None:
    """It accepts a connection there and, where it speaks ONC RPC, answers a call that does nothing. Raises OSError.

    Source: RFC 5531, sections 9 and 12: procedure 0 of any program.
    """
    reader, writer = await asyncio.open_connection(address, server.port)
    try:
        if server.program is None:
            return
        number = os.urandom(4)
        program, version = server.program
        # Credentials and verifier are of the kind 0, which is none, and empty.
        call = number + struct.pack(">9I", _CALL, _RPC_VERSION, program, version, 0, 0, 0, 0, 0)
        writer.write(struct.pack(">I", _LAST_FRAGMENT | len(call)) + call)
        try:
            answer = await reader.readexactly(_ANSWER_BYTES)
        except asyncio.IncompleteReadError:
            raise OSError("it has closed the connection without an answer") from None
        # Whatever it says of the call, it is there.
        if answer[4:8] != number or answer[8:] != struct.pack(">I", _REPLY):
            raise OSError("what it answers is not of the protocol of NFS")
    finally:
        writer.transport.abort()


async def _resolved(server: Server, volume: str) -> list[str]:
    try:
        async with asyncio.timeout(RESOLVE_SECONDS):
            found = await asyncio.get_running_loop().getaddrinfo(server.host, None, type=socket.SOCK_STREAM)
    except TimeoutError:
        detail = f"its name has got no address within {RESOLVE_SECONDS:g} s"
    except (OSError, UnicodeError) as error:
        detail = str(getattr(error, "strerror", None) or error)
    else:
        found.sort(key=lambda one: one[0] != socket.AF_INET)
        # Of an address of one link the name of the link is part.
        return list(dict.fromkeys(str(one[4][0]) for one in found))[:MAX_ADDRESSES]
    raise VolumeServerUnreachable(volume=volume, server=server.host, detail=detail)


async def with_addresses(options: Mapping[str, str], volume: str) -> dict[str, str]:
    """The options with the address of the server that they name; as they are if they name none. Raises
    VOLUME_SERVER_UNREACHABLE."""
    server = server_of(options)
    return dict(options) if server is None else with_address(options, await address_of(server, volume))
