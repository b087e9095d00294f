"""What the image services need of others: layers, registries, the one pass that fetches and unpacks, containers.

Calls that are coroutines run their work on a thread of the transfer pool; long ones take a cancel token and end soon
with CANCELLED once it is set.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from fluytd.ids import Digest
from fluytd.images.archive import Entry
from fluytd.operations.ports import CancelToken
from fluytd.registries.model import Credentials


@dataclass(frozen=True, slots=True)
class Layer:
    """An unpacked layer, staged or visible."""

    layer_id: str
    #: Sum of the sizes of its regular files.
    size_bytes: int
    #: It must be finished over the layers below it before it is used (see `Ingest.finish_layer`).
    depends_on_lower: bool
    #: The highest user or group that something in it belongs to; 0 if that was not recorded.
    max_id: int = 0


@dataclass(frozen=True, slots=True)
class StoredLayer:
    """A layer that came from a local file: its blob as stored, and unpacked."""

    digest: Digest
    size_bytes: int
    diff_id: Digest
    media_type: str
    layer: Layer


@dataclass(frozen=True, slots=True)
class StagedLayer:
    """A layer that is not visible, and how long nothing was added to it."""

    name: str
    age_seconds: float


@dataclass(frozen=True, slots=True)
class RemoteManifest:
    """A manifest or index as a registry gave it; `digest` is that of `data`."""

    data: bytes
    media_type: str
    digest: Digest


class Referrer(Protocol):
    """A manifest that refers to another one."""

    @property
    def media_type(self) -> str:
        """Its media type."""

    @property
    def digest(self) -> str:
        """Its digest."""

    @property
    def size_bytes(self) -> int:
        """Its size."""

    @property
    def artifact_type(self) -> str:
        """What kind of artifact it is; empty if the registry does not say."""

    @property
    def annotations(self) -> dict[str, str]:
        """Its annotations."""


class FoundRepository(Protocol):
    """A repository that a search found."""

    @property
    def name(self) -> str:
        """Its name within the registry."""

    @property
    def description(self) -> str:
        """What its owner says of it."""

    @property
    def star_count(self) -> int:
        """How many people marked it."""

    @property
    def is_official(self) -> bool:
        """True if the registry's owner vouches for it."""


class Counters(Protocol):
    """How far one blob has come; read at any time from any thread."""

    @property
    def phase(self) -> str:
        """`waiting`, `downloading`, `verifying`, `extracting`, `done`, `present`."""

    @property
    def fetched_bytes(self) -> int:
        """Compressed bytes stored so far, those resumed included."""

    @property
    def extracted_bytes(self) -> int:
        """Uncompressed bytes read so far."""


class Layers(Protocol):
    """The layer store."""

    async def publish(self, layer_ids: Sequence[str]) -> None:
        """Staged layers are visible, durably; visible ones are skipped. Raises LAYER_NOT_FOUND, STORAGE_FULL."""

    async def list_layers(self) -> list[Layer]:
        """All visible layers, no order."""

    async def delete(self, layer_id: str) -> None:
        """A visible layer is gone. Idempotent."""

    async def list_staged(self) -> list[StagedLayer]:
        """Layers that are not visible, no order."""

    async def delete_staged(self, name: str) -> None:
        """A staged layer is gone. Idempotent."""

    async def recover(self) -> None:
        """What an interrupted deletion or staging left is gone. Called at start, before anything is staged."""

    def lower_path(self, layer_id: str) -> str:
        """Absolute directory of a visible layer. Raises LAYER_NOT_FOUND. Blocks for one stat or one mount."""


class Registry(Protocol):
    """Registries, by the host of a reference."""

    async def fetch_manifest(
        self, registry: str, repository: str, reference: str, cancel: CancelToken, credentials: Credentials
    ) -> RemoteManifest:
        """A manifest or index by tag or digest; the body has that digest, header and body agree on its type.

        Raises IMAGE_NOT_FOUND, REGISTRY_ACCESS_DENIED, REGISTRY_UNREACHABLE, REGISTRY_PROTOCOL, REGISTRY_RATE_LIMITED,
        REGISTRY_CONFIG_INVALID, DIGEST_MISMATCH, MANIFEST_INVALID, LIMIT_EXCEEDED, CANCELLED.
        """

    async def list_tags(
        self, registry: str, repository: str, cancel: CancelToken, credentials: Credentials
    ) -> list[str]:
        """All tags of a repository, sorted.

        Raises IMAGE_NOT_FOUND for an absent repository, REFERENCE_INVALID for a tag that is none, and as
        `fetch_manifest`.
        """

    async def list_referrers(
        self,
        registry: str,
        repository: str,
        digest: Digest,
        artifact_type: str,
        cancel: CancelToken,
        credentials: Credentials,
    ) -> Sequence[Referrer]:
        """What refers to the manifest, in the registry's order, each once; of one type unless that is empty.

        Raises as `fetch_manifest`, but nothing refers to a manifest that is not there.
        """

    async def search(
        self, registry: str, term: str, limit: int, cancel: CancelToken, credentials: Credentials
    ) -> Sequence[FoundRepository]:
        """At most `limit` repositories. Raises REGISTRY_SEARCH_UNSUPPORTED, and as `check_credentials`."""

    async def check_credentials(self, registry: str, cancel: CancelToken, credentials: Credentials) -> None:
        """The registry takes the credentials, or asks for none.

        Raises REGISTRY_ACCESS_DENIED, REFERENCE_INVALID, REGISTRY_UNREACHABLE, REGISTRY_PROTOCOL,
        REGISTRY_RATE_LIMITED, REGISTRY_CONFIG_INVALID, LIMIT_EXCEEDED, CANCELLED.
        """


class UploadCounters(Protocol):
    """How far the sending of one blob has come; read at any time from any thread."""

    @property
    def phase(self) -> str:
        """`waiting`, `uploading`, `present`, `mounted`, `done`."""

    @property
    def sent_bytes(self) -> int:
        """Bytes that the registry has or that are on their way to it."""


@dataclass(frozen=True, slots=True)
class Destination:
    """Where a push goes, and for whom."""

    registry: str
    repository: str
    credentials: Credentials


class PushRegistry(Protocol):
    """Registries that are written to."""

    def new_upload_counters(self) -> UploadCounters:
        """Counters for one blob."""

    async def push_blob(
        self, to: Destination, digest: Digest, mount_from: str, counters: UploadCounters, cancel: CancelToken
    ) -> bool:
        """The repository has the blob of the content store; true if its bytes were sent.

        `mount_from`: a repository of the same registry that may have it; empty for none. Raises BLOB_NOT_FOUND, and as
        `Registry.fetch_manifest`.
        """

    async def has_manifest(self, to: Destination, digest: Digest, cancel: CancelToken) -> bool:
        """True if the repository has a manifest or index of this digest. Raises as `Registry.fetch_manifest`."""

    async def push_manifest(
        self, to: Destination, reference: str, media_type: str, data: bytes, cancel: CancelToken
    ) -> Digest:
        """`reference` names these bytes there. Raises as `Registry.fetch_manifest`."""


@dataclass(frozen=True, slots=True)
class Source:
    """Where a blob is fetched from."""

    registry: str
    repository: str
    digest: Digest
    size_bytes: int
    media_type: str
    credentials: Credentials
    #: Where it may be had besides, asked first and for nobody; empty but for layers that are not to be distributed.
    urls: tuple[str, ...] = ()


class Ingester(Protocol):
    """From a source to the stores in one pass. Everything is staged, nothing becomes visible."""

    def new_counters(self) -> Counters:
        """Counters for one blob."""

    def new_cancel_token(self) -> CancelToken:
        """A token that its calls look at."""

    async def fetch_blob(self, source: Source, counters: Counters, cancel: CancelToken) -> None:
        """The blob is staged, verified; a partial one is resumed. Raises as `Registry.fetch_manifest`, BLOB_NOT_FOUND,
        SIZE_MISMATCH, STORAGE_FULL."""

    async def fetch_layer(self, source: Source, diff_id: Digest, counters: Counters, cancel: CancelToken) -> Layer:
        """Blob and unpacked layer are staged or visible, both verified. Raises besides DIFF_ID_MISMATCH,
        LAYER_REJECTED, LAYER_CORRUPT, LIMIT_EXCEEDED."""

    async def store_layer(
        self, part: "FilePart", digest: Digest | None, diff_id: Digest | None, counters: Counters, cancel: CancelToken
    ) -> StoredLayer:
        """Blob and unpacked layer from a part of a local file, verified where a digest is given. Raises as above."""

    async def finish_layer(self, stack: "Stack", cancel: CancelToken) -> Layer:
        """The layer to use over the lower ones. Raises LAYER_REJECTED, LAYER_CORRUPT."""

    async def open_archive(self, fd: int, max_size_bytes: int, max_entries: int, cancel: CancelToken) -> "Archive":
        """The entries of the tar behind the borrowed `fd`, decompressed if need be.

        Raises ARCHIVE_INVALID, LIMIT_EXCEEDED, CANCELLED.
        """


@dataclass(frozen=True, slots=True)
class FilePart:
    """A range of a local file; the fd is borrowed."""

    fd: int
    offset_bytes: int
    size_bytes: int


@dataclass(frozen=True, slots=True)
class Stack:
    """A layer and what stands below it."""

    digest: Digest
    diff_id: Digest
    chain_id: Digest
    #: Lowest first; each staged or visible.
    lower_layer_ids: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Archive:
    """A tar that can be read from. `owned_fd` is the caller's to close; None if the given fd serves."""

    owned_fd: int | None
    entries: Sequence[Entry]


@dataclass(frozen=True, slots=True)
class Holder:
    """A container that an image belongs to."""

    container_id: str
    is_running: bool


class ContainersUsingImage(Protocol):
    """What containers need of images. Answers from memory."""

    def holders(self, image_id: str) -> list[Holder]:
        """Containers of the image, in any state."""

    def uses_layer(self, layer_id: str) -> bool:
        """True if a container, in any state, stands on the layer."""
