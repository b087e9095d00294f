"""The `events` table: numbering without gaps, trimming at the old end. It runs on the database's thread."""

import json
import sqlite3

from fluytd.clock import Clock
from fluytd.errors import DataCorruptOnDisk
from fluytd.events.model import Event, NewEvent, fact_from_json, fact_to_json

#: Events beyond the bound that are trimmed at once, so that not every event pays for a deletion.
TRIM_BATCH = 256


class EventLog:
    """The log's bounds in memory, and its rows.

    `head_sequence` and `oldest_sequence` may be read from any thread; all else belongs to the database's thread.
    """

    def __init__(self, clock: Clock, max_events: int) -> None:
        """`max_events`: how many are kept at least; up to `TRIM_BATCH` more may stand."""
        self._clock = clock
        self._max_events = max_events
        #: Number of the newest event; 0 before the first.
        self.head_sequence = 0
        #: Number of the oldest event kept; head + 1 if there is none.
        self.oldest_sequence = 1

    def load(self, connection: sqlite3.Connection) -> None:
        """The bounds are those of the table."""
        oldest, head = connection.execute("SELECT min(sequence), max(sequence) FROM events").fetchone()
        if head is not None:
            self.oldest_sequence, self.head_sequence = oldest, head

    def append(self, connection: sqlite3.Connection, event: NewEvent, offset: int) -> Event:
        """The row is in the open transaction; `offset`: events appended before it in the same transaction."""
        sequence = self.head_sequence + offset + 1
        name, record = fact_to_json(event.fact)
        now = self._clock.now_unix_nanos()
        labels = json.dumps(dict(event.labels), separators=(",", ":")) if event.labels else "{}"
        connection.execute(
            "INSERT INTO events VALUES (?, ?, ?, ?, ?, ?, ?)",
            (sequence, now, event.actor, event.subject, labels, name, record),
        )
        if sequence - self.oldest_sequence >= self._max_events + TRIM_BATCH:
            connection.execute("DELETE FROM events WHERE sequence <= ?", (sequence - self._max_events,))
        return Event(sequence, now, event.fact, event.subject, event.labels, event.actor)

    def commit(self, connection: sqlite3.Connection, events: list[Event]) -> None:
        """The transaction that appended `events` was committed."""
        if not events:
            return
        head = events[-1].sequence
        if head - self.oldest_sequence >= self._max_events + TRIM_BATCH:
            (self.oldest_sequence,) = connection.execute("SELECT min(sequence) FROM events").fetchone()
        self.head_sequence = head


def read_events(connection: sqlite3.Connection, from_sequence: int, limit: int) -> list[Event]:
    """At most `limit` events from a number on, in order. Raises DATA_CORRUPT for a row that is no event."""
    rows = connection.execute(
        "SELECT sequence, time_unix_nanos, fact, record, subject, labels, actor FROM events"
        " WHERE sequence >= ? ORDER BY sequence LIMIT ?",
        (from_sequence, limit),
    )
    return [_event(row) for row in rows]


def sequence_at(connection: sqlite3.Connection, time_unix_nanos: int) -> int | None:
    """The number of the first event of that time or later, None if there is none yet."""
    (sequence,) = connection.execute(
        "SELECT min(sequence) FROM events WHERE time_unix_nanos >= ?", (time_unix_nanos,)
    ).fetchone()
    return sequence if sequence is None else int(sequence)


def _event(row: tuple[int, int, str, str, str, str, str]) -> Event:
    sequence, time, name, record, subject, labels, actor = row
    try:
        return Event(sequence, time, fact_from_json(name, record), subject, json.loads(labels), actor)
    except (KeyError, TypeError, ValueError) as error:
        raise DataCorruptOnDisk(path=f"state.db: event {sequence}", detail=str(error)) from error
