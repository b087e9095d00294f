"""Events <-> messages. A fact's class and its message have the same fields under the same names."""

from dataclasses import fields
from typing import Any, Final, Literal

from fluyt.v1 import events_pb2
from fluyt.v1.types import container_pb2, health_check_pb2, operation_pb2
from fluytd.api.convert.values import from_timestamp, timestamp_of, to_failure
from fluytd.errors import Failure
from fluytd.events.model import Event
from fluytd.events.service import EventFilter

_KINDS: Final = {"kind": (operation_pb2.Operation.Kind, "KIND_")}
#: What the `state` of a fact is a state of.
_STATE_ENUMS: Final[dict[str, Any]] = {
    "container_lost": container_pb2.Container.State,
    "container_health_changed": health_check_pb2.Health.State,
    "operation_ended": operation_pb2.Operation.State,
}


def to_event(event: Event) -> events_pb2.Event:
    """The message of an event."""
    message = events_pb2.Event(
        sequence=event.sequence,
        time=timestamp_of(event.time_unix_nanos),
        actor=event.actor,
        subject=event.subject,
        labels=dict(event.labels),
    )
    name = event.fact_name
    fact = getattr(message, name)
    fact.SetInParent()
    for field in fields(event.fact):
        _set(fact, name, field.name, getattr(event.fact, field.name))
    return message


def _set(message: Any, fact_name: str, name: str, value: object) -> None:
    if value is None:
        return
    if isinstance(value, Failure):
        getattr(message, name).CopyFrom(to_failure(value))
    elif isinstance(value, tuple):
        getattr(message, name).extend(value)
    elif name == "state" and fact_name in _STATE_ENUMS:
        message.state = _STATE_ENUMS[fact_name].Value(f"STATE_{str(value).upper()}")
    elif name in _KINDS:
        enum, prefix = _KINDS[name]
        message.kind = enum.Value(f"{prefix}{str(value).upper()}")
    else:
        setattr(message, name, value)


def from_filter(message: events_pb2.EventFilter) -> EventFilter:
    """The filter; whether its facts exist, the service checks."""
    return EventFilter(tuple(message.facts), frozenset(message.subjects), tuple(message.labels))


def from_time(request: events_pb2.WatchEventsRequest, field: Literal["since_time", "until_time"]) -> int | None:
    """Nanoseconds since 1970 of an optional time of the request."""
    return from_timestamp(getattr(request, field), field) if request.HasField(field) else None
