"""Limits: what the kernel is given, what it enforces, and what it cannot give."""

import resource

import pytest

from fluyt.v1.types import resources_pb2, security_pb2
from tests.e2e.containers.steps import (
    IMAGE,
    INVALID,
    cgroup_file,
    create,
    delete,
    exit_of,
    get,
    group,
    refused_run,
    start,
    started,
    wait,
)
from tests.e2e.execs.steps import run as exec_in
from tests.support.engine import Engine
from tests.support.wait import until_now

MIB = 1 << 20
UNLIMITED = 9223372036854771712
"""What cgroup v1 shows for no bound: LONG_MAX cut to whole pages."""
HOG = 'x=$(head -c 200m /dev/zero | tr "\\0" a)'


@pytest.mark.needs("cgroup-v1")
@pytest.mark.parametrize(
    ("shares", "shown"), [(None, "1024"), (0, "1024"), (2, "2"), (1024, "1024"), (262144, "262144")]
)
def test_c01_cpu_shares_are_given_as_they_are(engine: Engine, shares: int | None, shown: str) -> None:
    container = started(engine, "sleep", "100", resources=resources_pb2.Resources(cpu_shares=shares))
    assert cgroup_file(engine, container.id, "cpu", "cpu.shares") == shown


@pytest.mark.needs("cgroup-v2")
@pytest.mark.parametrize(("shares", "weight"), [(None, "100"), (2, "1"), (1024, "100"), (262144, "10000")])
def test_c01_cpu_shares_become_a_weight(engine: Engine, shares: int | None, weight: str) -> None:
    container = started(engine, "sleep", "100", resources=resources_pb2.Resources(cpu_shares=shares))
    assert cgroup_file(engine, container.id, ".", "cpu.weight") == weight


@pytest.mark.needs("cgroup-v1-swap")
@pytest.mark.parametrize(
    ("memory", "swap", "shown"),
    [
        (64, 96 * MIB, 96 * MIB),
        (64, 64 * MIB, 64 * MIB),
        (64, -1, UNLIMITED),
        (64, None, 128 * MIB),
        (64, 0, 128 * MIB),
        (6, None, 12 * MIB),
    ],
)
def test_c02_memory_and_swap_are_bounded_together(engine: Engine, memory: int, swap: int | None, shown: int) -> None:
    limits = resources_pb2.Resources(memory_limit_bytes=memory * MIB, memory_swap_limit_bytes=swap)
    container = started(engine, "sleep", "100", resources=limits)
    assert cgroup_file(engine, container.id, "memory", "memory.limit_in_bytes") == str(memory * MIB)
    assert cgroup_file(engine, container.id, "memory", "memory.memsw.limit_in_bytes") == str(shown)


@pytest.mark.needs("cgroup-v2")
@pytest.mark.parametrize(("swap", "shown"), [(96 * MIB, "33554432"), (64 * MIB, "0"), (-1, "max"), (None, "67108864")])
def test_c02_swap_alone_is_bounded(engine: Engine, swap: int | None, shown: str) -> None:
    limits = resources_pb2.Resources(memory_limit_bytes=64 * MIB, memory_swap_limit_bytes=swap)
    container = started(engine, "sleep", "100", resources=limits)
    assert cgroup_file(engine, container.id, ".", "memory.swap.max") == shown


@pytest.mark.parametrize(
    "limits",
    [
        {"memory_limit_bytes": 64 * MIB, "memory_swap_limit_bytes": 32 * MIB},
        {"memory_swap_limit_bytes": 64 * MIB},
        {"memory_limit_bytes": 64 * MIB, "memory_swap_limit_bytes": -2},
        {"memory_limit_bytes": 6 * MIB - 1},
        {"memory_limit_bytes": -1},
        {"memory_limit_bytes": 64 * MIB, "memory_reservation_bytes": 65 * MIB},
        {"cpu_shares": 1},
        {"cpu_shares": 262145},
        {"cpu_shares": -1},
        {"cpu_quota_micros": 999},
        {"cpu_quota_micros": -2},
        {"cpu_period_micros": 999},
        {"cpu_period_micros": 1_000_001},
        {"nano_cpus": 10**9, "cpu_quota_micros": 50_000},
        {"nano_cpus": 4096 * 10**9},
        {"nano_cpus": -1},
        {"cpuset_cpus": "4095"},
        {"cpuset_cpus": "1-0"},
        {"cpuset_cpus": "0,"},
        {"cpuset_cpus": "all"},
        {"cpuset_cpus": "0-99999999"},
        {"cpuset_mems": "4095"},
        {"pids_limit": -2},
        {"pids_limit": 4_194_305},
    ],
    ids=str,
)
def test_c02_a_limit_that_cannot_be_is_refused_before_anything_is_made(
    engine: Engine, limits: dict[str, int | str]
) -> None:
    wanted = resources_pb2.Resources(**limits)  # type: ignore[arg-type]
    assert refused_run(engine, "true", resources=wanted)[:2] == (INVALID, "FIELD_INVALID")


def test_c04_a_later_run_is_not_called_out_of_memory(engine: Engine) -> None:
    script = f"if [ -e /ran ]; then exit 0; fi; touch /ran; ({HOG}); exit 0"
    limits = resources_pb2.Resources(memory_limit_bytes=32 * MIB, memory_swap_limit_bytes=32 * MIB)
    container = create(engine, "sh", "-c", script, resources=limits)
    start(engine, container.id)
    first = wait(engine, container.id)
    assert (exit_of(first), first.oom_killed) == (("exit_code", 0), True)
    start(engine, container.id)
    second = wait(engine, container.id)
    assert (exit_of(second), second.oom_killed) == (("exit_code", 0), False)


@pytest.mark.needs("cgroup-v1")
@pytest.mark.parametrize(("limit", "shown"), [(None, "max"), (0, "max"), (-1, "max"), (16, "16"), (1, "1")])
def test_c05_the_bound_of_processes_is_the_one_asked_for(engine: Engine, limit: int | None, shown: str) -> None:
    container = started(engine, "sleep", "100", resources=resources_pb2.Resources(pids_limit=limit))
    assert cgroup_file(engine, container.id, "pids", "pids.max") == shown


def test_c05_the_seventeenth_process_cannot_be_made_and_the_host_goes_on(engine: Engine) -> None:
    script = "for n in $(seq 15); do sleep 100 & done; sleep 100 & echo never"
    container = started(engine, "sh", "-c", script, resources=resources_pb2.Resources(pids_limit=16))
    assert exit_of(wait(engine, container.id)) == ("exit_code", 2)
    assert b"Resource temporarily unavailable" in engine.logs(container.id)
    assert b"never" not in engine.logs(container.id)


def test_c05_a_fork_bomb_stays_within_its_bound(engine: Engine) -> None:
    script = "f() { f | f & }; f 2>/dev/null; sleep 100"
    container = started(engine, "sh", "-c", script, resources=resources_pb2.Resources(pids_limit=20))
    assert engine.run(IMAGE, "echo", "elsewhere")[0] == b"elsewhere\n"
    assert int(cgroup_file(engine, container.id, "pids", "pids.current")) <= 20


@pytest.mark.needs("cgroup-v1")
@pytest.mark.parametrize(
    ("limits", "quota", "period"),
    [
        ({}, "-1", "100000"),
        ({"cpu_quota_micros": 50_000}, "50000", "100000"),
        ({"cpu_quota_micros": 20_000, "cpu_period_micros": 40_000}, "20000", "40000"),
        ({"cpu_quota_micros": -1}, "-1", "100000"),
        ({"nano_cpus": 1_500_000_000}, "150000", "100000"),
        ({"nano_cpus": 10_000_000}, "1000", "100000"),
    ],
    ids=str,
)
def test_the_cpu_quota_is_the_one_asked_for(engine: Engine, limits: dict[str, int], quota: str, period: str) -> None:
    container = started(engine, "sleep", "100", resources=resources_pb2.Resources(**limits))  # type: ignore[arg-type]
    assert cgroup_file(engine, container.id, "cpu", "cpu.cfs_quota_us") == quota
    assert cgroup_file(engine, container.id, "cpu", "cpu.cfs_period_us") == period


@pytest.mark.needs("cgroup-v1")
def test_the_cpus_are_those_asked_for_and_the_process_sees_them(engine: Engine) -> None:
    limits = resources_pb2.Resources(cpuset_cpus="0", cpuset_mems="0")
    container = started(engine, "sh", "-c", "grep Cpus_allowed_list /proc/self/status; sleep 100", resources=limits)
    assert cgroup_file(engine, container.id, "cpuset", "cpuset.cpus") == "0"
    until_now(lambda: engine.logs(container.id) == b"Cpus_allowed_list:\t0\n", "the process sees one CPU")


@pytest.mark.needs("cgroup-v1")
def test_a_process_that_wants_more_than_its_quota_is_throttled(engine: Engine) -> None:
    limits = resources_pb2.Resources(cpu_quota_micros=10_000)
    container = started(engine, "sh", "-c", "while :; do :; done", resources=limits)

    def throttled() -> int:
        stat = dict(line.split() for line in cgroup_file(engine, container.id, "cpu", "cpu.stat").splitlines())
        return int(stat["nr_throttled"])

    until_now(lambda: throttled() > 2, "the kernel throttles it")


@pytest.mark.needs("cgroup-v1")
def test_a_reservation_of_memory_is_the_one_asked_for(engine: Engine) -> None:
    limits = resources_pb2.Resources(memory_limit_bytes=64 * MIB, memory_reservation_bytes=32 * MIB)
    container = started(engine, "sleep", "100", resources=limits)
    assert cgroup_file(engine, container.id, "memory", "memory.soft_limit_in_bytes") == str(32 * MIB)


def test_rlimits_are_set_and_one_that_the_host_forbids_is_clamped_and_told(engine: Engine) -> None:
    limits = [resources_pb2.Rlimit(name="nofile", soft=100, hard=200)]
    out, _, ended = engine.run(IMAGE, "sh", "-c", "ulimit -Sn; ulimit -Hn", rlimits=limits)
    assert (out, list(ended.clamps)) == (b"100\n200\n", [])
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    limits = [resources_pb2.Rlimit(name="nofile", soft=100, hard=hard + 1)]
    out, _, ended = engine.run(IMAGE, "sh", "-c", "ulimit -Sn; ulimit -Hn", rlimits=limits)
    given = out.split()
    assert given[0] == b"100"
    # A daemon with CAP_SYS_RESOURCE can raise the limit; one without must say that it gave less.
    clamped = [clamp.field for clamp in ended.clamps]
    assert (int(given[1]), clamped) in [(hard + 1, []), (hard, ["rlimits[nofile].hard"])]


@pytest.mark.parametrize(
    ("name", "soft", "hard"),
    [("nosuch", 1, 1), ("NOFILE", 1, 1), ("nofile", 2, 1), ("nofile", -1, 1), ("nofile", -2, 1), ("", 1, 1)],
)
def test_a_limit_of_a_process_that_cannot_be_is_refused(engine: Engine, name: str, soft: int, hard: int) -> None:
    limits = [resources_pb2.Rlimit(name=name, soft=soft, hard=hard)]
    assert refused_run(engine, "true", rlimits=limits)[:2] == (INVALID, "FIELD_INVALID")


def test_a_limit_that_is_given_twice_is_refused(engine: Engine) -> None:
    limits = [resources_pb2.Rlimit(name="core", soft=0, hard=0)] * 2
    assert refused_run(engine, "true", rlimits=limits)[:2] == (INVALID, "FIELD_INVALID")


def test_limits_are_kept_in_the_record_as_asked(engine: Engine) -> None:
    limits = resources_pb2.Resources(memory_limit_bytes=64 * MIB, pids_limit=16, cpu_shares=512)
    container = create(engine, "true", resources=limits)
    assert get(engine, container.id).spec.resources == limits


#: Goes to where the container's own groups can be made: in the hierarchy of v2, or in v1's of processes.
OWN_GROUPS = "cd /sys/fs/cgroup; [ -e cgroup.procs ] || cd pids; "


def test_a_container_sees_its_own_groups_alone_and_cannot_write_them(engine: Engine) -> None:
    container = started(engine, "sleep", "100", resources=resources_pb2.Resources(pids_limit=16))
    script = f"{OWN_GROUPS}cat pids.max; mkdir sub 2>&1; echo 9 > pids.max; grep -c {container.id} /proc/1/cgroup"
    ended = exec_in(engine, container.id, "sh", "-c", script)
    assert ended.out.decode().splitlines()[0] == "16"
    assert b"Read-only file system" in ended.out + ended.err
    assert ended.out.split()[-1] == b"0"
    assert cgroup_file(engine, container.id, "pids", "pids.max") == "16"


def test_a_privileged_container_divides_its_groups_and_what_it_made_goes_with_it(engine: Engine) -> None:
    script = OWN_GROUPS + (
        "mkdir init sub && echo 1 > init/cgroup.procs && echo $$ > init/cgroup.procs && "
        "{ [ ! -e cgroup.subtree_control ] || echo +pids > cgroup.subtree_control; } && echo 3 > sub/pids.max && "
        "{ sh -c 'echo $$ > sub/cgroup.procs; sleep 9 & sleep 9 & sleep 9 & echo all' 2>&1 | grep -o unavailable; } && "
        "cat sub/pids.max && cat pids.max && echo done && sleep 100"
    )
    privileged = security_pb2.SecuritySpec(privileged=True)
    limits = resources_pb2.Resources(pids_limit=16)
    container = started(engine, "sh", "-c", script, security=privileged, resources=limits)
    until_now(lambda: len(engine.logs(container.id).split()) >= 4, "it has divided them")
    told = engine.logs(container.id).split()
    # Its own bound holds in the group that it made, and the one that it was given holds around all.
    assert told[:3] == [b"unavailable", b"3", b"16"], told
    places = [path for path in group(engine, "pids").rglob("sub") if path.is_dir()]
    assert [path.parent.name for path in places] == [container.id]
    delete(engine, container.id, force=True)
    assert not places[0].exists()
