"""Containers in the store: what is written when several records of one follow each other."""

from dataclasses import replace
from pathlib import Path

import pytest

from fluytd.clock import SystemClock
from fluytd.containers import facts
from fluytd.containers.model import Container, Resolved, State
from fluytd.containers.spec import ContainerSpec
from fluytd.events.model import Event
from fluytd.state.containers import ContainerRecords
from fluytd.state.db import Database, Transaction
from tests.support.fakes.containers import IMAGE


async def test_of_a_lazy_record_that_a_newer_one_follows_only_the_facts_are_stored(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    database = Database(tmp_path / "state.db", SystemClock(), max_events=100)
    await database.open()
    delivered: list[Event] = []
    database.deliver_to(delivered.extend)
    records = ContainerRecords(database)
    written: list[State] = []
    upsert = records._upsert

    def noted(txn: Transaction, container: Container) -> None:
        written.append(container.state)
        upsert(txn, container)

    monkeypatch.setattr(records, "_upsert", noted)
    resolved = Resolved(("true",), (), "/", "", "host", 15, 10_000, {})
    starting = Container("a" * 64, "a", ContainerSpec(image="b"), IMAGE, resolved, 1, state=State.STARTING)
    running, ended = replace(starting, state=State.RUNNING), replace(starting, state=State.EXITED)

    records.save(starting, (), lazy=True)
    records.save(running, (facts.created(running),), lazy=True)
    await records.save(ended, (facts.created(ended),))
    assert written == [State.EXITED]
    assert len(delivered) == len([running, ended])
    assert (await records.load()).containers == [ended]

    # One that nothing follows is stored, also the first of a container that comes again.
    records.delete(ended, ())
    await records.save(running, (), lazy=True)
    assert (await records.load()).containers == [running]
    await database.close()
