"""The blob store over `_core.content`, one thread hop a call. It decides nothing."""

import time
from collections.abc import Sequence
from pathlib import Path
from typing import BinaryIO

from fluytd._core.content import ContentStore
from fluytd.checks.model import Checked
from fluytd.content.ports import Blob, Ingest
from fluytd.errors import BlobNotFound, IoFailed
from fluytd.ids import Digest
from fluytd.workers import Workers


class CoreBlobs:
    """Implements `ports.Blobs`."""

    def __init__(self, data_root: Path, workers: Workers) -> None:
        """Opens the store and makes what is absent of it. Raises IO_FAILED, STORAGE_FULL. Blocking."""
        self.core = ContentStore(str(data_root))
        self._ingest_root = data_root / "ingest"
        self._blobs_root = data_root / "content" / "blobs"
        self._workers = workers

    async def stage(self, data: bytes, digest: Digest | None = None) -> Digest:
        """See `ports.Blobs.stage`."""
        return Digest(await self._workers.run(self.core.stage_bytes, data, digest))

    async def publish(self, digests: Sequence[Digest]) -> None:
        """See `ports.Blobs.publish`."""
        await self._workers.run_transfer(self.core.publish, list(digests))

    async def read(self, digest: Digest, max_size_bytes: int) -> bytes:
        """See `ports.Blobs.read`."""
        return await self._workers.run(self.core.read, digest, max_size_bytes)

    async def has(self, digest: Digest) -> bool:
        """See `ports.Blobs.has`."""
        return await self._workers.run(self.core.stat, digest) is not None

    async def list_blobs(self) -> list[Blob]:
        """See `ports.Blobs.list_blobs`."""
        found = await self._workers.run(self.core.list)
        return [Blob(Digest(blob.digest), blob.size_bytes) for blob in found]

    def open_file(self, digest: Digest) -> BinaryIO:
        """See `ports.BlobFiles.open_file`."""
        path = self._blobs_root / digest.algorithm / digest.hex
        try:
            return path.open("rb", buffering=0)
        except FileNotFoundError:
            raise BlobNotFound(digest=digest) from None
        except OSError as error:
            raise IoFailed(operation="open", path=str(path), errno=error.errno) from error

    async def verify(self, digest: Digest) -> Checked:
        """See `checks.ports.CheckedBlobs.verify`."""
        return await self._workers.run_transfer(self._verify, digest)

    def _verify(self, digest: Digest) -> Checked:
        blob = self.core.stat(digest)
        is_sound = self.core.verify(digest)
        size_bytes = blob.size_bytes if blob is not None else 0
        return Checked("" if is_sound else "the blob has another digest than its name", size_bytes)

    async def read_file(self, name: str, max_size_bytes: int) -> bytes:
        """See `checks.ports.CheckedBlobs.read_file`."""
        return await self._workers.run(self._read_file, name, max_size_bytes)

    def _read_file(self, name: str, max_size_bytes: int) -> bytes:
        path = self._blobs_root.parent / name
        try:
            with path.open("rb") as file:
                return file.read(max_size_bytes)
        except FileNotFoundError:
            return b""
        except OSError as error:
            raise IoFailed(operation="read", path=str(path), errno=error.errno) from error

    async def write_layout(self) -> None:
        """See `checks.ports.CheckedBlobs.write_layout`."""
        await self._workers.run(self.core.write_layout)

    async def delete(self, digest: Digest) -> int:
        """See `ports.Blobs.delete`."""
        return await self._workers.run(self.core.delete, digest)

    async def list_ingests(self) -> list[Ingest]:
        """See `ports.Blobs.list_ingests`."""
        return await self._workers.run(self._list_ingests)

    def _list_ingests(self) -> list[Ingest]:
        now = time.time()
        found: list[Ingest] = []
        for ingest in self.core.list_ingests():
            digest = Digest(ingest.digest)
            try:
                changed = (self._ingest_root / digest.hex / "data").stat().st_mtime
            except OSError:
                changed = 0.0  # without data it is worth nothing, however new it is
            found.append(Ingest(digest, ingest.offset_bytes, max(0.0, now - changed)))
        return found

    async def delete_ingest(self, digest: Digest) -> None:
        """See `ports.Blobs.delete_ingest`."""
        await self._workers.run(self.core.delete_ingest, digest)

    async def write_index(self, data: bytes) -> None:
        """See `ports.Blobs.write_index`."""
        await self._workers.run(self.core.write_index, data)
