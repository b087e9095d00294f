"""The systemd units of containers: their names, where their groups are, what they are told of limits. Pure.

A container's unit is a transient scope of two groups, as systemd-nspawn lays its own out:

    fluyt.slice/fluyt-<id>.scope/supervisor   the process that systemd was given; with it the scope ends
    fluyt.slice/fluyt-<id>.scope/payload      the container's processes, with its limits and its devices

The scope is delegated: systemd writes no file below it, so that limits of `payload` outlive `systemctl daemon-reload`.
What stands in the scope's own group systemd writes, and it is told of it by properties: weights, which only count
between siblings, and the bounds that administrators look for with `systemctl`, with room for the supervisor.

Sources: systemd.resource-control(5), systemd.scope(5); systemd, "Control Group APIs and Delegation" (its group names
`supervisor` and `payload`, `src/nspawn/nspawn-cgroup.c`); opencontainers/cgroups `systemd/` for the properties.
"""

import math
import re
from collections.abc import Sequence
from typing import Final

from fluytd.containers.process_spec import IoDevice, ResourceLimits
from fluytd.errors import FieldInvalid

#: (name, (D-Bus signature, value)).
Property = tuple[str, tuple[str, object]]

SUPERVISOR: Final = "supervisor"
PAYLOAD: Final = "payload"
#: The slice of an engine whose setting `cgroup_parent` is the one of the other driver.
DEFAULT_SLICE: Final = "fluyt.slice"
DEFAULT_PARENT: Final = "fluyt"
#: The scope may use so much more than the container, for the supervisor and its helpers at an exec.
SUPERVISOR_MEMORY_BYTES: Final = 8 << 20
SUPERVISOR_TASKS: Final = 16
#: The longest name of a unit. Source: systemd, UNIT_NAME_MAX.
MAX_UNIT_NAME_BYTES: Final = 255
#: What systemd calls infinity.
INFINITY: Final = 2**64 - 1

_ID: Final = r"[0-9a-f]{64}"
_SCOPE: Final = re.compile(rf"fluyt-({_ID})\.scope")
#: Source: systemd, VALID_CHARS of `src/basic/unit-name.c`, without `@`, of which a slice has none.
_SLICE: Final = re.compile(r"[A-Za-z0-9:_.\\]+(?:-[A-Za-z0-9:_.\\]+)*\.slice")
SLICE_RULE: Final = "must be the name of a slice, such as `web.slice` or `web-shop.slice`, as cgroup_driver is systemd"
#: First parts of a name that a file of a group could have. Source: systemd, cg_needs_escape() and CGROUP_CONTROLLER.
_CONTROLLERS: Final = frozenset(
    {"cpu", "cpuacct", "cpuset", "io", "blkio", "memory", "devices", "pids", "bpf-firewall", "bpf-devices", "cgroup"}
    | {"bpf-foreign", "bpf-socket-bind", "bpf-restrict-network-interfaces"}
)
_MICROS: Final = 1_000_000
_DEFAULT_PERIOD: Final = 100_000
#: systemd keeps whole hundredths of a processor.
_QUOTA_STEP: Final = 10_000


def scope_name(container_id: str) -> str:
    """The unit of a container."""
    return f"fluyt-{container_id}.scope"


#: What `scope_name` gives for any container, as systemd lists by patterns.
SCOPE_PATTERN: Final = "fluyt-*.scope"


def container_of(unit: str) -> str | None:
    """The container whose unit this is; None for any other."""
    found = _SCOPE.fullmatch(unit)
    return None if found is None else found[1]


def description(container_id: str, data_root: str) -> str:
    """What a unit says of itself, and by which an engine knows its own among those of others."""
    return f"Fluyt container {container_id} of {data_root}"


def check_slice(name: str, field: str) -> str:
    """The name. Raises FIELD_INVALID for what is not the name of a slice; the root is none that may be asked for."""
    if len(name.encode()) > MAX_UNIT_NAME_BYTES or not _SLICE.fullmatch(name):
        raise FieldInvalid(field=field, rule=f"{SLICE_RULE}; at most {MAX_UNIT_NAME_BYTES} bytes")
    return name


def engine_slice(cgroup_parent: str) -> str:
    """The slice of containers that ask for none, of the setting `cgroup_parent`. Raises FIELD_INVALID."""
    return DEFAULT_SLICE if cgroup_parent == DEFAULT_PARENT else check_slice(cgroup_parent, "cgroup_parent")


def slice_path(name: str) -> str:
    """Where a slice's group is: `a-b.slice` lies in `a.slice/a-b.slice`."""
    parts = name.removesuffix(".slice").split("-")
    return "/".join(escaped("-".join(parts[:count]) + ".slice") for count in range(1, len(parts) + 1))


def escaped(name: str) -> str:
    """The name of a unit's group. Source: systemd, cg_needs_escape() of `src/basic/cgroup-util.c`."""
    first = name.partition(".")[0]
    needs = name[0] in "_." or name in {"notify_on_release", "release_agent", "tasks"} or first in _CONTROLLERS
    return f"_{name}" if needs else name


def parent_of(slice_name: str, container_id: str) -> str:
    """The group of a container's scope, in which `PAYLOAD` is."""
    return f"{slice_path(slice_name)}/{scope_name(container_id)}"


def place_of(proc_cgroup: str, container_id: str) -> tuple[str, str] | None:
    """(parent, name) of the group that a container's process is in, by its /proc/<pid>/cgroup; None if the v2 hierarchy
    does not tell. It may be in a group that it made below. Source: cgroups(7)."""
    for line in proc_cgroup.splitlines():
        if not line.startswith("0::/"):
            continue
        names = line[len("0::/") :].split("/")
        for index, name in enumerate(names):
            if name == scope_name(container_id) and names[index + 1 : index + 2] == [PAYLOAD]:
                return "/".join(names[: index + 1]), PAYLOAD
            if name == container_id and index:
                return "/".join(names[:index]), name
    return None


def start_properties(
    container_id: str, data_root: str, slice_name: str, supervisor_pid: int, limits: ResourceLimits
) -> list[Property]:
    """What the scope of a container's start is made with."""
    told = limit_properties(limits)
    # systemd has a bound of its own for those that say nothing (DefaultTasksMax).
    told += [] if any(name == "TasksMax" for name, _ in told) else [("TasksMax", ("t", INFINITY))]
    return [
        ("Description", ("s", description(container_id, data_root))),
        ("Slice", ("s", slice_name)),
        ("PIDs", ("au", [supervisor_pid])),
        ("Delegate", ("b", True)),
        ("CollectMode", ("s", "inactive-or-failed")),
        # The order of the host's shutdown is none of a container's: the engine's service stops it, or the end does.
        ("DefaultDependencies", ("b", False)),
        *((f"{what}Accounting", ("b", True)) for what in ("CPU", "Memory", "IO", "Tasks")),
        *told,
    ]


def limit_properties(limits: ResourceLimits) -> list[Property]:
    """What systemd is told of limits; of those that are None nothing."""
    found: list[Property] = []
    memory, reserved = limits.memory_limit_bytes, limits.memory_reservation_bytes
    if memory:
        found.append(("MemoryMax", ("t", INFINITY if memory < 0 else memory + SUPERVISOR_MEMORY_BYTES)))
    if (swap := _swap(memory, limits.memory_swap_limit_bytes)) is not None:
        found.append(("MemorySwapMax", ("t", swap)))
    if reserved:
        found.append(("MemoryLow", ("t", max(reserved, 0))))
    if limits.cpu_shares:
        found.append(("CPUWeight", ("t", cpu_weight(limits.cpu_shares))))
    found += _quota(limits)
    if limits.cpuset_cpus:
        found.append(("AllowedCPUs", ("ay", bits(limits.cpuset_cpus))))
    if limits.cpuset_mems:
        found.append(("AllowedMemoryNodes", ("ay", bits(limits.cpuset_mems))))
    if limits.pids_limit is not None:
        tasks = limits.pids_limit
        found.append(("TasksMax", ("t", INFINITY if tasks <= 0 else tasks + SUPERVISOR_TASKS)))
    if limits.io_weight:
        found.append(("IOWeight", ("t", io_weight(limits.io_weight))))
    if weights := _device_weights(limits.io_devices):
        found.append(("IODeviceWeight", ("a(st)", weights)))
    return found


def _swap(memory: int | None, total: int | None) -> int | None:
    """Swap alone, as v2 counts it, of memory and swap together. Case C02."""
    if not total:
        return memory if memory is None or memory > 0 else INFINITY
    if total < 0:
        return INFINITY
    return total - memory if memory and memory > 0 else None


def _quota(limits: ResourceLimits) -> list[Property]:
    quota, period = limits.cpu_quota_micros, limits.cpu_period_micros
    if not quota and not period:
        return []
    period = period or _DEFAULT_PERIOD
    per_second = INFINITY
    # What a container saves for a burst a bound above it without one would take away again.
    if quota and quota > 0 and not limits.cpu_burst_micros:
        per_second = -(-quota * _MICROS // period)
        # Never below what the container has: the exact figure stands in its own group.
        per_second = -(-per_second // _QUOTA_STEP) * _QUOTA_STEP
    return [("CPUQuotaPeriodUSec", ("t", period)), ("CPUQuotaPerSecUSec", ("t", per_second))]


def _device_weights(devices: Sequence[IoDevice]) -> list[tuple[str, int]]:
    return [(device.path, io_weight(device.weight)) for device in devices if device.weight]


def cpu_weight(shares: int) -> int:
    """The weight that shares mean, as `cpu_weight` of rust_core/cgroup has it. Source: runc 1.3.2, crun 1.23."""
    if shares <= 2:
        return 1
    if shares >= 262_144:
        return 10_000
    exponent = math.log2(shares)
    return math.ceil(10 ** ((exponent * exponent + 125 * exponent) / 612 - 7 / 34) - 1e-9)


def io_weight(weight: int) -> int:
    """As `io_weight` of rust_core/cgroup: 10 to 1000 become 1 to 10000. Source: crun 1.23."""
    return 1 + max(weight - 10, 0) * 9999 // 990


def bits(numbers: str) -> bytes:
    """A checked list such as `0-3,8` as systemd takes it: bit `n % 8` of byte `n // 8`. Source: systemd,
    cpu_set_from_dbus()."""
    found = 0
    for part in numbers.split(","):
        first, _, last = part.partition("-")
        for number in range(int(first), int(last or first) + 1):
            found |= 1 << number
    return found.to_bytes((found.bit_length() + 7) // 8, "little")
