"""A folder as a context of the engine, which is sent what it lacks of it."""

import os
import stat
import struct
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, NamedTuple

import blake3
import grpc

from fluyt import context_memory
from fluyt.context_memory import DIGEST_BYTES, Files, Memory
from fluyt.errors import NotFound, translated
from fluyt.v1 import builds_pb2, builds_pb2_grpc

#: Bytes of one chunk: what the engine takes at most.
CHUNK_BYTES: Final = 512 * 1024
#: Entries of one message; with their digests well below 1 MiB for ordinary files.
_OFFER_ENTRIES: Final = 500
_OFFER_BYTES: Final = 512 * 1024
#: How often the engine may say that chunks are missing before it is given up.
_MAX_ROUNDS: Final = 1_000
_NANOS: Final = 1_000_000_000
_KIND: Final = builds_pb2.ContextEntry
#: Of a listing: kind, mode, owner, group, time of change, size, and the lengths of path, target and digests.
_LISTED: Final = struct.Struct("<IIIIqQIII")

IsIgnored = Callable[[str, bool], bool]


class _Entry(NamedTuple):
    """One entry of a folder; a message is made of it only if it is offered."""

    path: bytes
    kind: "builds_pb2.ContextEntry.Kind.ValueType"
    status: os.stat_result
    link_target: bytes = b""
    #: Of its chunks, one after the other.
    digests: bytes = b""
    size_bytes: int = 0

    def listed(self) -> bytes:
        """What tells it from every other one."""
        status = self.status
        head = _LISTED.pack(
            self.kind,
            stat.S_IMODE(status.st_mode),
            status.st_uid,
            status.st_gid,
            status.st_mtime_ns,
            self.size_bytes,
            len(self.path),
            len(self.link_target),
            len(self.digests),
        )
        return head + self.path + self.link_target + self.digests

    def message(self) -> builds_pb2.ContextEntry:
        """As it is offered."""
        status = self.status
        entry = builds_pb2.ContextEntry(
            path=self.path,
            kind=self.kind,
            mode=stat.S_IMODE(status.st_mode),
            uid=status.st_uid,
            gid=status.st_gid,
            link_target=self.link_target,
            chunk_digests=[self.digests[at : at + DIGEST_BYTES] for at in range(0, len(self.digests), DIGEST_BYTES)],
            size_bytes=self.size_bytes,
        )
        entry.modify_time.seconds, entry.modify_time.nanos = divmod(status.st_mtime_ns, _NANOS)
        return entry


@dataclass(slots=True)
class Walked:
    """A folder as it was found."""

    root: bytes
    entries: list[_Entry] = field(default_factory=list)
    #: Files that were read, since nothing was known of them.
    read_count: int = 0

    def listing(self) -> bytes:
        """What stands for all entries."""
        return blake3.blake3(b"".join([entry.listed() for entry in self.entries])).digest()

    def places(self) -> dict[bytes, tuple[bytes, int, int]]:
        """Where the bytes of each chunk are, by digest: file, offset, size."""
        found: dict[bytes, tuple[bytes, int, int]] = {}
        for entry in self.entries:
            for index in range(0, len(entry.digests), DIGEST_BYTES):
                offset = index // DIGEST_BYTES * CHUNK_BYTES
                size = min(CHUNK_BYTES, entry.size_bytes - offset)
                found[entry.digests[index : index + DIGEST_BYTES]] = (self.root + b"/" + entry.path, offset, size)
        return found


def upload_context(
    connection: grpc.Channel,
    folder: Path,
    *,
    is_ignored: IsIgnored = lambda path, is_directory: False,
    remembers: bool = True,
) -> str:
    """The folder is a context of the engine, which lacked only what it did not have before; returns its id.

    Args:
        is_ignored: of a path from the folder and whether it is a directory; what is below an ignored directory is not
            looked at.
        remembers: what was found is kept in the caller's cache (`context_memory`), so that files that did not change
            are not read again, and a folder in which nothing did is not offered again.

    Raises:
        OSError: a file cannot be read, or changed while it was sent.
    """
    memory = Memory(folder, context_memory.cache_directory() if remembers else None)
    files = Files()
    walked = walk(folder, is_ignored, memory, files)
    listing = walked.listing()
    stub = builds_pb2_grpc.BuildServiceStub(connection)
    answer = _known(stub, memory.contexts(listing))
    if answer is None:
        with translated():
            answer = stub.UploadContext(_offers(walked.entries))
    try:
        _send_missing(stub, walked, answer)
    except BaseException:
        # What was remembered may be why: the next build looks at the files themselves.
        memory.forget()
        raise
    memory.keep(files, listing, answer.context_id)
    return answer.context_id


def _known(
    stub: builds_pb2_grpc.BuildServiceStub, candidates: Iterable[str]
) -> builds_pb2.UploadContextResponse | None:
    """What the engine says of the first of these contexts that it has; None if it has none of them."""
    for context_id in candidates:
        try:
            with translated():
                answer: builds_pb2.UploadContextResponse = stub.UploadContext(iter([_open(context_id)]))
        except NotFound:
            continue
        return answer
    return None


def _send_missing(
    stub: builds_pb2_grpc.BuildServiceStub, walked: Walked, answer: builds_pb2.UploadContextResponse
) -> None:
    """The context is whole. Raises OSError."""
    if not answer.missing_chunk_digests:
        return
    context_id, places = answer.context_id, walked.places()
    for _ in range(_MAX_ROUNDS):
        with translated():
            answer = stub.UploadContext(_chunks(context_id, places, answer.missing_chunk_digests))
        if not answer.missing_chunk_digests:
            return
    raise OSError("the engine keeps nothing of the context; see the daemon's log")


def _open(context_id: str = "") -> builds_pb2.UploadContextRequest:
    return builds_pb2.UploadContextRequest(open=builds_pb2.UploadContextOpen(context_id=context_id))


def _offers(entries: Iterable[_Entry]) -> Iterator[builds_pb2.UploadContextRequest]:
    yield _open()
    offer, size = builds_pb2.ContextOffer(), 0
    for entry in entries:
        message = entry.message()
        offer.entries.append(message)
        size += message.ByteSize()
        if len(offer.entries) == _OFFER_ENTRIES or size > _OFFER_BYTES:
            yield builds_pb2.UploadContextRequest(offer=offer)
            offer, size = builds_pb2.ContextOffer(), 0
    if offer.entries:
        yield builds_pb2.UploadContextRequest(offer=offer)


def _chunks(
    context_id: str, places: dict[bytes, tuple[bytes, int, int]], missing: Iterable[bytes]
) -> Iterator[builds_pb2.UploadContextRequest]:
    yield _open(context_id)
    for digest in missing:
        path, offset, size = places[digest]
        with open(path, "rb") as file:  # noqa: PTH123 - names need not be text
            file.seek(offset)
            data = file.read(size)
        if blake3.blake3(data).digest() != digest:
            raise OSError(f"{os.fsdecode(path)} changed while it was sent")
        yield builds_pb2.UploadContextRequest(chunk=data)


def walk(folder: Path, is_ignored: IsIgnored, memory: Memory, files: Files) -> Walked:
    """The folder's entries. Files that the memory knows are not read; what is known now goes to `files`. Raises
    OSError."""
    walked = Walked(os.fsencode(folder))
    pending = [("", str(folder))]
    while pending:
        prefix, directory = pending.pop()
        with os.scandir(directory) as entries:
            found = sorted(entries, key=lambda one: one.name)
        for one in found:
            path = f"{prefix}{one.name}"
            is_directory = one.is_dir(follow_symlinks=False)
            if is_ignored(path, is_directory):
                continue
            try:
                entry = _entry(os.fsencode(path), one, walked, memory, files)
            except FileNotFoundError:
                continue  # it went while the folder was looked at
            if entry is not None:
                walked.entries.append(entry)
            if is_directory:
                pending.append((f"{path}/", one.path))
    return walked


def _entry(path: bytes, found: "os.DirEntry[str]", walked: Walked, memory: Memory, files: Files) -> _Entry | None:
    status = found.stat(follow_symlinks=False)
    if stat.S_ISREG(status.st_mode):
        its_stamp = context_memory.stamp(status)
        known = memory.files.get(path)
        if known is not None and known[0] == its_stamp:
            size, digests, is_sure = status.st_size, known[1], True
        else:
            walked.read_count += 1
            size, digests, is_sure = _read(found.path, its_stamp)
        if is_sure:
            files.add(path, its_stamp, status.st_ctime_ns, digests)
        return _Entry(path, _KIND.KIND_FILE, status, digests=digests, size_bytes=size)
    if stat.S_ISDIR(status.st_mode):
        return _Entry(path, _KIND.KIND_DIRECTORY, status)
    if stat.S_ISLNK(status.st_mode):
        return _Entry(path, _KIND.KIND_SYMLINK, status, link_target=os.fsencode(Path(found.path).readlink()))
    return None  # sockets, pipes and devices are no part of a context


def _read(path: str, its_stamp: bytes) -> tuple[int, bytes, bool]:
    """Size of the file, digests of its chunks, and whether it was the file of this stamp all the while. Raises
    OSError."""
    digests, size = bytearray(), 0
    # Buffered, so that a chunk is whole unless the file ends.
    with Path(path).open("rb") as file:
        was_same = context_memory.stamp(os.fstat(file.fileno())) == its_stamp
        while data := file.read(CHUNK_BYTES):
            digests += blake3.blake3(data).digest()
            size += len(data)
        status = os.fstat(file.fileno())
    # Files of some file systems of the kernel have content and no size: nothing tells when it changes.
    is_sure = was_same and context_memory.stamp(status) == its_stamp and status.st_size == size
    return size, bytes(digests), is_sure
