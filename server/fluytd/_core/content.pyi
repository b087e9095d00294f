"""The content store: an OCI image layout whose blobs are named by their digest and never change."""

import builtins
from typing import final

@final
class BlobInfo:
    @property
    def digest(self) -> str: ...
    @property
    def size_bytes(self) -> int: ...

@final
class IngestInfo:
    """A partial blob left by an interrupted download."""

    @property
    def digest(self) -> str: ...
    @property
    def offset_bytes(self) -> int: ...

@final
class ContentStore:
    """A content store below `root` (`content/` and `ingest/` of the data root). Safe to share between threads."""

    def __new__(cls, data_root: str) -> ContentStore:
        """Opens the store; makes `content/oci-layout`, `content/blobs/sha256`, `content/index.json` and `ingest/`
        where absent. Raises IO_FAILED, STORAGE_FULL. Blocking."""
    def stage_bytes(self, data: bytes, expected_digest: str | None = None) -> str:
        """Writes a small blob (manifest, config) into `ingest/`, verified, not yet visible; returns its digest.
        A blob that is already visible is left alone. Raises DIGEST_MISMATCH, DIGEST_INVALID, IO_FAILED. Blocking."""
    def publish(self, digests: builtins.list[str]) -> None:
        """Makes staged blobs visible: one sync of the file system, then one rename a blob. Idempotent: blobs already
        visible are skipped. Raises BLOB_NOT_FOUND for one that is neither staged nor visible. Durable. Blocking."""
    def read(self, digest: str, max_size_bytes: int) -> bytes:
        """A blob's bytes, verified against its digest while read; staged blobs are found too.
        Raises BLOB_NOT_FOUND, LIMIT_EXCEEDED, DIGEST_MISMATCH. Blocking."""
    def stat(self, digest: str) -> BlobInfo | None:
        """A visible blob, or None. Blocking (one stat)."""
    def list(self) -> builtins.list[BlobInfo]:
        """All visible blobs, no order. Blocking."""
    def delete(self, digest: str) -> int:
        """Removes a visible blob; returns the bytes freed, 0 if it was absent. Idempotent. Blocking."""
    def list_ingests(self) -> builtins.list[IngestInfo]:
        """Partial and staged blobs, no order. Blocking."""
    def delete_ingest(self, digest: str) -> None:
        """Drops a partial or staged blob. Idempotent. Blocking."""
    def write_index(self, data: bytes) -> None:
        """Replaces `content/index.json` atomically. Durable. Blocking."""
    def replace(self, digest: str, source: ContentStore) -> None:
        """The blob that `source` has staged is the visible one, whatever was visible before, atomically.
        Raises BLOB_NOT_FOUND, IO_FAILED, STORAGE_FULL. Durable. Blocking."""
    def write_layout(self) -> None:
        """Replaces `content/oci-layout` by what it was made as, atomically. Durable. Blocking."""
    def verify(self, digest: str) -> bool:
        """Re-reads a visible blob and tells whether it still has its digest. Raises BLOB_NOT_FOUND. Blocking."""
