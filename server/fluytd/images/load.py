"""Loading the images of an archive that stands in a local file: all of them become visible, or none does.

The layers of an image are stored in parallel, each once however often the archive names it.
"""

import asyncio
import os
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from fluytd import failpoints
from fluytd.content.ports import Blobs
from fluytd.errors import ArchiveInvalid, IoFailed
from fluytd.events.model import ImageLoaded
from fluytd.gc.collect import Collector
from fluytd.gc.leases import Lease
from fluytd.ids import Digest, ImageReference
from fluytd.images import archive, write_manifest
from fluytd.images.archive import MAX_ARCHIVE_ENTRIES, ArchiveImage, ArchiveLayer
from fluytd.images.assemble import Assembler, Draft, Finished, possible_layer_ids, run_all
from fluytd.images.catalogue import Catalogue
from fluytd.images.flights import Flights
from fluytd.images.manifests import OCI_MANIFEST, Descriptor
from fluytd.images.model import Image
from fluytd.images.naming import Addition
from fluytd.images.platforms import Platform
from fluytd.images.ports import Counters, FilePart, Ingester, StoredLayer
from fluytd.images.progress import LayerTrack
from fluytd.images.unwrap import Unwrapper
from fluytd.operations.model import LoadedImage, LoadProgress, LoadResult
from fluytd.operations.ports import CancelToken
from fluytd.operations.service import OperationHandle
from fluytd.workers import Workers


@dataclass(slots=True)
class _Progress:
    received_bytes: int
    tracks: list[LayerTrack] = field(default_factory=list)
    references: tuple[str, ...] = ()

    def snapshot(self) -> LoadProgress:
        layers = tuple(track.progress for track in self.tracks)
        return LoadProgress(self.received_bytes, layers, self.references)


@dataclass(frozen=True, slots=True)
class LoadOptions:
    """What is to be taken from the archive."""

    #: Which to take from indexes; empty for the host's where there is one, else all.
    platforms: tuple[Platform, ...] = ()
    #: For an image that the archive gives no reference.
    base_name: ImageReference | None = None


class Loader:
    """Brings images from archives."""

    def __init__(
        self,
        blobs: Blobs,
        ingester: Ingester,
        unwrapper: Unwrapper,
        assembler: Assembler,
        catalogue: Catalogue,
        collector: Collector,
        workers: Workers,
        host: Platform,
        *,
        max_size_bytes: int,
        layers_per_image: int,
    ) -> None:
        """`host`: what this host runs; `max_size_bytes`: largest archive, decompressed; `layers_per_image`: how many
        layers of one image are stored at once."""
        self._layers_per_image = layers_per_image
        self._max_size_bytes = max_size_bytes
        self._blobs = blobs
        self._ingester = ingester
        self._unwrapper = unwrapper
        self._assembler = assembler
        self._catalogue = catalogue
        self._collector = collector
        self._workers = workers
        self._host = host

    async def load(self, fd: int, options: LoadOptions, handle: OperationHandle) -> LoadResult:
        """The images of the archive behind `fd` (borrowed, a regular file) are here, whole and verified.

        Raises what `archive.plan`, `Ingester` and `Assembler` raise, CANCELLED.
        """
        progress = _Progress(os.fstat(fd).st_size)
        handle.track(progress.snapshot)
        plain = await self._unwrapper.unwrap(fd, "load", handle.cancel_token, _refuse)
        try:
            return await self._load_plain(fd if plain is None else plain.fd, options, progress, handle)
        finally:
            if plain is not None:
                plain.close()

    async def _load_plain(
        self, fd: int, options: LoadOptions, progress: _Progress, handle: OperationHandle
    ) -> LoadResult:
        opened = await self._ingester.open_archive(fd, self._max_size_bytes, MAX_ARCHIVE_ENTRIES, handle.cancel_token)
        data_fd = fd if opened.owned_fd is None else opened.owned_fd
        try:
            images = await self._workers.run(
                archive.plan,
                opened.entries,
                lambda offset, size: _read(data_fd, offset, size),
                options.platforms,
                self._host,
                options.base_name,
            )
            return await self._load(data_fd, images, progress, handle)
        finally:
            if opened.owned_fd is not None:
                os.close(opened.owned_fd)

    async def _load(
        self, fd: int, images: Sequence[ArchiveImage], progress: _Progress, handle: OperationHandle
    ) -> LoadResult:
        tracks = [
            [LayerTrack(layer.digest or "", layer.diff_id, layer.size_bytes) for layer in image.layers]
            for image in images
        ]
        progress.tracks = [track for each in tracks for track in each]
        # The archive is read again in any case, so that nothing staged of it would be resumed.
        async with self._collector.unless_added() as published, self._collector.staging(lambda _: False) as lease:
            finished: list[Finished] = []
            for image, own in zip(images, tracks, strict=True):
                finished.append(await self._stage(fd, image, own, lease, handle))
            handle.check()
            published += [each.image for each in finished]
            await self._assembler.publish([each.image for each in finished], "load")
            failpoints.hit("load.record")
            additions = [_addition(image.references, each.image) for image, each in zip(images, finished, strict=True)]
            added = await self._catalogue.add(additions, handle.actor)
        await self._collector.discard_staged([layer_id for each in finished for layer_id in each.superseded])
        await self._collector.sweep_replaced(added.replaced)
        progress.references = tuple(name for addition in additions for name in addition.names)
        return LoadResult(
            tuple(LoadedImage(each.image.id, each.image.manifest.digest, each.names) for each in additions)
        )

    async def _stage(
        self, fd: int, image: ArchiveImage, tracks: Sequence[LayerTrack], lease: Lease, handle: OperationHandle
    ) -> Finished:
        # Each lease comes before the look whether the thing is there, since a deletion may be about to take it.
        config_digest = Digest.of(image.config_data)
        await lease.add([config_digest, *possible_layer_ids(image.config)])
        failpoints.hit("load.config.stage")
        await self._blobs.stage(image.config_data, config_digest)
        # Of plain tars the digest is the diff_id; of others the archive says it.
        await lease.add([layer.digest or layer.diff_id for layer in image.layers])
        stored = await self._store_layers(fd, image.layers, tracks, handle)
        if not lease.resources.issuperset(each.digest for each in stored):
            # Compressed, and no digest was said: what was there before it was leased may be gone again.
            await lease.add([each.digest for each in stored])
            known = [replace(layer, digest=each.digest) for layer, each in zip(image.layers, stored, strict=True)]
            stored = await self._store_layers(fd, known, tracks, handle)
        layers = [
            (Descriptor(layer.media_type or each.media_type, each.digest, each.size_bytes), each)
            for layer, each in zip(image.layers, stored, strict=True)
        ]
        data, media_type = image.manifest or (
            write_manifest.manifest(config_digest, len(image.config_data), [descriptor for descriptor, _ in layers]),
            OCI_MANIFEST,
        )
        manifest = Descriptor(media_type, Digest.of(data), len(data))
        await lease.add([manifest.digest])
        failpoints.hit("load.manifest.stage")
        await self._blobs.stage(data, manifest.digest)
        way = tuple(index.descriptor for index in image.way)
        await lease.add([descriptor.digest for descriptor in way])
        for index in image.way:
            failpoints.hit("load.index.stage")
            await self._blobs.stage(index.data, index.descriptor.digest)
        parts = tuple((descriptor, stored.layer) for descriptor, stored in layers)
        target = way[0] if way else manifest
        draft = Draft(manifest, target, config_digest, image.config_data, image.config, parts, way)
        return await self._assembler.finish(draft, handle)

    async def _store_layers(
        self, fd: int, layers: Sequence[ArchiveLayer], tracks: Sequence[LayerTrack], handle: OperationHandle
    ) -> list[StoredLayer]:
        """All layers, in their order. None reads from `fd` any more on return, however it ends."""
        bound = asyncio.Semaphore(self._layers_per_image)
        # Flights of this load alone: they read from its file, which is gone with it.
        flights: Flights[StoredLayer] = Flights(self._ingester.new_counters, self._ingester.new_cancel_token)

        async def store(layer: ArchiveLayer, track: LayerTrack) -> StoredLayer:
            async def begin(counters: Counters, token: CancelToken) -> StoredLayer:
                failpoints.hit("load.layer.store")
                part = FilePart(fd, layer.offset_bytes, layer.size_bytes)
                return await self._ingester.store_layer(part, layer.digest, layer.diff_id, counters, token)

            async with bound:
                handle.check()
                key = f"{layer.offset_bytes} {layer.diff_id}"
                stored = await flights.run(key, begin, handle.cancelled, track.board)
                track.digest = stored.digest
                return stored

        return await run_all([store(layer, track) for layer, track in zip(layers, tracks, strict=True)])


def _refuse(rule: str) -> ArchiveInvalid:
    return ArchiveInvalid(entry="", rule=rule)


def _addition(references: Sequence[ImageReference], image: Image) -> Addition:
    names = tuple(dict.fromkeys(str(reference) for reference in references if reference.digest is None))
    return Addition(image=image, names=names, repo_digests=(), fact=ImageLoaded(image.id, names))


def _read(fd: int, offset_bytes: int, size_bytes: int) -> bytes:
    try:
        data = os.pread(fd, size_bytes, offset_bytes)
    except OSError as error:
        raise IoFailed(operation="pread", path="image archive", errno=error.errno) from error
    if len(data) != size_bytes:
        raise ArchiveInvalid(entry=f"offset {offset_bytes}", rule="the archive ends in the middle of a file")
    return data
