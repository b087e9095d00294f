"""Events: what happened, numbered and kept."""

from collections.abc import Iterator

import grpc

from fluyt.errors import iterate
from fluyt.v1 import events_pb2, events_pb2_grpc


def watch(
    connection: grpc.Channel,
    *,
    from_sequence: int = 0,
    until_sequence: int = 0,
    event_filter: events_pb2.EventFilter | None = None,
) -> Iterator[events_pb2.Event]:
    """Events from a number on (0: only those to come), then those that happen; heartbeats are left out.

    Raises OutOfRange if the log no longer has `from_sequence`; `metadata["oldest_sequence"]` then says what it has.
    """
    request = events_pb2.WatchEventsRequest(
        from_sequence=from_sequence, until_sequence=until_sequence, filter=event_filter
    )
    for message in iterate(events_pb2_grpc.EventServiceStub(connection).WatchEvents(request)):
        if message.HasField("event"):
            yield message.event
