"""Request ids through the edge: unary mutations get them for nothing."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import grpc
import pytest

from fluyt.v1 import containers_pb2, containers_pb2_grpc
from fluyt.v1.types import container_pb2, container_spec_pb2
from fluytd.clock import SystemClock
from fluytd.requests.service import RequestService
from fluytd.state.db import Database
from tests.contract.edge import serving
from tests.contract.test_edge import details


class Containers(containers_pb2_grpc.ContainerServiceServicer):
    """Makes containers with a new id each time."""

    def __init__(self) -> None:
        self.count = 0

    async def CreateContainer(self, request: Any, context: Any) -> Any:  # noqa: N802
        self.count += 1
        return containers_pb2.CreateContainerResponse(container=container_pb2.Container(id=str(self.count)))


@pytest.fixture
async def requests(tmp_path: Path) -> AsyncIterator[RequestService]:
    """On a database of its own."""
    database = Database(tmp_path / "state.db", SystemClock(), max_events=100)
    await database.open()
    yield RequestService(database, SystemClock())
    await database.close()


def request(image: str, request_id: str = "one") -> containers_pb2.CreateContainerRequest:
    """A request for a container."""
    spec = container_spec_pb2.ContainerSpec(image=image, labels={"a": "1", "b": "2", "c": "3"})
    return containers_pb2.CreateContainerRequest(spec=spec, request_id=request_id)


async def test_a_retry_gets_the_first_answer(tmp_path: Path, requests: RequestService) -> None:
    servicer = Containers()
    async with serving(tmp_path, [servicer], requests=requests) as (_, channel):
        stub = containers_pb2_grpc.ContainerServiceStub(channel)
        answers = [(await stub.CreateContainer(request("x"))).container.id for _ in range(3)]
    assert answers == ["1", "1", "1"]
    assert servicer.count == 1


async def test_without_an_id_each_call_counts(tmp_path: Path, requests: RequestService) -> None:
    servicer = Containers()
    async with serving(tmp_path, [servicer], requests=requests) as (_, channel):
        stub = containers_pb2_grpc.ContainerServiceStub(channel)
        answers = [(await stub.CreateContainer(request("x", ""))).container.id for _ in range(2)]
    assert answers == ["1", "2"]


@pytest.mark.parametrize(
    ("second", "reason"), [(request("y"), "REQUEST_ID_REUSED"), (request("x", "é"), "FIELD_INVALID")]
)
async def test_an_id_of_other_content_or_form_is_refused(
    tmp_path: Path, requests: RequestService, second: Any, reason: str
) -> None:
    async with serving(tmp_path, [Containers()], requests=requests) as (_, channel):
        stub = containers_pb2_grpc.ContainerServiceStub(channel)
        await stub.CreateContainer(request("x"))
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await stub.CreateContainer(second)
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert details(caught.value)["ErrorInfo"].reason == reason
