"""The socket of an agent as a step has it: real sockets, no step."""

import asyncio
import shutil
import stat
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from fluytd.builds.agent_sockets import AgentSocket, served
from fluytd.builds.agents import AgentSession, Ask
from fluytd.errors import BuildAgentGone, EngineError, LimitExceeded
from fluytd.workers import Workers


@asynccontextmanager
async def one(folder: Path, session: AgentSession) -> AsyncIterator[AgentSocket]:
    """A block in which an agent is served at a place whose path is longer than an address may be."""
    workers = Workers(1, 1)
    place = folder / ("x" * 120)
    try:
        async with served(session, "a", place, (0o640, 7, 8), workers, shutil.rmtree) as found:
            yield found
        assert not place.exists()
    finally:
        workers.close()


async def connect(agent: AgentSocket) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    link = Path("/tmp") / f"agent-{id(agent)}"
    link.symlink_to(agent.path)
    try:
        return await asyncio.open_unix_connection(str(link))
    finally:
        link.unlink()


async def echo(session: AgentSession) -> None:
    async for said in session.said():
        if isinstance(said, Ask):
            session.answer(said.connection, said.data)


async def test_requests_are_carried_and_the_rest_is_refused(tmp_path: Path) -> None:
    session = AgentSession(["a"], "local")
    answering = asyncio.ensure_future(echo(session))
    async with one(tmp_path, session) as agent:
        found = agent.path.stat()
        assert (stat.S_IMODE(found.st_mode), found.st_uid, found.st_gid) == (0o640, 7, 8)
        reader, writer = await connect(agent)
        large = b"\x0d" + b"s" * (256 * 1024 - 1)
        for request, answer in ((b"\x0b", b"\x0b"), (large, large), (b"\x11key", b"\x05"), (b"\x1b", b"\x05")):
            writer.write(struct.pack(">I", len(request)) + request)
            assert await reader.readexactly(4 + len(answer)) == struct.pack(">I", len(answer)) + answer
        assert agent.fault is None
    assert await reader.read() == b""
    writer.close()
    answering.cancel()


@pytest.mark.parametrize("length", [2**32 - 1, 256 * 1024 + 1])
async def test_a_length_beyond_the_bound_is_refused_before_a_byte_of_it(tmp_path: Path, length: int) -> None:
    session = AgentSession(["a"], "local")
    async with one(tmp_path, session) as agent:
        (reader, writer), (other, other_writer) = await connect(agent), await connect(agent)
        writer.write(struct.pack(">I", length))
        assert (await reader.read(), await other.read()) == (b"", b"")
        assert isinstance(agent.fault, LimitExceeded)
        assert agent.fault.metadata["limit"] == "MAX_AGENT_MESSAGE_BYTES"
        with pytest.raises(ConnectionRefusedError):
            await connect(agent)
        writer.close()
        other_writer.close()


@pytest.mark.parametrize("data", [b"", b"\0\0\0\x05\x0b"])
async def test_a_connection_that_says_nothing_for_too_long_is_closed(tmp_path: Path, data: bytes) -> None:
    session = AgentSession(["a"], "local", idle_seconds=0.05)
    async with one(tmp_path, session) as agent:
        reader, writer = await connect(agent)
        writer.write(data)
        assert await reader.read() == b""
        assert isinstance(agent.fault, LimitExceeded)
        assert agent.fault.metadata["limit"] == "MAX_AGENT_IDLE_SECONDS"
        # The step has its agent as before.
        again, writer_again = await connect(agent)
        writer.close()
        writer_again.close()
        assert await again.read() == b""


async def test_an_empty_message_ends_its_connection_alone(tmp_path: Path) -> None:
    session = AgentSession(["a"], "local")
    async with one(tmp_path, session) as agent:
        reader, writer = await connect(agent)
        writer.write(bytes(4))
        assert await reader.read() == b""
        assert agent.fault is None
        writer.close()


async def test_a_caller_that_goes_closes_the_socket(tmp_path: Path) -> None:
    session = AgentSession(["a"], "local")
    async with one(tmp_path, session) as agent:
        reader, writer = await connect(agent)
        session.close()
        assert await reader.read() == b""
        assert isinstance(agent.fault, BuildAgentGone)
        with pytest.raises(ConnectionRefusedError):
            await connect(agent)
        writer.close()
    with pytest.raises(EngineError):
        async with one(tmp_path, session):
            pass
