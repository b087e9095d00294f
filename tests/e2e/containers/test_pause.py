"""Freezing containers: what runs on, what ends a frozen one, and that a daemon's death thaws none."""

import time
from pathlib import Path

from fluyt.v1 import containers_pb2
from fluyt.v1.types import container_pb2
from tests.e2e.containers.steps import (
    NOT_FOUND,
    WRONG_STATE,
    create,
    delete,
    exit_of,
    get,
    refused,
    start,
    started,
    wait,
)
from tests.support.engine import Engine
from tests.support.wait import until_now

PAUSED = container_pb2.Container.STATE_PAUSED
RUNNING = container_pb2.Container.STATE_RUNNING
#: Case C03: a frozen container is gone in less.
C03_SECONDS = 2
TICKING = "trap 'exit 3' TERM; while :; do echo tick; sleep 0.02; done"


def pause(engine: Engine, name: str) -> container_pb2.Container:
    """PauseContainer's answer."""
    return engine.containers.PauseContainer(containers_pb2.PauseContainerRequest(container=name)).container  # type: ignore[no-any-return]


def resume(engine: Engine, name: str) -> container_pb2.Container:
    """ResumeContainer's answer."""
    return engine.containers.ResumeContainer(containers_pb2.ResumeContainerRequest(container=name)).container  # type: ignore[no-any-return]


def stop(engine: Engine, name: str) -> container_pb2.Container:
    """StopContainer's answer."""
    return engine.containers.StopContainer(containers_pb2.StopContainerRequest(container=name)).container  # type: ignore[no-any-return]


def paused(engine: Engine, script: str = TICKING) -> container_pb2.Container:
    """A container that has begun and was frozen then."""
    container = started(engine, "sh", "-c", script)
    until_now(lambda: b"tick" in engine.logs(container.id), "it ticks")
    return pause(engine, container.id)


def test_a_paused_container_does_nothing_until_it_is_resumed(engine: Engine) -> None:
    container = paused(engine)
    assert container.state == PAUSED
    quiet = until_quiet(engine, container.id)
    assert resume(engine, container.id).state == RUNNING
    until_now(lambda: len(engine.logs(container.id)) > len(quiet), "it ticks again")


def test_pause_and_resume_can_be_repeated(engine: Engine) -> None:
    container = paused(engine)
    again = pause(engine, container.id)
    assert (again.state, again.version) == (PAUSED, get(engine, container.id).version)
    resume(engine, container.id)
    assert resume(engine, container.id).state == RUNNING


def test_only_what_runs_can_be_paused_and_resumed(engine: Engine) -> None:
    made = create(engine, "true")
    for call in (pause, resume):
        code, reason, metadata = refused(lambda call=call: call(engine, made.id))  # type: ignore[misc]
        assert (code, reason) == (WRONG_STATE, "CONTAINER_WRONG_STATE")
        assert (metadata["state"], metadata["allowed_states"]) == ("created", "paused, running")
        assert refused(lambda call=call: call(engine, "nosuch"))[:2] == (NOT_FOUND, "CONTAINER_NOT_FOUND")  # type: ignore[misc]


def test_a_paused_container_is_not_started(engine: Engine) -> None:
    container = paused(engine)
    code, reason, _ = refused(lambda: start(engine, container.id))
    assert (code, reason) == (WRONG_STATE, "CONTAINER_WRONG_STATE")


def test_c03_a_forced_deletion_of_a_paused_container_is_quick_and_leaves_no_group(engine: Engine) -> None:
    container = paused(engine)
    began = time.monotonic()
    delete(engine, container.id, force=True)
    assert time.monotonic() - began < C03_SECONDS
    assert groups_of(container.id) == []


def test_c03_a_paused_container_is_killed(engine: Engine) -> None:
    container = paused(engine)
    began = time.monotonic()
    engine.containers.KillContainer(containers_pb2.KillContainerRequest(container=container.id))
    ended = wait(engine, container.id)
    assert (exit_of(ended), time.monotonic() - began < C03_SECONDS) == (("signal", 9), True)
    delete(engine, container.id)
    assert groups_of(container.id) == []


def test_c03_a_paused_container_hears_that_it_is_to_stop(engine: Engine) -> None:
    container = paused(engine)
    began = time.monotonic()
    ended = stop(engine, container.id)
    assert (exit_of(ended), time.monotonic() - began < C03_SECONDS) == (("exit_code", 3), True)
    delete(engine, container.id)
    assert groups_of(container.id) == []


def test_a_signal_waits_until_a_paused_container_is_resumed(engine: Engine) -> None:
    container = paused(engine)
    engine.containers.KillContainer(containers_pb2.KillContainerRequest(container=container.id, signal="TERM"))
    assert get(engine, container.id).state == PAUSED
    resume(engine, container.id)
    assert exit_of(wait(engine, container.id)) == ("exit_code", 3)


def test_a_container_stays_paused_over_a_daemon_that_was_killed(engine: Engine) -> None:
    container = paused(engine)
    engine.kill()
    engine.start()
    assert get(engine, container.id).state == PAUSED
    before = until_quiet(engine, container.id)
    resume(engine, container.id)
    until_now(lambda: len(engine.logs(container.id)) > len(before), "it ticks again")


def until_quiet(engine: Engine, name: str) -> bytes:
    """The log once nothing has been added for a time in which a running container would have written ten lines."""

    def is_quiet() -> bool:
        before = engine.logs(name)
        time.sleep(0.2)
        return engine.logs(name) == before

    # What was in the pipe when it froze is still copied.
    until_now(is_quiet, "it is quiet")
    return engine.logs(name)


def groups_of(container_id: str) -> list[str]:
    """Control groups of this container, in any hierarchy."""
    return [str(path) for path in Path("/sys/fs/cgroup").rglob(container_id)]
