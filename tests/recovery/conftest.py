"""One engine for all crashes, with a busybox and a bystander; each test leaves it serving and clean."""

from collections.abc import Iterator
from contextlib import suppress

import pytest

from tests.recovery.crash import BYSTANDER, COUNT, IMAGE, delete, find, start_ready
from tests.support import image_files, images, leftovers
from tests.support.engine import Engine

#: Whatever drives a daemon needs these.
NEEDS = ("root", "busybox")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Every test here drives a daemon."""
    for item in items:
        if "tests/recovery/" in str(item.path):
            item.add_marker(pytest.mark.needs(*NEEDS))


@pytest.fixture(scope="session")
def crashed_engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    """The engine of the whole run."""
    with Engine(tmp_path_factory.mktemp("crash")) as running:
        running.load(image_files.oci_archive({IMAGE: images.busybox_image()}))
        yield running


@pytest.fixture
def engine(crashed_engine: Engine) -> Iterator[Engine]:
    """The engine serves, the bystander runs, and there is no other container. What a failed test left is taken away
    here, so that it does not fail the next one."""
    if crashed_engine.process.poll() is not None:
        crashed_engine.start()
    for container in leftovers.list_containers(crashed_engine):
        if container.name != BYSTANDER:
            delete(crashed_engine, container.id)
    bystander = find(crashed_engine, BYSTANDER)
    if bystander is None or leftovers.process_of(bystander.host_pid) is None:
        with suppress(Exception):
            delete(crashed_engine, BYSTANDER)
        start_ready(crashed_engine, BYSTANDER, COUNT)
    yield crashed_engine
    if crashed_engine.process.poll() is None:
        return
    crashed_engine.start()
