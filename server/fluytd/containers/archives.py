"""What a container's writable layer gives back, over `_core.changes`. It decides nothing."""

from collections.abc import Sequence

from fluytd._core import CancelToken as CoreCancelToken
from fluytd._core import changes
from fluytd._core.layer import LayerStore
from fluytd.containers.tree_ports import Change, TreeArchive
from fluytd.images.commit import Tree
from fluytd.operations.ports import CancelToken
from fluytd.workers import Workers


class CoreTrees:
    """Implements `ports.Trees`."""

    def __init__(self, layers: LayerStore, workers: Workers) -> None:
        """Over the layers of this store."""
        self._layers = layers
        self._workers = workers

    def new_cancel_token(self) -> CancelToken:
        """See `ports.Trees.new_cancel_token`."""
        return CoreCancelToken()

    async def list_changes(self, tree: Tree, cancel: CancelToken) -> Sequence[Change]:
        """See `ports.Trees.list_changes`."""
        found = await self._workers.run_transfer(
            changes.list_changes,
            tree.upper_dir,
            list(tree.layer_ids),
            list(tree.mount_points),
            tree.subject,
            self._layers,
            _token(cancel),
        )
        return [Change(b"/" + one.path, one.kind) for one in found]

    def open_archive(self, tree: Tree, cancel: CancelToken) -> TreeArchive:
        """See `ports.Trees.open_archive`."""
        core = changes.TreeArchive(tree.upper_dir, list(tree.layer_ids), tree.subject, self._layers)
        return _Archive(core, _token(cancel))


class _Archive:
    """Implements `ports.TreeArchive`."""

    def __init__(self, core: changes.TreeArchive, cancel: CoreCancelToken) -> None:
        self._core = core
        self._cancel = cancel

    def read(self, max_bytes: int) -> bytes:
        """See `ports.TreeArchive.read`."""
        return self._core.read(max_bytes, self._cancel)

    def close(self) -> None:
        """See `ports.TreeArchive.close`."""
        self._core.close()

    @property
    def entry_count(self) -> int:
        """See `ports.TreeArchive.entry_count`."""
        return self._core.entry_count


def _token(cancel: CancelToken) -> CoreCancelToken:
    if not isinstance(cancel, CoreCancelToken):
        raise TypeError("core calls take the core's tokens")
    return cancel
