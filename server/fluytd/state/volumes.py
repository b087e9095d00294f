"""Rows of `volumes` <-> `Volume`. It knows no rule about volumes."""

import json
from collections.abc import Awaitable, Sequence
from typing import Any

from fluytd import failpoints
from fluytd.errors import DataCorruptOnDisk
from fluytd.events.model import Fact, NewEvent
from fluytd.state.db import Database, Transaction
from fluytd.volumes.model import Volume, VolumeState
from fluytd.volumes.ports import LoadedVolumes

_UPSERT = (
    "INSERT INTO volumes VALUES (?, ?, ?, ?, ?, ?)"
    " ON CONFLICT (id) DO UPDATE SET name = excluded.name, state = excluded.state, version = excluded.version,"
    " record = excluded.record"
)


class StoredVolumes:
    """Implements `volumes.ports.VolumeRecords`."""

    def __init__(self, db: Database, actor: str) -> None:
        """`actor`: who is told to have done what events tell."""
        self._db = db
        self._actor = actor

    async def load(self) -> LoadedVolumes:
        """See `ports.VolumeRecords.load`."""
        loaded = LoadedVolumes([], {})
        query = "SELECT id, name, state, version, create_time_unix_nanos, record FROM volumes"
        for row in await self._db.read(lambda txn: txn.all(query)):
            try:
                loaded.volumes.append(_volume(*row))
            except DataCorruptOnDisk as error:
                loaded.unreadable[row[0]] = error.failure
        return loaded

    def save(self, volume: Volume, facts: Sequence[Fact], *, durable: bool = False) -> Awaitable[None]:
        """See `ports.VolumeRecords.save`."""
        record = {
            "driver": volume.driver,
            "driver_options": dict(volume.driver_options),
            "labels": dict(volume.labels),
            "is_anonymous": volume.is_anonymous,
            "limit_bytes": volume.limit_bytes,
            "project_id": volume.project_id,
        }
        row = (
            volume.id,
            volume.name,
            volume.state.value,
            volume.version,
            volume.create_time_unix_nanos,
            json.dumps(record, separators=(",", ":")),
        )

        def job(txn: Transaction) -> None:
            txn.execute(_UPSERT, row)
            self._emit(txn, volume, facts)
            failpoints.hit(f"volume.record.{volume.state.value}")

        return self._db.submit(job, durable=durable)

    def delete(self, volume: Volume, facts: Sequence[Fact]) -> Awaitable[None]:
        """See `ports.VolumeRecords.delete`."""

        def job(txn: Transaction) -> None:
            txn.execute("DELETE FROM volumes WHERE id = ?", (volume.id,))
            self._emit(txn, volume, facts)
            failpoints.hit("volume.record.deleted")

        return self._db.submit(job)

    def _emit(self, txn: Transaction, volume: Volume, facts: Sequence[Fact]) -> None:
        for fact in facts:
            txn.emit(NewEvent(fact, volume.name, volume.labels, self._actor))


def _volume(volume_id: str, name: str, state: str, version: int, create_time: int, record: str) -> Volume:
    try:
        values: dict[str, Any] = json.loads(record)
        return Volume(
            id=volume_id,
            name=name,
            create_time_unix_nanos=create_time,
            driver=values["driver"],
            driver_options=values["driver_options"],
            labels=values["labels"],
            is_anonymous=values["is_anonymous"],
            limit_bytes=values["limit_bytes"],
            project_id=values.get("project_id", 0),  # absent in records of earlier versions, which bounded none
            state=VolumeState(state),
            version=version,
        )
    except (KeyError, TypeError, ValueError) as error:
        raise DataCorruptOnDisk(path=f"state.db: volume {volume_id}", detail=str(error)) from error
