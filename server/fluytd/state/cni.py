"""Rows of the table `cni_attachments`. It knows no rule about plugins."""

import asyncio
import json
import logging
import typing

from fluytd import failpoints
from fluytd.networks.cni.model import PluginAttachment
from fluytd.state.db import Database, Transaction
from fluytd.state.values import build, dump

_log = logging.getLogger(__name__)


class StoredPluginAttachments:
    """Implements `networks.cni.ports.PluginRecords`. Made on the event loop, written to by its workers."""

    def __init__(self, db: Database) -> None:
        self._db = db
        self._loop = asyncio.get_running_loop()

    async def load(self) -> list[PluginAttachment]:
        """See `ports.PluginRecords.load`."""
        found = []
        for container_id, record in await self._db.read(
            lambda txn: txn.all("SELECT container_id, record FROM cni_attachments")
        ):
            try:
                found.append(typing.cast(PluginAttachment, build(PluginAttachment, json.loads(record))))
            except (KeyError, TypeError, ValueError) as error:
                _log.error("container %s: what plugins gave it cannot be read: %s", container_id, error)
        return found

    def save(self, attachment: PluginAttachment) -> None:
        """See `ports.PluginRecords.save`."""

        def job(txn: Transaction) -> None:
            row = (*attachment.key, dump(attachment))
            txn.execute("INSERT OR REPLACE INTO cni_attachments VALUES (?, ?, ?)", row)
            failpoints.hit("network.cni.saved")

        self._wait(job)

    def delete(self, attachment: PluginAttachment) -> None:
        """See `ports.PluginRecords.delete`."""

        def job(txn: Transaction) -> None:
            txn.execute("DELETE FROM cni_attachments WHERE container_id = ? AND network_id = ?", attachment.key)

        self._wait(job)

    def _wait(self, job: typing.Callable[[Transaction], None]) -> None:
        asyncio.run_coroutine_threadsafe(self._db.write(job, durable=True), self._loop).result()
