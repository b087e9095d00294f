"""Waiting until what an ended run held is given back."""

import asyncio
import contextlib
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


async def given_back(entry: Entry) -> None:
    """Addresses and ports of the run that has ended last are free, unless giving them back failed: the next start or
    deletion tells of that, and tries again. Never raises."""
    if entry.release is not None:
        with contextlib.suppress(Exception):
            await asyncio.shield(entry.release)
