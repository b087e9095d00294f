"""The edge as a client sees it: unbuilt RPCs, health, reflection, start and stop, errors, messages too large."""

import asyncio
import importlib
import stat
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from google.rpc import error_details_pb2, status_pb2
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

from fluyt.v1 import containers_pb2, containers_pb2_grpc, engine_pb2, engine_pb2_grpc, images_pb2, images_pb2_grpc
from fluytd.api.server import MAX_RECEIVE_BYTES, SERVICE_MODULES
from fluytd.errors import ContainerNotFound, FieldInvalid
from tests.contract.edge import serving

SERVICES = [service for messages, _ in SERVICE_MODULES for service in messages.DESCRIPTOR.services_by_name.values()]
METHODS = [method for service in SERVICES for method in service.methods]


class Engine(engine_pb2_grpc.EngineServiceServicer):
    """One built RPC."""

    async def GetVersion(self, request: Any, context: Any) -> engine_pb2.GetVersionResponse:  # noqa: N802
        return engine_pb2.GetVersionResponse(version="9.9.9")


class Containers(containers_pb2_grpc.ContainerServiceServicer):
    """Built RPCs that fail, or last."""

    def __init__(self) -> None:
        self.is_waited_for = asyncio.Event()

    async def GetContainer(self, request: Any, context: Any) -> Any:  # noqa: N802
        if request.container == "bug":
            raise ZeroDivisionError("secret")
        if not request.container:
            raise FieldInvalid(field="container", rule="must be given")
        raise ContainerNotFound(id=request.container)

    async def WaitContainer(self, request: Any, context: Any) -> Any:  # noqa: N802
        self.is_waited_for.set()
        await asyncio.Event().wait()

    async def WatchStats(self, request: Any, context: Any) -> Any:  # noqa: N802
        yield containers_pb2.WatchStatsResponse()
        await asyncio.Event().wait()


def details(error: grpc.aio.AioRpcError) -> dict[str, Any]:
    """The details of a status by message name, each of which stands there once."""
    trailing = dict(error.trailing_metadata())
    status = status_pb2.Status.FromString(trailing["grpc-status-details-bin"])
    assert status.code == error.code().value[0]
    assert status.message == error.details()
    found: dict[str, Any] = {}
    for packed in status.details:
        name = packed.TypeName().rpartition(".")[2]
        assert name not in found
        found[name] = getattr(error_details_pb2, name)()
        assert packed.Unpack(found[name])
    return found


async def call(channel: grpc.aio.Channel, method: Any) -> Any:
    """Calls a method of any kind and gives the first response; one that takes a stream hears nothing before it answers,
    any other an empty request."""
    request = message_factory.GetMessageClass(method.input_type)
    response = message_factory.GetMessageClass(method.output_type)
    rpc = f"/{method.containing_service.full_name}/{method.name}"
    shape = f"{'stream' if method.client_streaming else 'unary'}_{'stream' if method.server_streaming else 'unary'}"
    stub = getattr(channel, shape)(rpc, request.SerializeToString, response.FromString)
    has_answered = asyncio.Event()

    async def silence() -> AsyncIterator[Any]:
        # What is written to a call that the server has ended fails, and grpc.aio makes INTERNAL of that where the
        # server's own status has not been read yet.
        await has_answered.wait()
        for nothing in list[Any]():
            yield nothing

    running = stub(silence() if method.client_streaming else request())
    try:
        if not method.server_streaming:
            return await running
        async for message in running:
            return message
        return None
    finally:
        has_answered.set()


@pytest.mark.parametrize("method", METHODS, ids=lambda method: method.full_name)
async def test_an_unbuilt_rpc_says_so(method: Any, tmp_path: Path) -> None:
    async with serving(tmp_path) as (_, channel):
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await call(channel, method)
    assert caught.value.code() is grpc.StatusCode.UNIMPLEMENTED
    info = details(caught.value)["ErrorInfo"]
    assert (info.reason, info.domain) == ("NOT_BUILT", "fluyt")
    assert dict(info.metadata) == {"rpc": f"/{method.containing_service.full_name}/{method.name}"}


def test_every_service_file_is_served() -> None:
    package = Path(importlib.import_module("fluyt.v1").__file__ or "").parent
    stems = {path.name.removesuffix("_grpc.py") for path in package.glob("*_pb2_grpc.py")}
    # Volume drivers serve that one; the engine calls it.
    assert {messages.__name__.rpartition(".")[2] for messages, _ in SERVICE_MODULES} == stems - {"volume_drivers_pb2"}
    assert len(SERVICES) == 10


async def test_health_serves_only_once_open(tmp_path: Path) -> None:
    async with serving(tmp_path, is_open=False) as (server, channel):
        stub = health_pb2_grpc.HealthStub(channel)
        for name in ("", "fluyt.v1.ContainerService"):
            answer = await stub.Check(health_pb2.HealthCheckRequest(service=name))
            assert answer.status == health_pb2.HealthCheckResponse.NOT_SERVING
        await server.open()
        for service in SERVICES:
            answer = await stub.Check(health_pb2.HealthCheckRequest(service=service.full_name))
            assert answer.status == health_pb2.HealthCheckResponse.SERVING


async def test_a_starting_engine_tells_its_version_and_refuses_the_rest(tmp_path: Path) -> None:
    async with serving(tmp_path, [Engine(), Containers()], is_open=False) as (_, channel):
        version = await engine_pb2_grpc.EngineServiceStub(channel).GetVersion(engine_pb2.GetVersionRequest())
        assert version.version == "9.9.9"
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await containers_pb2_grpc.ContainerServiceStub(channel).GetContainer(
                containers_pb2.GetContainerRequest(container="x")
            )
    assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
    found = details(caught.value)
    assert found["ErrorInfo"].reason == "ENGINE_STARTING"
    assert found["RetryInfo"].retry_delay.seconds > 0


async def test_a_stop_ends_streams_and_waits_with_a_reason(tmp_path: Path) -> None:
    servicer = Containers()
    async with serving(tmp_path, [servicer]) as (server, channel):
        stub = containers_pb2_grpc.ContainerServiceStub(channel)
        stats = stub.WatchStats(containers_pb2.WatchStatsRequest())
        await stats.read()
        wait = stub.WaitContainer(containers_pb2.WaitContainerRequest(container="x"))
        await asyncio.wait_for(servicer.is_waited_for.wait(), 5)
        stopping = asyncio.create_task(server.stop(5))
        for waiting in (stats.read(), wait):
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await asyncio.wait_for(waiting, 5)
            assert details(caught.value)["ErrorInfo"].reason == "ENGINE_STOPPING"
        await asyncio.wait_for(stopping, 5)


async def test_an_engine_error_carries_what_the_catalogue_says(tmp_path: Path) -> None:
    async with serving(tmp_path, [Containers()]) as (_, channel):
        stub = containers_pb2_grpc.ContainerServiceStub(channel)
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await stub.GetContainer(containers_pb2.GetContainerRequest(container="abc"))
        missing = details(caught.value)
        assert caught.value.code() is grpc.StatusCode.NOT_FOUND
        assert missing["ErrorInfo"].reason == "CONTAINER_NOT_FOUND"
        assert dict(missing["ErrorInfo"].metadata) == {"id": "abc"}
        assert missing["ResourceInfo"].resource_type == "container"
        assert missing["ResourceInfo"].resource_name == "abc"
        assert missing["LocalizedMessage"].message
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await stub.GetContainer(containers_pb2.GetContainerRequest())
        violation = details(caught.value)["BadRequest"].field_violations[0]
        assert (violation.field, violation.description) == ("container", "must be given")


async def test_the_unexpected_leaves_an_incident_and_no_secret(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with serving(tmp_path, [Containers()]) as (_, channel):
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await containers_pb2_grpc.ContainerServiceStub(channel).GetContainer(
                containers_pb2.GetContainerRequest(container="bug")
            )
    assert caught.value.code() is grpc.StatusCode.INTERNAL
    assert "secret" not in str(caught.value)
    info = details(caught.value)["ErrorInfo"]
    assert info.reason == "UNEXPECTED"
    assert info.metadata["incident_id"] in caplog.text
    assert "ZeroDivisionError" in caplog.text


async def test_a_client_that_knows_only_reflection_can_call(tmp_path: Path) -> None:
    async with serving(tmp_path, [Engine()]) as (_, channel):
        stub = reflection_pb2_grpc.ServerReflectionStub(channel)

        async def ask(**request: Any) -> Any:
            async for answer in stub.ServerReflectionInfo(iter([reflection_pb2.ServerReflectionRequest(**request)])):
                return answer
            return None

        listed = await ask(list_services="")
        names = {service.name for service in listed.list_services_response.service}
        assert {service.full_name for service in SERVICES} | {"grpc.health.v1.Health"} <= names

        pool = descriptor_pool.DescriptorPool()

        async def learn(**request: Any) -> None:
            answer = await ask(**request)
            for data in answer.file_descriptor_response.file_descriptor_proto:
                file = descriptor_pb2.FileDescriptorProto.FromString(data)
                for dependency in file.dependency:
                    await learn(file_by_filename=dependency)
                pool.Add(file)

        await learn(file_containing_symbol="fluyt.v1.EngineService")
        method = pool.FindServiceByName("fluyt.v1.EngineService").FindMethodByName("GetVersion")
        answer = await call(channel, method)
        assert answer.version == "9.9.9"


async def test_a_message_beyond_the_bound_is_refused_and_the_engine_serves_on(tmp_path: Path) -> None:
    async with serving(tmp_path, [Engine()]) as (_, channel):
        request = images_pb2.PullImageRequest(reference="x" * (MAX_RECEIVE_BYTES + 1))
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await images_pb2_grpc.ImageServiceStub(channel).PullImage(request)
        assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        await engine_pb2_grpc.EngineServiceStub(channel).GetVersion(engine_pb2.GetVersionRequest())


async def test_the_socket_lets_root_and_the_group_in_and_goes_with_the_server(tmp_path: Path) -> None:
    async with serving(tmp_path):
        mode = (tmp_path / "s.sock").stat().st_mode
        assert stat.S_ISSOCK(mode)
        assert stat.S_IMODE(mode) == 0o660
    assert not (tmp_path / "s.sock").exists()


async def test_a_second_daemon_on_one_socket_is_refused(tmp_path: Path) -> None:
    async with serving(tmp_path, [Engine()]) as (_, channel):
        with pytest.raises(FieldInvalid) as caught:
            async with serving(tmp_path):
                pass
        assert caught.value.field == "socket_path"
        await engine_pb2_grpc.EngineServiceStub(channel).GetVersion(engine_pb2.GetVersionRequest())


async def test_a_socket_path_beyond_the_kernels_bound_names_it(tmp_path: Path) -> None:
    long = tmp_path / ("x" * 120)
    with pytest.raises(FieldInvalid, match="107"):
        async with serving(long):
            pass
