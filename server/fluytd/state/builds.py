"""Rows of `build_cache` <-> `CacheRecord`."""

import json
from collections.abc import Sequence
from typing import Any

from fluytd.builds.model import CachedLayer, CacheRecord
from fluytd.errors import EngineError
from fluytd.ids import Digest
from fluytd.images.manifests import Descriptor
from fluytd.state.db import Database, Transaction


class BuildCacheRows:
    """Implements `builds.ports.CacheRecords`."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def load(self) -> list[CacheRecord]:
        """See `builds.ports.CacheRecords.load`. A row that cannot be read is none: the step is carried out anew."""
        rows = await self._database.read(lambda txn: txn.all("SELECT * FROM build_cache"))
        return [record for row in rows if (record := _record(*row)) is not None]

    async def save(self, record: CacheRecord) -> None:
        """See `builds.ports.CacheRecords.save`."""
        await self._database.write(lambda txn: _save(txn, record))

    async def delete(self, keys: Sequence[str]) -> None:
        """See `builds.ports.CacheRecords.delete`."""
        rows = [(key,) for key in keys]
        await self._database.write(lambda txn: txn.execute_many("DELETE FROM build_cache WHERE key = ?", rows))


def _save(txn: Transaction, record: CacheRecord) -> None:
    layer = record.layer
    values = None
    if layer is not None:
        values = {
            "media_type": layer.descriptor.media_type,
            "digest": layer.descriptor.digest,
            "blob_size_bytes": layer.descriptor.size_bytes,
            "diff_id": layer.diff_id,
            "chain_id": layer.chain_id,
            "layer_id": layer.layer_id,
            "size_bytes": layer.size_bytes,
            "max_id": layer.max_id,
        }
    txn.execute(
        "INSERT OR REPLACE INTO build_cache VALUES (?, ?, ?, ?, ?, ?)",
        (
            record.key,
            record.description,
            record.create_time_unix_nanos,
            record.use_time_unix_nanos,
            record.use_count,
            json.dumps(values, separators=(",", ":")),
        ),
    )


def _record(*row: Any) -> CacheRecord | None:
    key, description, create_time, use_time, use_count, layer = row
    try:
        values: dict[str, Any] | None = json.loads(layer)
        return CacheRecord(key, description, _layer(values), create_time, use_time, use_count)
    except (KeyError, TypeError, ValueError, EngineError):
        return None


def _layer(values: dict[str, Any] | None) -> CachedLayer | None:
    if values is None:
        return None
    return CachedLayer(
        descriptor=Descriptor(values["media_type"], Digest.parse(values["digest"]), values["blob_size_bytes"]),
        diff_id=Digest.parse(values["diff_id"]),
        chain_id=Digest.parse(values["chain_id"]),
        layer_id=values["layer_id"],
        size_bytes=values["size_bytes"],
        max_id=values.get("max_id", 0),
    )
