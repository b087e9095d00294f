"""From a step's files to a layer that stands on those below it: staged, finished, visible, remembered."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from fluytd import failpoints
from fluytd.builds.cache import BuildCache
from fluytd.builds.graph import one_line
from fluytd.builds.model import CachedLayer, CacheRecord
from fluytd.builds.ports import Layering
from fluytd.clock import Clock
from fluytd.content.ports import Blobs
from fluytd.errors import LimitExceeded
from fluytd.gc.collect import Collector
from fluytd.gc.leases import Lease
from fluytd.images.commit import EMPTY_DIFF_ID
from fluytd.images.config import chain_ids
from fluytd.images.manifests import MAX_LAYERS, Descriptor
from fluytd.images.model import ImageLayer
from fluytd.images.ports import Layers, Stack, StoredLayer
from fluytd.operations.ports import CancelToken

_DESCRIPTION_CHARS: Final = 200


@dataclass(frozen=True, slots=True)
class LayerKeeper:
    """Keeps what steps make."""

    blobs: Blobs
    layers: Layers
    layering: Layering
    collector: Collector
    cache: BuildCache
    clock: Clock

    async def keep(
        self,
        stored: StoredLayer | None,
        below: Sequence[ImageLayer],
        key: str,
        description: str,
        lease: Lease,
        cancel: CancelToken,
        create_time_unix_nanos: int | None = None,
    ) -> CacheRecord:
        """The layer is visible and its record stands, durable together with its content; None is a step that changed
        nothing. Raises LAYER_REJECTED, LIMIT_EXCEEDED (MAX_LAYERS), STORAGE_FULL, IO_FAILED, CANCELLED."""
        layer = None
        if stored is not None and stored.diff_id != EMPTY_DIFF_ID:
            layer = await self._publish(stored, below, lease, cancel)
        now = self.clock.now_unix_nanos()
        # One that came from elsewhere keeps its time, so that the image is the same as there.
        made = now if create_time_unix_nanos is None else min(create_time_unix_nanos, now)
        own = CachedLayer.of(layer) if layer is not None else None
        record = CacheRecord(key, one_line(description)[:_DESCRIPTION_CHARS], own, made, now)
        await self.cache.add(record)
        if stored is not None and layer is None:
            async with self.collector.passing([stored.digest]):
                await self.collector.discard_staged([stored.layer.layer_id])
        return record

    async def _publish(
        self, stored: StoredLayer, below: Sequence[ImageLayer], lease: Lease, cancel: CancelToken
    ) -> ImageLayer:
        if len(below) >= MAX_LAYERS:
            raise LimitExceeded(limit="MAX_LAYERS", limit_value=MAX_LAYERS, actual=len(below) + 1, subject="the build")
        chain_id = chain_ids([*(layer.diff_id for layer in below), stored.diff_id])[-1]
        await lease.add([stored.digest, stored.layer.layer_id, stored.diff_id.hex, f"chain-{chain_id.hex}"])
        layer = stored.layer
        if layer.depends_on_lower:
            lower = tuple(one.layer_id for one in below)
            layer = await self.layering.finish_layer(Stack(stored.digest, stored.diff_id, chain_id, lower), cancel)
        failpoints.hit("build.layer.publish")
        await self.blobs.publish([stored.digest])
        await self.layers.publish([layer.layer_id])
        if layer.layer_id != stored.layer.layer_id:
            await self.collector.discard_staged([stored.layer.layer_id])
        descriptor = Descriptor(stored.media_type, stored.digest, stored.size_bytes)
        return ImageLayer(descriptor, stored.diff_id, chain_id, layer.layer_id, layer.size_bytes, layer.max_id)
