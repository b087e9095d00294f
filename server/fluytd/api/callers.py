"""Carrying out what the caller of a process says on its stream: the same for a container's first process and for a
further one."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any, Final, Protocol

from fluytd.api.convert.containers import from_signal
from fluytd.api.convert.values import from_size
from fluytd.errors import FieldInvalid

#: Most bytes of input in one message.
MAX_STDIN_BYTES: Final = 256 * 1024
#: A call that its caller cancels, or that its connection loses, first looks as one whose caller has nothing more to
#: say; the cancellation, which leaves stdin alone, comes in the next turns of the loop. Source: grpc.aio, where the two
#: are operations of their own. Who wants the end of input at once sends `close_stdin`.
CANCEL_SECONDS: Final = 0.05


class Joined(Protocol):
    """One caller joined to one process."""

    @property
    def gives_stdin(self) -> bool:
        """Whether its input is the process's, and the end of its messages the end of that."""

    @property
    def is_detached(self) -> bool:
        """It has left."""

    async def write_stdin(self, data: bytes) -> None:
        """The input is with the process, or dropped because nobody reads it any more. Raises FIELD_INVALID."""

    async def close_stdin(self) -> None:
        """The process reads the end of its input. Idempotent."""

    def resize(self, width: int, height: int) -> None:
        """Columns and rows of its terminal; nothing without one."""

    async def signal(self, number: int) -> None:
        """The process has been sent the signal."""

    def detach(self) -> None:
        """The caller has left, and its stream ends soon. Idempotent."""


async def carry_out(joined: Joined, requests: AsyncIterator[Any]) -> None:
    """The caller has left, or has closed its side, which closes the process's stdin if it gave that.

    Raises FIELD_INVALID and what the process's side raises; the caller's stream then ends, and tells it.
    """
    try:
        async for request in requests:
            await _carry_out(joined, request)
            if joined.is_detached:
                return
        if joined.gives_stdin:
            await asyncio.sleep(CANCEL_SECONDS)
            await joined.close_stdin()
    except asyncio.CancelledError:
        raise
    except BaseException:
        joined.detach()
        raise


async def _carry_out(joined: Joined, request: Any) -> None:
    match request.WhichOneof("action"):
        case "stdin":
            if len(request.stdin) > MAX_STDIN_BYTES:
                raise FieldInvalid(field="stdin", rule=f"must have at most {MAX_STDIN_BYTES} bytes")
            await joined.write_stdin(request.stdin)
        case "close_stdin":
            await joined.close_stdin()
        case "resize":
            joined.resize(*from_size(request.resize, "resize"))
        case "signal":
            number = from_signal(request.signal, "signal")
            if number is None:
                raise FieldInvalid(field="signal", rule="must be given")
            await joined.signal(number)
        case "detach":
            joined.detach()
        case _:
            raise FieldInvalid(field="action", rule="must be one that is known, and the first kind only once")
