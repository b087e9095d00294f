"""Pulling one image: resolve, fetch and unpack its layers in parallel, publish, record. It begins no operation.

At a failure or a cancellation nothing has become visible. What was fetched stays staged, and the next pull goes on
there, unless the image can never become right or the disk is full.
"""

import asyncio
from dataclasses import dataclass, field, replace

from fluytd import failpoints
from fluytd.content.ports import Blobs
from fluytd.errors import (
    DiffIdMismatch,
    DigestInvalid,
    ImageNotFound,
    LayerCorrupt,
    LayerRejected,
    LimitExceeded,
    ManifestInvalid,
    PlatformUnavailable,
    SizeMismatch,
    StorageFull,
)
from fluytd.events.model import ImagePulled
from fluytd.gc.collect import Collector
from fluytd.gc.leases import Lease
from fluytd.ids import Digest, ImageReference
from fluytd.images import config as configs
from fluytd.images.assemble import Assembler, Draft, Finished, possible_layer_ids, run_all
from fluytd.images.catalogue import Catalogue
from fluytd.images.config import ImageConfig
from fluytd.images.documents import MAX_CONFIG_BYTES, check_size
from fluytd.images.flights import Flights
from fluytd.images.manifests import Descriptor, Manifest
from fluytd.images.naming import Addition
from fluytd.images.platforms import Platform
from fluytd.images.ports import Counters, Ingester, Layer, Source
from fluytd.images.progress import LayerTrack
from fluytd.images.resolve import Chosen, Resolver
from fluytd.operations.model import PullPhase, PullProgress, PullResult
from fluytd.operations.ports import CancelToken
from fluytd.operations.service import OperationHandle
from fluytd.registries.model import Credentials


@dataclass(slots=True)
class _Progress:
    """What the operation shows."""

    phase: PullPhase = PullPhase.RESOLVING
    manifest_digest: str = ""
    platform: str = ""
    tracks: list[LayerTrack] = field(default_factory=list)

    def snapshot(self) -> PullProgress:
        layers = tuple(track.progress for track in self.tracks)
        return PullProgress(self.phase, self.manifest_digest, self.platform, layers)


class Puller:
    """Brings images from registries."""

    def __init__(
        self,
        blobs: Blobs,
        ingester: Ingester,
        resolver: Resolver,
        assembler: Assembler,
        catalogue: Catalogue,
        collector: Collector,
        *,
        layers_per_image: int,
    ) -> None:
        """`layers_per_image`: how many layers of one image are fetched and unpacked at once."""
        self._blobs = blobs
        self._ingester = ingester
        self._resolver = resolver
        self._assembler = assembler
        self._catalogue = catalogue
        self._collector = collector
        self._layers_per_image = layers_per_image
        self._flights: Flights[Layer] = Flights(ingester.new_counters, ingester.new_cancel_token)

    async def pull(
        self, reference: ImageReference, wanted: Platform, credentials: Credentials, handle: OperationHandle
    ) -> PullResult:
        """The reference names the image, whole and verified.

        Raises what `Resolver.manifest`, `Ingester` and `Assembler` raise, PLATFORM_UNAVAILABLE, CANCELLED.
        """
        progress = _Progress()
        handle.track(progress.snapshot)
        target, chosen = await self._resolver.manifest(reference, wanted, handle.cancel_token, credentials)
        progress.manifest_digest = chosen.manifest.digest
        wanted_image = _Wanted(reference, wanted, target, chosen, credentials)
        async with self._collector.unless_added() as published, self._collector.staging(_is_resumed) as lease:
            await lease.add([index.digest for index in chosen.way])
            for index in chosen.indexes:
                failpoints.hit("pull.index.stage")
                await self._blobs.stage(index.data, index.descriptor.digest)
            present = await self._present(wanted_image, lease)
            finished = present or await self._fetch(wanted_image, lease, progress, handle)
            published.append(finished.image)
            progress.platform, progress.phase = str(finished.image.platform), PullPhase.PUBLISHING
            if present is None:
                await self._assembler.publish([finished.image], "pull")
            elif chosen.way:
                failpoints.hit("pull.index.publish")
                await self._blobs.publish([index.digest for index in chosen.way])
            failpoints.hit("pull.record")
            added = await self._catalogue.add([_addition(wanted_image, finished)], handle.actor)
        await self._collector.discard_staged(finished.superseded)
        await self._collector.sweep_replaced(added.replaced)
        progress.phase = PullPhase.DONE
        tracks = {track.digest: track.fetched_bytes for track in progress.tracks}
        return PullResult(
            reference=str(reference),
            image_id=added.images[0].id,
            manifest_digest=chosen.manifest.digest,
            target_digest=target.digest,
            was_present=present is not None,
            fetched_bytes=sum(tracks.values()),
        )

    async def pull_all(
        self, repository: ImageReference, wanted: Platform, credentials: Credentials, handle: OperationHandle
    ) -> PullResult:
        """Every tag of the repository that has an image for the platform names it; the result tells of the last one.

        Raises as `pull`; PLATFORM_UNAVAILABLE if no tag has one. What was pulled before a failure stays.
        """
        results: list[PullResult] = []
        unavailable: PlatformUnavailable | None = None
        for reference in await self._resolver.tags(repository, handle.cancel_token, credentials):
            handle.check()
            try:
                results.append(await self.pull(reference, wanted, credentials, handle))
            except PlatformUnavailable as error:
                unavailable = error
        if not results:
            raise unavailable or ImageNotFound(reference=repository.familiar)
        return replace(
            results[-1],
            was_present=all(result.was_present for result in results),
            fetched_bytes=sum(result.fetched_bytes for result in results),
            references=tuple(result.reference for result in results),
        )

    async def _present(self, wanted: "_Wanted", lease: Lease) -> Finished | None:
        """The image of this manifest, if it is here and stays for the length of the lease.

        Raises PLATFORM_UNAVAILABLE if it is of another platform, as a pull would that fetches it.
        """
        image = self._catalogue.with_manifest(wanted.manifest.digest)
        if image is None:
            return None
        await lease.add([*image.blob_digests, *image.lower_layer_ids])
        if self._catalogue.with_manifest(wanted.manifest.digest) is not image:
            return None
        wanted.check_platform(image.platform)
        ways = (wanted.chosen.way,) if wanted.chosen.way else ()
        return Finished(replace(image, target=wanted.target, ways=ways), ())

    async def _fetch(self, wanted: "_Wanted", lease: Lease, progress: _Progress, handle: OperationHandle) -> Finished:
        manifest = wanted.document
        await lease.add([wanted.manifest.digest, manifest.config.digest])
        await lease.add([layer.digest for layer in manifest.layers])
        failpoints.hit("pull.manifest.stage")
        await self._blobs.stage(wanted.chosen.data, wanted.manifest.digest)
        config_data = await self._fetch_config(wanted, handle)
        config = configs.parse(config_data, len(manifest.layers), manifest.config.digest)
        wanted.check_platform(config.platform)
        await lease.add(possible_layer_ids(config))
        progress.tracks = [
            LayerTrack(layer.digest, diff_id, layer.size_bytes)
            for layer, diff_id in zip(manifest.layers, config.diff_ids, strict=True)
        ]
        progress.platform, progress.phase = str(config.platform), PullPhase.FETCHING
        layers = await self._fetch_layers(wanted, config, progress, handle)
        handle.check()
        way = wanted.chosen.way
        draft = Draft(wanted.manifest, wanted.target, manifest.config.digest, config_data, config, layers, way)
        finished = await self._assembler.finish(draft, handle)
        handle.check()
        return finished

    async def _fetch_config(self, wanted: "_Wanted", handle: OperationHandle) -> bytes:
        config = wanted.document.config
        check_size(config.size_bytes, "MAX_CONFIG_BYTES", MAX_CONFIG_BYTES, config.digest)
        failpoints.hit("pull.config.fetch")
        await self._ingester.fetch_blob(wanted.source(config), self._ingester.new_counters(), handle.cancel_token)
        data = await self._blobs.read(config.digest, MAX_CONFIG_BYTES)
        if len(data) != config.size_bytes:
            raise SizeMismatch(digest=config.digest, expected_bytes=config.size_bytes, actual_bytes=len(data))
        return data

    async def _fetch_layers(
        self, wanted: "_Wanted", config: ImageConfig, progress: _Progress, handle: OperationHandle
    ) -> tuple[tuple[Descriptor, Layer], ...]:
        bound = asyncio.Semaphore(self._layers_per_image)

        async def fetch(descriptor: Descriptor, diff_id: Digest, track: LayerTrack) -> Layer:
            async def begin(counters: Counters, token: CancelToken) -> Layer:
                failpoints.hit("pull.layer.fetch")
                return await self._ingester.fetch_layer(wanted.source(descriptor), diff_id, counters, token)

            async with bound:
                handle.check()
                key = f"{descriptor.digest} {diff_id}"
                return await self._flights.run(key, begin, handle.cancelled, track.board)

        layers = wanted.document.layers
        work = [
            fetch(descriptor, diff_id, track)
            for descriptor, diff_id, track in zip(layers, config.diff_ids, progress.tracks, strict=True)
        ]
        # The largest first: a large one that begins last is unpacked alone, by one processor, while the others wait.
        order = sorted(range(len(layers)), key=lambda index: -layers[index].size_bytes)
        fetched = dict(zip(order, await run_all([work[index] for index in order]), strict=True))
        return tuple((descriptor, fetched[index]) for index, descriptor in enumerate(layers))


@dataclass(frozen=True, slots=True)
class _Wanted:
    """One manifest to fetch."""

    reference: ImageReference
    platform: Platform
    target: Descriptor
    chosen: Chosen
    credentials: Credentials

    @property
    def manifest(self) -> Descriptor:
        return self.chosen.manifest

    @property
    def document(self) -> Manifest:
        return self.chosen.document

    def check_platform(self, found: Platform) -> None:
        """Raises PLATFORM_UNAVAILABLE if the image of this platform does not serve the one that is wanted."""
        if self.platform.fitness(found) is None:
            raise PlatformUnavailable(reference=self.reference.familiar, platform=self.platform, available=found)

    def source(self, blob: Descriptor) -> Source:
        named = self.reference
        return Source(
            named.domain, named.path, blob.digest, blob.size_bytes, blob.media_type, self.credentials, blob.urls
        )


#: Failures after which nothing is kept: an image that can never become right, a disk that must not stay full.
_GIVEN_UP = (
    DiffIdMismatch,
    DigestInvalid,
    LayerCorrupt,
    LayerRejected,
    LimitExceeded,
    ManifestInvalid,
    PlatformUnavailable,
    StorageFull,
)


def _is_resumed(failure: BaseException) -> bool:
    return not isinstance(failure, _GIVEN_UP)


def _addition(wanted: _Wanted, finished: Finished) -> Addition:
    reference, image = wanted.reference, finished.image
    # With a digest the reference names content that never changes; it is no name that could move.
    names = () if reference.digest is not None else (str(reference),)
    return Addition(
        image=image,
        names=names,
        repo_digests=(f"{reference.name}@{wanted.target.digest}",),
        fact=ImagePulled(str(reference), image.id, image.manifest.digest),
        listed=wanted.chosen.listed,
    )
