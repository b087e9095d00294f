"""Asking a container to end, and making it end. The end itself is `exits.py`'s."""

import asyncio
import contextlib
import logging
from typing import Final

from fluytd import failpoints
from fluytd.containers import facts, model, transitions
from fluytd.containers.context import Context
from fluytd.containers.model import Container, State
from fluytd.containers.release import given_back, released
from fluytd.containers.signals import SIGKILL
from fluytd.containers.spec import RestartMode
from fluytd.containers.table import Entry, Run
from fluytd.containers.volume_mounts import server_of
from fluytd.errors import (
    ContainerNotEnding,
    ContainerWrongState,
    EngineError,
    ProcessNotFound,
)

_log = logging.getLogger(__name__)

#: How long a killed container may take to end. Its processes cannot refuse, but wait for a file system that does not
#: answer, out of reach of signals.
KILLED_SECONDS: Final = 10.0

_KILLABLE = model.EXECUTED


async def stop(
    ctx: Context,
    entry: Entry,
    *,
    timeout_millis: int | None,
    signal: int | None,
    is_restarting: bool = False,
    is_by_engine: bool = False,
    only: Run | None = None,
    expected_version: int = 0,
) -> Container:
    """The container has ended and what it held is given back; one that does not run is answered as it is. Its restart
    policy leaves it alone, also where it was about to start it again (case L03).

    Args:
        timeout_millis: how long to wait after the signal; 0 kills at once, below 0 waits for ever; None: the spec's.
        signal: what to send; None: the spec's or image's.
        is_by_engine: no caller wants it: its policy is to start it when the daemon comes up again.
        only: nothing is done unless this run is the present one and nobody has paused or stopped it.
        is_restarting: the caller starts it again afterwards; so does a daemon that finds it ended so.
        expected_version: the one that it must have; 0: any.

    Raises CONTAINER_NOT_FOUND, VERSION_CONFLICT, CONTAINER_NOT_ENDING (KILLED_SECONDS after it was killed; it ends once
    it can), IO_FAILED. The lock is not held while the end is waited for, so that a second stop, a
    kill or a forced deletion gets through.
    """
    async with entry.lock:
        run = entry.run
        if only is not None and (run is not only or entry.container.state is not State.RUNNING):
            return entry.container
        entry.check_present(expected_version)
        if run is None or not entry.container.is_live:
            if not is_restarting and not is_by_engine:
                await _leave_alone(ctx, entry)
            return entry.container
        is_thawed = entry.container.state is State.RUNNING
        resolved = entry.container.resolved
        timeout = resolved.stop_timeout_millis if timeout_millis is None else timeout_millis
        number = SIGKILL if timeout == 0 else resolved.stop_signal if signal is None else signal
        run.was_stop_requested = True
        failpoints.hit("container.stop.record")
        stopping = transitions.stopping(entry.container, is_restarting=is_restarting, is_by_caller=not is_by_engine)
        recorded = ctx.record(entry, stopping, (facts.stopping(stopping),))
        if is_restarting:
            # A daemon that found it ended without this record would leave it so. A failure to store it is logged.
            await asyncio.wait([recorded])
        failpoints.hit("container.stop.signal")
        _send(ctx, entry, run, number)
        if not is_thawed:
            await _thaw(ctx, entry, run)
    if timeout > 0 and not await _has_ended(run, timeout / 1000) and not run.ended.is_set():
        failpoints.hit("container.stop.kill")
        _send(ctx, entry, run, SIGKILL)
    if timeout >= 0 and not await _has_ended(run, KILLED_SECONDS):
        await _raise_not_ending(ctx, entry, run)
    final = await run.final()
    await given_back(entry)
    return final


async def stop_all(ctx: Context, budget_millis: int) -> None:
    """Every container has ended, the newest asked first, all at once; none had more time than the budget, which is not
    part of how long a killed one takes to go. A failure is logged."""
    live = [entry for entry in reversed(list(ctx.table)) if entry.container.is_live]

    async def end(entry: Entry) -> None:
        own = entry.container.resolved.stop_timeout_millis
        timeout = budget_millis if own < 0 else min(own, budget_millis)
        try:
            await stop(ctx, entry, timeout_millis=timeout, signal=None, is_by_engine=True)
        except EngineError as error:
            _log.error("container %s: it could not be stopped: %s", entry.container.id, error)

    await asyncio.gather(*(end(entry) for entry in live))


async def kill(ctx: Context, entry: Entry, number: int, *, expected_version: int = 0) -> Container:
    """The signal was sent to the first process; SIGKILL ends a PAUSED one too. After SIGKILL or its stop signal the
    restart policy leaves it alone. Raises CONTAINER_WRONG_STATE, CONTAINER_NOT_FOUND, VERSION_CONFLICT.

    Source: moby `daemon/kill.go`, ExitOnNext.
    """
    async with entry.lock:
        run, container = entry.run, entry.container
        entry.check_present(expected_version)
        if run is not None and run.ended.is_set():
            await run.recorded.wait()
            container = entry.container
        if run is None or container.state not in _KILLABLE:
            allowed = sorted(state.value for state in _KILLABLE)
            raise ContainerWrongState(id=container.id, state=container.state.value, allowed_states=allowed)
        is_meant_to_end = number in (SIGKILL, container.resolved.stop_signal)
        if is_meant_to_end and container.spec.restart_policy.mode is not RestartMode.NO:
            container = transitions.stopped_by_caller(container)
            ctx.record(entry, container)
        failpoints.hit("container.kill.signal")
        _send(ctx, entry, run, number)
        if number == SIGKILL and container.state is not State.RUNNING:
            await _thaw(ctx, entry, run)
        return container


async def kill_unhealthy(ctx: Context, entry: Entry, run: Run) -> None:
    """The run is being killed by the engine: its restart policy decides what follows."""
    async with entry.lock:
        if entry.run is run and entry.container.state in _KILLABLE:
            failpoints.hit("container.kill.signal")
            _send(ctx, entry, run, SIGKILL)


async def kill_and_wait(ctx: Context, entry: Entry) -> None:
    """A live container has ended; what it waits for of servers that went away is given up. The caller holds the lock;
    the end needs none.

    Raises CONTAINER_NOT_ENDING. No await comes between that and the moment in which it is known not to have ended.
    """
    run = entry.run
    if run is None:
        return
    if entry.container.spec.restart_policy.mode is not RestartMode.NO:
        ctx.record(entry, transitions.stopped_by_caller(entry.container))
    is_thawed = entry.container.state is State.RUNNING
    failpoints.hit("container.kill.signal")
    _send(ctx, entry, run, SIGKILL)
    if not is_thawed:
        await _thaw(ctx, entry, run)
    if not await _has_ended(run, KILLED_SECONDS):
        if _has_servers_alone(ctx, entry):
            _log.warning("container %s: what waits for servers of its volumes is ended", entry.container.id)
            run.process.force_servers()
            await _has_ended(run, KILLED_SECONDS)
        await _raise_not_ending(ctx, entry, run)
    await released(ctx, entry)


async def _has_ended(run: Run, seconds: float) -> bool:
    """Whether it came to its end within this time."""
    with contextlib.suppress(TimeoutError):
        await asyncio.wait_for(run.recorded.wait(), seconds)
    return run.recorded.is_set()


async def _raise_not_ending(ctx: Context, entry: Entry, run: Run) -> None:
    """Raises CONTAINER_NOT_ENDING unless it has ended at last."""
    detail = await ctx.workers.run(ctx.runtime.waiting, entry.container.id)
    if not run.recorded.is_set():
        raise ContainerNotEnding(id=entry.container.id, detail=detail)


def _has_servers_alone(ctx: Context, entry: Entry) -> bool:
    """It has file systems of servers, and no other live container has one of these: what is ended for one is ended for
    all, since the kernel mounts an export once."""
    wanted = _exports(entry.container)
    others = [one.container for one in ctx.table if one is not entry and one.container.is_live]
    return bool(wanted) and not any(wanted & _exports(other) for other in others)


def _exports(container: Container) -> set[str]:
    volumes = [one for one in container.resolved.volumes if one.driver == "local"]
    return {one.driver_options["device"] for one in volumes if server_of(one.driver_options) is not None}


async def _leave_alone(ctx: Context, entry: Entry) -> None:
    """An ended container's policy does not start it any more."""
    container = entry.container
    entry.cancel_restart()
    if container.state is State.EXITED and container.spec.restart_policy.mode is not RestartMode.NO:
        stopped = transitions.stopped_by_caller(container)
        if stopped is not container:
            await ctx.record(entry, stopped, durable=True)


async def _thaw(ctx: Context, entry: Entry, run: Run) -> None:
    """A frozen process gets to its signal. On cgroup v1 even SIGKILL waits for it (case C03)."""
    try:
        await ctx.workers.run(ctx.runtime.thaw, entry.container.id)
    except EngineError:
        if not run.ended.is_set():
            raise


def _send(ctx: Context, entry: Entry, run: Run, number: int) -> None:
    if run.ended.is_set():
        return
    try:
        run.process.signal(number)
    except ProcessNotFound:
        return  # it has ended of itself in this moment; the watch tells how
    ctx.record(entry, entry.container, (facts.signalled(entry.container, number),))
