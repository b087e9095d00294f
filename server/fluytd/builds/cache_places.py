"""Where caches are that a build takes results from: a registry, or an OCI layout whose blobs a caller has sent."""

import hashlib
import os
import uuid
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from fluytd import failpoints
from fluytd.builds.graph import literal
from fluytd.builds.model import CachedLayer
from fluytd.builds.ports import FileTree, Trees, Wanted
from fluytd.content.ports import BlobFiles, Blobs
from fluytd.errors import BlobNotFound, BuildSourceNotFound, DigestMismatch, IoFailed, SizeMismatch
from fluytd.gc.collect import Collector
from fluytd.ids import Digest, ImageReference
from fluytd.images.documents import MAX_CONFIG_BYTES, MAX_MANIFEST_BYTES
from fluytd.images.manifests import Descriptor
from fluytd.images.ports import FilePart, Ingester, Registry, Source, StoredLayer
from fluytd.images.save_plan import blob_name
from fluytd.operations.service import OperationHandle
from fluytd.registries.model import Credentials
from fluytd.workers import Workers


class CachePlace(Protocol):
    """A cache elsewhere. All that comes of it is verified by digest."""

    @property
    def name(self) -> str:
        """What messages call it."""

    async def manifest(self, handle: OperationHandle) -> bytes:
        """Its manifest."""

    async def config(self, descriptor: Descriptor, handle: OperationHandle) -> bytes:
        """Its config."""

    async def layer(self, layer: CachedLayer, handle: OperationHandle) -> StoredLayer:
        """One of its layers, staged or visible, its diff_id verified; the caller's lease has it."""

    def file(self, descriptor: Descriptor, handle: OperationHandle) -> AbstractAsyncContextManager[str]:
        """A block in which a blob can be read at the path that it yields."""


@dataclass(frozen=True, slots=True)
class RegistryPlace:
    """A cache in a registry. Implements `CachePlace`."""

    reference: ImageReference
    credentials: Credentials
    registry: Registry
    ingester: Ingester
    blobs: Blobs
    files: BlobFiles
    collector: Collector
    workers: Workers

    @property
    def name(self) -> str:
        """See `CachePlace.name`."""
        return self.reference.familiar

    async def manifest(self, handle: OperationHandle) -> bytes:
        """See `CachePlace.manifest`."""
        reference = self.reference
        found = await self.registry.fetch_manifest(
            reference.domain, reference.path, reference.registry_reference, handle.cancel_token, self.credentials
        )
        return found.data

    async def config(self, descriptor: Descriptor, handle: OperationHandle) -> bytes:
        """See `CachePlace.config`."""
        async with self.collector.passing([descriptor.digest]):
            counters = self.ingester.new_counters()
            await self.ingester.fetch_blob(self._source(descriptor), counters, handle.cancel_token)
            return await self.blobs.read(descriptor.digest, MAX_CONFIG_BYTES)

    async def layer(self, layer: CachedLayer, handle: OperationHandle) -> StoredLayer:
        """See `CachePlace.layer`."""
        descriptor = layer.descriptor
        counters = self.ingester.new_counters()
        stored = await self.ingester.fetch_layer(self._source(descriptor), layer.diff_id, counters, handle.cancel_token)
        return StoredLayer(descriptor.digest, descriptor.size_bytes, layer.diff_id, descriptor.media_type, stored)

    @asynccontextmanager
    async def file(self, descriptor: Descriptor, handle: OperationHandle) -> AsyncIterator[str]:
        """See `CachePlace.file`."""
        digest = descriptor.digest
        try:
            async with self.collector.passing([digest]):
                counters = self.ingester.new_counters()
                await self.ingester.fetch_blob(self._source(descriptor), counters, handle.cancel_token)
                await self.blobs.publish([digest])
                file = await self.workers.run(self.files.open_file, digest)
                try:
                    yield f"/proc/self/fd/{file.fileno()}"
                finally:
                    file.close()
        finally:
            await self.collector.sweep({digest: descriptor.size_bytes}, {})

    def _source(self, descriptor: Descriptor) -> Source:
        reference = self.reference
        return Source(
            reference.domain,
            reference.path,
            descriptor.digest,
            descriptor.size_bytes,
            descriptor.media_type,
            self.credentials,
        )


@dataclass(frozen=True, slots=True)
class FolderPlace:
    """A cache in a folder of the caller's, as a tree that the engine has. Implements `CachePlace`."""

    tree: FileTree
    manifest_digest: Digest
    trees: Trees
    ingester: Ingester
    scratch: Path
    remove_tree: Callable[[str], None]
    workers: Workers

    @property
    def name(self) -> str:
        """See `CachePlace.name`."""
        return f"the folder with {self.manifest_digest}"

    async def manifest(self, handle: OperationHandle) -> bytes:
        """See `CachePlace.manifest`."""
        return await self._document(self.manifest_digest, MAX_MANIFEST_BYTES, "MAX_MANIFEST_BYTES")

    async def config(self, descriptor: Descriptor, handle: OperationHandle) -> bytes:
        """See `CachePlace.config`."""
        return await self._document(descriptor.digest, MAX_CONFIG_BYTES, "MAX_CONFIG_BYTES")

    async def _document(self, digest: Digest, max_bytes: int, limit: str) -> bytes:
        data = await self.trees.read_file(self.tree, blob_name(digest), max_bytes, limit)
        if data is None:
            raise BlobNotFound(digest=digest)
        actual = hashlib.new(digest.algorithm, data).hexdigest()
        if actual != digest.hex:
            raise DigestMismatch(expected=digest, actual=f"{digest.algorithm}:{actual}", size_bytes=len(data))
        return data

    async def layer(self, layer: CachedLayer, handle: OperationHandle) -> StoredLayer:
        """See `CachePlace.layer`."""
        descriptor = layer.descriptor
        async with self._written(descriptor, handle) as path:
            fd = await self.workers.run(_open, path)
            try:
                stored = await self.ingester.store_layer(
                    FilePart(fd, 0, descriptor.size_bytes),
                    descriptor.digest,
                    layer.diff_id,
                    self.ingester.new_counters(),
                    handle.cancel_token,
                )
            finally:
                os.close(fd)
        return StoredLayer(descriptor.digest, descriptor.size_bytes, layer.diff_id, descriptor.media_type, stored.layer)

    @asynccontextmanager
    async def file(self, descriptor: Descriptor, handle: OperationHandle) -> AsyncIterator[str]:
        """See `CachePlace.file`."""
        async with self._written(descriptor, handle) as path:
            await self.workers.run_transfer(_verify, path, descriptor)
            yield path

    @asynccontextmanager
    async def _written(self, descriptor: Descriptor, handle: OperationHandle) -> AsyncIterator[str]:
        """The blob in a file of its own, of the size that its descriptor says."""
        digest = descriptor.digest
        directory = self.scratch / f"cache-{uuid.uuid4().hex}"
        cancel = handle.cancel_token
        try:
            failpoints.hit("build.cache.write")
            await self.workers.run(directory.mkdir)
            try:
                selection = await self.trees.select(self.tree, Wanted(literal(blob_name(digest))), cancel)
            except BuildSourceNotFound:
                raise BlobNotFound(digest=digest) from None
            if await self.trees.write(selection, str(directory), cancel):
                raise BlobNotFound(digest=digest)
            path = directory / "file"
            size_bytes = (await self.workers.run(path.stat)).st_size
            if size_bytes != descriptor.size_bytes:
                raise SizeMismatch(digest=digest, expected_bytes=descriptor.size_bytes, actual_bytes=size_bytes)
            yield str(path)
        finally:
            await self.workers.run_transfer(self.remove_tree, str(directory))


def _open(path: str) -> int:
    try:
        return os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError as error:
        raise IoFailed(operation="open", path=path, errno=error.errno) from error


def _verify(path: str, descriptor: Descriptor) -> None:
    digest = descriptor.digest
    try:
        with Path(path).open("rb") as file:
            actual = hashlib.file_digest(file, digest.algorithm).hexdigest()
    except OSError as error:
        raise IoFailed(operation="read", path=path, errno=error.errno) from error
    if actual != digest.hex:
        raise DigestMismatch(expected=digest, actual=f"{digest.algorithm}:{actual}", size_bytes=descriptor.size_bytes)
