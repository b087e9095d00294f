"""Rows of the table `containers` and the records in them. It knows no rule about containers."""

import dataclasses
import json
import operator
import typing
from collections.abc import Awaitable, Sequence
from typing import Final

from fluytd import failpoints
from fluytd.containers.model import Container
from fluytd.containers.ports import LoadedRecords
from fluytd.errors import DataCorruptOnDisk
from fluytd.events.model import Fact, NewEvent
from fluytd.state import execs
from fluytd.state.db import Database, Transaction
from fluytd.state.values import build, dump

_UPSERT: Final = (
    "INSERT INTO containers VALUES (?, ?, ?, ?, ?, ?, ?)"
    " ON CONFLICT (id) DO UPDATE SET name = excluded.name, state = excluded.state, version = excluded.version,"
    " record = excluded.record"
)


class ContainerRecords:
    """Implements `containers.ports.Records`."""

    def __init__(self, db: Database) -> None:
        self._db = db
        self._encoder = Encoder()
        #: The record of each container that was given last.
        self._newest: dict[str, Container] = {}

    async def load(self) -> LoadedRecords:
        """See `ports.Records.load`."""
        rows = await self._db.read(lambda txn: txn.all("SELECT id, record FROM containers"))
        loaded = LoadedRecords([], {})
        for container_id, record in rows:
            try:
                loaded.containers.append(decode(container_id, record))
            except DataCorruptOnDisk as error:
                loaded.unreadable[container_id] = error.failure
        return loaded

    def save(
        self, container: Container, facts: Sequence[Fact], *, durable: bool = False, lazy: bool = False
    ) -> Awaitable[None]:
        """See `ports.Records.save`."""

        self._newest[container.id] = container

        def job(txn: Transaction) -> None:
            # Nobody waits for a lazy one, and the next carries the whole record.
            if not lazy or self._newest.get(container.id, container) is container:
                self._upsert(txn, container)
            _emit(txn, container, facts)
            failpoints.hit(f"container.record.{container.state.value}")

        return self._db.submit(job, durable=durable, lazy=lazy)

    def _upsert(self, txn: Transaction, container: Container) -> None:
        values = (
            container.id,
            container.name,
            container.image.image_id,
            container.state.value,
            container.version,
            container.create_time_unix_nanos,
            self._encoder.encode(container),
        )
        txn.execute(_UPSERT, values)

    def delete(self, container: Container, facts: Sequence[Fact], *, lazy: bool = False) -> Awaitable[None]:
        """See `ports.Records.delete`."""
        self._newest.pop(container.id, None)

        def job(txn: Transaction) -> None:
            txn.execute("DELETE FROM containers WHERE id = ?", (container.id,))
            execs.forget_container(txn, container.id)
            _emit(txn, container, facts)
            failpoints.hit("container.record.deleted")

        return self._db.submit(job, lazy=lazy)


def _emit(txn: Transaction, container: Container, facts: Sequence[Fact]) -> None:
    for fact in facts:
        subject = getattr(fact, "volume", container.id)  # what a container does to a volume is told of the volume
        txn.emit(NewEvent(fact, subject, container.resolved.labels))


#: Parts of a record that never change from one state to the next, and how many of them are kept as text.
_LASTING: Final = ("spec", "image", "resolved")
_CHANGING: Final = tuple(field.name for field in dataclasses.fields(Container) if field.name not in _LASTING)
_changing_of: Final = operator.attrgetter(*_CHANGING)
MAX_KEPT_TEXTS: Final = 1_024
MAX_KEPT_TEXT_BYTES: Final = 8 * 1024


class Encoder:
    """Makes records into JSON. It keeps the text of lasting parts by their identity, since a container is recorded
    several times in a few milliseconds. Belongs to one thread."""

    def __init__(self) -> None:
        self._texts: dict[int, tuple[object, str]] = {}

    def encode(self, container: Container) -> str:
        """The record as JSON."""
        fields = dict(zip(_CHANGING, _changing_of(container), strict=True))
        lasting = [f'"{name}":{self._lasting(getattr(container, name))}' for name in _LASTING]
        return "{" + ",".join((*lasting, dump(fields)[1:]))

    def _lasting(self, part: object) -> str:
        kept = self._texts.get(id(part))
        if kept is not None and kept[0] is part:
            return kept[1]
        text = dump(part)
        if len(text) <= MAX_KEPT_TEXT_BYTES:
            if len(self._texts) == MAX_KEPT_TEXTS:
                del self._texts[next(iter(self._texts))]
            self._texts[id(part)] = (part, text)
        return text


def decode(container_id: str, record: str) -> Container:
    """The record of a row. Raises DATA_CORRUPT for anything that `encode` did not write."""
    try:
        return typing.cast(Container, build(Container, json.loads(record)))
    except (KeyError, TypeError, ValueError) as error:
        raise DataCorruptOnDisk(path=f"state.db: container {container_id}", detail=str(error)) from error
