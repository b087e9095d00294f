"""Pruning images: what goes and what stays, what is told of it, and that a dry run tells the same."""

import contextlib
from collections.abc import Iterator
from typing import Any

from google.protobuf import timestamp_pb2

from fluyt.v1 import containers_pb2, events_pb2, images_pb2
from fluyt.v1.types import container_spec_pb2, operation_pb2
from tests.e2e.images.steps import (
    SUCCEEDED,
    ended,
    get,
    listed,
    load,
    refused,
    small_image,
    small_layer,
    stored,
)
from tests.support import image_files, images
from tests.support.engine import Engine
from tests.support.images import Image

NOW = timestamp_pb2.Timestamp(seconds=4_000_000_000)


def load_as(engine: Engine, name: str, image: Image) -> str:
    load(engine, image_files.oci_archive({name: image}))
    return image.config_digest


def begin_prune(engine: Engine, **request: Any) -> operation_pb2.Operation:
    operation: operation_pb2.Operation = engine.images.PruneImages(images_pb2.PruneImagesRequest(**request)).operation
    assert operation.kind == operation_pb2.Operation.KIND_PRUNE_IMAGES
    return operation


def prune(engine: Engine, **request: Any) -> operation_pb2.PruneResult:
    """The result of a prune that succeeds; its dry run said the same and changed nothing."""
    before = stored(engine)
    dry = ended(engine, begin_prune(engine, **{**request, "dry_run": True}))
    assert dry.state == SUCCEEDED
    assert stored(engine) == before
    operation = ended(engine, begin_prune(engine, **request))
    assert operation.state == SUCCEEDED, operation.failure
    result = operation.prune_result
    assert dry.prune_result == result
    assert result.deleted_count == len(result.deleted)
    assert operation.prune_progress.examined_count == len(before.images)
    assert operation.prune_progress.reclaimed_bytes == result.reclaimed_bytes
    assert set(result.deleted) == before.images - stored(engine).images
    return result


@contextlib.contextmanager
def container_of(engine: Engine, image: str) -> Iterator[None]:
    """A container of the image that was never started."""
    spec = container_spec_pb2.ContainerSpec(image=image, args=["true"])
    engine.containers.CreateContainer(containers_pb2.CreateContainerRequest(spec=spec, name="user"))
    try:
        yield
    finally:
        engine.containers.DeleteContainer(containers_pb2.DeleteContainerRequest(container="user", force=True))


def test_dangling_images_go_and_others_stay(engine: Engine) -> None:
    shared = small_layer("shared", b"s" * 1000)
    own = small_layer("own", b"o" * 10)
    dangling, named = images.image([shared, own]), images.image([shared], cmd=["x"])
    load_as(engine, "", dangling)
    load_as(engine, "app:1", named)
    result = prune(engine)
    assert list(result.deleted) == [dangling.config_digest]
    # What the other image has too is not freed.
    assert result.reclaimed_bytes == len(dangling.manifest) + len(dangling.config) + len(own.blob) + 10
    kept = {named.digest[7:], named.config_digest[7:], shared.digest[7:]}
    assert stored(engine).blobs == kept
    assert prune(engine).deleted_count == 0


def test_all_takes_every_image_that_no_container_uses(engine: Engine) -> None:
    used, free = load_as(engine, "used:1", small_image()), load_as(engine, "free:1", small_image())
    dangling = load_as(engine, "", small_image())
    engine.images.TagImage(images_pb2.TagImageRequest(image=free, reference="free:2"))
    with container_of(engine, "used:1"):
        assert set(prune(engine, all=True).deleted) == {free, dangling}
        assert [image.id for image in listed(engine)] == [used]
        assert get(engine, "used:1").image.container_count == 1
    assert list(prune(engine, all=True).deleted) == [used]
    assert not stored(engine).blobs
    assert not stored(engine).layers


def test_a_dangling_image_of_a_container_stays(engine: Engine) -> None:
    used = load_as(engine, "", small_image())
    with container_of(engine, used):
        assert prune(engine).deleted_count == 0
    assert list(prune(engine).deleted) == [used]


def test_conditions_must_hold_besides(engine: Engine) -> None:
    front = load_as(engine, "", small_image(labels={"tier": "front"}))
    back = load_as(engine, "team/back:1", small_image(labels={"tier": "back"}))
    old = load_as(engine, "old:1", small_image(extra={"created": "1999-01-01T00:00:00Z"}))
    new = load_as(engine, "new:1", small_image(extra={"created": "2015-01-01T00:00:00Z"}))
    none = images_pb2.ImageFilter
    assert prune(engine, filter=none(labels=["tier=back"])).deleted_count == 0
    assert prune(engine, filter=none(references=["team/*"])).deleted_count == 0
    assert prune(engine, filter=none(excluded_labels=["tier=front"])).deleted_count == 0
    assert prune(engine, filter=none(excluded_labels=["other", "tier"])).deleted_count == 0
    assert prune(engine, all=True, filter=none(before_time=timestamp_pb2.Timestamp(seconds=1))).deleted_count == 0
    assert list(prune(engine, all=True, filter=none(before_image="team/back:1")).deleted) == [old]
    assert list(prune(engine, all=True, filter=none(since_image="team/back:1")).deleted) == [new]
    assert list(prune(engine, all=True, filter=none(references=["team/*"], labels=["tier=back"])).deleted) == [back]
    other = load_as(engine, "other:1", small_image())
    # Who asks for images with references means them.
    assert list(prune(engine, filter=none(is_dangling=False, before_time=NOW)).deleted) == [other]
    assert list(prune(engine, filter=none(labels=["tier"], excluded_labels=["tier=back"])).deleted) == [front]
    error = refused(lambda: begin_prune(engine, filter=none(before_image="absent:1")))
    assert error.reason == "IMAGE_NOT_FOUND"


def test_events_tell_each_name_and_image_that_goes(engine: Engine) -> None:
    image = load_as(engine, "app:1", small_image())
    engine.images.TagImage(images_pb2.TagImageRequest(image=image, reference="app:2"))
    result = prune(engine, all=True)
    condition = events_pb2.EventFilter(facts=["image"], subjects=[image])
    request = events_pb2.WatchEventsRequest(from_sequence=1, filter=condition)
    request.until_time.GetCurrentTime()
    told = [
        one.event
        for one in engine.events.WatchEvents(request)
        if one.event.WhichOneof("fact") in {"image_untagged", "image_deleted"}
    ]
    assert [event.image_untagged.reference for event in told[:-1]] == [
        "docker.io/library/app:1",
        "docker.io/library/app:2",
    ]
    assert told[-1].image_deleted.image_id == image
    assert told[-1].image_deleted.reclaimed_bytes == result.reclaimed_bytes > 0


def test_a_request_id_gives_the_same_operation_again(engine: Engine) -> None:
    load_as(engine, "", small_image())
    first = begin_prune(engine, request_id="prune-once")
    again = begin_prune(engine, request_id="prune-once")
    assert first.id == again.id
    assert ended(engine, first).prune_result.deleted_count == 1
