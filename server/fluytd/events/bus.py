"""Wakes those who watch events, and keeps the newest events in memory for them. It queues nothing for anyone.

A watcher holds a position, not a queue: one that is slow reads what it missed from the ring or from the durable log, so
that its slowness costs neither memory nor events.
"""

import asyncio
from collections import deque

from fluytd.events.model import Event

#: Newest events kept in memory.
RING_EVENTS = 4_096


class EventBus:
    """The newest events, and the moment at which there are more. Belongs to the event loop."""

    def __init__(self) -> None:
        self._ring: deque[Event] = deque(maxlen=RING_EVENTS)
        self._more = asyncio.Event()
        #: No further event will come; watchers end.
        self.is_closed = False

    def publish(self, events: list[Event]) -> None:
        """`events` were committed, with numbers right after the last ones published."""
        self._ring.extend(events)
        self._wake()

    def close(self) -> None:
        """Every watcher ends soon. Idempotent."""
        self.is_closed = True
        self._wake()

    def _wake(self) -> None:
        # All present waiters hold the old object; those who come later wait for the next one.
        self._more.set()
        self._more = asyncio.Event()

    def recent(self, from_sequence: int, limit: int) -> list[Event] | None:
        """At most `limit` events from a number on; None if the ring does not reach back to it."""
        if not self._ring or from_sequence < self._ring[0].sequence:
            return None
        start = from_sequence - self._ring[0].sequence
        return [self._ring[index] for index in range(start, min(start + limit, len(self._ring)))]

    async def wait(self, timeout_seconds: float) -> None:
        """Returns when more was published, the bus was closed, or the time has passed."""
        try:
            async with asyncio.timeout(timeout_seconds):
                await self._more.wait()
        except TimeoutError:
            return
