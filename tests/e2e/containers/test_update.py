"""Other limits, another policy and another name for containers that run or do not."""

import contextlib
from concurrent.futures import ThreadPoolExecutor

import grpc
import pytest

from fluyt.v1 import containers_pb2
from fluyt.v1.types import container_pb2, container_spec_pb2, resources_pb2
from tests.e2e.containers.steps import (
    EXISTS,
    INVALID,
    NOT_FOUND,
    cgroup_file,
    create,
    delete,
    get,
    refused,
    start,
    started,
    wait,
)
from tests.support.engine import Engine
from tests.support.wait import until_now

MIB = 1 << 20
UNLIMITED = "9223372036854771712"
"""What cgroup v1 shows for no bound: LONG_MAX cut to whole pages."""


def update(engine: Engine, name: str, **limits: int | str) -> container_pb2.Container:
    """UpdateContainer's answer to new limits."""
    request = containers_pb2.UpdateContainerRequest(container=name, resources=resources_pb2.Resources(**limits))  # type: ignore[arg-type]
    return engine.containers.UpdateContainer(request).container  # type: ignore[no-any-return]


def rename(engine: Engine, name: str, new: str) -> container_pb2.Container:
    """RenameContainer's answer."""
    request = containers_pb2.RenameContainerRequest(container=name, name=new)
    return engine.containers.RenameContainer(request).container  # type: ignore[no-any-return]


def memory_of(engine: Engine, name: str) -> tuple[str, str]:
    """(memory, memory and swap) as cgroup v1 shows them."""
    files = ("memory.limit_in_bytes", "memory.memsw.limit_in_bytes")
    memory, total = (cgroup_file(engine, name, "memory", file) for file in files)
    return memory, total


@pytest.mark.needs("cgroup-v1-swap")
def test_c06_memory_and_swap_grow_and_shrink_while_it_runs(engine: Engine) -> None:
    limits = resources_pb2.Resources(memory_limit_bytes=64 * MIB, memory_swap_limit_bytes=128 * MIB)
    container = started(engine, "sleep", "100", resources=limits)
    for memory, total in ((200, 300), (64, 128)):
        answer = update(engine, container.id, memory_limit_bytes=memory * MIB, memory_swap_limit_bytes=total * MIB)
        assert memory_of(engine, container.id) == (str(memory * MIB), str(total * MIB))
        assert answer.spec.resources.memory_limit_bytes == memory * MIB
        assert answer.host_pid == container.host_pid


@pytest.mark.needs("cgroup-v2")
def test_c06_memory_and_swap_grow_and_shrink_on_v2(engine: Engine) -> None:
    container = started(engine, "sleep", "100", resources=resources_pb2.Resources(memory_limit_bytes=64 * MIB))
    for memory, total in ((200, 300), (64, 128)):
        update(engine, container.id, memory_limit_bytes=memory * MIB, memory_swap_limit_bytes=total * MIB)
        assert cgroup_file(engine, container.id, ".", "memory.max") == str(memory * MIB)
        assert cgroup_file(engine, container.id, ".", "memory.swap.max") == str((total - memory) * MIB)


@pytest.mark.needs("cgroup-v1-swap")
def test_c06_memory_alone_takes_its_default_of_swap_along_and_can_be_lifted(engine: Engine) -> None:
    container = started(engine, "sleep", "100")
    update(engine, container.id, memory_limit_bytes=64 * MIB)
    assert memory_of(engine, container.id) == (str(64 * MIB), str(128 * MIB))
    update(engine, container.id, memory_limit_bytes=0)
    assert memory_of(engine, container.id) == (UNLIMITED, UNLIMITED)


@pytest.mark.needs("cgroup-v1")
def test_every_other_limit_is_changed_at_once_and_lifted_again(engine: Engine) -> None:
    container = started(engine, "sleep", "100")
    group = container.id
    update(engine, group, cpu_shares=512, cpu_quota_micros=50_000, cpu_period_micros=50_000, pids_limit=17)
    assert cgroup_file(engine, group, "cpu", "cpu.shares") == "512"
    assert cgroup_file(engine, group, "cpu", "cpu.cfs_quota_us") == "50000"
    assert cgroup_file(engine, group, "cpu", "cpu.cfs_period_us") == "50000"
    assert cgroup_file(engine, group, "pids", "pids.max") == "17"
    update(engine, group, cpu_quota_micros=-1, pids_limit=0)
    assert cgroup_file(engine, group, "cpu", "cpu.cfs_quota_us") == "-1"
    assert cgroup_file(engine, group, "cpu", "cpu.shares") == "512"
    assert cgroup_file(engine, group, "pids", "pids.max") == "max"
    update(engine, group, cpuset_cpus="0")
    assert cgroup_file(engine, group, "cpuset", "cpuset.cpus") == "0"


@pytest.mark.needs("cgroup-v1")
def test_cpu_time_told_in_one_way_takes_the_place_of_the_other(engine: Engine) -> None:
    group = started(engine, "sleep", "100", resources=resources_pb2.Resources(nano_cpus=500_000_000)).id

    def quota() -> str:
        return cgroup_file(engine, group, "cpu", "cpu.cfs_quota_us")

    assert quota() == "50000"
    changed = update(engine, group, cpu_quota_micros=30_000, cpu_period_micros=60_000).spec.resources
    assert (quota(), changed.cpu_quota_micros, changed.HasField("nano_cpus")) == ("30000", 30_000, False)
    changed = update(engine, group, nano_cpus=1_000_000_000).spec.resources
    assert (quota(), changed.nano_cpus, changed.HasField("cpu_quota_micros")) == ("100000", 10**9, False)
    assert cgroup_file(engine, group, "cpu", "cpu.cfs_period_us") == "100000"
    update(engine, group, cpu_quota_micros=-1)
    assert quota() == "-1"
    update(engine, group, nano_cpus=1_000_000_000)
    update(engine, group, nano_cpus=0)
    assert quota() == "-1"


def test_limits_of_a_container_that_does_not_run_hold_from_its_next_start(engine: Engine) -> None:
    made = create(engine, "sh", "-c", "ulimit -u; sleep 100")
    update(engine, made.id, pids_limit=17)
    start(engine, made.id)
    assert cgroup_file(engine, made.id, "pids", "pids.max") == "17"


@pytest.mark.parametrize(
    ("limits", "field"),
    [
        ({"memory_limit_bytes": 1}, "resources.memory_limit_bytes"),
        ({"memory_limit_bytes": 256 * MIB}, "resources.memory_swap_limit_bytes"),
        ({"memory_limit_bytes": 0}, "resources.memory_swap_limit_bytes"),
        ({"cpu_shares": 1}, "resources.cpu_shares"),
        ({"cpuset_cpus": "4095"}, "resources.cpuset_cpus"),
        ({"nano_cpus": 10**9, "cpu_quota_micros": 1000}, "resources.cpu_quota_micros"),
        ({"pids_limit": -2}, "resources.pids_limit"),
    ],
    ids=str,
)
def test_a_limit_that_cannot_be_changes_nothing(engine: Engine, limits: dict[str, int], field: str) -> None:
    present = resources_pb2.Resources(memory_limit_bytes=64 * MIB, memory_swap_limit_bytes=128 * MIB)
    container = started(engine, "sleep", "100", resources=present)
    code, reason, metadata = refused(lambda: update(engine, container.id, **limits))
    assert (code, reason, metadata["field"]) == (INVALID, "FIELD_INVALID", field)
    assert get(engine, container.id) == container


@pytest.mark.needs("cgroup-v1-swap")
def test_c06_limits_that_the_kernel_refuses_leave_the_old_ones_whole(engine: Engine) -> None:
    limits = resources_pb2.Resources(memory_limit_bytes=200 * MIB, memory_swap_limit_bytes=200 * MIB, cpu_shares=512)
    script = 'x=$(head -c 40m /dev/zero | tr "\\0" a); echo full; while :; do sleep 100; done'
    container = started(engine, "sh", "-c", script, resources=limits)
    wait_for_line(engine, container.id)
    # Without swap it cannot come below what it uses.
    code, reason, _ = refused(
        lambda: update(
            engine,
            container.id,
            cpu_shares=1024,
            memory_limit_bytes=8 * MIB,
            memory_swap_limit_bytes=8 * MIB,
            pids_limit=5,
        )
    )
    assert (code, reason) == (grpc.StatusCode.FAILED_PRECONDITION, "CGROUP_LIMIT_REJECTED")
    assert memory_of(engine, container.id) == (str(200 * MIB), str(200 * MIB))
    assert cgroup_file(engine, container.id, "cpu", "cpu.shares") == "512"
    assert get(engine, container.id).spec.resources == limits


def wait_for_line(engine: Engine, name: str) -> None:
    """It has written its line."""
    until_now(lambda: engine.logs(name) == b"full\n", "it holds its memory")


def test_an_update_with_an_old_version_is_refused(engine: Engine) -> None:
    made = create(engine, "true")
    update(engine, made.id, pids_limit=17)
    request = containers_pb2.UpdateContainerRequest(
        container=made.id, resources=resources_pb2.Resources(pids_limit=18), expected_version=made.version
    )
    assert refused(lambda: engine.containers.UpdateContainer(request))[1] == "VERSION_CONFLICT"


@pytest.mark.parametrize("field", ["add_published_ports", "remove_published_ports"])
def test_a_container_without_a_network_publishes_nothing(engine: Engine, field: str) -> None:
    made = create(engine, "true")
    request = containers_pb2.UpdateContainerRequest(container=made.id)
    getattr(request, field).add(container_port=80)
    _, reason, facts = refused(lambda: engine.containers.UpdateContainer(request))
    assert (reason, facts["field"]) == ("FIELD_INVALID", field)


def test_a_policy_can_be_given_to_a_running_container_and_taken_away(engine: Engine) -> None:
    container = started(engine, "sh", "-c", "sleep 0.3; exit 1")
    policy = container_spec_pb2.RestartPolicy(mode=2, max_retry_count=1)  # type: ignore[arg-type]
    request = containers_pb2.UpdateContainerRequest(container=container.id, restart_policy=policy)
    assert engine.containers.UpdateContainer(request).container.spec.restart_policy == policy
    until_now(lambda: get(engine, container.id).restart_count == 1, "it is started again")
    wait(engine, container.id)


@pytest.mark.parametrize("runs", [False, True])
def test_a_new_name_is_taken_and_the_old_one_free_at_once(engine: Engine, runs: bool) -> None:
    made = create(engine, "sleep", "100", name="before")
    if runs:
        start(engine, made.id)
    assert rename(engine, "before", "after").name == "after"
    assert refused(lambda: get(engine, "before"))[:2] == (NOT_FOUND, "CONTAINER_NOT_FOUND")
    other = create(engine, "true", name="before")
    code, reason, metadata = refused(lambda: rename(engine, "after", "before"))
    assert (code, reason, metadata["holder_id"]) == (EXISTS, "NAME_IN_USE", other.id)
    assert get(engine, "after").id == made.id


@pytest.mark.parametrize("name", ["", "-a", "a b", "a/b", "x" * 129])
def test_a_name_that_cannot_be_is_refused(engine: Engine, name: str) -> None:
    made = create(engine, "true")
    assert refused(lambda: rename(engine, made.id, name))[:2] == (INVALID, "FIELD_INVALID")
    assert get(engine, made.id).name == made.name


def test_of_many_who_want_one_name_one_gets_it(engine: Engine) -> None:
    ids = [create(engine, "true").id for _ in range(8)]

    def attempt(container_id: str) -> bool:
        with contextlib.suppress(grpc.RpcError):
            rename(engine, container_id, "wanted")
            return True
        return False

    with ThreadPoolExecutor(8) as pool:
        won = list(pool.map(attempt, ids))
    assert won.count(True) == 1
    assert get(engine, "wanted").id == ids[won.index(True)]


def test_a_name_stays_free_when_its_container_is_deleted_while_it_is_renamed(engine: Engine) -> None:
    for _ in range(10):
        made = create(engine, "true")
        with ThreadPoolExecutor(2) as pool:
            renaming = pool.submit(rename, engine, made.id, "gone")
            deleting = pool.submit(delete, engine, made.id)
            deleting.result()
            with contextlib.suppress(grpc.RpcError):
                renaming.result()
        delete(engine, create(engine, "true", name="gone").id)
