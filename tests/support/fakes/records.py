"""Stands in for the records of containers and for their logs."""

from __future__ import annotations

import asyncio
import contextlib
import os
import select
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field

from fluytd.containers.model import Container
from fluytd.containers.ports import LoadedRecords
from fluytd.events.model import Fact
from fluytd.logs.ports import LogReader, ReadRange


@dataclass
class FakeRecords:
    """Keeps records and facts in order."""

    saved: dict[str, Container] = field(default_factory=dict)
    facts: list[Fact] = field(default_factory=list)
    durable_count: int = 0

    async def load(self) -> LoadedRecords:
        return LoadedRecords(list(self.saved.values()), {})

    def save(
        self, container: Container, facts: Sequence[Fact], *, durable: bool = False, lazy: bool = False
    ) -> Awaitable[None]:
        self.saved[container.id] = container
        self.facts += facts
        self.durable_count += durable
        return _done()

    def delete(self, container: Container, facts: Sequence[Fact], *, lazy: bool = False) -> Awaitable[None]:
        self.saved.pop(container.id, None)
        self.facts += facts
        return _done()

    @property
    def fact_names(self) -> list[str]:
        """Class names of all facts, in order."""
        return [type(fact).__name__ for fact in self.facts]


async def _done() -> None:
    return None


@dataclass(frozen=True)
class FakeRecord:
    """One log record."""

    stream: str
    data: bytes
    time_unix_nanos: int = 1
    cursor: str = "1:0"


class FakeLog:
    """A log that a test writes to; each reader of it is a position."""

    def __init__(self) -> None:
        self.records: list[FakeRecord] = []
        self.readers: list[FakeLogReader] = []

    def write(self, stream: str, data: bytes) -> None:
        """Adds a record and tells every reader."""
        self.records.append(FakeRecord(stream, data, cursor=f"1:{len(self.records)}"))
        for reader in self.readers:
            reader.tell()

    def open(self, log_dir: str, wanted: ReadRange) -> LogReader:
        reader = FakeLogReader(self, len(self.records) if wanted.tail_lines == 0 else 0)
        self.readers.append(reader)
        return reader


class FakeLogReader:
    """Reads a `FakeLog`."""

    def __init__(self, log: FakeLog, position: int) -> None:
        self._log = log
        self._position = position
        self._fd = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self.is_past_until = False
        self.segment = 1
        self.skipped_segments = 0
        self.is_closed = False

    def tell(self) -> None:
        """There is more."""
        if not self.is_closed:
            os.eventfd_write(self._fd, 1)

    def on_news(self, wake: Callable[[], None] | None) -> None:
        loop = asyncio.get_running_loop()
        if wake is None:
            loop.remove_reader(self._fd)
        else:
            loop.add_reader(self._fd, wake)

    def has_news(self) -> bool:
        return bool(select.select([self._fd], [], [], 0)[0])

    def read(self, max_bytes: int) -> Sequence[FakeRecord]:
        with contextlib.suppress(BlockingIOError):
            os.eventfd_read(self._fd)
        found = self._log.records[self._position :]
        self._position += len(found)
        return found

    read_final = read

    def close(self) -> None:
        if not self.is_closed:
            self.is_closed = True
            os.close(self._fd)
