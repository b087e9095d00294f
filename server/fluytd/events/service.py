"""Watching events from any number on. It decides which events; recording them is `Transaction.emit`."""

import re
from collections.abc import AsyncIterator, Collection
from dataclasses import dataclass
from typing import Final

from fluytd.clock import Clock
from fluytd.errors import EngineStopping, EventsTrimmed, FieldInvalid, LimitExceeded
from fluytd.events.bus import EventBus
from fluytd.events.log import read_events, sequence_at
from fluytd.events.model import FACTS, Event
from fluytd.state.db import Database

#: Events read or handed over at once.
BATCH_EVENTS = 256
#: Most values of one condition of a filter.
MAX_FILTER_VALUES: Final = 1_000
#: Most names that are told in place of one that is none.
MAX_NEAR_FACTS: Final = 6
#: The beginning of an id as lists show it, or more of it.
_BEGINNING: Final = re.compile(r"[0-9a-f]{12,64}", re.ASCII)
_NANOS = 1_000_000_000


@dataclass(frozen=True, slots=True)
class EventFilter:
    """Which events: conditions of different kinds must all hold; of the values of one kind, one must."""

    #: Names of facts (`container_exited`) or their first word (`container`), in the order asked; empty for all.
    facts: Collection[str] = ()
    #: Ids, beginnings of ids as lists show them, or names of subjects; empty for all.
    subjects: frozenset[str] = frozenset()
    #: `name` or `name=value` of the subject's labels; here all must hold.
    labels: tuple[str, ...] = ()

    def check(self) -> None:
        """Raises FIELD_INVALID for a fact that does not exist, LIMIT_EXCEEDED (MAX_FILTER_VALUES)."""
        for name in ("facts", "subjects", "labels"):
            count = len(getattr(self, name))
            if count > MAX_FILTER_VALUES:
                raise LimitExceeded(
                    limit="MAX_FILTER_VALUES", limit_value=MAX_FILTER_VALUES, actual=count, subject=f"filter.{name}"
                )
        words = {name.partition("_")[0] for name in FACTS}
        for index, fact in enumerate(self.facts):
            if fact not in FACTS and fact not in words:
                near = sorted(name for name in FACTS if fact in name)[:MAX_NEAR_FACTS]
                known = f"there is {', '.join(near)}" if near else f"each begins with one of {', '.join(sorted(words))}"
                rule = f"{fact[:64]!r} is not the name of a fact; {known}"
                raise FieldInvalid(field=f"filter.facts[{index}]", rule=rule)

    def accepts(self, event: Event) -> bool:
        """True if the event fits."""
        name = event.fact_name
        if self.facts and name not in self.facts and name.partition("_")[0] not in self.facts:
            return False
        if self.subjects and not self._fits_subject(event):
            return False
        return all(_has_label(event, label) for label in self.labels)

    def _fits_subject(self, event: Event) -> bool:
        # What is done to a container, an exec for example, is about the container too.
        ids = (event.subject, getattr(event.fact, "container_id", ""))
        names = (*ids, getattr(event.fact, "name", ""), getattr(event.fact, "reference", ""))
        if any(name in self.subjects for name in names if name):
            return True
        digits = tuple(text.removeprefix("sha256:") for text in ids)
        return any(found.startswith(text) for text in self.subjects if _BEGINNING.fullmatch(text) for found in digits)


def _has_label(event: Event, label: str) -> bool:
    name, equals, value = label.partition("=")
    return name in event.labels and (not equals or event.labels[name] == value)


@dataclass(frozen=True, slots=True)
class EventBatch:
    """Events in order; without events it is a heartbeat."""

    events: tuple[Event, ...]
    #: All that fit up to this number were handed over; the number of the newest event unless the watch is behind.
    head_sequence: int
    oldest_sequence: int


class EventService:
    """Readers of the log."""

    def __init__(self, db: Database, bus: EventBus, clock: Clock, *, heartbeat_seconds: float) -> None:
        """`heartbeat_seconds`: how often an idle watch yields a heartbeat."""
        self._db = db
        self._bus = bus
        self._clock = clock
        self._heartbeat_seconds = heartbeat_seconds
        db.deliver_to(bus.publish)

    @property
    def head_sequence(self) -> int:
        """Number of the newest event; 0 before the first."""
        return self._db.log.head_sequence

    async def watch(
        self,
        from_sequence: int | None = None,
        event_filter: EventFilter | None = None,
        *,
        since_unix_nanos: int | None = None,
        until_sequence: int | None = None,
        until_unix_nanos: int | None = None,
    ) -> AsyncIterator[EventBatch]:
        """Yields a heartbeat first, then what fits, a heartbeat when it has caught up, then what comes.

        When nothing fits for a while a heartbeat is yielded, so that the caller knows from where to go on.

        Args:
            from_sequence: the first number wanted; None for those to come only.
            event_filter: which events; None for all.
            since_unix_nanos: begin at the first event of this time; excludes `from_sequence`.
            until_sequence: end after this number.
            until_unix_nanos: end when this time has come.

        Raises:
            EVENTS_TRIMMED: the log no longer has `from_sequence`, at the start or because the watcher fell behind it.
            FIELD_INVALID: a number beyond the next one, or both ways to begin.
            ENGINE_STOPPING: the engine stops; go on later from the last number seen.
        """
        wanted = event_filter or EventFilter()
        wanted.check()
        position = await self._start(from_sequence, since_unix_nanos)
        self._check_not_trimmed(position)
        yield self._batch([], position)
        is_behind = position <= self.head_sequence
        sent_at = self._clock.monotonic()
        while until_sequence is None or position <= until_sequence:
            events = await self._read(position)
            if events:
                position = events[-1].sequence + 1
                fitting = [event for event in events if _is_before(event, until_sequence) and wanted.accepts(event)]
                if fitting:
                    sent_at = self._clock.monotonic()
                    yield self._batch(fitting, position)
                continue
            if self._bus.is_closed:
                raise EngineStopping(detail="the watch ends")
            to_heartbeat = sent_at + self._heartbeat_seconds - self._clock.monotonic()
            if is_behind or to_heartbeat <= 0:
                is_behind, sent_at = False, self._clock.monotonic()
                yield self._batch([], position)
                continue
            to_end = self._to_end(until_unix_nanos)
            if to_end <= 0:
                return
            await self._bus.wait(min(to_heartbeat, to_end))

    async def _start(self, from_sequence: int | None, since_unix_nanos: int | None) -> int:
        if from_sequence is not None and since_unix_nanos is not None:
            raise FieldInvalid(field="since_time", rule="excludes from_sequence")
        since = since_unix_nanos
        # A read comes after all writes given before it, also those that wait for others: what was is numbered then.
        found = await self._db.read(lambda txn: None if since is None else sequence_at(txn.connection, since))
        following = self.head_sequence + 1
        if since is not None:
            return found or following
        if from_sequence is None:
            return following
        if not 1 <= from_sequence <= following:
            raise FieldInvalid(field="from_sequence", rule=f"must lie between 1 and {following}, the next one to come")
        return from_sequence

    async def _read(self, position: int) -> list[Event]:
        if position > self.head_sequence:
            return []
        recent = self._bus.recent(position, BATCH_EVENTS)
        if recent is not None:
            return recent
        events = await self._db.read(lambda txn: read_events(txn.connection, position, BATCH_EVENTS))
        if not events or events[0].sequence != position:
            self._check_not_trimmed(position)
        return events

    def _check_not_trimmed(self, position: int) -> None:
        oldest = self._db.log.oldest_sequence
        if position < oldest:
            raise EventsTrimmed(requested_sequence=position, oldest_sequence=oldest)

    def _batch(self, events: list[Event], position: int) -> EventBatch:
        return EventBatch(tuple(events), position - 1, self._db.log.oldest_sequence)

    def _to_end(self, until_unix_nanos: int | None) -> float:
        """Seconds until the watch ends by time."""
        if until_unix_nanos is None:
            return float("inf")
        return (until_unix_nanos - self._clock.now_unix_nanos()) / _NANOS


def _is_before(event: Event, until_sequence: int | None) -> bool:
    return until_sequence is None or event.sequence <= until_sequence
