"""The socket at which a step finds an agent of the build's caller, there while the step runs.

R/builds/<room>-<n>/agent   the socket; the folder is root's alone, and only the socket itself is mounted into the step

A step is not trusted: it may list identities and sign, each message and the number of connections are bounded, and one
that breaks a bound has no agent any more.
"""

import asyncio
import contextlib
import os
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

from fluytd import failpoints
from fluytd.builds.agents import (
    ALLOWED_REQUESTS,
    MAX_AGENT_MESSAGE_BYTES,
    REFUSAL,
    AgentSession,
    idle,
    too_long,
)
from fluytd.errors import BuildAgentGone, EngineError, IoFailed
from fluytd.workers import Workers

_NAME: Final = "agent"
_PRIVATE: Final = 0o700
_LENGTH_BYTES: Final = 4
_BACKLOG: Final = 16


class AgentSocket:
    """One agent as one step has it. Belongs to the event loop."""

    def __init__(self, session: AgentSession, agent_id: str, path: Path) -> None:
        """Served from `served` on."""
        self.path = path
        #: Why the step has the agent no more; None: it has it.
        self.fault: EngineError | None = None
        self._session = session
        self._id = agent_id
        self._server: asyncio.Server | None = None
        self._talks: dict[asyncio.Task[None], asyncio.StreamWriter] = {}

    async def serve(self, listener: socket.socket) -> None:
        """Connections are answered until `end`."""
        self._server = await asyncio.start_unix_server(self._connected, sock=listener)

    async def end(self) -> None:
        """Nobody is connected, and nobody can connect. Idempotent."""
        self._refuse()
        talks = list(self._talks)
        for talk in talks:
            talk.cancel()
        await asyncio.gather(*talks, return_exceptions=True)

    async def watch(self) -> None:
        """Returns once the caller has gone; the step has no agent then."""
        await self._session.gone.wait()
        self._broken(BuildAgentGone(id=self._id))

    def _refuse(self) -> None:
        if self._server is not None:
            self._server.close()
        for writer in list(self._talks.values()):
            writer.transport.abort()

    def _broken(self, error: EngineError) -> None:
        self.fault = self.fault or error
        self._refuse()

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        talk = asyncio.current_task()
        assert talk is not None  # noqa: S101 - asyncio runs this as a task
        self._talks[talk] = writer
        connection = 0
        try:
            # `drain` is to wait until all is written.
            writer.transport.set_write_buffer_limits(high=0)
            connection = self._session.open(self._id)
            while await self._answered(connection, reader, writer):
                pass
        except (asyncio.IncompleteReadError, ConnectionError):
            pass  # the step closed it
        except TimeoutError:
            self.fault = self.fault or idle(self._id, self._session.idle_seconds)
        except EngineError as error:
            self._broken(error)
        finally:
            self._session.end(connection)
            writer.transport.abort()
            del self._talks[talk]

    async def _answered(self, connection: int, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        """One request was answered; False: the connection is to end."""
        async with asyncio.timeout(self._session.idle_seconds):
            size_bytes = int.from_bytes(await reader.readexactly(_LENGTH_BYTES), "big")
            if size_bytes > MAX_AGENT_MESSAGE_BYTES:
                raise too_long(size_bytes, f"a message to ssh agent {self._id!r}")
            request = await reader.readexactly(size_bytes)
        if not request:
            return False
        answer: bytes | None = REFUSAL
        if request[0] in ALLOWED_REQUESTS:
            failpoints.hit("build.agent.ask")
            answer = await self._session.ask(connection, self._id, request)
        if answer is None:
            return False
        writer.write(len(answer).to_bytes(_LENGTH_BYTES, "big") + answer)
        async with asyncio.timeout(self._session.idle_seconds):
            await writer.drain()
        return True


@asynccontextmanager
async def served(
    session: AgentSession,
    agent_id: str,
    directory: Path,
    owner: tuple[int, int, int],
    workers: Workers,
    remove_tree: Callable[[str], None],
) -> AsyncIterator[AgentSocket]:
    """A block in which the agent is served at `path`.

    Args:
        directory: made for it, and gone after it.
        owner: mode, user and group of the socket.

    Raises BUILD_AGENT_GONE, IO_FAILED.
    """
    if session.gone.is_set():
        raise BuildAgentGone(id=agent_id)
    found = AgentSocket(session, agent_id, directory / _NAME)
    try:
        failpoints.hit("build.agent.listen")
        await found.serve(await workers.run_to_end(lambda: _listening(directory, *owner)))
        watching = asyncio.ensure_future(found.watch())
        try:
            yield found
        finally:
            watching.cancel()
            await found.end()
    finally:
        await asyncio.shield(workers.run(remove_tree, str(directory)))


def _listening(directory: Path, mode: int, uid: int, gid: int) -> socket.socket:
    """The socket, listened to. Nobody reaches it before it has its owner: the folder is ours alone."""
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK)
    try:
        directory.mkdir(mode=_PRIVATE)
        fd = os.open(directory, os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
        try:
            # An address has 108 bytes at most, a run root may have more.
            listener.bind(f"/proc/self/fd/{fd}/{_NAME}")
        finally:
            os.close(fd)
        path = directory / _NAME
        os.chown(path, uid, gid)
        path.chmod(mode)
        listener.listen(_BACKLOG)
    except OSError as error:
        with contextlib.suppress(OSError):
            listener.close()
        raise IoFailed(operation="bind", path=str(directory / _NAME), errno=error.errno) from error
    return listener
