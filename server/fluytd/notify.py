"""Tells a service manager where the daemon stands. Source: sd_notify(3)."""

import os
import socket
from contextlib import suppress
from typing import Final

#: Where the manager listens; absent without one.
VARIABLE: Final = "NOTIFY_SOCKET"


def ready() -> None:
    """The daemon serves."""
    _send("READY=1")


def stopping() -> None:
    """The daemon drains."""
    _send("STOPPING=1")


def _send(state: str) -> None:
    address = os.environ.get(VARIABLE, "")
    if not address:
        return
    with suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as channel:
        channel.connect("\0" + address[1:] if address.startswith("@") else address)
        channel.sendall(state.encode())
