"""Servers of network file systems: found by name and asked for an answer before the kernel is told to mount.

The kernel takes addresses only, and waits for minutes for a server that is away.
"""

import asyncio
import socket
from collections.abc import Mapping
from typing import Final

from fluytd.containers.volume_mounts import Server, server_of, with_address
from fluytd.errors import VolumeServerUnreachable

#: How long the address of a name is waited for.
RESOLVE_SECONDS: Final = 10.0
#: How long the server may take to accept a connection, over all its addresses.
CONNECT_SECONDS: Final = 10.0
#: Addresses of one name that are tried.
MAX_ADDRESSES: Final = 8


async def address_of(server: Server, volume: str) -> str:
    """The first address of the server at which it accepts connections, IPv4 before IPv6; the first of all if no port is
    known. Raises VOLUME_SERVER_UNREACHABLE."""
    addresses = await _resolved(server, volume)
    if not server.port:
        return addresses[0]
    reasons: list[str] = []
    # Each has its share: one that does not answer must not take the time of those behind it.
    seconds = CONNECT_SECONDS / len(addresses)
    for address in addresses:
        try:
            async with asyncio.timeout(seconds):
                _, writer = await asyncio.open_connection(address, server.port)
        except TimeoutError:
            reasons.append(f"{address} port {server.port}: no answer within {seconds:g} s")
        except OSError as error:
            reasons.append(f"{address} port {server.port}: {error.strerror or error}")
        else:
            writer.transport.abort()
            return address
    raise VolumeServerUnreachable(volume=volume, server=server.host, detail="; ".join(reasons))


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
