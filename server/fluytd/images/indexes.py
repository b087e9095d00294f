"""Indexes that are kept: read whole where all that they name is here, or made of what is here. It stores nothing."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

from fluytd.content.ports import Blobs
from fluytd.errors import BlobNotFound
from fluytd.ids import Digest
from fluytd.images import index_file, manifests
from fluytd.images.documents import MAX_MANIFEST_BYTES, check_size
from fluytd.images.manifests import MAX_INDEX_DEPTH, MAX_INDEX_ENTRIES, OCI_INDEX, Descriptor, Index, Manifest
from fluytd.images.model import Attested, Image
from fluytd.images.platforms import Platform
from fluytd.images.table import ImageTable

#: Most attestations of one index that are asked for elsewhere, since only those that were made here are kept.
MAX_ATTESTATIONS_ASKED: Final = 64


@dataclass(frozen=True, slots=True)
class Document:
    """A manifest or index with its exact bytes."""

    descriptor: Descriptor
    data: bytes
    parsed: Manifest | Index


#: Says whether the destination has a manifest that is not here.
IsThere = Callable[[Descriptor], Awaitable[bool]]


async def _nowhere(_: Descriptor) -> bool:
    return False


async def read(blobs: Blobs, descriptor: Descriptor) -> Document:
    """A manifest or index of the content store. Raises BLOB_NOT_FOUND, MANIFEST_INVALID."""
    data = await blobs.read(descriptor.digest, MAX_MANIFEST_BYTES)
    parsed = manifests.parse(data, descriptor.media_type, descriptor.digest)
    return Document(replace(descriptor, media_type=parsed.media_type), data, parsed)


async def read_whole(
    blobs: Blobs, images: Sequence[Image], target: Digest, is_there: IsThere = _nowhere
) -> list[Document]:
    """The indexes below `target`, the innermost first and itself last, if every manifest that they name is of `images`.

    Empty if one is not, or if the index is not kept. An attestation is no image; one that was made here stands in the
    answer before the index, as a manifest whose layers are its statements, and any other counts as there where
    `is_there` says so. Raises LIMIT_EXCEEDED (MAX_INDEX_DEPTH, MAX_INDEX_ENTRIES).
    """
    descriptor = next((way[0] for image in images if (way := image.way(target)) is not None), None)
    if descriptor is None:
        return []
    attested = {one.manifest.digest: one for image in images for one in image.attested}
    walk = _Walk(blobs, {image.manifest.digest for image in images}, attested, is_there)
    return list(walk.found.values()) if await walk.is_whole(descriptor, 1) else []


class _Walk:
    """Down one index."""

    def __init__(
        self, blobs: Blobs, present: set[Digest], attested: Mapping[Digest, Attested], is_there: IsThere
    ) -> None:
        self._blobs = blobs
        self._present = present
        self._attested = attested
        self._is_there = is_there
        self._asked = 0
        self._entry_count = 0
        self.found: dict[Digest, Document] = {}

    async def is_whole(self, descriptor: Descriptor, depth: int) -> bool:
        check_size(depth, "MAX_INDEX_DEPTH", MAX_INDEX_DEPTH, descriptor.digest)
        if descriptor.digest in self.found:
            return True
        try:
            document = await read(self._blobs, descriptor)
        except BlobNotFound:
            return False
        entries = document.parsed.entries if isinstance(document.parsed, Index) else ()
        self._entry_count += len(entries)
        check_size(self._entry_count, "MAX_INDEX_ENTRIES", MAX_INDEX_ENTRIES, descriptor.digest)
        # What is decided here comes before what a registry must be asked for.
        for entry in sorted(entries, key=lambda one: one.is_attestation):
            if not await self._has(entry, depth):
                return False
        self.found[descriptor.digest] = document
        return True

    async def _has(self, entry: Descriptor, depth: int) -> bool:
        if entry.digest in self._present:
            return True
        if entry.is_index:
            return await self.is_whole(entry, depth + 1)
        own = self._attested.get(entry.digest)
        if own is not None:
            self.found[entry.digest] = await _attestation(self._blobs, own)
            return True
        self._asked += entry.is_attestation
        return entry.is_attestation and self._asked <= MAX_ATTESTATIONS_ASKED and await self._is_there(entry)


async def _attestation(blobs: Blobs, own: Attested) -> Document:
    """A manifest of attestations that was made here. Raises BLOB_NOT_FOUND."""
    data = await blobs.read(own.manifest.digest, MAX_MANIFEST_BYTES)
    return Document(own.manifest, data, Manifest(own.manifest.media_type, own.blobs[0], own.blobs[1:]))


def made(images: Sequence[Image]) -> Document:
    """An index of these images, the same bytes for the same images in whatever order."""
    ordered = sorted(images, key=lambda image: (str(image.platform), image.platform.os_version, image.manifest.digest))
    data = index_file.dump([index_file.entry(image.manifest, image.platform, "") for image in ordered])
    descriptor = Descriptor(OCI_INDEX, Digest.of(data), len(data))
    parsed = Index(OCI_INDEX, tuple(image.manifest for image in ordered))
    return Document(descriptor, data, parsed)


def of_platforms(
    table: ImageTable, images: Sequence[Image], platforms: Sequence[Platform], text: str
) -> tuple[Image, ...]:
    """Of these images for each platform the best, each once; all of them where no platform is asked for.

    Raises PLATFORM_UNAVAILABLE. `text`: how the images were asked for.
    """
    if not platforms:
        return tuple(images)
    chosen = [table.choose(images, platform, text) for platform in platforms]
    return tuple({image.id: image for image in chosen}.values())
