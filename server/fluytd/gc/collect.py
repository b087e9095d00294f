"""Mark and sweep over blobs and layers. What is needed, others say; it only deletes what nobody named.

It may be killed at any instruction: what it deletes is out of use before it begins, and each deletion is one step to
others (a rename or an unlink), so that the next run goes on.
"""

import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from typing import Final

from fluytd import failpoints
from fluytd.content.ports import Blobs
from fluytd.errors import EngineError
from fluytd.gc.leases import Lease, Leases
from fluytd.gc.ports import Needs
from fluytd.ids import Digest
from fluytd.images.model import Image
from fluytd.images.ports import Layers

_log = logging.getLogger(__name__)

#: A partial or staged blob that is smaller is not kept over a restart: to have it again costs less than to keep what
#: nobody may ever ask for (the config of an import tells the time, so that no later import has the same).
MIN_RESUMED_BYTES: Final = 64 * 1024


@dataclass(frozen=True, slots=True)
class Swept:
    """What a sweep deleted: digests of blobs, ids of layers, and the bytes of both."""

    deleted: tuple[str, ...]
    reclaimed_bytes: int


class Collector:
    """Sweeps the stores."""

    def __init__(
        self, blobs: Blobs, layers: Layers, leases: Leases, needs: Needs, *, ingest_max_age_seconds: float
    ) -> None:
        """`ingest_max_age_seconds`: partial and staged content that nothing was added to for longer is swept."""
        self._blobs = blobs
        self._layers = layers
        self._leases = leases
        self._needs = needs
        self._ingest_max_age_seconds = ingest_max_age_seconds

    async def recover(self) -> Swept:
        """At start: what an interrupted deletion or staging left is gone, and all that `collect` finds. Idempotent.

        Of what was received, blobs of `MIN_RESUMED_BYTES` and more stay for a later attempt, until they are too old.
        """
        await self._layers.recover()
        swept = await self.collect()
        small = [one.digest for one in await self._blobs.list_ingests() if one.size_bytes < MIN_RESUMED_BYTES]
        await self._discard_ingests(small)
        return swept

    async def collect(self) -> Swept:
        """All is gone that neither an image, a container nor a lease needs, and partial content that is too old."""
        blobs = {blob.digest: blob.size_bytes for blob in await self._blobs.list_blobs()}
        layers = {layer.layer_id: layer.size_bytes for layer in await self._layers.list_layers()}
        swept = await self.sweep(blobs, layers)
        await self._sweep_ingests()
        await self._sweep_staged()
        return swept

    async def sweep(self, blobs: Mapping[Digest, int], layers: Mapping[str, int]) -> Swept:
        """Those of these blobs and layers (with their bytes) are gone that no image, container or lease needs.

        One that cannot be deleted is logged and left for the next time; the others are deleted all the same.
        """
        deleted: list[str] = []
        reclaimed_bytes = 0
        for digest, size_bytes in blobs.items():
            if await self._delete(digest, partial(self._needs.needs_blob, digest), self._delete_blob):
                deleted.append(digest)
                reclaimed_bytes += size_bytes
        for layer_id, size_bytes in layers.items():
            if await self._delete(layer_id, partial(self._needs.needs_layer, layer_id), self._delete_layer):
                deleted.append(layer_id)
                reclaimed_bytes += size_bytes
        return Swept(tuple(deleted), reclaimed_bytes)

    async def _delete(
        self, resource: str, is_needed: Callable[[], bool], delete: Callable[[str], Awaitable[object]]
    ) -> bool:
        async with self._leases.deletion(resource) as may_delete:
            # From here to the deletion's announcement above nothing is awaited, so that the answer is still true.
            if not may_delete or is_needed():
                return False
            try:
                await delete(resource)
            except EngineError as error:
                _log.warning("%s could not be deleted and is left for the next time: %s", resource, error)
                return False
            return True

    async def _delete_blob(self, digest: str) -> None:
        failpoints.hit("gc.blob.delete")
        await self._blobs.delete(Digest(digest))

    async def _delete_layer(self, layer_id: str) -> None:
        failpoints.hit("gc.layer.delete")
        await self._layers.delete(layer_id)

    async def _delete_ingest(self, digest: str) -> None:
        failpoints.hit("gc.ingest.delete")
        await self._blobs.delete_ingest(Digest(digest))

    async def _delete_staged(self, name: str) -> None:
        failpoints.hit("gc.staged.delete")
        await self._layers.delete_staged(name)

    @asynccontextmanager
    async def unless_added(self) -> AsyncIterator[list[Image]]:
        """A block that makes content visible and then records it.

        If it fails, the images put into the list that it yields are swept, as far as nothing else needs them.
        """
        images: list[Image] = []
        try:
            yield images
        except BaseException:
            for image in images:
                await self.sweep(image.blob_sizes, image.layer_sizes)
            raise

    @asynccontextmanager
    async def staging(self, is_kept: Callable[[BaseException], bool]) -> AsyncIterator[Lease]:
        """A block that stages content under the lease that it yields.

        If the block fails, what is staged of the resources of its lease is gone, unless another lease needs it or
        `is_kept` says of the failure that the next attempt is to find it.
        """
        held: frozenset[str] = frozenset()
        try:
            async with self._leases.lease() as lease:
                try:
                    yield lease
                finally:
                    held = lease.resources
        except BaseException as error:
            if not is_kept(error):
                # A digest has its algorithm before a colon; a layer's id has no colon.
                await self._discard_ingests(resource for resource in held if ":" in resource)
                await self.discard_staged(resource for resource in held if ":" not in resource)
            raise

    async def sweep_replaced(self, images: Iterable[Image]) -> None:
        """What only these images needed, which are not what they were any more, is gone."""
        for image in images:
            await self.sweep(image.blob_sizes, image.layer_sizes)

    @asynccontextmanager
    async def passing(self, digests: Iterable[Digest]) -> AsyncIterator[None]:
        """A block that stages these blobs only to read them; afterwards they are gone, unless a lease needs them."""
        try:
            async with self._leases.lease() as lease:
                await lease.add(digests)
                yield
        finally:
            await self._discard_ingests(digests)

    async def _discard_ingests(self, digests: Iterable[str]) -> None:
        for digest in digests:
            await self._delete(digest, lambda: False, self._delete_ingest)

    async def discard_staged(self, layer_ids: Iterable[str]) -> None:
        """These staged layers are gone unless a lease needs them."""
        for layer_id in layer_ids:
            await self._delete(layer_id, lambda: False, self._delete_staged)

    async def _sweep_ingests(self) -> None:
        for ingest in await self._blobs.list_ingests():
            if ingest.age_seconds > self._ingest_max_age_seconds:
                await self._delete(ingest.digest, lambda: False, self._delete_ingest)

    async def _sweep_staged(self) -> None:
        for staged in await self._layers.list_staged():
            if staged.age_seconds > self._ingest_max_age_seconds:
                await self._delete(staged.name, lambda: False, self._delete_staged)
