"""An engine that is played: it asks a client that serves agents what a test says, also what it must not ask."""

import queue
import threading
from collections.abc import Iterator
from concurrent import futures
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import grpc

from fluyt.v1 import builds_pb2, builds_pb2_grpc

#: How long a client may take on a loaded machine.
PATIENCE_SECONDS: Final = 10
Response, Message = builds_pb2.ServeBuildAgentsResponse, builds_pb2.BuildAgentMessage


class PlayedEngine(builds_pb2_grpc.BuildServiceServicer):
    """Asks what a test says, and keeps what it hears."""

    def __init__(self) -> None:
        self.asks: queue.SimpleQueue[builds_pb2.ServeBuildAgentsResponse] = queue.SimpleQueue()
        self.heard: queue.SimpleQueue[builds_pb2.ServeBuildAgentsRequest] = queue.SimpleQueue()
        #: The client has ended the session.
        self.over = threading.Event()
        #: Whether it had before it was answered about its context, which is what it waits for.
        self.was_over_first: bool | None = None

    def ServeBuildAgents(  # noqa: N802 - the name of the API
        self, request_iterator: Any, context: Any
    ) -> Iterator[builds_pb2.ServeBuildAgentsResponse]:
        self.heard.put(next(request_iterator))
        yield Response(ready=builds_pb2.BuildAgentsReady(session_id="s"))

        def hear() -> None:
            try:
                for one in request_iterator:
                    self.heard.put(one)
            except grpc.RpcError:
                pass  # the client has gone

        context.add_callback(self.over.set)
        threading.Thread(target=hear, daemon=True).start()
        while context.is_active():
            try:
                yield self.asks.get(timeout=0.05)
            except queue.Empty:
                continue

    def UploadContext(self, request_iterator: Any, context: Any) -> Any:  # noqa: N802
        self.was_over_first = self.over.wait(PATIENCE_SECONDS)
        context.abort(grpc.StatusCode.FAILED_PRECONDITION, "no build is wanted")

    def ask(self, connection: int, data: bytes, agent_id: str = "a") -> builds_pb2.ServeBuildAgentsRequest:
        """What the client says to it."""
        self.asks.put(Response(ask=Message(connection=connection, id=agent_id, data=data)))
        return self.heard.get(timeout=PATIENCE_SECONDS)


@contextmanager
def played(socket: Path) -> Iterator[PlayedEngine]:
    """One that listens there."""
    engine = PlayedEngine()
    server = grpc.server(futures.ThreadPoolExecutor(4))
    builds_pb2_grpc.add_BuildServiceServicer_to_server(engine, server)
    server.add_insecure_port(f"unix:{socket}")
    server.start()
    try:
        yield engine
    finally:
        server.stop(None).wait()
