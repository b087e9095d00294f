"""The results of steps by their key, in memory and in the store, within bounds. It carries out no step."""

import logging
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Final

from fluytd import failpoints
from fluytd.builds.model import CacheRecord
from fluytd.builds.ports import CacheRecords
from fluytd.clock import Clock
from fluytd.gc.collect import Collector
from fluytd.gc.ports import Needs

_log = logging.getLogger(__name__)

#: Records of the cache; beyond it those unused longest go.
MAX_CACHE_RECORDS: Final = 10_000


class BuildCache:
    """All records. Belongs to the event loop."""

    def __init__(self, records: CacheRecords, clock: Clock, *, max_bytes: int) -> None:
        """`max_bytes`: bound of what the records' layers take, blobs and trees."""
        self._store = records
        self._clock = clock
        self.max_bytes = max_bytes
        self._records: dict[str, CacheRecord] = {}
        self._blobs: Counter[str] = Counter()
        self._layers: Counter[str] = Counter()
        self._in_use: Counter[str] = Counter()
        self.size_bytes = 0

    async def open(self) -> None:
        """The records of earlier daemons are known. Raises IO_FAILED, DATA_CORRUPT."""
        for record in await self._store.load():
            self._count(record)

    def _count(self, record: CacheRecord) -> None:
        self._uncount(record.key)
        self._records[record.key] = record
        self.size_bytes += record.size_bytes
        if record.layer is not None:
            self._blobs[record.layer.descriptor.digest] += 1
            self._layers[record.layer.layer_id] += 1

    def _uncount(self, key: str) -> CacheRecord | None:
        record = self._records.pop(key, None)
        if record is None:
            return None
        self.size_bytes -= record.size_bytes
        if record.layer is not None:
            _less(self._blobs, record.layer.descriptor.digest)
            _less(self._layers, record.layer.layer_id)
        return record

    def needs_blob(self, digest: str) -> bool:
        """A record's layer has the blob."""
        return digest in self._blobs

    def needs_layer(self, layer_id: str) -> bool:
        """A record stands for the layer."""
        return layer_id in self._layers

    def records(self) -> list[CacheRecord]:
        """All of them, last used first."""
        return sorted(self._records.values(), key=lambda one: (-one.use_time_unix_nanos, one.key))

    def is_in_use(self, key: str) -> bool:
        """A build that runs now stands on it."""
        return key in self._in_use

    def get(self, key: str) -> CacheRecord | None:
        """The record of this key, if there is one."""
        return self._records.get(key)

    @contextmanager
    def using(self) -> Iterator[Callable[[str], None]]:
        """A block in which a build runs; what it yields says of a key that the build stands on it until the end."""
        held: list[str] = []

        def hold(key: str) -> None:
            held.append(key)
            self._in_use[key] += 1

        try:
            yield hold
        finally:
            for key in held:
                _less(self._in_use, key)

    async def used(self, record: CacheRecord) -> CacheRecord:
        """The record has been used once more, just now; recorded."""
        now = self._clock.now_unix_nanos()
        changed = replace(record, use_time_unix_nanos=now, use_count=record.use_count + 1)
        self._count(changed)
        await self._store.save(changed)
        return changed

    async def add(self, record: CacheRecord) -> None:
        """The record is there, recorded. The caller holds a lease on its layer, which is visible."""
        failpoints.hit("build.cache.record")
        await self._store.save(record)
        self._count(record)

    def surplus(self) -> list[CacheRecord]:
        """Records that must go for the bounds to be kept, those unused longest first; none that is in use."""
        found: list[CacheRecord] = []
        size, count = self.size_bytes, len(self._records)
        for record in reversed(self.records()):
            if size <= self.max_bytes and count <= MAX_CACHE_RECORDS:
                break
            if not self.is_in_use(record.key):
                found.append(record)
                size -= record.size_bytes
                count -= 1
        return found

    async def delete(self, records: Iterable[CacheRecord], collector: Collector) -> int:
        """They are gone, and their layers with them where nothing else needs these; returns the bytes freed."""
        gone = [record for record in records if record.key in self._records]
        if not gone:
            return 0
        failpoints.hit("build.cache.delete")
        await self._store.delete([record.key for record in gone])
        for record in gone:
            self._uncount(record.key)
        layers = [record.layer for record in gone if record.layer is not None]
        swept = await collector.sweep(
            {layer.descriptor.digest: layer.descriptor.size_bytes for layer in layers},
            {layer.layer_id: layer.size_bytes for layer in layers},
        )
        return swept.reclaimed_bytes

    async def trim(self, collector: Collector) -> None:
        """The bounds are kept."""
        surplus = self.surplus()
        if surplus:
            reclaimed_bytes = await self.delete(surplus, collector)
            _log.info("the build cache gave up %d records, %d bytes", len(surplus), reclaimed_bytes)


def _less(counter: Counter[str], name: str) -> None:
    counter[name] -= 1
    if counter[name] <= 0:
        del counter[name]


class AlsoNeeded:
    """Implements `gc.ports.Needs`: what images and containers need, and what the cache does."""

    def __init__(self, needs: Needs) -> None:
        """`needs`: those of images and containers. The cache comes later, with `add`."""
        self._needs: list[Needs] = [needs]

    def add(self, needs: Needs) -> None:
        """What these need too stays."""
        self._needs.append(needs)

    def needs_blob(self, digest: str) -> bool:
        """See `gc.ports.Needs`."""
        return any(needs.needs_blob(digest) for needs in self._needs)

    def needs_layer(self, layer_id: str) -> bool:
        """See `gc.ports.Needs`."""
        return any(needs.needs_layer(layer_id) for needs in self._needs)
