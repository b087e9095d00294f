"""Layer stores: layers that overlayfs can stack, immutable once visible. A layer's id is the hex of its diff_id, or
`chain-<hex of chain_id>` where its content depends on the layers below it."""

import builtins
from typing import final

from . import CancelToken

@final
class LayerCheck:
    @property
    def is_checkable(self) -> bool:
        """False for a kind that keeps no archive: `LayerStore.compare` tells then."""
    @property
    def damage(self) -> str:
        """What differs from what was stored, in words; empty for a sound layer."""
    @property
    def checked_bytes(self) -> int: ...

@final
class LayerInfo:
    @property
    def layer_id(self) -> str: ...
    @property
    def diff_id(self) -> str: ...
    @property
    def size_bytes(self) -> int:
        """Sum of the sizes of its regular files, each hard-linked file once."""
    @property
    def entry_count(self) -> int: ...
    @property
    def max_id(self) -> int:
        """The highest user or group that an entry belongs to; 0 if that was not recorded."""
    @property
    def depends_on_lower(self) -> bool:
        """True if it has a parent directory without an entry of its own, a hard link to a file of a lower layer, or
        whiteouts, so that `ingest.finish_layer` must be asked before it is used over other layers."""
    @property
    def kind(self) -> str:
        """How it is kept: `directory` or `erofs`."""
    @property
    def stored_bytes(self) -> int:
        """What it takes on disk; its files' sizes where the kind does not tell."""

@final
class LayerStore:
    """The layers below `<data_root>/layers`. Safe to share between threads."""

    def __new__(cls, data_root: str, kind: str = "directory", below: LayerStore | None = None) -> LayerStore:
        """Opens the store; layers of any kind are read. `kind` is how new ones are written: `directory`, `erofs`, or
        `auto`, which is `erofs` where a try succeeds and `directory` elsewhere. Raises KERNEL_FEATURE_MISSING for a kind
        this host lacks. With `below`, layers that are settled here may stand on those of that store. Blocking."""
    @property
    def kind(self) -> str:
        """How new layers are written: `directory` or `erofs`."""
    @property
    def choice_detail(self) -> str:
        """Why `auto` did not choose `erofs`; empty if it did, or was not asked."""
    def stat(self, layer_id: str) -> LayerInfo | None:
        """A visible layer, or None. Blocking."""
    def list(self) -> builtins.list[LayerInfo]:
        """All visible layers, no order. Blocking."""
    def ids(self) -> builtins.list[str]:
        """The ids of all visible layers, no order, damaged ones included. Blocking."""
    def list_staged(self) -> builtins.list[str]:
        """Names of layers that are not visible yet. Blocking."""
    def delete_staged(self, name: str) -> None:
        """Removes one staged layer with all its files. Idempotent. Blocking."""
    def publish(self, layer_ids: builtins.list[str]) -> None:
        """Makes staged layers visible: one sync of the file system, then one rename a layer. Idempotent. Raises
        LAYER_NOT_FOUND for one that is neither staged nor visible. Durable. Blocking."""
    def delete(self, layer_id: str) -> None:
        """Removes a layer: out of sight by one rename first, then its files. Idempotent. Blocking."""
    def recover(self) -> builtins.list[str]:
        """Removes what an interrupted `delete` or a crash while staging left; returns the names swept. To be called at start,
        before anything is staged. Idempotent. Blocking."""
    def lower_path(self, layer_id: str) -> str:
        """The absolute path to give to overlay as `lowerdir+`, for this process and its supervisors: it holds as long as
        this object does and the layer is not deleted. A layer of the kind `erofs` is mounted at its first use, once for
        all, where no namespace shows it. Raises LAYER_NOT_FOUND; KERNEL_FEATURE_MISSING where this kernel cannot show
        the layer. Blocking (a stat; 0.1 ms at a first use)."""
    def verify(self, layer_id: str, cancel: CancelToken) -> LayerCheck:
        """Reads a visible layer again and compares it with its diff_id and the digest of its index. Changes nothing.
        Raises LAYER_NOT_FOUND, DATA_CORRUPT, IO_FAILED, CANCELLED. Blocking (as long as reading the layer takes)."""
    def compare(self, layer_id: str, made: LayerStore, written_since_seconds: int, cancel: CancelToken) -> LayerCheck:
        """Compares a visible layer of the kind `directory` with what `made` has staged of the same blob, begun not
        before `written_since_seconds` of the epoch: names, types, content, links, owners, modes, times, attributes.
        Changes nothing. Raises LAYER_NOT_FOUND, DATA_CORRUPT, IO_FAILED, CANCELLED. Blocking (reads both whole)."""
    def replace(self, layer_id: str, source: LayerStore) -> None:
        """The layer that `source` has staged is the visible one, atomically; what was visible stands in `source` as one
        of the `.deleted-...` of its `list_staged`. Paths that `lower_path` gave before go on showing what they showed;
        those of a directory for as long as that one is not removed. Raises LAYER_NOT_FOUND, IO_FAILED, STORAGE_FULL.
        Durable. Blocking."""
