"""A volume driver: a tiny one that keeps volumes in a directory of its own and can be told to fail."""

import shutil
from collections.abc import Iterator
from concurrent import futures
from pathlib import Path
from typing import Any

import grpc
import pytest

from fluyt.v1 import volume_drivers_pb2 as messages
from fluyt.v1 import volume_drivers_pb2_grpc
from tests.e2e.containers import steps as containers
from tests.e2e.containers.steps import IMAGE, INVALID, WRONG_STATE, refused, refused_run
from tests.e2e.volumes.steps import create, delete, export_tar, get, names, output, volume
from tests.support import image_files, images
from tests.support.engine import Engine
from tests.support.wait import until_now


class TinyDriver(volume_drivers_pb2_grpc.VolumeDriverServiceServicer):
    """Keeps volumes below a directory; `attached` has (volume, container) of those in use."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.attached: set[tuple[str, str]] = set()
        self.options: dict[str, dict[str, str]] = {}
        self.failure = ""
        self.path = ""

    def _check(self, context: Any) -> None:
        if self.failure:
            context.abort(grpc.StatusCode.INTERNAL, self.failure)

    def ProvisionVolume(self, request: Any, context: Any) -> Any:  # noqa: N802
        self._check(context)
        (self.root / request.volume_id).mkdir(exist_ok=True)
        self.options[request.volume_id] = dict(request.options)
        return messages.ProvisionVolumeResponse()

    def DiscardVolume(self, request: Any, context: Any) -> Any:  # noqa: N802
        self._check(context)
        shutil.rmtree(self.root / request.volume_id, ignore_errors=True)
        return messages.DiscardVolumeResponse()

    def AttachVolume(self, request: Any, context: Any) -> Any:  # noqa: N802
        self._check(context)
        self.attached.add((request.volume_id, request.container_id))
        return messages.AttachVolumeResponse(path=self.path or str(self.root / request.volume_id))

    def DetachVolume(self, request: Any, context: Any) -> Any:  # noqa: N802
        self.attached.discard((request.volume_id, request.container_id))
        return messages.DetachVolumeResponse()


@pytest.fixture
def driver(tmp_path: Path) -> Iterator[TinyDriver]:
    """A driver that listens as `tiny`."""
    (tmp_path / "kept").mkdir()
    (tmp_path / "drivers").mkdir()
    tiny = TinyDriver(tmp_path / "kept")
    server = grpc.server(futures.ThreadPoolExecutor(2))
    volume_drivers_pb2_grpc.add_VolumeDriverServiceServicer_to_server(tiny, server)
    server.add_insecure_port(f"unix:{tmp_path}/drivers/tiny.sock")
    server.start()
    yield tiny
    server.stop(None)


@pytest.fixture
def engine(driver: TinyDriver, tmp_path: Path) -> Iterator[Engine]:
    """An engine that knows the driver."""
    with Engine(tmp_path, options=["--volume-drivers-dir", str(tmp_path / "drivers")]) as running:
        running.load(image_files.oci_archive({IMAGE: images.busybox_image()}))
        yield running


def test_a_driver_keeps_volumes_of_containers(engine: Engine, driver: TinyDriver) -> None:
    create(engine, "far", driver="tiny", driver_options={"tier": "fast", "api_token": "hush"})
    (kept,) = driver.root.iterdir()
    assert driver.options[kept.name] == {"tier": "fast", "api_token": "hush"}
    shown = get(engine, "far")
    assert (shown.driver, shown.driver_options["api_token"], shown.HasField("size_bytes")) == ("tiny", "***", False)
    output(engine, IMAGE, "echo one > /v/f; mkdir /v/part; echo two > /v/part/g", mounts=[volume("/v", "far")])
    assert (kept / "f").read_text() == "one\n"
    until_now(lambda: not driver.attached, "it is detached when the container has ended")
    running = containers.started(engine, "sleep", "60", mounts=[volume("/p", "far", sub_path="part", read_only=True)])
    assert driver.attached == {(kept.name, running.id)}
    engine.kill()
    engine.start()
    assert driver.attached == {(kept.name, running.id)}, "it runs on"
    containers.delete(engine, running.id, force=True)
    until_now(lambda: not driver.attached, "it is detached by a later daemon too")
    assert refused(lambda: export_tar(engine, "far"))[:2] == (INVALID, "FIELD_INVALID")
    delete(engine, "far")
    assert list(driver.root.iterdir()) == []


def test_a_driver_that_fails_is_named_and_leaves_nothing(engine: Engine, driver: TinyDriver) -> None:
    driver.failure = "the array is full"
    code, reason, metadata = refused(lambda: create(engine, "far", driver="tiny"))
    assert (code, reason) == (grpc.StatusCode.UNAVAILABLE, "VOLUME_DRIVER_FAILED")
    assert (metadata["driver"], metadata["detail"]) == ("tiny", "the array is full")
    assert names(engine) == []
    driver.failure = ""
    create(engine, "far", driver="tiny")
    driver.failure = "no path to it"
    assert refused_run(engine, "true", mounts=[volume("/v", "far")])[1] == "VOLUME_DRIVER_FAILED"
    driver.failure = ""
    driver.path = "relative"
    assert refused_run(engine, "true", mounts=[volume("/v", "far")])[1] == "VOLUME_DRIVER_FAILED"
    assert driver.attached == set()
    driver.failure = "still busy"
    assert refused(lambda: delete(engine, "far"))[1] == "VOLUME_DRIVER_FAILED"
    delete(engine, "far", force=True)
    assert names(engine) == []


@pytest.mark.parametrize("name", ["other", "../tiny", "TINY", "a/b"])
def test_a_driver_that_is_not_set_up_is_told(engine: Engine, name: str) -> None:
    answer = refused_run(engine, "true", mounts=[volume("/v", "far", driver=name)])
    assert answer[:2] == (WRONG_STATE, "VOLUME_DRIVER_NOT_FOUND")
    assert names(engine) == []
