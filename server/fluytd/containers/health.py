"""Finding out a container's health: when its command is run, what its answer means, and what follows."""

import asyncio
import contextlib
import logging
from dataclasses import replace
from typing import Final

from fluytd.containers import facts, restart, stop, transitions
from fluytd.containers.context import Context
from fluytd.containers.health_state import Health, HealthResult, HealthState
from fluytd.containers.model import State
from fluytd.containers.process_ports import Probe, ProbeResult
from fluytd.containers.spec import HealthAction, HealthCheck
from fluytd.containers.table import Entry, Run
from fluytd.errors import EngineError

_log = logging.getLogger(__name__)

#: Most bytes that are kept of what a check wrote.
MAX_OUTPUT_BYTES: Final = 4 * 1024
#: Checks whose results are kept. Source: moby `daemon/health.go`, maxLogEntries.
MAX_RESULTS: Final = 5
#: Exit code of a check that was broken off or could not be begun. Source: moby `daemon/health.go`.
NO_EXIT_CODE: Final = -1


def after(health: Health, check: HealthCheck, result: ProbeResult, *, millis_since_start: int) -> Health:
    """The health after a check that began so long after the container's start (case L08).

    A success makes it healthy, also within the start period, which it ends. A failure in the start period does not
    count; `retries` that count, in a row, make it unhealthy. Source: moby `daemon/health.go`, handleProbeResult.
    """
    output = result.output[-MAX_OUTPUT_BYTES:].decode("latin-1")
    news = HealthResult(result.end_time_unix_nanos, result.exit_code, output)
    done = replace(health, results=(*health.results, news)[-MAX_RESULTS:])
    if result.exit_code == 0:
        return replace(done, state=HealthState.HEALTHY, failing_streak=0)
    if health.state is HealthState.STARTING and millis_since_start < check.start_period_millis:
        return done
    streak = health.failing_streak + 1
    return replace(
        done, failing_streak=streak, state=HealthState.UNHEALTHY if streak >= check.retries else health.state
    )


def delay_millis(health: Health, check: HealthCheck, *, millis_since_start: int) -> int:
    """How long from now to the next check."""
    if health.state is HealthState.STARTING and millis_since_start < check.start_period_millis:
        return check.start_interval_millis
    return check.interval_millis


def watch(ctx: Context, entry: Entry, run: Run) -> None:
    """The health of this run is found out from now on, if the container asks for it. Never blocks."""
    check = entry.container.resolved.health_check
    if ctx.probe is None or check is None:
        return
    if entry.container.health is None:
        entry.set(replace(entry.container, health=Health()))
    run.checking = ctx.spawn(_check(ctx, ctx.probe, entry, run, check), f"health of {entry.container.id}")


async def _check(ctx: Context, probe: Probe, entry: Entry, run: Run, check: HealthCheck) -> None:
    ended = asyncio.ensure_future(run.ended.wait())
    try:
        while not run.ended.is_set():
            health = entry.container.health or Health()
            delay = delay_millis(health, check, millis_since_start=_age_millis(ctx, run))
            pause = asyncio.ensure_future(ctx.sleep(delay / 1000))
            await asyncio.wait((pause, ended), return_when=asyncio.FIRST_COMPLETED)
            pause.cancel()
            if entry.container.state is not State.RUNNING:
                continue  # what is paused or stopping answers nothing
            age = _age_millis(ctx, run)
            result = await _ask(ctx, probe, entry, check)
            if not run.ended.is_set() and entry.run is run and entry.container.state is State.RUNNING:
                _tell(ctx, entry, run, check, after(health, check, result, millis_since_start=age))
    finally:
        ended.cancel()


async def _ask(ctx: Context, probe: Probe, entry: Entry, check: HealthCheck) -> ProbeResult:
    """What the check answers; one that takes too long is killed by the probe and says so (case L09)."""
    try:
        return await probe.run(entry.container, check.args, check.timeout_millis)
    except EngineError as error:
        # It could not be run at all: that is an answer too.
        return ProbeResult(NO_EXIT_CODE, error.message.encode(), ctx.clock.now_unix_nanos())


def _tell(ctx: Context, entry: Entry, run: Run, check: HealthCheck, health: Health) -> None:
    """The record has the new health; it is stored and told where its state or streak has changed."""
    before = entry.container.health or Health()
    has_changed = health.state is not before.state
    if not has_changed and health.failing_streak == before.failing_streak:
        entry.set(replace(entry.container, health=health))
        return
    container = transitions.checked(entry.container, health)
    ctx.record(entry, container, (facts.health_changed(container),) if has_changed else ())
    if health.state is HealthState.UNHEALTHY:
        _act(ctx, entry, run, check.action)


def _act(ctx: Context, entry: Entry, run: Run, action: HealthAction) -> None:
    """What is to be done with this run is under way. Each further failure comes here too, so that an action is tried
    again that failed, or that a daemon did not live to carry out."""
    if action is HealthAction.NONE or (run.acting is not None and not run.acting.done()):
        return
    _log.warning("container %s is unhealthy: %s", entry.container.id, action.value)

    async def carry_out() -> None:
        try:
            match action:
                case HealthAction.RESTART:
                    await restart.restart_unhealthy(ctx, entry, run)
                case HealthAction.STOP:
                    await stop.stop(ctx, entry, timeout_millis=None, signal=None, only=run)
                case HealthAction.KILL:
                    await stop.kill_unhealthy(ctx, entry, run)
        except EngineError as error:
            _log.error("container %s is unhealthy, and %s failed: %s", entry.container.id, action.value, error)

    run.acting = ctx.spawn(carry_out(), f"{action.value} of unhealthy {entry.container.id}")


def _age_millis(ctx: Context, run: Run) -> int:
    return (ctx.clock.now_unix_nanos() - run.process.start_time_unix_nanos) // 1_000_000


async def end_all(ctx: Context) -> None:
    """No check goes on. Called when the daemon stops; containers run on."""
    checking = [entry.run.checking for entry in ctx.table if entry.run is not None and entry.run.checking is not None]
    for task in checking:
        task.cancel()
    for task in checking:
        with contextlib.suppress(asyncio.CancelledError):
            await task
