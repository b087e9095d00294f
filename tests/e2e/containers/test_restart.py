"""Containers that are started again: by their policy, by a daemon that comes up, by a caller."""

import itertools
import os
import signal
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import grpc
import pytest

from fluyt.v1 import containers_pb2, events_pb2
from fluyt.v1.types import container_pb2, container_spec_pb2
from tests.e2e.containers.steps import (
    INVALID,
    create,
    delete,
    exit_of,
    get,
    listed,
    refused,
    start,
    started,
    wait,
)
from tests.support.engine import Engine
from tests.support.wait import until_now

EXITED = container_pb2.Container.STATE_EXITED
RUNNING = container_pb2.Container.STATE_RUNNING
Policy = container_spec_pb2.RestartPolicy
ON_FAILURE, ALWAYS, UNLESS_STOPPED, NO = (
    Policy.MODE_ON_FAILURE,
    Policy.MODE_ALWAYS,
    Policy.MODE_UNLESS_STOPPED,
    Policy.MODE_NO,
)
STAY = "trap 'exit 0' TERM; while :; do sleep 0.1; done"


def with_policy(engine: Engine, mode: "Policy.Mode.ValueType", script: str, count: int = 0) -> container_pb2.Container:
    """A container of this policy that was started."""
    policy = Policy(mode=mode, max_retry_count=count)
    return started(engine, "sh", "-c", script, restart_policy=policy)


def stop(engine: Engine, name: str) -> container_pb2.Container:
    """StopContainer's answer."""
    return engine.containers.StopContainer(containers_pb2.StopContainerRequest(container=name)).container  # type: ignore[no-any-return]


def restart(engine: Engine, name: str) -> container_pb2.Container:
    """RestartContainer's answer."""
    return engine.containers.RestartContainer(containers_pb2.RestartContainerRequest(container=name)).container  # type: ignore[no-any-return]


def settled(engine: Engine, name: str, restarts: int) -> container_pb2.Container:
    """The container once it was restarted so often and has ended."""
    until_now(
        lambda: (get(engine, name).restart_count, get(engine, name).state) == (restarts, EXITED), "it has come to rest"
    )
    return get(engine, name)


def test_l01_on_failure_starts_it_as_often_as_it_says_and_no_more(engine: Engine) -> None:
    container = with_policy(engine, ON_FAILURE, "echo run; exit 1", 3)
    ended = settled(engine, container.id, 3)
    assert exit_of(ended) == ("exit_code", 1)
    time.sleep(1)  # the next would have come after 0.8 s
    assert (get(engine, container.id).restart_count, engine.logs(container.id)) == (3, b"run\n" * 4)


def test_l01_success_is_no_failure(engine: Engine) -> None:
    container = with_policy(engine, ON_FAILURE, "echo run; exit 0", 3)
    assert exit_of(wait(engine, container.id)) == ("exit_code", 0)
    time.sleep(0.3)
    assert (get(engine, container.id).restart_count, engine.logs(container.id)) == (0, b"run\n")


def test_l02_the_time_between_restarts_doubles_from_a_tenth_of_a_second(engine: Engine) -> None:
    container = with_policy(engine, ALWAYS, "exit 1")
    until_now(lambda: get(engine, container.id).restart_count >= 4, "it was started again four times")
    stop(engine, container.id)
    events = engine.events.WatchEvents(events_pb2.WatchEventsRequest(from_sequence=1), timeout=30)
    times = []
    for message in events:
        if message.WhichOneof("message") != "event" or message.event.subject != container.id:
            continue
        fact = message.event.WhichOneof("fact")
        if fact == "container_started":
            times.append(message.event.time.ToNanoseconds() / 1e9)
        if len(times) == 5:
            break
    gaps = [later - earlier for earlier, later in itertools.pairwise(times)]
    for gap, least in zip(gaps, (0.1, 0.2, 0.4, 0.8), strict=True):
        assert least <= gap < 2 * least + 1, gaps


def test_l03_a_stop_while_it_waits_for_its_restart_sticks(engine: Engine) -> None:
    container = with_policy(engine, ALWAYS, "exit 1")
    until_now(lambda: get(engine, container.id).restart_count >= 3, "it is started again and again")
    ended = stop(engine, container.id)
    assert ended.state == EXITED
    count = get(engine, container.id).restart_count
    time.sleep(2)  # longer than the next two restarts would have waited
    assert (get(engine, container.id).state, get(engine, container.id).restart_count) == (EXITED, count)
    start(engine, container.id)
    until_now(lambda: get(engine, container.id).restart_count >= 1, "its policy holds again after a start")
    stop(engine, container.id)


def test_l03_a_stop_while_it_runs_sticks(engine: Engine) -> None:
    container = with_policy(engine, ALWAYS, STAY)
    assert stop(engine, container.id).state == EXITED
    time.sleep(0.5)
    assert (get(engine, container.id).state, get(engine, container.id).restart_count) == (EXITED, 0)


@pytest.mark.parametrize(("name", "is_restarted"), [("KILL", False), ("TERM", False), ("USR1", True)])
def test_l03_a_kill_that_is_meant_to_end_it_sticks(engine: Engine, name: str, is_restarted: bool) -> None:
    script = "trap 'exit 3' USR1; trap 'exit 4' TERM; echo ready; while :; do sleep 0.05; done"
    container = with_policy(engine, ALWAYS, script)
    until_now(lambda: engine.logs(container.id) == b"ready\n", "it hears signals")
    engine.containers.KillContainer(containers_pb2.KillContainerRequest(container=container.id, signal=name))
    if is_restarted:
        until_now(lambda: engine.logs(container.id) == b"ready\n" * 2, "it runs again")
        return
    until_now(lambda: get(engine, container.id).state == EXITED, "it has ended")
    time.sleep(0.3)
    assert get(engine, container.id).state == EXITED


def test_l04_a_daemon_that_comes_up_starts_what_its_policy_says(engine: Engine) -> None:
    made = {
        (mode, is_stopped): with_policy(engine, mode, STAY).id
        for mode in (NO, ALWAYS, UNLESS_STOPPED)
        for is_stopped in (False, True)
    }
    for (_, is_stopped), container_id in made.items():
        if is_stopped:
            stop(engine, container_id)
    engine.kill()
    # As a host that was restarted: whatever ran is gone.
    for container_id in made.values():
        kill_group(engine, container_id)
    engine.start()
    runs = {
        (ALWAYS, False): True,
        (ALWAYS, True): True,
        (UNLESS_STOPPED, False): True,
        (UNLESS_STOPPED, True): False,
        (NO, False): False,
        (NO, True): False,
    }
    for key, is_running in runs.items():
        if is_running:
            until_now(lambda key=key: get(engine, made[key]).state == RUNNING, f"{key} runs")  # type: ignore[misc]
    time.sleep(0.3)
    for key, is_running in runs.items():
        assert (get(engine, made[key]).state == RUNNING) is is_running, key


def test_l04_what_runs_while_the_daemon_restarts_is_not_started_again(engine: Engine) -> None:
    container = with_policy(engine, ALWAYS, STAY)
    engine.kill()
    engine.start()
    found = get(engine, container.id)
    assert (found.state, found.host_pid, found.restart_count) == (RUNNING, container.host_pid, 0)


def kill_group(engine: Engine, container_id: str) -> None:
    """Its supervisor and its processes are dead, as after a loss of power."""
    for process in Path("/proc").iterdir():
        if not process.name.isdecimal():
            continue
        try:
            words = (process / "cmdline").read_bytes().split(b"\0")
        except OSError:
            continue
        if container_id.encode() in words and b"supervisor" in words[0]:
            os.kill(int(process.name), signal.SIGKILL)


@pytest.mark.parametrize("fields", [{"auto_remove": True}, {"restart_policy": Policy(mode=ALWAYS, max_retry_count=2)}])
def test_a_policy_that_cannot_be_is_refused(engine: Engine, fields: dict[str, Any]) -> None:
    wanted: dict[str, Any] = {"restart_policy": Policy(mode=ALWAYS)} | fields
    assert refused(lambda: create(engine, "true", **wanted))[:2] == (INVALID, "FIELD_INVALID")


def test_a_container_that_waits_for_its_restart_can_be_deleted(engine: Engine) -> None:
    container = with_policy(engine, ALWAYS, "exit 1")
    until_now(lambda: get(engine, container.id).restart_count >= 3, "it is started again and again")
    delete(engine, container.id, force=True)
    assert refused(lambda: get(engine, container.id))[1] == "CONTAINER_NOT_FOUND"


def test_a_restart_by_a_caller_is_a_new_run(engine: Engine) -> None:
    container = started(engine, "sh", "-c", f"echo run; {STAY}")
    until_now(lambda: engine.logs(container.id) == b"run\n", "it runs")
    again = restart(engine, container.id)
    assert (again.state, again.host_pid != container.host_pid, again.restart_count) == (RUNNING, True, 0)
    until_now(lambda: engine.logs(container.id) == b"run\nrun\n", "it runs again")


def test_a_restart_starts_what_does_not_run(engine: Engine) -> None:
    made = create(engine, "sleep", "100")
    assert restart(engine, made.id).state == RUNNING


def test_a_restart_keeps_a_container_that_removes_itself(engine: Engine) -> None:
    made = create(engine, "sh", "-c", STAY, auto_remove=True)
    start(engine, made.id)
    assert restart(engine, made.id).state == RUNNING
    stop(engine, made.id)
    until_now(lambda: not exists(engine, made.id), "it has removed itself")


def exists(engine: Engine, name: str) -> bool:
    """Whether there is such a container."""
    return name in {container.id for container in listed(engine)}


def test_many_callers_at_once_leave_one_run_or_none(engine: Engine) -> None:
    container = started(engine, "sh", "-c", STAY, restart_policy=Policy(mode=ALWAYS))
    calls = [restart, stop, start, restart, stop, pause, resume, update]

    def call(number: int) -> str:
        try:
            calls[number % len(calls)](engine, container.id)
        except grpc.RpcError as error:
            return str(error.code().name)
        return "OK"

    with ThreadPoolExecutor(8) as pool:
        answers = set(pool.map(call, range(64)))
    assert answers <= {"OK", "FAILED_PRECONDITION"}
    resume_if_paused(engine, container.id)
    assert restart(engine, container.id).state == RUNNING
    assert stop(engine, container.id).state == EXITED


def pause(engine: Engine, name: str) -> None:
    """PauseContainer."""
    engine.containers.PauseContainer(containers_pb2.PauseContainerRequest(container=name))


def resume(engine: Engine, name: str) -> None:
    """ResumeContainer."""
    engine.containers.ResumeContainer(containers_pb2.ResumeContainerRequest(container=name))


def update(engine: Engine, name: str) -> None:
    """UpdateContainer."""
    request = containers_pb2.UpdateContainerRequest(container=name)
    request.resources.cpu_shares = 512 if time.time_ns() % 2 else 1024
    engine.containers.UpdateContainer(request)


def resume_if_paused(engine: Engine, name: str) -> None:
    """It is not paused."""
    if get(engine, name).state == container_pb2.Container.STATE_PAUSED:
        resume(engine, name)


def test_a_stop_during_a_start_and_a_deletion_during_a_stop_come_to_an_end(engine: Engine) -> None:
    for _ in range(5):
        made = create(engine, "sh", "-c", "trap '' TERM; while :; do sleep 0.1; done")
        with ThreadPoolExecutor(3) as pool:
            starting = pool.submit(start, engine, made.id)
            stopping = pool.submit(stop, engine, made.id)
            starting.result()
            deleting = pool.submit(delete, engine, made.id, force=True)
            deleting.result()
            stopping.exception()
        assert not exists(engine, made.id)
