"""The history of builds: listed, read after a restart with its output, forgotten; and the caches of RUN beside it."""

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from fluyt import builds, errors, operations
from fluyt.v1 import builds_pb2, images_pb2
from fluyt.v1.types import operation_pb2
from tests.e2e.builds.steps import BASE, build, refused
from tests.support import image_files, images
from tests.support.engine import Engine
from tests.support.wait import until_now

State = operation_pb2.Operation
CACHE_MOUNT = builds_pb2.BuildCacheRecord.KIND_CACHE_MOUNT


@pytest.fixture
def own_engine(tmp_path: Path) -> Iterator[Engine]:
    """An engine that is killed."""
    root = tmp_path / "engine"
    root.mkdir()
    with Engine(root) as running:
        running.load(image_files.oci_archive({BASE: images.busybox_image()}))
        yield running


def output(engine: Engine, build_id: str, position: int = 0) -> bytes:
    """What the steps of a build wrote, from a position on."""
    return b"".join(piece.data for piece in builds.read_log(engine.channel, build_id, position_bytes=position))


def test_builds_and_their_output_outlive_the_daemon(own_engine: Engine, tmp_path: Path) -> None:
    engine = own_engine
    folder = tmp_path / "context"
    folder.mkdir()
    built = build(engine, folder, "FROM busybox:1\nRUN echo first; echo second >&2\n", reference="kept:1")
    build(engine, folder, "FROM busybox:1\nRUN echo first; echo second >&2\n", reference="kept:2")
    refused(engine, folder, "FROM busybox:1\nRUN echo before; exit 3\n", reference="broken:1")
    text = b"FROM busybox:1\nRUN echo begun; sleep 1000\n"
    context_id = builds.upload_context(engine.channel, folder)
    request = builds_pb2.BuildImageRequest(
        context=builds_pb2.BuildSource(context_id=context_id), dockerfile=text, references=["cut:1"]
    )
    running = builds.begin(engine.channel, request)
    next(builds.read_log(engine.channel, running.id))
    path = engine.root / "data" / "build_history" / f"{running.id}.log"
    until_now(lambda: path.exists() and b"begun" in path.read_bytes())
    with pytest.raises(errors.InvalidInput):
        builds.prune_history(engine.channel, [running.id])

    os.kill(engine.process.pid, signal.SIGKILL)
    engine.process.wait(30)
    engine.channel.close()
    engine.start()

    listed = list(builds.list_builds(engine.channel))
    assert [list(one.references) for one in listed] == [["cut:1"], ["broken:1"], ["kept:2"], ["kept:1"]]
    assert [one.state for one in listed] == [
        State.STATE_FAILED,
        State.STATE_FAILED,
        State.STATE_SUCCEEDED,
        State.STATE_SUCCEEDED,
    ]
    cut, broken, second, first = (builds.get_build(engine.channel, one.id) for one in listed)
    assert cut.failure.reason == "ENGINE_RESTARTED"
    assert output(engine, cut.id) == b"begun\n"
    assert (broken.failure.reason, broken.failure.metadata["exit_code"]) == ("BUILD_STEP_FAILED", "3")
    assert output(engine, broken.id) == b"before\n"
    assert first.result.image_id == built.result.image_id
    assert (first.step_count, first.cached_step_count, second.cached_step_count) == (2, 0, 1)
    assert [step.instruction for step in first.steps][-1].startswith("RUN echo first")
    assert sorted(output(engine, first.id).splitlines()) == [b"first", b"second"]
    assert output(engine, first.id, 6) == output(engine, first.id)[6:]
    assert first.log_size_bytes == len(output(engine, first.id))

    assert builds.prune_history(engine.channel, [first.id, "0" * 32]) == [first.id]
    assert sorted(builds.prune_history(engine.channel, all=True)) == sorted([cut.id, broken.id, second.id])
    assert not list(builds.list_builds(engine.channel))
    assert not list((engine.root / "data" / "build_history").iterdir())
    with pytest.raises(errors.NotFound):
        builds.get_build(engine.channel, first.id)


def test_a_cancelled_build_is_told_as_one(engine: Engine, tmp_path: Path) -> None:
    context_id = builds.upload_context(engine.channel, tmp_path)
    request = builds_pb2.BuildImageRequest(
        context=builds_pb2.BuildSource(context_id=context_id), dockerfile=b"FROM busybox:1\nRUN echo a; sleep 1000\n"
    )
    running = builds.begin(engine.channel, request)
    next(builds.read_log(engine.channel, running.id))
    assert builds.get_build(engine.channel, running.id).state == State.STATE_RUNNING
    operations.cancel(engine.channel, running.id)
    engine.ended(running)
    assert builds.get_build(engine.channel, running.id).state == State.STATE_CANCELLED


def test_cache_mounts_are_listed_and_pruned_unless_a_step_has_them(engine: Engine, tmp_path: Path) -> None:
    line = "RUN --mount=type=cache,id=listed,target=/c {}\n"
    build(engine, tmp_path, "FROM busybox:1\n" + line.format("head -c 5000 /dev/zero > /c/f"))

    def mounts() -> list[builds_pb2.BuildCacheRecord]:
        found = builds.list_cache(engine.channel)
        return [one for one in found if one.kind == CACHE_MOUNT and one.description.endswith(" listed")]

    (mount,) = mounts()
    assert (mount.size_bytes, mount.description, mount.is_in_use) == (5000, "cache mount listed", False)
    context_id = builds.upload_context(engine.channel, tmp_path)
    text = "FROM busybox:1\n" + line.format("echo begun; sleep 1000")
    request = builds_pb2.BuildImageRequest(
        context=builds_pb2.BuildSource(context_id=context_id), dockerfile=text.encode()
    )
    running = builds.begin(engine.channel, request)
    next(builds.read_log(engine.channel, running.id))
    (mount,) = mounts()
    assert mount.is_in_use
    assert mount.id not in builds.prune_cache(engine.channel, all=True).deleted
    operations.cancel(engine.channel, running.id)
    engine.ended(running)
    pruned = builds.prune_cache(engine.channel)
    assert mount.id in pruned.deleted
    assert pruned.reclaimed_bytes >= 5000
    assert mounts() == []
    assert not [
        path for path in (engine.root / "data" / "build_mounts").iterdir() if path.name.startswith(mount.id[:64])
    ]


def test_a_prune_leaves_what_images_have_unless_all_is_said(engine: Engine, tmp_path: Path) -> None:
    builds.prune_cache(engine.channel, all=True)
    build(engine, tmp_path, "FROM busybox:1\nRUN echo shared > /f\n", reference="shared:1")
    only = build(engine, tmp_path, "FROM busybox:1\nRUN echo lonely > /f\n", reference="shared:2")
    engine.images.DeleteImage(images_pb2.DeleteImageRequest(image=only.reference))
    before = {one.description: one.id for one in builds.list_cache(engine.channel)}
    gone = builds.prune_cache(engine.channel).deleted
    assert before["RUN echo lonely > /f"] in gone
    assert before["RUN echo shared > /f"] not in gone
    assert before["RUN echo shared > /f"] in builds.prune_cache(engine.channel, all=True).deleted


def test_cache_mounts_are_bounded(tmp_path: Path) -> None:
    (tmp_path / "context").mkdir()
    (tmp_path / "engine").mkdir()
    with Engine(tmp_path / "engine", options=["--build-cache-max-bytes", "3000000"]) as engine:
        engine.load(image_files.oci_archive({BASE: images.busybox_image()}))

        def fill(name: str) -> None:
            line = f"RUN --mount=type=cache,id={name},target=/c head -c 1200000 /dev/zero > /c/f\n"
            build(engine, tmp_path / "context", "FROM busybox:1\n" + line)

        def kept() -> set[str]:
            found = builds.list_cache(engine.channel)
            return {one.description.removeprefix("cache mount ") for one in found if one.kind == CACHE_MOUNT}

        fill("first")
        fill("second")
        assert kept() == {"first", "second"}
        fill("third")
        assert kept() == {"second", "third"}
