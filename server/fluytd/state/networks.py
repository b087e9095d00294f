"""Rows of the table `networks` and the records in them. It knows no rule about networks."""

import json
import logging
import typing
from collections.abc import Awaitable, Sequence

from fluytd import failpoints
from fluytd.events.model import Fact, NewEvent
from fluytd.networks.model import Network
from fluytd.state.db import Database, Transaction
from fluytd.state.values import build, dump

_log = logging.getLogger(__name__)


class NetworkRecords:
    """Implements `networks.ports.Records`."""

    def __init__(self, db: Database) -> None:
        self._db = db

    async def load(self) -> list[Network]:
        """See `ports.Records.load`."""
        networks = []
        for network_id, record in await self._db.read(lambda txn: txn.all("SELECT id, record FROM networks")):
            try:
                networks.append(typing.cast(Network, build(Network, json.loads(record))))
            except (KeyError, TypeError, ValueError) as error:
                _log.error("network %s: its record cannot be read: %s", network_id, error)
        return networks

    def save(self, network: Network, facts: Sequence[Fact]) -> Awaitable[None]:
        """See `ports.Records.save`."""

        def job(txn: Transaction) -> None:
            txn.execute(
                "INSERT OR REPLACE INTO networks VALUES (?, ?, ?, ?)",
                (network.id, network.name, network.version, dump(network)),
            )
            _emit(txn, network, facts)
            failpoints.hit("network.record.saved")

        return self._db.submit(job, durable=True)

    def delete(self, network: Network, facts: Sequence[Fact]) -> Awaitable[None]:
        """See `ports.Records.delete`."""

        def job(txn: Transaction) -> None:
            txn.execute("DELETE FROM networks WHERE id = ?", (network.id,))
            _emit(txn, network, facts)
            failpoints.hit("network.record.deleted")

        return self._db.submit(job, durable=True)


def _emit(txn: Transaction, network: Network, facts: Sequence[Fact]) -> None:
    for fact in facts:
        txn.emit(NewEvent(fact, network.id, network.labels))
