"""The images that are here: their table in memory, written through to the records and to content/index.json.

Changes come one after the other; each is recorded before it is seen. It fetches and deletes no content.
"""

import asyncio
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from fluytd import failpoints
from fluytd.content.ports import Blobs
from fluytd.errors import EngineError, ImageInUse, ImageNotFound, VersionConflict
from fluytd.events.model import Fact, ImageDeleted, ImageTagged, ImageUntagged, NewEvent
from fluytd.ids import Digest, ImageReference
from fluytd.images import index_file
from fluytd.images.model import Image
from fluytd.images.ports import ContainersUsingImage
from fluytd.images.table import ImageTable
from fluytd.state import images as rows
from fluytd.state.db import Database, Transaction

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Addition:
    """An image that is whole, and what it is to be called."""

    image: Image
    #: References in full; each is taken from the image that has it.
    names: tuple[str, ...]
    repo_digests: tuple[str, ...]
    fact: Fact


@dataclass(frozen=True, slots=True)
class Added:
    """What an addition made of it."""

    #: As they are now, in the order of the additions.
    images: tuple[Image, ...]
    #: Images as they were that came anew by another manifest: their blobs and layers may be out of use.
    replaced: tuple[Image, ...]


@dataclass(frozen=True, slots=True)
class Removal:
    """What a deletion decided: references taken away, and the image where it is gone."""

    untagged: tuple[str, ...]
    image: Image | None


class Catalogue:
    """All images. Belongs to the event loop."""

    def __init__(self, db: Database, blobs: Blobs, containers: ContainersUsingImage) -> None:
        self._db = db
        self._blobs = blobs
        self._containers = containers
        self.table = ImageTable()
        self._lock = asyncio.Lock()

    async def open(self) -> None:
        """The table is that of the records, and index.json says the same. Raises DATA_CORRUPT."""
        images, names, repo_digests = await self._db.read(rows.load_all)
        for image in images:
            self.table.put(image)
        for reference, image_id in names:
            self.table.name(reference, image_id)
        for reference, image_id in repo_digests:
            self.table.add_repo_digest(reference, image_id)
        await self._write_index()

    def with_manifest(self, digest: Digest) -> Image | None:
        """The image that has this manifest."""
        return self.table.by_manifest(digest)

    def needs_blob(self, digest: str) -> bool:
        """See `gc.ports.Needs`."""
        return self.table.has_blob(digest)

    def needs_layer(self, layer_id: str) -> bool:
        """See `gc.ports.Needs`."""
        return self.table.has_layer(layer_id) or self._containers.uses_layer(layer_id)

    async def add(self, additions: Sequence[Addition], actor: str) -> Added:
        """All these images are here and have their names, recorded durably, or none.

        The caller holds a lease on their content, which is visible. An image that was here keeps its references and the
        time it came. Raises STORAGE_FULL, IO_FAILED.
        """
        async with self._lock:
            images = [self._merged(addition.image) for addition in additions]
            before = [one for image in images if (one := self.table.get(image.id)) is not None]
            moved = [
                ImageUntagged(name, holder)
                for addition in additions
                for name in addition.names
                if (holder := self.table.named(name)) is not None and holder != addition.image.id
            ]
            versions = self._next_versions({fact.image_id for fact in moved} - {image.id for image in images})

            def record(txn: Transaction) -> None:
                for image, addition in zip(images, additions, strict=True):
                    rows.save(txn, image)
                    for name in addition.names:
                        rows.name(txn, name, image.id)
                    for repo_digest in addition.repo_digests:
                        rows.add_repo_digest(txn, repo_digest, image.id)
                    txn.emit(NewEvent(addition.fact, image.id, image.config.labels, actor))
                for image_id, version in versions.items():
                    rows.save_version(txn, image_id, version)
                for fact in moved:
                    txn.emit(NewEvent(fact, fact.image_id, actor=actor))

            await self._db.write(record, durable=True)
            for image, addition in zip(images, additions, strict=True):
                self.table.put(image)
                for name in addition.names:
                    self.table.name(name, image.id)
                for repo_digest in addition.repo_digests:
                    self.table.add_repo_digest(repo_digest, image.id)
            self._set_versions(versions)
            await self._write_index()
            replaced = [one for one in before if one.manifest != self._present(one.id).manifest]
            return Added(tuple(images), tuple(replaced))

    async def record_push(self, image: Image, repo_digest: str, fact: Fact, actor: str) -> None:
        """The push is told, and the image, if it is still here, known by this `<repository>@<digest>` too.

        Raises STORAGE_FULL, IO_FAILED.
        """
        async with self._lock:
            is_here = self.table.get(image.id) is not None
            versions = self._next_versions({image.id} if is_here else set())

            def record(txn: Transaction) -> None:
                if is_here:
                    rows.add_repo_digest(txn, repo_digest, image.id)
                    rows.save_version(txn, image.id, versions[image.id])
                txn.emit(NewEvent(fact, image.id, image.config.labels, actor))

            await self._db.write(record, durable=True)
            if is_here:
                self.table.add_repo_digest(repo_digest, image.id)
            self._set_versions(versions)

    async def tag(self, text: str, reference: ImageReference, expected_version: int, actor: str) -> Image:
        """The reference names the image. Raises IMAGE_NOT_FOUND and its kin, VERSION_CONFLICT."""
        full = str(reference.with_default_tag())
        async with self._lock:
            image, _ = self.table.find(text)
            _check_version(image, expected_version)
            previous = self.table.named(full)
            if previous == image.id:
                return image
            versions = self._next_versions({image.id} | ({previous} if previous else set()))
            fact = ImageTagged(full, image.id, previous or "")

            def record(txn: Transaction) -> None:
                rows.name(txn, full, image.id)
                for image_id, version in versions.items():
                    rows.save_version(txn, image_id, version)
                txn.emit(NewEvent(fact, image.id, image.config.labels, actor))

            failpoints.hit("image.tag.record")
            await self._db.write(record, durable=True)
            self.table.name(full, image.id)
            self._set_versions(versions)
            await self._write_index()
            return self._present(image.id)

    async def untag(self, text: str, expected_version: int, actor: str) -> Image:
        """The reference names nothing; its image stays, dangling if that was its last. Raises IMAGE_NOT_FOUND."""
        full = str(ImageReference.parse(text).with_default_tag())
        async with self._lock:
            image_id = self.table.named(full)
            if image_id is None:
                raise ImageNotFound(reference=text)
            image = self._present(image_id)
            _check_version(image, expected_version)
            await self._untag(image, full, actor)
            return self._present(image_id)

    async def remove(self, text: str, force: bool, expected_version: int, actor: str) -> Removal:
        """The reference is taken away, or the image is gone with all of them. A refusal changes nothing (case L07).

        By a reference that is not the image's last, only that goes. By the last one or by id the image goes: never
        while a container of it runs; while an ended one has it, or by id while it has several references, only with
        `force`.

        Raises IMAGE_NOT_FOUND, IMAGE_AMBIGUOUS, IMAGE_IN_USE, VERSION_CONFLICT.
        """
        async with self._lock:
            image, name = self.table.find(text)
            _check_version(image, expected_version)
            references = self.table.references(image.id)
            if name and len(references) > 1:
                await self._untag(image, name, actor)
                return Removal((name,), None)
            if len(references) > 1 and not force:
                raise ImageInUse(reference=text, holder_ids=references)
            holders = self._containers.holders(image.id)
            if any(holder.is_running for holder in holders) or (holders and not force):
                raise ImageInUse(reference=text, holder_ids=[holder.container_id for holder in holders])
            await self._remove(image, references, actor)
            return Removal(references, image)

    async def remove_unused(
        self, image_id: str, is_wanted: Callable[[Image, tuple[str, ...]], bool], actor: str, *, cause: str = "prune"
    ) -> Image | None:
        """The image is gone if it is here, `is_wanted` of it and its references, and in no container; it as it was.

        `cause`: see `events.model.ImageDeleted`. None if it stays. Raises STORAGE_FULL, IO_FAILED.
        """
        async with self._lock:
            image = self.table.get(image_id)
            if image is None or self._containers.holders(image_id):
                return None
            references = self.table.references(image_id)
            if not is_wanted(image, references):
                return None
            await self._remove(image, references, actor, cause)
            return image

    async def _remove(self, image: Image, references: tuple[str, ...], actor: str, cause: str = "request") -> None:
        repo_digests = self.table.repo_digests(image.id)
        # Out of memory first: from here on no container can be made of it, whatever is awaited.
        self.table.remove(image.id)
        fact = ImageDeleted(image.id, self.reclaimable_bytes(image), cause)

        def record(txn: Transaction) -> None:
            for reference in references:
                txn.emit(NewEvent(ImageUntagged(reference, image.id), image.id, image.config.labels, actor))
            rows.delete(txn, image.id)
            txn.emit(NewEvent(fact, image.id, image.config.labels, actor))

        try:
            failpoints.hit("image.delete.record")
            await self._db.write(record, durable=True)
        except EngineError:
            self.table.put(image)
            for reference in references:
                self.table.name(reference, image.id)
            for reference in repo_digests:
                self.table.add_repo_digest(reference, image.id)
            raise
        failpoints.hit("image.delete.index")
        await self._write_index()

    async def _untag(self, image: Image, full: str, actor: str) -> None:
        versions = self._next_versions({image.id})

        def record(txn: Transaction) -> None:
            rows.unname(txn, full)
            rows.save_version(txn, image.id, versions[image.id])
            txn.emit(NewEvent(ImageUntagged(full, image.id), image.id, image.config.labels, actor))

        failpoints.hit("image.untag.record")
        await self._db.write(record, durable=True)
        self.table.unname(full)
        self._set_versions(versions)
        await self._write_index()

    def reclaimable_bytes(self, image: Image) -> int:
        """Bytes of blobs and layers that only this image, which is no longer in the table, needed."""
        blobs = sum(size for digest, size in image.blob_sizes.items() if not self.needs_blob(digest))
        return blobs + sum(size for layer, size in image.layer_sizes.items() if not self.needs_layer(layer))

    def _present(self, image_id: str) -> Image:
        image = self.table.get(image_id)
        if image is None:
            raise ImageNotFound(reference=image_id)
        return image

    def _merged(self, image: Image) -> Image:
        before = self.table.get(image.id)
        if before is None:
            return image
        return replace(image, create_time_unix_nanos=before.create_time_unix_nanos, version=before.version + 1)

    def _next_versions(self, image_ids: set[str]) -> dict[str, int]:
        return {image_id: self._present(image_id).version + 1 for image_id in image_ids}

    def _set_versions(self, versions: dict[str, int]) -> None:
        for image_id, version in versions.items():
            self.table.put(replace(self._present(image_id), version=version))

    def render_index(self) -> bytes:
        """index.json as it ought to be now."""
        images = sorted(self.table, key=lambda image: (image.create_time_unix_nanos, image.id))
        return index_file.render((image, self.table.references(image.id)) for image in images)

    async def settled(self) -> None:
        """Returns once every change that had begun is written."""
        async with self._lock:
            return

    async def mend_index(self) -> None:
        """index.json is what it ought to be. Raises STORAGE_FULL, IO_FAILED."""
        async with self._lock:
            await self._blobs.write_index(self.render_index())

    async def _write_index(self) -> None:
        """index.json names the images as they are. It is made from the records, so that a failure is mended by the next
        change or start and fails nobody."""
        try:
            await self._blobs.write_index(self.render_index())
        except EngineError as error:
            _log.warning("content/index.json could not be written and is behind: %s", error)


def _check_version(image: Image, expected: int) -> None:
    if expected and image.version != expected:
        raise VersionConflict(id=image.id, expected=expected, actual=image.version)
