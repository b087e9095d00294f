"""One engine for all crashes, with a busybox and a bystander; each test leaves it serving and clean."""

from collections.abc import Iterator
from contextlib import closing, suppress
from pathlib import Path

import pytest

from fluyt.v1 import images_pb2
from tests.recovery.crash import BYSTANDER, COUNT, IMAGE, CrashedEngine, delete, find, start_ready
from tests.support import image_files, images, leftovers
from tests.support.preloaded_fluytd import Preloaded
from tests.support.registry import RealRegistry

#: A collection that is asked for takes every image that may go; none runs by itself.
COLLECT_ALL = ("--image-collection-max-bytes", "1", "--image-collection-min-age-seconds", "0")
#: Whatever drives a daemon needs these.
NEEDS = ("root", "busybox", "docker-registry")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Every test here drives a daemon."""
    for item in items:
        if "tests/recovery/" in str(item.path):
            item.add_marker(pytest.mark.needs(*NEEDS))


@pytest.fixture(scope="session")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a registry that outlives all daemons."""
    with RealRegistry(tmp_path_factory.mktemp("registry")) as running:
        yield running.address


@pytest.fixture(scope="session")
def preloaded() -> Iterator[Preloaded]:
    """Where the daemons come from."""
    with closing(Preloaded()) as process:
        yield process


@pytest.fixture(scope="session")
def crashed_engine(
    tmp_path_factory: pytest.TempPathFactory, preloaded: Preloaded, registry: str
) -> Iterator[CrashedEngine]:
    """The engine of the whole run."""
    with CrashedEngine(tmp_path_factory.mktemp("crash"), preloaded, registry, options=COLLECT_ALL) as running:
        running.load(image_files.oci_archive({IMAGE: images.busybox_image()}))
        yield running


@pytest.fixture
def erofs_engine(tmp_path: Path, preloaded: Preloaded, registry: str) -> Iterator[CrashedEngine]:
    """An engine that keeps layers as EROFS images, with a busybox and a bystander."""
    with CrashedEngine(tmp_path, preloaded, registry, options=["--layer-store", "erofs"]) as running:
        running.load(image_files.oci_archive({IMAGE: images.busybox_image()}))
        start_ready(running, BYSTANDER, COUNT)
        yield running


@pytest.fixture
def directory_engine(tmp_path: Path, preloaded: Preloaded, registry: str) -> Iterator[CrashedEngine]:
    """As `erofs_engine`, with layers as directories."""
    with CrashedEngine(tmp_path, preloaded, registry, options=["--layer-store", "directory"]) as running:
        running.load(image_files.oci_archive({IMAGE: images.busybox_image()}))
        start_ready(running, BYSTANDER, COUNT)
        yield running


@pytest.fixture
def engine(crashed_engine: CrashedEngine) -> Iterator[CrashedEngine]:
    """The engine serves, the bystander runs, and there is no other container and no other image. What a failed test
    left is taken away here, so that it does not fail the next one."""
    engine = crashed_engine
    if engine.process.poll() is not None:
        engine.start()
    for container in leftovers.list_containers(engine):
        if container.name != BYSTANDER:
            delete(engine, container.id)
    bystander = find(engine, BYSTANDER)
    if bystander is None or leftovers.process_of(bystander.host_pid) is None:
        with suppress(Exception):
            delete(engine, BYSTANDER)
        start_ready(engine, BYSTANDER, COUNT)
    for image in leftovers.list_images(engine):
        if not any(name.endswith(f"/{IMAGE}") for name in image.references):
            engine.images.DeleteImage(images_pb2.DeleteImageRequest(image=image.id, force=True))
    yield engine
    if engine.process.poll() is not None:
        engine.start()
