"""A server of the whole API in this process with nothing behind it, for tests of the edge itself."""

from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import grpc

from fluytd.api.server import Server
from fluytd.config import Config
from fluytd.requests.service import RequestService


@asynccontextmanager
async def serving(
    directory: Path,
    servicers: Iterable[Any] = (),
    *,
    requests: RequestService | None = None,
    is_open: bool = True,
    **settings: Any,
) -> AsyncIterator[tuple[Server, grpc.aio.Channel]]:
    """The server and a channel to it; both are closed afterwards."""
    config = Config(socket_path=directory / "s.sock", **settings)
    server = Server(config, requests, servicers)
    await server.start()
    if is_open:
        await server.open()
    try:
        async with grpc.aio.insecure_channel(f"unix:{config.socket_path}") as channel:
            yield server, channel
    finally:
        await server.stop(0)
