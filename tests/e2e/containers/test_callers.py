"""Several callers of one container at once: each gets a true answer, and the container is in one state."""

import concurrent.futures
import threading
from collections.abc import Callable
from functools import partial

import grpc
import pytest
from google.protobuf import duration_pb2

from fluyt.v1 import containers_pb2
from fluyt.v1.types import container_pb2
from tests.e2e.containers.steps import (
    EXISTS,
    INVALID,
    NOT_FOUND,
    WRONG_STATE,
    create,
    delete,
    exit_of,
    get,
    listed,
    refusal,
    refused,
    start,
    started,
    wait,
)
from tests.support.engine import Engine
from tests.support.wait import until_now

State = container_pb2.Container
REMOVED = containers_pb2.WaitContainerRequest.CONDITION_REMOVED
ROUNDS = 8
GONE = (NOT_FOUND, "CONTAINER_NOT_FOUND")
NOT_NOW = (WRONG_STATE, "CONTAINER_WRONG_STATE")
Told = tuple[grpc.StatusCode, str] | None


def stop(engine: Engine, name: str, millis: int = 2000) -> container_pb2.Container:
    request = containers_pb2.StopContainerRequest(container=name)
    request.timeout.FromMilliseconds(millis)
    return engine.containers.StopContainer(request).container  # type: ignore[no-any-return]


def kill(engine: Engine, name: str) -> None:
    engine.containers.KillContainer(containers_pb2.KillContainerRequest(container=name))


def at_once(*calls: Callable[[], object]) -> list[Told]:
    """What callers at once are told: nothing, or code and reason."""
    gate = threading.Barrier(len(calls))

    def called(call: Callable[[], object]) -> Told:
        gate.wait()
        try:
            call()
        except grpc.RpcError as error:
            return refusal(error)[:2]
        return None

    with concurrent.futures.ThreadPoolExecutor(len(calls)) as pool:
        return [future.result() for future in [pool.submit(called, call) for call in calls]]


def test_two_starts_at_once_start_one_process(engine: Engine) -> None:
    for _ in range(ROUNDS):
        container = create(engine, "sleep", "100")
        assert at_once(*[partial(start, engine, container.id)] * 2) == [None, None]
        found = get(engine, container.id)
        assert found.state == State.STATE_RUNNING
        assert start(engine, container.id).host_pid == found.host_pid
        delete(engine, container.id, force=True)


@pytest.mark.parametrize("is_running", [True, False])
def test_two_deletions_at_once_delete_once(engine: Engine, is_running: bool) -> None:
    for _ in range(ROUNDS):
        container = (started if is_running else create)(engine, "sleep", "100")
        told = at_once(*[partial(delete, engine, container.id, force=True)] * 2)
        assert sorted(told, key=str) == sorted([None, GONE], key=str)
        assert refused(partial(get, engine, container.id))[:2] == GONE
        assert engine.left_on_host() == []


def test_a_stop_during_a_start_leaves_it_running_or_ended_and_nothing_between(engine: Engine) -> None:
    for _ in range(ROUNDS):
        container = create(engine, "sleep", "100")
        assert at_once(partial(start, engine, container.id), partial(stop, engine, container.id, 0)) == [None, None]
        found = get(engine, container.id)
        assert found.state in {State.STATE_RUNNING, State.STATE_EXITED}
        if found.state == State.STATE_EXITED:
            assert exit_of(found) == ("signal", 9)
        delete(engine, container.id, force=True)


def test_two_stops_at_once_both_answer_with_the_end(engine: Engine) -> None:
    for _ in range(ROUNDS):
        container = started(engine, "sleep", "100")
        assert at_once(*[partial(stop, engine, container.id, 50)] * 2) == [None, None]
        assert exit_of(get(engine, container.id)) == ("signal", 9)


def test_a_kill_gets_through_while_a_stop_waits(engine: Engine) -> None:
    container = started(engine, "sleep", "100")
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        stopping = pool.submit(stop, engine, container.id, 60_000)
        until_now(lambda: get(engine, container.id).state == State.STATE_STOPPING, "it is being stopped")
        kill(engine, container.id)
        assert exit_of(stopping.result(20)) == ("signal", 9)


def test_a_container_may_want_to_be_waited_for_for_ever(engine: Engine) -> None:
    script = "trap 'echo heard' TERM; echo ready; while :; do sleep 0.05; done"
    made = started(engine, "sh", "-c", script, stop_timeout=duration_pb2.Duration(seconds=-1))
    until_now(lambda: engine.logs(made.id) == b"ready\n", "it has set its trap")
    with concurrent.futures.ThreadPoolExecutor(1) as callers:
        stopping = callers.submit(
            engine.containers.StopContainer, containers_pb2.StopContainerRequest(container=made.id)
        )
        until_now(lambda: b"heard" in engine.logs(made.id), "it was asked to end")
        again = containers_pb2.KillContainerRequest(container=made.id, signal="TERM")
        engine.containers.KillContainer(again)
        until_now(lambda: engine.logs(made.id).count(b"heard") == 2, "it goes on")
        assert (get(engine, made.id).state, stopping.done()) == (container_pb2.Container.STATE_STOPPING, False)
        engine.containers.KillContainer(containers_pb2.KillContainerRequest(container=made.id))
        assert exit_of(stopping.result().container) == ("signal", 9)
    code, reason, metadata = refused(lambda: create(engine, "true", stop_timeout=duration_pb2.Duration(seconds=86_401)))
    assert (code, reason, metadata["field"]) == (INVALID, "FIELD_INVALID", "spec.stop_timeout")


def test_a_forced_deletion_gets_through_while_a_stop_waits(engine: Engine) -> None:
    container = started(engine, "sleep", "100")
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        stopping = pool.submit(stop, engine, container.id, 60_000)
        until_now(lambda: get(engine, container.id).state == State.STATE_STOPPING, "it is being stopped")
        delete(engine, container.id, force=True)
        assert exit_of(stopping.result(20)) == ("signal", 9)
    assert refused(partial(get, engine, container.id))[:2] == GONE


def test_a_start_and_a_deletion_at_once_leave_all_or_nothing(engine: Engine) -> None:
    for _ in range(ROUNDS):
        container = create(engine, "sleep", "100")
        told_start, told_delete = at_once(partial(start, engine, container.id), partial(delete, engine, container.id))
        assert (told_start, told_delete) in {(None, NOT_NOW), (GONE, None)}
        if told_delete is not None:
            delete(engine, container.id, force=True)
        assert engine.left_on_host() == []


def test_of_many_callers_that_want_one_name_one_gets_it(engine: Engine) -> None:
    for number in range(ROUNDS):
        name = f"wanted{number}"
        told = at_once(*[partial(create, engine, "true", name=name)] * 6)
        assert sorted(told, key=str) == sorted([None] + [(EXISTS, "NAME_IN_USE")] * 5, key=str)
        assert [container.name for container in listed(engine)].count(name) == 1
        delete(engine, name)


def test_many_that_wait_are_all_answered_and_a_deletion_ends_the_last(engine: Engine) -> None:
    container = started(engine, "sleep", "100")
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        ends = [pool.submit(wait, engine, container.id) for _ in range(4)]
        removals = [pool.submit(wait, engine, container.id, REMOVED) for _ in range(4)]
        kill(engine, container.id)
        assert [exit_of(end.result(20)) for end in ends] == [("signal", 9)] * 4
        assert not any(removal.done() for removal in removals)
        delete(engine, container.id)
        # One whose call came only now finds nothing any more.
        for removal in removals:
            assert removal.exception(20) is None or refused(removal.result)[:2] == GONE


def test_what_is_deleted_is_not_there_for_any_call(engine: Engine) -> None:
    container = create(engine, "true")
    delete(engine, container.id)
    for call in (start, stop, kill, delete, get, wait):
        assert refused(partial(call, engine, container.id))[:2] == GONE


def test_a_stop_of_what_does_not_run_answers_it_as_it_is(engine: Engine) -> None:
    container = create(engine, "sh", "-c", "exit 4")
    assert stop(engine, container.id).state == State.STATE_CREATED
    start(engine, container.id)
    wait(engine, container.id)
    assert exit_of(stop(engine, container.id)) == ("exit_code", 4)


def test_a_prefix_that_several_ids_share_is_refused_and_a_longer_one_is_not(engine: Engine) -> None:
    ids = [create(engine, "true").id for _ in range(17)]
    # Of 17 ids two begin with the same of 16 digits.
    first = next(one[0] for one in ids if sum(other[0] == one[0] for other in ids) > 1)
    assert refused(partial(get, engine, first))[:2] == (INVALID, "CONTAINER_AMBIGUOUS")
    assert get(engine, ids[0][:20]).id == ids[0]
