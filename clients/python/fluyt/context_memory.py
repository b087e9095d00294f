"""What the last upload of a folder found in it, so that a file that did not change is not read again.

`$XDG_CACHE_HOME/fluyt/contexts/<name>` (else `~/.cache`) holds, of each file, what `stat` said of it and the digests of
its chunks, and the ids of the contexts that engines were sent. A digest counts only while device, inode, size, times of
change of content and of inode are all the same, and is written down only if the inode was left alone for two seconds
before the walk began: a change in the same tick of the clock as the read cannot be seen in its times. The command line
keeps its memories in the same place and form, and each of the two knows what the other has read.
"""

import contextlib
import os
import secrets
import struct
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Final

import blake3

#: Format of the file; another one is taken for none.
_MAGIC: Final = b"fluyt-context-1\n"
#: What a memory may take on disk; a folder that needs more is read each time.
MAX_BYTES: Final = 512 * 1024 * 1024
#: Folders that are remembered; those used longest ago go.
MAX_FOLDERS: Final = 32
#: Contexts of one folder that are remembered: as many engines can be built with in turn.
MAX_CONTEXTS: Final = 4
#: How long an inode must have been left alone: the coarsest clock of a file system (FAT: 2 s).
_QUIET_SECONDS: Final = 2
DIGEST_BYTES: Final = 32
#: An id is as long in text.
_ID_BYTES: Final = 32
#: Device, inode, size, and seconds and nanoseconds of the times of change of content and of inode.
_STAMP: Final = struct.Struct("<QQQqqqq")
_COUNT: Final = struct.Struct("<I")
_NANOS: Final = 1_000_000_000


def stamp(status: os.stat_result) -> bytes:
    """What `stat` says of a file's content."""
    return _STAMP.pack(
        status.st_dev,
        status.st_ino,
        status.st_size,
        *divmod(status.st_mtime_ns, _NANOS),
        *divmod(status.st_ctime_ns, _NANOS),
    )


class Files:
    """What a walk found, to be remembered."""

    def __init__(self, begin_seconds: int | None = None) -> None:
        """Nothing yet, of a walk that begins now, or so many seconds after 1970."""
        self._records: list[bytes] = []
        self._before = (int(time.time()) if begin_seconds is None else begin_seconds) - _QUIET_SECONDS

    def add(self, path: bytes, its_stamp: bytes, changed_nanos: int, digests: bytes) -> None:
        """A file that had this stamp before and after it was read, or is known by it. One whose inode changed just
        before the walk is left out."""
        if changed_nanos // _NANOS < self._before:
            self._records.append(_field(path) + its_stamp + _field(digests))

    @property
    def bytes(self) -> bytes:
        """Their count, then each."""
        return _COUNT.pack(len(self._records)) + b"".join(self._records)


class Memory:
    """What is remembered of a folder, as it was read. Only what the file's own digest answers for is taken from it."""

    def __init__(self, folder: Path, directory: Path | None) -> None:
        """What is known of the folder; nothing if there is no file, or a damaged one. `directory`: where memories
        are; None: nothing is kept."""
        #: Of each file its stamp and the digests of its chunks, one after the other.
        self.files: Mapping[bytes, tuple[bytes, bytes]] = {}
        #: (listing, id) of the contexts that were sent, the last one first.
        self._contexts: list[tuple[bytes, str]] = []
        self._known = b""
        self._root = os.fsencode(folder.resolve())
        self._place = directory / blake3.blake3(self._root).hexdigest() if directory is not None else None
        data = _read(self._place) if self._place is not None else b""
        with contextlib.suppress(struct.error, _DamagedError, UnicodeDecodeError):
            self._take(data)

    def _take(self, data: bytes) -> None:
        end = len(data) - DIGEST_BYTES
        if not data.startswith(_MAGIC) or blake3.blake3(data[:end]).digest() != data[end:]:
            raise _DamagedError
        root, at = _take_field(data, len(_MAGIC))
        if root != self._root:
            raise _DamagedError
        (count,), at = _COUNT.unpack_from(data, at), at + _COUNT.size
        contexts = []
        for _ in range(count):
            listing, at = data[at : at + DIGEST_BYTES], at + DIGEST_BYTES
            context_id, at = data[at : at + _ID_BYTES].decode("ascii"), at + _ID_BYTES
            contexts.append((listing, context_id))
        begin = at
        (count,), at = _COUNT.unpack_from(data, at), at + _COUNT.size
        files = {}
        for _ in range(count):
            path, at = _take_field(data, at)
            its_stamp, at = data[at : at + _STAMP.size], at + _STAMP.size
            digests, at = _take_field(data, at)
            files[path] = (its_stamp, digests)
        if at != end:
            raise _DamagedError
        self.files, self._contexts, self._known = files, contexts, data[begin:end]

    def contexts(self, listing: bytes) -> list[str]:
        """Ids of contexts with this listing that an engine may have still."""
        return [context_id for known, context_id in self._contexts if known == listing]

    def keep(self, files: Files, listing: bytes, context_id: str) -> None:
        """What the walk found is remembered, with the context that was sent.

        That nothing can be kept, for want of a place or of room, only means that files are read again.
        """
        if self._place is None or len(context_id.encode()) != _ID_BYTES:
            return
        latest, records = (listing, context_id), files.bytes
        if self._contexts[:1] == [latest] and self._known == records:
            return
        contexts = [latest, *(one for one in self._contexts if one[1] != context_id)][:MAX_CONTEXTS]
        body = b"".join(
            (
                _MAGIC,
                _field(self._root),
                _COUNT.pack(len(contexts)),
                *(its_listing + its_id.encode() for its_listing, its_id in contexts),
                records,
            )
        )
        with contextlib.suppress(OSError):
            _write(self._place, body + blake3.blake3(body).digest())
            _drop_oldest(self._place.parent)

    def forget(self) -> None:
        """Nothing is remembered of the folder: its files are read next time."""
        if self._place is not None:
            with contextlib.suppress(OSError):
                self._place.unlink(missing_ok=True)


class _DamagedError(Exception):
    """A file that is no memory of the folder."""


def cache_directory() -> Path | None:
    """Where memories are; None where the environment names no place for a cache."""
    base = os.environ.get("XDG_CACHE_HOME") or (os.environ.get("HOME") and f"{os.environ['HOME']}/.cache")
    return Path(base) / "fluyt" / "contexts" if base and base.startswith("/") else None


def _field(data: bytes) -> bytes:
    return _COUNT.pack(len(data)) + data


def _take_field(data: bytes, at: int) -> tuple[bytes, int]:
    (size,) = _COUNT.unpack_from(data, at)
    begin = at + _COUNT.size
    if begin + size > len(data):
        raise _DamagedError
    return data[begin : begin + size], begin + size


def _read(place: Path) -> bytes:
    """The bytes of a memory that is the caller's own; empty for none."""
    try:
        with open(os.open(place, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC), "rb") as file:  # noqa: PTH123 - no link is followed
            status = os.fstat(file.fileno())
            is_own = status.st_uid == os.geteuid() and status.st_size <= MAX_BYTES
            return file.read(MAX_BYTES) if is_own else b""
    except OSError:
        return b""


def _write(place: Path, data: bytes) -> None:
    """The file is there whole, or as it was before. Raises OSError."""
    if len(data) > MAX_BYTES:
        return
    place.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    beside = place.with_name(f"{place.name}.{secrets.token_hex(4)}.part")
    try:
        with open(os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600), "wb") as file:  # noqa: PTH123
            file.write(data)
        beside.rename(place)
    except BaseException:
        beside.unlink(missing_ok=True)
        raise


def _drop_oldest(directory: Path) -> None:
    """Memories beyond the bound go, and so do halves that a killed program left. Raises OSError."""
    found: Iterable[tuple[int, str]] = ((entry.stat().st_mtime_ns, entry.path) for entry in os.scandir(directory))
    for _, path in sorted(found, reverse=True)[MAX_FOLDERS:]:
        Path(path).unlink(missing_ok=True)
