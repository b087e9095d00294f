"""What the steps of builds write, for those who watch: bounded, numbered by bytes, kept for the last builds."""

import asyncio
from collections import OrderedDict, deque
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Final

#: Bytes of one build's output that are kept; the oldest go first.
MAX_LOG_BYTES: Final = 4 * 1024 * 1024
#: Builds whose output is kept.
MAX_LOGS: Final = 32
#: Bytes of one piece.
MAX_PIECE_BYTES: Final = 64 * 1024


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


class BuildLog:
    """The output of one build. Belongs to the event loop."""

    def __init__(self) -> None:
        self._pieces: deque[LogPiece] = deque()
        self._kept_bytes = 0
        self._end_bytes = 0
        self._changed = asyncio.Event()
        self.is_ended = False

    def write(self, step: int, stream: str, time_unix_nanos: int, data: bytes) -> None:
        """The step has written this. Never blocks."""
        for start in range(0, len(data), MAX_PIECE_BYTES):
            part = data[start : start + MAX_PIECE_BYTES]
            self._pieces.append(LogPiece(step, stream, time_unix_nanos, part, self._end_bytes))
            self._end_bytes += len(part)
            self._kept_bytes += len(part)
        while self._kept_bytes > MAX_LOG_BYTES and len(self._pieces) > 1:
            self._kept_bytes -= len(self._pieces.popleft().data)
        self._wake()

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

    async def follow(self, position: int) -> AsyncIterator[LogPiece]:
        """Yields what was written from `position` on, or from the oldest that is kept, until the build has ended."""
        while True:
            changed = self._changed
            pieces = [piece for piece in self._pieces if piece.end_bytes > position]
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
