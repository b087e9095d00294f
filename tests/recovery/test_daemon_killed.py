"""The daemon is killed at every failpoint, on the way of every call that passes it, and started again."""

import re
from pathlib import Path

import pytest

from fluytd import failpoints
from tests.recovery import (
    build_scenarios,
    collection_scenarios,
    commit_scenarios,
    container_scenarios,
    copy_scenarios,
    exec_scenarios,
    given_scenarios,
    health_scenarios,
    image_scenarios,
    network_scenarios,
    repair_scenarios,
    run_scenarios,
    test_apparmor_killed,
    test_cni_killed,
    test_exec_killed,
    test_labels_killed,
    test_quotas_killed,
    test_removal_put_off,
    test_scopes_killed,
    test_supervisor_killed,
    volume_scenarios,
)
from tests.recovery.crash import CrashedEngine, Scenario, crash

REPOSITORY = Path(__file__).resolve().parents[2]
#: Failpoint of the daemon -> how it is reached.
SCENARIOS = {
    **container_scenarios.SCENARIOS,
    **exec_scenarios.SCENARIOS,
    **image_scenarios.SCENARIOS,
    **repair_scenarios.SCENARIOS,
    **collection_scenarios.SCENARIOS,
    **commit_scenarios.SCENARIOS,
    **volume_scenarios.SCENARIOS,
    **build_scenarios.SCENARIOS,
    **copy_scenarios.SCENARIOS,
}
CASES = [
    *SCENARIOS.items(),
    *container_scenarios.FURTHER,
    *exec_scenarios.FURTHER,
    *run_scenarios.FURTHER,
    *collection_scenarios.FURTHER,
    *given_scenarios.FURTHER,
    *health_scenarios.FURTHER,
    *volume_scenarios.FURTHER,
    *container_scenarios.CORE_SCENARIOS.items(),
    *image_scenarios.CORE_SCENARIOS.items(),
    *repair_scenarios.CORE_SCENARIOS.items(),
    *commit_scenarios.CORE_SCENARIOS.items(),
    *volume_scenarios.CORE_SCENARIOS.items(),
    *build_scenarios.CORE_SCENARIOS.items(),
]
#: Stands in the failpoints' own test.
UNIT_TESTED = "never.armed.in.tests"


def test_every_failpoint_of_the_daemon_has_its_scenario() -> None:
    plugins = {name.partition(":")[0] for name in test_cni_killed.SCENARIOS} | {test_cni_killed.PUT_OFF}
    elsewhere = {*network_scenarios.SCENARIOS, *test_quotas_killed.SCENARIOS, *test_scopes_killed.SCENARIOS}
    elsewhere |= {*test_labels_killed.SCENARIOS, test_labels_killed.OF_LAYERS, test_removal_put_off.FAILPOINT}
    elsewhere |= {test_apparmor_killed.FAILPOINT}
    assert set(SCENARIOS) | elsewhere | plugins == set(failpoints.CATALOGUE)


def test_every_failpoint_of_the_core_has_its_scenario() -> None:
    standing = {
        name
        for source in (REPOSITORY / "rust_core").glob("*/src/**/*.rs")
        for name in re.findall(r'failpoint::hit\(\s*"([a-z_.]+)"\s*\)', source.read_text())
    }
    reached = {
        *container_scenarios.CORE_SCENARIOS,
        *image_scenarios.CORE_SCENARIOS,
        *image_scenarios.EROFS_SCENARIOS,
        *repair_scenarios.CORE_SCENARIOS,
        *commit_scenarios.CORE_SCENARIOS,
        *volume_scenarios.CORE_SCENARIOS,
        *build_scenarios.CORE_SCENARIOS,
        *test_labels_killed.CORE_SCENARIOS,
        *test_quotas_killed.CORE_SCENARIOS,
        *test_supervisor_killed.BEFORE_START,
        *test_supervisor_killed.WITH_USERS,
        *test_supervisor_killed.AT_THE_END,
        *test_exec_killed.SUPERVISOR,
        *test_exec_killed.PROCESS,
    }
    assert {name.partition(":")[0] for name in reached} == standing - {UNIT_TESTED}


@pytest.mark.needs("erofs")
@pytest.mark.parametrize(("failpoint", "scenario"), image_scenarios.EROFS_SCENARIOS.items())
def test_what_was_half_done_is_whole_or_absent_in_a_store_of_erofs_images(
    erofs_engine: CrashedEngine, failpoint: str, scenario: Scenario
) -> None:
    crash(erofs_engine, failpoint, scenario)


@pytest.mark.parametrize("failpoint", ["check.layer.replace", "layer.replace.rename", "layer.replace.durable"])
def test_a_repair_of_a_directory_that_is_cut_short_is_no_worse_than_none(
    directory_engine: CrashedEngine, failpoint: str
) -> None:
    crash(directory_engine, failpoint, repair_scenarios.REPAIRING)


@pytest.mark.parametrize(
    ("failpoint", "scenario"), CASES, ids=[f"{name}-{scenario.act.__name__}" for name, scenario in CASES]
)
def test_what_was_half_done_is_whole_or_absent_after(engine: CrashedEngine, failpoint: str, scenario: Scenario) -> None:
    crash(engine, failpoint, scenario)
