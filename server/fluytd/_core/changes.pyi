"""What a container's writable layer gives back: the layer of its changes, a list of them, or the whole tree as tar.

`upper_dir` is the writable layer, an absolute path of the engine's own; `lower_layer_ids` the layers below it, lowest
first; `subject` what errors call the container. The tree is read by descriptor, beneath its root, without a mount.
"""

from typing import final

from . import CancelToken
from .content import ContentStore
from .ingest import Progress, StoredLayer
from .layer import LayerStore

@final
class Change:
    @property
    def path(self) -> bytes:
        """From the root, without a leading `/`."""
    @property
    def kind(self) -> str:
        """`added`, `modified` or `deleted`."""

@final
class TreeArchive:
    """The tree that a container sees, as a tar that is made while it is read. Not to be shared between threads at once."""

    def __new__(cls, upper_dir: str, lower_layer_ids: list[str], subject: str, layers: LayerStore) -> TreeArchive:
        """Raises LAYER_NOT_FOUND, IO_FAILED. Blocking."""
    def read(self, max_bytes: int, cancel: CancelToken) -> bytes:
        """The next bytes, fewer than `max_bytes` only at the end, none after it. Raises FILE_UNREPRESENTABLE,
        LIMIT_EXCEEDED, IO_FAILED, CANCELLED. Blocking (reads files)."""
    def close(self) -> None:
        """Its files are closed; nothing more is read. Idempotent. Waits for a `read` under way."""
    @property
    def entry_count(self) -> int:
        """Entries so far; all of them once `read` has answered nothing."""

def list_changes(
    upper_dir: str,
    lower_layer_ids: list[str],
    mount_points: list[str],
    subject: str,
    layers: LayerStore,
    cancel: CancelToken,
) -> list[Change]:
    """All that differs from the layers below, a directory before what is in it.

    `mount_points`: absolute paths inside; what the engine made to mount on them is not told. Raises FILE_UNREPRESENTABLE
    for a directory that overlayfs moved, LIMIT_EXCEEDED, LAYER_NOT_FOUND, IO_FAILED, CANCELLED. Blocking."""

def store_changes(
    upper_dir: str,
    lower_layer_ids: list[str],
    mount_points: list[str],
    subject: str,
    content: ContentStore,
    layers: LayerStore,
    progress: Progress,
    cancel: CancelToken,
    compression: str = "gzip",
) -> StoredLayer:
    """The changes are a blob, compressed so (`gzip`, `zstd`, `uncompressed`), and an unpacked layer, both staged or visible
    already.

    Raises FILE_UNREPRESENTABLE for a file that no layer can hold (`.wh.` names among them), LIMIT_EXCEEDED,
    LAYER_NOT_FOUND, STORAGE_FULL, IO_FAILED, CANCELLED. Blocking (as long as reading, compressing and unpacking takes)."""

def compress_changes(
    upper_dir: str,
    lower_layer_ids: list[str],
    subject: str,
    compression: str,
    digest: str,
    size_bytes: int,
    content: ContentStore,
    layers: LayerStore,
    cancel: CancelToken,
) -> None:
    """The blob `digest` of `size_bytes` is staged, made as `store_changes` would of a layer that is kept as the directory
    `upper_dir`. Raises as `store_changes`, DIGEST_MISMATCH where it becomes another blob. Blocking."""
