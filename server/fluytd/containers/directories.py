"""Directories and files of containers below the data root. It knows nothing of processes.

D/containers/<id>/upper/        writable layer, owned by the container
                  work/         overlay's own
                  log/          segments of the log
                  hosts  hostname  resolv.conf   bound into the container
"""

import errno
import os
import stat
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

from fluytd import failpoints
from fluytd._core import host
from fluytd.containers.model import Container
from fluytd.containers.resolve import StartPaths, hosts_file, resolv_conf
from fluytd.errors import EngineError, IoFailed, StorageFull

#: Entries of a writable layer that are counted for its size; beyond it the size is a lower bound.
MAX_COUNTED_ENTRIES: Final = 100_000
#: Most bytes taken over from the host's resolv.conf. Source: moby libnetwork keeps it whole; real ones are below 4 KiB.
MAX_RESOLV_CONF_BYTES: Final = 64 * 1024
HOST_RESOLV_CONF: Final = Path("/etc/resolv.conf")


class ContainerDirectories:
    """Implements `ports.Directories`."""

    def __init__(self, data_root: Path, run_root: Path) -> None:
        """Makes `containers/` where it is absent. Blocking."""
        self._root = f"{data_root}/containers"
        self._run_dirs = f"{run_root}/containers"
        Path(self._root).mkdir(mode=0o710, parents=True, exist_ok=True)

    def paths(self, container: Container, lower_dirs: Sequence[str]) -> StartPaths:
        """See `ports.Directories.paths`."""
        base = f"{self._root}/{container.id}"
        return StartPaths(
            run_dir=f"{self._run_dirs}/{container.id}",
            log_dir=f"{base}/log",
            lower_dirs=tuple(lower_dirs),
            upper_dir=f"{base}/upper",
            work_dir=f"{base}/work",
            hosts=f"{base}/hosts",
            hostname=f"{base}/hostname",
            resolv_conf=f"{base}/resolv.conf",
        )

    def create(self, container: Container, lower_dirs: Sequence[str]) -> None:
        """See `ports.Directories.create`."""
        base = f"{self._root}/{container.id}"
        failpoints.hit("container.create.directories")
        try:
            Path(base).mkdir(0o710)
            _attempt("mkdir", f"{base}/upper", lambda path: _make_root(path, lower_dirs))
            _attempt("mkdir", f"{base}/work", lambda path: Path(path).mkdir(0o700))
            _attempt("mkdir", f"{base}/log", lambda path: Path(path).mkdir(0o700))
            failpoints.hit("container.create.files")
            self._write(f"{base}/hosts", hosts_file(container))
            self._write(f"{base}/hostname", container.resolved.hostname + "\n")
            self._write(f"{base}/resolv.conf", resolv_conf(container.spec, _host_resolv_conf()))
        except BaseException as error:
            host.remove_tree(base)
            if isinstance(error, OSError):
                raise _failed("mkdir", base, error) from error
            raise

    @staticmethod
    def _write(path: str, text: str) -> None:
        def write(target: str) -> None:
            fd = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644)
            try:
                os.fchmod(fd, 0o644)  # whatever the daemon's umask is: users other than root read it inside
                os.write(fd, text.encode())
            finally:
                os.close(fd)

        _attempt("write", path, write)

    def remove(self, container_id: str) -> int:
        """See `ports.Directories.remove`."""
        base = f"{self._root}/{container_id}"
        size = 0
        for part in ("upper", "log"):
            if Path(base, part).is_dir():
                size += host.directory_usage(f"{base}/{part}", MAX_COUNTED_ENTRIES)[0]
        self.discard(container_id)
        return size

    def discard(self, container_id: str) -> None:
        """See `ports.Directories.discard`."""
        failpoints.hit("container.delete.directories")
        host.remove_tree(f"{self._root}/{container_id}")

    def writable_usage(self, container_id: str) -> tuple[int, bool]:
        """See `ports.Directories.writable_usage`."""
        size, _, is_complete = host.directory_usage(f"{self._root}/{container_id}/upper", MAX_COUNTED_ENTRIES)
        return size, not is_complete

    def log_dir(self, container_id: str) -> str:
        """See `ports.Directories.log_dir`."""
        return f"{self._root}/{container_id}/log"

    def list(self) -> list[str]:
        """See `ports.Directories.list`."""
        return [entry.name for entry in os.scandir(self._root)]


def _attempt(operation: str, path: str, action: Callable[[str], None]) -> None:
    try:
        action(path)
    except OSError as error:
        raise _failed(operation, path, error) from error


def _failed(operation: str, path: str, error: OSError) -> EngineError:
    leaf = StorageFull if error.errno in {errno.ENOSPC, errno.EDQUOT} else IoFailed
    return leaf(operation=operation, path=path, errno=error.errno)


def _make_root(path: str, lower_dirs: Sequence[str]) -> None:
    # Overlay shows the upper directory's owner and mode as those of `/`; they must be the image's.
    image_root = Path(lower_dirs[0]).stat()
    Path(path).mkdir(0o700)
    if (image_root.st_uid, image_root.st_gid) != (0, 0):
        os.chown(path, image_root.st_uid, image_root.st_gid)
    Path(path).chmod(stat.S_IMODE(image_root.st_mode))


def _host_resolv_conf() -> str:
    try:
        with HOST_RESOLV_CONF.open("rb") as file:
            return file.read(MAX_RESOLV_CONF_BYTES).decode(errors="replace")
    except OSError:
        return ""  # a host without one gives its containers none, as Docker does
