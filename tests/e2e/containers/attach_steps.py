"""A caller of AttachContainer that says what it is told to."""

import queue
from collections.abc import Iterator
from typing import Any

from fluyt.v1 import containers_pb2
from fluyt.v1.types import attach_pb2, container_pb2, output_pb2
from tests.support.engine import Engine

PATIENCE_SECONDS = 30

#: `ask` is `read x` that begins anew where a resize broke it off: busybox's own then fails as at the end of the input.
RESIZED = (
    "trap 'stty size; resized=1' WINCH; ask() { read x && resized= || { test \"$resized\" && resized= && ask; }; }; "
)


def size(width: int, height: int) -> output_pb2.TerminalSize:
    """The size of a terminal."""
    return output_pb2.TerminalSize(width=width, height=height)


class Caller:
    """Joined once this is made; gives input and gets standard output unless told otherwise."""

    def __init__(self, engine: Engine, container: str, **options: Any) -> None:
        self._requests: queue.SimpleQueue[Any] = queue.SimpleQueue()
        wanted = {"stdin": True, "stdout": True, "stderr": True} | options
        self.say(open=attach_pb2.AttachOptions(container=container, **wanted))
        self.responses = engine.containers.AttachContainer(self._said(), timeout=PATIENCE_SECONDS)
        #: What came so far on both outputs.
        self.out = self.err = b""
        first = next(self.responses)
        assert first.WhichOneof("event") == "attached", first

    def _said(self) -> Iterator[containers_pb2.AttachContainerRequest]:
        while (request := self._requests.get()) is not None:
            yield request

    def say(self, **action: Any) -> None:
        """One message."""
        self._requests.put(containers_pb2.AttachContainerRequest(**action))

    def type(self, text: str) -> None:
        """Keys are pressed."""
        self.say(stdin=text.encode())

    def half_close(self) -> None:
        """Nothing more is said."""
        self._requests.put(None)

    def vanish(self) -> None:
        """The caller is gone without a word."""
        self.responses.cancel()
        self.half_close()

    def until(self, text: bytes) -> None:
        """This stands in the output; fails if the stream ends before."""
        while text not in self.out:
            end = self._next()
            assert end is None, (self.out, end)

    def end(self) -> tuple[str, container_pb2.Container]:
        """(`exited` or `detached`, the container), once all output has come."""
        while (end := self._next()) is None:
            pass
        self.half_close()
        return end

    def _next(self) -> tuple[str, container_pb2.Container] | None:
        response = next(self.responses)
        kind = response.WhichOneof("event")
        if kind == "stdout":
            self.out += response.stdout.data
        elif kind == "stderr":
            self.err += response.stderr.data
        else:
            return kind, getattr(response, kind)
        return None
