"""Pulls as operations: watched by many, cancelled, cut off by a killed daemon, resumed by Range, begun once an id."""

import hashlib
import os
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import grpc

from fluyt.v1 import images_pb2, images_pb2_grpc, operations_pb2
from fluyt.v1.types import operation_pb2
from tests.e2e.images.steps import (
    CANCELLED,
    FAILED,
    SUCCEEDED,
    begin,
    blob,
    ended,
    listed,
    load,
    pull,
    refused,
    small_image,
    staged,
    stored,
    watch,
)
from tests.support import image_files, images, tarball
from tests.support.engine import PATIENCE_SECONDS, Engine
from tests.support.images import Image
from tests.support.registry import FaultyRegistry, blob_path, slow, stall

PART = 300_000


def great_image() -> Image:
    """An image of one layer that does not compress, of twice `PART`."""
    return images.image([images.layer(tarball.file("f", os.urandom(2 * PART)), compression="none")])


def until(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not condition():
        assert time.monotonic() < deadline
        threading.Event().wait(0.02)


def stalled(engine: Engine, registry: FaultyRegistry, image: Image) -> operation_pb2.Operation:
    """A pull whose layer came to a halt after `PART` bytes, all of which are on disk."""
    registry.put("app", "1", image)
    registry.on(blob_path("app", image.layers[0].digest), [stall(PART)])
    operation = begin(engine, f"{registry.address}/app:1")
    until(lambda: any(layer.transferred_bytes >= PART for layer in progress(engine, operation).layers))
    return operation


def progress(engine: Engine, operation: operation_pb2.Operation) -> operation_pb2.PullProgress:
    request = operations_pb2.GetOperationRequest(id=operation.id)
    found: operation_pb2.PullProgress = engine.operations.GetOperation(request).operation.pull_progress
    return found


def assert_resumed(engine: Engine, registry: FaultyRegistry, image: Image) -> None:
    """A new pull fetches only what is missing: not a byte that was stored."""
    digest = image.layers[0].digest
    assert digest[7:] in staged(engine)
    stored_bytes = (engine.root / "data" / "ingest" / digest[7:] / "data").stat().st_size
    assert 0 < stored_bytes <= PART
    earlier = len(registry.requests_for(blob_path("app", digest)))
    pull(engine, f"{registry.address}/app:1")
    (last,) = registry.requests_for(blob_path("app", digest))[earlier:]
    assert last.headers["range"] == f"bytes={stored_bytes}-"
    assert blob(engine, image.layers[0].digest) == image.layers[0].blob


def test_a_cancelled_pull_is_resumed_where_it_was(engine: Engine, registry: FaultyRegistry) -> None:
    image, before = great_image(), stored(engine)
    operation = stalled(engine, registry, image)
    answer = engine.operations.CancelOperation(operations_pb2.CancelOperationRequest(id=operation.id)).operation
    assert answer.cancel_requested
    last = ended(engine, operation)
    assert (last.state, last.failure.reason) == (CANCELLED, "CANCELLED")
    assert stored(engine) == before
    again = engine.operations.CancelOperation(operations_pb2.CancelOperationRequest(id=operation.id)).operation
    assert again.state == CANCELLED
    assert_resumed(engine, registry, image)


def test_a_pull_that_a_killed_daemon_broke_off_is_told_and_resumed(
    own_engine: Engine, registry: FaultyRegistry
) -> None:
    image = great_image()
    done = begin(own_engine, f"{registry.address}/app:0")
    assert ended(own_engine, done).failure.reason == "IMAGE_NOT_FOUND"
    operation = stalled(own_engine, registry, image)
    own_engine.kill()
    own_engine.start()
    assert listed(own_engine) == []
    last = ended(own_engine, operation)
    assert (last.state, last.failure.reason) == (FAILED, "ENGINE_RESTARTED")
    assert ended(own_engine, done).failure.reason == "IMAGE_NOT_FOUND"
    assert_resumed(own_engine, registry, image)


def slow_to_read() -> tuple[Image, int]:
    """An image whose one layer is small as it comes and takes long to read to its end, and how much that is."""
    archive = tarball.write_tar([tarball.file("f", "x")])
    # Behind the end of the archive zeros are hashed and nothing is made of them.
    zeros, count = bytes(64 * 1024 * 1024), 4
    hasher = hashlib.sha256(archive)
    for _ in range(count):
        hasher.update(zeros)
    data = tarball.gzip_bytes(archive) + tarball.gzip_bytes(zeros) * count
    config = images.config_json([f"sha256:{hasher.hexdigest()}"])
    layer = images.layer_of_blob(data, archive, "gzip")
    return images.image([layer], config=config), len(archive) + count * len(zeros)


def test_a_layer_that_is_unpacked_tells_how_far_it_is(engine: Engine) -> None:
    image, size_bytes = slow_to_read()
    known = {one.id for one in operations_of(engine)}
    with ThreadPoolExecutor(1) as pool:
        loading = pool.submit(load, engine, image_files.oci_archive({"slow:1": image}))
        until(lambda: {one.id for one in operations_of(engine)} - known)
        (begun,) = (one for one in operations_of(engine) if one.id not in known)
        seen = [layer for one in watch(engine, begun) for layer in one.load_progress.layers]
        assert loading.result().images[0].image_id == image.config_digest
    # It is unpacked while it comes, whatever phase it is in.
    extracting = [one.extracted_bytes for one in seen]
    assert extracting == sorted(extracting)
    assert any(0 < extracted < size_bytes for extracted in extracting)
    assert (seen[-1].phase, seen[-1].extracted_bytes) == (operation_pb2.LayerProgress.PHASE_DONE, size_bytes)


def operations_of(engine: Engine) -> list[operation_pb2.Operation]:
    return list(engine.operations.ListOperations(operations_pb2.ListOperationsRequest()).operations)


def test_all_who_watch_see_the_same_end_in_order(engine: Engine, registry: FaultyRegistry) -> None:
    image = small_image()
    registry.put("app", "1", image)
    registry.always(blob_path("app", image.layers[0].digest), slow(0.4))
    operation = begin(engine, f"{registry.address}/app:1")
    with ThreadPoolExecutor(4) as pool:
        seen = list(pool.map(lambda _: list(watch(engine, operation)), range(4)))
    for changes in seen:
        numbers = [change.sequence for change in changes]
        assert numbers == sorted(set(numbers))
        assert changes[-1] == seen[0][-1]
    final = seen[0][-1]
    assert (final.state, final.pull_result.image_id) == (SUCCEEDED, image.config_digest)
    assert final.pull_progress.phase == operation_pb2.PullProgress.PHASE_DONE
    assert [layer.phase for layer in final.pull_progress.layers] == [operation_pb2.LayerProgress.PHASE_DONE]
    late = operations_pb2.WatchOperationRequest(id=operation.id, from_sequence=final.sequence - 1)
    assert [update.sequence for update in engine.operations.WatchOperation(late)] == [final.sequence]


def test_a_pull_outlives_the_connection_that_began_it(engine: Engine, registry: FaultyRegistry) -> None:
    image = small_image()
    registry.put("app", "1", image)
    registry.always(blob_path("app", image.layers[0].digest), slow(0.5))
    with grpc.insecure_channel(f"unix:{engine.root}/run/fluytd.sock") as channel:
        request = images_pb2.PullImageRequest(reference=f"{registry.address}/app:1")
        operation = images_pb2_grpc.ImageServiceStub(channel).PullImage(request).operation
    assert ended(engine, operation).state == SUCCEEDED
    request_of_list = operations_pb2.ListOperationsRequest(kinds=[operation_pb2.Operation.KIND_PULL_IMAGE])
    assert operation.id in {one.id for one in engine.operations.ListOperations(request_of_list).operations}


def test_a_pull_is_begun_once_for_a_request_id(own_engine: Engine, registry: FaultyRegistry) -> None:
    registry.put("app", "1", small_image())
    reference = f"{registry.address}/app:1"
    first = begin(own_engine, reference, request_id="r-1")
    assert begin(own_engine, reference, request_id="r-1").id == first.id
    assert begin(own_engine, reference).id != first.id
    found = refused(lambda: begin(own_engine, f"{registry.address}/other:1", request_id="r-1"))
    assert (found.code, found.reason) == (grpc.StatusCode.INVALID_ARGUMENT, "REQUEST_ID_REUSED")
    assert ended(own_engine, first).state == SUCCEEDED
    own_engine.kill()
    own_engine.start()
    assert begin(own_engine, reference, request_id="r-1").id == first.id
    (image,) = listed(own_engine)
    assert list(image.references) == [reference]


def test_an_operation_that_is_not_there_is_told(engine: Engine) -> None:
    found = refused(lambda: engine.operations.CancelOperation(operations_pb2.CancelOperationRequest(id="0" * 32)))
    assert (found.code, found.reason) == (grpc.StatusCode.NOT_FOUND, "OPERATION_NOT_FOUND")
