"""How each failpoint on the way of a container is reached, and what must hold after it."""

import shutil
from pathlib import Path

import grpc
import pytest
from google.protobuf import duration_pb2

from fluyt.v1 import containers_pb2
from fluyt.v1.types import container_pb2, container_spec_pb2, security_pb2
from tests.recovery import crash
from tests.recovery.crash import (
    CALL_SECONDS,
    EXITED,
    IMAGE,
    CrashedEngine,
    Scenario,
    delete,
    find,
    get,
    start_ready,
    wait_for_end,
)
from tests.support import leftovers
from tests.support.wait import until_now

#: Users of the container's own.
MAPPED = security_pb2.NamespacesSpec(user=security_pb2.UserNamespaceSpec(mode=security_pb2.UserNamespaceSpec.MODE_AUTO))
NAME = "half"
OTHER_NAME = "other-half"
PAUSED = container_pb2.Container.STATE_PAUSED
RESTART = container_spec_pb2.RestartPolicy
CREATED = container_pb2.Container.STATE_CREATED
RUNNING = container_pb2.Container.STATE_RUNNING
END_WITH_5 = "echo ran; exit 5"
STAY = "trap 'exit 3' TERM; echo ran; sleep 1000 & wait"
#: Hears no request to end.
DEAF = "trap '' TERM; echo ran; while :; do sleep 1000; done"


def create(engine: CrashedEngine, script: str = END_WITH_5) -> None:
    """CreateContainer."""
    spec = container_spec_pb2.ContainerSpec(image=IMAGE, args=["sh", "-c", script])
    engine.containers.CreateContainer(containers_pb2.CreateContainerRequest(spec=spec, name=NAME), timeout=CALL_SECONDS)


def create_to_stay(engine: CrashedEngine) -> None:
    """CreateContainer of one that runs until it is told to end."""
    create(engine, STAY)


def create_sharing(engine: CrashedEngine, name: str, script: str, ipc: security_pb2.NamespaceSpec) -> None:
    """CreateContainer of one with this IPC namespace."""
    spec = container_spec_pb2.ContainerSpec(
        image=IMAGE, args=["sh", "-c", script], namespaces=security_pb2.NamespacesSpec(ipc=ipc)
    )
    engine.containers.CreateContainer(containers_pb2.CreateContainerRequest(spec=spec, name=name), timeout=CALL_SECONDS)


def start(engine: CrashedEngine) -> None:
    """StartContainer."""
    engine.containers.StartContainer(containers_pb2.StartContainerRequest(container=NAME), timeout=CALL_SECONDS)


def start_and_wait(engine: CrashedEngine) -> None:
    """StartContainer, and the daemon sees the end."""
    start(engine)
    wait_for_end(engine, NAME)


def run(engine: CrashedEngine) -> None:
    """RunContainer of one that removes itself."""
    out, _, ended = engine.run(IMAGE, "sh", "-c", "echo ran; exit 5")
    assert (out, ended.exit_code) == (b"ran\n", 5)


def stop(engine: CrashedEngine) -> None:
    """StopContainer, with a short time of grace."""
    engine.containers.StopContainer(
        containers_pb2.StopContainerRequest(container=NAME, timeout=duration_pb2.Duration(nanos=200_000_000)),
        timeout=CALL_SECONDS,
    )


def kill(engine: CrashedEngine) -> None:
    """KillContainer."""
    engine.containers.KillContainer(
        containers_pb2.KillContainerRequest(container=NAME, signal="SIGTERM"), timeout=CALL_SECONDS
    )


def remove(engine: CrashedEngine) -> None:
    """DeleteContainer, without force."""
    engine.containers.DeleteContainer(containers_pb2.DeleteContainerRequest(container=NAME), timeout=CALL_SECONDS)


def stays(engine: CrashedEngine) -> None:
    """A container that runs until it is told to end."""
    start_ready(engine, NAME, STAY)


def is_deaf(engine: CrashedEngine) -> None:
    """A container that only a kill ends."""
    start_ready(engine, NAME, DEAF)


def has_ended(engine: CrashedEngine) -> None:
    """A container that has ended."""
    start_ready(engine, NAME, END_WITH_5)
    assert wait_for_end(engine, NAME).exit_code == 5


def created_or_absent(engine: CrashedEngine) -> None:
    """It is whole, or its name is free and it can be made; either way it runs."""
    found = find(engine, NAME)
    if found is None:
        create(engine)
    else:
        assert found.state == CREATED
    start(engine)
    ended_with_output(engine, 5)


def ended_with_output(engine: CrashedEngine, exit_code: int) -> None:
    """It has ended so, its output is whole; it can be deleted."""
    ended = wait_for_end(engine, NAME)
    assert (ended.state, ended.WhichOneof("exit"), ended.exit_code) == (EXITED, "exit_code", exit_code), ended
    assert engine.logs(NAME) == b"ran\n"
    delete(engine, NAME)


def startable_or_running(engine: CrashedEngine) -> None:
    """It runs, or it can be started; its start is told once."""
    found = get(engine, NAME)
    assert found.state in {CREATED, RUNNING}, found
    if found.state == CREATED:
        # Told if the record of the start had reached the store before the daemon died.
        assert found.failure.reason in {"", "SUPERVISOR_LOST"}
    start(engine)
    assert found.state == CREATED or get(engine, NAME).host_pid == found.host_pid
    stays_until_stopped(engine)


def stays_until_stopped(engine: CrashedEngine) -> None:
    """It has run from its beginning, once, and ends as it should; it can be deleted."""
    until_now(lambda: engine.logs(NAME) == b"ran\n", "it has written its line")
    assert get(engine, NAME).state == RUNNING
    stop(engine)
    ended_with_output(engine, 3)


def stopped_again(engine: CrashedEngine) -> None:
    """A second stop ends it."""
    stop(engine)
    ended_with_output(engine, 3)


def killed_again(engine: CrashedEngine) -> None:
    """A second stop ends what hears nothing; it was killed."""
    stop(engine)
    ended = wait_for_end(engine, NAME)
    assert (ended.state, ended.WhichOneof("exit"), ended.signal) == (EXITED, "signal", 9), ended
    delete(engine, NAME)


def signalled_again(engine: CrashedEngine) -> None:
    """It runs and can be sent the signal, or has ended by it."""
    if get(engine, NAME).state == RUNNING:
        kill(engine)
    ended_with_output(engine, 3)


def ended_and_startable(engine: CrashedEngine) -> None:
    """How it ended is known; it can be started again and ends the same way."""
    ended = wait_for_end(engine, NAME)
    assert (ended.state, ended.exit_code) == (EXITED, 5), ended
    assert engine.logs(NAME) == b"ran\n"
    start(engine)
    until_now(lambda: engine.logs(NAME) == b"ran\nran\n", "it has run twice")
    assert wait_for_end(engine, NAME).exit_code == 5
    delete(engine, NAME)


def removed_or_whole(engine: CrashedEngine) -> None:
    """It is as it was or gone; a second removal succeeds or finds nothing, and the name is free."""
    found = find(engine, NAME)
    if found is not None:
        assert (found.state, found.exit_code) == (EXITED, 5)
        assert engine.logs(NAME) == b"ran\n"
        remove(engine)
    assert find(engine, NAME) is None
    created_or_absent(engine)


def has_lost_its_directories(engine: CrashedEngine) -> None:
    """A container that has ended, whose directories somebody takes away."""
    has_ended(engine)
    shutil.rmtree(engine.root / "data" / "containers" / get(engine, NAME).id)


def unknown_until_deleted(engine: CrashedEngine) -> None:
    """It is told that it is damaged; only a forced deletion takes it away."""
    found = get(engine, NAME)
    assert (found.state, found.failure.reason) == (container_pb2.Container.STATE_UNKNOWN, "SUPERVISOR_LOST")
    with pytest.raises(grpc.RpcError):
        remove(engine)
    delete(engine, NAME)


def no_trace(engine: CrashedEngine) -> None:
    """A container that removes itself was not told to anyone: it is gone, or runs to its end and is gone then; another
    one runs."""
    until_now(lambda: [one.name for one in leftovers.list_containers(engine)] == [crash.BYSTANDER], "it is gone")
    run(engine)


def pause(engine: CrashedEngine) -> None:
    """PauseContainer."""
    engine.containers.PauseContainer(containers_pb2.PauseContainerRequest(container=NAME), timeout=CALL_SECONDS)


def resume(engine: CrashedEngine) -> None:
    """ResumeContainer."""
    engine.containers.ResumeContainer(containers_pb2.ResumeContainerRequest(container=NAME), timeout=CALL_SECONDS)


def is_paused(engine: CrashedEngine) -> None:
    """A container that was frozen."""
    stays(engine)
    pause(engine)


def paused_or_running(engine: CrashedEngine) -> None:
    """It is frozen as its record says, or runs; it can be paused and resumed, and ends as it should."""
    found = get(engine, NAME)
    assert found.state in {RUNNING, PAUSED}, found
    assert is_frozen(engine, found.id) is (found.state == PAUSED)
    pause(engine)
    assert is_frozen(engine, found.id)
    resume(engine)
    assert get(engine, NAME).host_pid == found.host_pid
    stays_until_stopped(engine)


def groups_of(engine: CrashedEngine, container_id: str) -> list[Path]:
    """Its control groups, without a look at others: below each hierarchy, or (v2 alone) below the mount itself."""
    root, name = Path("/sys/fs/cgroup"), f"{engine.cgroup_parent}/{container_id}"
    return [path for path in (*root.glob(f"*/{name}"), root / name) if path.is_dir()]


def is_frozen(engine: CrashedEngine, container_id: str) -> bool:
    """Whether the kernel runs none of its processes."""
    files = (("cgroup.events", "frozen 1"), ("freezer.state", "FROZEN"))
    return any(
        word in (group / file).read_text().splitlines()
        for group in groups_of(engine, container_id)
        for file, word in files
        if (group / file).exists()
    )


def update(engine: CrashedEngine) -> None:
    """UpdateContainer, to limits and a policy."""
    request = containers_pb2.UpdateContainerRequest(container=NAME)
    request.resources.pids_limit = 77
    request.resources.cpu_shares = 512
    engine.containers.UpdateContainer(request, timeout=CALL_SECONDS)


def updated_or_as_before(engine: CrashedEngine) -> None:
    """Its limits are all old or all new, in the record and in the kernel; it can be updated."""
    found = get(engine, NAME)
    limits = found.spec.resources
    assert (limits.pids_limit, limits.cpu_shares) in {(0, 0), (77, 512)}, limits
    assert pids_bound(engine, found.id) == ("77" if limits.pids_limit else "max")
    update(engine)
    assert pids_bound(engine, found.id) == "77"
    assert get(engine, NAME).spec.resources.pids_limit == 77
    stays_until_stopped(engine)


def pids_bound(engine: CrashedEngine, container_id: str) -> str:
    """The bound of its processes as the kernel shows it."""
    [group] = [path for path in groups_of(engine, container_id) if (path / "pids.max").exists()]
    return (group / "pids.max").read_text().strip()


def fails_and_is_restarted(engine: CrashedEngine) -> None:
    """A container whose policy starts it three times, is started; the daemon sees them."""
    policy = container_spec_pb2.RestartPolicy(mode=RESTART.MODE_ON_FAILURE, max_retry_count=3)
    spec = container_spec_pb2.ContainerSpec(image=IMAGE, args=["sh", "-c", END_WITH_5], restart_policy=policy)
    engine.containers.CreateContainer(containers_pb2.CreateContainerRequest(spec=spec, name=NAME), timeout=CALL_SECONDS)
    start(engine)
    until_now(lambda: get(engine, NAME).restart_count == 3, "it was restarted")


def restarted_as_often_as_its_policy_says(engine: CrashedEngine) -> None:
    """What was left of its restarts comes, and no more."""
    until_now(
        lambda: (get(engine, NAME).restart_count, get(engine, NAME).state) == (3, EXITED), "all restarts have come"
    )
    said = engine.logs(NAME)
    assert said == b"ran\n" * 4, (said, get(engine, NAME))
    delete(engine, NAME)


def restart(engine: CrashedEngine) -> None:
    """RestartContainer."""
    engine.containers.RestartContainer(containers_pb2.RestartContainerRequest(container=NAME), timeout=CALL_SECONDS)


def runs_again(engine: CrashedEngine) -> None:
    """What a caller wanted restarted runs, for the first or the second time."""
    until_now(lambda: get(engine, NAME).state == RUNNING, "it runs")
    restart(engine)
    until_now(lambda: engine.logs(NAME).endswith(b"ran\n"), "it has written its line")
    stop(engine)
    delete(engine, NAME)


def rename(engine: CrashedEngine) -> None:
    """RenameContainer."""
    request = containers_pb2.RenameContainerRequest(container=NAME, name=OTHER_NAME)
    engine.containers.RenameContainer(request, timeout=CALL_SECONDS)


def has_one_name(engine: CrashedEngine) -> None:
    """It has the old or the new name; the other is free."""
    if find(engine, NAME) is not None:
        assert find(engine, OTHER_NAME) is None
        rename(engine)
    assert find(engine, NAME) is None
    delete(engine, OTHER_NAME)


CREATING = Scenario(create, created_or_absent)
STARTING = Scenario(start, startable_or_running, create_to_stay)
RUNNING_ITSELF_AWAY = Scenario(run, no_trace)
STOPPING = Scenario(stop, stopped_again, stays)
STOPPING_DEAF = Scenario(stop, killed_again, is_deaf)


def start_mapped(engine: CrashedEngine) -> None:
    """A container with users of its own is made and started."""
    spec = container_spec_pb2.ContainerSpec(image=IMAGE, args=["sh", "-c", STAY], namespaces=MAPPED)
    engine.containers.CreateContainer(containers_pb2.CreateContainerRequest(spec=spec, name=NAME), timeout=CALL_SECONDS)
    start(engine)


def has_users_of_its_own(engine: CrashedEngine) -> None:
    """It is absent or can run; no other container gets its ids, whose record came before their use."""
    if find(engine, NAME) is None:
        start_mapped(engine)
    before = {
        found.host_pid: ids_of(found.host_pid) for found in leftovers.list_containers(engine) if found.state == RUNNING
    }
    start(engine)
    mine = ids_of(get(engine, NAME).host_pid)
    assert mine != ids_of(1)
    assert before.get(get(engine, NAME).host_pid, mine) == mine
    spec = container_spec_pb2.ContainerSpec(image=IMAGE, args=["sh", "-c", STAY], namespaces=MAPPED)
    request = containers_pb2.CreateContainerRequest(spec=spec, name=OTHER_NAME)
    engine.containers.CreateContainer(request, timeout=CALL_SECONDS)
    other = engine.containers.StartContainer(
        containers_pb2.StartContainerRequest(container=OTHER_NAME), timeout=CALL_SECONDS
    ).container
    assert ids_of(other.host_pid) not in (mine, ids_of(1))
    for name in (NAME, OTHER_NAME):
        engine.containers.DeleteContainer(
            containers_pb2.DeleteContainerRequest(container=name, force=True), timeout=CALL_SECONDS
        )


def ids_of(pid: int) -> str:
    """How the users of a process are those of the host."""
    return Path(f"/proc/{pid}/uid_map").read_text()


MAPPING = Scenario(start_mapped, has_users_of_its_own)
KILLING = Scenario(kill, signalled_again, stays)
ENDING = Scenario(start_and_wait, ended_and_startable, create)
DELETING = Scenario(remove, removed_or_whole, has_ended)
DAMAGED = Scenario(crash.nothing, unknown_until_deleted, has_lost_its_directories)

PAUSING = Scenario(pause, paused_or_running, stays)
RESUMING = Scenario(resume, paused_or_running, is_paused)
UPDATING = Scenario(update, updated_or_as_before, stays)
RESTARTING_BY_POLICY = Scenario(fails_and_is_restarted, restarted_as_often_as_its_policy_says)
RESTARTING = Scenario(restart, runs_again, stays)
RENAMING = Scenario(rename, has_one_name, create)

#: Failpoint of the daemon -> how it is reached.
SCENARIOS = {
    "container.create.record": CREATING,
    "container.create.directories": CREATING,
    "container.create.files": CREATING,
    "container.create.created": CREATING,
    "container.record.creating": CREATING,
    "container.record.created": CREATING,
    "container.prepare.directories": RUNNING_ITSELF_AWAY,
    "container.prepare.supervisors": RUNNING_ITSELF_AWAY,
    "container.tidy.directories": RUNNING_ITSELF_AWAY,
    "container.start.record": STARTING,
    "container.start.run_dir": STARTING,
    "container.start.process": STARTING,
    "container.start.executed": STARTING,
    "container.start.running": STARTING,
    "container.record.starting": STARTING,
    "container.record.running": STARTING,
    "container.stop.record": STOPPING,
    "container.stop.signal": STOPPING,
    "container.record.stopping": STOPPING,
    "container.stop.kill": STOPPING_DEAF,
    "container.kill.signal": KILLING,
    "container.exit.record": ENDING,
    "container.exit.cgroup": ENDING,
    "container.exit.run_dir": ENDING,
    "container.record.exited": ENDING,
    "container.pause.record": PAUSING,
    "container.pause.freeze": PAUSING,
    "container.record.paused": PAUSING,
    "container.resume.thaw": RESUMING,
    "container.resume.record": RESUMING,
    "container.update.limits": UPDATING,
    "container.update.record": UPDATING,
    "container.restart.start": RESTARTING_BY_POLICY,
    "container.delete.record": DELETING,
    "container.delete.files": DELETING,
    "container.delete.directories": DELETING,
    "container.delete.forget": DELETING,
    "container.record.deleting": DELETING,
    "container.record.deleted": DELETING,
    "container.record.unknown": DAMAGED,
    "recovery.apply": RUNNING_ITSELF_AWAY,
}

#: Further ways to failpoints that stand on several.
FURTHER = [
    ("recovery.apply:2", RUNNING_ITSELF_AWAY),
    ("container.start.record", RUNNING_ITSELF_AWAY),
    ("container.start.run_dir", RUNNING_ITSELF_AWAY),
    ("container.start.process", RUNNING_ITSELF_AWAY),
    ("container.start.executed", RUNNING_ITSELF_AWAY),
    ("control.before_proceed", RUNNING_ITSELF_AWAY),
    ("container.exit.record", RUNNING_ITSELF_AWAY),
    ("container.exit.cgroup", RUNNING_ITSELF_AWAY),
    ("container.delete.directories", RUNNING_ITSELF_AWAY),
    ("container.delete.forget", RUNNING_ITSELF_AWAY),
    ("container.record.starting", RUNNING_ITSELF_AWAY),
    ("container.record.exited", RUNNING_ITSELF_AWAY),
    ("container.restart.start:3", RESTARTING_BY_POLICY),
    ("container.start.executed:3", RESTARTING_BY_POLICY),
    ("container.record.starting:2", RESTARTING_BY_POLICY),
    ("container.record.exited:2", RESTARTING_BY_POLICY),
    ("container.stop.signal", RESTARTING),
    ("container.record.exited", RESTARTING),
    ("container.start.record", RESTARTING),
    ("container.start.executed", RESTARTING),
    ("container.record.created", RENAMING),
    ("container.record.creating", MAPPING),
    ("container.create.created", MAPPING),
    ("container.start.process", MAPPING),
    ("container.start.executed", MAPPING),
]

#: Failpoint of the core in the daemon -> how it is reached.
CORE_SCENARIOS = {
    "cgroup.made": STARTING,
    "cgroup.limited": STARTING,
    "control.before_proceed": STARTING,
    "cgroup.update": UPDATING,
    "cgroup.kill": ENDING,
    "cgroup.remove": ENDING,
    "host.remove_tree": DELETING,
    "host.remove_directory": DELETING,
}
