"""The daemon is killed at every failpoint, on the way of every call that passes it, and started again."""

from pathlib import Path

import pytest

from fluytd import failpoints
from tests.recovery import container_scenarios, image_scenarios
from tests.recovery.crash import CrashedEngine, Scenario, crash

REPOSITORY = Path(__file__).resolve().parents[2]
#: Failpoint of the daemon -> how it is reached.
SCENARIOS = {**container_scenarios.SCENARIOS, **image_scenarios.SCENARIOS}
CASES = [
    *SCENARIOS.items(),
    *container_scenarios.FURTHER,
    *container_scenarios.CORE_SCENARIOS.items(),
    *image_scenarios.CORE_SCENARIOS.items(),
]


def test_every_failpoint_of_the_daemon_has_its_scenario() -> None:
    assert set(SCENARIOS) == set(failpoints.CATALOGUE)


@pytest.mark.parametrize(
    ("failpoint", "scenario"), CASES, ids=[f"{name}-{scenario.act.__name__}" for name, scenario in CASES]
)
def test_what_was_half_done_is_whole_or_absent_after(engine: CrashedEngine, failpoint: str, scenario: Scenario) -> None:
    crash(engine, failpoint, scenario)
