"""Results of steps and cache mounts as blobs that travel: a config and a manifest over their layers, for as long as it
takes to send them."""

import logging
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass

from fluytd import failpoints
from fluytd.builds import cache_document
from fluytd.builds.cache import BuildCache
from fluytd.builds.model import MAX_CACHE_MOUNT_BYTES, CachedMount, CacheRecord
from fluytd.builds.mounts import MountUse, StepMounts
from fluytd.builds.ports import Layering
from fluytd.content.ports import BlobFiles, Blobs
from fluytd.errors import Cancelled, EngineError, LimitExceeded
from fluytd.gc.collect import Collector
from fluytd.gc.leases import Lease
from fluytd.ids import Digest
from fluytd.images import index_file
from fluytd.images.archive import OCI_INDEX_FILE, OCI_LAYOUT_FILE
from fluytd.images.commit import Tree
from fluytd.images.documents import MAX_CONFIG_BYTES, MAX_MANIFEST_BYTES, check_size
from fluytd.images.manifests import OCI_MANIFEST, Descriptor
from fluytd.images.save import Sent, streamed
from fluytd.images.save_plan import OCI_LAYOUT, ArchiveFile, blob_name
from fluytd.operations.ports import CancelToken
from fluytd.workers import Workers

_log = logging.getLogger(__name__)
_REF_NAME = "org.opencontainers.image.ref.name"


@dataclass(frozen=True, slots=True)
class Packed:
    """A cache whose blobs are all visible."""

    manifest: bytes
    config: Descriptor
    layers: Sequence[Descriptor]
    #: What was left out, and why.
    warnings: Sequence[str]


@dataclass(frozen=True, slots=True)
class SentCache:
    """The end of a cache that was sent."""

    sent: Sent
    manifest_digest: Digest
    warnings: Sequence[str]


@dataclass(frozen=True, slots=True)
class CachePacker:
    """Makes caches of what the engine has. Belongs to the event loop."""

    cache: BuildCache
    mounts: StepMounts
    layering: Layering
    blobs: Blobs
    files: BlobFiles
    collector: Collector
    workers: Workers

    @asynccontextmanager
    async def packed(
        self, keys: Sequence[str], mounts: Sequence[MountUse], cancel: CancelToken
    ) -> AsyncIterator[Packed]:
        """A block in which the results of these keys, as far as they are kept, and the content of these mounts are a
        cache; afterwards nothing is left of what was made for it.

        Raises LIMIT_EXCEEDED, STORAGE_FULL, IO_FAILED, CANCELLED. A mount that no layer can hold, or that is too large,
        is left out.
        """
        made: dict[Digest, int] = {}
        warnings: list[str] = []
        try:
            async with self.collector.staging(lambda _: False) as lease:
                records = await self._held(keys, lease)
                if len(records) < len(keys):
                    warnings.append(f"{len(keys) - len(records)} results are not kept any more and left out")
                stored = [
                    mount
                    for use in mounts
                    if (mount := await self._mount(use, lease, made, warnings, cancel)) is not None
                ]
                data = cache_document.config(records, stored)
                check_size(len(data), "MAX_CONFIG_BYTES", MAX_CONFIG_BYTES, "the cache")
                layers = cache_document.layers_of(records, stored)
                manifest = cache_document.manifest(data, layers)
                check_size(len(manifest), "MAX_MANIFEST_BYTES", MAX_MANIFEST_BYTES, "the cache")
                config = Descriptor(cache_document.CONFIG_TYPE, Digest.of(data), len(data))
                await lease.add([config.digest])
                made[config.digest] = config.size_bytes
                failpoints.hit("build.cache.export")
                await self.blobs.stage(data, config.digest)
                await self.blobs.publish([config.digest])
                yield Packed(manifest, config, layers, warnings)
        finally:
            await self.collector.sweep(made, {})

    async def _held(self, keys: Sequence[str], lease: Lease) -> list[CacheRecord]:
        found = [record for key in keys if (record := self.cache.get(key)) is not None]
        await lease.add([record.layer.descriptor.digest for record in found if record.layer is not None])
        # Some may have been given up while the lease was waited for.
        return [record for record in found if self.cache.get(record.key) is not None]

    async def _mount(
        self,
        use: MountUse,
        lease: Lease,
        made: dict[Digest, int],
        warnings: list[str],
        cancel: CancelToken,
    ) -> CachedMount | None:
        """The content of a mount as a visible blob; None if there is none, or none that can travel."""
        try:
            async with self.mounts.held(use) as directory:
                if directory is None:
                    return None
                size_bytes = await self.mounts.size_of(directory)
                if size_bytes > MAX_CACHE_MOUNT_BYTES:
                    raise LimitExceeded(
                        limit="MAX_CACHE_MOUNT_BYTES",
                        limit_value=MAX_CACHE_MOUNT_BYTES,
                        actual=size_bytes,
                        subject=f"cache mount {use.id[:100]}",
                    )
                failpoints.hit("build.cache.mount")
                tree = Tree(f"cache mount {use.id[:100]}", directory, (), ())
                stored = await self.layering.store_changes(tree, self.layering.new_counters(), cancel)
        except Cancelled:
            raise
        except EngineError as error:
            _log.warning("cache mount %s does not travel: %s", use.id, error)
            warnings.append(f"cache mount {use.id[:100]}: {error.text.format_map(error.metadata)}")
            return None
        await lease.add([stored.digest])
        made[stored.digest] = stored.size_bytes
        await self.blobs.publish([stored.digest])
        await self.collector.discard_staged([stored.layer.layer_id])
        descriptor = Descriptor(stored.media_type, stored.digest, stored.size_bytes)
        return CachedMount(use.name, use.id[:100], descriptor)

    async def saved(
        self,
        keys: Sequence[str],
        mounts: Sequence[MountUse],
        tag: str,
        present: frozenset[Digest],
        cancel: CancelToken,
    ) -> AsyncGenerator[bytes | SentCache, None]:
        """Yields an OCI layout as a tar, without the blobs that are `present`, then `SentCache`.

        Raises as `packed`, and what `images.save.streamed` raises.
        """
        async with self.packed(keys, mounts, cancel) as packed:
            digest = Digest.of(packed.manifest)
            entry = index_file.entry(Descriptor(OCI_MANIFEST, digest, len(packed.manifest)), None, "")
            entry["annotations"] = {_REF_NAME: tag}
            index = index_file.dump([entry])
            files = [
                ArchiveFile(OCI_LAYOUT_FILE, len(OCI_LAYOUT), OCI_LAYOUT),
                ArchiveFile(OCI_INDEX_FILE, len(index), index),
            ]
            if digest not in present:
                files.append(ArchiveFile(blob_name(digest), len(packed.manifest), packed.manifest))
            files += [
                ArchiveFile(blob_name(one.digest), one.size_bytes, digest=one.digest)
                for one in (packed.config, *packed.layers)
                if one.digest not in present
            ]
            failpoints.hit("build.cache.save")
            async with aclosing(streamed(self.files, files, self.workers)) as parts:
                async for part in parts:
                    yield part if isinstance(part, bytes) else SentCache(part, digest, packed.warnings)
