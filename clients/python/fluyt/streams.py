"""What the caller of a process says to it: input, sizes of a terminal, signals, the wish to leave."""

import enum
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Final

from fluyt.v1.types import attach_pb2, output_pb2

#: Most bytes of input in one message. Source: proto/fluyt/v1/execs.proto.
_MAX_STDIN_BYTES: Final = 256 * 1024


@dataclass(frozen=True, slots=True)
class Resize:
    """The caller's terminal has this size."""

    width: int
    height: int


@dataclass(frozen=True, slots=True)
class Signal:
    """The process is sent this signal, `SIGINT` for example."""

    name: str


class Leave(enum.Enum):
    """The caller leaves, and the process goes on."""

    DETACH = enum.auto()


DETACH: Final = Leave.DETACH
Input = bytes | Resize | Signal | Leave


def actions(said: Iterable[Input], *, closes: bool) -> Iterator[dict[str, Any]]:
    """The fields of one message after the other; long input in several, with `closes` the end of input at last."""
    for one in said:
        match one:
            case Resize(width, height):
                yield {"resize": output_pb2.TerminalSize(width=width, height=height)}
            case Signal(name):
                yield {"signal": name}
            case Leave.DETACH:
                yield {"detach": attach_pb2.Detach()}
                return
            case data:
                for begin in range(0, len(data), _MAX_STDIN_BYTES):
                    yield {"stdin": data[begin : begin + _MAX_STDIN_BYTES]}
    if closes:
        yield {"close_stdin": attach_pb2.CloseStdin()}
