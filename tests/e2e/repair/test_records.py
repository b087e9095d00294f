"""CheckStorage with `repair`: the layout, the records, what nothing needs, and what is told of it all."""

import contextlib
import sqlite3
from pathlib import Path

import pytest

from fluyt.v1 import engine_pb2, engine_pb2_grpc, events_pb2, images_pb2
from tests.e2e.repair.steps import (
    IMAGE,
    PLAIN,
    TREE,
    UPPER,
    beside,
    blob,
    check,
    empty,
    layer,
    pulled,
    repaired,
    spoil_meta,
    truncate,
)
from tests.support import image_files, images
from tests.support.engine import Engine
from tests.support.registry import FaultyRegistry


def test_the_files_of_the_layout_are_written_again(engine: Engine) -> None:
    engine.load(image_files.oci_archive({"app:1": IMAGE}))
    content = engine.root / "data" / "content"
    good = {name: (content / name).read_bytes() for name in ("index.json", "oci-layout")}
    for damage in (empty, truncate, Path.unlink):
        for name in good:
            damage(content / name)
        found = repaired(engine, 2)
        assert {one.subject for one in found} == {"content/index.json", "content/oci-layout"}
        assert {name: (content / name).read_bytes() for name in good} == good


def test_what_nothing_needs_is_found_and_swept(engine: Engine) -> None:
    engine.load(image_files.oci_archive({"app:1": IMAGE}))
    data = b"orphan"
    digest = images.digest_of(data)
    blob(engine, digest).write_bytes(data)
    folder = engine.root / "data" / "layers" / ("0" * 64)
    folder.mkdir()
    found, summary = check(engine)
    assert {(one.subject, one.failure.reason) for one in found} == {
        (digest, "CONTENT_ORPHANED"),
        (folder.name, "CONTENT_ORPHANED"),
    }
    assert (summary.damaged_count, summary.repaired_count, blob(engine, digest).exists()) == (2, 0, True)
    assert {one.action for one in repaired(engine, 2)} == {"it was deleted"}
    assert not blob(engine, digest).exists()
    assert not folder.exists()


def test_a_layer_without_a_readable_record_does_not_keep_the_daemon_from_starting(engine: Engine) -> None:
    engine.load(image_files.oci_archive({"app:1": IMAGE}))
    spoil_meta(layer(engine, TREE))
    engine.kill()
    engine.start()
    (found,) = repaired(engine)
    assert found.subject == layer(engine, TREE).name


def spoil_record(engine: Engine, image: images.Image) -> None:
    """The daemon has started anew over a record of the image that cannot be read."""
    engine.kill()
    with contextlib.closing(sqlite3.connect(engine.root / "data" / "state.db")) as records:
        records.execute("UPDATE images SET record = '{' WHERE id = ?", (image.config_digest,))
        records.commit()
    engine.start()


def listed(engine: Engine) -> dict[str, images_pb2.Image]:
    """All images by id."""
    return {image.id: image for image in engine.images.ListImages(images_pb2.ListImagesRequest()).images}


def test_a_damaged_record_of_an_image_is_written_again_from_what_is_stored(
    engine: Engine, registry: FaultyRegistry
) -> None:
    index = images.index([IMAGE, images.image([UPPER], architecture="s390x")])
    registry.put("team/app", "1", index)
    reference = f"{registry.address}/team/app:1"
    assert engine.pull(reference).failure.reason == ""
    engine.load(image_files.oci_archive({"plain:1": PLAIN}))
    engine.images.TagImage(images_pb2.TagImageRequest(image=reference, reference="second:1"))
    before = listed(engine)
    spoil_record(engine, IMAGE)
    assert list(listed(engine)) == [PLAIN.config_digest]
    ((found,), _) = check(engine)
    assert (found.subject, found.failure.reason, found.action) == (IMAGE.config_digest, "DATA_CORRUPT", "")
    (found,) = repaired(engine)
    assert (found.subject, IMAGE.digest in found.action) == (IMAGE.config_digest, True)
    after = listed(engine)
    for image in before.values():
        image.ClearField("version")
        after[image.id].ClearField("version")
    assert after == before
    # It is the index that the name stands for, as before: what a start finds is what the repair wrote.
    engine.kill()
    engine.start()
    pushed = images_pb2.ResolveImageRequest(reference=reference)
    assert engine.images.ResolveImage(pushed).target.digest == index.digest
    assert check(engine)[0] == []
    for name in (reference, "second:1", "plain:1"):
        engine.images.DeleteImage(images_pb2.DeleteImageRequest(image=name))
    assert list((engine.root / "data" / "content" / "blobs").glob("*/*")) == []


@pytest.mark.parametrize("lost", ["config", "manifest", "layer"])
def test_a_record_of_an_image_of_which_more_is_lost_is_told_and_nothing_is_swept(engine: Engine, lost: str) -> None:
    archive = image_files.oci_archive({"app:1": IMAGE})
    engine.load(archive)
    engine.load(image_files.oci_archive({"plain:1": PLAIN}))
    digests = {"config": IMAGE.config_digest, "manifest": IMAGE.digest, "layer": TREE.digest}
    blob(engine, digests[lost]).unlink()
    files = set((engine.root / "data" / "content" / "blobs").glob("*/*"))
    spoil_record(engine, IMAGE)
    for _ in range(2):
        (found,), summary = check(engine, repair=True)
        assert (found.subject, found.failure.reason) == (IMAGE.config_digest, "DATA_CORRUPT")
        assert (found.is_repaired, summary.damaged_count) == (False, 1)
        assert "pull or load the image again" in found.action
    assert set((engine.root / "data" / "content" / "blobs").glob("*/*")) == files
    engine.load(archive)
    assert check(engine)[0] == []
    for name in ("app:1", "plain:1"):
        engine.images.DeleteImage(images_pb2.DeleteImageRequest(image=name))
    assert list((engine.root / "data" / "content" / "blobs").glob("*/*")) == []


def test_each_finding_is_an_event(engine: Engine, registry: FaultyRegistry) -> None:
    pulled(engine, registry)
    blob(engine, TREE.digest).unlink()
    check(engine)
    repaired(engine)
    request = events_pb2.WatchEventsRequest(from_sequence=1)
    request.filter.facts.append("storage_damaged")
    request.until_time.GetCurrentTime()
    events = [one.event for one in engine.events.WatchEvents(request) if one.WhichOneof("message") == "event"]
    told = [(event.storage_damaged.subject, event.storage_damaged.is_repaired) for event in events]
    assert told == [(TREE.digest, False), (TREE.digest, True)]


def test_a_repair_that_nobody_waits_for_leaves_nothing(engine: Engine, registry: FaultyRegistry) -> None:
    pulled(engine, registry)
    blob(engine, TREE.digest).unlink()
    stub = engine_pb2_grpc.EngineServiceStub(engine.channel)
    stream = stub.CheckStorage(engine_pb2.CheckStorageRequest(repair=True))
    next(iter(stream))
    stream.cancel()
    repaired_or_not, _ = check(engine, repair=True)
    assert all(one.is_repaired for one in repaired_or_not)
    assert check(engine)[0] == []
    assert beside(engine) == []
