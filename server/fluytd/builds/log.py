"""What the steps of builds write, for those who watch: bounded, numbered by bytes, kept for the last builds.

On disk it is a row of frames: step, stream (0 stdout, 1 stderr), time, offset, size (little endian), then the bytes.
"""

import asyncio
import struct
from collections import OrderedDict, deque
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass, replace
from itertools import takewhile
from typing import Final

#: Bytes of one build's output that are kept; the oldest go first.
MAX_LOG_BYTES: Final = 4 * 1024 * 1024
#: Builds whose output is kept.
MAX_LOGS: Final = 32
#: Pieces of one build's output that are kept: a step may write a byte at a time.
MAX_LOG_PIECES: Final = 32 * 1024
#: Bytes of one piece.
MAX_PIECE_BYTES: Final = 64 * 1024
#: What a step writes within this time is one piece, up to `JOINED_BYTES` of it.
JOINED_NANOS: Final = 100_000_000
JOINED_BYTES: Final = 4096
_FRAME: Final = struct.Struct("<IBQQI")
_STREAMS: Final = ("stdout", "stderr")


@dataclass(frozen=True, slots=True)
class LogPiece:
    """Some output of one step."""

    step: int
    #: `stdout` or `stderr`.
    stream: str
    time_unix_nanos: int
    data: bytes
    #: Bytes of output of the whole build before it.
    offset_bytes: int

    @property
    def end_bytes(self) -> int:
        """The position after it."""
        return self.offset_bytes + len(self.data)

    def is_joined_by(self, following: "LogPiece") -> bool:
        """The two are kept as one, with this one's time."""
        return (
            (self.step, self.stream, self.end_bytes) == (following.step, following.stream, following.offset_bytes)
            and len(self.data) + len(following.data) <= JOINED_BYTES
            and 0 <= following.time_unix_nanos - self.time_unix_nanos <= JOINED_NANOS
        )


def frame(piece: LogPiece) -> bytes:
    """The piece as it stands on disk."""
    head = _FRAME.pack(
        piece.step, _STREAMS.index(piece.stream), piece.time_unix_nanos, piece.offset_bytes, len(piece.data)
    )
    return head + piece.data


def frames(data: bytes) -> Iterator[LogPiece]:
    """The pieces in `data`, up to the first that is not whole or is none."""
    at = 0
    while at + _FRAME.size <= len(data):
        step, stream, time_unix_nanos, offset_bytes, size = _FRAME.unpack_from(data, at)
        at += _FRAME.size
        if size > MAX_PIECE_BYTES or at + size > len(data) or stream >= len(_STREAMS):
            return
        yield LogPiece(step, _STREAMS[stream], time_unix_nanos, data[at : at + size], offset_bytes)
        at += size


class BuildLog:
    """The output of one build. Belongs to the event loop."""

    def __init__(self) -> None:
        self._pieces: deque[LogPiece] = deque()
        self._kept_bytes = 0
        self._end_bytes = 0
        self._changed = asyncio.Event()
        self.is_ended = False
        #: Gets each piece as it is written.
        self.tee: Callable[[LogPiece], None] | None = None

    @classmethod
    def read(cls, data: bytes) -> "BuildLog":
        """The output of a build that has ended, from its frames."""
        log = cls()
        for piece in frames(data):
            log._add(piece)
        log.is_ended = True
        return log

    @property
    def pieces(self) -> tuple[LogPiece, ...]:
        """What is kept, the oldest first."""
        return tuple(self._pieces)

    @property
    def end_bytes(self) -> int:
        """Bytes that were written in all."""
        return self._end_bytes

    def write(self, step: int, stream: str, time_unix_nanos: int, data: bytes) -> None:
        """The step has written this. Never blocks."""
        for start in range(0, len(data), MAX_PIECE_BYTES):
            part = data[start : start + MAX_PIECE_BYTES]
            piece = LogPiece(step, stream, time_unix_nanos, part, self._end_bytes)
            self._add(piece)
            if self.tee is not None:
                self.tee(piece)
        self._wake()

    def _add(self, piece: LogPiece) -> None:
        self._end_bytes = piece.end_bytes
        self._kept_bytes += len(piece.data)
        last = self._pieces[-1] if self._pieces else None
        if last is not None and last.is_joined_by(piece):
            self._pieces[-1] = replace(last, data=last.data + piece.data)
        else:
            self._pieces.append(piece)
        while len(self._pieces) > 1 and (self._kept_bytes > MAX_LOG_BYTES or len(self._pieces) > MAX_LOG_PIECES):
            self._kept_bytes -= len(self._pieces.popleft().data)

    def end(self) -> None:
        """Nothing more comes. Idempotent."""
        self.is_ended = True
        self._wake()

    def _wake(self) -> None:
        changed, self._changed = self._changed, asyncio.Event()
        changed.set()

    def tail(self, step: int, max_bytes: int) -> bytes:
        """The last output of a step."""
        found = b"".join(piece.data for piece in self._pieces if piece.step == step)
        return found[-max_bytes:]

    def _after(self, position: int) -> list[LogPiece]:
        # From the end: what is new to somebody who follows is little beside what is kept.
        found = list(takewhile(lambda piece: piece.end_bytes > position, reversed(self._pieces)))
        found.reverse()
        return found

    async def follow(self, position: int) -> AsyncIterator[LogPiece]:
        """Yields what was written from `position` on, or from the oldest that is kept, until the build has ended."""
        while True:
            changed = self._changed
            pieces = self._after(position)
            for piece in pieces:
                cut = max(0, position - piece.offset_bytes)
                position = piece.end_bytes
                if cut:
                    piece = LogPiece(  # noqa: PLW2901 - the rest of it
                        piece.step, piece.stream, piece.time_unix_nanos, piece.data[cut:], piece.offset_bytes + cut
                    )
                yield piece
            if pieces:
                continue
            if self.is_ended:
                return
            await changed.wait()


class BuildLogs:
    """The logs of the builds that run and of the last ones, by operation."""

    def __init__(self) -> None:
        self._logs: OrderedDict[str, BuildLog] = OrderedDict()

    def begin(self, operation_id: str) -> BuildLog:
        """A new log; the oldest of a build that has ended goes where there are too many."""
        log = self._logs[operation_id] = BuildLog()
        for old in [key for key, one in self._logs.items() if one.is_ended][: max(0, len(self._logs) - MAX_LOGS)]:
            del self._logs[old]
        return log

    def get(self, operation_id: str) -> BuildLog | None:
        """The log of an operation; None if there is none, or none any more."""
        return self._logs.get(operation_id)

    def forget(self, operation_id: str) -> None:
        """There is no log of the operation any more. Idempotent."""
        self._logs.pop(operation_id, None)
