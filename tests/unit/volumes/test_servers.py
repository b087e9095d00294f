"""Servers of volumes are asked whether they are there before anything is mounted."""

import asyncio
import struct
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress

import pytest

from fluytd.containers.volume_mounts import Server
from fluytd.errors import VolumeServerUnreachable
from fluytd.volumes import servers

NFS4 = (100003, 4)
Answer = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@asynccontextmanager
async def listening(answer: Answer) -> AsyncIterator[int]:
    """The port of a server on the loopback device."""

    served = asyncio.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            with suppress(ConnectionError):
                await answer(reader, writer)
        finally:
            writer.close()
            with suppress(ConnectionError):
                await writer.wait_closed()
            served.set()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        yield server.sockets[0].getsockname()[1]
        await asyncio.wait_for(served.wait(), 10)


async def reply(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Takes a call that does nothing and accepts it. Source: RFC 5531, section 9."""
    length = struct.unpack(">I", await reader.readexactly(4))[0]
    call = await reader.readexactly(length & 0x7FFF_FFFF)
    assert (length >> 31, len(call)) == (1, 40)
    assert struct.unpack(">9I", call[4:]) == (0, 2, *NFS4, 0, 0, 0, 0, 0)
    answer = call[:4] + struct.pack(">5I", 1, 0, 0, 0, 0)
    writer.write(struct.pack(">I", 1 << 31 | len(answer)) + answer)


async def silence(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Takes everything and says nothing."""
    await reader.read()


async def end(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Takes the call and hangs up."""
    await reader.readexactly(44)


async def nonsense(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Speaks of something else."""
    writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
    await reader.read()


async def test_a_server_that_answers_is_there() -> None:
    async with listening(reply) as port:
        assert await servers.address_of(Server("127.0.0.1", port, NFS4), "share") == "127.0.0.1"


async def test_of_one_that_speaks_another_protocol_a_connection_is_enough() -> None:
    async with listening(silence) as port:
        assert await servers.address_of(Server("127.0.0.1", port), "share") == "127.0.0.1"


@pytest.mark.parametrize(
    ("answer", "detail"),
    [(silence, "no answer within 0.2 s"), (end, "closed the connection"), (nonsense, "not of the protocol")],
)
async def test_one_that_does_not_answer_is_told_with_its_name_and_the_cause(
    monkeypatch: pytest.MonkeyPatch, answer: Answer, detail: str
) -> None:
    monkeypatch.setattr(servers, "CONNECT_SECONDS", 0.2)
    async with listening(answer) as port:
        with pytest.raises(VolumeServerUnreachable) as told:
            await servers.address_of(Server("127.0.0.1", port, NFS4), "share")
    assert (told.value.metadata["volume"], told.value.metadata["server"]) == ("share", "127.0.0.1")
    assert f"port {port}" in told.value.metadata["detail"]
    assert detail in told.value.metadata["detail"]
