"""One engine a test with a layer store of each kind, and a registry that can misbehave."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from fluytd._core.layer import LayerStore
from tests.support.engine import Engine
from tests.support.registry import FaultyRegistry


@pytest.fixture(params=["directory", "erofs"])
def engine(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Engine]:
    """An engine with a layer store of each kind."""
    if request.param == "erofs" and LayerStore(str(tmp_path), "auto").kind != "erofs":
        pytest.skip("this kernel mounts no EROFS images from files")
    with Engine(tmp_path, options=("--layer-store", request.param)) as running:
        yield running


@pytest.fixture
def registry() -> Iterator[FaultyRegistry]:
    with FaultyRegistry() as running:
        yield running
