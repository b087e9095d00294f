"""The records' thread: transactions, events within them, durability options, failures."""

import asyncio
import threading
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from fluytd.clock import SystemClock
from fluytd.errors import DataCorruptOnDisk, DataRootInUse, EngineError, EngineStopping, FieldInvalid, VersionMismatch
from fluytd.events.model import Event, ImageTagged, NewEvent
from fluytd.state.db import LAZY_SECONDS, Database, Transaction

TAGGED = NewEvent(ImageTagged("docker.io/library/a:1", "sha256:0", ""), "sha256:0")


@pytest.fixture
async def db(tmp_path: Path) -> AsyncIterator[Database]:
    database = Database(tmp_path / "state.db", SystemClock(), max_events=100)
    await database.open()
    yield database
    await database.close()


async def test_a_write_is_kept_over_a_reopening(tmp_path: Path) -> None:
    for expected in ([], [("x",)]):
        database = Database(tmp_path / "state.db", SystemClock(), max_events=100)
        await database.open()
        assert await database.read(lambda txn: txn.all("SELECT record FROM images")) == expected
        await database.write(
            lambda txn: txn.execute("INSERT OR REPLACE INTO images VALUES ('l', 1, 1, 'x')"), durable=True
        )
        await database.close()


async def test_a_write_that_raises_changes_nothing_and_tells_nobody(db: Database) -> None:
    delivered: list[Event] = []
    db.deliver_to(delivered.extend)

    def broken(txn: Transaction) -> None:
        txn.execute("INSERT INTO images VALUES ('l', 1, 1, 'x')")
        txn.emit(TAGGED)
        raise FieldInvalid(field="x", rule="broken")

    with pytest.raises(FieldInvalid):
        await db.write(broken)
    assert await db.read(lambda txn: txn.all("SELECT * FROM images")) == []
    assert (delivered, db.log.head_sequence) == ([], 0)


async def test_events_are_delivered_before_the_writer_goes_on(db: Database) -> None:
    delivered: list[Event] = []
    db.deliver_to(delivered.extend)
    await db.write(lambda txn: (txn.emit(TAGGED), txn.emit(TAGGED)))
    assert [event.sequence for event in delivered] == [1, 2]


async def test_jobs_run_in_the_order_given_also_when_nobody_waits(db: Database) -> None:
    futures = [
        db.submit(lambda txn, n=n: txn.execute("INSERT INTO images VALUES (?, 1, 1, 'x')", (str(n),)).lastrowid)  # type: ignore[misc]
        for n in range(50)
    ]
    count = await db.read(lambda txn: txn.one("SELECT count(*) FROM images"))
    assert count == (50,)
    await asyncio.gather(*futures)


def _insert(number: int) -> Callable[[Transaction], None]:
    def job(txn: Transaction) -> None:
        txn.execute("INSERT INTO images VALUES (?, 1, 1, 'x')", (str(number),))
        txn.emit(TAGGED)

    return job


async def test_lazy_writes_go_with_the_next_one_in_their_order(db: Database) -> None:
    delivered: list[list[int]] = []
    db.deliver_to(lambda events: delivered.append([event.sequence for event in events]))
    futures = [db.submit(_insert(number), lazy=True) for number in range(2)]
    await db.write(_insert(2))
    assert delivered == [[1, 2, 3]], "one transaction"
    assert all(future.done() for future in futures)


@pytest.mark.parametrize("is_durable", [True, False])
async def test_a_lazy_write_comes_before_a_read_and_with_a_durable_write(db: Database, is_durable: bool) -> None:
    delivered: list[list[int]] = []
    db.deliver_to(lambda events: delivered.append([event.sequence for event in events]))
    db.submit(_insert(0), lazy=True)
    if is_durable:
        await db.write(_insert(1), durable=True)
        assert delivered == [[1, 2]], "one transaction: nobody waits for the lazy one, which may wait for the disk"
    else:
        assert await db.read(lambda txn: txn.one("SELECT count(*) FROM images")) == (1,)
        assert delivered == [[1]]


async def test_writes_that_wait_together_share_a_transaction_and_no_more_than_needed_wait_for_the_disk(
    db: Database,
) -> None:
    delivered: list[list[int]] = []
    db.deliver_to(lambda events: delivered.append([event.sequence for event in events]))
    is_free = threading.Event()
    held = db.submit(lambda txn: is_free.wait(10))
    durable = [False, True, False, True, False]
    futures = [db.submit(_insert(number), durable=one) for number, one in enumerate(durable)]
    is_free.set()
    await asyncio.gather(held, *futures)
    assert delivered == [[1], [2, 3, 4], [5]]


async def test_lazy_writes_beside_a_durable_one_share_its_transaction_and_others_do_not(db: Database) -> None:
    delivered: list[list[int]] = []
    db.deliver_to(lambda events: delivered.append([event.sequence for event in events]))
    is_free = threading.Event()
    held = db.submit(lambda txn: is_free.wait(10))
    futures = [db.submit(_insert(0))]
    futures += [db.submit(_insert(1), lazy=True), db.submit(_insert(2), durable=True), db.submit(_insert(3), lazy=True)]
    futures.append(db.submit(_insert(4)))
    is_free.set()
    await asyncio.gather(held, *futures)
    assert delivered == [[1], [2, 3, 4], [5]]


async def test_a_lazy_write_alone_is_carried_out_a_moment_later(db: Database) -> None:
    future = db.submit(_insert(0), lazy=True)
    assert not future.done()
    await asyncio.wait_for(future, LAZY_SECONDS + 5)


async def test_a_lazy_write_is_carried_out_before_the_file_is_closed(db: Database) -> None:
    future = db.submit(_insert(0), lazy=True)
    await db.close()
    await asyncio.wait_for(future, 5)


async def test_of_writes_that_share_a_transaction_one_that_raises_is_undone_alone(db: Database) -> None:
    delivered: list[Event] = []
    db.deliver_to(delivered.extend)

    def broken(txn: Transaction) -> None:
        _insert(1)(txn)
        raise FieldInvalid(field="x", rule="broken")

    first, second = db.submit(_insert(0), lazy=True), db.submit(broken, lazy=True)
    await db.write(_insert(2))
    await first
    with pytest.raises(FieldInvalid):
        await second
    assert await db.read(lambda txn: txn.all("SELECT id FROM images ORDER BY id")) == [("0",), ("2",)]
    assert [event.sequence for event in delivered] == [1, 2], "no number is left out"


async def test_writes_that_share_a_transaction_share_its_failure(db: Database) -> None:
    def ended(txn: Transaction) -> None:
        txn.connection.execute("ROLLBACK")  # as SQLite itself does when the disk is full
        raise FieldInvalid(field="x", rule="broken")

    first, second = db.submit(_insert(0), lazy=True), db.submit(ended, lazy=True)
    third = db.submit(_insert(1))
    for future in (first, second, third):
        with pytest.raises(FieldInvalid):
            await future
    assert await db.read(lambda txn: txn.all("SELECT id FROM images")) == []
    await db.write(_insert(3))
    assert db.log.head_sequence == 1


async def test_a_second_engine_on_the_same_data_is_refused(db: Database, tmp_path: Path) -> None:
    with pytest.raises(DataRootInUse):
        await Database(tmp_path / "state.db", SystemClock(), max_events=1).open()


async def test_a_file_of_a_newer_engine_is_refused(tmp_path: Path) -> None:
    database = Database(tmp_path / "state.db", SystemClock(), max_events=1)
    await database.open()
    await database.write(lambda txn: txn.execute("PRAGMA user_version=999"))
    await database.close()
    with pytest.raises(VersionMismatch):
        await Database(tmp_path / "state.db", SystemClock(), max_events=1).open()


async def test_a_file_that_is_no_database_is_corrupt(tmp_path: Path) -> None:
    (tmp_path / "state.db").write_bytes(b"not a database" * 1000)
    with pytest.raises(DataCorruptOnDisk):
        await Database(tmp_path / "state.db", SystemClock(), max_events=1).open()


async def test_a_missing_directory_is_an_error_of_the_catalogue(tmp_path: Path) -> None:
    with pytest.raises(EngineError):
        await Database(tmp_path / "absent" / "state.db", SystemClock(), max_events=1).open()


async def test_after_closing_a_write_is_refused(db: Database) -> None:
    await db.close()
    with pytest.raises(EngineStopping):
        await db.write(lambda txn: None)
