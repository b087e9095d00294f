"""What the tests of copies do again and again: tars made entry by entry, CopyTo and CopyFrom."""

import io
import tarfile
from collections.abc import Iterable, Iterator
from typing import Any

from fluyt.v1 import container_files_pb2
from fluyt.v1.types import archive_pb2
from tests.support.engine import Engine

#: Bytes of one message of an archive on its way in.
PIECE_BYTES = 256 * 1024


def member(name: str, data: bytes | None = None, **fields: Any) -> tuple[tarfile.TarInfo, bytes | None]:
    """An entry: a file of `data`, or what `fields` say (`type`, `linkname`, `uid`, `mode`, ...)."""
    info = tarfile.TarInfo(name)
    info.mode = 0o644
    for field, value in fields.items():
        setattr(info, field, value)
    if data is not None:
        info.size = len(data)
    return info, data


def directory(name: str, **fields: Any) -> tuple[tarfile.TarInfo, bytes | None]:
    """An entry of a directory, 0755 by default."""
    return member(name, type=tarfile.DIRTYPE, **{"mode": 0o755, **fields})


def tar(*members: tuple[tarfile.TarInfo, bytes | None]) -> bytes:
    """A PAX tar of these entries; names may hold bytes that are no text, as surrogates."""
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w", format=tarfile.PAX_FORMAT, errors="surrogateescape") as archive:
        for info, data in members:
            archive.addfile(info, None if data is None else io.BytesIO(data))
    return file.getvalue()


def messages(
    container: str, path: str | bytes, pieces: Iterable[bytes], **options: Any
) -> Iterator[container_files_pb2.CopyToRequest]:
    """Options, then a message a piece."""
    where = {"raw_path": path} if isinstance(path, bytes) else {"path": path}
    wanted = container_files_pb2.CopyToOptions(container=container, **where, **options)
    yield container_files_pb2.CopyToRequest(options=wanted)
    for piece in pieces:
        yield container_files_pb2.CopyToRequest(chunk=piece)


def copy_to(
    engine: Engine, container: str, path: str | bytes, data: bytes, **options: Any
) -> container_files_pb2.CopyToResponse:
    """CopyTo's answer."""
    pieces = (data[at : at + PIECE_BYTES] for at in range(0, len(data), PIECE_BYTES))
    answer: container_files_pb2.CopyToResponse = engine.containers.CopyTo(
        messages(container, path, pieces, **options), timeout=50
    )
    return answer


def copy_from(
    engine: Engine, container: str, path: str | bytes, *, follow_link: bool = False
) -> tuple[archive_pb2.FileInfo, bytes]:
    """What the path is, and its tar; fails the test if the end is not told, or tells something else."""
    where = {"raw_path": path} if isinstance(path, bytes) else {"path": path}
    request = container_files_pb2.CopyFromRequest(container=container, follow_link=follow_link, **where)
    stream = engine.containers.CopyFrom(request, timeout=50)
    info = next(stream).info
    data = b""
    for part in stream:
        if part.WhichOneof("part") == "complete":
            assert part.complete.size_bytes == len(data)
            assert part.complete.entry_count == len(list(members(data)))
            return info, data
        assert 0 < len(part.chunk) <= 256 * 1024
        data += part.chunk
    raise AssertionError("the copy ended without `complete`")


def members(data: bytes) -> Iterator[tarfile.TarInfo]:
    """The entries of a tar, as Python reads it."""
    with tarfile.open(fileobj=io.BytesIO(data), errors="surrogateescape") as archive:
        yield from archive


def names(data: bytes) -> list[str]:
    """The names of a tar's entries, in order."""
    return [entry.name for entry in members(data)]


def content(data: bytes, name: str) -> bytes:
    """The bytes of one file of a tar."""
    with tarfile.open(fileobj=io.BytesIO(data), errors="surrogateescape") as archive:
        file = archive.extractfile(name)
        assert file is not None, name
        return file.read()


def read(engine: Engine, container: str, path: str | bytes) -> bytes:
    """The content of one file of a container, links followed."""
    info, data = copy_from(engine, container, path, follow_link=True)
    return content(data, info.raw_name.decode(errors="surrogateescape"))
