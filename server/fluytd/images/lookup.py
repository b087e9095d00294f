"""What a registry has under a reference, told to a caller who pulls nothing. Nothing of it stays here."""

import asyncio
from dataclasses import dataclass

from fluytd.content.ports import Blobs
from fluytd.errors import SizeMismatch
from fluytd.gc.collect import Collector
from fluytd.ids import ImageReference
from fluytd.images import config as configs
from fluytd.images.documents import MAX_CONFIG_BYTES, check_size
from fluytd.images.manifests import Descriptor, Manifest
from fluytd.images.platforms import Platform
from fluytd.images.ports import Ingester, Source
from fluytd.images.resolve import Resolver
from fluytd.operations.ports import CancelToken
from fluytd.registries.model import Credentials


@dataclass(frozen=True, slots=True)
class Found:
    """What a reference names in its registry."""

    reference: ImageReference
    target: Descriptor
    #: The manifest that serves the wanted platform; None if none does.
    manifest: Descriptor | None
    #: Platforms of all images that it offers, in the registry's order, each once.
    platforms: tuple[Platform, ...]
    #: Bytes of the compressed layers of `manifest`, each layer once.
    layers_size_bytes: int


class Lookup:
    """Asks registries for callers."""

    def __init__(self, resolver: Resolver, ingester: Ingester, blobs: Blobs, collector: Collector) -> None:
        """`ingester`, `blobs`: where a config is kept for the moment in which it is read."""
        self._resolver = resolver
        self._ingester = ingester
        self._blobs = blobs
        self._collector = collector

    async def resolve(self, reference: ImageReference, wanted: Platform, credentials: Credentials) -> Found:
        """What the reference names, and its manifest for the wanted platform.

        Cancelling the await breaks the requests off. Raises as `Resolver.resolve`; for a target that is a manifest
        besides what its config can raise: BLOB_NOT_FOUND, SIZE_MISMATCH, MANIFEST_INVALID.
        """
        token = self._ingester.new_cancel_token()
        work = asyncio.ensure_future(self._resolve(reference.with_default_tag(), wanted, credentials, token))
        try:
            return await asyncio.shield(work)
        except asyncio.CancelledError:
            token.cancel()
            await asyncio.wait({work})
            work.exception()  # taken note of: nobody is left to hear of it
            raise

    async def _resolve(
        self, reference: ImageReference, wanted: Platform, credentials: Credentials, token: CancelToken
    ) -> Found:
        found = await self._resolver.resolve(reference, wanted, token, credentials)
        chosen, platforms = found.chosen, found.platforms
        if chosen is not None and not chosen.indexes:
            platform = await self._platform(reference, chosen.document, credentials, token)
            platforms = (platform,)
            chosen = chosen if wanted.fitness(platform) is not None else None
        manifest, size_bytes = (chosen.manifest, _layers_size(chosen.document)) if chosen is not None else (None, 0)
        return Found(reference, found.target, manifest, tuple(dict.fromkeys(platforms)), size_bytes)

    async def _platform(
        self, reference: ImageReference, document: Manifest, credentials: Credentials, token: CancelToken
    ) -> Platform:
        """The platform of a manifest that no index describes; only its config has it."""
        config = document.config
        check_size(config.size_bytes, "MAX_CONFIG_BYTES", MAX_CONFIG_BYTES, config.digest)
        source = Source(
            reference.domain, reference.path, config.digest, config.size_bytes, config.media_type, credentials
        )
        async with self._collector.passing([config.digest]):
            await self._ingester.fetch_blob(source, self._ingester.new_counters(), token)
            data = await self._blobs.read(config.digest, MAX_CONFIG_BYTES)
        if len(data) != config.size_bytes:
            raise SizeMismatch(digest=config.digest, expected_bytes=config.size_bytes, actual_bytes=len(data))
        return configs.parse(data, len(document.layers), config.digest).platform


def _layers_size(document: Manifest) -> int:
    return sum({layer.digest: layer.size_bytes for layer in document.layers}.values())
