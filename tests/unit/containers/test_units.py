"""Units of containers: names, slices and their groups, properties."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fluytd.containers import units
from fluytd.containers.process_spec import IoDevice, ResourceLimits
from fluytd.errors import FieldInvalid

ID = "0123456789abcdef" * 4
MIB = 1 << 20


def test_a_container_and_its_unit_know_each_other() -> None:
    assert units.scope_name(ID) == f"fluyt-{ID}.scope"
    assert units.container_of(units.scope_name(ID)) == ID
    for other in ("fluyt-.scope", "fluyt-x.scope", f"fluyt-{ID}.service", f"a-fluyt-{ID}.scope", f"fluyt-{ID}.scope.d"):
        assert units.container_of(other) is None


@pytest.mark.parametrize(
    ("name", "path"),
    [
        ("fluyt.slice", "fluyt.slice"),
        ("a-b.slice", "a.slice/a-b.slice"),
        ("a-b-c.slice", "a.slice/a-b.slice/a-b-c.slice"),
        ("memory.slice", "_memory.slice"),
        ("memory-x.slice", "_memory.slice/memory-x.slice"),
        ("cgroup.x.slice", "_cgroup.x.slice"),
        ("_x.slice", "__x.slice"),
        (".x.slice", "_.x.slice"),
        (r"a\x2db.slice", r"a\x2db.slice"),
        ("tasks.slice", "tasks.slice"),
    ],
)
def test_slices_lie_in_each_other_and_are_escaped_as_systemd_does(name: str, path: str) -> None:
    assert units.check_slice(name, "spec.cgroup_parent") == name
    assert units.slice_path(name) == path
    assert units.parent_of(name, ID) == f"{path}/fluyt-{ID}.scope"


@pytest.mark.parametrize(
    "name",
    [
        "",
        "web",
        ".slice",
        "-.slice",
        "-a.slice",
        "a-.slice",
        "a--b.slice",
        "a/b.slice",
        "/a.slice",
        "a.slice/b",
        "a.slice\n",
        "a\0.slice",
        "ä.slice",
        "a b.slice",
        "a@b.slice",
        "a.scope",
        "x" * 250 + ".slice",
    ],
)
def test_what_is_not_the_name_of_a_slice_is_refused(name: str) -> None:
    with pytest.raises(FieldInvalid) as caught:
        units.check_slice(name, "spec.cgroup_parent")
    assert caught.value.metadata["field"] == "spec.cgroup_parent"


def test_the_engines_slice_follows_from_the_setting() -> None:
    assert units.engine_slice("fluyt") == "fluyt.slice"
    assert units.engine_slice("web-shop.slice") == "web-shop.slice"
    with pytest.raises(FieldInvalid) as caught:
        units.engine_slice("web")
    assert caught.value.metadata["field"] == "cgroup_parent"


@pytest.mark.parametrize(
    ("told", "place"),
    [
        (f"0::/a.slice/fluyt-{ID}.scope/payload\n", (f"a.slice/fluyt-{ID}.scope", "payload")),
        (f"0::/a.slice/fluyt-{ID}.scope/payload/init.scope\n", (f"a.slice/fluyt-{ID}.scope", "payload")),
        (f"0::/fluyt/{ID}\n", ("fluyt", ID)),
        (f"3:memory:/other/{ID}\n0::/fluyt/deep/{ID}/exec-a\n", ("fluyt/deep", ID)),
        (f"0::/{ID}\n", None),
        (f"0::/a.slice/fluyt-{ID}.scope/supervisor\n", None),
        (f"3:memory:/fluyt/{ID}\n", None),
        ("0::/\n", None),
        ("", None),
    ],
)
def test_where_a_process_is_tells_which_driver_put_it_there(told: str, place: tuple[str, str] | None) -> None:
    assert units.place_of(told, ID) == place


def told(**limits: object) -> dict[str, object]:
    """The properties of these limits, without signatures."""
    return {name: value for name, (_, value) in units.limit_properties(ResourceLimits(**limits))}  # type: ignore[arg-type]


def test_limits_that_are_not_set_are_not_told() -> None:
    assert told() == {}


def test_memory_has_room_for_the_supervisor_and_swap_is_counted_alone() -> None:
    room = units.SUPERVISOR_MEMORY_BYTES
    assert told(memory_limit_bytes=64 * MIB) == {"MemoryMax": 64 * MIB + room, "MemorySwapMax": 64 * MIB}
    both = told(memory_limit_bytes=64 * MIB, memory_swap_limit_bytes=96 * MIB, memory_reservation_bytes=MIB)
    assert both == {"MemoryMax": 64 * MIB + room, "MemorySwapMax": 32 * MIB, "MemoryLow": MIB}
    assert told(memory_limit_bytes=64 * MIB, memory_swap_limit_bytes=-1)["MemorySwapMax"] == units.INFINITY
    lifted = told(memory_limit_bytes=-1, memory_swap_limit_bytes=-1, memory_reservation_bytes=-1)
    assert lifted == {"MemoryMax": units.INFINITY, "MemorySwapMax": units.INFINITY, "MemoryLow": 0}


@pytest.mark.parametrize(
    ("limits", "per_second", "period"),
    [
        ({"cpu_quota_micros": 50_000}, 500_000, 100_000),
        ({"cpu_quota_micros": 25_500}, 260_000, 100_000),
        ({"cpu_quota_micros": 1_000, "cpu_period_micros": 1_000_000}, 10_000, 1_000_000),
        ({"cpu_quota_micros": 200_000, "cpu_period_micros": 50_000}, 4_000_000, 50_000),
        ({"cpu_quota_micros": -1, "cpu_period_micros": 100_000}, units.INFINITY, 100_000),
        ({"cpu_period_micros": 20_000}, units.INFINITY, 20_000),
        # A bound above the group would take the burst away.
        ({"cpu_quota_micros": 50_000, "cpu_burst_micros": 10_000}, units.INFINITY, 100_000),
    ],
)
def test_quota_is_rounded_up_to_what_systemd_keeps(limits: dict[str, int], per_second: int, period: int) -> None:
    assert told(**limits) == {"CPUQuotaPerSecUSec": per_second, "CPUQuotaPeriodUSec": period}


@given(quota=st.integers(1_000, 10**9), period=st.integers(1_000, 10**6))
def test_the_scope_is_never_narrower_than_the_container(quota: int, period: int) -> None:
    found = told(cpu_quota_micros=quota, cpu_period_micros=period)["CPUQuotaPerSecUSec"]
    assert isinstance(found, int)
    assert found % 10_000 == 0
    assert quota / period <= found / 1_000_000 < quota / period + 0.01 + 1e-9


def test_weights_are_those_of_the_core() -> None:
    # The same rows stand in rust_core/cgroup/src/v2.rs.
    for shares, weight in ((2, 1), (3, 2), (512, 59), (1024, 100), (2048, 174), (262_144, 10_000)):
        assert told(cpu_shares=shares) == {"CPUWeight": weight}
    assert [units.io_weight(weight) for weight in (10, 100, 500, 1000)] == [1, 910, 4950, 10_000]
    assert told(io_weight=500, io_devices=[IoDevice("/dev/sda", weight=10), IoDevice("/dev/sdb", 1)]) == {
        "IOWeight": 4950,
        "IODeviceWeight": [("/dev/sda", 1)],
    }


@pytest.mark.parametrize(
    ("numbers", "value"),
    [("0", b"\x01"), ("1", b"\x02"), ("0-3,8", b"\x0f\x01"), ("16", b"\x00\x00\x01"), ("7,0", b"\x81")],
)
def test_lists_of_processors_are_bits(numbers: str, value: bytes) -> None:
    assert told(cpuset_cpus=numbers, cpuset_mems="0") == {"AllowedCPUs": value, "AllowedMemoryNodes": b"\x01"}


def test_tasks_have_room_for_the_supervisor() -> None:
    assert told(pids_limit=40) == {"TasksMax": 40 + units.SUPERVISOR_TASKS}
    assert told(pids_limit=-1) == {"TasksMax": units.INFINITY}


def test_a_scope_is_made_as_runc_makes_its_own() -> None:
    made = dict(units.start_properties(ID, "/var/lib/fluyt", "a-b.slice", 77, ResourceLimits(cpu_shares=1024)))
    assert made == {
        "Description": ("s", f"Fluyt container {ID} of /var/lib/fluyt"),
        "Slice": ("s", "a-b.slice"),
        "PIDs": ("au", [77]),
        "Delegate": ("b", True),
        "CollectMode": ("s", "inactive-or-failed"),
        "DefaultDependencies": ("b", False),
        "CPUAccounting": ("b", True),
        "MemoryAccounting": ("b", True),
        "IOAccounting": ("b", True),
        "TasksAccounting": ("b", True),
        "CPUWeight": ("t", 100),
        "TasksMax": ("t", units.INFINITY),
    }
    bounded = dict(units.start_properties(ID, "/d", "a.slice", 77, ResourceLimits(pids_limit=5)))
    assert bounded["TasksMax"] == ("t", 5 + units.SUPERVISOR_TASKS)
