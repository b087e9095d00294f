"""Streams whose first message may be long in coming tell at once that they are served."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from fluyt import builds, operations
from fluyt.v1 import builds_pb2, builds_pb2_grpc, logs_pb2, logs_pb2_grpc
from fluytd.api.calls import HEADERS_AHEAD
from tests.e2e.builds.steps import context
from tests.e2e.containers.steps import delete, started
from tests.support.engine import Engine

#: Far above what headers take, and below what anything that is waited for here would.
DEADLINE_SECONDS = 15


def read_build_log(engine: Engine, folder: Path) -> tuple[Any, Callable[[], object]]:
    """Of a build whose step writes nothing."""
    context_id = builds.upload_context(engine.channel, context(folder, {"f": ""}))
    source = builds_pb2.BuildSource(context_id=context_id)
    request = builds_pb2.BuildImageRequest(context=source, dockerfile=b"FROM busybox:1\nRUN sleep 1000\n")
    operation = builds.begin(engine.channel, request)
    stub = builds_pb2_grpc.BuildServiceStub(engine.channel)
    request_ = builds_pb2.ReadBuildLogRequest(operation_id=operation.id)
    call = stub.ReadBuildLog(request_, timeout=DEADLINE_SECONDS)
    return call, lambda: operations.cancel(engine.channel, operation.id)


def read_logs(engine: Engine, folder: Path) -> tuple[Any, Callable[[], object]]:
    """Of a container that writes nothing."""
    container = started(engine, "sleep", "1000")
    stub = logs_pb2_grpc.LogServiceStub(engine.channel)
    call = stub.ReadLogs(logs_pb2.ReadLogsRequest(container=container.id, follow=True), timeout=DEADLINE_SECONDS)
    return call, lambda: delete(engine, container.id, force=True)


OPENINGS = {
    "/fluyt.v1.BuildService/ReadBuildLog": read_build_log,
    "/fluyt.v1.LogService/ReadLogs": read_logs,
}


def test_each_such_stream_is_opened_here() -> None:
    assert set(OPENINGS) == HEADERS_AHEAD


@pytest.mark.parametrize("rpc", OPENINGS)
def test_the_headers_come_before_the_first_message(engine: Engine, rpc: str, tmp_path: Path) -> None:
    call, close = OPENINGS[rpc](engine, tmp_path)
    try:
        # It waits for the headers, or for the end of the call where none come.
        call.initial_metadata()
        assert call.is_active(), call
    finally:
        call.cancel()
        close()
