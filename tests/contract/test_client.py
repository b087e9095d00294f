"""The Python client library against an edge in this process: what it sends, gives back and raises."""

import asyncio
import io
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeVar

import grpc
import pytest

from fluyt import channel, containers, engine, errors, events, images, logs, operations
from fluyt.v1 import (
    containers_pb2,
    containers_pb2_grpc,
    engine_pb2,
    engine_pb2_grpc,
    events_pb2,
    events_pb2_grpc,
    images_pb2,
    images_pb2_grpc,
    logs_pb2,
    logs_pb2_grpc,
    operations_pb2,
    operations_pb2_grpc,
)
from fluyt.v1.types import container_pb2, failure_pb2, operation_pb2, output_pb2
from fluytd.errors import EventsTrimmed, FieldInvalid, RegistryUnreachable
from tests.contract.edge import serving

T = TypeVar("T")
State = operation_pb2.Operation.State


class Engine(engine_pb2_grpc.EngineServiceServicer):
    async def GetVersion(self, request: Any, context: Any) -> engine_pb2.GetVersionResponse:  # noqa: N802
        return engine_pb2.GetVersionResponse(version="9.9.9")

    async def GetDiskUsage(self, request: Any, context: Any) -> engine_pb2.GetDiskUsageResponse:  # noqa: N802
        return engine_pb2.GetDiskUsageResponse(logs=engine_pb2.DiskUsage(size_bytes=7))

    async def CheckStorage(self, request: Any, context: Any) -> AsyncIterator[Any]:  # noqa: N802
        finding = engine_pb2.StorageFinding(subject=request.subjects[0], is_repaired=request.repair)
        yield engine_pb2.CheckStorageResponse(finding=finding)
        yield engine_pb2.CheckStorageResponse(summary=engine_pb2.StorageCheckSummary(damaged_count=1))


class Containers(containers_pb2_grpc.ContainerServiceServicer):
    def __init__(self) -> None:
        self.was_closed = asyncio.Event()

    async def RunContainer(self, request: Any, context: Any) -> AsyncIterator[Any]:  # noqa: N802
        answer = containers_pb2.RunContainerResponse
        try:
            yield answer(created=container_pb2.Container(id="c", spec=request.spec))
            yield answer(stdout=output_pb2.OutputChunk(data=b"out\n"))
            if request.spec.args == ["forever"]:
                await asyncio.Event().wait()
            yield answer(exited=container_pb2.Container(id="c", exit_code=3))
        finally:
            self.was_closed.set()

    async def ListContainers(self, request: Any, context: Any) -> Any:  # noqa: N802
        page = int(request.page_token or 0)
        return containers_pb2.ListContainersResponse(
            containers=[container_pb2.Container(id=str(page))], next_page_token=str(page + 1) if page < 2 else ""
        )

    async def StopContainer(self, request: Any, context: Any) -> Any:  # noqa: N802
        timeout = request.timeout.seconds if request.HasField("timeout") else -1
        return containers_pb2.StopContainerResponse(container=container_pb2.Container(id=str(timeout)))

    async def GetContainer(self, request: Any, context: Any) -> Any:  # noqa: N802
        raise FieldInvalid(field="container", rule="must be given")


class Images(images_pb2_grpc.ImageServiceServicer):
    async def PullImage(self, request: Any, context: Any) -> Any:  # noqa: N802
        if request.reference == "down":
            raise RegistryUnreachable(registry="r", attempt_count=5, detail="refused")
        return images_pb2.PullImageResponse(operation=operation_pb2.Operation(id=request.reference))

    async def LoadImages(self, requests: Any, context: Any) -> Any:  # noqa: N802
        parts = [request async for request in requests]
        assert [part.WhichOneof("part") for part in parts] == ["options", *["chunk"] * (len(parts) - 1)]
        size = sum(len(part.chunk) for part in parts)
        image = operation_pb2.LoadedImage(image_id=str(size), references=[parts[0].options.reference])
        return images_pb2.LoadImagesResponse(images=[image])

    async def SetImagePin(self, request: Any, context: Any) -> Any:  # noqa: N802
        return images_pb2.SetImagePinResponse(image=images_pb2.Image(id=request.image, is_pinned=request.is_pinned))

    async def PruneImages(self, request: Any, context: Any) -> Any:  # noqa: N802
        words = [name for name in ("all", "by_policy", "dry_run") if getattr(request, name)]
        return images_pb2.PruneImagesResponse(operation=operation_pb2.Operation(id=" ".join(["prune", *words])))


class Operations(operations_pb2_grpc.OperationServiceServicer):
    async def WatchOperation(self, request: Any, context: Any) -> AsyncIterator[Any]:  # noqa: N802
        running = operation_pb2.Operation(id=request.id, sequence=1, state=State.STATE_RUNNING)
        yield operations_pb2.WatchOperationResponse(sequence=1, operation=running)
        ended = operation_pb2.Operation(id=request.id, sequence=2, state=State.STATE_SUCCEEDED)
        ended.pull_result.image_id = "sha256:1"
        if request.id.startswith("prune"):
            ended.prune_result.deleted.append(request.id)
        if request.id == "bad":
            metadata = {"reference": "bad"}
            ended = operation_pb2.Operation(
                id="bad",
                state=State.STATE_FAILED,
                failure=failure_pb2.Failure(code=5, reason="IMAGE_NOT_FOUND", message="m", metadata=metadata),
            )
        yield operations_pb2.WatchOperationResponse(sequence=2, operation=ended)


class Logs(logs_pb2_grpc.LogServiceServicer):
    async def ReadLogs(self, request: Any, context: Any) -> AsyncIterator[Any]:  # noqa: N802
        assert request.HasField("tail_lines")
        assert request.tail_lines == 0
        record = logs_pb2.LogRecord(data=str(request.since_time.seconds).encode())
        yield logs_pb2.ReadLogsResponse(batch=logs_pb2.LogBatch(records=[record, record]))
        yield logs_pb2.ReadLogsResponse(end=logs_pb2.LogEnd())


class Events(events_pb2_grpc.EventServiceServicer):
    async def WatchEvents(self, request: Any, context: Any) -> AsyncIterator[Any]:  # noqa: N802
        if request.from_sequence == 1:
            raise EventsTrimmed(requested_sequence=1, oldest_sequence=7)
        yield events_pb2.WatchEventsResponse(heartbeat=events_pb2.EventHeartbeat())
        yield events_pb2.WatchEventsResponse(event=events_pb2.Event(sequence=request.from_sequence))


async def ask(directory: Path, call: Callable[[grpc.Channel], T], servicer: Any = None) -> T:
    """What `call` gives with a blocking connection to an edge with everything above, on a thread of its own."""
    servicers = [Engine(), servicer or Containers(), Images(), Operations(), Logs(), Events()]

    def on_thread() -> T:
        with channel.connect(f"unix://{directory}/s.sock") as connection:
            return call(connection)

    async with serving(directory, servicers):
        return await asyncio.to_thread(on_thread)


async def test_pins_and_prunes(tmp_path: Path) -> None:
    assert (await ask(tmp_path, lambda connection: images.pin(connection, "a"))).is_pinned
    assert not (await ask(tmp_path, lambda connection: images.pin(connection, "a", is_pinned=False))).is_pinned
    found = await ask(tmp_path, lambda connection: images.prune(connection, by_policy=True, dry_run=True))
    assert list(found.deleted) == ["prune by_policy dry_run"]


async def test_storage_is_weighed_and_checked(tmp_path: Path) -> None:
    assert (await ask(tmp_path, engine.disk_usage)).logs.size_bytes == 7
    steps = await ask(tmp_path, lambda connection: list(engine.check_storage(connection, ["x"], repair=True)))
    assert (steps[0].finding.subject, steps[0].finding.is_repaired) == ("x", True)
    assert steps[-1].summary.damaged_count == 1


async def test_version(tmp_path: Path) -> None:
    assert (await ask(tmp_path, engine.version)).version == "9.9.9"


async def test_a_run_tells_what_happens_and_ends_with_the_exit(tmp_path: Path) -> None:
    spec = containers.spec("busybox", "echo", "out")
    told = await ask(tmp_path, lambda connection: list(containers.run(connection, spec)))
    assert [event.WhichOneof("event") for event in told] == ["created", "stdout", "exited"]
    assert told[0].created.spec == spec
    assert containers.shell_exit_code(told[-1].exited) == 3


async def test_giving_an_iteration_up_ends_the_call(tmp_path: Path) -> None:
    servicer = Containers()

    def first(connection: grpc.Channel) -> str:
        running = containers.run(connection, containers.spec("busybox", "forever"))
        event = next(iter(running))
        running.close()  # type: ignore[attr-defined] # it is a generator
        return str(event.created.id)

    assert await ask(tmp_path, first, servicer) == "c"
    await asyncio.wait_for(servicer.was_closed.wait(), 5)


def test_a_signal_counts_as_in_a_shell() -> None:
    assert containers.shell_exit_code(container_pb2.Container(signal=9)) == 137


async def test_lists_go_through_all_pages(tmp_path: Path) -> None:
    found = await ask(tmp_path, lambda connection: [one.id for one in containers.list_all(connection)])
    assert found == ["0", "1", "2"]


@pytest.mark.parametrize(("seconds", "sent"), [(None, "-1"), (0, "0"), (5, "5")])
async def test_no_grace_differs_from_none_given(tmp_path: Path, seconds: int | None, sent: str) -> None:
    stopped = await ask(tmp_path, lambda connection: containers.stop(connection, "c", timeout_seconds=seconds))
    assert stopped.id == sent


async def test_a_refusal_carries_reason_metadata_field_and_advice(tmp_path: Path) -> None:
    with pytest.raises(errors.InvalidInput) as caught:
        await ask(tmp_path, lambda connection: containers.get(connection, ""))
    error = caught.value
    assert (error.reason, error.metadata["field"]) == ("FIELD_INVALID", "container")
    assert error.field_violations == (errors.FieldViolation("container", "must be given"),)
    assert error.next_step
    assert str(error) == error.message


async def test_what_waiting_helps_says_so(tmp_path: Path) -> None:
    with pytest.raises(errors.Unavailable) as caught:
        await ask(tmp_path, lambda connection: images.pull(connection, "down"))
    assert caught.value.retry_after_seconds == 1


async def test_an_unbuilt_call_is_told_apart(tmp_path: Path) -> None:
    with pytest.raises(errors.NotBuilt) as caught:
        await ask(tmp_path, engine.info)
    assert caught.value.metadata == {"rpc": "/fluyt.v1.EngineService/GetInfo"}


async def test_a_pull_is_followed_to_its_result(tmp_path: Path) -> None:
    states: list[int] = []
    result = await ask(
        tmp_path,
        lambda connection: images.pull(connection, "good", on_progress=lambda one: states.append(one.state)),
    )
    assert result.image_id == "sha256:1"
    assert states == [State.STATE_RUNNING, State.STATE_SUCCEEDED]


async def test_an_operation_that_failed_raises_its_failure(tmp_path: Path) -> None:
    with pytest.raises(errors.NotFound) as caught:
        await ask(tmp_path, lambda connection: operations.wait(connection, "bad"))
    assert (caught.value.reason, caught.value.metadata) == ("IMAGE_NOT_FOUND", {"reference": "bad"})


@pytest.mark.parametrize("size", [0, 1, images.CHUNK_BYTES, images.CHUNK_BYTES + 1])
async def test_an_archive_is_sent_whole_in_bounded_messages(tmp_path: Path, size: int) -> None:
    (tmp_path / "archive").write_bytes(b"x" * size)
    for source in (tmp_path / "archive", io.BytesIO(b"x" * size)):
        loaded = await ask(tmp_path, lambda c, s=source: images.load(c, s, reference="r"))  # type: ignore[misc]
        assert (loaded.images[0].image_id, list(loaded.images[0].references)) == (str(size), ["r"])


async def test_logs_take_times_and_a_tail_of_nothing(tmp_path: Path) -> None:
    since = datetime(2026, 1, 1, tzinfo=UTC)
    records = await ask(tmp_path, lambda connection: list(logs.read(connection, "c", tail_lines=0, since=since)))
    assert [record.data for record in records] == [b"1767225600"] * 2


async def test_events_leave_heartbeats_out(tmp_path: Path) -> None:
    told = await ask(tmp_path, lambda connection: list(events.watch(connection, from_sequence=5)))
    assert [event.sequence for event in told] == [5]


async def test_a_gap_in_the_events_names_the_oldest(tmp_path: Path) -> None:
    with pytest.raises(errors.OutOfRange) as caught:
        await ask(tmp_path, lambda connection: list(events.watch(connection, from_sequence=1)))
    assert caught.value.metadata["oldest_sequence"] == "7"
