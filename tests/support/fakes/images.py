"""Stores, registries and the one pass between them in memory, for unit tests of what images do with them."""

import asyncio
import io
import os
import tarfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from fluytd.content.ports import Blob, Ingest
from fluytd.errors import BlobNotFound, Cancelled, DigestMismatch, EngineError, ImageNotFound, LayerNotFound
from fluytd.ids import Digest
from fluytd.images.ports import (
    Archive,
    Counters,
    FilePart,
    FoundRepository,
    Holder,
    Layer,
    Referrer,
    RemoteManifest,
    Source,
    Stack,
    StagedLayer,
    StoredLayer,
)
from fluytd.operations.ports import CancelToken
from fluytd.registries.model import Credentials
from tests.support.images import Tagged


class Flag:
    """A cancel token."""

    def __init__(self) -> None:
        self.is_cancelled = False

    def cancel(self) -> None:
        self.is_cancelled = True


@dataclass
class Counts:
    """Counters that a test sets."""

    phase: str = "waiting"
    fetched_bytes: int = 0
    extracted_bytes: int = 0


@dataclass
class FakeBlobs:
    """Implements `content.ports.Blobs`; `log` is shared with the other fakes."""

    log: list[str] = field(default_factory=list)
    staged: dict[Digest, bytes] = field(default_factory=dict)
    visible: dict[Digest, bytes] = field(default_factory=dict)
    index: bytes = b""
    publish_failure: EngineError | None = None

    async def stage(self, data: bytes, digest: Digest | None = None) -> Digest:
        actual = Digest.of(data)
        if digest is not None and digest != actual:
            raise DigestMismatch(expected=digest, actual=actual, size_bytes=len(data))
        if actual not in self.visible:
            self.staged[actual] = data
        return actual

    async def publish(self, digests: Sequence[Digest]) -> None:
        if self.publish_failure is not None:
            raise self.publish_failure
        self.log.append("blobs")
        for digest in digests:
            if digest not in self.visible:
                if digest not in self.staged:
                    raise BlobNotFound(digest=digest)
                self.visible[digest] = self.staged.pop(digest)

    async def read(self, digest: Digest, max_size_bytes: int) -> bytes:
        found = self.visible.get(digest, self.staged.get(digest))
        if found is None:
            raise BlobNotFound(digest=digest)
        return found

    async def has(self, digest: Digest) -> bool:
        return digest in self.visible

    async def list_blobs(self) -> list[Blob]:
        return [Blob(digest, len(data)) for digest, data in self.visible.items()]

    async def delete(self, digest: Digest) -> int:
        return len(self.visible.pop(digest, b""))

    async def list_ingests(self) -> list[Ingest]:
        return [Ingest(digest, len(data), 0.0) for digest, data in self.staged.items()]

    async def delete_ingest(self, digest: Digest) -> None:
        self.staged.pop(digest, None)

    async def write_index(self, data: bytes) -> None:
        self.log.append("index")
        self.index = data


@dataclass
class FakeLayers:
    """Implements `images.ports.Layers`."""

    log: list[str] = field(default_factory=list)
    staged: set[str] = field(default_factory=set)
    visible: set[str] = field(default_factory=set)

    async def publish(self, layer_ids: Sequence[str]) -> None:
        self.log.append("layers")
        for layer_id in layer_ids:
            if layer_id not in self.visible | self.staged:
                raise LayerNotFound(layer_id=layer_id)
            self.staged.discard(layer_id)
            self.visible.add(layer_id)

    async def list_layers(self) -> list[Layer]:
        return [Layer(layer_id, 1, False) for layer_id in self.visible]

    async def delete(self, layer_id: str) -> None:
        self.visible.discard(layer_id)

    async def list_staged(self) -> list[StagedLayer]:
        return [StagedLayer(name, 0.0) for name in self.staged]

    async def delete_staged(self, name: str) -> None:
        self.staged.discard(name)

    async def recover(self) -> None:
        """Nothing is ever left."""

    def lower_path(self, layer_id: str) -> str:
        return f"/layers/{layer_id}"


class FakeRegistry:
    """Implements `images.ports.Registry` over images that were put into it."""

    def __init__(self) -> None:
        self.manifests: dict[str, tuple[str, bytes]] = {}
        self.blobs: dict[str, bytes] = {}
        self.asked: list[str] = []

    def put(self, reference: str, tagged: Tagged) -> None:
        """Serves an image or index by the reference within its repository, and by digest."""
        self.manifests |= dict(tagged.manifests) | {reference: tagged.manifests[tagged.digest]}
        self.blobs |= tagged.blobs

    async def fetch_manifest(
        self, registry: str, repository: str, reference: str, cancel: CancelToken, credentials: Credentials
    ) -> RemoteManifest:
        self.asked.append(reference)
        if reference not in self.manifests:
            raise ImageNotFound(reference=f"{registry}/{repository}:{reference}")
        media_type, data = self.manifests[reference]
        return RemoteManifest(data, media_type, Digest.of(data))

    async def list_tags(
        self, registry: str, repository: str, cancel: CancelToken, credentials: Credentials
    ) -> list[str]:
        return sorted(name for name in self.manifests if ":" not in name)

    async def list_referrers(
        self,
        registry: str,
        repository: str,
        digest: Digest,
        artifact_type: str,
        cancel: CancelToken,
        credentials: Credentials,
    ) -> Sequence[Referrer]:
        return []

    async def search(
        self, registry: str, term: str, limit: int, cancel: CancelToken, credentials: Credentials
    ) -> Sequence[FoundRepository]:
        return []

    async def check_credentials(self, registry: str, cancel: CancelToken, credentials: Credentials) -> None:
        """Everybody is let in."""


@dataclass
class FakeIngester:
    """Implements `images.ports.Ingester`. A layer's bytes are taken as they are; what a test names is held or fails.

    Attributes:
        gates: digest -> event that must be set before the fetch or store ends; a cancelled token ends the wait.
        failures: digest -> failures of the next fetches or stores, first to last.
        dependent: diff_ids of layers that must be finished over lower ones.
    """

    registry: FakeRegistry
    blobs: FakeBlobs
    layers: FakeLayers
    gates: dict[str, asyncio.Event] = field(default_factory=dict)
    failures: dict[str, list[EngineError]] = field(default_factory=dict)
    dependent: set[str] = field(default_factory=set)
    fetched: list[str] = field(default_factory=list)
    finished: list[Stack] = field(default_factory=list)
    running: int = 0
    most_running: int = 0

    def new_counters(self) -> Counters:
        return Counts()

    def new_cancel_token(self) -> CancelToken:
        return Flag()

    async def _work(self, digest: str, cancel: CancelToken) -> None:
        self.fetched.append(digest)
        self.running += 1
        self.most_running = max(self.running, self.most_running)
        try:
            await asyncio.sleep(0)
            gate = self.gates.get(digest)
            while gate is not None and not gate.is_set():
                if cancel.is_cancelled:
                    raise Cancelled(subject=digest)
                await asyncio.sleep(0.001)
            if self.failures.get(digest):
                raise self.failures[digest].pop(0)
        finally:
            self.running -= 1

    async def fetch_blob(self, source: Source, counters: Counters, cancel: CancelToken) -> None:
        await self._work(source.digest, cancel)
        if source.digest not in self.registry.blobs:
            raise BlobNotFound(digest=source.digest)
        await self.blobs.stage(self.registry.blobs[source.digest])

    async def fetch_layer(self, source: Source, diff_id: Digest, counters: Counters, cancel: CancelToken) -> Layer:
        await self.fetch_blob(source, counters, cancel)
        return self._staged(diff_id)

    def _staged(self, diff_id: Digest) -> Layer:
        if diff_id.hex not in self.layers.visible:
            self.layers.staged.add(diff_id.hex)
        return Layer(diff_id.hex, 7, diff_id in self.dependent)

    async def store_layer(
        self, part: FilePart, digest: Digest | None, diff_id: Digest | None, counters: Counters, cancel: CancelToken
    ) -> StoredLayer:
        data = os.pread(part.fd, part.size_bytes, part.offset_bytes)
        actual = Digest.of(data)
        await self._work(actual, cancel)
        os.pread(part.fd, 1, part.offset_bytes)  # the file is there until the end
        await self.blobs.stage(data, digest)
        found = diff_id or actual
        media_type = "application/vnd.oci.image.layer.v1.tar"
        return StoredLayer(actual, len(data), found, media_type, self._staged(found))

    async def finish_layer(self, stack: Stack, cancel: CancelToken) -> Layer:
        self.finished.append(stack)
        layer_id = f"chain-{stack.chain_id.hex}"
        self.layers.staged.add(layer_id)
        return Layer(layer_id, 7, False)

    async def open_archive(self, fd: int, max_size_bytes: int, max_entries: int, cancel: CancelToken) -> Archive:
        return Archive(None, entries_of(os.pread(fd, max_size_bytes, 0)))


@dataclass(frozen=True)
class FakeEntry:
    """Implements `images.archive.Entry`."""

    name: str
    kind: str
    size_bytes: int
    offset_bytes: int
    link_name: str = ""


def entries_of(data: bytes) -> list[FakeEntry]:
    """The entries of a plain tar, as Python's own reader sees them."""
    kinds = {tarfile.SYMTYPE: "symlink", tarfile.LNKTYPE: "hardlink", tarfile.DIRTYPE: "directory"}
    with tarfile.open(fileobj=io.BytesIO(data)) as tar:
        return [
            FakeEntry(
                member.name.strip("/"),
                "file" if member.isfile() else kinds.get(member.type, "other"),
                member.size,
                member.offset_data,
                member.linkname,
            )
            for member in tar
        ]


@dataclass
class FakeHolders:
    """Implements `images.ports.ContainersUsingImage`."""

    by_image: dict[str, list[Holder]] = field(default_factory=dict)
    used_layers: set[str] = field(default_factory=set)

    def holders(self, image_id: str) -> list[Holder]:
        return self.by_image.get(image_id, [])

    def uses_layer(self, layer_id: str) -> bool:
        return layer_id in self.used_layers


async def until(condition: Callable[[], object]) -> None:
    """Lets other tasks and threads go on until the condition holds; pytest's timeout bounds it."""
    while not condition():  # noqa: ASYNC110 - what is waited for is plain state of a fake
        await asyncio.sleep(0.001)
