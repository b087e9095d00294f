"""Loading and importing on fakes: each layer once, all or nothing; the file outlives its caller, not its work."""

import asyncio
import os
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, cast

import pytest

from fluytd.errors import Cancelled, LayerRejected, LimitExceeded
from fluytd.ids import Digest, ImageReference
from fluytd.images.imports import ImportOptions
from fluytd.images.load import LoadOptions
from fluytd.images.service import ImageService
from fluytd.images.spool import Received
from fluytd.operations.model import LoadProgress, LoadResult, OperationState
from tests.support import image_files, images, tarball
from tests.support.fakes.images import FakeHolders, until
from tests.unit.images.conftest import LAYERS_AT_ONCE, World
from tests.unit.images.test_pull import REJECTED, handle, image_of


@pytest.fixture
def archive_of(tmp_path: Path) -> "Files":
    return Files(tmp_path)


class Files:
    """Archives as open files."""

    def __init__(self, root: Path) -> None:
        self._root = root

    def __call__(self, data: bytes) -> Received:
        path = self._root / "archive"
        path.write_bytes(data)
        return Received(os.open(path, os.O_RDONLY | os.O_CLOEXEC), len(data), Digest.of(data))


def open_count() -> int:
    return sum(1 for _ in Path("/proc/self/fd").iterdir())


def is_open(fd: int) -> bool:
    try:
        os.fstat(fd)
    except OSError:
        return False
    return True


async def load(world: World, archive: Received) -> LoadResult:
    return await world.loader.load(archive.fd, LoadOptions(), handle())


async def test_all_images_become_visible_at_once(world: World, archive_of: Files) -> None:
    first, second = image_of("a", "b"), image_of("b", "c", cmd=["x"])
    archive = archive_of(image_files.docker_archive({"first:1": first, "second:1": second}))
    result = await load(world, archive)
    assert world.log == ["blobs", "layers", "index"]
    assert [one.image_id for one in result.images] == [first.config_digest, second.config_digest]
    assert not world.blobs.staged
    assert not world.layers.staged
    archive.close()


async def test_layers_are_stored_side_by_side_and_one_of_the_same_place_once(world: World, archive_of: Files) -> None:
    image = image_of("x", "a", "b", "c", "x")
    for name in ("a", "b", "c"):
        world.ingester.gates[images.layer(tarball.file("f", name), compression="none").digest] = asyncio.Event()
    archive = archive_of(image_files.docker_archive({"app:1": image}))
    loading = asyncio.ensure_future(load(world, archive))
    await until(lambda: world.ingester.running == LAYERS_AT_ONCE)
    for gate in world.ingester.gates.values():
        gate.set()
    await loading
    assert world.ingester.most_running == LAYERS_AT_ONCE
    (found,) = world.catalogue.table
    assert [layer.diff_id for layer in found.layers] == image.diff_ids
    archive.close()


async def test_a_failure_waits_for_those_who_read_and_leaves_nothing(world: World, archive_of: Files) -> None:
    image = image_of("slow", "bad")
    world.ingester.gates[image.layers[0].digest] = asyncio.Event()
    world.ingester.failures[image.layers[1].digest] = [REJECTED]
    archive = archive_of(image_files.docker_archive({"app:1": image}))
    with pytest.raises(LayerRejected):
        await load(world, archive)
    assert world.ingester.running == 0
    assert world.is_empty
    archive.close()


async def test_a_cancelled_load_leaves_nothing(world: World, archive_of: Files) -> None:
    image = image_of("slow")
    world.ingester.gates[image.layers[0].digest] = asyncio.Event()
    archive, held = archive_of(image_files.docker_archive({"app:1": image})), handle()
    loading = asyncio.ensure_future(world.loader.load(archive.fd, LoadOptions(), held))
    await until(lambda: world.ingester.running)
    held.cancel()
    with pytest.raises(Cancelled):
        await loading
    assert (world.ingester.running, world.is_empty) == (0, True)
    archive.close()


async def test_progress_counts_what_was_received(world: World, archive_of: Files) -> None:
    archive, held = archive_of(image_files.docker_archive({"app:1": image_of("a")})), handle()
    await world.loader.load(archive.fd, LoadOptions(), held)
    progress = held.progress
    assert isinstance(progress, LoadProgress)
    assert (progress.received_bytes, progress.references) == (
        archive.size_bytes,
        ("docker.io/library/app:1",),
    )
    archive.close()


def service(world: World) -> ImageService:
    unused = cast(Any, None)
    return ImageService(
        world.catalogue,
        world.operations,
        world.lookup,
        world.puller,
        unused,
        world.loader,
        world.importer,
        unused,
        unused,
        world.collector,
        FakeHolders(),
        unused,
        unused,
    )


async def test_a_load_goes_on_when_its_caller_goes(world: World, archive_of: Files) -> None:
    image = image_of("slow")
    gate = world.ingester.gates[image.layers[0].digest] = asyncio.Event()
    archive = archive_of(image_files.docker_archive({"app:1": image}))
    calling = asyncio.ensure_future(service(world).load(archive, LoadOptions()))
    await until(lambda: world.ingester.running)
    calling.cancel()
    with pytest.raises(asyncio.CancelledError):
        await calling
    assert is_open(archive.fd)
    gate.set()
    (operation,) = world.operations.list()
    ended = await world.operations.wait(operation.id)
    assert ended.state is OperationState.SUCCEEDED
    assert not is_open(archive.fd)
    assert world.catalogue.table.find("app:1")[0].id == image.config_digest


async def test_a_load_that_fails_raises_its_failure_and_closes_the_archive(world: World, archive_of: Files) -> None:
    image = image_of("bad")
    world.ingester.failures[image.layers[0].digest] = [REJECTED]
    archive = archive_of(image_files.docker_archive({"app:1": image}))
    with pytest.raises(LayerRejected) as refused:
        await service(world).load(archive, LoadOptions())
    assert refused.value.metadata == REJECTED.metadata
    assert not is_open(archive.fd)


async def test_an_import_that_fails_leaves_nothing_and_one_that_succeeds_one_layer(
    world: World, archive_of: Files
) -> None:
    tar = tarball.write_tar([tarball.file("f", "x")])
    options = ImportOptions(ImageReference.parse("app"), world.host, {"User": "7"}, "remark")
    world.ingester.failures[Digest.of(tar)] = [REJECTED]
    with pytest.raises(LayerRejected):
        await service(world).import_rootfs(archive_of(tar), options)
    assert world.is_empty
    await service(world).import_rootfs(archive_of(tar), options)
    (found,) = world.catalogue.table
    assert (found.config.user, [layer.diff_id for layer in found.layers]) == ("7", [Digest.of(tar)])
    assert found.config.history[0].comment == "remark"


async def parts(*data: bytes) -> AsyncIterator[bytes]:
    for one in data:
        yield one


async def test_what_is_received_is_whole_and_has_its_digest(world: World) -> None:
    received = await world.spool.receive(parts(b"a" * 1000, b"", b"b"), "load")
    assert os.pread(received.fd, 2000, 0) == b"a" * 1000 + b"b"
    assert (received.size_bytes, received.digest) == (1001, Digest.of(b"a" * 1000 + b"b"))
    received.close()
    received.close()
    assert not is_open(received.fd)


async def test_an_archive_above_the_limit_is_refused_with_its_name(world: World) -> None:
    with pytest.raises(LimitExceeded) as refused:
        await world.spool.receive(parts(b"x" * (1 << 20), b"y"), "load")
    assert refused.value.metadata["limit"] == "load_max_bytes"
    assert refused.value.metadata["limit_value"] == str(1 << 20)


async def test_a_caller_that_breaks_off_leaves_no_descriptor(world: World) -> None:
    async def broken() -> AsyncIterator[bytes]:
        yield b"x"
        raise ConnectionResetError

    before = open_count()
    with pytest.raises(ConnectionResetError):
        await world.spool.receive(broken(), "load")
    assert open_count() == before
