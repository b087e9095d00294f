"""What a caller sends as a stream, and when a call may be answered."""

import asyncio
from collections.abc import AsyncIterator

import grpc
import pytest

from fluytd.api.uploads import whole


class Headers:
    """A call whose headers are out when a test says so."""

    def __init__(self) -> None:
        self.begun, self.out = asyncio.Event(), asyncio.Event()
        self.failure: Exception | None = None

    async def send_initial_metadata(self, _: object) -> None:
        self.begun.set()
        await self.out.wait()
        if self.failure is not None:
            raise self.failure


async def two() -> AsyncIterator[int]:
    """A caller that sends two messages."""
    yield 1
    yield 2


async def read(context: Headers) -> list[int]:
    """All that comes."""
    return [message async for message in whole(two(), context)]


async def test_it_ends_once_the_headers_are_out() -> None:
    context = Headers()
    reading = asyncio.ensure_future(read(context))
    await context.begun.wait()
    assert not reading.done()
    context.out.set()
    assert await reading == [1, 2]


async def test_a_caller_that_went_away_is_told_by_headers_that_cannot_be_sent() -> None:
    context = Headers()
    context.failure = grpc.aio.UsageError()
    context.out.set()
    with pytest.raises(asyncio.CancelledError):
        await read(context)


async def test_who_reads_no_longer_waits_until_the_headers_are_out() -> None:
    context = Headers()
    reading = asyncio.ensure_future(read(context))
    await context.begun.wait()
    reading.cancel()
    done, _ = await asyncio.wait({reading}, timeout=0.05)
    assert not done
    context.out.set()
    with pytest.raises(asyncio.CancelledError):
        await reading
