"""Directories of volumes below the data root, over `_core.volume`. It knows nothing of names.

D/volumes/<id>/_data/      what containers see, owned by whoever they say
               _filling/   being copied from an image; worth nothing after a crash
               _filled/    whole, being moved into _data; goes on after a crash
"""

import errno
import os
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Final

from fluytd import failpoints
from fluytd._core import CancelToken as CoreCancelToken
from fluytd._core import changes, host
from fluytd._core import volume as core
from fluytd._core.layer import LayerStore
from fluytd.containers.model import MountedVolume
from fluytd.containers.volume_mounts import ending, volume_mount
from fluytd.errors import EngineError, IoFailed, StorageFull
from fluytd.host.ports import Quotas
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

    def __init__(self, data_root: Path, layers: LayerStore, empty_directory: str, quotas: Quotas) -> None:
        """Makes `volumes/` where it is absent. `layers`: any store; `empty_directory` stays empty. Blocking."""
        self._root = data_root / "volumes"
        self._layers = layers
        self._quotas = quotas
        self._empty_directory = empty_directory
        self._root.mkdir(mode=PRIVATE_MODE, parents=True, exist_ok=True)

    def data_path(self, volume_id: str) -> str:
        """See `ports.VolumeDirectories.data_path`."""
        return f"{self._root}/{volume_id}/_data"

    def create(self, volume: Volume) -> None:
        """See `ports.VolumeDirectories.create`."""
        base = self._root / volume.id
        try:
            base.mkdir(PRIVATE_MODE)
            if volume.project_id:
                failpoints.hit("volume.quota.bind")
                # All that comes to stand in it is counted, from its first entry on.
                self._quotas.bind([str(base)], volume.project_id, volume.limit_bytes)
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

    def copy(self, source: Volume, volume_id: str, cancel: CancelToken) -> None:
        """See `ports.VolumeDirectories.copy`."""
        with self._opened(source) as path:
            core.copy(path, self.data_path(volume_id), _token(cancel))

    def archive(self, volume: Volume, cancel: CancelToken) -> Archive:
        """See `ports.VolumeDirectories.archive`."""
        with ExitStack() as opened:
            path = opened.enter_context(self._opened(volume))
            tree = changes.TreeArchive(path, [], volume.name, self._layers)
            return _Archive(tree, _token(cancel), opened.pop_all())

    def unpack(self, archive_fd: int, volume: Volume, cancel: CancelToken) -> int:
        """See `ports.VolumeDirectories.unpack`."""
        os.lseek(archive_fd, 0, os.SEEK_SET)
        with self._opened(volume) as path:
            entries, _ = core.unpack(f"/proc/self/fd/{archive_fd}", path, _token(cancel))
        return entries

    @contextmanager
    def _opened(self, volume: Volume) -> Iterator[str]:
        """Where the volume's data is found inside the block: its directory, or what its options name, mounted in no
        namespace and gone with a descriptor of this process. Raises KERNEL_FEATURE_MISSING, IO_FAILED. Blocking."""
        if not volume.driver_options:
            yield self.data_path(volume.id)
            return
        use = MountedVolume("/", volume.id, volume.name, volume.driver, ending(volume.driver_options))
        mount = volume_mount(use, str(self._root), {})
        if mount.kind == "bind":
            try:
                fd = os.open(mount.source, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            except OSError as error:
                raise _failed("open", mount.source, error) from error
        else:
            fd = core.show(mount.file_system, mount.source, mount.data, mount.is_read_only)
        try:
            # The last part of the path is no link: what follows none takes it.
            yield f"/proc/self/fd/{fd}/."
        finally:
            os.close(fd)

    def usage(self, volume_id: str) -> tuple[int, bool]:
        """See `ports.VolumeDirectories.usage`."""
        path = self.data_path(volume_id)
        if not Path(path).is_dir():
            return 0, False
        if (counted := self._quotas.usage_of(str(self._root / volume_id))) is not None:
            return counted, False
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

    def __init__(self, tree: changes.TreeArchive, cancel: CoreCancelToken, opened: ExitStack) -> None:
        self._tree = tree
        self._cancel = cancel
        self._opened = opened

    def read(self, max_bytes: int) -> bytes:
        """See `ports.Archive.read`."""
        return self._tree.read(max_bytes, self._cancel)

    def close(self) -> None:
        """See `ports.Archive.close`."""
        self._tree.close()
        self._opened.close()

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
