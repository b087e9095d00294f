"""The numbered log: watching from any number, trimming told, slow watchers, filters, heartbeats."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from fluytd.clock import SystemClock
from fluytd.errors import EngineStopping, EventsTrimmed, Failure, FieldInvalid
from fluytd.events import bus as bus_module
from fluytd.events.bus import EventBus
from fluytd.events.log import TRIM_BATCH
from fluytd.events.model import FACTS, ContainerStartFailed, Event, ImageTagged, ImageUntagged, NewEvent
from fluytd.events.service import EventBatch, EventFilter, EventService
from fluytd.state.db import Database

MAX_EVENTS = 1_000


def tagged(name: str, **labels: str) -> NewEvent:
    return NewEvent(ImageTagged(name, "sha256:0", ""), "sha256:0", labels)


class Engine:
    """A database, a bus and a service on one directory."""

    def __init__(self, root: Path, heartbeat_seconds: float = 60) -> None:
        self.db = Database(root / "state.db", SystemClock(), max_events=MAX_EVENTS)
        self.bus = EventBus()
        self.events = EventService(self.db, self.bus, SystemClock(), heartbeat_seconds=heartbeat_seconds)

    async def emit(self, *events: NewEvent) -> None:
        await self.db.write(lambda txn: [txn.emit(event) for event in events])


@pytest.fixture
async def engine(tmp_path: Path) -> AsyncIterator[Engine]:
    made = Engine(tmp_path)
    await made.db.open()
    yield made
    await made.db.close()


async def take(watch: AsyncIterator[EventBatch], count: int) -> list[Event]:
    found: list[Event] = []
    async with asyncio.timeout(10):
        async for batch in watch:
            found.extend(batch.events)
            if len(found) >= count:
                break
    return found


async def test_the_first_message_is_a_heartbeat_with_the_head(engine: Engine) -> None:
    await engine.emit(tagged("a"), tagged("b"))
    first = await anext(engine.events.watch())
    assert (first.events, first.head_sequence, first.oldest_sequence) == ((), 2, 1)


async def test_a_watch_of_what_comes_leaves_out_what_was_before_and_not_yet_stored(engine: Engine) -> None:
    engine.db.submit(lambda txn: txn.emit(tagged("a")), lazy=True)
    watch = engine.events.watch()
    assert (await anext(watch)).head_sequence == 1
    await engine.emit(tagged("b"))
    assert [event.sequence for event in await take(watch, 1)] == [2]


async def test_a_watch_from_a_number_gives_the_past_then_what_comes(engine: Engine) -> None:
    await engine.emit(tagged("a"), tagged("b"))
    watch = engine.events.watch(2)
    assert [event.sequence for event in await take(watch, 1)] == [2]
    await engine.emit(tagged("c"))
    assert [event.sequence for event in await take(watch, 1)] == [3]


async def test_numbers_go_on_after_a_restart(tmp_path: Path) -> None:
    for run in range(3):
        made = Engine(tmp_path)
        await made.db.open()
        await made.emit(tagged(str(run)))
        assert [event.sequence for event in await take(made.events.watch(1), run + 1)] == list(range(1, run + 2))
        await made.db.close()


async def test_trimmed_events_are_told_with_the_oldest_number(engine: Engine) -> None:
    for _ in range(5):
        await engine.emit(*[tagged("a")] * TRIM_BATCH)
    oldest = engine.db.log.oldest_sequence
    assert oldest > 1
    assert engine.db.log.head_sequence - oldest + 1 >= MAX_EVENTS
    with pytest.raises(EventsTrimmed) as caught:
        await anext(engine.events.watch(1))
    assert caught.value.metadata == {"requested_sequence": "1", "oldest_sequence": str(oldest)}
    assert (await take(engine.events.watch(oldest), 1))[0].sequence == oldest


async def test_a_slow_watcher_loses_nothing_that_the_log_keeps(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine.bus, "_ring", type(engine.bus._ring)(maxlen=8))
    watch = engine.events.watch()
    await anext(watch)
    for number in range(300):
        await engine.emit(tagged(str(number)))
    found = await take(watch, 300)
    assert [event.sequence for event in found] == list(range(1, 301))
    assert bus_module.RING_EVENTS > 0


async def test_a_watcher_that_falls_behind_the_log_is_told(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine.bus, "_ring", type(engine.bus._ring)(maxlen=8))
    watch = engine.events.watch()
    await anext(watch)
    for _ in range(6):
        await engine.emit(*[tagged("a")] * TRIM_BATCH)
    with pytest.raises(EventsTrimmed):
        await take(watch, 1)


async def test_filters_choose_by_fact_subject_and_label(engine: Engine) -> None:
    untagged = NewEvent(ImageUntagged("b", "sha256:1"), "sha256:1")
    await engine.emit(tagged("a", k="v"), untagged, tagged("c"))

    async def found(event_filter: EventFilter) -> list[int]:
        return [event.sequence for event in await take(engine.events.watch(1, event_filter, until_sequence=3), 99)]

    assert await found(EventFilter(facts=frozenset({"image_untagged"}))) == [2]
    assert await found(EventFilter(facts=frozenset({"image"}))) == [1, 2, 3]
    assert await found(EventFilter(facts=frozenset({"container"}))) == []
    assert await found(EventFilter(subjects=frozenset({"sha256:1", "c"}))) == [2, 3]
    assert await found(EventFilter(labels=("k",))) == [1]
    assert await found(EventFilter(labels=("k=w",))) == []
    with pytest.raises(FieldInvalid):
        await found(EventFilter(facts=frozenset({"nonsense"})))


async def test_heartbeats_go_on_while_only_other_events_come(tmp_path: Path) -> None:
    engine = Engine(tmp_path, heartbeat_seconds=0.05)
    await engine.db.open()
    watch = engine.events.watch(None, EventFilter(facts=frozenset({"container"})))
    heads = [(await anext(watch)).head_sequence]
    for _ in range(3):
        await engine.emit(tagged("a"))
        heads.append((await anext(watch)).head_sequence)
    assert heads == [0, 1, 2, 3]
    await engine.db.close()


async def test_a_watch_may_begin_and_end_by_time(engine: Engine) -> None:
    await engine.emit(tagged("a"))
    await engine.emit(tagged("b"))
    second = (await take(engine.events.watch(2), 1))[0]
    now = SystemClock().now_unix_nanos()
    watch = engine.events.watch(since_unix_nanos=second.time_unix_nanos, until_unix_nanos=now)
    assert [event.sequence for event in await take(watch, 99)] == [2]


async def test_a_number_beyond_the_next_one_is_refused(engine: Engine) -> None:
    for sequence in (0, -1, 2):
        with pytest.raises(FieldInvalid):
            await anext(engine.events.watch(sequence))


async def test_closing_the_bus_ends_a_watch_with_a_reason(engine: Engine) -> None:
    watch = engine.events.watch()
    await anext(watch)
    engine.bus.close()
    with pytest.raises(EngineStopping):
        await anext(watch)


def test_a_fact_is_named_as_in_the_api() -> None:
    assert "container_out_of_memory" in FACTS
    assert "image_pulled" in FACTS


async def test_a_failure_within_a_fact_survives_the_log(engine: Engine) -> None:
    fact = ContainerStartFailed("id", "n", Failure(9, "PROCESS_START_FAILED", "m", {"step": "exec"}, "s"))
    await engine.emit(NewEvent(fact, "id"))
    engine.bus._ring.clear()
    assert (await take(engine.events.watch(1), 1))[0].fact == fact
