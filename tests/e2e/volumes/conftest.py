"""One engine for all tests of volumes of a module, with an image that has content where volumes are mounted."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.containers.steps import IMAGE
from tests.support import image_files, images
from tests.support.engine import Engine


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    """A daemon with busybox; nothing of a container is left on the host at its end."""
    with Engine(tmp_path_factory.mktemp("engine")) as engine:
        engine.load(image_files.oci_archive({IMAGE: images.busybox_image()}))
        yield engine
        engine.stop()
        assert engine.left_on_host() == []


@pytest.fixture(autouse=True)
def serves_on(engine: Engine) -> Iterator[None]:
    """Each test leaves the engine serving."""
    yield
    assert not engine.revive()


@pytest.fixture
def canary(tmp_path: Path) -> Path:
    """A directory of the host that no container may touch, with a file in it."""
    path = tmp_path / "canary"
    path.mkdir()
    (path / "secret").write_text("host's\n")
    return path
