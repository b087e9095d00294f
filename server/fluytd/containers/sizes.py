"""What a container has written, counted while others make and delete containers. It changes nothing."""

from fluytd.containers.context import Context
from fluytd.containers.model import State
from fluytd.errors import IoFailed

#: While a container is in one of these its files come or go.
_CHANGING = frozenset({State.CREATING, State.STARTING, State.DELETING})


async def writable_usage(ctx: Context, container_id: str) -> tuple[int, bool] | None:
    """(bytes in the writable layer, whether that is only a lower bound); None where its files are being made or
    removed, or are gone. Raises IO_FAILED."""
    before = ctx.table.get(container_id)
    is_changing = before is None or before.container.state in _CHANGING
    try:
        return await ctx.workers.run(ctx.directories.writable_usage, container_id)
    except IoFailed:
        entry = ctx.table.get(container_id)
        # A run that fails takes its files away again: a verb is at work then.
        if is_changing or entry is None or entry.container.state in _CHANGING or entry.lock.locked():
            return None
        raise
