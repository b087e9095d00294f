"""Starting containers again: when their policy asks for it, after which time, and because a caller wants it.

What the policy says is told from the record alone, so that a daemon that comes up finds the restarts that its
predecessor had before it.
"""

import asyncio
import logging
from typing import Final

from fluytd import failpoints
from fluytd.containers import start, stop
from fluytd.containers.context import Context
from fluytd.containers.model import Container, State
from fluytd.containers.spec import RestartMode
from fluytd.containers.table import Entry, Run
from fluytd.errors import EngineError

_log = logging.getLogger(__name__)

#: Source: moby `restartmanager/restartmanager.go`: the first time before a restart, its bound, and how long a run must
#: last for the time to begin anew.
FIRST_DELAY_MILLIS: Final = 100
MAX_DELAY_MILLIS: Final = 60_000
STEADY_RUN_MILLIS: Final = 10_000


def is_due(container: Container, *, is_daemon_start: bool = False) -> bool:
    """Whether an ended container is to be started again.

    `is_daemon_start`: the daemon has just come up: `always` then means also what a caller had stopped, and a restart
    that a caller asked for goes on (case L04).
    """
    if container.state is not State.EXITED or container.exit is None:
        return False
    if container.is_restarting:
        return is_daemon_start
    policy = container.spec.restart_policy
    match policy.mode:
        case RestartMode.NO:
            return False
        case RestartMode.ALWAYS:
            return is_daemon_start or not container.is_stopped_by_caller
        case RestartMode.UNLESS_STOPPED:
            return not container.is_stopped_by_caller
        case RestartMode.ON_FAILURE:
            has_failed = container.exit.shell_code != 0
            has_tries = policy.max_retry_count == 0 or container.restart_count < policy.max_retry_count
            return has_failed and has_tries and not container.is_stopped_by_caller


def next_delay_millis(previous_millis: int, ran_millis: int) -> int:
    """How long to wait before the next start. `previous_millis`: before the last one, 0 if that was a caller's."""
    if previous_millis == 0 or ran_millis >= STEADY_RUN_MILLIS:
        return FIRST_DELAY_MILLIS
    return min(2 * previous_millis, MAX_DELAY_MILLIS)


def after_end(ctx: Context, entry: Entry) -> None:
    """A run has ended and its record says how: the policy's restart is under way, if there is to be one."""
    container = entry.container
    if not is_due(container) or ctx.is_closing:
        return
    ran_nanos = 0
    if container.start_time_unix_nanos is not None and container.exit_time_unix_nanos is not None:
        ran_nanos = container.exit_time_unix_nanos - container.start_time_unix_nanos
    entry.restart_delay_millis = next_delay_millis(entry.restart_delay_millis, ran_nanos // 1_000_000)
    schedule(ctx, entry, entry.restart_delay_millis)


def after_daemon_start(ctx: Context) -> None:
    """Whatever is to be started now that the daemon has come up is being started."""
    for entry in ctx.table:
        if entry.run is None and is_due(entry.container, is_daemon_start=True):
            schedule(ctx, entry, 0, is_daemon_start=True)


def schedule(ctx: Context, entry: Entry, delay_millis: int, *, is_daemon_start: bool = False) -> None:
    """The container is started after this time, unless `Entry.cancel_restart` comes before."""
    work = _restart(ctx, entry, delay_millis, is_daemon_start)
    entry.restarting = ctx.spawn(work, f"restart of {entry.container.id}")


async def _restart(ctx: Context, entry: Entry, delay_millis: int, is_daemon_start: bool) -> None:
    if delay_millis:
        await ctx.sleep(delay_millis / 1000)
    async with entry.lock:
        if entry.restarting is not asyncio.current_task():
            return
        # From here on it is a start like any other, which nobody breaks off.
        entry.restarting = None
        container = entry.container
        if ctx.is_closing or entry.removed.is_set() or not is_due(container, is_daemon_start=is_daemon_start):
            return
        failpoints.hit("container.restart.start")
        try:
            await start.start_locked(ctx, entry, is_by_policy=not container.is_restarting)
        except EngineError as error:
            _log.warning("container %s: its restart failed: %s", container.id, error)
            # A start that fails is a run that failed at once.
            after_end(ctx, entry)


async def restart(
    ctx: Context, entry: Entry, *, timeout_millis: int | None, signal: int | None, expected_version: int = 0
) -> Container:
    """Stopped as by `stop.stop` if it runs, then started; a daemon that dies in between starts it when it comes up.

    Raises what `stop.stop` and `start.start` raise.
    """
    await stop.stop(
        ctx,
        entry,
        timeout_millis=timeout_millis,
        signal=signal,
        is_restarting=True,
        expected_version=expected_version,
    )
    return await start.start(ctx, entry)


async def restart_unhealthy(ctx: Context, entry: Entry, run: Run) -> None:
    """As `restart`, if this run is still the present one and running, and no caller stops it meanwhile."""
    await stop.stop(ctx, entry, timeout_millis=None, signal=None, is_restarting=True, only=run)
    is_ours = entry.run in (None, run) and entry.container.state is State.EXITED
    # Not if a caller has stopped it meanwhile.
    if is_ours and entry.container.is_restarting:
        await start.start(ctx, entry)
