"""The images that are here: their table in memory, written through to the records and to content/index.json.

Changes come one after the other; each is recorded before it is seen. It fetches and deletes no content.
"""

import asyncio
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from fluytd import failpoints
from fluytd.content.ports import Blobs
from fluytd.errors import EngineError, Failure, ImageInUse, ImageNotFound, VersionConflict
from fluytd.events.model import Fact, ImageDeleted, ImageTagged, ImageUntagged, NewEvent
from fluytd.ids import Digest, ImageReference
from fluytd.images import index_file
from fluytd.images.model import Image, Remains
from fluytd.images.naming import Addition, plan_additions
from fluytd.images.platforms import Platform
from fluytd.images.ports import ContainersUsingImage
from fluytd.images.table import ImageTable, Match, Name
from fluytd.state import images as rows
from fluytd.state.db import Database, Transaction

__all__ = ["Added", "Addition", "Catalogue", "Removal"]
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Added:
    """What an addition made of it."""

    #: As they are now, in the order of the additions.
    images: tuple[Image, ...]
    #: Images as they were that need less now: they came anew by another manifest, or have left an index.
    replaced: tuple[Image, ...]


@dataclass(frozen=True, slots=True)
class Removal:
    """What a deletion decided: references that name nothing any more, and the images that are gone."""

    untagged: tuple[str, ...]
    images: tuple[Image, ...]


class Catalogue:
    """All images. Belongs to the event loop."""

    def __init__(
        self, db: Database, blobs: Blobs, containers: ContainersUsingImage, host: Platform | None = None
    ) -> None:
        """`host`: see `ImageTable`."""
        self._db = db
        self._blobs = blobs
        self._containers = containers
        self.table = ImageTable(host)
        #: Ids of images whose records cannot be read, and why. What they are made of nobody knows: until they are here
        #: anew all content counts as needed.
        self.unreadable: dict[str, Failure] = {}
        self._lock = asyncio.Lock()

    async def open(self) -> None:
        """The table is that of the records, and index.json says the same.

        An image whose record cannot be read is not in the table and is `unreadable`. Raises DATA_CORRUPT.
        """
        loaded = await self._db.read(rows.load_all)
        for image in loaded.images:
            self.table.put(image)
        for reference, name in loaded.names.items():
            self.table.set_name(reference, name)
        for reference, image_id in loaded.repo_digests:
            self.table.add_repo_digest(reference, image_id)
        self.unreadable = loaded.unreadable
        for image_id, failure in loaded.unreadable.items():
            _log.error("image %s: its record cannot be read, and no content is swept: %s", image_id, failure.message)
        await self._write_index()

    async def remains(self, image_id: str) -> Remains:
        """What is left of a record that cannot be read. Raises IO_FAILED, DIGEST_INVALID."""
        left = await self._db.read(lambda txn: rows.left_of(txn, image_id))
        return Remains(left.version, left.create_time_unix_nanos, tuple(map(Digest.parse, left.targets)))

    async def restore(self, image: Image) -> None:
        """An image whose record could not be read is here again, recorded durably, with the names that lead to it.

        Nothing changes if its record can be read. Raises STORAGE_FULL, IO_FAILED.
        """
        async with self._lock:
            if image.id not in self.unreadable:
                return
            await self._db.write(lambda txn: rows.save(txn, image), durable=True)
            loaded = await self._db.read(rows.load_all)
            self.table.put(image)
            del self.unreadable[image.id]
            for reference, name in loaded.names.items():
                if image.id in name.image_ids:
                    self.table.set_name(reference, name)
            for reference, image_id in loaded.repo_digests:
                if image_id == image.id:
                    self.table.add_repo_digest(reference, image_id)
            await self._write_index()

    def with_manifest(self, digest: Digest) -> Image | None:
        """The image that has this manifest."""
        return self.table.by_manifest(digest)

    def needs_blob(self, digest: str) -> bool:
        """See `gc.ports.Needs`."""
        return self.table.has_blob(digest) or bool(self.unreadable)

    def needs_layer(self, layer_id: str) -> bool:
        """See `gc.ports.Needs`."""
        is_used = self.table.has_layer(layer_id) or self._containers.uses_layer(layer_id)
        return is_used or bool(self.unreadable)

    async def add(self, additions: Sequence[Addition], actor: str) -> Added:
        """All these images are here and have their names, recorded durably, or none.

        The caller holds a lease on their content, which is visible. An image that was here keeps its references and the
        time it came. Raises STORAGE_FULL, IO_FAILED.
        """
        async with self._lock:
            changes = plan_additions(self.table, additions)
            before = [one for image_id in changes.images if (one := self.table.get(image_id)) is not None]
            images = [changes.images[addition.image.id] for addition in additions]

            def record(txn: Transaction) -> None:
                for image in changes.images.values():
                    rows.save(txn, image)
                for reference, name in changes.names.items():
                    rows.name(txn, reference, name)
                for image, addition in zip(images, additions, strict=True):
                    for repo_digest in addition.repo_digests:
                        rows.add_repo_digest(txn, repo_digest, image.id)
                    txn.emit(NewEvent(addition.fact, image.id, image.config.labels, actor))
                for reference, image_id in changes.lost:
                    txn.emit(NewEvent(ImageUntagged(reference, image_id), image_id, actor=actor))

            await self._db.write(record, durable=True)
            for image in changes.images.values():
                self.table.put(image)
                self.unreadable.pop(image.id, None)
            for reference, name in changes.names.items():
                self.table.set_name(reference, name)
            for addition in additions:
                for repo_digest in addition.repo_digests:
                    self.table.add_repo_digest(repo_digest, addition.image.id)
            await self._write_index()
            replaced = [one for one in before if not one.blob_sizes.keys() <= changes.images[one.id].blob_sizes.keys()]
            return Added(tuple(images), tuple(replaced))

    async def record_push(self, images: Sequence[Image], repo_digest: str, fact: Fact, actor: str) -> None:
        """The push is told, and those of the images that are still here are known by this `<repository>@<digest>` too.

        Raises STORAGE_FULL, IO_FAILED.
        """
        async with self._lock:
            present = [image for image in images if self.table.get(image.id) is not None]
            versions = self._next_versions({image.id for image in present})
            subject = images[0]

            def record(txn: Transaction) -> None:
                for image in present:
                    rows.add_repo_digest(txn, repo_digest, image.id)
                    rows.save_version(txn, image.id, versions[image.id])
                txn.emit(NewEvent(fact, subject.id, subject.config.labels, actor))

            await self._db.write(record, durable=True)
            for image in present:
                self.table.add_repo_digest(repo_digest, image.id)
            self._set_versions(versions)

    async def tag(
        self,
        text: str,
        reference: ImageReference,
        expected_version: int,
        actor: str,
        platform: Platform | None = None,
    ) -> Image:
        """The reference names what `text` stands for: all its platforms, or the image of this one.

        Returns the image that serves the platform, or the host. Raises IMAGE_NOT_FOUND and its kin, VERSION_CONFLICT,
        PLATFORM_UNAVAILABLE.
        """
        full = str(reference.with_default_tag())
        async with self._lock:
            match = self.table.lookup(text)
            image = self.table.choose(match.images, platform, text)
            _check_version(image, expected_version)
            is_one = platform is not None and len(match.images) > 1
            named = match.images if not is_one else (image,)
            name = Name(image.manifest.digest if is_one else match.target, tuple(one.id for one in named))
            before = self.table.named(full)
            if before is not None and (before == name or (before.image_ids == name.image_ids and not match.name)):
                return image
            lost = [one for one in (before.image_ids if before is not None else ()) if one not in name.image_ids]
            versions = self._next_versions({*name.image_ids, *lost})
            previous = before.image_ids[0] if before is not None else ""

            def record(txn: Transaction) -> None:
                rows.name(txn, full, name)
                for image_id, version in versions.items():
                    rows.save_version(txn, image_id, version)
                for one in named:
                    fact = ImageTagged(full, one.id, previous if previous != one.id else "")
                    txn.emit(NewEvent(fact, one.id, one.config.labels, actor))

            failpoints.hit("image.tag.record")
            await self._db.write(record, durable=True)
            self.table.set_name(full, name)
            self._set_versions(versions)
            await self._write_index()
            return self._present(image.id)

    async def untag(self, text: str, expected_version: int, actor: str) -> Image:
        """The reference names nothing; its images stay, dangling if it was their last. Raises IMAGE_NOT_FOUND."""
        full = str(ImageReference.parse(text).with_default_tag())
        async with self._lock:
            if self.table.named(full) is None:
                raise ImageNotFound(reference=text)
            match = self.table.lookup(full)
            image = self.table.choose(match.images, None, full)
            _check_version(image, expected_version)
            await self._untag(match.images, full, actor)
            return self._present(image.id)

    async def remove(
        self, text: str, force: bool, expected_version: int, actor: str, platform: Platform | None = None
    ) -> Removal:
        """The reference is taken away, or images are gone with all their references. A refusal changes nothing (L07).

        By a reference it is taken from the images of all its platforms, and those go whose last it was. By
        `<repository>@<digest>` that goes, as in Docker, while they have a name or another such. By id, by digest or by
        reference and platform the image goes. An image never goes while a container of it runs; while an
        ended one has it, or by id while it has several references, only with `force`.

        Raises IMAGE_NOT_FOUND, IMAGE_AMBIGUOUS, IMAGE_IN_USE, VERSION_CONFLICT, PLATFORM_UNAVAILABLE.
        """
        async with self._lock:
            match = self.table.lookup(text)
            image = self.table.choose(match.images, platform, text)
            _check_version(image, expected_version)
            repo_digest = self._spare_repo_digest(text, match) if platform is None else ""
            if repo_digest:
                await self._drop_repo_digest(repo_digest, match, actor)
                return Removal((repo_digest,), ())
            chosen = match.images if platform is None else (image,)
            is_by_name = bool(match.name) and platform is None
            going = [one for one in chosen if not is_by_name or len(self.table.references(one.id)) == 1]
            for one in going:
                self._check_unused(one, text, force)
            untagged: set[str] = set()
            if is_by_name and len(going) < len(chosen):
                await self._untag([one for one in chosen if one not in going], match.name, actor)
                untagged = {match.name}
            if going:
                untagged |= await self._remove(going, actor)
            return Removal(tuple(sorted(untagged)), tuple(going))

    def _spare_repo_digest(self, text: str, match: Match) -> str:
        """The repository digest that is written in `text`, if all its images have a name or another one besides."""
        if "@" not in text:
            return ""
        reference = ImageReference.parse(text)
        written = f"{reference.name}@{reference.digest}"
        others = [len(self.table.references(one.id)) + len(self.table.repo_digests(one.id)) - 1 for one in match.images]
        return written if all(others) else ""

    async def _drop_repo_digest(self, repo_digest: str, match: Match, actor: str) -> None:
        versions = self._next_versions({one.id for one in match.images})

        def record(txn: Transaction) -> None:
            rows.drop_repo_digest(txn, repo_digest)
            for one in match.images:
                rows.save_version(txn, one.id, versions[one.id])
                txn.emit(NewEvent(ImageUntagged(repo_digest, one.id), one.id, one.config.labels, actor))

        failpoints.hit("image.untag.record")
        await self._db.write(record, durable=True)
        self.table.drop_repo_digest(repo_digest)
        self._set_versions(versions)

    def _check_unused(self, image: Image, text: str, force: bool) -> None:
        references = self.table.references(image.id)
        if len(references) > 1 and not force:
            raise ImageInUse(reference=text, holder_ids=references)
        holders = self._containers.holders(image.id)
        if any(holder.is_running for holder in holders) or (holders and not force):
            raise ImageInUse(reference=text, holder_ids=[holder.container_id for holder in holders])

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
            await self._remove([image], actor, cause)
            return image

    async def _remove(self, images: Sequence[Image], actor: str, cause: str = "request") -> set[str]:
        """The images are gone, all or none; returns those of their references that name nothing any more."""
        references = {image.id: self.table.references(image.id) for image in images}
        repo_digests = {image.id: self.table.repo_digests(image.id) for image in images}
        names = {one: name for each in references.values() for one in each if (name := self.table.named(one))}
        # Out of memory first: from here on no container can be made of them, whatever is awaited.
        facts: list[ImageDeleted] = []
        for image in images:
            self.table.remove(image.id)
            facts.append(ImageDeleted(image.id, self.reclaimable_bytes(image), cause))

        def record(txn: Transaction) -> None:
            for image, fact in zip(images, facts, strict=True):
                for reference in references[image.id]:
                    txn.emit(NewEvent(ImageUntagged(reference, image.id), image.id, image.config.labels, actor))
                rows.delete(txn, image.id)
                txn.emit(NewEvent(fact, image.id, image.config.labels, actor))

        try:
            failpoints.hit("image.delete.record")
            await self._db.write(record, durable=True)
        except EngineError:
            for image in images:
                self.table.put(image)
                for reference in repo_digests[image.id]:
                    self.table.add_repo_digest(reference, image.id)
            for reference, name in names.items():
                self.table.set_name(reference, name)
            raise
        failpoints.hit("image.delete.index")
        await self._write_index()
        return {reference for reference in names if self.table.named(reference) is None}

    async def _untag(self, images: Sequence[Image], full: str, actor: str) -> None:
        """These images lose the name; it goes with its last image."""
        versions = self._next_versions({image.id for image in images})
        before = self.table.named(full)
        gone = {image.id for image in images}
        left = tuple(one for one in (before.image_ids if before is not None else ()) if one not in gone)
        name = Name(before.target if before is not None else Digest(""), left)

        def record(txn: Transaction) -> None:
            rows.name(txn, full, name)
            for image in images:
                rows.save_version(txn, image.id, versions[image.id])
                txn.emit(NewEvent(ImageUntagged(full, image.id), image.id, image.config.labels, actor))

        failpoints.hit("image.untag.record")
        await self._db.write(record, durable=True)
        self.table.set_name(full, name)
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

    def _next_versions(self, image_ids: set[str]) -> dict[str, int]:
        return {image_id: self._present(image_id).version + 1 for image_id in image_ids}

    def _set_versions(self, versions: dict[str, int]) -> None:
        for image_id, version in versions.items():
            self.table.put(replace(self._present(image_id), version=version))

    def render_index(self) -> bytes:
        """index.json as it ought to be now."""
        images = sorted(self.table, key=lambda image: (image.create_time_unix_nanos, image.id))
        return index_file.render(images, self.table.names)

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
