"""Archives that callers send, kept in an unlinked file for as long as they are read. It looks at no byte of them."""

import hashlib
import os
from collections.abc import AsyncIterator
from pathlib import Path

from fluytd import failpoints
from fluytd.errors import IoFailed, LimitExceeded, StorageFull
from fluytd.ids import Digest
from fluytd.workers import Workers

_FULL = {28, 122}  # ENOSPC, EDQUOT of errno(3)


class Received:
    """A whole archive in a file of its own, which is gone with its descriptor. Whoever has it closes it."""

    def __init__(self, fd: int, size_bytes: int, digest: Digest) -> None:
        """Takes `fd` over. `digest`: of all its bytes."""
        self.fd = fd
        self.size_bytes = size_bytes
        self.digest = digest
        self._is_closed = False

    def close(self) -> None:
        """The file is gone. Idempotent."""
        if not self._is_closed:
            self._is_closed = True
            os.close(self.fd)


class SpoolFile:
    """An archive on its way into such a file. Blocking."""

    def __init__(self, fd: int, directory: Path) -> None:
        """Takes `fd` over. `directory`: where it is, for messages."""
        self._fd = fd
        self._directory = directory
        self._hasher = hashlib.sha256()
        self.size_bytes = 0

    def append(self, data: bytes) -> None:
        """Behind what is there. Raises STORAGE_FULL, IO_FAILED."""
        self._hasher.update(data)
        self.size_bytes += len(data)
        view = memoryview(data)
        try:
            while view:
                view = view[os.write(self._fd, view) :]
        except OSError as error:
            raise failed("write", self._directory, error) from error

    def received(self) -> Received:
        """The whole archive, which takes the file over."""
        return Received(self._fd, self.size_bytes, Digest("sha256:" + self._hasher.hexdigest()))

    def close(self) -> None:
        """The file is gone."""
        os.close(self._fd)


def failed(operation: str, directory: Path, error: OSError) -> Exception:
    """STORAGE_FULL or IO_FAILED for a call that failed."""
    kind = StorageFull if error.errno in _FULL else IoFailed
    return kind(operation=operation, path=str(directory), errno=error.errno)


class Spool:
    """Makes files below the data root that vanish with their descriptor, so that no crash leaves one."""

    def __init__(self, data_root: Path, workers: Workers, *, max_size_bytes: int) -> None:
        self._directory = data_root / "ingest"
        self._workers = workers
        self._max_size_bytes = max_size_bytes

    async def receive(self, chunks: AsyncIterator[bytes], verb: str) -> Received:
        """The whole archive; the caller closes it. What came of a broken one is gone.

        Raises LIMIT_EXCEEDED (load_max_bytes), STORAGE_FULL, IO_FAILED, and what `chunks` raises.
        """
        failpoints.hit(f"{verb}.spool")
        file = await self._workers.run(self.open)
        try:
            async for chunk in chunks:
                size = file.size_bytes + len(chunk)
                if size > self._max_size_bytes:
                    raise LimitExceeded(
                        limit="load_max_bytes", limit_value=self._max_size_bytes, actual=size, subject="image archive"
                    )
                await self._workers.run(file.append, chunk)
        except BaseException:
            file.close()
            raise
        return file.received()

    def open(self) -> SpoolFile:
        """An empty one. Blocking. Raises STORAGE_FULL, IO_FAILED."""
        try:
            fd = os.open(self._directory, os.O_TMPFILE | os.O_RDWR | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise failed("open", self._directory, error) from error
        return SpoolFile(fd, self._directory)
