"""Cache mounts that are read for a cache elsewhere, and filled from one."""

import asyncio
import io
import tarfile
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import cast

import pytest

from fluytd._core import CancelToken, host, volume
from fluytd.builds.dockerfile.origins import CacheMount, Scratch
from fluytd.builds.mounts import MountUse, StepMounts
from fluytd.builds.ports import Trees
from fluytd.errors import LimitExceeded
from fluytd.images.platforms import Platform
from fluytd.workers import Workers

Work = Callable[[StepMounts], Awaitable[None]]


@pytest.fixture
def run(tmp_path: Path) -> Callable[[Work], None]:
    """Runs work with the mounts of an engine; nothing in these tests begins with files of a stage."""

    async def all_of_it(work: Work) -> None:
        workers = Workers(2, 2)
        mounts = StepMounts(tmp_path / "data", tmp_path / "run", cast("Trees", None), workers, host.remove_tree)
        await asyncio.wait_for(work(mounts), 30)

    return lambda work: asyncio.run(all_of_it(work))


def _mount(sharing: str = "shared") -> CacheMount:
    return CacheMount("one", "/c", Scratch(Platform("linux", "amd64")), sharing=sharing)  # type: ignore[arg-type]


def _write(directory: str, name: str) -> None:
    Path(directory, name).write_text(name)


def _list(directory: str) -> list[str]:
    return sorted(path.name for path in Path(directory).iterdir())


async def _restore(name: str, directory: str) -> bool:
    _write(directory, "restored")
    return True


async def _broken(name: str, directory: str) -> bool:
    _write(directory, "half")
    return False


async def _names(mounts: StepMounts) -> list[str]:
    async with mounts.held(MountUse("one", "shared")) as directory:
        return [] if directory is None else _list(directory)


def test_one_is_filled_where_it_is_absent_or_empty_only(run: Callable[[Work], None]) -> None:
    async def work(mounts: StepMounts) -> None:
        use, token = MountUse("one", "shared"), CancelToken()
        async with mounts.held(use) as directory:
            assert directory is None
        await mounts.fill(_mount(), _broken, token)
        # Nothing of what came before it failed.
        assert await _names(mounts) == []
        async with mounts.held(use) as directory:
            assert directory is not None
            # Somebody has it mounted, and may have begun to write.
            await mounts.fill(_mount(), _restore, token)
            assert await _names(mounts) == []
        await mounts.fill(_mount(), _restore, token)
        assert await _names(mounts) == ["restored"]
        (Path(directory) / "restored").rename(Path(directory) / "own")
        await mounts.fill(_mount(), _restore, token)
        assert await _names(mounts) == ["own"]

    run(work)


def test_locked_ones_are_read_by_one_and_private_ones_by_nobody_beside_a_step(run: Callable[[Work], None]) -> None:
    async def work(mounts: StepMounts) -> None:
        locked, private = MountUse("one", "locked"), MountUse("two", "private")
        async with mounts.held(locked):
            filling = asyncio.ensure_future(mounts.fill(_mount("locked"), _restore, CancelToken()))
            await asyncio.sleep(0.1)
            assert not filling.done()
        await filling
        async with mounts.held(private) as first, mounts.held(private) as second:
            assert (first, second) == (None, None)
        assert mounts.is_in_use(f"{private.name}-0") is False

    run(work)


def test_an_id_without_a_cache_is_forgotten_at_the_next_start(run: Callable[[Work], None], tmp_path: Path) -> None:
    caches = tmp_path / "data" / "build_mounts"
    caches.mkdir(parents=True)
    name = MountUse("one", "shared").name
    (caches / f"{name}.id").write_text("one")
    (caches / f"{name}-0.part").mkdir()
    kept = MountUse("two", "shared").name
    (caches / f"{kept}.id").write_text("two")
    (caches / f"{kept}-0").mkdir()

    async def work(mounts: StepMounts) -> None:
        assert [record.description for record in await mounts.list_caches()] == ["cache mount two"]

    run(work)
    assert sorted(path.name for path in caches.iterdir()) == sorted([f"{kept}-0", f"{kept}.id"])


def test_what_is_unpacked_is_bounded(tmp_path: Path) -> None:
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode="w:gz") as archive:
        member = tarfile.TarInfo("zeros")
        member.size = 1_000_000
        archive.addfile(member, io.BytesIO(bytes(member.size)))
    path, root = tmp_path / "tar", tmp_path / "root"
    path.write_bytes(data.getvalue())
    root.mkdir()
    with pytest.raises(LimitExceeded):
        volume.unpack(str(path), str(root), CancelToken(), 500_000)
    assert volume.unpack(str(path), str(root), CancelToken(), 2_000_000) == (1, 1_000_000)
