"""Rows of the table `execs` and the records in them. It knows no rule about sessions."""

import json
import logging
import typing
from collections.abc import Awaitable, Mapping, Sequence
from typing import Final

from fluytd import failpoints
from fluytd.events.model import Fact, NewEvent
from fluytd.execs.model import ExecSession
from fluytd.state.db import Database, Transaction
from fluytd.state.values import build, dump

_log = logging.getLogger(__name__)

_UPSERT: Final = "INSERT INTO execs VALUES (?, ?, ?, ?) ON CONFLICT (id) DO UPDATE SET record = excluded.record"


class ExecRecords:
    """Implements `execs.ports.Records`."""

    def __init__(self, db: Database) -> None:
        self._db = db

    async def load(self) -> list[ExecSession]:
        """See `ports.Records.load`."""
        rows = await self._db.read(lambda txn: txn.all("SELECT id, record FROM execs ORDER BY create_time_unix_nanos"))
        sessions = []
        for exec_id, record in rows:
            try:
                sessions.append(typing.cast(ExecSession, build(ExecSession, json.loads(record))))
            except (KeyError, TypeError, ValueError) as error:
                # What a supervisor still knows of it is found all the same.
                _log.error("session %s: its record cannot be read: %s", exec_id, error)
        return sessions

    def save(self, session: ExecSession, facts: Sequence[Fact], labels: Mapping[str, str]) -> Awaitable[None]:
        """See `ports.Records.save`."""
        record = dump(session)

        def job(txn: Transaction) -> None:
            txn.execute(_UPSERT, (session.id, session.container_id, session.create_time_unix_nanos, record))
            for fact in facts:
                txn.emit(NewEvent(fact, session.container_id, labels))
            failpoints.hit(f"exec.record.{session.state.value}")

        return self._db.submit(job)

    def delete(self, exec_id: str) -> Awaitable[None]:
        """See `ports.Records.delete`."""

        def job(txn: Transaction) -> None:
            txn.execute("DELETE FROM execs WHERE id = ?", (exec_id,))
            failpoints.hit("exec.record.deleted")

        return self._db.submit(job)


def forget_container(txn: Transaction, container_id: str) -> None:
    """No session of the container has a row."""
    txn.execute("DELETE FROM execs WHERE container_id = ?", (container_id,))
