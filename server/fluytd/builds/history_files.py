"""Builds on disk, each a record and its output.

D/build_history/<id>.json   the record; written beside it and renamed, so that it is always whole
D/build_history/<id>.log    frames of output (see `log.py`); one that a crash cut short is not read
"""

import errno
import json
import logging
import os
import re
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Final, TypeVar

from fluytd import failpoints
from fluytd.builds.model import BuildEntry
from fluytd.errors import IoFailed, StorageFull
from fluytd.state import values
from fluytd.workers import Workers

T = TypeVar("T")
_log = logging.getLogger(__name__)
_NAME: Final = re.compile(r"[0-9A-Za-z_-]{1,64}")


class BuildHistoryFiles:
    """Implements `history.HistoryFiles`."""

    def __init__(self, data_root: Path, workers: Workers) -> None:
        """The directory is there; nothing half written is left in it. Raises IO_FAILED. Blocking."""
        self._root = data_root / "build_history"
        self._workers = workers
        self._io(self._root, self._make)

    def _make(self) -> None:
        self._root.mkdir(mode=0o700, parents=True, exist_ok=True)
        for part in self._root.glob("*.part"):
            part.unlink(missing_ok=True)

    async def load(self) -> list[BuildEntry]:
        """See `HistoryFiles.load`. A record that cannot be read is removed with its output, and that is logged."""
        return await self._workers.run_transfer(self._io, self._root, self._load)

    def _load(self) -> list[BuildEntry]:
        found: dict[str, BuildEntry] = {}
        for path in sorted(self._root.glob("*.json")):
            try:
                entry: BuildEntry = values.build(BuildEntry, json.loads(path.read_bytes()))
                if entry.id != path.stem:
                    raise ValueError("it is of another build")
            except (ValueError, TypeError, KeyError, AttributeError) as error:
                _log.warning("%s cannot be read and is removed: %s", path, error)
                path.unlink(missing_ok=True)
                continue
            found[entry.id] = entry
        for path in self._root.glob("*.log"):
            if path.stem not in found:
                path.unlink(missing_ok=True)
        return list(found.values())

    async def save(self, entry: BuildEntry) -> None:
        """See `HistoryFiles.save`."""
        failpoints.hit("build.history.record")
        path = self._path(entry.id, "json")
        await self._workers.run(self._io, path, lambda: _write_whole(path, values.dump(entry).encode()))

    async def append(self, build_id: str, data: bytes) -> int:
        """See `HistoryFiles.append`."""
        failpoints.hit("build.history.output")
        path = self._path(build_id, "log")
        return await self._workers.run(self._io, path, lambda: _append(path, data))

    async def replace_output(self, build_id: str, data: bytes) -> None:
        """See `HistoryFiles.replace_output`."""
        path = self._path(build_id, "log")
        await self._workers.run(self._io, path, lambda: _write_whole(path, data))

    async def read_output(self, build_id: str) -> bytes:
        """See `HistoryFiles.read_output`."""
        path = self._path(build_id, "log")
        return await self._workers.run(self._io, path, lambda: path.read_bytes() if path.exists() else b"")

    async def delete(self, build_ids: Iterable[str]) -> None:
        """See `HistoryFiles.delete`. Records go first: output without one is removed by the next start."""
        for build_id in build_ids:
            for kind in ("json", "log"):
                path = self._path(build_id, kind)
                failpoints.hit("build.history.delete")
                await self._workers.run(self._io, path, lambda path=path: path.unlink(missing_ok=True))

    def _path(self, build_id: str, kind: str) -> Path:
        if _NAME.fullmatch(build_id) is None:
            raise ValueError("ids of builds are those of operations")
        return self._root / f"{build_id}.{kind}"

    @staticmethod
    def _io(path: Path, work: Callable[[], T]) -> T:
        try:
            return work()
        except OSError as error:
            if error.errno in {errno.ENOSPC, errno.EDQUOT}:
                raise StorageFull(operation="write", path=str(path), errno=error.errno) from error
            raise IoFailed(operation="write", path=str(path), errno=error.errno) from error


def _write_whole(path: Path, data: bytes) -> None:
    part = path.with_name(f"{path.name}.part")
    part.write_bytes(data)
    part.rename(path)


def _append(path: Path, data: bytes) -> int:
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
    with os.fdopen(fd, "ab") as file:
        file.write(data)
        return file.tell()
