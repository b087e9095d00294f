"""Agents of callers: the sessions over which what steps ask reaches them. It knows no sockets and no transport.

A caller serves agents for as long as its session lasts; nothing of a session, an agent or its keys is stored or logged.
Messages are those of the ssh agent protocol without their length; a connection has one request at a time.

Source: draft-ietf-sshm-ssh-agent; OpenSSH ssh-agent.c (AGENT_MAX_LEN); BuildKit session/sshforward, which lets steps
list identities and sign, and nothing else.
"""

import asyncio
import secrets
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final

from fluytd.errors import BuildAgentGone, BuildAgentSessionNotFound, FieldInvalid, LimitExceeded

#: Agents of one session.
MAX_AGENT_IDS: Final = 16
MAX_AGENT_ID_CHARS: Final = 128
#: Sessions of all callers.
MAX_AGENT_SESSIONS: Final = 256
#: Connections of one session at once, of all steps.
MAX_AGENT_CONNECTIONS: Final = 64
#: Bytes of one message. Source: OpenSSH ssh-agent.c, AGENT_MAX_LEN.
MAX_AGENT_MESSAGE_BYTES: Final = 256 * 1024
#: How long a connection may ask nothing, and an agent may take to answer (a person may have to confirm).
MAX_AGENT_IDLE_SECONDS: Final = 600
#: Bytes of the host keys that a caller sends for git over ssh.
MAX_KNOWN_HOSTS_BYTES: Final = 256 * 1024
#: The agent that git over ssh uses.
DEFAULT_AGENT: Final = "default"

#: SSH_AGENTC_REQUEST_IDENTITIES and SSH_AGENTC_SIGN_REQUEST.
ALLOWED_REQUESTS: Final = frozenset({11, 13})
#: SSH_AGENT_FAILURE.
REFUSAL: Final = b"\x05"


@dataclass(frozen=True, slots=True)
class Ask:
    """What a step asks of an agent."""

    connection: int
    id: str
    data: bytes


@dataclass(frozen=True, slots=True)
class End:
    """A step has closed its connection."""

    connection: int


class AgentSession:
    """The agents of one caller, while its call lasts. Belongs to the event loop."""

    def __init__(self, ids: Sequence[str], caller: str, *, idle_seconds: float = MAX_AGENT_IDLE_SECONDS) -> None:
        """Raises FIELD_INVALID, LIMIT_EXCEEDED. `caller`: who may name it, see `BuildAgents.find`."""
        if len(ids) > MAX_AGENT_IDS:
            raise LimitExceeded(limit="MAX_AGENT_IDS", limit_value=MAX_AGENT_IDS, actual=len(ids), subject="offer.ids")
        if not ids:
            raise FieldInvalid(field="offer.ids", rule="must be one or more ids, each once")
        for index, one in enumerate(ids):
            if one in ids[:index]:
                raise FieldInvalid(field=f"offer.ids[{index}]", rule=f"{one[:MAX_AGENT_ID_CHARS]!r} is given twice")
            if not 0 < len(one) <= MAX_AGENT_ID_CHARS:
                raise FieldInvalid(field=f"offer.ids[{index}]", rule=f"must have 1 to {MAX_AGENT_ID_CHARS} characters")
        self.id = secrets.token_hex(16)
        self.caller = caller
        self.ids = frozenset(ids)
        self.idle_seconds = idle_seconds
        #: Set once the caller has gone.
        self.gone = asyncio.Event()
        self._last = 0
        #: Connection -> something was asked on it.
        self._open: dict[int, bool] = {}
        self._waiting: dict[int, asyncio.Future[bytes | None]] = {}
        # A connection has one request and one end in it at most: as long as its end was not taken it counts as open.
        self._said: asyncio.Queue[Ask | End | None] = asyncio.Queue()

    def open(self, agent_id: str) -> int:
        """A new connection; `end` it. Raises LIMIT_EXCEEDED, BUILD_AGENT_GONE."""
        self._check(agent_id)
        if len(self._open) >= MAX_AGENT_CONNECTIONS:
            raise LimitExceeded(
                limit="MAX_AGENT_CONNECTIONS",
                limit_value=MAX_AGENT_CONNECTIONS,
                actual=len(self._open) + 1,
                subject=f"connections to ssh agents, of which one more to {agent_id!r}",
            )
        self._last += 1
        self._open[self._last] = False
        return self._last

    def end(self, connection: int) -> None:
        """The caller is told that the connection has ended, if it has ever heard of it. Idempotent."""
        was_used = self._open.get(connection)
        if was_used and not self.gone.is_set():
            self._said.put_nowait(End(connection))
        else:
            self._open.pop(connection, None)

    async def ask(self, connection: int, agent_id: str, data: bytes) -> bytes | None:
        """What the agent answers; None: it does not. Raises BUILD_AGENT_GONE, LIMIT_EXCEEDED for one that takes too
        long."""
        self._check(agent_id)
        future: asyncio.Future[bytes | None] = asyncio.get_running_loop().create_future()
        self._waiting[connection] = future
        self._open[connection] = True
        try:
            self._said.put_nowait(Ask(connection, agent_id, data))
            async with asyncio.timeout(self.idle_seconds):
                answer = await future
        except TimeoutError:
            raise idle(agent_id, self.idle_seconds) from None
        finally:
            del self._waiting[connection]
        self._check(agent_id)
        return answer

    def answer(self, connection: int, data: bytes | None) -> None:
        """The caller's answer, or None for no answer; dropped if the step has gone meanwhile.

        Raises FIELD_INVALID for what was never asked, LIMIT_EXCEEDED for too long a message.
        """
        if not 0 < connection <= self._last:
            raise FieldInvalid(field="connection", rule="must be the number of a connection that was opened")
        if data is not None and not data:
            raise FieldInvalid(field="answer.data", rule="must be one whole message, which has a byte at least")
        if data is not None and len(data) > MAX_AGENT_MESSAGE_BYTES:
            raise too_long(len(data), "answer.data")
        future = self._waiting.get(connection)
        if future is not None and not future.done():
            future.set_result(data)

    async def said(self) -> AsyncIterator[Ask | End]:
        """Yields what the caller is to be told, until the session is closed."""
        while not self.gone.is_set():
            one = await self._said.get()
            if one is None:
                return
            if isinstance(one, End):
                self._open.pop(one.connection, None)
            yield one

    def close(self) -> None:
        """The caller has gone. Idempotent."""
        self.gone.set()
        for future in self._waiting.values():
            if not future.done():
                future.set_result(None)
        self._said.put_nowait(None)

    def _check(self, agent_id: str) -> None:
        if self.gone.is_set():
            raise BuildAgentGone(id=agent_id)


class BuildAgents:
    """The sessions of all callers. Belongs to the event loop."""

    def __init__(self) -> None:
        """None yet."""
        self._sessions: dict[str, AgentSession] = {}

    @contextmanager
    def session(self, ids: Sequence[str], caller: str) -> Iterator[AgentSession]:
        """A block in which the caller serves agents. Raises as `AgentSession`; LIMIT_EXCEEDED also for too many."""
        if len(self._sessions) >= MAX_AGENT_SESSIONS:
            raise LimitExceeded(
                limit="MAX_AGENT_SESSIONS",
                limit_value=MAX_AGENT_SESSIONS,
                actual=len(self._sessions) + 1,
                subject="sessions of ServeBuildAgents",
            )
        session = AgentSession(ids, caller)
        self._sessions[session.id] = session
        try:
            yield session
        finally:
            del self._sessions[session.id]
            session.close()

    def find(self, session_id: str, caller: str) -> AgentSession | None:
        """The session of this id, None for an empty one. Raises BUILD_AGENT_SESSION_NOT_FOUND, also for that of
        another caller."""
        if not session_id:
            return None
        session = self._sessions.get(session_id)
        if session is None or session.caller != caller:
            raise BuildAgentSessionNotFound(id=session_id)
        return session


def idle(agent_id: str, seconds: float) -> LimitExceeded:
    """A connection on which nothing came for too long."""
    return LimitExceeded(
        limit="MAX_AGENT_IDLE_SECONDS",
        limit_value=seconds,
        actual=seconds,
        subject=f"silence of ssh agent {agent_id!r}",
    )


def too_long(size_bytes: int, subject: str) -> LimitExceeded:
    """A message beyond what an agent takes."""
    return LimitExceeded(
        limit="MAX_AGENT_MESSAGE_BYTES", limit_value=MAX_AGENT_MESSAGE_BYTES, actual=size_bytes, subject=subject
    )
