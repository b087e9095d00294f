"""Streams to callers that go away."""

import asyncio
import logging
from collections.abc import AsyncIterator
from typing import Any

import grpc
import pytest

from fluytd.api.calls import Wrapper
from fluytd.api.gate import Gate


class Gone:
    """A call whose caller went away after the first message, before anybody was told."""

    def __init__(self) -> None:
        self.written: list[object] = []
        self.aborts = 0

    async def write(self, response: object) -> None:
        if self.written:
            raise grpc.aio.InternalError
        self.written.append(response)

    async def abort(self, *_: object) -> None:
        self.aborts += 1
        raise grpc.aio.AbortError


async def test_a_message_to_a_caller_that_has_gone_ends_the_stream_as_its_cancellation(
    caplog: pytest.LogCaptureFixture,
) -> None:
    ended: list[str] = []

    async def body(_: Any, __: Any) -> AsyncIterator[int]:
        try:
            yield 1
            yield 2
            yield 3
        finally:
            ended.append("closed")

    gate, context = Gate(), Gone()
    gate.open()
    with caplog.at_level(logging.WARNING), pytest.raises(asyncio.CancelledError):
        await Wrapper(gate, None, None)._stream("/x/Y", body)(None, context)
    assert (context.written, context.aborts, ended, caplog.records) == ([1], 0, ["closed"], [])
