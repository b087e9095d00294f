"""One pass from a source to the stores: source -> digest -> decompress -> diff_id -> layer store."""

from typing import final

from . import CancelToken
from .content import ContentStore
from .layer import LayerInfo, LayerStore
from .registry import Credentials, RegistryClient

@final
class Progress:
    """Counters of one blob, readable at any time from any thread."""

    def __init__(self) -> None: ...
    @property
    def phase(self) -> str:
        """`waiting`, `downloading`, `verifying`, `extracting`, `done`, `present`."""
    @property
    def fetched_bytes(self) -> int:
        """Compressed bytes stored so far, those resumed included."""
    @property
    def fetch_requests(self) -> int: ...
    @property
    def extracted_bytes(self) -> int:
        """Uncompressed bytes read so far."""

@final
class StoredLayer:
    """A layer blob that was put into the content store from a local source."""

    @property
    def digest(self) -> str: ...
    @property
    def size_bytes(self) -> int: ...
    @property
    def diff_id(self) -> str: ...
    @property
    def media_type(self) -> str:
        """The OCI layer media type of the compression found by content."""
    @property
    def layer(self) -> LayerInfo: ...

@final
class ArchiveEntry:
    @property
    def name(self) -> str:
        """Normalised: no leading `./` or `/`, no `..`."""
    @property
    def kind(self) -> str:
        """`file`, `directory`, `symlink`, `hardlink`, `other`."""
    @property
    def size_bytes(self) -> int: ...
    @property
    def offset_bytes(self) -> int:
        """Where the entry's data begins in the (decompressed) archive file."""
    @property
    def link_name(self) -> str:
        """Target of a link as written, else empty."""

def fetch_blob(
    client: RegistryClient,
    registry: str,
    repository: str,
    digest: str,
    size_bytes: int,
    content: ContentStore,
    progress: Progress,
    cancel: CancelToken,
    credentials: Credentials | None = None,
    urls: list[str] = ...,
) -> None:
    """The blob is staged in `content`, verified; a partial ingest is resumed by Range; nothing is fetched if it is there.
    `urls` as in `fetch_layer`. Raises what `fetch_manifest` raises, BLOB_NOT_FOUND, SIZE_MISMATCH, STORAGE_FULL. Blocking."""

def fetch_layer(
    client: RegistryClient,
    registry: str,
    repository: str,
    digest: str,
    size_bytes: int,
    urls: list[str],
    media_type: str,
    expected_diff_id: str,
    content: ContentStore,
    layers: LayerStore,
    progress: Progress,
    cancel: CancelToken,
    credentials: Credentials | None = None,
) -> LayerInfo:
    """Blob and unpacked layer are both staged (or visible already), each verified. `urls`: where it may be had besides,
    asked before the registry, in order, without credentials; a place that gives other content is passed over. On failure the partial blob stays as an
    ingest to resume; no staged layer stays. Raises as `fetch_blob`, DIFF_ID_MISMATCH, LAYER_REJECTED, LAYER_CORRUPT,
    LIMIT_EXCEEDED. Blocking."""

def extract_layer(
    digest: str,
    expected_diff_id: str,
    content: ContentStore,
    layers: LayerStore,
    progress: Progress,
    cancel: CancelToken,
) -> LayerInfo:
    """As `fetch_layer` for a blob that `content` already has (visible or staged). Blocking."""

def store_layer(
    fd: int,
    offset_bytes: int,
    size_bytes: int,
    expected_digest: str | None,
    expected_diff_id: str | None,
    content: ContentStore,
    layers: LayerStore,
    progress: Progress,
    cancel: CancelToken,
) -> StoredLayer:
    """Stages a layer blob from a range of a local file (borrowed fd, read by pread) and its unpacked layer.
    Raises DIGEST_MISMATCH, DIFF_ID_MISMATCH, LAYER_REJECTED, LAYER_CORRUPT, LIMIT_EXCEEDED, STORAGE_FULL. Blocking."""

def finish_layer(
    digest: str,
    diff_id: str,
    chain_id: str,
    lower_layer_ids: list[str],
    content: ContentStore,
    layers: LayerStore,
    cancel: CancelToken,
) -> LayerInfo:
    """The layer to use above `lower_layer_ids` (lowest first; each staged or visible): the layer itself where the lower
    ones change nothing, else one staged under `chain-<hex>` whose parents, links and whiteouts were settled against them.
    Raises LAYER_REJECTED (for example a hard link whose target no layer has). Blocking."""

def decompress_archive(fd: int, max_size_bytes: int, cancel: CancelToken) -> int | None:
    """If the file behind the borrowed `fd` is gzip or zstd: an owned fd of an unlinked file (beside nothing; made by
    O_TMPFILE in the same directory as the file) with the decompressed bytes; None if it is not compressed.
    Raises LIMIT_EXCEEDED, ARCHIVE_INVALID. Blocking."""

def compress_archive(
    fd: int, compression: str, digest: str, size_bytes: int, content: ContentStore, cancel: CancelToken
) -> None:
    """The blob `digest` of `size_bytes` is staged: the uncompressed tar behind the borrowed `fd`, compressed as
    `changes.store_changes` does it. Raises DIGEST_MISMATCH where another program compressed it, STORAGE_FULL, IO_FAILED,
    CANCELLED. Blocking."""

def repack(
    digest: str,
    diff_id: str,
    compression: str,
    level: int | None,
    times_until_seconds: int | None,
    content: ContentStore,
    layers: LayerStore,
    progress: Progress,
    cancel: CancelToken,
) -> StoredLayer:
    """The layer of the blob `digest`, which is here whole, is a blob compressed otherwise and an unpacked layer, both staged
    or visible already. `compression`: `gzip` at a level from 0 to 9, `zstd` from 1 to 22, `uncompressed`; None: the level
    that its own program takes. With `times_until_seconds` no file's time is later than that, seconds since 1970.

    Raises BLOB_NOT_FOUND, DIFF_ID_MISMATCH or LAYER_CORRUPT for a blob that was damaged, LAYER_REJECTED, LIMIT_EXCEEDED,
    STORAGE_FULL, IO_FAILED, CANCELLED. Blocking (as long as reading, compressing and unpacking takes)."""

def list_archive(fd: int, max_entries: int) -> list[ArchiveEntry]:
    """The entries of the uncompressed tar behind the borrowed `fd`, in tar order, data not read.
    Raises ARCHIVE_INVALID (also for names that escape), LIMIT_EXCEEDED. Blocking."""
