"""Layer stores: unpacked layers, immutable once visible. A layer's id is the hex of its diff_id, or
`chain-<hex of chain_id>` where its content depends on the layers below it."""

import builtins
from typing import final

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
    def depends_on_lower(self) -> bool:
        """True if it has a parent directory without an entry of its own, a hard link to a file of a lower layer, or
        whiteouts, so that `ingest.finish_layer` must be asked before it is used over other layers."""

@final
class LayerStore:
    """The layers below `<data_root>/layers`. Safe to share between threads."""

    def __new__(cls, data_root: str, kind: str = "directory") -> LayerStore:
        """Opens the store. `kind`: `directory`. Raises KERNEL_FEATURE_MISSING for a kind this host lacks. Blocking."""
    def stat(self, layer_id: str) -> LayerInfo | None:
        """A visible layer, or None. Blocking."""
    def list(self) -> builtins.list[LayerInfo]:
        """All visible layers, no order. Blocking."""
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
        """The absolute path to give to overlay as `lowerdir+`. Raises LAYER_NOT_FOUND."""
