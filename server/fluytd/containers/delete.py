"""Deleting a container: intent first, then processes, files, record and at last its name."""

import logging
from collections.abc import Callable

from fluytd import failpoints
from fluytd.containers import create, facts, model, mounts, networking, stop, transitions
from fluytd.containers.context import Context
from fluytd.containers.model import State
from fluytd.containers.release import released
from fluytd.containers.table import Entry, Run
from fluytd.errors import ContainerNotEnding, ContainerNotFound, ContainerWrongState, EngineError

_log = logging.getLogger(__name__)


async def delete(
    ctx: Context, entry: Entry, *, force: bool, removes_volumes: bool = False, expected_version: int = 0
) -> int:
    """Nothing of the container is left and its name is free; returns the bytes freed (a lower bound for huge layers).
    `removes_volumes`: its anonymous volumes go too, but for those that another container has.

    Raises CONTAINER_NOT_FOUND, VERSION_CONFLICT, CONTAINER_WRONG_STATE (it runs and `force` is not given; it is
    unchanged then), CONTAINER_NOT_ENDING (it was killed, and is removed as soon as it has ended, by a next daemon too),
    CGROUP_BUSY, IO_FAILED (it stays DELETING and can be deleted again).
    """
    async with entry.lock:
        entry.check_present(expected_version)
        container = entry.container
        if container.is_live or container.state is State.UNKNOWN:
            if not force:
                allowed = sorted(state.value for state in model.DELETABLE)
                raise ContainerWrongState(id=container.id, state=container.state.value, allowed_states=allowed)
            try:
                await stop.kill_and_wait(ctx, entry)
            except ContainerNotEnding:
                await _put_off(ctx, entry, removes_volumes=removes_volumes)
                raise
        entry.cancel_restart()
        return await destroy(ctx, entry, is_counted=True, removes_volumes=removes_volumes)


async def _put_off(ctx: Context, entry: Entry, *, removes_volumes: bool) -> None:
    """It is removed at its end, whichever daemon sees that. In memory this holds before anything is awaited."""
    wished = transitions.removed_at_end(entry.container, removes_volumes=removes_volumes)
    if wished is not entry.container:
        failpoints.hit("container.delete.put_off")
        await ctx.record(entry, wished, durable=True)


async def go_on(ctx: Context, entry: Entry) -> None:
    """A removal that an earlier daemon put off is carried on with. Raises nothing."""
    try:
        await delete(ctx, entry, force=True)
    except ContainerNotFound:
        return  # it has ended and gone meanwhile
    except EngineError as error:
        _log.warning("container %s: its removal waits: %s", entry.container.id, error.message)


async def remove_ended(ctx: Context, entry: Entry, run: Run) -> None:
    """A container that is not to outlive its run is gone, once all who read its output have it."""
    await run.readers_gone()
    async with entry.lock:
        if entry.removed.is_set() or entry.run not in (None, run) or entry.container.is_live:
            return
        ctx.table.remember(await run.final())
        try:
            await destroy(ctx, entry, is_counted=False)
        except EngineError as error:
            _log.error("container %s: its removal failed: %s", entry.container.id, error)


async def destroy(ctx: Context, entry: Entry, *, is_counted: bool, removes_volumes: bool = False) -> int:
    """Record, files and name are gone; the caller holds the lock and has seen to it that nothing runs.

    `is_counted`: a caller waits for it: the freed bytes are counted, and the intent is stored durably first. Without
    it, its files are out of sight and removed a moment later, and a crash leaves what the next start of the daemon
    removes.
    """
    last = entry.container
    removes_volumes = removes_volumes or last.removes_volumes or last.spec.auto_remove or last.state is State.CREATING
    is_untold = last.state is State.CREATING
    if is_untold or (not is_counted and last.state is State.EXITED and last.spec.auto_remove):
        # This record by itself makes the next start of the daemon remove it: the intent needs no other.
        entry.set(transitions.deleting(last, removes_volumes=True))
    elif last.state is not State.DELETING:
        failpoints.hit("container.delete.record")
        intent = ctx.record(entry, transitions.deleting(last, removes_volumes=removes_volumes), durable=is_counted)
        if is_counted:
            await intent
    await released(ctx, entry)
    if last.state in (State.UNKNOWN, State.DELETING):
        await ctx.workers.run(ctx.runtime.release, last.id, None)
        await networking.give_back(ctx, last.id)
    # A project is given back once nothing of it is left, so that whoever has it next has all of its bound.
    goes_at_once = is_counted or last.project_id
    remove: Callable[[str], int | None] = ctx.directories.remove if goes_at_once else ctx.directories.drop
    failpoints.hit("container.delete.files")
    size = await ctx.workers.run(remove, last.id)
    await create.lift(ctx, last)
    if last.resolved.volumes:
        failpoints.hit("container.delete.volumes")
        await mounts.release(ctx, entry.container, removes_anonymous=removes_volumes)
    failpoints.hit("container.delete.forget")
    # That it was made was not told of one that is CREATING.
    told = () if is_untold else (facts.deleted(entry.container),)
    forgotten = ctx.forget(entry.container, told, lazy=not is_counted)
    if is_counted:
        await forgotten
    if not is_counted:
        ctx.replenish()
    ctx.table.remove(entry)
    entry.last = last
    entry.removed.set()
    entry.wake()
    ctx.on_removed(entry)
    for image in last.all_images:
        await ctx.images.released(image)
    return size or 0
