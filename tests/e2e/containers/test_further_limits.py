"""Limits that few containers ask for: block I/O, huge pages, bursts, real time, swappiness, waiting for memory; at the
start, in an update, and where the host cannot give them."""

from pathlib import Path

import pytest

from fluyt.v1 import containers_pb2
from fluyt.v1.types import container_pb2, container_spec_pb2, resources_pb2
from tests.e2e.containers.sees_steps import shell, sleeper
from tests.e2e.containers.steps import INVALID, cgroup_file, create, delete, get, group, refused, refused_run
from tests.support.engine import Engine

MIB = 1024 * 1024


def a_disk() -> str:
    """A block device of the host."""
    for name in sorted(Path("/sys/block").iterdir()):
        path = Path("/dev") / name.name
        if path.is_block_device():
            return str(path)
    pytest.skip("this host has no block device")


def number_of(path: str) -> str:
    return Path("/sys/class/block", Path(path).name, "dev").read_text().strip()


def update(engine: Engine, name: str, **limits: object) -> container_pb2.Container:
    resources = resources_pb2.Resources(**limits)  # type: ignore[arg-type]
    request = containers_pb2.UpdateContainerRequest(container=name, resources=resources)
    return engine.containers.UpdateContainer(request).container  # type: ignore[no-any-return]


def is_v1(controller: str) -> bool:
    return Path("/sys/fs/cgroup", controller, "tasks").exists()


@pytest.mark.skipif(not is_v1("memory") or not is_v1("blkio"), reason="reads the files of cgroup v1")
def test_further_limits_hold_from_the_start_and_are_kept_as_asked(engine: Engine) -> None:
    disk = a_disk()
    limits = resources_pb2.Resources(
        memory_limit_bytes=64 * MIB,
        memory_swappiness=7,
        oom_kill_disabled=True,
        cpu_quota_micros=50_000,
        cpu_burst_micros=20_000,
        io_weight=300,
        io_device_limits=[
            resources_pb2.IoDeviceLimit(path=disk, read_bytes_per_second=4 * MIB, write_ops_per_second=90, weight=200)
        ],
    )
    made = sleeper(engine, "bounded", resources=limits)

    def shown(controller: str, file: str) -> str:
        return cgroup_file(engine, made.id, controller, file)

    number = number_of(disk)
    assert shown("memory", "memory.swappiness") == "7"
    assert shown("memory", "memory.oom_control").splitlines()[0] == "oom_kill_disable 1"
    assert shown("cpu", "cpu.cfs_burst_us") == "20000"
    assert shown("blkio", "blkio.throttle.read_bps_device") == f"{number} {4 * MIB}"
    assert shown("blkio", "blkio.throttle.write_iops_device") == f"{number} 90"
    weight = group(engine, "blkio") / made.id / "blkio.bfq.weight"
    told = {clamp.field for clamp in made.clamps}
    # Where the kernel weighs no block I/O that is told, and nothing else is.
    assert (weight.read_text().split()[-1] == "300") if weight.exists() else ("io_weight" in str(told))
    assert get(engine, made.id).spec.resources == limits


@pytest.mark.skipif(not is_v1("cpu") or not is_v1("blkio"), reason="reads the files of cgroup v1")
def test_c06_further_limits_are_changed_while_it_runs(engine: Engine) -> None:
    disk = a_disk()
    made = sleeper(engine, "plain")
    number = number_of(disk)

    def bound(size: int) -> resources_pb2.IoDeviceLimit:
        return resources_pb2.IoDeviceLimit(path=disk, read_bytes_per_second=size)

    def shown(controller: str, file: str) -> str:
        return cgroup_file(engine, made.id, controller, file)

    # It was started without a group of that controller, which is made now.
    update(engine, "plain", io_device_limits=[bound(MIB)])
    assert shown("blkio", "blkio.throttle.read_bps_device") == f"{number} {MIB}"
    assert shown("blkio", "cgroup.procs") == str(made.host_pid)
    update(engine, "plain", io_device_limits=[bound(2 * MIB)], memory_swappiness=11)
    assert shown("blkio", "blkio.throttle.read_bps_device") == f"{number} {2 * MIB}"
    changed = update(engine, "plain", io_device_limits=[bound(0)])
    assert shown("blkio", "blkio.throttle.read_bps_device") == ""
    assert not changed.spec.resources.io_device_limits
    assert shown("memory", "memory.swappiness") == "11"
    # The quota and the burst below it change together, whichever way they go.
    for quota, burst in ((50_000, 30_000), (20_000, 10_000), (90_000, 90_000)):
        update(engine, "plain", cpu_quota_micros=quota, cpu_burst_micros=burst)
        assert (shown("cpu", "cpu.cfs_quota_us"), shown("cpu", "cpu.cfs_burst_us")) == (str(quota), str(burst))
    refusal = refused(lambda: update(engine, "plain", cpu_quota_micros=80_000))
    assert (*refusal[:2], refusal[2]["field"]) == (INVALID, "FIELD_INVALID", "resources.cpu_burst_micros")
    update(engine, "plain", cpu_quota_micros=80_000, cpu_burst_micros=0)
    assert shown("cpu", "cpu.cfs_burst_us") == "0"
    # A device that is none changes nothing.
    none = resources_pb2.IoDeviceLimit(path="/dev/null", read_bytes_per_second=1)
    refusal = refused(lambda: update(engine, "plain", memory_swappiness=12, io_device_limits=[bound(MIB), none]))
    assert (*refusal[:2], refusal[2]["field"]) == (INVALID, "FIELD_INVALID", "resources.io_device_limits[1].path")
    assert shown("memory", "memory.swappiness") == "11"
    assert get(engine, "plain").spec.resources.memory_swappiness == 11


def test_real_time_and_huge_pages_are_given_or_the_host_says_that_it_has_none(engine: Engine) -> None:
    limits = resources_pb2.Resources(cpu_real_time_runtime_micros=1_000)
    made = create(engine, "sleep", "1000", resources=limits)
    try:
        engine.containers.StartContainer(containers_pb2.StartContainerRequest(container=made.id))
    except Exception:  # noqa: BLE001 - what it is, is looked at
        assert get(engine, made.id).failure.reason == "KERNEL_FEATURE_MISSING"
    else:
        assert cgroup_file(engine, made.id, "cpu", "cpu.rt_runtime_us") == "1000"
    pages = resources_pb2.Resources(hugetlb_limits=[resources_pb2.HugetlbLimit(page_size="2MB", limit_bytes=4 * MIB)])
    made = create(engine, "sleep", "1000", resources=pages)
    try:
        engine.containers.StartContainer(containers_pb2.StartContainerRequest(container=made.id))
    except Exception:  # noqa: BLE001 - as above
        assert get(engine, made.id).failure.reason in {"KERNEL_FEATURE_MISSING", "CGROUP_LIMIT_REJECTED"}
    else:
        places = [Path("/sys/fs/cgroup", where, engine.cgroup_parent, made.id) for where in ("hugetlb", "unified", ".")]
        files = [place / file for place in places for file in ("hugetlb.2MB.limit_in_bytes", "hugetlb.2MB.max")]
        assert [file.read_text().strip() for file in files if file.exists()] == [str(4 * MIB)]


DISK = {"path": "/dev/sda"}


@pytest.mark.parametrize(
    ("limits", "field"),
    [
        ({"io_weight": 9}, "io_weight"),
        ({"io_weight": 1001}, "io_weight"),
        ({"memory_swappiness": 101}, "memory_swappiness"),
        ({"memory_swappiness": -1}, "memory_swappiness"),
        ({"oom_kill_disabled": True}, "oom_kill_disabled"),
        ({"cpu_burst_micros": 10}, "cpu_burst_micros"),
        ({"cpu_burst_micros": 20_000, "cpu_quota_micros": 10_000}, "cpu_burst_micros"),
        ({"cpu_real_time_runtime_micros": 9, "cpu_real_time_period_micros": 8}, "cpu_real_time_runtime_micros"),
        ({"io_device_limits": [{"path": "sda"}]}, "io_device_limits[0].path"),
        ({"io_device_limits": [{**DISK, "weight": 9}]}, "io_device_limits[0].weight"),
        ({"io_device_limits": [{**DISK, "read_ops_per_second": -1}]}, "io_device_limits[0].read_ops_per_second"),
        ({"io_device_limits": [DISK, DISK]}, "io_device_limits[1].path"),
        ({"hugetlb_limits": [{"page_size": "2", "limit_bytes": 1}]}, "hugetlb_limits[0].page_size"),
        ({"hugetlb_limits": [{"page_size": "3MB", "limit_bytes": 1}]}, "hugetlb_limits[0].page_size"),
        ({"hugetlb_limits": [{"page_size": "2MB", "limit_bytes": -2}]}, "hugetlb_limits[0].limit_bytes"),
    ],
)
def test_a_further_limit_that_no_host_can_give_is_refused_by_its_name(
    engine: Engine, limits: dict[str, object], field: str
) -> None:
    refusal = refused_run(engine, "true", resources=resources_pb2.Resources(**limits))  # type: ignore[arg-type]
    assert (*refusal[:2], refusal[2]["field"]) == (INVALID, "FIELD_INVALID", f"spec.resources.{field}")


def test_the_groups_lie_below_the_parent_that_was_asked_for_and_go_with_the_container(engine: Engine) -> None:
    parent = f"{engine.cgroup_parent}-other/deep"
    made = sleeper(engine, "elsewhere", cgroup_parent=f"/{parent}/")
    roots = list(Path("/sys/fs/cgroup").glob(f"*/{parent}"))
    roots += [path for path in [Path("/sys/fs/cgroup") / parent] if path.is_dir()]
    try:
        places = [path / made.id for path in roots if (path / made.id).is_dir()]
        assert places
        assert all(str(made.host_pid) in (place / "cgroup.procs").read_text().split() for place in places)
        engine.containers.PauseContainer(containers_pb2.PauseContainerRequest(container="elsewhere"))
        engine.containers.ResumeContainer(containers_pb2.ResumeContainerRequest(container="elsewhere"))
        engine.kill()
        engine.start()
        update(engine, "elsewhere", pids_limit=99)
        limits = [place / "pids.max" for place in places]
        assert [path.read_text() for path in limits if path.exists()] == ["99\n"]
        delete(engine, "elsewhere", force=True)
        assert not any(place.exists() for place in places)
    finally:
        for path in roots:
            path.rmdir()
            path.parent.rmdir()
    for bad in ("..", "a/../b", "a//b", "a\nb", "x" * 1025, f"{engine.cgroup_parent}/x"):
        refusal = refused(lambda bad=bad: create(engine, "true", cgroup_parent=bad))  # type: ignore[misc]
        assert (*refusal[:2], refusal[2]["field"]) == (INVALID, "FIELD_INVALID", "spec.cgroup_parent"), bad


def test_a_tmpfs_for_run_hides_what_the_image_has_there(engine: Engine) -> None:
    mount = container_spec_pb2.ContainerSpec().mounts.add(target="/run")
    mount.tmpfs.size_bytes = MIB
    script = "touch /run/x && grep ' /run ' /proc/self/mounts | cut -d' ' -f3; touch /x 2>/dev/null || echo fixed"
    assert shell(engine, script, mounts=[mount], read_only_root=True).split() == ["tmpfs", "fixed"]
