"""The supervisor, or the process on its way, is killed at each failpoint of a further process."""

import grpc
import pytest

from fluyt.v1.types import container_pb2
from tests.e2e.containers.steps import refused
from tests.recovery.container_scenarios import NAME, STAY
from tests.recovery.crash import CrashedEngine, delete, end_in_order, get, start_ready, until_nothing_unowned
from tests.recovery.exec_scenarios import execute
from tests.support.wait import until_now

#: At these the supervisor dies, and the container with it.
SUPERVISOR = ["process.join", "supervisor.exec_group", "supervisor.exec_process"]
#: At these only the process on its way does.
PROCESS = ["process.join_exec", "process.join_namespaces"]


def armed(engine: CrashedEngine, failpoint: str) -> None:
    """A container runs whose supervisor was started with this failpoint."""
    end_in_order(engine)
    engine.start(FLUYT_FAILPOINT=failpoint)
    start_ready(engine, NAME, STAY)


def disarmed(engine: CrashedEngine) -> None:
    """The container is gone and nothing is left of it; a daemon without a failpoint serves."""
    delete(engine, NAME)
    until_nothing_unowned(engine)
    end_in_order(engine)
    engine.start()


@pytest.mark.parametrize("failpoint", SUPERVISOR)
def test_a_supervisor_that_dies_on_the_way_takes_the_container_along_and_the_call_says_so(
    engine: CrashedEngine, failpoint: str
) -> None:
    armed(engine, failpoint)
    code, reason, _ = refused(lambda: execute(engine))
    assert (code, reason) == (grpc.StatusCode.INTERNAL, "SUPERVISOR_LOST")
    until_now(lambda: get(engine, NAME).state == container_pb2.Container.STATE_EXITED, "the container has ended")
    assert get(engine, NAME).failure.reason == "SUPERVISOR_LOST"
    disarmed(engine)


@pytest.mark.parametrize("failpoint", PROCESS)
def test_a_process_that_dies_on_the_way_fails_the_call_alone(engine: CrashedEngine, failpoint: str) -> None:
    armed(engine, failpoint)
    code, reason, _ = refused(lambda: execute(engine))
    assert (code, reason) == (grpc.StatusCode.FAILED_PRECONDITION, "PROCESS_START_FAILED")
    assert get(engine, NAME).state == container_pb2.Container.STATE_RUNNING
    disarmed(engine)
