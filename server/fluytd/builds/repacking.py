"""The layers of an outcome as its image has them: compressed as was asked for, of no time later than was asked for."""

from dataclasses import replace
from typing import Final

from fluytd import failpoints
from fluytd.builds.model import BuildRequest, Packing
from fluytd.builds.solver import Outcome, Shop
from fluytd.gc.leases import Lease
from fluytd.images.manifests import compression_of
from fluytd.images.model import ImageLayer
from fluytd.operations.service import OperationHandle

#: Changes when what a key stands for changes.
_KEY_VERSION: Final = "fluyt-repack-1"


def is_repacked(layer: ImageLayer, packing: Packing, *, is_of_base: bool) -> bool:
    """Whether the layer needs another blob.

    One that is compressed in the right way stays as it is, unless a level was asked for: a blob does not tell its own.
    """
    if is_of_base and not packing.is_for_bases:
        return False
    return compression_of(layer.descriptor.media_type) != packing.compression or packing.level is not None


async def repacked(
    shop: Shop, outcome: Outcome, request: BuildRequest, lease: Lease, handle: OperationHandle
) -> Outcome:
    """The outcome with such layers; the same outcome and request give the same ones.

    Steps stand on layers as they were made, so that neither a compression nor a time makes a cached result another one.
    What is made here is cached as results of steps are. Raises as `Layering.repack`, LIMIT_EXCEEDED, LAYER_REJECTED.
    """
    packing, until = request.packing, request.source_date_seconds
    base_count = len(outcome.base.layers) if outcome.base is not None else 0
    found: list[ImageLayer] = []
    for index, layer in enumerate(outcome.layers):
        is_of_base = index < base_count
        bound = None if is_of_base else until
        if bound is None and not is_repacked(layer, packing, is_of_base=is_of_base):
            found.append(layer)
        else:
            found.append(await _made(shop, layer, found, packing, bound, lease, handle))
    return replace(outcome, layers=tuple(found))


async def _made(
    shop: Shop,
    layer: ImageLayer,
    below: list[ImageLayer],
    packing: Packing,
    times_until_seconds: int | None,
    lease: Lease,
    handle: OperationHandle,
) -> ImageLayer:
    stands_on = below[-1].chain_id if below else ""
    how = [packing.compression, str(packing.level), str(times_until_seconds)]
    key = shop.trees.key_of([_KEY_VERSION, layer.descriptor.digest, stands_on, *how])
    async with shop.flight(key):
        record = shop.cache.get(key)
        if record is not None and record.layer is not None:
            await lease.add([record.layer.descriptor.digest, record.layer.layer_id])
            # It may have been given up while the lease was waited for.
            if shop.cache.get(key) is record:
                await shop.cache.used(record)
                return record.layer.as_image_layer()
        handle.check()
        failpoints.hit("build.layer.repack")
        counters, cancel = shop.layering.new_counters(), handle.cancel_token
        stored = await shop.layering.repack(
            layer, packing.compression, packing.level, times_until_seconds, counters, cancel
        )
        description = f"layer {layer.diff_id} for an image"
        made = await shop.keeper.keep(stored, below, key, description, lease, cancel)
        # An archive with an entry is not empty, whatever its times.
        return made.layer.as_image_layer() if made.layer is not None else layer
