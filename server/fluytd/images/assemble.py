"""From fetched parts to visible images: layers finished over each other, then blobs, layers and records made visible.

Shared by pull, load and import. The order is the promise: blobs first, then layers, then the records of all images in
one transaction, so that no image is ever named that is not whole. It fetches nothing.
"""

import asyncio
from collections.abc import Awaitable, Sequence
from dataclasses import dataclass
from typing import Literal, TypeVar

from fluytd import failpoints
from fluytd.clock import Clock
from fluytd.content.ports import Blobs
from fluytd.ids import Digest
from fluytd.images.config import ImageConfig, chain_ids
from fluytd.images.manifests import Descriptor
from fluytd.images.model import Image, ImageLayer, Way
from fluytd.images.ports import Ingester, Layer, Layers, Stack
from fluytd.operations.service import OperationHandle

T = TypeVar("T")
#: Whose failpoints are passed.
Verb = Literal["pull", "load", "import", "commit", "build"]


@dataclass(frozen=True, slots=True)
class Draft:
    """An image whose parts are all staged or visible."""

    manifest: Descriptor
    target: Descriptor
    config_digest: Digest
    config_data: bytes
    config: ImageConfig
    #: Blob and unpacked layer, lowest first.
    layers: tuple[tuple[Descriptor, Layer], ...]
    #: The indexes by which it came; empty for none.
    way: Way = ()


@dataclass(frozen=True, slots=True)
class Finished:
    """An image with its final layers, and staged layers that it took the place of."""

    image: Image
    superseded: tuple[str, ...]


class Assembler:
    """Finishes and publishes."""

    def __init__(self, blobs: Blobs, layers: Layers, ingester: Ingester, clock: Clock) -> None:
        self._blobs = blobs
        self._layers = layers
        self._ingester = ingester
        self._clock = clock

    async def finish(self, draft: Draft, handle: OperationHandle) -> Finished:
        """Each layer is the one to use over those below it, staged or visible. Raises LAYER_REJECTED, CANCELLED."""
        found: list[ImageLayer] = []
        superseded: list[str] = []
        chains = chain_ids(draft.config.diff_ids)
        for (descriptor, staged), diff_id, chain_id in zip(draft.layers, draft.config.diff_ids, chains, strict=True):
            layer = staged
            if staged.depends_on_lower:
                lower = tuple(below.layer_id for below in found)
                stack = Stack(descriptor.digest, diff_id, chain_id, lower)
                layer = await self._ingester.finish_layer(stack, handle.cancel_token)
            if layer.layer_id != staged.layer_id:
                superseded.append(staged.layer_id)
            found.append(ImageLayer(descriptor, diff_id, chain_id, layer.layer_id, layer.size_bytes, layer.max_id))
        image = Image(
            id=draft.config_digest,
            manifest=draft.manifest,
            target=draft.target,
            config_text=draft.config_data.decode(),
            config=draft.config,
            layers=tuple(found),
            create_time_unix_nanos=self._clock.now_unix_nanos(),
            ways=(draft.way,) if draft.way else (),
        )
        kept = {layer.layer_id for layer in found}
        return Finished(image, tuple(layer_id for layer_id in superseded if layer_id not in kept))

    async def publish(self, images: Sequence[Image], verb: Verb) -> None:
        """Every blob and layer of the images is visible, durably. Raises STORAGE_FULL, IO_FAILED."""
        failpoints.hit(f"{verb}.blobs.publish")
        digests = dict.fromkeys(digest for image in images for digest in image.blob_digests)
        await self._blobs.publish(list(digests))
        failpoints.hit(f"{verb}.layers.publish")
        layer_ids = dict.fromkeys(layer.layer_id for image in images for layer in image.layers)
        await self._layers.publish(list(layer_ids))


def possible_layer_ids(config: ImageConfig) -> list[str]:
    """The ids under which layers of this config can come to stand: by diff_id, by chain where they depend on others."""
    chains = chain_ids(config.diff_ids)
    return [diff_id.hex for diff_id in config.diff_ids] + [f"chain-{chain_id.hex}" for chain_id in chains]


async def run_all(work: Sequence[Awaitable[T]]) -> list[T]:
    """All results, in order. The first failure cancels the others, waits for their end and is raised."""
    tasks = [asyncio.ensure_future(each) for each in work]
    try:
        return await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
