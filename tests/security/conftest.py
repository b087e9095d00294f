"""One engine for all attacks; each leaves it serving, and nothing of its own on the host."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.containers.conftest import container_engine, engine
from tests.security.canary import Canary

__all__ = ["container_engine", "engine"]


@pytest.fixture
def canary(tmp_path: Path) -> Iterator[Canary]:
    """A directory of the host that must be as it was afterwards."""
    made = Canary(tmp_path / "canary")
    yield made
    assert made.changes() == []
