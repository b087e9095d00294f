"""A supervisor is killed while its container runs: that is told as the reason, and nothing is left of the run."""

import os
import signal

import pytest

from fluyt.v1.types import container_pb2
from tests.recovery.crash import (
    BYSTANDER,
    END_WITH_7,
    EXITED,
    delete,
    get,
    runs_on,
    start_ready,
    until_gone,
    until_nothing_unowned,
    wait_for_end,
)
from tests.support import leftovers
from tests.support.engine import Engine


def supervisor_of(engine: Engine, container: container_pb2.Container) -> int:
    """The pid of the container's supervisor."""
    (pid,) = [
        process.pid
        for process in leftovers.processes_of(engine)
        if process.is_supervisor and process.arguments[1:2] == (container.id,)
    ]
    return pid


@pytest.mark.parametrize("is_daemon_alive", [True, False])
def test_a_container_that_lost_its_supervisor_has_ended_for_that_reason(engine: Engine, is_daemon_alive: bool) -> None:
    bystander = get(engine, BYSTANDER)
    orphan = start_ready(engine, "orphan", END_WITH_7)
    supervisor = supervisor_of(engine, orphan)
    if not is_daemon_alive:
        engine.kill()
    os.kill(supervisor, signal.SIGKILL)
    until_gone(supervisor)
    if not is_daemon_alive:
        engine.start()
    ended = wait_for_end(engine, "orphan")
    assert ended.state == EXITED
    assert "SUPERVISOR_LOST" in str(ended), ended
    until_gone(orphan.host_pid)
    assert engine.logs("orphan") == b"ready\n"
    until_nothing_unowned(engine)
    delete(engine, "orphan")
    again = start_ready(engine, "orphan", END_WITH_7)
    assert again.id != orphan.id
    delete(engine, "orphan")
    runs_on(engine, bystander)
    until_nothing_unowned(engine)
