"""Changing a container's limits and restart policy, while it runs or not. It changes nothing else.

New limits are recorded as pending before the kernel is given them and become the container's when all of them hold; a
daemon that finds pending ones gives back the old.
"""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, TypeVar

from fluytd import failpoints
from fluytd.containers import checks, confinement, facts, networking, transitions
from fluytd.containers.context import Context
from fluytd.containers.model import Container, State
from fluytd.containers.process_spec import IoDevice, ResourceLimits
from fluytd.containers.publishing import NO_CHANGES, PortChanges
from fluytd.containers.resource_limits import limits
from fluytd.containers.restart import is_due
from fluytd.containers.spec import IoDeviceSpec, ResourcesSpec, RestartPolicy
from fluytd.containers.table import Entry
from fluytd.errors import EngineError

T = TypeVar("T")

_UPDATABLE = frozenset(set(State) - {State.CREATING, State.STARTING, State.DELETING, State.UNKNOWN})


async def update(
    ctx: Context,
    entry: Entry,
    changes: ResourcesSpec | None,
    policy: RestartPolicy | None,
    ports: PortChanges = NO_CHANGES,
    *,
    expected_version: int = 0,
) -> Container:
    """The container has these limits, this policy and these published ports, at once if it runs, and durably.

    Args:
        changes: what is None or empty in it stays as it is; None: all limits stay.
        policy: None: it stays.

    Raises FIELD_INVALID (`resources...`, `restart_policy`, `add_published_ports...`, `remove_published_ports...`),
    PORT_IN_USE, LIMIT_EXCEEDED, CGROUP_LIMIT_REJECTED, KERNEL_FEATURE_MISSING, CONTAINER_WRONG_STATE,
    CONTAINER_NOT_FOUND, VERSION_CONFLICT, STORAGE_FULL, IO_FAILED; nothing has changed then, but that limits hold
    already if the kernel refuses ports.
    """
    async with entry.lock:
        entry.check_present(expected_version)
        container = entry.container
        transitions.check_state(container, _UPDATABLE)
        spec = container.spec
        wanted = merged(spec.resources, changes) if changes is not None else spec.resources
        wanted_policy = policy or spec.restart_policy
        if changes is not None:
            # By their places in the request, which they no longer have among those that are there.
            confinement.check_listed_limits(changes, "resources")
        checks.check_resources(wanted, "resources")
        checks.check_against_host(wanted, ctx.host.cpus, ctx.host.memory_nodes, "resources")
        checks.check_restart_policy(wanted_policy, "restart_policy", auto_remove=spec.auto_remove)
        if (wanted, wanted_policy, ports) == (spec.resources, spec.restart_policy, NO_CHANGES):
            return container
        async with networking.published(ctx, entry, ports):
            if wanted != spec.resources and container.is_live:
                asked = changes.io_devices if changes is not None else ()
                await _give(ctx, entry, wanted, confinement.io_device_fields(asked, "resources"))
            failpoints.hit("container.update.record")
            changed = transitions.updated(entry.container, wanted, wanted_policy)
            await ctx.record(entry, changed, (facts.updated(changed),), durable=True)
        if entry.restarting is not None and not is_due(changed):
            entry.cancel_restart()
        return entry.container


async def _give(ctx: Context, entry: Entry, wanted: ResourcesSpec, fields: Mapping[str, str]) -> None:
    """The processes have the limits `wanted`, which are recorded as pending. `fields`: see `Runtime.update_limits`."""
    container = entry.container
    await ctx.record(entry, transitions.updating(container, wanted), durable=True)
    difference = difference_of(container.spec.resources, wanted, ctx)
    try:
        await ctx.workers.run(ctx.runtime.update_limits, container.id, difference, fields)
    except EngineError:
        if not entry.container.is_live:
            return  # it has ended meanwhile; the next run gets them
        spec = entry.container.spec
        await ctx.record(entry, transitions.updated(entry.container, spec.resources, spec.restart_policy))
        raise


async def give_back(ctx: Context, entry: Entry) -> None:
    """An update that a dead daemon left is undone: the limits that the record has hold. Raises as `update_limits`."""
    container = entry.container
    pending = container.pending_resources
    if pending is None:
        return
    if container.is_live:
        difference = difference_of(pending, container.spec.resources, ctx)
        await ctx.workers.run(ctx.runtime.update_limits, container.id, difference, {})
    spec = entry.container.spec
    await ctx.record(entry, transitions.updated(entry.container, spec.resources, spec.restart_policy))


#: Source: mm/vmscan.c, vm_swappiness; block/bfq-cgroup.c, CGROUP_WEIGHT_DFL.
DEFAULT_SWAPPINESS: Final = 60
DEFAULT_IO_WEIGHT: Final = 100


def merged(present: ResourcesSpec, changes: ResourcesSpec) -> ResourcesSpec:
    """The present limits with those of `changes` that are given in place of them."""
    given: dict[str, Any] = {
        field.name: value
        for field in dataclasses.fields(changes)
        if (value := getattr(changes, field.name)) not in (None, "", ())
    }
    # CPU time is told in one of two ways: the one of the request takes the other's place.
    if changes.nano_cpus and changes.cpu_quota_micros is None and changes.cpu_period_micros is None:
        given |= {"cpu_quota_micros": None, "cpu_period_micros": None}
    elif changes.cpu_quota_micros is not None and changes.nano_cpus is None:
        given["nano_cpus"] = None
    if changes.io_devices:
        given["io_devices"] = _merged(present.io_devices, changes.io_devices, lambda device: device.path, _is_bounded)
    if changes.hugetlb:
        given["hugetlb"] = _merged(present.hugetlb, changes.hugetlb, lambda bound: bound.page_size, lambda _: True)
    return dataclasses.replace(present, **given)


def _is_bounded(device: IoDeviceSpec) -> bool:
    return device != IoDeviceSpec(device.path)


def _merged(
    present: Sequence[T], changes: Sequence[T], key: Callable[[T], str], is_kept: Callable[[T], bool]
) -> tuple[T, ...]:
    """What is there with what changes in place of it by key, in the order in which it came."""
    found = {key(one): one for one in (*present, *changes)}
    return tuple(one for one in found.values() if is_kept(one))


def difference_of(present: ResourcesSpec, wanted: ResourcesSpec, ctx: Context) -> ResourceLimits:
    """What has to be written to come from one set of limits to the other; None in it stays.

    A limit that is taken away is written as the kernel's default. Memory goes with swap and quota with period, since
    each pair is one decision of the kernel's.
    """
    old, new = limits(present), limits(wanted)
    defaults = ResourceLimits(
        memory_limit_bytes=-1,
        memory_swap_limit_bytes=-1,
        memory_reservation_bytes=-1,
        cpu_quota_micros=-1,
        cpu_period_micros=100_000,
        cpu_shares=1024,
        cpuset_cpus=_list_of(ctx.host.cpus),
        cpuset_mems=_list_of(ctx.host.memory_nodes),
        pids_limit=-1,
        cpu_burst_micros=0,
        cpu_real_time_period_micros=1_000_000,
        cpu_real_time_runtime_micros=0,
        memory_swappiness=DEFAULT_SWAPPINESS,
        oom_kill_disabled=False,
        io_weight=DEFAULT_IO_WEIGHT,
    )
    names = {field.name for field in dataclasses.fields(ResourceLimits)}
    changed = {name for name in names if getattr(old, name) != getattr(new, name)}
    changed -= {"io_devices", "huge_pages"}
    quota = {"cpu_quota_micros", "cpu_period_micros"}
    if old.cpu_burst_micros is not None or new.cpu_burst_micros is not None:
        quota.add("cpu_burst_micros")
    for pair in ({"memory_limit_bytes", "memory_swap_limit_bytes"}, quota):
        if changed & pair:
            changed |= pair

    def value(name: str) -> object:
        if name not in changed:
            return None
        wanted_value = getattr(new, name)
        return getattr(defaults, name) if wanted_value is None else wanted_value

    names -= {"io_devices", "huge_pages"}
    values = {name: value(name) for name in names}
    devices, pages = _changed_devices(old, new), _changed_pages(old, new)
    return ResourceLimits(**values, io_devices=devices, huge_pages=pages)  # type: ignore[arg-type] # each from its own


def _changed_devices(old: ResourceLimits, new: ResourceLimits) -> list[IoDevice]:
    """What changes for single devices; one that has no bound any more has none of it."""
    wanted = {device.path: device for device in new.io_devices}
    gone = [IoDevice(device.path) for device in old.io_devices if device.path not in wanted]
    return [*gone, *(device for device in wanted.values() if device not in old.io_devices)]


def _changed_pages(old: ResourceLimits, new: ResourceLimits) -> list[tuple[str, int]]:
    wanted = dict(new.huge_pages)
    gone = [(size, -1) for size, _ in old.huge_pages if size not in wanted]
    return [*gone, *(bound for bound in wanted.items() if bound not in old.huge_pages)]


def _list_of(numbers: frozenset[int]) -> str:
    return ",".join(map(str, sorted(numbers)))
