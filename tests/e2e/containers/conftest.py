"""One engine for all tests of containers; each test leaves it serving, and nothing of its own on the host."""

from collections.abc import Iterator

import pytest

from fluyt.v1 import containers_pb2
from tests.e2e.containers.steps import IMAGE, listed
from tests.support import image_files, images
from tests.support.engine import Engine
from tests.support.leftovers import nothing_unowned
from tests.support.wait import until_now


@pytest.fixture(scope="session")
def container_engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    """The engine of the whole run, with a busybox."""
    with Engine(tmp_path_factory.mktemp("ctrs")) as running:
        running.load(image_files.oci_archive({IMAGE: images.busybox_image()}))
        yield running
        # Once, as it reads every blob. What was given up goes a moment later: files, supervisors, rows.
        until_now(lambda: not nothing_unowned(running), "nothing is left that nothing owns")


@pytest.fixture
def engine(container_engine: Engine) -> Iterator[Engine]:
    """The engine without containers. Afterwards it serves on, and once all are deleted nothing is left of them."""
    yield container_engine
    had_ended = container_engine.revive()
    for container in listed(container_engine):
        container_engine.containers.DeleteContainer(
            containers_pb2.DeleteContainerRequest(container=container.id, force=True)
        )
    assert not had_ended
    assert container_engine.run(IMAGE, "echo", "serves")[0] == b"serves\n"
    assert container_engine.left_on_host() == []
