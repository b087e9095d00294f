"""What builds need of others: trees and drafts of the core, the context store, records of the cache.

Calls that are coroutines run on worker threads; those that may take long take a cancel token.
"""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Final, NamedTuple, Protocol

from fluytd.builds.model import CacheRecord
from fluytd.images.commit import Tree
from fluytd.images.model import ImageLayer
from fluytd.images.ports import Counters, Layer, Stack, StoredLayer
from fluytd.operations.ports import CancelToken

#: A context is kept so long after its last use. Source: UploadContext in builds.proto.
MAX_IDLE_SECONDS: Final = 3600.0


class Selection(Protocol):
    """Files of a tree that a copy takes along. Holds its tree."""

    @property
    def entry_count(self) -> int:
        """How many entries there are."""

    @property
    def match_count(self) -> int:
        """How many paths were named."""


class FileTree(Protocol):
    """A tree of files that does not change. Holds what it is made of, until it is dropped."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """What a source names in a tree."""

    pattern: str
    is_required: bool = True
    parents_pattern: str = ""
    #: Patterns of an ignore file, of paths from the tree's root.
    excluded: tuple[str, ...] = ()


class Draft(Protocol):
    """A layer being drawn up; nothing is read or written before it is stored."""


@dataclass(frozen=True, slots=True)
class CopyTarget:
    """Where a copy goes, and as what."""

    destination: str
    owner: tuple[int, int] | None = None
    #: One mode, or 4096 answers for files and 4096 for directories.
    mode: tuple[int, ...] | None = None
    is_several: bool = False
    unpacks: bool = False


class Trees(Protocol):
    """Trees, what they have, and layers drawn up of them."""

    async def of_layers(self, layer_ids: Sequence[str], name: str) -> FileTree:
        """Visible layers, lowest first, as one tree. Raises LAYER_NOT_FOUND, KERNEL_FEATURE_MISSING, IO_FAILED."""

    async def of_directory(self, path: str, name: str, below: str) -> FileTree:
        """A directory that the engine made and nobody writes to, or the folder `below` in it, links taken inside it.
        Raises BUILD_SOURCE_NOT_FOUND, IO_FAILED."""

    def of_files(self, files: Sequence[tuple[str, bytes, int]], name: str) -> FileTree:
        """Files (path, bytes, mode) of 0:0. Raises CONTEXT_INVALID."""

    async def read_file(self, tree: FileTree, path: str, max_bytes: int, limit: str) -> bytes | None:
        """The file that `path` leads to; None if there is none. Raises LIMIT_EXCEEDED naming `limit`, IO_FAILED."""

    async def ignoring(self, tree: FileTree, dockerfile_path: str) -> FileTree:
        """The same tree, of which nothing is selected that its ignore file leaves out: the Dockerfile's own, else
        `.dockerignore` (case B22). Raises IGNORE_FILE_INVALID, LIMIT_EXCEEDED, IO_FAILED."""

    async def hides_source(
        self, tree: FileTree, dockerfile_path: str, ignore_file: bytes
    ) -> Callable[[str], bool] | None:
        """Says whether the ignore file surely leaves out what a COPY names, without waiting; None: there is no file.
        `ignore_file`: its bytes; empty: it is looked for as `ignoring` does. Raises as that."""

    async def owner_of(self, tree: FileTree, text: str) -> tuple[int, int]:
        """uid and gid of `user[:group]` there. Raises USER_INVALID."""

    async def select(self, tree: FileTree, wanted: Wanted, cancel: CancelToken) -> Selection:
        """Raises BUILD_SOURCE_NOT_FOUND, BUILD_COPY_REJECTED, LIMIT_EXCEEDED, IO_FAILED, CANCELLED."""

    async def digest(self, selection: Selection, cancel: CancelToken) -> str:
        """The key of what is selected, times left out. Raises IO_FAILED, CANCELLED."""

    async def write(self, selection: Selection, directory: str, cancel: CancelToken) -> bool:
        """The first match is written out into the empty directory; see `_core.build.Selection.write`."""

    async def unpack(self, archive: str, directory: str, max_bytes: int, cancel: CancelToken) -> None:
        """The entries of a tar (plain, gzip or zstd) stand below the directory. No name leads out of it.

        Raises LAYER_CORRUPT, LAYER_REJECTED, LIMIT_EXCEEDED, STORAGE_FULL, IO_FAILED, CANCELLED; what was unpacked
        before stays.
        """

    def draft(self, base: FileTree, time_seconds: int) -> Draft:
        """A layer over `base`, empty."""

    async def make_directory(self, draft: Draft, path: str, user: str) -> None:
        """Raises BUILD_COPY_REJECTED, USER_INVALID, IO_FAILED."""

    async def copy(self, draft: Draft, selection: Selection, target: CopyTarget, cancel: CancelToken) -> None:
        """See `_core.build.LayerDraft.copy`."""

    async def is_empty(self, draft: Draft) -> bool:
        """It would change nothing."""

    async def store(self, draft: Draft, counters: Counters, cancel: CancelToken, compression: str) -> StoredLayer:
        """Blob, compressed so, and unpacked layer are staged or visible.

        Raises STORAGE_FULL, IO_FAILED, CANCELLED, DATA_CORRUPT.
        """

    def key_of(self, parts: Sequence[str]) -> str:
        """The hex of a BLAKE3 digest of these parts."""


class FoundDevice(Protocol):
    """A CDI device that the host has."""

    @property
    def name(self) -> str:
        """`vendor.com/class=name`."""

    @property
    def is_auto_allowed(self) -> bool:
        """The host lets every build have it."""


class HostDevices(Protocol):
    """CDI devices of the host."""

    async def find(self, name: str) -> Sequence[FoundDevice]:
        """The devices that RUN --device=NAME means; none if the host has none of them."""

    async def mount_points(self, names: Sequence[str]) -> tuple[str, ...]:
        """Where these devices have something mounted, besides below /dev. Raises CDI_DEVICE_UNAVAILABLE."""

    async def as_written(self, names: Sequence[str]) -> tuple[str, ...]:
        """What the host's specs say of these devices, word for word. Raises CDI_DEVICE_UNAVAILABLE."""

    @property
    def places(self) -> str:
        """Where they are looked for, for errors."""


class Downloads(Protocol):
    """Fetching of files by HTTP."""

    async def download(
        self, url: str, path: str, limit: tuple[str, int], cancel: CancelToken
    ) -> tuple[int, str, int | None]:
        """Bytes, SHA-256 digest and time (seconds since 1970, where the server tells) of the file, which stands at
        `path`, where none was. Raises REFERENCE_INVALID, REGISTRY_ACCESS_DENIED and the like, LIMIT_EXCEEDED,
        IO_FAILED, CANCELLED."""


class Layering(Protocol):
    """Layers of changes, as `images.ports.Ingester` has them."""

    def new_counters(self) -> Counters:
        """Counters for one blob."""

    def new_cancel_token(self) -> CancelToken:
        """A token that its calls look at."""

    async def store_changes(
        self, tree: Tree, counters: Counters, cancel: CancelToken, compression: str = "gzip"
    ) -> StoredLayer:
        """See `images.commit.Changes.store_changes`; the blob is compressed so."""

    async def repack(
        self,
        layer: ImageLayer,
        compression: str,
        level: int | None,
        times_until_seconds: int | None,
        counters: Counters,
        cancel: CancelToken,
    ) -> StoredLayer:
        """The layer as another blob and, where a time was later than the bound (seconds since 1970), another layer.

        Both are staged or visible. Raises BLOB_NOT_FOUND, DIFF_ID_MISMATCH, LAYER_CORRUPT, STORAGE_FULL, IO_FAILED,
        CANCELLED.
        """

    async def finish_layer(self, stack: Stack, cancel: CancelToken) -> Layer:
        """See `images.ports.Ingester.finish_layer`."""


class OfferedEntry(NamedTuple):
    """One entry of a context as a caller offers it; a tuple, since contexts have tens of thousands."""

    path: bytes
    #: `file`, `directory`, `symlink`.
    kind: str
    mode: int
    uid: int
    gid: int
    mtime_seconds: int
    mtime_nanos: int
    link_target: bytes
    chunk_digests: bytes
    size_bytes: int


class ContextStore(Protocol):
    """Contexts on disk: their entries and the chunks that these name."""

    def uploading(self, context_id: str) -> AbstractContextManager[None]:
        """Within it somebody uploads. What was offered and is not on disk goes when the last one within leaves."""

    async def offer(self, context_id: str, entries: Sequence[OfferedEntry]) -> None:
        """The entries are the context's, together with those offered before. Raises CONTEXT_INVALID, LIMIT_EXCEEDED."""

    async def put(self, chunks: Sequence[bytes]) -> None:
        """Raises LIMIT_EXCEEDED, STORAGE_FULL, IO_FAILED."""

    async def missing(self, context_id: str) -> bytes:
        """Digests of the context's chunks that are not there; the context is on disk. Raises CONTEXT_NOT_FOUND."""

    async def open(self, context_id: str) -> FileTree:
        """The context, whole; it has been used just now. Raises CONTEXT_NOT_FOUND, also for one whose first offer has
        not ended, CONTEXT_INCOMPLETE."""

    async def expire(self, max_age_seconds: float = MAX_IDLE_SECONDS) -> None:
        """What was unused for so long is gone."""

    @property
    def size_bytes(self) -> int:
        """Bytes of all chunks."""

    @property
    def chunk_count(self) -> int:
        """Chunks that are kept."""


class CacheRecords(Protocol):
    """Records of the cache in the store."""

    async def load(self) -> list[CacheRecord]:
        """All of them."""

    async def save(self, record: CacheRecord) -> None:
        """Recorded. Raises STORAGE_FULL, IO_FAILED."""

    async def delete(self, keys: Sequence[str]) -> None:
        """Gone."""
