"""Serving ssh agents to builds: what steps ask goes to agents of this host, and their answers back.

The engine is not trusted with more than a build needs: identities are listed and signatures made, everything else is
refused here. Source: draft-ietf-sshm-ssh-agent; BuildKit session/sshforward does the same.
"""

import queue
import socket
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

import grpc

from fluyt.errors import FluytError, iterate, translated
from fluyt.v1 import builds_pb2, builds_pb2_grpc

#: Bytes of one message. Source: OpenSSH ssh-agent.c, AGENT_MAX_LEN.
MAX_MESSAGE_BYTES: Final = 256 * 1024
#: Connections at once. Source: docs/builds.md, MAX_AGENT_CONNECTIONS.
MAX_CONNECTIONS: Final = 64
#: SSH_AGENTC_REQUEST_IDENTITIES and SSH_AGENTC_SIGN_REQUEST.
_ALLOWED: Final = frozenset({11, 13})
#: SSH_AGENT_FAILURE.
_REFUSAL: Final = b"\x05"
_LENGTH_BYTES: Final = 4

_Request = builds_pb2.ServeBuildAgentsRequest


@contextmanager
def served(connection: grpc.Channel, agents: Mapping[str, Path]) -> Iterator[str]:
    """A block in which builds can use these agents; yields the id for `BuildImageRequest.agent_session_id`.

    Args:
        agents: by id, the sockets of agents.

    Raises:
        FluytError: the engine does not take the ids.
    """
    said: queue.SimpleQueue[_Request | None] = queue.SimpleQueue()
    said.put(_Request(offer=builds_pb2.BuildAgentOffer(ids=list(agents))))
    with translated():
        call = builds_pb2_grpc.BuildServiceStub(connection).ServeBuildAgents(iter(said.get, None))
    responses = iterate(call)
    try:
        session_id = next(responses).ready.session_id
        hearing = threading.Thread(target=_hear, args=(responses, agents, said, call.cancel), daemon=True)
        hearing.start()
        try:
            yield session_id
        finally:
            call.cancel()
            hearing.join()
    finally:
        call.cancel()
        said.put(None)


def _hear(
    responses: Iterator[builds_pb2.ServeBuildAgentsResponse],
    agents: Mapping[str, Path],
    said: "queue.SimpleQueue[_Request | None]",
    cancel: Callable[[], object],
) -> None:
    """Gives what is asked to a thread for each connection, until the stream has ended. An engine that asks more on one
    before it has its answer breaks the rule, and has no agents any more."""
    asked: dict[int, queue.SimpleQueue[bytes | None]] = {}
    try:
        # That the stream has ended, the build tells: its steps have no agent then.
        with suppress(FluytError):
            for response in responses:
                part = response.WhichOneof("part")
                if part == "end":
                    ended = asked.pop(response.end.connection, None)
                    if ended is not None:
                        ended.put(None)
                elif part == "ask":
                    ask = response.ask
                    if ask.connection not in asked:
                        path = agents.get(ask.id)
                        if path is None or len(asked) >= MAX_CONNECTIONS:
                            said.put(_Request(end=builds_pb2.BuildAgentEnd(connection=ask.connection)))
                            continue
                        asked[ask.connection] = queue.SimpleQueue()
                        talk = (ask.connection, path, asked[ask.connection], said)
                        threading.Thread(target=_talk, args=talk, daemon=True).start()
                    if not asked[ask.connection].empty():
                        cancel()
                        return
                    asked[ask.connection].put(ask.data)
    finally:
        for one in asked.values():
            one.put(None)


def _talk(
    number: int,
    path: Path,
    asked: "queue.SimpleQueue[bytes | None]",
    said: "queue.SimpleQueue[_Request | None]",
) -> None:
    """Answers one connection until it ends; an agent that fails answers nothing, as one that is not there."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as agent:
        is_connected = False
        while (data := asked.get()) is not None:
            answer: bytes | None = _REFUSAL
            if data and data[0] in _ALLOWED and len(data) <= MAX_MESSAGE_BYTES:
                try:
                    if not is_connected:
                        agent.connect(str(path))
                        is_connected = True
                    agent.sendall(len(data).to_bytes(_LENGTH_BYTES, "big") + data)
                    answer = _message(agent)
                except OSError:
                    answer = None
            if not answer:
                said.put(_Request(end=builds_pb2.BuildAgentEnd(connection=number)))
                return
            said.put(_Request(answer=builds_pb2.BuildAgentMessage(connection=number, data=answer)))


def _message(agent: socket.socket) -> bytes | None:
    """One whole message; None if there is none or it is too long."""
    size_bytes = int.from_bytes(_exactly(agent, _LENGTH_BYTES), "big")
    if not 0 < size_bytes <= MAX_MESSAGE_BYTES:
        return None
    data = _exactly(agent, size_bytes)
    return data if len(data) == size_bytes else None


def _exactly(agent: socket.socket, size_bytes: int) -> bytes:
    found = bytearray()
    while len(found) < size_bytes:
        data = agent.recv(size_bytes - len(found))
        if not data:
            break
        found += data
    return bytes(found)
