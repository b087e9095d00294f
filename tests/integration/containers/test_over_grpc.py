"""Containers on the real core through gRPC messages: what a client sees."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, cast

import grpc
import pytest

from fluyt.v1 import containers_pb2 as pb
from fluyt.v1 import containers_pb2_grpc
from fluyt.v1.types import attach_pb2, container_pb2, container_spec_pb2, network_pb2
from fluytd.api.calls import Wrapper
from fluytd.api.containers_service import ContainerServicer
from fluytd.api.gate import Gate
from fluytd.clock import SystemClock
from fluytd.containers.copying import ContainerCopies
from fluytd.containers.files import ContainerFiles
from fluytd.requests.service import RequestService
from tests.integration.containers.bench import CoreBench
from tests.integration.containers.test_containers import pytestmark as needs

pytestmark = needs


@pytest.fixture
async def client(tmp_path: Path) -> AsyncIterator[Any]:
    bench = CoreBench(tmp_path)
    await bench.open()
    server = grpc.aio.server()
    no_files = cast("ContainerFiles", None)  # the tests here ask for none
    no_copies = cast("ContainerCopies", None)
    requests = RequestService(bench.db, SystemClock())
    servicer = ContainerServicer(bench.service, no_files, no_copies, requests, 1 << 40)
    gate = Gate()
    gate.open()
    wrapper = Wrapper(gate, requests, None)
    modules = [(pb, containers_pb2_grpc)]
    for _, handler in wrapper.handlers(modules, [servicer]):
        server.add_generic_rpc_handlers((handler,))
    server.add_insecure_port(f"unix:{tmp_path}/socket")
    await server.start()
    async with grpc.aio.insecure_channel(f"unix:{tmp_path}/socket") as channel:
        yield containers_pb2_grpc.ContainerServiceStub(channel)
    await server.stop(None)
    await bench.close()


def spec(*args: str, **fields: Any) -> container_spec_pb2.ContainerSpec:
    none = network_pb2.NetworkSpec(mode=network_pb2.NetworkSpec.MODE_NONE)
    return container_spec_pb2.ContainerSpec(image="busybox", args=args, network=none, **fields)


async def test_run_streams_created_started_output_and_exited(client: Any) -> None:
    request = pb.RunContainerRequest(spec=spec("sh", "-c", "echo a; echo b >&2; exit 7", auto_remove=True))
    seen = [message async for message in client.RunContainer(request)]
    kinds = [message.WhichOneof("event") for message in seen]
    assert (kinds[:2], kinds[-1]) == (["created", "started"], "exited")
    assert b"".join(message.stdout.data for message in seen) == b"a\n"
    assert b"".join(message.stderr.data for message in seen) == b"b\n"
    assert seen[-1].exited.exit_code == 7


async def test_a_repeated_request_id_runs_once_and_replays(client: Any) -> None:
    request = pb.RunContainerRequest(spec=spec("echo", "once"), name="one", request_id="r1")
    for _ in range(2):
        seen = [message async for message in client.RunContainer(request)]
        assert b"".join(message.stdout.data for message in seen) == b"once\n"
        assert seen[-1].exited.exit_code == 0
    listed = await client.ListContainers(pb.ListContainersRequest())
    assert [container.name for container in listed.containers] == ["one"]


async def test_s09_attach_before_start_with_half_close(client: Any) -> None:
    await client.CreateContainer(pb.CreateContainerRequest(spec=spec("cat", open_stdin=True), name="one"))
    call = client.AttachContainer()
    options = attach_pb2.AttachOptions(container="one", stdin=True, stdout=True, stderr=True, hold=True)
    await call.write(pb.AttachContainerRequest(open=options))
    assert (await call.read()).WhichOneof("event") == "attached"
    await client.StartContainer(pb.StartContainerRequest(container="one"))
    await call.write(pb.AttachContainerRequest(stdin=b"hi"))
    await call.done_writing()
    seen = []
    while (message := await call.read()) is not grpc.aio.EOF:
        seen.append(message)
    assert b"".join(message.stdout.data for message in seen) == b"hi"
    assert seen[-1].exited.exit_code == 0


async def test_a_life_by_single_calls(client: Any) -> None:
    await client.CreateContainer(pb.CreateContainerRequest(spec=spec("sleep", "100"), name="one"))
    started = (await client.StartContainer(pb.StartContainerRequest(container="one"))).container
    assert started.state == container_pb2.Container.STATE_RUNNING
    stopped = (await client.StopContainer(pb.StopContainerRequest(container=started.id[:12], signal="KILL"))).container
    assert (stopped.state, stopped.signal) == (container_pb2.Container.STATE_EXITED, 9)
    shown = (await client.GetContainer(pb.GetContainerRequest(container="one", include_size=True))).container
    assert shown.HasField("writable_size_bytes")
    assert (await client.DeleteContainer(pb.DeleteContainerRequest(container="one"))).id == started.id


async def test_pages_of_a_list_hold_each_container_once(client: Any) -> None:
    for number in range(5):
        await client.CreateContainer(pb.CreateContainerRequest(spec=spec("true"), name=f"c{number}"))
    names: list[str] = []
    token = ""
    while True:
        page = await client.ListContainers(pb.ListContainersRequest(page_size=2, page_token=token))
        names += [container.name for container in page.containers]
        token = page.next_page_token
        if not token:
            break
    assert names == ["c4", "c3", "c2", "c1", "c0"]
