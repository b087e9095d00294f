"""Waiting until what an ended run held is given back."""

import asyncio
import logging

from fluytd.containers import networking
from fluytd.containers.context import Context
from fluytd.containers.table import Entry
from fluytd.errors import EngineError

_log = logging.getLogger(__name__)


async def released(ctx: Context, entry: Entry) -> None:
    """Control groups and run directory of the last run are gone; tried once more if that failed before.

    Raises CGROUP_BUSY, IO_FAILED. Idempotent; the caller holds the entry's lock.
    """
    task = entry.release
    if task is None:
        return
    try:
        await asyncio.shield(task)
    except EngineError as error:
        _log.warning("container %s: giving back its resources failed (%s), once more", entry.container.id, error)
        await ctx.workers.run(ctx.runtime.release, entry.container.id, None)
        await networking.give_back(ctx, entry.container.id)
        entry.run = None
    entry.release = None
