"""Changing a container's limits and restart policy, while it runs or not. It changes nothing else.

New limits are recorded as pending before the kernel is given them and become the container's when all of them hold; a
daemon that finds pending ones gives back the old.
"""

import dataclasses

from fluytd import failpoints
from fluytd.containers import checks, facts, model
from fluytd.containers.context import Context
from fluytd.containers.model import Container, State
from fluytd.containers.process_spec import ResourceLimits
from fluytd.containers.resolve import limits
from fluytd.containers.restart import is_due
from fluytd.containers.spec import ResourcesSpec, RestartPolicy
from fluytd.containers.table import Entry
from fluytd.errors import ContainerNotFound, ContainerWrongState, EngineError

_UPDATABLE = frozenset(set(State) - {State.CREATING, State.STARTING, State.DELETING, State.UNKNOWN})


async def update(ctx: Context, entry: Entry, changes: ResourcesSpec | None, policy: RestartPolicy | None) -> Container:
    """The container has these limits and this policy, at once if it runs, and durably.

    Args:
        changes: what is None or empty in it stays as it is; None: all limits stay.
        policy: None: it stays.

    Raises FIELD_INVALID (`resources...`, `restart_policy`), CGROUP_LIMIT_REJECTED, KERNEL_FEATURE_MISSING,
    CONTAINER_WRONG_STATE, CONTAINER_NOT_FOUND, STORAGE_FULL, IO_FAILED; nothing has changed then.
    """
    async with entry.lock:
        container = entry.container
        if entry.removed.is_set():
            raise ContainerNotFound(id=container.id)
        if container.state not in _UPDATABLE:
            allowed = sorted(state.value for state in _UPDATABLE)
            raise ContainerWrongState(id=container.id, state=container.state.value, allowed_states=allowed)
        spec = container.spec
        wanted = merged(spec.resources, changes) if changes is not None else spec.resources
        wanted_policy = policy or spec.restart_policy
        checks.check_resources(wanted, "resources")
        checks.check_against_host(wanted, ctx.host.cpus, ctx.host.memory_nodes, "resources")
        checks.check_restart_policy(wanted_policy, "restart_policy", auto_remove=spec.auto_remove)
        if (wanted, wanted_policy) == (spec.resources, spec.restart_policy):
            return container
        if wanted != spec.resources and container.is_live:
            await _give(ctx, entry, wanted)
        failpoints.hit("container.update.record")
        changed = model.updated(entry.container, wanted, wanted_policy)
        await ctx.record(entry, changed, (facts.updated(changed),), durable=True)
        if entry.restarting is not None and not is_due(changed):
            entry.cancel_restart()
        return entry.container


async def _give(ctx: Context, entry: Entry, wanted: ResourcesSpec) -> None:
    """The processes have the limits `wanted`, which are recorded as pending."""
    container = entry.container
    await ctx.record(entry, model.updating(container, wanted), durable=True)
    difference = difference_of(container.spec.resources, wanted, ctx)
    try:
        await ctx.workers.run(ctx.runtime.update_limits, container.id, difference)
    except EngineError:
        if not entry.container.is_live:
            return  # it has ended meanwhile; the next run gets them
        spec = entry.container.spec
        await ctx.record(entry, model.updated(entry.container, spec.resources, spec.restart_policy))
        raise


async def give_back(ctx: Context, entry: Entry) -> None:
    """An update that a dead daemon left is undone: the limits that the record has hold. Raises as `update_limits`."""
    container = entry.container
    pending = container.pending_resources
    if pending is None:
        return
    if container.is_live:
        difference = difference_of(pending, container.spec.resources, ctx)
        await ctx.workers.run(ctx.runtime.update_limits, container.id, difference)
    spec = entry.container.spec
    await ctx.record(entry, model.updated(entry.container, spec.resources, spec.restart_policy))


def merged(present: ResourcesSpec, changes: ResourcesSpec) -> ResourcesSpec:
    """The present limits with those of `changes` that are given in place of them."""
    given = {
        field.name: value
        for field in dataclasses.fields(changes)
        if (value := getattr(changes, field.name)) not in (None, "")
    }
    return dataclasses.replace(present, **given)


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
    )
    names = {field.name for field in dataclasses.fields(ResourceLimits)}
    changed = {name for name in names if getattr(old, name) != getattr(new, name)}
    for pair in ({"memory_limit_bytes", "memory_swap_limit_bytes"}, {"cpu_quota_micros", "cpu_period_micros"}):
        if changed & pair:
            changed |= pair

    def value(name: str) -> object:
        if name not in changed:
            return None
        wanted_value = getattr(new, name)
        return getattr(defaults, name) if wanted_value is None else wanted_value

    return ResourceLimits(**{name: value(name) for name in names})  # type: ignore[arg-type] # each from its own field


def _list_of(numbers: frozenset[int]) -> str:
    return ",".join(map(str, sorted(numbers)))
