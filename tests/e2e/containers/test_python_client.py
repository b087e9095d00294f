"""The Python client's calls about a container's life, against a live engine."""

import pytest

from fluyt import containers, errors
from fluyt.v1.types import container_filter_pb2, container_pb2, container_spec_pb2, resources_pb2
from tests.e2e.containers.steps import IMAGE
from tests.support.engine import Engine

State = container_pb2.Container


def test_a_container_is_frozen_changed_watched_restarted_and_pruned(engine: Engine) -> None:
    connection = engine.channel
    wanted = containers.spec(IMAGE, "sleep", "1000")
    made = containers.create(connection, wanted, name="before")
    started = containers.start(connection, "before")
    assert containers.pause(connection, "before").state == State.STATE_PAUSED
    assert containers.resume(connection, "before").state == State.STATE_RUNNING
    assert containers.rename(connection, "before", "after").name == "after"
    policy = container_spec_pb2.RestartPolicy(mode=container_spec_pb2.RestartPolicy.MODE_ON_FAILURE, max_retry_count=2)
    updated = containers.update(
        connection, "after", resources=resources_pb2.Resources(pids_limit=50), restart_policy=policy
    )
    assert (updated.spec.resources.pids_limit, updated.spec.restart_policy) == (50, policy)
    [[stats]] = containers.watch_stats(connection, "after", once=True)
    assert (stats.container_id, stats.pids_limit) == (made.id, 50)
    rounds = containers.watch_stats(connection, "after", interval_millis=100)
    assert [len(next(rounds)), len(next(rounds))] == [1, 1]
    [process] = containers.list_processes(connection, "after")
    assert (process.host_pid, list(process.args)) == (started.host_pid, ["sleep", "1000"])
    assert containers.restart(connection, "after", timeout_seconds=0).host_pid != started.host_pid
    containers.stop(connection, "after", timeout_seconds=0)
    named = container_filter_pb2.ContainerFilter(names=["after"])
    assert list(containers.prune(connection, named, dry_run=True).deleted) == [made.id]
    assert list(containers.prune(connection, named).deleted) == [made.id]


def test_a_refusal_is_an_exception_of_the_client(engine: Engine) -> None:
    with pytest.raises(errors.NotFound):
        containers.pause(engine.channel, "nosuch")
