"""The store of contexts over the real core: what is kept in memory, and what is looked at again."""

import hashlib
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import blake3
import pytest

from fluytd._core import CancelToken, build
from fluytd.builds.ports import OfferedEntry
from fluytd.builds.store import CoreContexts
from fluytd.errors import BuildSourceNotFound, ContextIncomplete, ContextNotFound
from fluytd.workers import Workers

ID = hashlib.md5(b"a context", usedforsecurity=False).hexdigest()


@asynccontextmanager
async def stores(root: Path, count: int = 1) -> AsyncIterator[list[CoreContexts]]:
    """Stores over the same folder, each opened after the one before."""
    workers = Workers(2, 2)
    try:
        yield [CoreContexts(root, 1 << 30, workers) for _ in range(count)]
    finally:
        workers.close()


def entry(path: bytes, data: bytes) -> OfferedEntry:
    """A file of one chunk."""
    return OfferedEntry(path, "file", 0o644, 0, 0, 1, 0, b"", blake3.blake3(data).digest(), len(data))


def selection(tree: object, pattern: bytes, *, is_required: bool = True) -> build.Selection:
    """What a COPY of it takes."""
    assert isinstance(tree, build.FileTree)
    return tree.select(pattern, is_required, b"", None, CancelToken())


async def uploaded(store: CoreContexts, *files: tuple[bytes, bytes]) -> None:
    """The context is whole."""
    await store.offer(ID, [entry(path, data) for path, data in files])
    await store.put([data for _, data in files])
    assert await store.missing(ID) == b""


async def test_a_context_is_looked_through_once_for_each_thing_that_is_copied(tmp_path: Path) -> None:
    async with stores(tmp_path) as (store,):
        await uploaded(store, (b"d/a", b"one"), (b"d/b", b"two"))
        first = selection(await store.open(ID), b"d")
        digest = first.digest(CancelToken())
        again = selection(await store.open(ID), b"d")
        found = [first.is_found, again.is_found]
        assert again.digest(CancelToken()) == digest
        found.append(again.is_found)
        assert again.entry_count == 3
        assert [*found, again.is_found] == [True, False, False, True]
        assert selection(await store.open(ID), b"d/a").is_found
        with pytest.raises(BuildSourceNotFound):
            selection(await store.open(ID), b"absent")
        # What is not required is another question than what is.
        assert selection(await store.open(ID), b"absent", is_required=False).digest(CancelToken())
        with pytest.raises(BuildSourceNotFound):
            selection(await store.open(ID), b"absent")


async def test_a_context_that_grows_is_another_one_in_memory_too(tmp_path: Path) -> None:
    async with stores(tmp_path) as (store,):
        await uploaded(store, (b"a", b"one"))
        before = selection(await store.open(ID), b"/").digest(CancelToken())
        await uploaded(store, (b"b", b"two"))
        after = selection(await store.open(ID), b"/")
        assert after.is_found
        assert after.digest(CancelToken()) != before


async def test_a_later_daemon_knows_the_context_by_its_id_alone(tmp_path: Path) -> None:
    async with stores(tmp_path, 2) as (first, _):
        await uploaded(first, (b"a", b"one"))
        digest = selection(await first.open(ID), b"a").digest(CancelToken())
    async with stores(tmp_path) as (store,):
        saved = (tmp_path / "contexts" / "trees" / ID).stat()
        assert await store.missing(ID) == b""
        assert selection(await store.open(ID), b"a").digest(CancelToken()) == digest
        # It was not written again, only used.
        assert (tmp_path / "contexts" / "trees" / ID).stat().st_ino == saved.st_ino


async def test_chunks_and_contexts_that_are_gone_are_missed_although_the_context_was_in_memory(tmp_path: Path) -> None:
    async with stores(tmp_path) as (store,):
        await uploaded(store, (b"a", b"one"))
        tree = await store.open(ID)
        await store.expire(0)
        for call in (store.missing, store.open):
            with pytest.raises(ContextNotFound):
                await call(ID)
        await store.offer(ID, [entry(b"a", b"one")])
        assert await store.missing(ID) == blake3.blake3(b"one").digest()
        with pytest.raises(ContextIncomplete):
            await store.open(ID)
        assert selection(tree, b"a").digest(CancelToken())


async def test_a_context_that_is_being_offered_is_no_builds_yet(tmp_path: Path) -> None:
    async with stores(tmp_path) as (store,):
        await store.offer(ID, [entry(b"a", b"one")])
        with pytest.raises(ContextNotFound):
            await store.open(ID)


async def test_a_build_that_uses_a_context_in_memory_keeps_it_on_disk(tmp_path: Path) -> None:
    async with stores(tmp_path) as (store,):
        await uploaded(store, (b"a", b"one"))
        path = tmp_path / "contexts" / "trees" / ID
        for use in (store.missing, store.open):
            os.utime(path, (1, 1))
            await use(ID)
            assert path.stat().st_mtime > 1


async def test_what_an_upload_that_broke_off_has_offered_goes_when_the_last_one_has_left(tmp_path: Path) -> None:
    async with stores(tmp_path) as (store,):
        with store.uploading(ID):
            with store.uploading(ID):
                await store.offer(ID, [entry(b"a", b"one")])
            await store.offer(ID, [entry(b"b", b"two")])
            assert len(await store.missing(ID)) == 2 * 32
        with store.uploading(ID):
            await store.offer(ID, [entry(b"c", b"three")])
        # What was on disk before is there still.
        assert len(await store.missing(ID)) == 2 * 32
        other = hashlib.md5(b"another", usedforsecurity=False).hexdigest()
        with store.uploading(other):
            await store.offer(other, [entry(b"a", b"one")])
        with pytest.raises(ContextNotFound):
            await store.missing(other)
