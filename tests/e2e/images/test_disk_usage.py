"""What the engine says it stores, compared with its disk."""

from pathlib import Path

from fluyt.v1 import containers_pb2, engine_pb2, engine_pb2_grpc, images_pb2
from fluyt.v1.types import container_spec_pb2
from tests.e2e.images.steps import ended, load, small_layer
from tests.support import image_files, images
from tests.support.engine import Engine
from tests.support.wait import until_now


def disk_usage(engine: Engine) -> engine_pb2.GetDiskUsageResponse:
    stub = engine_pb2_grpc.EngineServiceStub(engine.channel)
    answer: engine_pb2.GetDiskUsageResponse = stub.GetDiskUsage(engine_pb2.GetDiskUsageRequest())
    return answer


def blob_bytes(engine: Engine) -> list[int]:
    """Sizes of the blobs on disk."""
    blobs = engine.root / "data" / "content" / "blobs"
    return [path.stat().st_size for path in blobs.glob("*/*")]


def test_blobs_and_layers_are_those_on_disk_and_what_a_container_uses_is_active(engine: Engine) -> None:
    shared = small_layer("shared", b"s" * 1000)
    first = images.image([shared, small_layer("own", b"o" * 10)], cmd=["/own"])
    second = images.image([shared], cmd=["/shared"])
    load(engine, image_files.oci_archive({"first:1": first, "second:1": second}))
    found = disk_usage(engine)
    sizes = blob_bytes(engine)
    assert (found.content.count, found.content.size_bytes) == (len(sizes), sum(sizes)) == (6, sum(sizes))
    assert found.content.reclaimable_bytes == found.content.size_bytes
    assert (found.layers.count, found.layers.size_bytes, found.layers.reclaimable_bytes) == (2, 1010, 1010)
    assert (found.content.active_count, found.layers.active_count, found.containers.count) == (0, 0, 0)
    assert not found.content.is_estimate
    spec = container_spec_pb2.ContainerSpec(image="second:1")
    engine.containers.CreateContainer(containers_pb2.CreateContainerRequest(spec=spec, name="user"))
    try:
        used = disk_usage(engine)
        assert (used.content.active_count, used.layers.active_count) == (3, 1)
        assert (used.content.size_bytes, used.layers.size_bytes) == (found.content.size_bytes, 1010)
        kept = len(second.manifest) + len(second.config) + len(shared.blob)
        assert used.content.reclaimable_bytes == found.content.size_bytes - kept
        assert used.layers.reclaimable_bytes == 10
        assert (used.containers.count, used.containers.active_count, used.containers.is_estimate) == (1, 0, False)
        # A prune frees what was said, and it is not said any more.
        pruned = ended(engine, engine.images.PruneImages(images_pb2.PruneImagesRequest(all=True)).operation)
        said = used.content.reclaimable_bytes + used.layers.reclaimable_bytes
        assert pruned.prune_result.reclaimed_bytes == said
        left = disk_usage(engine)
        assert (left.content.reclaimable_bytes, left.content.size_bytes) == (0, sum(blob_bytes(engine)))
        engine.images.DeleteImage(images_pb2.DeleteImageRequest(image="second:1", force=True))
        assert disk_usage(engine).layers.is_estimate
    finally:
        engine.containers.DeleteContainer(containers_pb2.DeleteContainerRequest(container="user", force=True))


def test_what_containers_write_and_log_is_counted(tmp_path: Path) -> None:
    with Engine(tmp_path) as engine:
        load(engine, image_files.oci_archive({"busybox:1": images.busybox_image()}))
        empty = disk_usage(engine)
        assert (empty.containers.count, empty.containers.size_bytes, empty.containers.is_estimate) == (0, 0, False)
        assert (empty.logs.count, empty.volumes.count, empty.HasField("volumes")) == (0, 0, True)
        assert not empty.HasField("build_cache")
        script = "head -c 70000 /dev/zero > /written; seq 1000; echo ready; sleep 1000"
        engine.start_container("busybox:1", "writer", "sh", "-c", script)
        until_now(lambda: b"ready" in engine.logs("writer"))
        # It is counted with the event of its start, which is written together with others.
        until_now(lambda: disk_usage(engine).containers.active_count == 1)
        running = disk_usage(engine)
        assert (running.containers.count, running.containers.active_count) == (1, 1)
        # It runs: what it wrote since it was counted last is not told.
        assert running.containers.is_estimate
        kill = containers_pb2.KillContainerRequest(container="writer")
        engine.containers.KillContainer(kill)
        until_now(lambda: not disk_usage(engine).containers.is_estimate, "the ended container is counted")
        ended_usage = disk_usage(engine)
        assert ended_usage.containers.size_bytes >= 70_000
        assert ended_usage.containers.reclaimable_bytes == ended_usage.containers.size_bytes
        logs = [path.stat().st_size for path in (tmp_path / "data" / "containers").glob("*/log/*")]
        assert (ended_usage.logs.size_bytes, ended_usage.logs.is_estimate) == (sum(logs), False)
        # It is known again after a crash, once it was counted.
        engine.kill()
        engine.start()
        until_now(lambda: not disk_usage(engine).containers.is_estimate, "it is counted again")
        assert disk_usage(engine) == ended_usage
        engine.containers.DeleteContainer(containers_pb2.DeleteContainerRequest(container="writer"))
        assert disk_usage(engine) == empty
