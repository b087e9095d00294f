"""A request with an id gets one answer."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from fluytd.clock import SystemClock
from fluytd.errors import FieldInvalid, ImageNotFound, RequestIdReused
from fluytd.requests.service import ANSWER_LIFETIME_NANOS, MAX_REQUEST_ID_CHARS, RequestService
from fluytd.state.db import Database

METHOD = "/fluyt.v1.ContainerService/CreateContainer"


class Hands(SystemClock):
    """A clock that the test turns."""

    def __init__(self) -> None:
        self.now = 1_000_000_000_000_000_000

    def now_unix_nanos(self) -> int:
        return self.now


class Work:
    """Counts how often it is done."""

    def __init__(self, *, fails: int = 0) -> None:
        self.count = 0
        self.fails = fails
        self.begun = asyncio.Event()
        self.gate = asyncio.Event()
        self.gate.set()

    async def __call__(self) -> bytes:
        self.count += 1
        self.begun.set()
        await self.gate.wait()
        if self.count <= self.fails:
            raise ImageNotFound(reference="x")
        return b"answer %d" % self.count


@pytest.fixture
async def database(tmp_path: Path) -> AsyncIterator[Database]:
    database = Database(tmp_path / "state.db", SystemClock(), max_events=100)
    await database.open()
    yield database
    await database.close()


async def test_a_retry_gets_the_first_answer(database: Database) -> None:
    service, work = RequestService(database, SystemClock()), Work()
    first = await service.answer("id", METHOD, b"d", work)
    assert await service.answer("id", METHOD, b"d", work) == first == b"answer 1"
    assert work.count == 1


async def test_an_answer_outlives_the_daemon(database: Database) -> None:
    await RequestService(database, SystemClock()).answer("id", METHOD, b"d", Work())
    again = Work()
    assert await RequestService(database, SystemClock()).answer("id", METHOD, b"d", again) == b"answer 1"
    assert again.count == 0


@pytest.mark.parametrize(("method", "digest"), [(METHOD, b"other"), ("/fluyt.v1.ImageService/TagImage", b"d")])
async def test_an_id_stands_for_one_request(database: Database, method: str, digest: bytes) -> None:
    service = RequestService(database, SystemClock())
    await service.answer("id", METHOD, b"d", Work())
    with pytest.raises(RequestIdReused):
        await service.answer("id", method, digest, Work())


async def test_an_id_in_flight_stands_for_one_request_too(database: Database) -> None:
    service, work = RequestService(database, SystemClock()), Work()
    work.gate.clear()
    first = asyncio.create_task(service.answer("id", METHOD, b"d", work))
    await asyncio.sleep(0)
    with pytest.raises(RequestIdReused):
        await service.answer("id", METHOD, b"other", Work())
    second = asyncio.create_task(service.answer("id", METHOD, b"d", work))
    work.gate.set()
    assert await first == await second == b"answer 1"
    assert work.count == 1


async def test_a_caller_that_goes_leaves_the_answer_for_its_retry(database: Database) -> None:
    service, work = RequestService(database, SystemClock()), Work()
    work.gate.clear()
    caller = asyncio.create_task(service.answer("id", METHOD, b"d", work))
    await work.begun.wait()
    caller.cancel()
    with pytest.raises(asyncio.CancelledError):
        await caller
    work.gate.set()
    assert await service.answer("id", METHOD, b"d", work) == b"answer 1"


async def test_a_failure_is_not_kept(database: Database) -> None:
    service, work = RequestService(database, SystemClock()), Work(fails=1)
    with pytest.raises(ImageNotFound):
        await service.answer("id", METHOD, b"d", work)
    assert await service.answer("id", METHOD, b"d", work) == b"answer 2"


async def test_answers_are_forgotten_in_the_end(database: Database) -> None:
    clock, work = Hands(), Work()
    service = RequestService(database, clock)
    await service.answer("id", METHOD, b"d", work)
    clock.now += ANSWER_LIFETIME_NANOS + 1
    assert await service.answer("id", METHOD, b"other", work) == b"answer 2"


@pytest.mark.parametrize("text", ["", "x" * (MAX_REQUEST_ID_CHARS + 1), "a\nb", "ä"])
async def test_a_malformed_id_is_refused(database: Database, text: str) -> None:
    with pytest.raises(FieldInvalid) as caught:
        await RequestService(database, SystemClock()).answer(text, METHOD, b"d", Work())
    assert caught.value.field == "request_id"
