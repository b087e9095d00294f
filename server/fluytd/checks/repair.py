"""How damaged content is made whole again: from what else is stored, else from a registry. It finds no damage itself.

Content is made beside the stores, verified, and exchanged by one rename. Until then nothing is touched, so that a
repair that fails or is cut short leaves things as they were.
"""

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Final

from fluytd import failpoints
from fluytd.checks.model import INDEX_FILE, Checked, Recipe, Repair, recipe_of
from fluytd.checks.ports import CheckedBlobs, CheckedImages, CheckedIndex, Workshop
from fluytd.errors import Cancelled, DigestMismatch, EngineError, StorageFull
from fluytd.ids import Digest, ImageReference
from fluytd.images import write_manifest
from fluytd.images.manifests import Descriptor
from fluytd.images.model import Image
from fluytd.images.ports import Source
from fluytd.operations.ports import CancelToken
from fluytd.registries.model import Credentials

_log = logging.getLogger(__name__)

#: Most registries and repositories that are asked for one blob.
MAX_SOURCES: Final = 8
#: What is left to do where nothing could be done here.
_NEXT: Final = "repair again when its registry can be reached, or delete the image and pull or load it again"
#: What no other way of repair can make good: the caller hears of it.
_FINAL: Final = (Cancelled, StorageFull)


#: Makes a blob in the workshop; False if that way is none after all.
_Make = Callable[[], Awaitable[bool]]


class Repairer:
    """Repairs one thing at a time."""

    def __init__(self, workshop: Workshop, images: CheckedImages, blobs: CheckedBlobs, index: CheckedIndex) -> None:
        self._workshop = workshop
        self._images = images
        self._blobs = blobs
        self._index = index
        self._lock = asyncio.Lock()

    async def recover(self) -> None:
        """What an interrupted repair left is gone. Called once containers are known; a failure is logged only."""
        async with self._working():
            pass

    async def compare(self, layer_id: str, cancel: CancelToken) -> Checked | None:
        """The layer, which is kept as a directory, was compared with one made of its blob again.

        None if its blob cannot tell: there is none, or it is damaged itself. Raises DATA_CORRUPT, IO_FAILED, CANCELLED,
        STORAGE_FULL.
        """
        recipe = recipe_of(layer_id, self._images)
        if recipe is None:
            return None
        async with self._working():
            try:
                await self._workshop.make_layer(recipe, as_directory=True, cancel=cancel)
            except _FINAL:
                raise
            except EngineError as error:
                _log.info("layer %s cannot be compared with its blob: %s", layer_id, error)
                return None
            return await self._workshop.compare_layer(layer_id, cancel)

    async def repair(self, subject: str, cancel: CancelToken) -> Repair:
        """The blob (by its digest), layer or file of the layout is whole again, or what hinders that is told.

        An image that cannot be repaired stays as it is. Raises CANCELLED, STORAGE_FULL.
        """
        if isinstance(subject, Digest):
            return await self._repair_blob(subject, cancel)
        if subject.startswith("content/"):
            return await self._repair_file(subject)
        return await self._repair_layer(subject, cancel)

    async def _repair_file(self, subject: str) -> Repair:
        try:
            await (self._index.mend_index() if subject == INDEX_FILE else self._blobs.write_layout())
        except StorageFull:
            raise
        except EngineError as error:
            return Repair(False, f"it could not be written: {error.message}")
        return Repair(True, "it was written again from the records")

    async def _repair_blob(self, digest: Digest, cancel: CancelToken) -> Repair:
        ways = list(self._ways(digest, cancel))
        if not ways:
            return Repair(False, f"no image has it and no registry is known for it; {_NEXT}")
        failures: list[str] = []
        for done, make in ways:
            async with self._working():
                try:
                    if not await make():
                        continue
                    failpoints.hit("check.blob.replace")
                    await self._workshop.put_blob(digest)
                except _FINAL:
                    raise
                except EngineError as error:
                    failures.append(error.message)
                    continue
            return Repair(True, f"it was {done}")
        told = "; ".join(dict.fromkeys(failures)) or "no registry is known for it"
        return Repair(False, f"nothing was changed: {told}; {_NEXT}")

    def _ways(self, digest: Digest, cancel: CancelToken) -> list[tuple[str, _Make]]:
        """How the blob can be had, each with what was done then; what is stored here first."""
        ways: list[tuple[str, _Make]] = []
        last: dict[str, tuple[str, _Make]] = {}
        sources: dict[str, tuple[str, _Make]] = {}
        for image in self._images:
            if digest not in image.blob_sizes:
                continue
            is_manifest = digest not in {image.id, *(layer.descriptor.digest for layer in image.layers)}
            for data, what in ((image.config_text.encode(), "config"), (_manifest_of(image), "manifest")):
                if Digest.of(data, digest.algorithm) == digest:
                    ways.append((f"written again from the image's record ({what})", self._written(data, digest)))
            for layer in image.layers:
                if layer.descriptor.digest == layer.diff_id == digest:
                    copied = self._copied(layer.layer_id, digest, cancel)
                    ways.append(("copied from the layer that was made of it", copied))
                elif layer.descriptor.digest == digest and (recipe := recipe_of(layer.layer_id, self._images)):
                    last[layer.layer_id] = ("compressed again from its layer", self._compressed(recipe, cancel))
            for known in self._images.repo_digests(image.id):
                reference = ImageReference.parse(known)
                source = _source(reference, _descriptor_of(image, digest))
                fetched = self._fetched(source, is_manifest=is_manifest, cancel=cancel)
                sources.setdefault(reference.name, (f"fetched from {reference.name}", fetched))
        # What another engine compressed is found only at the end to be other bytes, so that this is tried last.
        return [*ways, *list(sources.values())[:MAX_SOURCES], *last.values()]

    def _written(self, data: bytes, digest: Digest) -> _Make:
        async def make() -> bool:
            await self._workshop.write_blob(data, digest)
            return True

        return make

    def _copied(self, layer_id: str, digest: Digest, cancel: CancelToken) -> _Make:
        async def make() -> bool:
            return await self._workshop.copy_archive(layer_id, digest, cancel)

        return make

    def _compressed(self, recipe: Recipe, cancel: CancelToken) -> _Make:
        async def make() -> bool:
            failpoints.hit("check.blob.compress")
            try:
                await self._workshop.compress_layer(recipe, cancel)
            except DigestMismatch:
                # Not a damage: another program compressed it, and says nothing of the blob that is missing.
                return False
            return True

        return make

    def _fetched(self, source: Source, *, is_manifest: bool, cancel: CancelToken) -> _Make:
        async def make() -> bool:
            failpoints.hit("check.source.fetch")
            fetch = self._workshop.fetch_manifest if is_manifest else self._workshop.fetch_blob
            await fetch(source, cancel)
            return True

        return make

    async def _repair_layer(self, layer_id: str, cancel: CancelToken) -> Repair:
        recipe = recipe_of(layer_id, self._images)
        if recipe is None:
            gone = "its image is gone, and with it what it was made of; delete the containers that use it"
            return Repair(False, gone)
        digest = recipe.layer.descriptor.digest
        first = await self._remake(recipe, cancel)
        if first is None:
            return Repair(True, f"it was made again of blob {digest}; {_RUNNING}")
        blob = await self._repair_blob(digest, cancel)
        if blob.is_repaired and await self._remake(recipe, cancel) is None:
            return Repair(True, f"of its blob {digest}, {blob.action}, it was made again; {_RUNNING}")
        async with self._working():
            try:
                if await self._workshop.make_layer_of_archive(recipe, cancel):
                    await self._put(layer_id)
                    return Repair(True, f"it was made again of the archive that it keeps; {_RUNNING}")
            except _FINAL:
                raise
            except EngineError as error:
                _log.info("layer %s cannot be made of its own archive: %s", layer_id, error)
        return Repair(False, f"nothing was changed: {first.message}; its blob {digest}: {blob.action}")

    async def _remake(self, recipe: Recipe, cancel: CancelToken) -> EngineError | None:
        """The layer was made of its blob and put in place; else why not."""
        async with self._working():
            try:
                failpoints.hit("check.layer.make")
                await self._workshop.make_layer(recipe, as_directory=False, cancel=cancel)
                await self._put(recipe.layer_id)
            except _FINAL:
                raise
            except EngineError as error:
                return error
        return None

    async def _put(self, layer_id: str) -> None:
        failpoints.hit("check.layer.replace")
        await self._workshop.put_layer(layer_id)

    @asynccontextmanager
    async def _working(self) -> AsyncIterator[None]:
        """The workshop is the caller's, empty at the beginning and at the end."""
        async with self._lock:
            try:
                yield
            finally:
                try:
                    await self._workshop.clear()
                except EngineError as error:
                    _log.warning("what a repair left could not be removed and is left for the next time: %s", error)


#: Said of each layer that was replaced.
_RUNNING: Final = "containers that run on the old one keep it until they are started again"


def _manifest_of(image: Image) -> bytes:
    """The image's manifest, if the engine wrote it itself."""
    descriptors = [layer.descriptor for layer in image.layers]
    return write_manifest.manifest(image.id, len(image.config_text.encode()), descriptors)


def _descriptor_of(image: Image, digest: Digest) -> Descriptor:
    for layer in image.layers:
        if layer.descriptor.digest == digest:
            return layer.descriptor
    return Descriptor("", digest, image.blob_sizes[digest])


def _source(reference: ImageReference, blob: Descriptor) -> Source:
    return Source(
        reference.domain, reference.path, blob.digest, blob.size_bytes, blob.media_type, Credentials(), blob.urls
    )
