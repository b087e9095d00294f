"""Caches that travel: records and layers of a build to a registry, and from there or from a folder of the caller's into
another engine's builds.

A cache is trusted as the images are that one builds on: a key stands for a step, and what its layer holds is taken
on the word of whoever wrote the cache. Layers are fetched when a step wants them, verified by digest and diff_id.
"""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from fluytd import failpoints
from fluytd.builds import cache_document
from fluytd.builds.cache_packing import CachePacker, Packed
from fluytd.builds.cache_places import CachePlace, FolderPlace, RegistryPlace
from fluytd.builds.model import MAX_CACHE_MOUNT_BYTES, CachedMount, CacheRecord, CacheSource, RegistryCache
from fluytd.builds.mounts import MountUse
from fluytd.builds.ports import ContextStore, Trees
from fluytd.errors import Cancelled, EngineError, SizeMismatch
from fluytd.gc.leases import Lease
from fluytd.ids import ImageReference
from fluytd.images.assemble import run_all
from fluytd.images.documents import check_size
from fluytd.images.manifests import OCI_MANIFEST, Descriptor
from fluytd.images.ports import Destination, Ingester, PushRegistry, Registry, StoredLayer
from fluytd.operations.service import OperationHandle
from fluytd.registries.model import Credentials


@dataclass(frozen=True, slots=True)
class ForeignRecord:
    """A record of a cache elsewhere."""

    record: CacheRecord
    place: CachePlace


@dataclass(frozen=True, slots=True)
class ForeignMount:
    """A cache mount of a cache elsewhere."""

    mount: CachedMount
    place: CachePlace


@dataclass(slots=True)
class Foreign:
    """What the caches of a build have: records by key, mounts by name, of each an earlier cache's first."""

    records: dict[str, ForeignRecord] = field(default_factory=dict)
    mounts: dict[str, ForeignMount] = field(default_factory=dict)
    #: What could not be had, and why.
    reasons: list[str] = field(default_factory=list)

    def lost(self, what: str, error: EngineError) -> None:
        """Something could not be had."""
        self.reasons.append(f"{what}: {error.text.format_map(error.metadata)}")


@dataclass(frozen=True, slots=True)
class CacheExchange:
    """Reads caches elsewhere and writes those of registries. Belongs to the event loop."""

    registry: Registry
    target: PushRegistry
    ingester: Ingester
    contexts: ContextStore
    trees: Trees
    packer: CachePacker
    scratch: Path
    remove_tree: Callable[[str], None]
    #: Blobs that are sent at once.
    blobs_at_once: int = 4

    async def load(
        self, sources: Sequence[CacheSource], auths: Mapping[str, Credentials], handle: OperationHandle
    ) -> Foreign:
        """What these caches have. Raises CANCELLED."""
        found = Foreign()
        for source in sources:
            where = source.reference.familiar if isinstance(source, RegistryCache) else "a folder"
            try:
                place = await self._place(source, auths)
                contents = await self._load(place, handle)
            except Cancelled:
                raise
            except EngineError as error:
                found.lost(f"cache of {where}", error)
                continue
            for key, record in contents.records.items():
                found.records.setdefault(key, ForeignRecord(record, place))
            for name, mount in contents.mounts.items() if source.has_mounts else ():
                found.mounts.setdefault(name, ForeignMount(mount, place))
        return found

    async def _place(self, source: CacheSource, auths: Mapping[str, Credentials]) -> CachePlace:
        packer = self.packer
        if isinstance(source, RegistryCache):
            return RegistryPlace(
                source.reference,
                auths.get(source.reference.domain, Credentials()),
                self.registry,
                self.ingester,
                packer.blobs,
                packer.files,
                packer.collector,
                packer.workers,
            )
        tree = await self.contexts.open(source.context_id)
        return FolderPlace(
            tree, source.manifest_digest, self.trees, self.ingester, self.scratch, self.remove_tree, packer.workers
        )

    async def _load(self, place: CachePlace, handle: OperationHandle) -> cache_document.Contents:
        config, layers = cache_document.parse_manifest(await place.manifest(handle), place.name)
        data = await place.config(config, handle)
        if len(data) != config.size_bytes:
            raise SizeMismatch(digest=config.digest, expected_bytes=config.size_bytes, actual_bytes=len(data))
        return cache_document.parse_config(data, layers, place.name)

    async def fetch(self, foreign: ForeignRecord, lease: Lease, handle: OperationHandle) -> StoredLayer | None:
        """The layer of a record, staged or visible; None for a step that changed nothing.

        Raises as `Ingester.fetch_layer`.
        """
        layer = foreign.record.layer
        if layer is None:
            return None
        await lease.add([layer.descriptor.digest, layer.diff_id.hex])
        failpoints.hit("build.cache.fetch")
        return await foreign.place.layer(layer, handle)

    async def restore(self, foreign: ForeignMount, directory: str, handle: OperationHandle) -> None:
        """The empty directory has the content of a cache mount.

        Raises LIMIT_EXCEEDED, LAYER_CORRUPT, LAYER_REJECTED, and as `Ingester.fetch_blob`; the directory may have some
        of it then.
        """
        descriptor = foreign.mount.descriptor
        check_size(
            descriptor.size_bytes,
            "MAX_CACHE_MOUNT_BYTES",
            MAX_CACHE_MOUNT_BYTES,
            foreign.mount.description or "a mount",
        )
        async with foreign.place.file(descriptor, handle) as path:
            failpoints.hit("build.cache.restore")
            await self.trees.unpack(path, directory, MAX_CACHE_MOUNT_BYTES, handle.cancel_token)

    async def export(
        self,
        keys: Sequence[str],
        mounts: Sequence[MountUse],
        reference: ImageReference,
        auth: Credentials,
        handle: OperationHandle,
    ) -> Sequence[str]:
        """The registry has these results and mounts under the reference; here nothing is left of what was made for it.
        Returns what was left out, and why.

        Raises LIMIT_EXCEEDED, BLOB_NOT_FOUND, and as `PushRegistry`.
        """
        async with self.packer.packed(keys, mounts, handle.cancel_token) as packed:
            await self._send(packed, reference, auth, handle)
            return packed.warnings

    async def _send(
        self, packed: Packed, reference: ImageReference, auth: Credentials, handle: OperationHandle
    ) -> None:
        to = Destination(reference.domain, reference.path, auth)
        bound = asyncio.Semaphore(self.blobs_at_once)

        async def send(blob: Descriptor) -> None:
            async with bound:
                handle.check()
                counters = self.target.new_upload_counters()
                await self.target.push_blob(to, blob.digest, "", counters, handle.cancel_token)

        await run_all([send(blob) for blob in (*packed.layers, packed.config)])
        handle.check()
        await self.target.push_manifest(
            to, reference.registry_reference, OCI_MANIFEST, packed.manifest, handle.cancel_token
        )
