"""Directories of volumes below the data root, over `_core.volume`. It knows nothing of names.

D/volumes/<id>/_data/      what containers see, owned by whoever they say
               _filling/   being copied from an image; worth nothing after a crash
               _filled/    whole, being moved into _data; goes on after a crash
"""

import errno
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from fluytd._core import CancelToken as CoreCancelToken
from fluytd._core import changes, host
from fluytd._core import volume as core
from fluytd._core.layer import LayerStore
from fluytd.errors import EngineError, IoFailed, StorageFull
from fluytd.operations.ports import CancelToken
from fluytd.volumes.model import Volume
from fluytd.volumes.ports import Archive

#: Entries of a volume that are counted for its size; beyond it the size is a lower bound.
MAX_COUNTED_ENTRIES: Final = 100_000
#: What containers see has this mode until an image gives it another. Source: moby `volume/local`, Create.
DATA_MODE: Final = 0o755
#: Only root reaches volumes by their path: what is in them may be set-user-id.
PRIVATE_MODE: Final = 0o710


class CoreVolumeDirectories:
    """Implements `ports.VolumeDirectories`."""

    def __init__(self, data_root: Path, layers: LayerStore, empty_directory: str) -> None:
        """Makes `volumes/` where it is absent. `layers`: any store; `empty_directory` stays empty. Blocking."""
        self._root = data_root / "volumes"
        self._layers = layers
        self._empty_directory = empty_directory
        self._root.mkdir(mode=PRIVATE_MODE, parents=True, exist_ok=True)

    def data_path(self, volume_id: str) -> str:
        """See `ports.VolumeDirectories.data_path`."""
        return f"{self._root}/{volume_id}/_data"

    def create(self, volume_id: str) -> None:
        """See `ports.VolumeDirectories.create`."""
        base = self._root / volume_id
        try:
            base.mkdir(PRIVATE_MODE)
            data = base / "_data"
            data.mkdir(DATA_MODE)
            data.chmod(DATA_MODE)  # whatever the daemon's umask is
            for directory in (base, self._root):
                _sync(directory)
        except OSError as error:
            raise _failed("mkdir", str(error.filename or base), error) from error

    def remove(self, volume_id: str) -> None:
        """See `ports.VolumeDirectories.remove`."""
        host.remove_tree(f"{self._root}/{volume_id}")

    def fill(self, volume_id: str, lower_dirs: Sequence[str], target: str, cancel: CancelToken) -> bool:
        """See `ports.VolumeDirectories.fill`."""
        # An overlay without a writable layer has at least two directories.
        image = [*lower_dirs, self._empty_directory]
        return core.fill(image, target, f"{self._root}/{volume_id}", _token(cancel)) is not None

    def settle(self, volume_id: str) -> bool:
        """See `ports.VolumeDirectories.settle`."""
        return core.settle(f"{self._root}/{volume_id}")

    def copy(self, source_id: str, volume_id: str, cancel: CancelToken) -> None:
        """See `ports.VolumeDirectories.copy`."""
        core.copy(self.data_path(source_id), self.data_path(volume_id), _token(cancel))

    def archive(self, volume: Volume, cancel: CancelToken) -> Archive:
        """See `ports.VolumeDirectories.archive`."""
        tree = changes.TreeArchive(self.data_path(volume.id), [], volume.name, self._layers)
        return _Archive(tree, _token(cancel))

    def unpack(self, archive_fd: int, volume_id: str, cancel: CancelToken) -> int:
        """See `ports.VolumeDirectories.unpack`."""
        os.lseek(archive_fd, 0, os.SEEK_SET)
        entries, _ = core.unpack(f"/proc/self/fd/{archive_fd}", self.data_path(volume_id), _token(cancel))
        return entries

    def usage(self, volume_id: str) -> tuple[int, bool]:
        """See `ports.VolumeDirectories.usage`."""
        path = self.data_path(volume_id)
        if not Path(path).is_dir():
            return 0, False
        size, _, is_complete = host.directory_usage(path, MAX_COUNTED_ENTRIES)
        return size, not is_complete

    def list(self) -> list[str]:
        """See `ports.VolumeDirectories.list`."""
        return [entry.name for entry in os.scandir(self._root)]

    def new_cancel_token(self) -> CancelToken:
        """See `ports.VolumeDirectories.new_cancel_token`."""
        return CoreCancelToken()


class _Archive:
    """Implements `ports.Archive`."""

    def __init__(self, tree: changes.TreeArchive, cancel: CoreCancelToken) -> None:
        self._tree = tree
        self._cancel = cancel

    def read(self, max_bytes: int) -> bytes:
        """See `ports.Archive.read`."""
        return self._tree.read(max_bytes, self._cancel)

    def close(self) -> None:
        """See `ports.Archive.close`."""
        self._tree.close()

    @property
    def entry_count(self) -> int:
        """See `ports.Archive.entry_count`."""
        return self._tree.entry_count


def _token(cancel: CancelToken) -> CoreCancelToken:
    if not isinstance(cancel, CoreCancelToken):
        raise TypeError("core calls take the core's tokens")
    return cancel


def _sync(directory: Path) -> None:
    fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def _failed(operation: str, path: str, error: OSError) -> EngineError:
    leaf = StorageFull if error.errno in {errno.ENOSPC, errno.EDQUOT} else IoFailed
    return leaf(operation=operation, path=path, errno=error.errno)
