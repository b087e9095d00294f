"""Caches of builds in folders of the caller's: OCI layouts that are sent to the engine, and written from it."""

import hashlib
import json
import os
import re
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any, Final, cast

import grpc

from fluyt.builds import upload_context
from fluyt.errors import iterate
from fluyt.v1 import builds_pb2, builds_pb2_grpc

_REF_NAME: Final = "org.opencontainers.image.ref.name"
_HEX: Final = re.compile("[0-9a-f]{64}")
_MAX_PRESENT: Final = 20_000
_PIECE_BYTES: Final = 256 * 1024


def upload(
    connection: grpc.Channel, folder: Path, *, tag: str = "latest", mounts: bool = False
) -> builds_pb2.BuildCacheSource:
    """The cache of this name in the folder, sent as a context is; for `builds.build(cache_sources=…)`.

    Args:
        mounts: cache mounts that are empty are filled from it.

    Raises:
        OSError: the folder has none of this name, or a file cannot be read.
    """
    named = (one for one in _entries(folder) if one.get("annotations", {}).get(_REF_NAME) == tag)
    entry = next(named, None)
    if entry is None:
        raise FileNotFoundError(f"{folder} has no cache {tag}")
    manifest = json.loads((folder / _name(entry["digest"])).read_bytes())
    wanted = {_name(one["digest"]) for one in (entry, manifest["config"], *manifest["layers"])}
    parents = {"blobs", "blobs/sha256"}
    context_id = upload_context(connection, folder, is_ignored=lambda path, _: path not in wanted | parents)
    return builds_pb2.BuildCacheSource(context_id=context_id, manifest_digest=entry["digest"], mounts=mounts)


def save(
    connection: grpc.Channel,
    build_id: str,
    folder: Path,
    *,
    tag: str = "latest",
    spec: builds_pb2.BuildCacheSpec | None = None,
) -> list[str]:
    """The results of a build stand in the folder under this name, beside those of others; returns what was left out.

    Raises:
        NotFound: the build is not known any more (BUILD_CACHE_GONE).
        OSError: the folder cannot be written, or what came is not what was sent.
    """
    blobs = folder / "blobs" / "sha256"
    blobs.mkdir(parents=True, exist_ok=True)
    request = builds_pb2.SaveBuildCacheRequest(
        build_id=build_id, spec=spec, tag=tag, present_digests=list(_present(blobs))[:_MAX_PRESENT]
    )
    parts = _Parts(iterate(builds_pb2_grpc.BuildServiceStub(connection).SaveBuildCache(request)))
    index: dict[str, Any] = {}
    with tarfile.open(fileobj=cast("IO[bytes]", parts), mode="r|") as archive:
        for member in archive:
            source = archive.extractfile(member) if member.isreg() else None
            if source is None:
                continue
            if member.name == "index.json":
                index = json.load(source)
            elif member.name.startswith("blobs/sha256/"):
                _write_blob(source, blobs, member.name.removeprefix("blobs/sha256/"))
    while parts.read(_PIECE_BYTES):
        pass
    if parts.complete is None:
        raise OSError("the engine closed the stream before all of the cache was sent")
    others = [one for one in _entries(folder) if one.get("annotations", {}).get(_REF_NAME) != tag]
    index["manifests"] = [*others, *index["manifests"]]
    _place(folder / "oci-layout", b'{"imageLayoutVersion":"1.0.0"}')
    # Last, so that what it names is there.
    _place(folder / "index.json", json.dumps(index).encode())
    return list(parts.complete.warnings)


class _Parts:
    """What comes from the engine, as a file that is read."""

    def __init__(self, parts: Iterator[builds_pb2.SaveBuildCacheResponse]) -> None:
        self._parts = parts
        self._rest = b""
        self.complete: builds_pb2.SaveBuildCacheComplete | None = None

    def read(self, size: int) -> bytes:
        """Fewer than `size` bytes at the end only."""
        while len(self._rest) < size:
            part = next(self._parts, None)
            if part is None:
                break
            if part.HasField("complete"):
                self.complete = part.complete
            self._rest += part.chunk
        found, self._rest = self._rest[:size], self._rest[size:]
        return found


def _entries(folder: Path) -> list[dict[str, Any]]:
    try:
        document = json.loads((folder / "index.json").read_bytes())
    except FileNotFoundError:
        return []
    return list(document["manifests"])


def _name(digest: str) -> str:
    algorithm, _, value = digest.partition(":")
    if algorithm != "sha256" or _HEX.fullmatch(value) is None:
        raise OSError(f"{digest!r} is no sha256 digest")
    return f"blobs/sha256/{value}"


def _present(blobs: Path) -> Iterator[str]:
    """Digests of blobs that are there, whole: one that is damaged is sent anew."""
    for path in blobs.iterdir():
        if _HEX.fullmatch(path.name):
            with path.open("rb") as file:
                if hashlib.file_digest(file, "sha256").hexdigest() == path.name:
                    yield f"sha256:{path.name}"


def _write_blob(source: IO[bytes], blobs: Path, name: str) -> None:
    part, hasher = blobs / f".{name[:64]}.{os.getpid()}", hashlib.sha256()
    try:
        with part.open("wb") as file:
            while piece := source.read(_PIECE_BYTES):
                hasher.update(piece)
                file.write(piece)
            file.flush()
            os.fsync(file.fileno())
        if hasher.hexdigest() != name:
            raise OSError(f"blob {name!r} did not come as it was sent")
        part.rename(blobs / name)
    finally:
        part.unlink(missing_ok=True)


def _place(path: Path, data: bytes) -> None:
    part = path.with_name(f".{path.name}.{os.getpid()}")
    with part.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    part.rename(path)
