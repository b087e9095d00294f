"""Automatic collection of images: when it begins, what it takes and spares, what it tells; pins; a dry run."""

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import grpc
import pytest

from fluyt import errors
from fluyt.v1 import containers_pb2, engine_pb2, engine_pb2_grpc, events_pb2, images_pb2, operations_pb2
from fluyt.v1.types import container_spec_pb2, operation_pb2
from tests.e2e.images.steps import (
    CANCELLED,
    ended,
    get,
    import_rootfs,
    listed,
    load,
    pull,
    refused,
    small_image,
    small_layer,
)
from tests.support import image_files, images
from tests.support.engine import Engine
from tests.support.images import Image
from tests.support.registry import FaultyRegistry, blob_path, delay
from tests.support.wait import until_now

OFF = ("--image-collection-high-water-percent", "0", "--image-collection-low-water-percent", "0")
AT_ONCE = ("--image-collection-min-age-seconds", "0")
ON = ("--image-collection-enabled", "true")


@contextmanager
def engine_with(root: Path, *options: str) -> Iterator[Engine]:
    """An engine whose collection has these settings, and no water marks unless they are among them."""
    with Engine(root, options=(*OFF, *AT_ONCE, *options)) as running:
        yield running


def add(engine: Engine, name: str, size: int = 100_000) -> str:
    """An image that weighs a little more than so many bytes; its id."""
    image = images.image([small_layer(name, name.encode() * (size // len(name)))])
    load(engine, image_files.oci_archive({f"{name}:1": image}))
    return image.config_digest


def ids(engine: Engine) -> set[str]:
    return {image.id for image in listed(engine)}


def collect(engine: Engine, *, dry_run: bool = False) -> operation_pb2.PruneResult:
    """A collection by the settings, asked for."""
    request = images_pb2.PruneImagesRequest(by_policy=True, dry_run=dry_run)
    operation = ended(engine, engine.images.PruneImages(request).operation)
    assert operation.failure.reason == "", operation
    return operation.prune_result


def pin(engine: Engine, image: str, *, is_pinned: bool = True) -> images_pb2.Image:
    request = images_pb2.SetImagePinRequest(image=image, is_pinned=is_pinned)
    answer: images_pb2.SetImagePinResponse = engine.images.SetImagePin(request)
    return answer.image


def facts(engine: Engine, *names: str) -> list[events_pb2.Event]:
    request = events_pb2.WatchEventsRequest(from_sequence=1)
    request.filter.facts.extend(names)
    request.until_time.GetCurrentTime()
    return [one.event for one in engine.events.WatchEvents(request) if one.WhichOneof("message") == "event"]


def total_bytes(engine: Engine) -> int:
    usage = engine_pb2_grpc.EngineServiceStub(engine.channel).GetDiskUsage(engine_pb2.GetDiskUsageRequest())
    return int(usage.content.size_bytes + usage.layers.size_bytes)


def use(engine: Engine, image: str) -> None:
    """A container of the image was made and is gone."""
    spec = container_spec_pb2.ContainerSpec(image=image, args=["true"])
    made = engine.containers.CreateContainer(containers_pb2.CreateContainerRequest(spec=spec)).container
    engine.containers.DeleteContainer(containers_pb2.DeleteContainerRequest(container=made.id))


def test_above_a_weight_the_least_recently_used_goes_at_once(tmp_path: Path) -> None:
    with engine_with(tmp_path, *ON, "--image-collection-max-bytes", "250000") as engine:
        first, second = add(engine, "first"), add(engine, "second")
        use(engine, first)
        third = add(engine, "third")
        until_now(lambda: ids(engine) == {first, third}, "the image that was not used goes")
        assert total_bytes(engine) <= 250_000
        # It is out of sight a moment before that is recorded.
        until_now(lambda: facts(engine, "image_deleted"))
        (deleted,) = facts(engine, "image_deleted")
        assert (deleted.image_deleted.image_id, deleted.image_deleted.cause) == (second, "max_bytes")
        until_now(lambda: facts(engine, "storage_reclaimed"))
        (reclaimed,) = facts(engine, "storage_reclaimed")
        assert reclaimed.storage_reclaimed.cause == "max_bytes"
        assert reclaimed.storage_reclaimed.reclaimed_bytes == deleted.image_deleted.reclaimed_bytes > 100_000
        assert facts(engine, "storage_short") == []


def test_it_begins_with_the_daemon_and_repeats(tmp_path: Path, registry: FaultyRegistry) -> None:
    options = ("--image-collection-max-age-seconds", "1", "--image-collection-interval-seconds", "1")
    with engine_with(tmp_path, *options) as engine:
        first = add(engine, "first")
        until_now(lambda: list(collect(engine, dry_run=True).deleted) == [first], "it is old")
        # No collection is enabled.
        assert ids(engine) == {first}
    with engine_with(tmp_path, *ON, *options) as engine:
        until_now(lambda: not ids(engine) and facts(engine, "image_deleted"), "the aged image goes")
        assert facts(engine, "image_deleted")[-1].image_deleted.cause == "age"
        registry.put("app", "1", small_image())
        pull(engine, f"{registry.address}/app:1")
        until_now(lambda: not ids(engine), "the next one goes when it is old")


def test_it_does_nothing_unless_it_is_enabled_but_tells_what_it_would(tmp_path: Path) -> None:
    with engine_with(tmp_path, "--image-collection-max-bytes", "150000") as engine:
        first, second = add(engine, "first"), add(engine, "second")
        told = collect(engine, dry_run=True)
        assert (list(told.deleted), told.deleted_count) == ([first], 1)
        assert ids(engine) == {first, second}
        done = collect(engine)
        assert done == told
        assert ids(engine) == {second}
        assert facts(engine, "image_deleted")[-1].actor == "engine"
        again = collect(engine)
        assert (list(again.deleted), again.reclaimed_bytes) == ([], 0)


def test_what_is_used_pinned_or_young_stays_and_the_rest_is_told_as_missing(tmp_path: Path) -> None:
    options = ("--image-collection-max-bytes", "1", "--image-collection-pinned", "kept*, other/x")
    with engine_with(tmp_path, *options) as engine:
        used, pinned, by_name, free = (add(engine, name) for name in ("used", "pinned", "kept", "free"))
        assert pin(engine, pinned).is_pinned
        assert get(engine, by_name).image.is_pinned
        spec = container_spec_pb2.ContainerSpec(image=used, args=["true"])
        engine.containers.CreateContainer(containers_pb2.CreateContainerRequest(spec=spec, name="user"))
        assert list(collect(engine).deleted) == [free]
        assert ids(engine) == {used, pinned, by_name}
        (short,) = facts(engine, "storage_short")
        assert short.storage_short.missing_bytes == total_bytes(engine) - 1
        collect(engine)
        # It is told once until there is enough again.
        assert len(facts(engine, "storage_short")) == 1
        engine.containers.DeleteContainer(containers_pb2.DeleteContainerRequest(container="user"))
        pin(engine, pinned, is_pinned=False)
        assert set(collect(engine).deleted) == {used, pinned}
    with engine_with(tmp_path, "--image-collection-min-age-seconds", "3600", *options) as engine:
        young = add(engine, "young")
        assert list(collect(engine).deleted) == []
        assert young in ids(engine)


def test_the_disk_above_its_high_mark_brings_it_down_to_its_low_one(tmp_path: Path) -> None:
    marks = ("--image-collection-high-water-percent", "1", "--image-collection-low-water-percent", "0")
    with engine_with(tmp_path, *marks) as engine:
        # No disk is at 0 per cent, so that all goes that may, and more is missing.
        first, second = add(engine, "first"), add(engine, "second")
        assert set(collect(engine).deleted) == {first, second}
        assert {one.image_deleted.cause for one in facts(engine, "image_deleted")} == {"watermark"}
        assert len(facts(engine, "storage_short")) == 1


def test_pins_survive_a_restart_and_go_with_the_image(tmp_path: Path) -> None:
    with engine_with(tmp_path) as engine:
        image = small_image()
        load(engine, image_files.oci_archive({"app:1": image}))
        pin(engine, "app:1")
        pin(engine, "app:1")
        assert [(one.image_pinned.image_id, one.image_pinned.is_pinned) for one in facts(engine, "image_pinned")] == [
            (image.config_digest, True)
        ]
        engine.kill()
        engine.start()
        assert get(engine, "app:1").image.is_pinned
        request = images_pb2.PruneImagesRequest(all=True)
        assert ended(engine, engine.images.PruneImages(request).operation).prune_result.deleted_count == 0
        engine.images.DeleteImage(images_pb2.DeleteImageRequest(image="app:1"))
        load(engine, image_files.oci_archive({"app:1": image}))
        assert not get(engine, "app:1").image.is_pinned
        assert refused(lambda: pin(engine, "no/such")).reason == "IMAGE_NOT_FOUND"
        assert refused(lambda: pin(engine, "")).reason == "FIELD_INVALID"


def test_the_last_use_is_told_and_survives_a_restart(tmp_path: Path) -> None:
    with engine_with(tmp_path) as engine:
        add(engine, "app")
        came = get(engine, "app:1").image
        assert came.last_use_time.ToNanoseconds() >= came.create_time.ToNanoseconds()
        use(engine, "app:1")
        used = get(engine, "app:1").image.last_use_time.ToNanoseconds()
        assert used > came.last_use_time.ToNanoseconds()
        engine.kill()
        engine.start()
        # To the minute: what came within one after the last record may be gone.
        assert abs(get(engine, "app:1").image.last_use_time.ToNanoseconds() - used) < 60_000_000_000


def test_policy_and_conditions_exclude_each_other(tmp_path: Path) -> None:
    with engine_with(tmp_path) as engine:
        wrong: list[dict[str, Any]] = [{"all": True}, {"filter": images_pb2.ImageFilter(labels=["a"])}]
        for fields in wrong:
            request = images_pb2.PruneImagesRequest(by_policy=True, **fields)
            found = refused(lambda request=request: engine.images.PruneImages(request))  # type: ignore[misc]
            assert (found.reason, found.metadata["field"]) == ("FIELD_INVALID", "by_policy")


def test_the_settings_are_told(tmp_path: Path) -> None:
    with engine_with(tmp_path, *ON, "--image-collection-max-bytes", "7000000") as engine:
        info = engine_pb2_grpc.EngineServiceStub(engine.channel).GetInfo(engine_pb2.GetInfoRequest())
        limits = {limit.name: (limit.value, limit.unit) for limit in info.limits}
        assert limits["image_collection_enabled"] == (1, "flag")
        assert limits["image_collection_max_bytes"] == (7_000_000, "bytes")
        assert limits["image_collection_high_water_percent"] == (0, "percent")


def test_two_collections_at_once_take_each_image_once(tmp_path: Path) -> None:
    with engine_with(tmp_path, "--image-collection-max-bytes", "1") as engine:
        all_ids = {add(engine, f"image{number}", 1_000) for number in range(6)}
        request = images_pb2.PruneImagesRequest(by_policy=True)
        begun = [engine.images.PruneImages(request).operation for _ in range(3)]
        taken = [one for operation in begun for one in ended(engine, operation).prune_result.deleted]
        assert (len(taken), set(taken), ids(engine)) == (6, all_ids, set())


def shared_images(count: int) -> list[Image]:
    """Images over one base, each with a layer of its own."""
    base = small_layer("base", b"b" * 50_000)
    return [images.image([base, small_layer(f"own{number}")]) for number in range(count)]


@pytest.mark.parametrize("seed", range(3))
def test_collections_never_take_what_pulls_loads_and_imports_need(
    tmp_path: Path, registry: FaultyRegistry, seed: int
) -> None:
    made = shared_images(6)
    for number, image in enumerate(made):
        registry.put(f"race{number}", "1", image)
    with engine_with(tmp_path, "--image-collection-max-bytes", "1") as engine:
        for _ in range(2):
            begun = [
                engine.images.PullImage(images_pb2.PullImageRequest(reference=f"{registry.address}/race{number}:1"))
                for number in range(seed, len(made))
            ]
            prunes = [engine.images.PruneImages(images_pb2.PruneImagesRequest(by_policy=True)) for _ in range(4)]
            load(engine, image_files.oci_archive({"loaded:1": made[seed]}))
            # What was made may be collected before the answer shows it.
            with suppress(errors.NotFound), errors.translated():
                import_rootfs(engine, made[seed].layers[0].blob)
            for one in [*begun, *prunes]:
                operation = ended(engine, one.operation)
                assert operation.failure.reason == "", operation
        # What is listed is whole, whatever the order was.
        stub = engine_pb2_grpc.EngineServiceStub(engine.channel)
        checked = list(stub.CheckStorage(engine_pb2.CheckStorageRequest()))
        assert checked[-1].summary.damaged_count == 0, checked
        collect(engine)
        assert ids(engine) == set()


def test_a_push_keeps_what_it_sends(tmp_path: Path, registry: FaultyRegistry) -> None:
    with engine_with(tmp_path, "--image-collection-max-bytes", "1") as engine:
        image = images.image([small_layer("pushed", b"p" * 300_000)])
        load(engine, image_files.oci_archive({"app:1": image}))
        asked = blob_path("team/app", image.layers[0].digest)
        for digest in image.blobs:
            registry.always(blob_path("team/app", digest), delay(8))
        pushed = engine.images.PushImage(
            images_pb2.PushImageRequest(reference="app:1", target_reference=f"{registry.address}/team/app:1")
        ).operation
        until_now(lambda: registry.requests_for(asked), "the push asks for its blob")
        assert list(collect(engine).deleted) == []
        assert ids(engine) == {image.config_digest}
        engine.operations.CancelOperation(operations_pb2.CancelOperationRequest(id=pushed.id))
        assert ended(engine, pushed).state == CANCELLED
        assert list(collect(engine).deleted) == [image.config_digest]


def test_containers_are_made_of_whole_images_or_not_at_all(tmp_path: Path) -> None:
    with engine_with(tmp_path, "--image-collection-max-bytes", "1") as engine:
        archive = image_files.oci_archive({"busybox:1": images.busybox_image()})
        request = images_pb2.PruneImagesRequest(by_policy=True)
        spec = container_spec_pb2.ContainerSpec(image="busybox:1", args=["echo", "whole"])
        for number in range(6):
            load(engine, archive)
            begun = [engine.images.PruneImages(request).operation for _ in range(2)]
            reason, created = "", None
            try:
                created = engine.containers.CreateContainer(
                    containers_pb2.CreateContainerRequest(spec=spec, name=f"c{number}")
                ).container
            except grpc.RpcError as error:
                reason = errors.from_rpc_error(error).reason
            assert reason in {"", "IMAGE_NOT_FOUND"}
            for operation in begun:
                assert ended(engine, operation).failure.reason == ""
            if created is None:
                continue
            # The image that it was made of is here, and its layers are.
            assert ids(engine)
            engine.containers.StartContainer(containers_pb2.StartContainerRequest(container=created.id))
            engine.containers.WaitContainer(containers_pb2.WaitContainerRequest(container=created.id))
            assert engine.logs(created.id) == b"whole\n"
            engine.containers.DeleteContainer(containers_pb2.DeleteContainerRequest(container=created.id))


def test_a_commit_beside_collections_leaves_an_image_that_is_whole_or_none(tmp_path: Path) -> None:
    with engine_with(tmp_path, "--image-collection-max-bytes", "1") as engine:
        load(engine, image_files.oci_archive({"busybox:1": images.busybox_image()}))
        spec = container_spec_pb2.ContainerSpec(image="busybox:1", args=["sh", "-c", "echo x > /made"])
        engine.containers.CreateContainer(containers_pb2.CreateContainerRequest(spec=spec, name="source"))
        engine.containers.StartContainer(containers_pb2.StartContainerRequest(container="source"))
        engine.containers.WaitContainer(containers_pb2.WaitContainerRequest(container="source"))
        request = images_pb2.PruneImagesRequest(by_policy=True)
        for number in range(4):
            begun = [engine.images.PruneImages(request).operation for _ in range(2)]
            engine.containers.CommitContainer(
                containers_pb2.CommitContainerRequest(container="source", reference=f"made:{number}")
            )
            for operation in begun:
                assert ended(engine, operation).failure.reason == ""
            stub = engine_pb2_grpc.EngineServiceStub(engine.channel)
            checked = list(stub.CheckStorage(engine_pb2.CheckStorageRequest()))
            assert checked[-1].summary.damaged_count == 0, checked
        engine.containers.DeleteContainer(containers_pb2.DeleteContainerRequest(container="source"))
