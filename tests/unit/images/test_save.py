"""Sending an archive: what is held while it is sent, and what a caller that goes leaves."""

import asyncio
import os
from contextlib import aclosing
from pathlib import Path
from typing import BinaryIO

import pytest

from fluytd.errors import DigestMismatch, IoFailed
from fluytd.gc.collect import Collector
from fluytd.gc.leases import Leases
from fluytd.ids import Digest
from fluytd.images.model import Image
from fluytd.images.save import Saver, Sent
from fluytd.workers import Workers
from tests.support.fakes.images import until
from tests.unit.images.conftest import World
from tests.unit.images.test_catalogue import add, image


class Files:
    """Blobs as files of zeros, of the sizes that the image says; none has its digest."""

    def __init__(self, root: Path, one: Image) -> None:
        self._root = root
        self._sizes = one.blob_sizes
        self.opened: list[BinaryIO] = []

    def open_file(self, digest: Digest) -> BinaryIO:
        path = self._root / digest.hex
        path.write_bytes(bytes(self._sizes[digest]))
        self.opened.append(path.open("rb", buffering=0))
        return self.opened[-1]


async def saver_of(world: World, files: Files, one: Image, leases: Leases) -> Saver:
    """A saver over a world in which the image's blobs are visible."""
    for digest in one.blob_sizes:
        world.blobs.visible[digest] = b""
    await add(world.catalogue, one, "app:1")
    collector = Collector(world.blobs, world.layers, leases, world.catalogue, ingest_max_age_seconds=60)
    return Saver(world.blobs, files, world.catalogue, leases, collector, Workers(1, 1))


async def drained(saver: Saver) -> None:
    """The whole archive is taken, which does not come to its end."""
    async with aclosing(saver.save(["app:1"], [])) as parts:
        async for part in parts:
            assert not isinstance(part, Sent)


async def test_a_caller_that_is_cancelled_twice_leaves_nothing_of_a_deleted_image(world: World, tmp_path: Path) -> None:
    one, leases = image(1, "a"), Leases()
    files = Files(tmp_path, one)
    saver = await saver_of(world, files, one, leases)
    waiting = asyncio.Event()

    hold, delete = leases.hold, world.blobs.delete

    async def slow_delete(digest: Digest) -> int:
        await asyncio.sleep(0.01)
        return await delete(digest)

    async def slow_hold(resource: str) -> None:
        await hold(resource)
        waiting.set()
        await asyncio.sleep(3600)

    leases.hold = slow_hold  # type: ignore[method-assign]
    world.blobs.delete = slow_delete  # type: ignore[method-assign]
    task = asyncio.create_task(drained(saver))
    await waiting.wait()
    await world.catalogue.remove(one.id, True, 0, "root")
    task.cancel()
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await until(lambda: not world.blobs.visible)
    assert not any(leases.is_held(digest) for digest in one.blob_sizes)


async def test_a_blob_with_another_digest_fails_the_archive_and_closes_its_file(world: World, tmp_path: Path) -> None:
    one, leases = image(1, "a"), Leases()
    files = Files(tmp_path, one)
    saver = await saver_of(world, files, one, leases)
    with pytest.raises(DigestMismatch):
        await drained(saver)
    assert all(file.closed for file in files.opened)
    assert set(world.blobs.visible) == set(one.blob_sizes)
    assert not any(leases.is_held(digest) for digest in one.blob_sizes)


async def test_a_disk_that_does_not_read_is_told_as_such(world: World, tmp_path: Path) -> None:
    one, leases = image(1, "a"), Leases()

    class Failing(Files):
        def open_file(self, digest: Digest) -> BinaryIO:
            file = super().open_file(digest)
            # Reading from it is EBADF; its size can still be told.
            writable = os.open(file.name, os.O_WRONLY)
            os.dup2(writable, file.fileno())
            os.close(writable)
            return file

    saver = await saver_of(world, Failing(tmp_path, one), one, leases)
    with pytest.raises(IoFailed) as failed:
        await drained(saver)
    assert failed.value.metadata["operation"] == "read"
