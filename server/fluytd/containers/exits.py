"""What follows when a container's process has ended: the record, the events, and giving back what the run held."""

import asyncio
import logging
from collections.abc import Awaitable

from fluytd import failpoints
from fluytd.containers import delete, facts, mounts, networking, transitions
from fluytd.containers.context import Context
from fluytd.containers.process_ports import Ending
from fluytd.containers.table import Entry, Run
from fluytd.errors import EngineError, SupervisorLost

_log = logging.getLogger(__name__)


def watch(ctx: Context, entry: Entry, run: Run) -> None:
    """The end of this run will be noticed and recorded. Never blocks."""
    loop = asyncio.get_running_loop()
    fd = run.process.fileno()

    def look() -> None:
        try:
            found = run.process.poll_exit()
        except EngineError as error:
            # A damaged record tells nothing; the container has ended all the same.
            _log.error("container %s: how it ended cannot be told: %s", entry.container.id, error)
            found = "lost"
        has_ended = found != "running"
        if has_ended:
            loop.remove_reader(fd)
            run.ended.set()
        for exec_id in tuple(run.on_exec_news) if has_ended else run.process.take_exec_news():
            if (tell := run.on_exec_news.get(exec_id)) is not None:
                tell()
        if not has_ended:
            return
        record = run.process.exit_record
        if record is not None:
            _finish(ctx, entry, run, Ending.of(record))
        else:
            ctx.spawn(_lose(ctx, entry, run), f"loss of {entry.container.id}")

    loop.add_reader(fd, look)


async def _lose(ctx: Context, entry: Entry, run: Run) -> None:
    await _kill_rest(ctx, entry)
    _finish(ctx, entry, run, None)


def _finish(ctx: Context, entry: Entry, run: Run, ending: Ending | None) -> None:
    """The end of a run is told and being recorded, and what it held is being given back."""
    failpoints.hit("container.exit.record")
    if ending is None:
        lost = SupervisorLost(id=entry.container.id, detail="it ended without leaving an exit record")
        ended = transitions.lost(entry.container, lost.failure, exit_time_unix_nanos=ctx.clock.now_unix_nanos())
    else:
        ended = transitions.exited(
            entry.container,
            ending.status,
            oom_killed=ending.oom_kill_count > 0,
            exit_time_unix_nanos=ending.exit_time_unix_nanos,
        )
    entry.exit_count += 1
    entry.last_exit = ended
    resumed = [facts.resumed(entry.container)] if entry.is_resuming else []
    told = facts.ended(ended, was_stop_requested=run.was_stop_requested)
    recorded = ctx.record(entry, ended, [*resumed, *told])
    run.record_end(ended)
    entry.release = ctx.spawn(_release(ctx, entry, run, recorded), f"release of {ended.id}")
    ctx.on_ended(entry)
    if (ended.spec.auto_remove and not ended.is_restarting) or ended.is_removed_at_end:
        ctx.spawn(delete.remove_ended(ctx, entry, run), f"removal of {ended.id}")


async def _kill_rest(ctx: Context, entry: Entry) -> None:
    try:
        await ctx.workers.run(ctx.runtime.kill_group, entry.container.id)
    except EngineError as error:
        _log.error("container %s: its processes cannot be killed: %s", entry.container.id, error)


async def _release(ctx: Context, entry: Entry, run: Run, recorded: Awaitable[None]) -> None:
    # Until the store knows the end, the exit record in the run directory is what a next daemon knows it by.
    await recorded
    await ctx.workers.run(ctx.runtime.release, entry.container.id, run.process)
    await mounts.detach(ctx, entry.container)
    if networking.is_bridged(entry.container):
        await networking.give_back(ctx, entry.container.id)
    if entry.run is run:
        entry.run = None
