"""Directories and files of containers below the data root. It knows nothing of processes.

D/containers/<id>/upper/        writable layer, owned by the container
                  work/         overlay's own
                  log/          segments of the log
                  hosts  hostname  resolv.conf   bound into the container
D/mount_targets/  below the layers of every container: what the engine mounts on, for images that have it not
"""

import errno
import ipaddress
import os
import socket
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from fluytd import failpoints
from fluytd._core import host
from fluytd.containers import skeletons
from fluytd.containers.model import Container
from fluytd.containers.name_files import HostNames, hosts_file, resolv_conf, upstream_servers
from fluytd.containers.spec import ContainerSpec
from fluytd.containers.start_facts import StartPaths
from fluytd.errors import EngineError, IoFailed, StorageFull
from fluytd.host.ports import Quotas

#: Below the data root. Its owner and mode show nowhere: those of the writable layer are the root's.
MOUNT_TARGETS_DIR: Final = "mount_targets"
_TARGET_DIRECTORIES: Final = ("", "dev", "proc", "sys", "etc")
_TARGET_FILES: Final = ("etc/hosts", "etc/hostname", "etc/resolv.conf")
#: Entries of a writable layer that are counted for its size; beyond it the size is a lower bound.
MAX_COUNTED_ENTRIES: Final = 100_000
#: Most bytes taken over from the host's hosts and resolv.conf. Source: moby libnetwork keeps them whole; real ones are
#: below 4 KiB.
MAX_NAME_FILE_BYTES: Final = 64 * 1024


@dataclass(frozen=True, slots=True)
class NameSources:
    """Where the host says what about names, and what the engine's settings say."""

    hosts: Path = Path("/etc/hosts")
    resolv_conf: Path = Path("/etc/resolv.conf")
    #: Source: systemd-resolved.service(8).
    systemd_resolv_conf: Path = Path("/run/systemd/resolve/resolv.conf")
    fallback_servers: tuple[str, ...] = ()

    def read(self) -> HostNames:
        """What they say now; a file that cannot be read says nothing. Blocking."""
        files = [str(self.hosts), str(self.resolv_conf), str(self.systemd_resolv_conf)]
        # A host without one gives its containers none, as Docker does.
        found = host.read_beginnings(files, MAX_NAME_FILE_BYTES)
        hosts, resolv_conf, systemd_resolv_conf = (text.decode(errors="replace") for text in found)
        return HostNames(hosts, resolv_conf, systemd_resolv_conf, self.fallback_servers)

    def servers(self, spec: ContainerSpec) -> list[str]:
        """See `name_files.upstream_servers`; the link of an address is named by its number. Blocking."""
        found = []
        for server in upstream_servers(spec, self.read()):
            address, percent, link = server.partition("%")
            try:
                ipaddress.ip_address(address)
                number = link if link.isdecimal() or not percent else str(socket.if_nametoindex(link))
            except (OSError, ValueError):
                continue  # what the host's file has there is nothing that can be asked
            found.append(f"{address}{percent}{number}")
        return found


def _mount_targets(data_root: Path) -> str:
    """The lowest layer of every container: an empty file or directory for each place that the engine mounts on."""
    root = data_root / MOUNT_TARGETS_DIR
    try:
        for name in _TARGET_DIRECTORIES:
            (root / name).mkdir(exist_ok=True)
            (root / name).chmod(0o755)  # whatever the daemon's umask is
        for name in _TARGET_FILES:
            (root / name).touch()
            (root / name).chmod(0o644)
    except OSError as error:
        raise _failed("make", str(error.filename or root), error) from error
    return str(root)


class ContainerDirectories:
    """Implements `ports.Directories`."""

    def __init__(
        self, data_root: Path, run_root: Path, names: NameSources = NameSources(), quotas: Quotas | None = None
    ) -> None:
        """Makes `containers/` where it is absent. `quotas`: for containers with a bound. Blocking."""
        self._quotas = quotas
        self._data_root = data_root
        self._names = names
        self._root = f"{data_root}/containers"
        self._skeletons = skeletons.Skeletons(data_root, host.make_tree, host.remove_tree)
        self._run_dirs = f"{run_root}/containers"
        Path(self._root).mkdir(mode=0o710, parents=True, exist_ok=True)
        self._mount_targets = _mount_targets(data_root)

    def paths(
        self, container: Container, lower_dirs: Sequence[str], image_dirs: Mapping[str, Sequence[str]] | None = None
    ) -> StartPaths:
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
            volumes_dir=f"{self._data_root}/volumes",
            # An overlay without a writable layer has at least two directories.
            image_dirs={target: (*dirs, f"{self._data_root}/empty") for target, dirs in (image_dirs or {}).items()},
            mount_targets_dir=self._mount_targets,
        )

    def prepare(self) -> None:
        """See `ports.Directories.prepare`."""
        self._skeletons.prepare()
        self._skeletons.tidy()

    def clear(self) -> None:
        """See `ports.Directories.clear`."""
        try:
            self._skeletons.clear()
        except OSError as error:
            raise _failed("rename", str(error.filename), error) from error

    def create(self, container: Container, lower_dirs: Sequence[str]) -> None:
        """See `ports.Directories.create`."""
        base = f"{self._root}/{container.id}"
        failpoints.hit("container.create.directories")
        made = self._skeletons.take()
        try:
            if self._quotas is not None and container.project_id:
                failpoints.hit("container.quota.bind")
                # Both: overlay makes files in one and moves them to the other, which a change of project would forbid.
                parts = [f"{made}/upper", f"{made}/work"]
                self._quotas.bind(parts, container.project_id, container.spec.storage_size_bytes)
            # Overlay shows the upper directory's owner and mode as those of `/`; they must be the image's.
            host.copy_permissions(lower_dirs[0], f"{made}/upper")
            failpoints.hit("container.create.files")
            hostname = ("hostname", f"{container.resolved.hostname}\n".encode())
            host.write_files(made, [hostname, *self._name_files(container)])
            # Whole from the moment on in which it is there: recovery makes what is absent and trusts what stands.
            os.rename(made, base)  # noqa: PTH104 - a Path takes longer to make than the call
        except BaseException as error:
            host.remove_tree(made)
            if isinstance(error, OSError):
                raise _failed("create", str(error.filename or base), error) from error
            raise

    def exists(self, container_id: str) -> bool:
        """See `ports.Directories.exists`."""
        return Path(self._root, container_id).is_dir()

    def write_names(self, container: Container) -> None:
        """See `ports.Directories.write_names`."""
        host.write_files(f"{self._root}/{container.id}", self._name_files(container))

    def _name_files(self, container: Container) -> list[tuple[str, bytes]]:
        host_names = self._names.read()
        return [
            ("hosts", hosts_file(container, host_names).encode()),
            ("resolv.conf", resolv_conf(container, host_names).encode()),
        ]

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

    def drop(self, container_id: str) -> None:
        """See `ports.Directories.drop`."""
        failpoints.hit("container.delete.directories")
        path = f"{self._root}/{container_id}"
        try:
            self._skeletons.drop(path)
        except OSError as error:
            raise _failed("rename", path, error) from error

    def writable_usage(self, container_id: str) -> tuple[int, bool]:
        """See `ports.Directories.writable_usage`."""
        upper = f"{self._root}/{container_id}/upper"
        if self._quotas is not None and (counted := self._quotas.usage_of(upper)) is not None:
            return counted, False
        size, _, is_complete = host.directory_usage(upper, MAX_COUNTED_ENTRIES)
        return size, not is_complete

    def log_usage(self, container_id: str) -> int:
        """Bytes of a container's log, 0 if it has gone. Raises IO_FAILED. Blocking (some stats)."""
        path = self.log_dir(container_id)
        try:
            with os.scandir(path) as entries:
                return sum(entry.stat(follow_symlinks=False).st_size for entry in entries)
        except FileNotFoundError:
            return 0
        except OSError as error:
            raise _failed("stat", path, error) from error

    def log_dir(self, container_id: str) -> str:
        """See `ports.Directories.log_dir`."""
        return f"{self._root}/{container_id}/log"

    def list(self) -> list[str]:
        """See `ports.Directories.list`."""
        return [entry.name for entry in os.scandir(self._root)]


def _failed(operation: str, path: str, error: OSError) -> EngineError:
    leaf = StorageFull if error.errno in {errno.ENOSPC, errno.EDQUOT} else IoFailed
    return leaf(operation=operation, path=path, errno=error.errno)
