"""One engine for all tests of builds, with a busybox to build on."""

from collections.abc import Iterator

import pytest

from tests.e2e.builds.steps import BASE
from tests.support import image_files, images
from tests.support.engine import Engine


@pytest.fixture(scope="session")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    """The engine of the whole run."""
    with Engine(tmp_path_factory.mktemp("builds")) as running:
        running.load(image_files.oci_archive({BASE: images.busybox_image()}))
        yield running


@pytest.fixture(autouse=True)
def serves_on(engine: Engine) -> Iterator[None]:
    """Each test leaves the engine serving."""
    yield
    assert not engine.revive()
