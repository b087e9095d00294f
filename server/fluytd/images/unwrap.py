"""What callers compressed by xz or bzip2, once more without, in an unlinked file. gzip and zstd are the core's.

Docker takes both where it takes an archive of images or a root file system. The first bytes tell them, never a name.
Source: the .xz file format, sections 2.1.1.1, 2.2 and 5; bzip2's source, decompress.c.
"""

import bz2
import lzma
import os
from collections.abc import Callable, Iterator
from typing import Final, Protocol

from fluytd import failpoints
from fluytd.errors import Cancelled, EngineError, IoFailed, LimitExceeded
from fluytd.images.spool import Received, Spool
from fluytd.operations.ports import CancelToken
from fluytd.workers import Workers

#: Memory that reading an xz stream may take, most of it how far the stream looks back: twice what `xz -9` needs, and as
#: much as the core allows to zstd.
XZ_MAX_MEMORY_BYTES: Final = 128 * 1024 * 1024
#: Uncompressed bytes for each compressed one, looked at beyond the floor; both as the core has them for layers.
EXPANSION_RATIO_MAX: Final = 200
EXPANSION_FLOOR_BYTES: Final = 1024 * 1024 * 1024
#: Bytes that are read, and bytes that are made of them, at a time.
PIECE_BYTES: Final = 256 * 1024

_XZ_MAGIC: Final = b"\xfd7zXZ\0"
#: With the magic of the first block behind it, since a plain tar may begin with a file that is called BZh.
_BZIP2_MAGICS: Final = tuple(b"BZh%d1AY&SY" % level for level in range(1, 10))
_SUBJECT: Final = "decompressed archive"
#: How liblzma says that a stream needs more memory than it may have (LZMA_MEMLIMIT_ERROR).
_MEMORY_ERROR: Final = "Memory usage limit exceeded"

#: Makes the error for what cannot be decompressed.
Refuse = Callable[[str], EngineError]


class _Decoder(Protocol):
    """One stream, as `lzma` and `bz2` have it."""

    @property
    def eof(self) -> bool: ...

    @property
    def needs_input(self) -> bool: ...

    @property
    def unused_data(self) -> bytes: ...

    def decompress(self, data: bytes, max_length: int = -1) -> bytes: ...


class Unwrapper:
    """Takes xz and bzip2 off archives."""

    def __init__(self, spool: Spool, workers: Workers, *, max_size_bytes: int) -> None:
        """`max_size_bytes`: of a decompressed archive."""
        self._spool = spool
        self._workers = workers
        self._max_size_bytes = max_size_bytes

    async def unwrap(self, fd: int, verb: str, cancel: CancelToken, refuse: Refuse) -> Received | None:
        """The archive behind `fd` (borrowed, its offset is not moved), decompressed, which the caller closes; None if
        neither xz nor bzip2 made it. `verb` names the failpoint.

        Raises what `refuse` makes of damage; LIMIT_EXCEEDED (load_max_bytes, expansion_ratio, xz_memory_bytes) before
        more than that is written; STORAGE_FULL, IO_FAILED, CANCELLED.
        """
        magic = await self._workers.run(_pread, fd, len(_BZIP2_MAGICS[0]), 0)
        make = _decoder_of(magic)
        if make is None:
            return None
        failpoints.hit(f"{verb}.decompress")
        return await self._workers.run_transfer(self._write, _Source(fd, cancel), make, refuse)

    def _write(self, source: "_Source", make: Callable[[], _Decoder], refuse: Refuse) -> Received:
        file = self._spool.open()
        try:
            for piece in _pieces(source, make, refuse):
                source.check_cancel()
                self._check(file.size_bytes + len(piece), source.offset)
                file.append(piece)
        except BaseException:
            file.close()
            raise
        return file.received()

    def _check(self, size_bytes: int, compressed_bytes: int) -> None:
        ratio = size_bytes // compressed_bytes
        for limit, limit_value, actual in (
            ("load_max_bytes", self._max_size_bytes, size_bytes),
            ("expansion_ratio", EXPANSION_RATIO_MAX, ratio if size_bytes > EXPANSION_FLOOR_BYTES else 0),
        ):
            if actual > limit_value:
                raise LimitExceeded(limit=limit, limit_value=limit_value, actual=actual, subject=_SUBJECT)


class _Source:
    """The compressed bytes, in order."""

    def __init__(self, fd: int, cancel: CancelToken) -> None:
        self._fd = fd
        self._cancel = cancel
        self.offset = 0

    def check_cancel(self) -> None:
        """Raises CANCELLED once nobody wants it any more."""
        if self._cancel.is_cancelled:
            raise Cancelled(subject="decompression of an archive")

    def read(self) -> bytes:
        """The next piece, empty at the end. Raises CANCELLED: padding is read without anything to write."""
        self.check_cancel()
        data = _pread(self._fd, PIECE_BYTES, self.offset)
        self.offset += len(data)
        return data


def _pread(fd: int, size_bytes: int, offset_bytes: int) -> bytes:
    try:
        return os.pread(fd, size_bytes, offset_bytes)
    except OSError as error:
        raise IoFailed(operation="pread", path="archive", errno=error.errno) from error


def _decoder_of(magic: bytes) -> Callable[[], _Decoder] | None:
    if magic.startswith(_XZ_MAGIC):
        return lambda: lzma.LZMADecompressor(lzma.FORMAT_XZ, memlimit=XZ_MAX_MEMORY_BYTES)
    return bz2.BZ2Decompressor if magic.startswith(_BZIP2_MAGICS) else None


def _pieces(source: _Source, make: Callable[[], _Decoder], refuse: Refuse) -> Iterator[bytes]:
    """The decompressed bytes of all streams that follow each other; zeros between them are padding, and what follows
    the last one and is no stream is passed over, as with gzip."""
    decoder, data = make(), source.read()
    while True:
        piece = _decompressed(decoder, data, refuse)
        if piece:
            yield piece
        data = b""
        if decoder.eof:
            data = _next_stream(source, decoder.unused_data)
            if _decoder_of(data) is None:
                return
            decoder = make()
        elif decoder.needs_input:
            data = source.read()
            if not data:
                raise refuse("its compressed data ends early")


def _next_stream(source: _Source, data: bytes) -> bytes:
    """What follows a stream and its padding, enough of it to tell what it is; empty at the end."""
    while True:
        data = data.lstrip(b"\0")
        more = source.read() if len(data) < len(_BZIP2_MAGICS[0]) else b""
        if not more:
            return data
        data += more


def _decompressed(decoder: _Decoder, data: bytes, refuse: Refuse) -> bytes:
    try:
        return decoder.decompress(data, PIECE_BYTES)
    except lzma.LZMAError as error:
        if _MEMORY_ERROR in str(error):
            raise LimitExceeded(
                limit="xz_memory_bytes",
                limit_value=XZ_MAX_MEMORY_BYTES,
                actual=XZ_MAX_MEMORY_BYTES + 1,
                subject=_SUBJECT,
            ) from error
        raise refuse("its compressed data is damaged") from error
    except (OSError, ValueError) as error:
        # `bz2` raises OSError for damage; nothing here reads a file.
        raise refuse("its compressed data is damaged") from error
