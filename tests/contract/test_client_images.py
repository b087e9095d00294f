"""What the Python client leaves of an archive that does not come whole."""

import asyncio
import hashlib
import io
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import grpc
import pytest

from fluyt import channel, errors, images
from fluyt.v1 import images_pb2, images_pb2_grpc
from fluytd.errors import ImageNotFound
from tests.contract.edge import serving

CONTENT = b"abc"
DIGEST = f"sha256:{hashlib.sha256(CONTENT).hexdigest()}"


class Images(images_pb2_grpc.ImageServiceServicer):
    async def SaveImages(self, request: Any, context: Any) -> AsyncIterator[Any]:  # noqa: N802
        [name] = request.images
        if name == "absent":
            raise ImageNotFound(reference=name)
        yield images_pb2.SaveImagesResponse(chunk=b"abd" if name == "other" else CONTENT)
        if name != "cut":
            size = 4 if name == "short" else 3
            yield images_pb2.SaveImagesResponse(complete=images_pb2.SaveComplete(size_bytes=size, digest=DIGEST))


async def _save(directory: Path, name: str, target: Path | io.BytesIO) -> images_pb2.SaveComplete:
    def on_thread() -> images_pb2.SaveComplete:
        with channel.connect(f"unix://{directory}/s.sock") as connection:
            return images.save(connection, [name], target)

    async with serving(directory, [Images()]):
        return await asyncio.to_thread(on_thread)


async def test_a_saved_file_appears_whole_and_replaces_an_older_one(tmp_path: Path) -> None:
    target = tmp_path / "out" / "a.tar"
    target.parent.mkdir()
    target.write_bytes(b"old")
    assert (await _save(tmp_path, "good", target)).digest == DIGEST
    assert target.read_bytes() == CONTENT
    assert [path.name for path in target.parent.iterdir()] == ["a.tar"]
    memory = io.BytesIO()
    await _save(tmp_path, "good", memory)
    assert memory.getvalue() == CONTENT


@pytest.mark.parametrize(
    ("name", "failure"),
    [
        ("cut", errors.DataCorrupt),
        ("short", errors.DataCorrupt),
        ("other", errors.DataCorrupt),
        ("absent", errors.NotFound),
    ],
)
async def test_a_save_that_fails_leaves_the_older_file(tmp_path: Path, name: str, failure: type[Exception]) -> None:
    target = tmp_path / "out" / "a.tar"
    target.parent.mkdir()
    target.write_bytes(b"old")
    with pytest.raises(failure):
        await _save(tmp_path, name, target)
    assert target.read_bytes() == b"old"
    assert [path.name for path in target.parent.iterdir()] == ["a.tar"]
    with pytest.raises(failure):
        await _save(tmp_path, name, io.BytesIO())


async def test_a_save_into_an_absent_directory_is_the_callers_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        await _save(tmp_path, "good", tmp_path / "absent" / "a.tar")
    with pytest.raises(errors.FluytError) as caught, grpc.insecure_channel(f"unix:{tmp_path}/none.sock") as connection:
        images.save(connection, ["good"], io.BytesIO())
    assert isinstance(caught.value, errors.Unavailable)
