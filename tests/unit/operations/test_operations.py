"""Operations: they outlive callers, are watched by many, cancelled, repeated by request id, failed by a restart."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from fluytd.clock import SystemClock
from fluytd.errors import EngineStopping, ImageNotFound, OperationNotFound, RequestIdReused
from fluytd.operations.model import (
    LoadedImage,
    LoadResult,
    OperationKind,
    OperationState,
    PullPhase,
    PullProgress,
    PullResult,
)
from fluytd.operations.service import OperationHandle, OperationService
from fluytd.state.db import Database

PULLED = PullResult("docker.io/library/a:1", "sha256:1", "sha256:2", "sha256:3", False, 7)
PULL = OperationKind.PULL_IMAGE


class Flag:
    """A cancel token of Python alone."""

    def __init__(self) -> None:
        self.is_cancelled = False

    def cancel(self) -> None:
        self.is_cancelled = True


async def opened(root: Path, history: int = 10) -> tuple[Database, OperationService]:
    db = Database(root / "state.db", SystemClock(), max_events=1000)
    await db.open()
    service = OperationService(db, SystemClock(), Flag, history=history)
    await service.open()
    return db, service


@pytest.fixture
async def service(tmp_path: Path) -> AsyncIterator[OperationService]:
    db, made = await opened(tmp_path)
    yield made
    await made.close()
    await db.close()


async def done(_handle: OperationHandle) -> PullResult:
    return PULLED


async def until_cancelled(handle: OperationHandle) -> PullResult:
    while True:
        handle.check()
        await asyncio.sleep(0.001)


async def test_an_operation_ends_with_its_result(service: OperationService) -> None:
    begun = await service.begin(PULL, "a", done)
    ended = await service.wait(begun.id)
    assert (ended.state, ended.result, ended.failure) == (OperationState.SUCCEEDED, PULLED, None)


async def test_a_failure_of_the_catalogue_is_kept_as_it_is(service: OperationService) -> None:
    async def fail(_handle: OperationHandle) -> PullResult:
        raise ImageNotFound(reference="a")

    ended = await service.wait((await service.begin(PULL, "a", fail)).id)
    assert ended.state is OperationState.FAILED
    assert ended.failure
    assert (ended.failure.reason, ended.failure.metadata) == ("IMAGE_NOT_FOUND", {"reference": "a"})


async def test_anything_unexpected_becomes_an_incident(service: OperationService) -> None:
    async def fail(_handle: OperationHandle) -> PullResult:
        raise RuntimeError("secret detail")

    ended = await service.wait((await service.begin(PULL, "a", fail)).id)
    assert ended.failure
    assert ended.failure.reason == "UNEXPECTED"
    assert "secret" not in ended.failure.message


async def test_cancelling_ends_the_work_and_tells_so(service: OperationService) -> None:
    begun = await service.begin(PULL, "a", until_cancelled)
    asked = await service.cancel(begun.id)
    assert asked.is_cancel_requested
    ended = await service.wait(begun.id)
    assert ended.state is OperationState.CANCELLED
    assert (await service.cancel(begun.id)).state is OperationState.CANCELLED


async def test_many_watch_one_and_each_sees_the_end(service: OperationService) -> None:
    gate = asyncio.Event()

    async def work(handle: OperationHandle) -> PullResult:
        handle.update(PullProgress(PullPhase.FETCHING))
        await gate.wait()
        return PULLED

    begun = await service.begin(PULL, "a", work)

    async def follow() -> list[OperationState]:
        return [operation.state async for operation in service.watch(begun.id)]

    watchers = [asyncio.create_task(follow()) for _ in range(5)]
    await asyncio.sleep(0.01)
    gate.set()
    for states in await asyncio.gather(*watchers):
        assert states[-1] is OperationState.SUCCEEDED


async def test_a_watch_may_go_on_after_a_number(service: OperationService) -> None:
    begun = await service.begin(PULL, "a", done)
    ended = await service.wait(begun.id)
    seen = [operation.sequence async for operation in service.watch(begun.id, ended.sequence - 1)]
    assert seen == [ended.sequence]
    assert [operation async for operation in service.watch(begun.id, ended.sequence)] == []


async def test_progress_is_sampled_when_someone_looks(service: OperationService) -> None:
    gate = asyncio.Event()
    counter = [0]

    async def work(handle: OperationHandle) -> PullResult:
        handle.track(lambda: PullProgress(PullPhase.FETCHING, f"sha256:{counter[0]}"))
        await gate.wait()
        return PULLED

    begun = await service.begin(PULL, "a", work)
    await asyncio.sleep(0)
    first = service.get(begun.id)
    counter[0] = 1
    second = service.get(begun.id)
    assert second.sequence > first.sequence
    assert service.get(begun.id).sequence == second.sequence
    gate.set()


async def test_a_request_id_gives_the_first_operation(service: OperationService) -> None:
    first = await service.begin(PULL, "a", done, request_id="r")
    second = await service.begin(PULL, "a", done, request_id="r")
    assert first.id == second.id
    with pytest.raises(RequestIdReused):
        await service.begin(PULL, "b", done, request_id="r")


async def test_two_repeats_at_once_begin_one_operation(service: OperationService) -> None:
    both = await asyncio.gather(*[service.begin(PULL, "a", done, request_id="r") for _ in range(2)])
    assert len({operation.id for operation in both}) == 1


async def test_a_restart_fails_what_ran_and_keeps_what_ended(tmp_path: Path) -> None:
    db, service = await opened(tmp_path)
    loaded = LoadResult((LoadedImage("sha256:1", "sha256:2", ("a", "b")),))

    async def load(_handle: OperationHandle) -> LoadResult:
        return loaded

    ended = await service.wait((await service.begin(OperationKind.LOAD_IMAGES, "archive", load)).id)
    running = await service.begin(PULL, "a", until_cancelled, request_id="r")
    await service.close()
    with pytest.raises(EngineStopping):
        await service.begin(PULL, "a", done)
    await db.close()

    db, service = await opened(tmp_path)
    assert service.get(ended.id).result == loaded
    failed = service.get(running.id)
    assert failed.failure
    assert (failed.state, failed.failure.reason) == (OperationState.FAILED, "ENGINE_RESTARTED")
    assert (await service.begin(PULL, "a", done, request_id="r")).id == running.id
    await db.close()


async def test_ended_operations_are_kept_up_to_a_bound(tmp_path: Path) -> None:
    db, service = await opened(tmp_path, history=3)
    ids = []
    for _ in range(6):
        ids.append((await service.begin(PULL, "a", done)).id)
        await service.wait(ids[-1])
    await service.close()
    assert len(service.list()) == 3
    with pytest.raises(OperationNotFound):
        service.get(ids[0])
    count = await db.read(lambda txn: txn.one("SELECT count(*) FROM operations"))
    assert count == (3,)
    await db.close()
