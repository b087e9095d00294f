"""Deleting images that no container uses and nobody pinned. Each goes as DeleteImage takes it, one after the other.

A prune that is cancelled, fails or is killed has taken away some of the images whole and none in part.
"""

from collections.abc import Awaitable, Callable, Collection, Iterable
from dataclasses import dataclass
from functools import partial
from typing import Final

from fluytd.gc.collect import Collector
from fluytd.images.catalogue import Catalogue
from fluytd.images.filters import ImageFilter
from fluytd.images.model import Image
from fluytd.images.ports import ContainersUsingImage
from fluytd.operations.model import PruneProgress, PruneResult
from fluytd.operations.service import OperationHandle

#: Most images that a result lists; more are counted only.
MAX_LISTED: Final = 10_000


#: Collects by the settings, or with True only tells what would go; gives ids of images and bytes.
Collect = Callable[[OperationHandle, bool], Awaitable[tuple[tuple[str, ...], int]]]


@dataclass(frozen=True, slots=True)
class PruneOptions:
    """What may go."""

    condition: ImageFilter
    #: Also images with references. A condition that asks for images with references says the same.
    has_all: bool
    is_dry_run: bool
    #: What an automatic collection would take, and nothing else.
    is_by_policy: bool = False

    def accepts(self, image: Image, references: Iterable[str]) -> bool:
        """True if the image with these references may go, as long as no container uses it."""
        names = list(references)
        may_be_named = self.has_all or self.condition.is_dangling is False
        return (may_be_named or not names) and self.condition.accepts(image, names)


class Pruner:
    """Takes away what is out of use."""

    def __init__(
        self,
        catalogue: Catalogue,
        collector: Collector,
        containers: ContainersUsingImage,
        is_pinned: Callable[[Image], bool],
        collect: Collect,
    ) -> None:
        """`is_pinned`: True of images that stay; `collect`: does what an automatic collection does."""
        self._catalogue = catalogue
        self._collector = collector
        self._containers = containers
        self._is_pinned = is_pinned
        self._collect = collect

    async def prune(self, options: PruneOptions, handle: OperationHandle) -> PruneResult:
        """The images that fit and that no container uses are gone, with what only they needed; oldest first.

        With `is_dry_run` nothing changes and the result tells what would be gone. One that is used, or does not fit any
        more, when its turn comes stays. Raises CANCELLED, STORAGE_FULL, IO_FAILED; what was taken away till then is.
        """
        if options.is_by_policy:
            return await self._prune_by_policy(handle, is_dry_run=options.is_dry_run)
        table = self._catalogue.table
        images = sorted(table, key=lambda image: (image.create_time_unix_nanos, image.id))
        if options.is_dry_run:
            found = [one for one in images if self._may_go(one, table.references(one.id), options)]
            found = [one for one in found if not self._containers.holders(one.id)]
            reclaimed_bytes = would_reclaim(found, table, self._containers.uses_layer)
            handle.update(PruneProgress(len(images), reclaimed_bytes))
            return _result([image.id for image in found], reclaimed_bytes)
        deleted: list[str] = []
        reclaimed_bytes = 0
        for position, image in enumerate(images):
            handle.check()
            handle.update(PruneProgress(position, reclaimed_bytes))
            may_go = partial(self._may_go, options=options)
            removed = await self._catalogue.remove_unused(image.id, may_go, handle.actor)
            if removed is not None:
                swept = await self._collector.sweep(removed.blob_sizes, removed.layer_sizes)
                deleted.append(removed.id)
                reclaimed_bytes += swept.reclaimed_bytes
        handle.update(PruneProgress(len(images), reclaimed_bytes))
        return _result(deleted, reclaimed_bytes)

    def _may_go(self, image: Image, references: Iterable[str], options: PruneOptions) -> bool:
        return options.accepts(image, references) and not self._is_pinned(image)

    async def _prune_by_policy(self, handle: OperationHandle, *, is_dry_run: bool) -> PruneResult:
        image_ids, reclaimed_bytes = await self._collect(handle, is_dry_run)
        handle.update(PruneProgress(len(image_ids), reclaimed_bytes))
        return _result(list(image_ids), reclaimed_bytes)


def would_reclaim(going: Collection[Image], present: Iterable[Image], is_used_layer: Callable[[str], bool]) -> int:
    """Bytes of the blobs and layers of `going` that no other image of `present` and no container needs."""
    gone = {image.id for image in going}
    stays = [image for image in present if image.id not in gone]
    kept_blobs = {digest for image in stays for digest in image.blob_sizes}
    kept_layers = {layer_id for image in stays for layer_id in image.layer_sizes}
    blobs = {digest: size for image in going for digest, size in image.blob_sizes.items() if digest not in kept_blobs}
    layers = {
        layer_id: size
        for image in going
        for layer_id, size in image.layer_sizes.items()
        if layer_id not in kept_layers and not is_used_layer(layer_id)
    }
    return sum(blobs.values()) + sum(layers.values())


def _result(image_ids: list[str], reclaimed_bytes: int) -> PruneResult:
    return PruneResult(tuple(image_ids[:MAX_LISTED]), reclaimed_bytes, len(image_ids))
