"""RPC bodies of EventService."""

from collections.abc import AsyncIterator
from typing import Any

from fluyt.v1 import events_pb2, events_pb2_grpc
from fluytd.api.convert.events import from_filter, from_time, to_event
from fluytd.api.convert.values import to_timestamp
from fluytd.clock import Clock
from fluytd.errors import FieldInvalid
from fluytd.events.service import EventService


class EventServicer(events_pb2_grpc.EventServiceServicer):
    """Watches the log of events for callers."""

    def __init__(self, events: EventService, clock: Clock) -> None:
        """Serves `events`; `clock` gives the time of heartbeats."""
        self._events = events
        self._clock = clock

    async def WatchEvents(
        self, request: events_pb2.WatchEventsRequest, context: Any
    ) -> AsyncIterator[events_pb2.WatchEventsResponse]:
        for field in ("from_sequence", "until_sequence"):
            if getattr(request, field) < 0:
                raise FieldInvalid(field=field, rule="must not be negative")
        watch = self._events.watch(
            request.from_sequence or None,
            from_filter(request.filter),
            since_unix_nanos=from_time(request, "since_time"),
            until_sequence=request.until_sequence or None,
            until_unix_nanos=from_time(request, "until_time"),
        )
        async for batch in watch:
            for event in batch.events:
                yield events_pb2.WatchEventsResponse(event=to_event(event))
            if not batch.events:
                heartbeat = events_pb2.EventHeartbeat(
                    head_sequence=batch.head_sequence,
                    oldest_sequence=batch.oldest_sequence,
                    time=to_timestamp(self._clock.now_unix_nanos()),
                )
                yield events_pb2.WatchEventsResponse(heartbeat=heartbeat)
