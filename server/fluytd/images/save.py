"""Sending images as one archive: blobs are read from the store as the caller takes them; nothing is written anywhere.

What an archive holds stands in `save_plan.py`. The same images give the same bytes.
"""

import asyncio
import hashlib
import os
import tarfile
from collections.abc import AsyncGenerator, Callable, Generator, Iterator, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from typing import BinaryIO, Final, TypeVar

from fluytd.content.ports import BlobFiles, Blobs
from fluytd.errors import DigestMismatch, ImageNotFound, IoFailed, SizeMismatch
from fluytd.gc.collect import Collector
from fluytd.gc.leases import Leases
from fluytd.ids import Digest
from fluytd.images.catalogue import Catalogue
from fluytd.images.indexes import read_whole
from fluytd.images.model import Image
from fluytd.images.platforms import Platform
from fluytd.images.save_plan import ArchiveFile, Saved, layout, select
from fluytd.workers import Workers

T = TypeVar("T")

#: Bytes of one part of the archive, all but the last; what the API promises as the most.
CHUNK_BYTES: Final = 256 * 1024
_FILE_MODE = 0o644
_FOLDER_MODE = 0o755


@dataclass(frozen=True, slots=True)
class Sent:
    """The end of an archive: all of it was sent."""

    size_bytes: int
    #: Of all its bytes.
    digest: Digest


class Saver:
    """Sends images to callers."""

    def __init__(
        self,
        content: Blobs,
        blobs: BlobFiles,
        catalogue: Catalogue,
        leases: Leases,
        collector: Collector,
        workers: Workers,
    ) -> None:
        """`content`, `blobs`: the same store, for indexes as a whole and for all else piece by piece."""
        self._content = content
        self._blobs = blobs
        self._catalogue = catalogue
        self._leases = leases
        self._collector = collector
        self._workers = workers

    async def save(self, texts: Sequence[str], platforms: Sequence[Platform]) -> AsyncGenerator[bytes | Sent, None]:
        """Yields the archive in parts of at most CHUNK_BYTES, then `Sent`. Nothing is read ahead of the caller.

        What it needs is held until it ends, also of an image that is deleted meanwhile. Closing it leaves nothing.
        Raises what `save_plan` raises, before anything is yielded; BLOB_NOT_FOUND, SIZE_MISMATCH, DIGEST_MISMATCH and
        IO_FAILED for a store that is damaged, then without `Sent`.
        """
        saved = select(self._catalogue.table, texts, platforms)
        try:
            async with self._leases.lease() as lease:
                for image in _images(saved):
                    await lease.add(image.blob_digests)
                for image in _images(saved):
                    if self._catalogue.table.get(image.id) is None:
                        raise ImageNotFound(reference=image.id)
                wholes = {one.target: await read_whole(self._content, one.images, one.target) for one in saved}
                files = layout(saved, wholes)
                async with aclosing(streamed(self._blobs, files, self._workers)) as parts:
                    async for part in parts:
                        yield part
        finally:
            # In a task of its own: a caller that is cancelled once more must not break it off.
            await asyncio.shield(asyncio.ensure_future(self._sweep_deleted(saved)))

    async def _sweep_deleted(self, saved: Sequence[Saved]) -> None:
        """What only the lease kept, of images that were deleted while they were sent, is gone."""
        for image in _images(saved):
            if self._catalogue.table.get(image.id) is None:
                await self._collector.sweep(image.blob_sizes, {})


async def streamed(
    blobs: BlobFiles, files: Sequence[ArchiveFile], workers: Workers
) -> AsyncGenerator[bytes | Sent, None]:
    """Yields a tar of these files in parts of at most CHUNK_BYTES, then `Sent`; who calls it holds the blobs.

    Raises BLOB_NOT_FOUND, SIZE_MISMATCH, DIGEST_MISMATCH and IO_FAILED for a store that is damaged.
    """
    stream = _Stream(blobs, files)
    try:
        await _call(workers, stream.check)
        while chunk := await _call(workers, stream.next_chunk):
            yield chunk
        yield stream.sent
    finally:
        await _call(workers, stream.close)


async def _call(workers: Workers, call: Callable[[], T]) -> T:
    """The call's result, from a worker thread. Even where the await is cancelled, the call has ended on return."""
    work = asyncio.ensure_future(workers.run(call))
    try:
        return await asyncio.shield(work)
    except asyncio.CancelledError:
        await asyncio.wait({work})
        if not work.cancelled():
            work.exception()  # taken note of: nobody is left to hear of it
        raise


class _Stream:
    """The bytes of the archive, one part after the other. Used by one thread at a time."""

    def __init__(self, blobs: BlobFiles, files: Sequence[ArchiveFile]) -> None:
        self._blobs = blobs
        self._files = files
        self._pieces = self._all_pieces()
        self._buffer = bytearray()
        self._hasher = hashlib.sha256()
        self._size_bytes = 0

    @property
    def sent(self) -> Sent:
        return Sent(self._size_bytes, Digest("sha256:" + self._hasher.hexdigest()))

    def check(self) -> None:
        """Every blob is there. Raises BLOB_NOT_FOUND, SIZE_MISMATCH. Blocking."""
        for file in self._files:
            if file.digest is not None:
                with self._blobs.open_file(file.digest) as stored:
                    _check_size(file.digest, file.size_bytes, os.fstat(stored.fileno()).st_size)

    def next_chunk(self) -> bytes:
        """CHUNK_BYTES further, fewer at the end, none after it. Blocking."""
        while len(self._buffer) < CHUNK_BYTES:
            piece = next(self._pieces, None)
            if piece is None:
                break
            self._buffer += piece
        chunk = bytes(self._buffer[:CHUNK_BYTES])
        del self._buffer[:CHUNK_BYTES]
        self._hasher.update(chunk)
        self._size_bytes += len(chunk)
        return chunk

    def close(self) -> None:
        """No file is open any more. Idempotent."""
        self._pieces.close()

    def _all_pieces(self) -> Generator[bytes, None, None]:
        folders: set[str] = set()
        for file in self._files:
            for folder in _folders(file.name):
                if folder not in folders:
                    folders.add(folder)
                    yield _header(folder, 0, tarfile.DIRTYPE, _FOLDER_MODE)
            yield _header(file.name, file.size_bytes, tarfile.REGTYPE, _FILE_MODE)
            if file.data is not None:
                yield file.data
            elif file.digest is not None:
                yield from self._blob(file.digest, file.size_bytes)
            yield bytes(-file.size_bytes % tarfile.BLOCKSIZE)
        yield bytes(2 * tarfile.BLOCKSIZE)

    def _blob(self, digest: Digest, size_bytes: int) -> Iterator[bytes]:
        """The blob's bytes. It is verified at its end, so that a damaged one fails the whole archive."""
        hasher, count = hashlib.new(digest.algorithm), 0
        with self._blobs.open_file(digest) as stored:
            # One byte more than it may have is asked for, so that a longer one is noticed.
            while piece := _read(stored, digest, min(CHUNK_BYTES, size_bytes + 1 - count)):
                hasher.update(piece)
                count += len(piece)
                if count > size_bytes:
                    break
                yield piece
        _check_size(digest, size_bytes, count)
        if hasher.hexdigest() != digest.hex:
            actual = Digest(f"{digest.algorithm}:{hasher.hexdigest()}")
            raise DigestMismatch(expected=digest, actual=actual, size_bytes=count)


def _images(saved: Sequence[Saved]) -> Iterator[Image]:
    for one in saved:
        yield from one.images


def _folders(name: str) -> Iterator[str]:
    parts = name.split("/")[:-1]
    for depth in range(len(parts)):
        yield "/".join(parts[: depth + 1]) + "/"


def _header(name: str, size_bytes: int, kind: bytes, mode: int) -> bytes:
    """A member's header: owner and group 0, time 0, so that the same images give the same bytes."""
    member = tarfile.TarInfo(name)
    member.size, member.type, member.mode = size_bytes, kind, mode
    return member.tobuf(tarfile.PAX_FORMAT)


def _read(stored: BinaryIO, digest: Digest, max_bytes: int) -> bytes:
    try:
        return stored.read(max_bytes)
    except OSError as error:
        raise IoFailed(operation="read", path=f"content: {digest}", errno=error.errno) from error


def _check_size(digest: Digest, expected: int, actual: int) -> None:
    if actual != expected:
        raise SizeMismatch(digest=digest, expected_bytes=expected, actual_bytes=actual)
