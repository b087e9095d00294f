"""The Python client's calls about a container's life, against a live engine."""

import threading
from collections.abc import Iterator

import pytest

from fluyt import containers, errors, streams
from fluyt.v1.types import container_filter_pb2, container_pb2, container_spec_pb2, resources_pb2
from tests.e2e.containers.attach_steps import RESIZED
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


def test_a_terminal_is_joined_typed_to_and_left(engine: Engine) -> None:
    wanted = containers.spec(IMAGE, "sh", "-c", f"{RESIZED} stty size; while ask; do echo got $x; done")
    wanted.tty = wanted.open_stdin = True
    made = containers.create(engine.channel, wanted)
    shown, seen = b"", threading.Event()

    def said() -> Iterator[streams.Input]:
        seen.wait(30)
        yield from (streams.Resize(111, 22), b"one\n")

    for event in containers.attach(engine.channel, made.id, stdin=said(), size=(90, 30)):
        kind = event.WhichOneof("event")
        if kind == "attached":
            containers.start(engine.channel, made.id)
        elif kind == "stdout":
            shown += event.stdout.data
            seen.set()
    # The end of what was said was the end of its input.
    assert (kind, event.exited.exit_code) == ("exited", 0)
    assert shown.startswith(b"30 90\r\n")
    assert b"22 111\r\n" in shown
    assert b"got one\r\n" in shown
    runs = threading.Event()

    def left() -> Iterator[streams.Input]:
        runs.wait(30)
        yield from (streams.Signal("SIGURG"), streams.DETACH)

    again = containers.attach(engine.channel, made.id, stdin=left(), await_start=True)
    assert next(again).WhichOneof("event") == "attached"
    containers.start(engine.channel, made.id)
    runs.set()
    assert [one.WhichOneof("event") for one in again][-1] == "detached"


def test_a_refusal_is_an_exception_of_the_client(engine: Engine) -> None:
    with pytest.raises(errors.NotFound):
        containers.pause(engine.channel, "nosuch")
