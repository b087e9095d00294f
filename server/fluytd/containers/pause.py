"""Freezing a container's processes and letting them run again. What ends a frozen one is `stop.py`'s.

PAUSED is recorded and told once the processes are frozen, and taken back after they run again. A daemon that comes up
thaws what its record does not call PAUSED, so that one that died in between leaves nothing half done or untold.
"""

from fluytd import failpoints
from fluytd.containers import facts, transitions
from fluytd.containers.context import Context
from fluytd.containers.model import Container, State
from fluytd.containers.table import Entry

_PAUSABLE = frozenset({State.RUNNING, State.PAUSED})


async def pause(ctx: Context, entry: Entry, *, expected_version: int = 0) -> Container:
    """No process of the container runs; a PAUSED one is answered as it is.

    Raises CONTAINER_NOT_FOUND, VERSION_CONFLICT, CONTAINER_WRONG_STATE, CGROUP_BUSY, IO_FAILED, STORAGE_FULL; it runs
    as before then.
    """
    async with entry.lock:
        container = _checked(entry, expected_version)
        if container.state is State.PAUSED:
            return container
        failpoints.hit("container.pause.freeze")
        await ctx.workers.run(ctx.runtime.freeze, container.id)
        # It may have ended of itself before it froze.
        frozen = transitions.paused(_checked(entry))
        failpoints.hit("container.pause.record")
        try:
            await ctx.record(entry, frozen, (facts.paused(frozen),))
        except BaseException:
            _checked(entry)
            await ctx.workers.run(ctx.runtime.thaw, container.id)
            if entry.container.state is State.PAUSED:  # else it has ended meanwhile
                ctx.record(entry, transitions.resumed(entry.container))
            raise
        return frozen


async def resume(ctx: Context, entry: Entry, *, expected_version: int = 0) -> Container:
    """The container's processes run again; a RUNNING one is answered as it is.

    Raises CONTAINER_NOT_FOUND, VERSION_CONFLICT, CONTAINER_WRONG_STATE, IO_FAILED; it stays PAUSED then.
    """
    async with entry.lock:
        container = _checked(entry, expected_version)
        if container.state is State.RUNNING:
            return container
        entry.is_resuming = True
        try:
            failpoints.hit("container.resume.thaw")
            await ctx.workers.run(ctx.runtime.thaw, container.id)
            failpoints.hit("container.resume.record")
            if entry.container.state is State.PAUSED:  # else it has ended already, and its end told that it was resumed
                running = transitions.resumed(entry.container)
                ctx.record(entry, running, (facts.resumed(running),))
        finally:
            entry.is_resuming = False
        return entry.container


def _checked(entry: Entry, expected_version: int = 0) -> Container:
    entry.check_present(expected_version)
    container = entry.container
    transitions.check_state(container, _PAUSABLE)
    return container
