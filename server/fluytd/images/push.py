"""Pushing images: their blobs in parallel, what the registry has is skipped, then manifests, lastly the name.

Nothing changes here but that the image is known by one more repository digest. A push that fails or is cancelled leaves
the registry without the name; blobs that arrived serve the next push.
"""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from fluytd import failpoints
from fluytd.content.ports import Blobs
from fluytd.errors import FieldInvalid, ImageNotFound
from fluytd.events.model import ImagePushed
from fluytd.gc.leases import Leases
from fluytd.ids import Digest, ImageReference
from fluytd.images.assemble import run_all
from fluytd.images.catalogue import Catalogue
from fluytd.images.indexes import Document, made, of_platforms, read, read_whole
from fluytd.images.manifests import Descriptor, Manifest
from fluytd.images.model import Image
from fluytd.images.platforms import Platform
from fluytd.images.ports import Destination, PushRegistry, UploadCounters
from fluytd.images.table import ImageTable, Match
from fluytd.operations.model import LayerPhase, LayerProgress, PushProgress, PushResult
from fluytd.operations.service import OperationHandle
from fluytd.registries.model import Credentials


@dataclass(frozen=True, slots=True)
class Push:
    """Images of one reference or digest, and the reference to write for them."""

    match: Match
    target: ImageReference


@dataclass(slots=True)
class _Track:
    """One blob that is on its way."""

    descriptor: Descriptor
    diff_id: str = ""
    counters: UploadCounters | None = None

    @property
    def progress(self) -> LayerProgress:
        counters = self.counters
        size = self.descriptor.size_bytes
        if counters is None:
            return LayerProgress(self.descriptor.digest, self.diff_id, size, LayerPhase.WAITING, 0, 0)
        phase = LayerPhase[counters.phase.upper()]
        return LayerProgress(self.descriptor.digest, self.diff_id, size, phase, counters.sent_bytes, 0)


@dataclass(slots=True)
class _Progress:
    """What the operation shows."""

    reference: str = ""
    tracks: list[_Track] = field(default_factory=list)

    def snapshot(self) -> PushProgress:
        return PushProgress(self.reference, tuple(track.progress for track in self.tracks))


class Pusher:
    """Brings images to registries."""

    def __init__(
        self,
        blobs: Blobs,
        registry: PushRegistry,
        catalogue: Catalogue,
        leases: Leases,
        *,
        blobs_per_image: int,
    ) -> None:
        """`blobs_per_image`: how many blobs of one image are sent at once."""
        self._blobs = blobs
        self._registry = registry
        self._catalogue = catalogue
        self._leases = leases
        self._blobs_per_image = blobs_per_image

    async def push(
        self,
        pushes: Sequence[Push],
        platforms: Sequence[Platform],
        credentials: Credentials,
        handle: OperationHandle,
    ) -> PushResult:
        """The registry has every image under its reference. The result's digest is that of the last one.

        Raises BLOB_NOT_FOUND, PLATFORM_UNAVAILABLE, LIMIT_EXCEEDED, and as `PushRegistry`.
        """
        progress = _Progress()
        handle.track(progress.snapshot)
        digest, sent_bytes = Digest(""), 0
        for push in pushes:
            progress.reference = str(push.target)
            digest, sent = await self._push(push, platforms, credentials, progress, handle)
            sent_bytes += sent
        return PushResult(tuple(str(push.target) for push in pushes), digest, sent_bytes)

    async def push_built(
        self, references: Sequence[ImageReference], auths: Mapping[str, Credentials], handle: OperationHandle
    ) -> None:
        """The registries have what these references name here, one after the other; part of another operation, whose
        progress stays. `auths`: by registry. Raises as `push`."""
        for reference in references:
            push = Push(self._catalogue.table.lookup(str(reference)), reference)
            await self._push(push, (), auths.get(reference.domain, Credentials()), _Progress(), handle)

    async def _push(
        self,
        push: Push,
        platforms: Sequence[Platform],
        credentials: Credentials,
        progress: _Progress,
        handle: OperationHandle,
    ) -> tuple[Digest, int]:
        target = push.target
        to = Destination(target.domain, target.path, credentials)
        images = of_platforms(self._catalogue.table, push.match.images, platforms, target.familiar)
        async with self._leases.lease() as lease:
            for image in images:
                await lease.add(image.blob_digests)
                if self._catalogue.table.get(image.id) is None:
                    raise ImageNotFound(reference=image.id)
            documents = await self._documents(images, push.match.target, to, handle)
            sent_bytes = await self._send_blobs(images, documents, to, progress, handle)
            top = documents[-1]
            failpoints.hit("push.manifest")
            for document in documents[:-1]:
                await self._send_manifest(document, document.descriptor.digest, to, handle)
            await self._send_manifest(top, target.registry_reference, to, handle)
        digest = top.descriptor.digest
        failpoints.hit("push.record")
        fact = ImagePushed(str(target), digest)
        await self._catalogue.record_push(images, f"{target.name}@{digest}", fact, handle.actor)
        return digest, sent_bytes

    async def _documents(
        self, images: Sequence[Image], target: Digest, to: Destination, handle: OperationHandle
    ) -> list[Document]:
        """Manifests to write, the one that gets the name last.

        The index as it came, where all that it names is sent or there; else an index of what is sent, or the one
        manifest. Nothing is named that the registry does not get.
        """

        async def is_there(descriptor: Descriptor) -> bool:
            handle.check()
            return await self._registry.has_manifest(to, descriptor.digest, handle.cancel_token)

        own = [await read(self._blobs, image.manifest) for image in images]
        whole = await read_whole(self._blobs, images, target, is_there)
        if whole or len(own) == 1:
            return [*own, *whole]
        return [*own, made(images)]

    async def _send_blobs(
        self,
        images: Sequence[Image],
        documents: Sequence[Document],
        to: Destination,
        progress: _Progress,
        handle: OperationHandle,
    ) -> int:
        diff_ids = {layer.descriptor.digest: layer.diff_id for image in images for layer in image.layers}
        layers: dict[Digest, _Track] = {}
        configs: dict[Digest, _Track] = {}
        for document in documents:
            if isinstance(document.parsed, Manifest):
                config = document.parsed.config
                configs[config.digest] = _Track(config)
                for layer in document.parsed.layers:
                    # What may not be distributed stands in the manifest and is had where it says. Where it says
                    # nothing, nobody could ever pull the image.
                    if not layer.urls:
                        layers[layer.digest] = _Track(layer, diff_ids.get(layer.digest, ""))
        progress.tracks = list(layers.values())
        tracks = [*layers.values(), *configs.values()]
        sources = mount_sources(self._catalogue.table, [track.descriptor.digest for track in tracks], to)
        bound = asyncio.Semaphore(self._blobs_per_image)

        async def send(track: _Track) -> int:
            digest = track.descriptor.digest
            async with bound:
                handle.check()
                failpoints.hit("push.blob")
                track.counters = self._registry.new_upload_counters()
                mount_from = sources.get(digest, "")
                is_sent = await self._registry.push_blob(to, digest, mount_from, track.counters, handle.cancel_token)
            return track.descriptor.size_bytes if is_sent else 0

        return sum(await run_all([send(track) for track in tracks]))

    async def _send_manifest(
        self, document: Document, reference: str, to: Destination, handle: OperationHandle
    ) -> None:
        handle.check()
        await self._registry.push_manifest(
            to, reference, document.descriptor.media_type, document.data, handle.cancel_token
        )


def mount_sources(table: ImageTable, digests: Sequence[Digest], to: Destination) -> dict[Digest, str]:
    """For blobs that came from, or went to, another repository of the same registry: that repository."""
    wanted = set(digests)
    found: dict[Digest, str] = {}
    for image in table:
        shared = wanted.intersection(image.blob_digests)
        if not shared:
            continue
        for text in table.repo_digests(image.id):
            known = ImageReference.parse(text)
            if known.domain == to.registry and known.path != to.repository:
                found |= dict.fromkeys(shared, known.path)
                break
    return found


def plan(table: ImageTable, reference: str, target: str, *, all_tags: bool) -> list[Push]:
    """What is to be pushed where.

    Args:
        reference: the image; with `all_tags` the repository, without a tag.
        target: the reference to write; empty for `reference` itself.

    Raises IMAGE_NOT_FOUND and its kin; FIELD_INVALID for a target that no push can write.
    """
    if all_tags:
        return _all_tags(table, reference, target)
    match = table.lookup(reference)
    if not target and not match.name:
        raise FieldInvalid(field="target_reference", rule="must be given for an image named by id or digest")
    written = ImageReference.parse(target or match.name).with_default_tag()
    if written.digest is not None:
        raise FieldInvalid(field="target_reference" if target else "reference", rule="must not have a digest")
    return [Push(match, written)]


def _all_tags(table: ImageTable, reference: str, target: str) -> list[Push]:
    repository = ImageReference.parse(reference)
    if not repository.is_name_only:
        raise FieldInvalid(field="reference", rule="must have no tag where all tags are pushed")
    written = ImageReference.parse(target) if target else repository
    if not written.is_name_only:
        raise FieldInvalid(field="target_reference", rule="must have no tag where all tags are pushed")
    found: list[Push] = []
    for full in table.names:
        name = ImageReference.parse(full)
        if name.name == repository.name:
            found.append(Push(table.lookup(full), ImageReference(written.domain, written.path, name.tag)))
    if not found:
        raise ImageNotFound(reference=reference)
    return sorted(found, key=lambda push: str(push.target))
