"""Images whose records cannot be read, made again of what is stored: config, manifest, indexes and layers.

While there is one no content is deleted, so that all it needs is still here. It fetches nothing.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Protocol

from fluytd import failpoints
from fluytd.checks.model import Repair
from fluytd.clock import Clock
from fluytd.content.ports import Blob
from fluytd.errors import EngineError
from fluytd.ids import Digest
from fluytd.images import config as configs
from fluytd.images import manifests
from fluytd.images.documents import MAX_CONFIG_BYTES, MAX_MANIFEST_BYTES
from fluytd.images.manifests import MAX_INDEX_DEPTH, Descriptor, Index, Manifest
from fluytd.images.model import Image, ImageLayer, Remains, Way
from fluytd.images.ports import Layer

#: Most small blobs that are looked into for manifests and indexes of one image.
MAX_DOCUMENTS_READ: Final = 20_000
_NEXT: Final = "pull or load the image again; until then no content is deleted"


class RecordBlobs(Protocol):
    """Visible blobs."""

    async def list_blobs(self) -> list[Blob]:
        """All of them, no order."""

    async def read(self, digest: Digest, max_size_bytes: int) -> bytes:
        """A blob's bytes, verified. Raises BLOB_NOT_FOUND, LIMIT_EXCEEDED, DIGEST_MISMATCH, IO_FAILED."""


class RecordLayers(Protocol):
    """Visible layers."""

    async def list_layers(self) -> list[Layer]:
        """All of them, no order."""


class Records(Protocol):
    """The records of images."""

    async def remains(self, image_id: str) -> Remains:
        """What is left of the record. Raises IO_FAILED."""

    async def restore(self, image: Image) -> None:
        """The record is the image's, durably, and it is here again with the names that lead to it.

        Nothing changes if it is here already. Raises STORAGE_FULL, IO_FAILED.
        """


class RecordRepairer:
    """Makes one record at a time."""

    def __init__(self, blobs: RecordBlobs, layers: RecordLayers, records: Records, clock: Clock) -> None:
        self._blobs = blobs
        self._layers = layers
        self._records = records
        self._clock = clock

    async def repair(self, image_id: str) -> Repair:
        """The image is here again as its config and manifest have it, or what is missing is told. Raises STORAGE_FULL,
        IO_FAILED."""
        made = await self._make(Digest.parse(image_id))
        if isinstance(made, str):
            return Repair(False, f"its record cannot be written again: {made}; {_NEXT}")
        failpoints.hit("check.record.restore")
        await self._records.restore(made)
        return Repair(True, f"its record was written again from its config and manifest {made.manifest.digest}")

    async def _make(self, image_id: Digest) -> Image | str:
        """The image, or what it lacks."""
        try:
            config_data = await self._blobs.read(image_id, MAX_CONFIG_BYTES)
        except EngineError as error:
            return f"its config: {error.message}"
        remains = await self._records.remains(image_id)
        sizes = {blob.digest: blob.size_bytes for blob in await self._blobs.list_blobs()}
        documents = await self._documents(sizes)
        manifest = _manifest_of(image_id, documents, sizes.keys(), remains.targets)
        if manifest is None:
            return "no manifest of it is stored whole"
        document = documents[manifest.digest].parsed
        if not isinstance(document, Manifest):
            raise TypeError("a manifest was chosen")
        try:
            config = configs.parse(config_data, len(document.layers), image_id)
        except EngineError as error:
            return f"its config: {error.message}"
        known = {layer.layer_id: layer for layer in await self._layers.list_layers()}
        layers: list[ImageLayer] = []
        chains = configs.chain_ids(config.diff_ids)
        for descriptor, diff_id, chain_id in zip(document.layers, config.diff_ids, chains, strict=True):
            layer = known.get(f"chain-{chain_id.hex}") or known.get(diff_id.hex)
            if layer is None:
                return f"the layer of its blob {descriptor.digest} is not stored"
            layers.append(ImageLayer(descriptor, diff_id, chain_id, layer.layer_id, layer.size_bytes, layer.max_id))
        ways = _ways(manifest.digest, remains.targets, documents)
        return Image(
            id=image_id,
            manifest=manifest,
            target=ways[0][0] if ways else manifest,
            config_text=config_data.decode(),
            config=config,
            layers=tuple(layers),
            create_time_unix_nanos=remains.create_time_unix_nanos or self._clock.now_unix_nanos(),
            version=remains.version + 1,
            ways=ways,
        )

    async def _documents(self, sizes: Mapping[Digest, int]) -> "dict[Digest, _Document]":
        """Every manifest and index among the visible blobs, the smallest blobs first, up to MAX_DOCUMENTS_READ."""
        found: dict[Digest, _Document] = {}
        small = sorted((size, digest) for digest, size in sizes.items() if size <= MAX_MANIFEST_BYTES)
        for size, digest in small[:MAX_DOCUMENTS_READ]:
            try:
                data = await self._blobs.read(digest, MAX_MANIFEST_BYTES)
                parsed = manifests.parse(data, "", digest)
            except EngineError:
                continue  # a config, a layer, or damaged, which the check of blobs tells
            found[digest] = _Document(Descriptor(parsed.media_type, digest, size), parsed)
        return found


@dataclass(frozen=True, slots=True)
class _Document:
    descriptor: Descriptor
    parsed: Manifest | Index


def _manifest_of(
    image_id: Digest, documents: Mapping[Digest, _Document], present: Collection[Digest], targets: Sequence[Digest]
) -> Descriptor | None:
    """The manifest over this config all of whose layers are here; of several the one that the image's names lead to."""
    fitting = {
        digest
        for digest, document in documents.items()
        if isinstance(document.parsed, Manifest)
        and document.parsed.config.digest == image_id
        and all(layer.digest in present for layer in document.parsed.layers)
    }
    for target in targets:
        for digest in sorted(fitting):
            if digest == target or _way(target, digest, documents, 1):
                return documents[digest].descriptor
    return documents[min(fitting)].descriptor if fitting else None


def _ways(manifest: Digest, targets: Sequence[Digest], documents: Mapping[Digest, _Document]) -> tuple[Way, ...]:
    """From each index that a name stands for down to the manifest."""
    found = [_way(target, manifest, documents, 1) for target in dict.fromkeys(targets)]
    return tuple(way for way in found if way)


def _way(at: Digest, manifest: Digest, documents: Mapping[Digest, _Document], depth: int) -> Way:
    document = documents.get(at)
    if document is None or not isinstance(document.parsed, Index) or depth > MAX_INDEX_DEPTH:
        return ()
    digests = [entry.digest for entry in document.parsed.entries]
    if manifest in digests:
        return (document.descriptor,)
    below = (_way(digest, manifest, documents, depth + 1) for digest in digests)
    way = next((way for way in below if way), ())
    return (document.descriptor, *way) if way else ()
