"""Many pulls at once: one download, one stored copy, bounded memory and threads, and progress for all who watch."""

import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import grpc
import pytest

from fluyt.v1 import images_pb2, images_pb2_grpc, operations_pb2, operations_pb2_grpc
from fluyt.v1.types import operation_pb2
from tests.e2e.images.steps import SUCCEEDED, begin, ended, get, listed, small_layer
from tests.support import images, tarball
from tests.support.engine import Engine
from tests.support.registry import FaultyRegistry, blob_path, slow

PULLS = 200
CHANNELS = 8
#: What two hundred pulls may add to the daemon's memory: far below a copy of the image each, which would be 1.6 GB.
MAX_ADDED_KIB = 150 * 1024
LAYER_BYTES = 4_000_000
Phase = operation_pb2.LayerProgress.Phase
Progress = operation_pb2.PullProgress.Phase


@pytest.fixture
def channels(engine: Engine) -> Iterator[list[grpc.Channel]]:
    """Connections of several callers."""
    target = f"unix:{engine.root}/run/fluytd.sock"
    # An option of its own makes a connection of its own.
    made = [grpc.insecure_channel(target, options=[("fluyt.tests", number)]) for number in range(CHANNELS)]
    yield made
    for channel in made:
        channel.close()


def big_layer() -> images.Layer:
    return images.layer(tarball.file("noise", os.urandom(LAYER_BYTES)))


def status_of(engine: Engine) -> dict[str, int]:
    """Resident memory in KiB, and threads, of the daemon."""
    text = Path(f"/proc/{engine.process.pid}/status").read_text()
    values = dict(line.split(":", 1) for line in text.splitlines() if ":" in line)
    return {"VmHWM": int(values["VmHWM"].split()[0]), "Threads": int(values["Threads"])}


def whole_fetches(registry: FaultyRegistry, repositories: list[str], digest: str) -> int:
    """GETs of the blob in any of these repositories."""
    paths = [blob_path(repository, digest) for repository in repositories]
    return sum(request.method == "GET" for path in paths for request in registry.requests_for(path))


def pull_all(channels: list[grpc.Channel], references: list[str]) -> list[operation_pb2.Operation]:
    """The operations of all these pulls, begun at once and watched to their ends."""

    def one(number: int) -> operation_pb2.Operation:
        channel = channels[number % len(channels)]
        request = images_pb2.PullImageRequest(reference=references[number])
        operation = images_pb2_grpc.ImageServiceStub(channel).PullImage(request, timeout=50).operation
        watching = operations_pb2.WatchOperationRequest(id=operation.id)
        *_, last = operations_pb2_grpc.OperationServiceStub(channel).WatchOperation(watching, timeout=50)
        found: operation_pb2.Operation = last.operation
        return found

    with ThreadPoolExecutor(len(references)) as pool:
        return list(pool.map(one, range(len(references))))


def test_two_hundred_pulls_of_one_image_make_one_download(
    engine: Engine, registry: FaultyRegistry, channels: list[grpc.Channel]
) -> None:
    image = images.image([big_layer(), big_layer()])
    registry.put("team/app", "1", image)
    for layer in image.layers:
        registry.on(blob_path("team/app", layer.digest), [slow(1.0)])
    before = status_of(engine)
    operations = pull_all(channels, [f"{registry.address}/team/app:1"] * PULLS)
    assert {operation.state for operation in operations} == {SUCCEEDED}
    assert {operation.pull_result.image_id for operation in operations} == {image.config_digest}
    for layer in image.layers:
        assert whole_fetches(registry, ["team/app"], layer.digest) == 1
    assert len(listed(engine)) == 1
    after = status_of(engine)
    assert after["VmHWM"] - before["VmHWM"] < MAX_ADDED_KIB
    assert after["Threads"] - before["Threads"] < PULLS / 2


def test_r15_a_layer_of_twenty_images_is_fetched_once(
    engine: Engine, registry: FaultyRegistry, channels: list[grpc.Channel]
) -> None:
    shared = big_layer()
    repositories = [f"team/app{number}" for number in range(20)]
    for repository in repositories:
        image = images.image([shared, small_layer()])
        registry.put(repository, "1", image)
        registry.on(blob_path(repository, shared.digest), [slow(1.0)])
    operations = pull_all(channels, [f"{registry.address}/{repository}:1" for repository in repositories])
    assert {operation.state for operation in operations} == {SUCCEEDED}
    assert whole_fetches(registry, repositories, shared.digest) == 1
    assert len({operation.pull_result.image_id for operation in operations}) == len(repositories)
    for repository in repositories:
        found = get(engine, f"{registry.address}/{repository}:1")
        assert found.layers[0].descriptor.digest == shared.digest


def test_every_watcher_sees_the_phases_and_one_that_comes_again_goes_on(
    engine: Engine, registry: FaultyRegistry, channels: list[grpc.Channel]
) -> None:
    slow_layer, small = big_layer(), small_layer()
    image = images.image([slow_layer, small])
    registry.put("team/app", "1", image)
    registry.on(blob_path("team/app", slow_layer.digest), [slow(2.0)])
    operation = begin(engine, f"{registry.address}/team/app:1")

    def phases(channel: grpc.Channel) -> tuple[set[int], set[int], operation_pb2.Operation]:
        seen: set[int] = set()
        layers: set[int] = set()
        stub = operations_pb2_grpc.OperationServiceStub(channel)
        for update in stub.WatchOperation(operations_pb2.WatchOperationRequest(id=operation.id), timeout=50):
            last = update.operation
            seen.add(last.pull_progress.phase)
            layers |= {layer.phase for layer in last.pull_progress.layers}
        return seen, layers, last

    with ThreadPoolExecutor(4) as pool:
        watching = [pool.submit(phases, channel) for channel in channels[:4]]
        # One watcher goes in the middle of the download and comes again on another connection, from where it was.
        stub = operations_pb2_grpc.OperationServiceStub(channels[5])
        call = stub.WatchOperation(operations_pb2.WatchOperationRequest(id=operation.id), timeout=50)
        for update in call:
            if any(layer.transferred_bytes for layer in update.operation.pull_progress.layers):
                break
        call.cancel()
        again = operations_pb2.WatchOperationRequest(id=operation.id, from_sequence=update.sequence)
        rest = list(operations_pb2_grpc.OperationServiceStub(channels[6]).WatchOperation(again, timeout=50))
        assert all(one.sequence > update.sequence for one in rest)
        assert rest[-1].operation.state == SUCCEEDED
        for seen, layers, last in (future.result() for future in watching):
            assert {Progress.PHASE_FETCHING, Progress.PHASE_DONE} <= seen
            assert {Phase.PHASE_DOWNLOADING, Phase.PHASE_DONE} <= layers
            assert last.state == SUCCEEDED
            done = last.pull_progress.layers[0]
            assert (done.transferred_bytes, done.size_bytes) == (len(slow_layer.blob), len(slow_layer.blob))
    registry.put("team/other", "1", images.image([slow_layer, small_layer()]))
    other = ended(engine, begin(engine, f"{registry.address}/team/other:1"))
    assert other.pull_progress.layers[0].phase == Phase.PHASE_PRESENT
