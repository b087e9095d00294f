"""One engine for all tests of images; each test finds it without images and leaves it so."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from fluyt.v1 import images_pb2
from tests.e2e.images.steps import Stored, listed, stored
from tests.support.engine import Engine
from tests.support.registry import FaultyRegistry


@pytest.fixture(scope="session")
def image_engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    """The engine of the whole run."""
    with Engine(tmp_path_factory.mktemp("images")) as running:
        yield running


@pytest.fixture
def engine(image_engine: Engine) -> Iterator[Engine]:
    """An engine without images. Afterwards all that the test made visible goes with its images, to the last file."""
    yield image_engine
    for image in listed(image_engine):
        image_engine.images.DeleteImage(images_pb2.DeleteImageRequest(image=image.id, force=True))
    assert stored(image_engine) == Stored(frozenset(), frozenset(), frozenset())


@pytest.fixture
def registry() -> Iterator[FaultyRegistry]:
    """A registry that can misbehave."""
    with FaultyRegistry() as running:
        yield running


@pytest.fixture
def own_engine(tmp_path: Path) -> Iterator[Engine]:
    """An engine of the test's own, to be killed."""
    with Engine(tmp_path) as running:
        yield running
