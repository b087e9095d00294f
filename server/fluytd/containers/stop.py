"""Asking a container to end, and making it end. The end itself is `exits.py`'s."""

import asyncio
import contextlib

from fluytd import failpoints
from fluytd.containers import facts, model
from fluytd.containers.context import Context
from fluytd.containers.model import Container, State
from fluytd.containers.release import released
from fluytd.containers.signals import SIGKILL
from fluytd.containers.table import Entry, Run
from fluytd.errors import ContainerNotFound, ContainerWrongState, ProcessNotFound

_KILLABLE = frozenset({State.RUNNING, State.STOPPING})


async def stop(ctx: Context, entry: Entry, *, timeout_millis: int | None, signal: int | None) -> Container:
    """The container has ended and what it held is given back; one that does not run is answered as it is.

    Args:
        timeout_millis: how long to wait after the signal; 0 kills at once, below 0 waits for ever; None: the spec's.
        signal: what to send; None: the spec's or image's.

    Raises CONTAINER_NOT_FOUND. The lock is not held while the end is waited for, so that a second stop, a kill or a
    forced deletion gets through.
    """
    async with entry.lock:
        run = entry.run
        if entry.removed.is_set():
            raise ContainerNotFound(id=entry.container.id)
        if run is None or not entry.container.is_live:
            return entry.container
        resolved = entry.container.resolved
        timeout = resolved.stop_timeout_millis if timeout_millis is None else timeout_millis
        number = SIGKILL if timeout == 0 else resolved.stop_signal if signal is None else signal
        run.was_stop_requested = True
        failpoints.hit("container.stop.record")
        stopping = model.stopping(entry.container)
        ctx.record(entry, stopping, (facts.stopping(stopping),))
        failpoints.hit("container.stop.signal")
        _send(ctx, entry, run, number)
    if timeout >= 0:
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(run.recorded.wait(), timeout / 1000 if timeout else None)
        if not run.ended.is_set():
            failpoints.hit("container.stop.kill")
            _send(ctx, entry, run, SIGKILL)
    final = await run.final()
    if entry.release is not None:
        with contextlib.suppress(Exception):  # told by the next start or deletion, which tries again
            await asyncio.shield(entry.release)
    return final


async def kill(ctx: Context, entry: Entry, number: int) -> Container:
    """The signal was sent to the first process. Raises CONTAINER_WRONG_STATE, CONTAINER_NOT_FOUND."""
    async with entry.lock:
        run, container = entry.run, entry.container
        if entry.removed.is_set():
            raise ContainerNotFound(id=container.id)
        if run is not None and run.ended.is_set():
            await run.recorded.wait()
            container = entry.container
        if run is None or container.state not in _KILLABLE:
            allowed = sorted(state.value for state in _KILLABLE)
            raise ContainerWrongState(id=container.id, state=container.state.value, allowed_states=allowed)
        failpoints.hit("container.kill.signal")
        _send(ctx, entry, run, number)
        return container


async def kill_and_wait(ctx: Context, entry: Entry) -> None:
    """A live container has ended. The caller holds the lock; the end needs none."""
    run = entry.run
    if run is None:
        return
    failpoints.hit("container.kill.signal")
    _send(ctx, entry, run, SIGKILL)
    await run.recorded.wait()
    await released(ctx, entry)


def _send(ctx: Context, entry: Entry, run: Run, number: int) -> None:
    if run.ended.is_set():
        return
    try:
        run.process.signal(number)
    except ProcessNotFound:
        return  # it has ended of itself in this moment; the watch tells how
    ctx.record(entry, entry.container, (facts.signalled(entry.container, number),))
