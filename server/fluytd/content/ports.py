"""What the engine needs of a blob store. All calls are one thread hop each; none runs on the event loop."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import BinaryIO, Protocol

from fluytd.ids import Digest


@dataclass(frozen=True, slots=True)
class Blob:
    """A visible blob."""

    digest: Digest
    size_bytes: int


@dataclass(frozen=True, slots=True)
class Ingest:
    """A partial or staged blob and how long nothing was added to it."""

    digest: Digest
    size_bytes: int
    age_seconds: float


class Blobs(Protocol):
    """Blobs by digest; visible ones never change."""

    async def stage(self, data: bytes, digest: Digest | None = None) -> Digest:
        """A small blob is staged, verified against `digest`. Raises DIGEST_MISMATCH, STORAGE_FULL, IO_FAILED."""

    async def publish(self, digests: Sequence[Digest]) -> None:
        """Staged blobs are visible, durably; visible ones are skipped. Raises BLOB_NOT_FOUND, STORAGE_FULL."""

    async def read(self, digest: Digest, max_size_bytes: int) -> bytes:
        """A blob's bytes, verified, also of a staged one. Raises BLOB_NOT_FOUND, LIMIT_EXCEEDED, DIGEST_MISMATCH."""

    async def has(self, digest: Digest) -> bool:
        """True if the blob is visible."""

    async def list_blobs(self) -> list[Blob]:
        """All visible blobs, no order."""

    async def delete(self, digest: Digest) -> int:
        """A visible blob is gone; returns the bytes freed. Idempotent."""

    async def list_ingests(self) -> list[Ingest]:
        """Partial and staged blobs, no order."""

    async def delete_ingest(self, digest: Digest) -> None:
        """A partial or staged blob is gone. Idempotent."""

    async def write_index(self, data: bytes) -> None:
        """`index.json` is these bytes, atomically and durably."""


class BlobFiles(Protocol):
    """Blobs that are read piece by piece, in a worker thread. Nothing is verified: that is the reader's."""

    def open_file(self, digest: Digest) -> BinaryIO:
        """A visible blob, open for reading without a buffer; the caller closes it.

        Raises BLOB_NOT_FOUND, IO_FAILED. Blocking.
        """
