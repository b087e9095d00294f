"""One SQLite connection on one thread; every read and write of the engine's records is a job for it.

It knows no table but `events`: rows become models in the file of each noun.

A write is a transaction of about 40 microseconds (WAL, synchronous=NORMAL): it survives the death of the process; a
loss of power may take the newest ones with it but never damages the file. With `durable` it is synchronous=FULL: on
disk before the call returns, and with it all writes before it. The WAL is folded back while the thread is idle, so
that no request waits for it.

A write for which nobody waits may be `lazy`: it stays on the event loop for `LAZY_SECONDS` at most, and goes with the
next job in one transaction. Most of what a write costs is the way to the thread and back. Writes that wait for the
thread together, those of several callers, are one transaction too, and one sync.

Source: https://www.sqlite.org/wal.html, https://www.sqlite.org/pragma.html#pragma_synchronous
"""

import asyncio
import itertools
import queue
import sqlite3
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar

from fluytd.clock import Clock
from fluytd.errors import EngineStopping
from fluytd.events.log import EventLog
from fluytd.events.model import Event, NewEvent
from fluytd.state.connection import connect, translate

T = TypeVar("T")
Row = tuple[Any, ...]

#: How long the thread stays idle before it folds the WAL back into the file.
_IDLE_SECONDS = 1.0
#: How long a lazy write waits for another job: longer than a short container runs, and nothing to who watches events.
LAZY_SECONDS = 0.01
#: Jobs given so far that are looked at together: beyond it some callers hear that theirs are done first.
MAX_BATCH = 64


class Transaction:
    """What a job may do. Valid only during its call, on the database's thread."""

    __slots__ = ("_log", "connection", "events")

    def __init__(self, connection: sqlite3.Connection, log: EventLog) -> None:
        #: For the event log, which shares the transaction.
        self.connection = connection
        self._log = log
        self.events: list[Event] = []

    def execute(self, sql: str, values: Sequence[object] = ()) -> sqlite3.Cursor:
        """Runs one statement; the cursor gives rows as tuples and must not outlive the job."""
        return self.connection.execute(sql, values)

    def execute_many(self, sql: str, rows: Sequence[Sequence[object]]) -> None:
        """Runs one statement for each row."""
        self.connection.executemany(sql, rows)

    def all(self, sql: str, values: Sequence[object] = ()) -> list[Row]:
        """Every row of a query."""
        return self.connection.execute(sql, values).fetchall()

    def one(self, sql: str, values: Sequence[object] = ()) -> Row | None:
        """The first row of a query, or None."""
        row: Row | None = self.connection.execute(sql, values).fetchone()
        return row

    def emit(self, event: NewEvent) -> Event:
        """Records an event in this transaction; watchers hear of it after the commit and never before."""
        numbered = self._log.append(self.connection, event, len(self.events))
        self.events.append(numbered)
        return numbered


class Database:
    """The engine's records. Made once, used from the event loop, closed last."""

    def __init__(self, path: Path, clock: Clock, *, max_events: int) -> None:
        """Names the file; nothing is opened before `open`. `max_events`: bound of the event log."""
        self._path = path
        self._log = EventLog(clock, max_events)
        self._jobs: queue.SimpleQueue[list[_Job[Any]] | None] = queue.SimpleQueue()
        #: Lazy writes that no other job has taken along yet, and what gives them to the thread if none comes.
        self._waiting: list[_Job[Any]] = []
        self._flushing: asyncio.TimerHandle | None = None
        self._thread: threading.Thread | None = None
        self._deliver: Callable[[list[Event]], None] = lambda events: None

    @property
    def log(self) -> EventLog:
        """The event log's bounds, kept up to date at every commit."""
        return self._log

    async def open(self) -> None:
        """The file exists, at this engine's version, and is held by this process alone.

        Raises DATA_ROOT_IN_USE, VERSION_MISMATCH, DATA_CORRUPT, STORAGE_FULL, IO_FAILED.
        """
        loop = asyncio.get_running_loop()
        opened: asyncio.Future[None] = loop.create_future()
        self._thread = threading.Thread(target=self._main, args=(loop, opened), name="state", daemon=True)
        self._thread.start()
        await opened

    async def close(self) -> None:
        """All jobs given so far have run and the file is closed. Idempotent."""
        if self._thread is None:
            return
        thread, self._thread = self._thread, None
        self._flush()
        self._jobs.put(None)
        await asyncio.to_thread(thread.join)

    def deliver_to(self, deliver: Callable[[list[Event]], None]) -> None:
        """`deliver` is called on the event loop with the events of each commit, in order."""
        self._deliver = deliver

    def submit(
        self, fn: Callable[[Transaction], T], *, durable: bool = False, lazy: bool = False
    ) -> "asyncio.Future[T]":
        """As `write`, without waiting: jobs run in the order in which they were given. A failure is in the future.

        `lazy`: it may begin up to `LAZY_SECONDS` later, together with the next job; not for one that is `durable`.
        """
        is_lazy = lazy and not durable
        return self._put(_Job(fn, True, durable, asyncio.get_running_loop().create_future(), is_lazy))

    async def write(self, fn: Callable[[Transaction], T], *, durable: bool = False) -> T:
        """What `fn` returns, after its transaction was committed; if it raises, nothing was changed.

        `fn` runs on the database's thread and must not block; it runs a second time where another one that shares its
        transaction failed. Cancelling the await does not undo the transaction.
        Raises what `fn` raises, STORAGE_FULL, IO_FAILED, DATA_CORRUPT, ENGINE_STOPPING after `close`.
        """
        return await self.submit(fn, durable=durable)

    async def read(self, fn: Callable[[Transaction], T]) -> T:
        """What `fn` returns; it must not write. Later than all writes given before it."""
        return await self._put(_Job(fn, False, False, asyncio.get_running_loop().create_future()))

    def _put(self, job: "_Job[T]") -> "asyncio.Future[T]":
        if self._thread is None:
            job.future.set_exception(EngineStopping(detail="its records are closed"))
            return job.future
        self._waiting.append(job)
        if not job.is_lazy:
            self._flush()
        elif self._flushing is None:
            self._flushing = asyncio.get_running_loop().call_later(LAZY_SECONDS, self._flush)
        return job.future

    def _flush(self) -> None:
        if self._flushing is not None:
            self._flushing.cancel()
            self._flushing = None
        if self._waiting:
            self._jobs.put(self._waiting)
            self._waiting = []

    def _main(self, loop: asyncio.AbstractEventLoop, opened: "asyncio.Future[None]") -> None:
        try:
            connection = connect(self._path)
            self._log.load(connection)
        except Exception as error:  # noqa: BLE001 - whatever it is, it is the opener's to see
            loop.call_soon_threadsafe(_settle, opened, None, translate(error, self._path))
            return
        loop.call_soon_threadsafe(_settle, opened, None, None)
        try:
            self._run_jobs(loop, connection)
        finally:
            connection.close()

    def _run_jobs(self, loop: asyncio.AbstractEventLoop, connection: sqlite3.Connection) -> None:
        is_dirty = False
        while True:
            try:
                jobs = self._jobs.get(timeout=_IDLE_SECONDS if is_dirty else None)
            except queue.Empty:
                connection.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchall()
                is_dirty = False
                continue
            is_last = jobs is None
            jobs = list(jobs or ())
            while not is_last and len(jobs) < MAX_BATCH:
                try:
                    more = self._jobs.get_nowait()
                except queue.Empty:
                    break
                is_last = more is None
                jobs += more or ()
            is_dirty = is_dirty or any(job.is_write for job in jobs)
            for batch in _batches(jobs):
                loop.call_soon_threadsafe(self._finish, batch, *self._run(connection, batch))
            if is_last:
                return

    def _run(self, connection: sqlite3.Connection, batch: "list[_Job[Any]]") -> "tuple[list[_Outcome], list[Event]]":
        transaction = Transaction(connection, self._log)
        try:
            if batch[0].is_write:
                outcomes = _transact(connection, batch, transaction)
            else:
                outcomes = [(batch[0].fn(transaction), None)]
        except Exception as error:  # noqa: BLE001 - whatever it is, it is the caller's to see
            return [(None, translate(error, self._path))] * len(batch), []
        self._log.commit(connection, transaction.events)
        return [(result, error and translate(error, self._path)) for result, error in outcomes], transaction.events

    def _finish(self, batch: "list[_Job[Any]]", outcomes: "list[_Outcome]", events: list[Event]) -> None:
        if events:
            self._deliver(events)
        for job, (result, failure) in zip(batch, outcomes, strict=True):
            _settle(job.future, result, failure)


#: What a job returned, or why it changed nothing.
_Outcome = tuple[object, BaseException | None]


@dataclass(frozen=True, slots=True)
class _Job(Generic[T]):
    fn: Callable[[Transaction], T]
    is_write: bool
    is_durable: bool
    future: "asyncio.Future[T]"
    is_lazy: bool = False


def _batches(jobs: "list[_Job[Any]]") -> "Iterator[list[_Job[Any]]]":
    """The jobs in their order, so that those of one list can share a transaction: each read by itself, and no write
    before or after all durable ones waits for the disk, but for lazy ones, for which nobody waits."""
    for is_write, group in itertools.groupby(jobs, lambda job: job.is_write):
        batch = list(group)
        if not is_write:
            yield from ([job] for job in batch)
            continue
        durable = [place for place, job in enumerate(batch) if job.is_durable]
        first, end = (durable[0], durable[-1] + 1) if durable else (0, len(batch))
        while first > 0 and batch[first - 1].is_lazy:
            first -= 1
        while end < len(batch) and batch[end].is_lazy:
            end += 1
        yield from (part for part in (batch[:first], batch[first:end], batch[end:]) if part)


def _transact(connection: sqlite3.Connection, batch: "list[_Job[Any]]", transaction: Transaction) -> "list[_Outcome]":
    """The outcome of each job, all of them committed; one that raises is undone alone. Raises what befell them all."""
    is_durable = any(job.is_durable for job in batch)
    if is_durable:
        connection.execute("PRAGMA synchronous=FULL")
    try:
        connection.execute("BEGIN IMMEDIATE")
        try:
            try:
                outcomes: list[_Outcome] = [(job.fn(transaction), None) for job in batch]
            except Exception:
                if len(batch) == 1 or not connection.in_transaction:
                    raise
                # Rare: all once more, now so that the one that fails can be undone alone.
                connection.execute("ROLLBACK")
                transaction.events.clear()
                connection.execute("BEGIN IMMEDIATE")
                outcomes = [_within(connection, job, transaction) for job in batch]
            connection.execute("COMMIT")
        except BaseException:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            raise
        return outcomes
    finally:
        if is_durable:
            connection.execute("PRAGMA synchronous=NORMAL")


def _within(connection: sqlite3.Connection, job: "_Job[Any]", transaction: Transaction) -> "_Outcome":
    event_count = len(transaction.events)
    connection.execute("SAVEPOINT job")
    try:
        outcome: _Outcome = (job.fn(transaction), None)
    except Exception as error:
        if not connection.in_transaction:  # SQLite ended it by itself, with all jobs of it (a full disk)
            raise
        connection.execute("ROLLBACK TO job")
        del transaction.events[event_count:]
        outcome = (None, error)
    connection.execute("RELEASE job")
    return outcome


def _settle(future: "asyncio.Future[Any]", result: object, failure: BaseException | None) -> None:
    if future.cancelled():
        return
    if failure is None:
        future.set_result(result)
    else:
        future.set_exception(failure)
