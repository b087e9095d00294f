"""Containers in scopes of a real systemd, as the host's first process: `make test-systemd`."""

import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest

from fluyt import execs
from fluyt.v1 import containers_pb2
from fluyt.v1.types import resources_pb2
from tests.e2e.containers.steps import (
    IMAGE,
    INVALID,
    create,
    delete,
    exit_of,
    get,
    listed,
    refusal,
    refused,
    refused_run,
    start,
    started,
    wait,
)
from tests.support import image_files, images
from tests.support.engine import PATIENCE_SECONDS
from tests.support.scopes import SLICE, SLICE_GROUP, ScopedEngine, scope, scope_group, scopes, show, systemctl
from tests.support.wait import until_now

pytestmark = pytest.mark.needs("systemd")
MIB = 1 << 20
#: What the scope has beyond the container's, for the supervisor.
ROOM, TASKS = 8 * MIB, 16
LIMITS = resources_pb2.Resources(
    memory_limit_bytes=64 * MIB,
    memory_reservation_bytes=32 * MIB,
    cpu_shares=512,
    cpu_quota_micros=25_500,
    cpuset_cpus="1",
    pids_limit=40,
)


@pytest.fixture(scope="module")
def engine_of_all(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ScopedEngine]:
    """One engine with a busybox."""
    with ScopedEngine(tmp_path_factory.mktemp("scopes")) as running:
        running.load(image_files.oci_archive({IMAGE: images.busybox_image()}))
        yield running


@pytest.fixture
def engine(engine_of_all: ScopedEngine) -> Iterator[ScopedEngine]:
    """The engine without containers; afterwards systemd has no scope of one, whatever was done."""
    yield engine_of_all
    for container in listed(engine_of_all):
        delete(engine_of_all, container.id, force=True)
    assert scopes() == []
    assert engine_of_all.left_on_host() == []


def texts(group: Path, *files: str) -> dict[str, str]:
    """What the kernel shows."""
    return {file: (group / file).read_text().strip() for file in files}


def bounds(group: Path) -> dict[str, str]:
    """The files of all limits that are asked for here."""
    return texts(
        group, "memory.max", "memory.swap.max", "memory.low", "cpu.weight", "cpu.max", "cpuset.cpus", "pids.max"
    )


def update(engine: ScopedEngine, name: str, **limits: int | str) -> None:
    """UpdateContainer with new limits."""
    request = containers_pb2.UpdateContainerRequest(container=name, resources=resources_pb2.Resources(**limits))  # type: ignore[arg-type]
    engine.containers.UpdateContainer(request)


def groups_of(pid: int) -> str:
    """The group of a process in the v2 hierarchy."""
    return Path(f"/proc/{pid}/cgroup").read_text().strip().removeprefix("0::/")


def test_a_container_is_in_a_scope_beside_its_supervisor(engine: ScopedEngine) -> None:
    container = started(engine, "sleep", "1000")
    place = f"{SLICE_GROUP}/{scope(container)}"
    assert groups_of(container.host_pid) == f"{place}/payload"
    (supervisor,) = (scope_group(container) / "supervisor" / "cgroup.procs").read_text().split()
    assert Path(f"/proc/{supervisor}/comm").read_text() == "fluyt-super\n"
    shown = show(scope(container), "ActiveState", "Description", "Slice", "Delegate", "ControlGroup", "TasksMax")
    assert shown == {
        "ActiveState": "active",
        "Description": f"Fluyt container {container.id} of {engine.root / 'data'}",
        "Slice": SLICE,
        "Delegate": "yes",
        "ControlGroup": f"/{place}",
        "TasksMax": "infinity",
    }
    status = systemctl("status", "--no-pager", scope(container))
    assert "active (running)" in status
    assert "sleep 1000" in status
    # A further process is in the scope too, and the container sees nothing above its own group.
    ended = execs.run(engine.channel, container.id, ["cat", "/proc/self/cgroup"])
    assert ended.stdout.startswith(b"0::/exec-")


def test_limits_hold_in_both_groups_and_outlive_a_reload(engine: ScopedEngine) -> None:
    container = started(engine, "sleep", "1000", resources=LIMITS)
    group = scope_group(container)
    inside = {
        "memory.max": str(64 * MIB),
        "memory.swap.max": str(64 * MIB),
        "memory.low": str(32 * MIB),
        "cpu.weight": "59",
        "cpu.max": "25500 100000",
        "cpuset.cpus": "1",
        "pids.max": "40",
    }
    # systemd keeps whole hundredths of a processor; the exact figure holds below.
    outside = inside | {"memory.max": str(64 * MIB + ROOM), "cpu.max": "26000 100000", "pids.max": str(40 + TASKS)}
    assert bounds(group / "payload") == inside
    assert bounds(group) == outside
    systemctl("daemon-reload")
    assert bounds(group / "payload") == inside
    assert bounds(group) == outside
    assert show(scope(container), "MemoryMax", "CPUWeight", "CPUQuotaPerSecUSec", "AllowedCPUs", "TasksMax") == {
        "MemoryMax": str(64 * MIB + ROOM),
        "CPUWeight": "59",
        "CPUQuotaPerSecUSec": "260ms",
        "AllowedCPUs": "1",
        "TasksMax": str(40 + TASKS),
    }


def test_an_update_reaches_the_kernel_and_systemd(engine: ScopedEngine) -> None:
    container = started(engine, "sleep", "1000", resources=LIMITS)
    group = scope_group(container)
    update(engine, container.id, memory_limit_bytes=96 * MIB, memory_swap_limit_bytes=96 * MIB, cpu_shares=2048)
    update(engine, container.id, pids_limit=-1, cpuset_cpus="0-1", cpu_quota_micros=50_000)
    inside = {
        "memory.max": str(96 * MIB),
        "memory.swap.max": "0",
        "memory.low": str(32 * MIB),
        "cpu.weight": "174",
        "cpu.max": "50000 100000",
        "cpuset.cpus": "0-1",
        "pids.max": "max",
    }
    for _ in range(2):
        assert bounds(group / "payload") == inside
        assert bounds(group) == inside | {"memory.max": str(96 * MIB + ROOM)}
        systemctl("daemon-reload")
    assert show(scope(container), "MemoryMax", "TasksMax") == {
        "MemoryMax": str(96 * MIB + ROOM),
        "TasksMax": "infinity",
    }


def test_stop_and_delete_leave_no_scope_and_a_start_makes_it_anew(engine: ScopedEngine) -> None:
    container = create(engine, "sh", "-c", "trap 'exit 3' TERM; echo ready; while :; do sleep 0.1; done")
    for _ in range(2):
        start(engine, container.id)
        until_now(lambda: b"ready" in engine.logs(container.id))
        engine.containers.StopContainer(containers_pb2.StopContainerRequest(container=container.id))
        until_now(lambda: scopes() == [])
        assert exit_of(get(engine, container.id)) == ("exit_code", 3)
    delete(engine, container.id)
    assert not (engine.root / "run" / "containers" / container.id).exists()


def test_a_scope_that_systemctl_stops_is_a_container_that_ends(engine: ScopedEngine) -> None:
    container = started(engine, "sh", "-c", "trap 'exit 3' TERM; echo ready; while :; do sleep 0.1; done")
    until_now(lambda: b"ready" in engine.logs(container.id))
    systemctl("stop", scope(container))
    assert exit_of(wait(engine, container.id, timeout=PATIENCE_SECONDS)) == ("exit_code", 3)


def test_a_container_that_ends_by_itself_for_lack_of_memory_says_so(engine: ScopedEngine) -> None:
    # systemd takes the scope away as soon as it is empty, which must not be before its counters were read.
    hog = 'x=$(head -c 60m /dev/zero | tr "\\0" a)'
    limits = resources_pb2.Resources(memory_limit_bytes=16 * MIB, memory_swap_limit_bytes=16 * MIB)
    container = started(engine, "sh", "-c", hog, resources=limits)
    ended = wait(engine, container.id, timeout=PATIENCE_SECONDS)
    assert ended.oom_killed
    until_now(lambda: scopes() == [])


def test_a_start_that_fails_leaves_no_scope(engine: ScopedEngine) -> None:
    _, reason, metadata = refused_run(engine, "/no/such/command")
    assert (reason, metadata["exit_code"]) == ("PROCESS_START_FAILED", "127")
    assert scopes() == []


@pytest.mark.parametrize(
    ("slice_name", "group"),
    [("fluyta-b-c.slice", "fluyta.slice/fluyta-b.slice/fluyta-b-c.slice"), ("memory.slice", "_memory.slice")],
)
def test_a_container_may_ask_for_a_slice(engine: ScopedEngine, slice_name: str, group: str) -> None:
    container = started(engine, "sleep", "1000", cgroup_parent=slice_name, resources=LIMITS)
    assert show(scope(container), "Slice", "ControlGroup") == {
        "Slice": slice_name,
        "ControlGroup": f"/{group}/{scope(container)}",
    }
    assert bounds(scope_group(container, group) / "payload")["pids.max"] == "40"
    assert groups_of(container.host_pid) == f"{group}/{scope(container)}/payload"


@pytest.mark.parametrize("parent", ["web", "/web.slice", "a/b.slice", "-.slice", "a--b.slice", "-a.slice", "a-.slice"])
def test_another_parent_than_a_slice_is_refused(engine: ScopedEngine, parent: str) -> None:
    code, reason, metadata = refused(lambda: create(engine, "true", cgroup_parent=parent))
    assert (code, reason, metadata["field"]) == (INVALID, "FIELD_INVALID", "spec.cgroup_parent")


def test_containers_run_on_when_the_daemon_is_killed(engine: ScopedEngine) -> None:
    container = started(engine, "sleep", "1000", cgroup_parent="fluyta.slice", resources=LIMITS)
    paused = started(engine, "sleep", "1000")
    engine.containers.PauseContainer(containers_pb2.PauseContainerRequest(container=paused.id))
    engine.kill()
    assert sorted(scopes()) == sorted(map(scope, (container, paused)))
    engine.start()
    assert get(engine, container.id).host_pid == container.host_pid
    update(engine, container.id, pids_limit=50)
    assert bounds(scope_group(container, "fluyta.slice"))["pids.max"] == str(50 + TASKS)
    assert (scope_group(paused) / "payload" / "cgroup.freeze").read_text() == "1\n"
    assert execs.run(engine.channel, container.id, ["echo", "here"]).stdout == b"here\n"
    engine.containers.ResumeContainer(containers_pb2.ResumeContainerRequest(container=paused.id))
    assert (scope_group(paused) / "payload" / "cgroup.freeze").read_text() == "0\n"


def test_containers_that_the_other_driver_started_are_taken_over(engine: ScopedEngine) -> None:
    scoped = started(engine, "sleep", "1000")
    engine.kill()
    try:
        engine.use_driver("--cgroup-parent", "fluyttest-plain")
        engine.start()
        plain = started(engine, "sleep", "1000")
        assert groups_of(plain.host_pid) == f"fluyttest-plain/{plain.id}"
        update(engine, scoped.id, pids_limit=50)
        assert (scope_group(scoped) / "payload" / "pids.max").read_text() == "50\n"
        delete(engine, scoped.id, force=True)
        until_now(lambda: scopes() == [])
    finally:
        engine.kill()
        engine.use_driver()
        engine.start()
    update(engine, plain.id, pids_limit=60)
    assert Path("/sys/fs/cgroup/fluyttest-plain", plain.id, "pids.max").read_text() == "60\n"
    delete(engine, plain.id, force=True)
    assert not Path("/sys/fs/cgroup/fluyttest-plain", plain.id).exists()


def test_a_scope_that_nothing_owns_goes_and_those_of_another_engine_stay(engine: ScopedEngine) -> None:
    ours, theirs = "a" * 64, "b" * 64
    held = []
    for container_id, root in ((ours, engine.root / "data"), (theirs, "/another/root")):
        described = f"--description=Fluyt container {container_id} of {root}"
        command = ["systemd-run", "--scope", "--quiet", f"--unit={scope(container_id)}", described, "sleep", "1000"]
        held.append(subprocess.Popen(command))
    try:
        until_now(lambda: sorted(scopes()) == [scope(ours), scope(theirs)], deadline_seconds=PATIENCE_SECONDS)
        engine.kill()
        engine.start()
        assert scopes() == [scope(theirs)]
        assert held[0].wait(PATIENCE_SECONDS) == -signal.SIGKILL
        assert held[1].poll() is None
    finally:
        for process in held:
            process.kill()
            process.wait()
        until_now(lambda: scopes() == [])


def test_a_bus_that_was_started_anew_is_connected_to_again(engine: ScopedEngine) -> None:
    container = started(engine, "sleep", "1000")
    systemctl("restart", "dbus.service")
    until_now(lambda: systemctl("is-active", "dbus.service", check=False) == "active\n", "", PATIENCE_SECONDS)

    def is_updated() -> bool:
        # systemd comes back to the bus a moment later than we may ask for it, and a call tells that.
        try:
            update(engine, container.id, pids_limit=70)
        except grpc.RpcError as error:
            return refusal(error)[1] != "SYSTEMD_UNAVAILABLE"
        return True

    until_now(is_updated, "systemd is back", PATIENCE_SECONDS)
    assert (scope_group(container) / "pids.max").read_text() == f"{70 + TASKS}\n"
