"""Archives that callers send, kept in an unlinked file for as long as they are read. It looks at no byte of them."""

import hashlib
import os
from collections.abc import AsyncIterator, Callable
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
        fd = await self._workers.run(self._open)
        try:
            size, hasher = 0, hashlib.sha256()
            async for chunk in chunks:
                size += len(chunk)
                if size > self._max_size_bytes:
                    raise LimitExceeded(
                        limit="load_max_bytes", limit_value=self._max_size_bytes, actual=size, subject="image archive"
                    )
                await self._workers.run(self._write, fd, chunk, hasher.update)
        except BaseException:
            os.close(fd)
            raise
        return Received(fd, size, Digest("sha256:" + hasher.hexdigest()))

    def _open(self) -> int:
        try:
            return os.open(self._directory, os.O_TMPFILE | os.O_RDWR | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise self._failed("open", error) from error

    def _write(self, fd: int, chunk: bytes, update: Callable[[bytes], None]) -> None:
        update(chunk)
        view = memoryview(chunk)
        try:
            while view:
                view = view[os.write(fd, view) :]
        except OSError as error:
            raise self._failed("write", error) from error

    def _failed(self, operation: str, error: OSError) -> Exception:
        kind = StorageFull if error.errno in _FULL else IoFailed
        return kind(operation=operation, path=str(self._directory), errno=error.errno)
