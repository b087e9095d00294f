"""Callers that open all they can: connections, streams, processes. Limits hold by name, and others are answered."""

import asyncio
import contextlib
import socket
import time

import grpc
import pytest

from fluyt.v1 import events_pb2, events_pb2_grpc
from fluytd.api.server import MAX_STREAMS_PER_CONNECTION
from tests.e2e.containers.steps import delete, refusal
from tests.e2e.execs import steps as execs
from tests.e2e.execs.test_load import held, memory
from tests.security.floods.others import Others, descriptors_return
from tests.support.engine import Engine

STREAMS = 10_000
CHANNELS = 4
CONNECTIONS = 2_000
EXECS = 150
MIB = 1024 * 1024


async def hold_streams(engine: Engine, seconds: float) -> tuple[int, set[str]]:
    """(how many of STREAMS watches answered, how those ended that did not stay) on CHANNELS connections."""
    ended: set[str] = set()
    answered = 0
    options = [("grpc.use_local_subchannel_pool", 1)]
    async with contextlib.AsyncExitStack() as stack:
        stubs = []
        for _ in range(CHANNELS):
            channel = grpc.aio.insecure_channel(f"unix:{engine.root}/run/fluytd.sock", options)
            stubs.append(events_pb2_grpc.EventServiceStub(await stack.enter_async_context(channel)))

        async def watch(number: int) -> None:
            nonlocal answered
            call = stubs[number % CHANNELS].WatchEvents(events_pb2.WatchEventsRequest())
            try:
                while await call.read() is not grpc.aio.EOF:
                    answered += 1
                    await asyncio.sleep(seconds)
            except grpc.RpcError as error:
                ended.add(error.code().name)
            finally:
                call.cancel()

        tasks = [asyncio.create_task(watch(number)) for number in range(STREAMS)]
        await asyncio.sleep(seconds)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    return answered, ended


@pytest.mark.timeout(180)
def test_ten_thousand_streams_of_one_caller(engine: Engine) -> None:
    before, open_before = memory(engine), held(engine)
    with Others(engine):
        answered, ended = asyncio.run(hold_streams(engine, 5))
        # The rest waits with the caller; nobody's call is cancelled.
        assert 0 < answered <= CHANNELS * MAX_STREAMS_PER_CONNECTION
        assert ended == set()
    descriptors_return(engine, open_before)
    assert memory(engine) - before < 128 * MIB


def test_thousands_of_connections(engine: Engine) -> None:
    open_before = held(engine)
    with contextlib.ExitStack() as stack, Others(engine):
        for _ in range(CONNECTIONS):
            one = stack.enter_context(socket.socket(socket.AF_UNIX))
            one.settimeout(5)
            one.connect(f"{engine.root}/run/fluytd.sock")
        time.sleep(1)
    descriptors_return(engine, open_before)


def test_more_processes_at_once_than_may_be_are_refused_by_the_limits_name(engine: Engine) -> None:
    container = execs.stays(engine)
    before = held(engine)
    refused = []
    with contextlib.ExitStack() as stack, Others(engine):
        for _ in range(EXECS):
            caller = execs.Caller(engine, container, "sleep", "1000")
            stack.callback(caller.responses.cancel)
            stack.callback(caller.half_close)
            try:
                caller.started()
            except grpc.RpcError as error:
                refused.append(refusal(error))
    assert {(told[1], told[2].get("limit")) for told in refused} == {("LIMIT_EXCEEDED", "MAX_EXECS_PER_CONTAINER")}
    delete(engine, container, force=True)
    descriptors_return(engine, before)
