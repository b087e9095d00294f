"""One flight per layer for any number of pulls and loads: who asks for what is under way joins it (case R15).

A flight belongs to those who wait for it, not to the one who began it: it goes on while anyone is left, and is
cancelled when the last one has gone. It knows nothing of layers.
"""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, Generic, TypeVar

from fluytd.errors import Cancelled, EngineError
from fluytd.images.ports import Counters
from fluytd.operations.ports import CancelToken

T = TypeVar("T")


class Flight(Generic[T]):
    """Work under way, with its counters."""

    def __init__(self, counters: Counters, token: CancelToken, work: Awaitable[T]) -> None:
        self.counters = counters
        self._token = token
        self._passengers = 0
        self.task: asyncio.Future[T] = asyncio.ensure_future(work)

    async def ride(self, is_cancelled: asyncio.Event) -> T:
        """The flight's result. Raises what it raised; CANCELLED as soon as `is_cancelled` is set."""
        self._passengers += 1
        cancelled = asyncio.ensure_future(is_cancelled.wait())
        awaited: set[asyncio.Future[Any]] = {self.task, cancelled}
        try:
            await asyncio.wait(awaited, return_when=asyncio.FIRST_COMPLETED)
            if self.task.done():
                return self.task.result()
            raise Cancelled(subject="the operation")
        finally:
            cancelled.cancel()
            self._passengers -= 1
            if self._passengers == 0 and not self.task.done():
                self._token.cancel()
                # Its end is awaited, so that whoever begins the same work next does not meet it half done.
                await asyncio.wait({self.task})
                self.task.exception()


class Flights(Generic[T]):
    """Flights by key. Belongs to the event loop."""

    def __init__(self, new_counters: Callable[[], Counters], new_token: Callable[[], CancelToken]) -> None:
        self._new_counters = new_counters
        self._new_token = new_token
        self._flights: dict[str, Flight[T]] = {}

    async def run(
        self,
        key: str,
        begin: Callable[[Counters, CancelToken], Awaitable[T]],
        is_cancelled: asyncio.Event,
        on_board: Callable[[Counters], None],
    ) -> T:
        """The result of the work under this key, begun by `begin` unless it is under way.

        `on_board` is called with the counters of the flight that is joined. Work that others began and that failed is
        begun anew, since it may have failed for a reason of theirs: another registry, their cancellation.
        """
        while True:
            flight = self._flights.get(key)
            is_own = flight is None
            if flight is None:
                token = self._new_token()
                counters = self._new_counters()
                flight = self._flights[key] = Flight(counters, token, begin(counters, token))
                flight.task.add_done_callback(lambda _done: self._flights.pop(key, None))
            on_board(flight.counters)
            try:
                return await flight.ride(is_cancelled)
            except EngineError:
                if is_own or is_cancelled.is_set():
                    raise
