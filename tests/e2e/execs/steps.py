"""What the tests of further processes do again and again, by gRPC alone."""

import queue
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import grpc

from fluyt.v1 import execs_pb2, execs_pb2_grpc
from fluyt.v1.types import attach_pb2
from tests.e2e.containers import steps
from tests.support.engine import Engine

PATIENCE_SECONDS = 30


def api(engine: Engine) -> execs_pb2_grpc.ExecServiceStub:
    """ExecService of the engine's present daemon."""
    return execs_pb2_grpc.ExecServiceStub(engine.channel)


@dataclass
class Ended:
    """What a process wrote and how it ended."""

    out: bytes
    err: bytes
    session: execs_pb2.ExecSession
    offset: int

    @property
    def exit(self) -> tuple[str | None, int]:
        """`("exit_code", 7)` or `("signal", 9)`."""
        kind = self.session.WhichOneof("exit")
        return kind, getattr(self.session, kind) if kind else 0


class Caller:
    """One caller of Exec or AttachExec that says what it is told to."""

    def __init__(self, engine: Engine, container: str, *args: str, **spec: Any) -> None:
        self._requests: queue.SimpleQueue[Any] = queue.SimpleQueue()
        wanted = execs_pb2.ExecSpec(args=args, **spec)
        self.say(start=execs_pb2.ExecStart(container=container, spec=wanted))
        self.responses = api(engine).Exec(self._said(), timeout=PATIENCE_SECONDS)

    def _said(self) -> Iterator[execs_pb2.ExecRequest]:
        while (request := self._requests.get()) is not None:
            yield request

    def say(self, **action: Any) -> None:
        """One message."""
        self._requests.put(execs_pb2.ExecRequest(**action))

    def half_close(self) -> None:
        """Nothing more is said."""
        self._requests.put(None)

    def started(self) -> execs_pb2.ExecSession:
        """The first answer."""
        first = next(self.responses)
        assert first.WhichOneof("event") == "started", first
        return first.started  # type: ignore[no-any-return]

    def end(self) -> Ended:
        """All output until the end, whatever end that is."""
        return collect(self.responses)


def collect(responses: Any) -> Ended:
    """All output of a stream, and its end."""
    out = err = b""
    session, offset = execs_pb2.ExecSession(), 0
    for response in responses:
        kind = response.WhichOneof("event")
        offset = response.offset_bytes
        if kind == "stdout":
            out += response.stdout.data
        elif kind == "stderr":
            err += response.stderr.data
        else:
            session = getattr(response, kind)
    return Ended(out, err, session, offset)


def run(engine: Engine, container: str, *args: str, **spec: Any) -> Ended:
    """A process run to its end."""
    caller = Caller(engine, container, *args, **spec)
    caller.half_close()
    return caller.end()


def attach(engine: Engine, session: str, offset: int = 0) -> Ended:
    """What a caller gets that joins a session from an offset on."""
    options = execs_pb2.AttachExecOptions(id=session, offset_bytes=offset)
    stay: queue.SimpleQueue[None] = queue.SimpleQueue()

    def said() -> Iterator[execs_pb2.AttachExecRequest]:
        yield execs_pb2.AttachExecRequest(open=options)
        stay.get()

    try:
        return collect(api(engine).AttachExec(said(), timeout=PATIENCE_SECONDS))
    finally:
        stay.put(None)


def get(engine: Engine, session: str) -> execs_pb2.ExecSession:
    """GetExec's answer."""
    return api(engine).GetExec(execs_pb2.GetExecRequest(id=session)).exec  # type: ignore[no-any-return]


def detach_message() -> attach_pb2.Detach:
    """The caller leaves."""
    return attach_pb2.Detach()


def stays(engine: Engine, **spec: Any) -> str:
    """The id of a container that runs until it is killed."""
    return steps.started(engine, "sleep", "1000", **spec).id


def refused(engine: Engine, container: str, *args: str, **spec: Any) -> tuple[grpc.StatusCode, str, dict[str, str]]:
    """The refusal of a process that must not begin."""
    return steps.refused(lambda: run(engine, container, *args, **spec))
