"""A supervisor is killed: its container is reported with a reason, nothing of it is left, its name is free again."""

import os
import signal

import grpc
import pytest

from fluyt import errors
from fluyt.v1 import containers_pb2
from fluyt.v1.types import container_pb2, container_spec_pb2, security_pb2
from tests.recovery import container_scenarios as calls
from tests.recovery.container_scenarios import CREATED, END_WITH_5, NAME, STAY
from tests.recovery.crash import (
    BYSTANDER,
    CALL_SECONDS,
    COUNT,
    EXITED,
    IMAGE,
    CrashedEngine,
    delete,
    end_in_order,
    find,
    get,
    runs_on,
    start_ready,
    until_gone,
    until_nothing_unowned,
    wait_for_end,
)
from tests.support import leftovers
from tests.support.wait import until_now

#: Two processes beside the first, one of them in a session of its own.
FAMILY = "setsid sleep 1000 & sleep 1000 & echo ran; wait"
FAMILY_SIZE = 3
#: At these the container's process cannot be started: what died is the supervisor, or the process before its exec.
BEFORE_START = [
    "supervisor.before_spawn",
    "process.clone",
    "process.cgroup",
    "process.root",
    "process.mounts",
    "process.seccomp",
    "process.exec",
    "supervisor.after_spawn",
    "supervisor.before_started",
]
#: As these, of a container that has users of its own.
WITH_USERS = ["process.user_namespace", "process.cgroup", "process.root", "process.exec"]
#: As these, of one that joins another one's IPC namespace: before it, with its memory taken, and once it stands.
WITH_SHARED_MEMORY = ["process.cgroup", "process.root", "process.mounts", "process.exec"]
OWNER = "owner"
#: How those that have told of a start come to their end.
AT_THE_END = ["supervisor.before_exit_record", "supervisor.after_exit_record"]


def supervisor_of(engine: CrashedEngine, container: container_pb2.Container) -> int:
    """The pid of the container's supervisor, which takes the container's name a moment after it has told the start."""
    found: list[int] = []

    def is_found() -> bool:
        ours = leftovers.processes_of(engine)
        found[:] = [one.pid for one in ours if one.is_supervisor and container.id in one.arguments]
        return len(found) == 1

    until_now(is_found, f"one supervisor of {container.id}")
    return found[0]


def family_of(engine: CrashedEngine, container: container_pb2.Container) -> list[int]:
    """The pids of the container's processes."""
    return [one.pid for one in leftovers.processes_of(engine) if f"/{container.id}" in one.groups]


def is_lost(engine: CrashedEngine) -> None:
    """The container is reported as ended because its supervisor went."""
    lost = wait_for_end(engine, NAME)
    assert lost.state == EXITED
    assert (lost.failure.reason, lost.reason) == ("SUPERVISOR_LOST", "SUPERVISOR_LOST"), lost
    assert (lost.WhichOneof("exit"), lost.signal) == ("signal", signal.SIGKILL)
    assert engine.logs(NAME) == b"ran\n"


def runs_again(engine: CrashedEngine) -> None:
    """It can be started again, and once it is deleted its name is free."""
    calls.start(engine)
    assert get(engine, NAME).state == container_pb2.Container.STATE_RUNNING
    delete(engine, NAME)
    calls.create(engine)
    calls.start(engine)
    calls.ended_with_output(engine, 5)


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGABRT])
def test_one_killed_under_a_daemon_is_reported_and_leaves_nothing(engine: CrashedEngine, number: int) -> None:
    bystander = get(engine, BYSTANDER)
    running = start_ready(engine, NAME, FAMILY)
    family = family_of(engine, running)
    assert len(family) == FAMILY_SIZE
    os.kill(supervisor_of(engine, running), number)
    is_lost(engine)
    for pid in family:
        until_gone(pid)
    runs_again(engine)
    runs_on(engine, bystander)
    until_nothing_unowned(engine)


def test_one_killed_without_a_daemon_is_reported_and_leaves_nothing(engine: CrashedEngine) -> None:
    bystander = get(engine, BYSTANDER)
    running = start_ready(engine, NAME, FAMILY)
    family = family_of(engine, running)
    supervisor = supervisor_of(engine, running)
    engine.kill()
    os.kill(supervisor, signal.SIGKILL)
    until_gone(supervisor)
    until_gone(running.host_pid)
    engine.start()
    is_lost(engine)
    for pid in family:
        until_gone(pid)
    runs_again(engine)
    runs_on(engine, bystander)
    until_nothing_unowned(engine)


def test_one_killed_with_its_daemon_takes_an_auto_remove_container_with_it(engine: CrashedEngine) -> None:
    spec = container_spec_pb2.ContainerSpec(image=IMAGE, args=["sleep", "1000"], auto_remove=True)
    request = containers_pb2.RunContainerRequest(spec=spec, name=NAME, detach=True)
    list(engine.containers.RunContainer(request))
    running = get(engine, NAME)
    supervisor = supervisor_of(engine, running)
    engine.kill()
    os.kill(supervisor, signal.SIGKILL)
    until_gone(supervisor)
    engine.start()
    assert find(engine, NAME) is None
    until_nothing_unowned(engine)


def armed(engine: CrashedEngine, failpoint: str) -> None:
    """The daemon serves, and its supervisors die at `failpoint`, as do their containers' processes before exec."""
    end_in_order(engine)
    engine.start(FLUYT_FAILPOINT=failpoint)


@pytest.mark.parametrize("failpoint", WITH_USERS)
def test_one_that_dies_on_its_way_into_a_user_namespace_fails_the_start_alone(
    engine: CrashedEngine, failpoint: str
) -> None:
    armed(engine, failpoint)
    with pytest.raises(grpc.RpcError) as failed:
        calls.start_mapped(engine)
    reason = errors.from_rpc_error(failed.value).reason
    assert reason in {"SUPERVISOR_LOST", "PROCESS_START_FAILED"}
    assert (get(engine, NAME).state, get(engine, NAME).failure.reason) == (CREATED, reason)
    until_nothing_unowned(engine)
    engine.kill()
    engine.start()
    calls.has_users_of_its_own(engine)


@pytest.mark.parametrize("failpoint", WITH_SHARED_MEMORY)
def test_one_that_dies_as_it_joins_shared_memory_leaves_the_owner_what_it_has(
    engine: CrashedEngine, failpoint: str
) -> None:
    own = security_pb2.NamespaceSpec(mode=security_pb2.NamespaceSpec.MODE_SHAREABLE)
    calls.create_sharing(engine, OWNER, f"echo kept > /dev/shm/x; {COUNT}", own)
    engine.containers.StartContainer(containers_pb2.StartContainerRequest(container=OWNER), timeout=CALL_SECONDS)
    until_now(lambda: engine.logs(OWNER).startswith(b"0\n"), "the memory has been written")
    owner = get(engine, OWNER)
    armed(engine, failpoint)
    joined = security_pb2.NamespaceSpec(mode=security_pb2.NamespaceSpec.MODE_CONTAINER, container=OWNER)
    calls.create_sharing(engine, NAME, "cat /dev/shm/x && rm /dev/shm/x", joined)
    with pytest.raises(grpc.RpcError) as failed:
        calls.start(engine)
    reason = errors.from_rpc_error(failed.value).reason
    assert reason in {"SUPERVISOR_LOST", "PROCESS_START_FAILED"}
    assert (get(engine, NAME).state, get(engine, NAME).failure.reason) == (CREATED, reason)
    runs_on(engine, owner)
    until_nothing_unowned(engine)
    engine.kill()
    engine.start()
    calls.start(engine)
    assert wait_for_end(engine, NAME).exit_code == 0
    assert engine.logs(NAME) == b"kept\n"
    delete(engine, NAME)
    runs_on(engine, owner)
    delete(engine, OWNER)
    until_nothing_unowned(engine)


@pytest.mark.parametrize("failpoint", BEFORE_START)
def test_one_that_dies_before_the_start_fails_the_start_alone(engine: CrashedEngine, failpoint: str) -> None:
    bystander = get(engine, BYSTANDER)
    armed(engine, failpoint)
    calls.create(engine, STAY)
    with pytest.raises(grpc.RpcError) as failed:
        calls.start(engine)
    reason = errors.from_rpc_error(failed.value).reason
    assert reason in {"SUPERVISOR_LOST", "PROCESS_START_FAILED"}
    container = get(engine, NAME)
    assert (container.state, container.failure.reason) == (CREATED, reason)
    with pytest.raises(grpc.RpcError):
        engine.run(IMAGE, "true")
    assert {one.name for one in leftovers.list_containers(engine)} == {BYSTANDER, NAME}
    until_nothing_unowned(engine)
    engine.kill()
    engine.start()
    assert get(engine, NAME).failure.reason == reason
    calls.start(engine)
    calls.stays_until_stopped(engine)
    runs_on(engine, bystander)
    until_nothing_unowned(engine)


def test_one_that_dies_before_its_exit_record_is_reported(engine: CrashedEngine) -> None:
    armed(engine, "supervisor.before_exit_record")
    calls.create(engine, END_WITH_5)
    calls.start(engine)
    is_lost(engine)
    delete(engine, NAME)
    until_nothing_unowned(engine)
    engine.kill()


def test_one_that_dies_after_its_exit_record_has_told_the_end(engine: CrashedEngine) -> None:
    armed(engine, "supervisor.after_exit_record")
    calls.create(engine, END_WITH_5)
    calls.start(engine)
    calls.ended_with_output(engine, 5)
    until_nothing_unowned(engine)
    engine.kill()
