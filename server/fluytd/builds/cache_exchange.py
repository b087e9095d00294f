"""Caches that travel: records and layers of a build to a registry, and from there into another engine's builds.

A cache is trusted as the images are that one builds on: a key stands for a step, and what its layer holds is taken
on the word of whoever wrote the cache. Layers are fetched when a step wants them, verified by digest and diff_id.
"""

import asyncio
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from fluytd import failpoints
from fluytd.builds import cache_document
from fluytd.builds.model import CacheRecord
from fluytd.content.ports import Blobs
from fluytd.errors import Cancelled, EngineError, SizeMismatch
from fluytd.gc.collect import Collector
from fluytd.gc.leases import Lease
from fluytd.ids import Digest, ImageReference
from fluytd.images.assemble import run_all
from fluytd.images.documents import MAX_CONFIG_BYTES, MAX_MANIFEST_BYTES, check_size
from fluytd.images.manifests import OCI_MANIFEST, Descriptor
from fluytd.images.ports import Destination, Ingester, PushRegistry, Registry, Source, StoredLayer
from fluytd.operations.service import OperationHandle
from fluytd.registries.model import Credentials

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class ForeignRecord:
    """A record of a cache elsewhere."""

    record: CacheRecord
    reference: ImageReference
    credentials: Credentials


@dataclass(frozen=True, slots=True)
class CacheExchange:
    """Reads and writes caches of registries. Belongs to the event loop."""

    registry: Registry
    target: PushRegistry
    ingester: Ingester
    blobs: Blobs
    collector: Collector
    #: Blobs that are sent at once.
    blobs_at_once: int = 4

    async def load(
        self,
        references: Sequence[ImageReference],
        auths: Mapping[str, Credentials],
        handle: OperationHandle,
    ) -> tuple[dict[str, ForeignRecord], list[str]]:
        """The records of these caches by key, an earlier one's first, and why others could not be had. Raises
        CANCELLED."""
        found: dict[str, ForeignRecord] = {}
        reasons: list[str] = []
        for reference in references:
            auth = auths.get(reference.domain, Credentials())
            try:
                records = await self._load(reference, auth, handle)
            except Cancelled:
                raise
            except EngineError as error:
                reasons.append(f"cache of {reference.familiar}: {error.text.format_map(error.metadata)}")
                continue
            for key, record in records.items():
                found.setdefault(key, ForeignRecord(record, reference, auth))
        return found, reasons

    async def _load(
        self, reference: ImageReference, auth: Credentials, handle: OperationHandle
    ) -> dict[str, CacheRecord]:
        subject = reference.familiar
        manifest = await self.registry.fetch_manifest(
            reference.domain, reference.path, reference.registry_reference, handle.cancel_token, auth
        )
        config, layers = cache_document.parse_manifest(manifest.data, subject)
        source = _source(config, reference, auth)
        async with self.collector.passing([config.digest]):
            await self.ingester.fetch_blob(source, self.ingester.new_counters(), handle.cancel_token)
            data = await self.blobs.read(config.digest, MAX_CONFIG_BYTES)
        if len(data) != config.size_bytes:
            raise SizeMismatch(digest=config.digest, expected_bytes=config.size_bytes, actual_bytes=len(data))
        return cache_document.parse_config(data, layers, subject)

    async def fetch(self, foreign: ForeignRecord, lease: Lease, handle: OperationHandle) -> StoredLayer | None:
        """The layer of a record, staged or visible; None for a step that changed nothing.

        Raises as `Ingester.fetch_layer`.
        """
        layer = foreign.record.layer
        if layer is None:
            return None
        await lease.add([layer.descriptor.digest, layer.diff_id.hex])
        failpoints.hit("build.cache.fetch")
        source = _source(layer.descriptor, foreign.reference, foreign.credentials)
        counters = self.ingester.new_counters()
        stored = await self.ingester.fetch_layer(source, layer.diff_id, counters, handle.cancel_token)
        descriptor = layer.descriptor
        return StoredLayer(descriptor.digest, descriptor.size_bytes, layer.diff_id, descriptor.media_type, stored)

    async def export(
        self, records: Sequence[CacheRecord], reference: ImageReference, auth: Credentials, handle: OperationHandle
    ) -> None:
        """The registry has these records under the reference; here nothing is left of what was made for it.

        The caller holds a lease on the layers. Raises LIMIT_EXCEEDED, BLOB_NOT_FOUND, and as `PushRegistry`.
        """
        subject = f"the cache {reference.familiar}"
        data = cache_document.config(records)
        check_size(len(data), "MAX_CONFIG_BYTES", MAX_CONFIG_BYTES, subject)
        layers = cache_document.layers_of(records)
        manifest = cache_document.manifest(data, layers)
        check_size(len(manifest), "MAX_MANIFEST_BYTES", MAX_MANIFEST_BYTES, subject)
        digest = Digest.of(data)
        try:
            async with self.collector.passing([digest]):
                failpoints.hit("build.cache.export")
                await self.blobs.stage(data, digest)
                await self.blobs.publish([digest])
                await self._send([*(layer.digest for layer in layers), digest], manifest, reference, auth, handle)
        finally:
            await self.collector.sweep({digest: len(data)}, {})

    async def _send(
        self,
        digests: Sequence[Digest],
        manifest: bytes,
        reference: ImageReference,
        auth: Credentials,
        handle: OperationHandle,
    ) -> None:
        to = Destination(reference.domain, reference.path, auth)
        bound = asyncio.Semaphore(self.blobs_at_once)

        async def send(digest: Digest) -> None:
            async with bound:
                handle.check()
                counters = self.target.new_upload_counters()
                await self.target.push_blob(to, digest, "", counters, handle.cancel_token)

        await run_all([send(digest) for digest in digests])
        handle.check()
        await self.target.push_manifest(to, reference.registry_reference, OCI_MANIFEST, manifest, handle.cancel_token)


def _source(descriptor: Descriptor, reference: ImageReference, auth: Credentials) -> Source:
    return Source(
        reference.domain, reference.path, descriptor.digest, descriptor.size_bytes, descriptor.media_type, auth
    )
