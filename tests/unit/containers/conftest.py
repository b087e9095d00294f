"""A container service on fakes for each test."""

from collections.abc import AsyncIterator

import pytest

from tests.support.fakes.containers import Bench


@pytest.fixture
async def bench() -> AsyncIterator[Bench]:
    made = Bench()
    yield made
    await made.close()
