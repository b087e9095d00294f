"""Files of containers over `_core.changes` and `_core.copies`. It decides nothing."""

import os
from collections.abc import Sequence

from fluytd._core import CancelToken as CoreCancelToken
from fluytd._core import changes, copies
from fluytd._core.layer import LayerStore
from fluytd.containers.copy_ports import CopyArchive, CopyReceiver, CopyRoot, Cover
from fluytd.containers.model import IdRange
from fluytd.containers.start_facts import StartPaths
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

    def __init__(self, core: changes.TreeArchive | copies.CopyArchive, cancel: CoreCancelToken) -> None:
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


class CoreCopies:
    """Implements `copy_ports.Copies`."""

    def new_cancel_token(self) -> CancelToken:
        """See `copy_ports.Copies.new_cancel_token`."""
        return CoreCancelToken()

    def running(self, root_fd: int, subject: str, ids: IdRange | None) -> CopyRoot:
        """See `copy_ports.Copies.running`."""
        try:
            range_ = None if ids is None else (ids.first_id, ids.count)
            return _Root(copies.ContainerRoot.running(root_fd, range_), subject)
        finally:
            os.close(root_fd)

    def stopped(
        self, paths: StartPaths, covers: Sequence[Cover], subject: str, *, is_root_read_only: bool, is_written: bool
    ) -> CopyRoot:
        """See `copy_ports.Copies.stopped`."""
        core = copies.ContainerRoot.stopped(
            list(paths.lower_dirs), paths.upper_dir, paths.work_dir, list(covers), is_root_read_only, is_written
        )
        return _Root(core, subject)


class _Root:
    """Implements `copy_ports.CopyRoot`."""

    def __init__(self, core: copies.ContainerRoot, subject: str) -> None:
        self._core = core
        self._subject = subject

    def open_archive(self, path: bytes, *, follow_link: bool, cancel: CancelToken) -> CopyArchive:
        """See `copy_ports.CopyRoot.open_archive`."""
        return _CopyArchive(copies.CopyArchive(self._core, path, follow_link, self._subject), _token(cancel))

    def open_receiver(self, path: bytes, *, user: str | None, replace_kinds: bool) -> CopyReceiver:
        """See `copy_ports.CopyRoot.open_receiver`."""
        return copies.CopyReceiver(self._core, path, user, replace_kinds, self._subject)


class _CopyArchive(_Archive):
    """Implements `copy_ports.CopyArchive`."""

    def __init__(self, core: copies.CopyArchive, cancel: CoreCancelToken) -> None:
        super().__init__(core, cancel)
        self.name = core.name
        self.link_target = core.link_target
        self.size_bytes = core.size_bytes
        self.mode = core.mode
        self.modify_time_unix_nanos = core.modify_time_unix_nanos


def _token(cancel: CancelToken) -> CoreCancelToken:
    if not isinstance(cancel, CoreCancelToken):
        raise TypeError("core calls take the core's tokens")
    return cancel
