"""The daemon is killed at every failpoint, on the way of every call that passes it, and started again."""

import pytest

from tests.recovery import container_scenarios
from tests.recovery.crash import Scenario, crash
from tests.support.engine import Engine

CASES = [
    *container_scenarios.SCENARIOS.items(),
    *container_scenarios.FURTHER,
    *container_scenarios.CORE_SCENARIOS.items(),
]


@pytest.mark.parametrize(
    ("failpoint", "scenario"), CASES, ids=[f"{name}-{scenario.act.__name__}" for name, scenario in CASES]
)
def test_what_was_half_done_is_whole_or_absent_after(engine: Engine, failpoint: str, scenario: Scenario) -> None:
    crash(engine, failpoint, scenario)
