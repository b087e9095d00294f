"""Carries out what `reconcile.py` decided. Each action can be repeated; one that fails harms no other container."""

import logging
from dataclasses import dataclass, field

from fluytd import failpoints
from fluytd.containers import delete, exits, facts, model, mounts, networking, restart, stop, transitions, update
from fluytd.containers.context import Context
from fluytd.containers.create import make_directories
from fluytd.containers.model import State
from fluytd.containers.process_ports import Process
from fluytd.containers.table import Entry
from fluytd.errors import EngineError, unexpected
from fluytd.recovery import reconcile as decided
from fluytd.recovery.observe import observe

_log = logging.getLogger(__name__)


@dataclass(slots=True)
class Report:
    """What came of a recovery."""

    adopted_count: int = 0
    exited_count: int = 0
    lost_count: int = 0
    removed_count: int = 0
    orphan_count: int = 0
    #: Container id -> what could not be done.
    failures: dict[str, str] = field(default_factory=dict)


async def recover(ctx: Context) -> Report:
    """The table holds every record, what ran is watched again, nothing stands on the host that no record owns, and what
    the first starts need is being made ready.

    Called once, before anything is served. Raises only what makes every container inaccessible: IO_FAILED of a whole
    directory, DATA_CORRUPT of the database.
    """
    report = Report()
    loaded = await ctx.records.load()
    for container_id, failure in loaded.unreadable.items():
        _log.error("container %s: its record cannot be read and is left alone: %s", container_id, failure.message)
        report.failures[container_id] = failure.message
    for container in sorted(loaded.containers, key=lambda one: (one.create_time_unix_nanos, one.id)):
        ctx.table.add(container)
        ctx.runtime.learn(container)
    observation = await ctx.workers.run(observe, ctx.runtime, ctx.directories)
    processes = dict(observation.processes)
    actions = decided.reconcile(loaded.containers, observation.observed, loaded.unreadable)
    for action in actions:
        failpoints.hit("recovery.apply")
        try:
            await _apply(ctx, action, processes, report)
        except EngineError as error:
            _fail(ctx, action, error, report)
        except Exception:  # noqa: BLE001 - one container must not keep the engine from serving the others
            _log.exception("container %s: %s failed", action.container_id, type(action).__name__)
            _fail(ctx, action, unexpected(), report)
    for process in processes.values():
        process.close()
    await _settle(ctx)
    restart.after_daemon_start(ctx)
    ctx.replenish()
    return report


async def _settle(ctx: Context) -> None:
    """The kernel has the networks of those that run, and nothing of those that do not."""
    for entry in ctx.table:
        # Of a container that does not run the record has none.
        if entry.container.endpoints:
            ctx.networking.adopt(entry.container)
    try:
        await ctx.workers.run(ctx.networking.settle)
    except EngineError as error:
        # Containers without a network, or on others, are not to suffer from it; what is lacking is told at each start.
        _log.error("networks could not be brought in order: %s", error)
    for entry in ctx.table:
        known = networking.attached(ctx, entry.container) if entry.container.endpoints else entry.container
        if known.endpoints != entry.container.endpoints:
            ctx.record(entry, known)
    # Nothing else waits for names: until they are answered, those who ask are told at once that nobody does.
    ctx.spawn(ctx.workers.run(ctx.networking.serve_again), "names in running containers")


def _fail(ctx: Context, action: decided.Action, error: EngineError, report: Report) -> None:
    _log.error("container %s: %s failed: %s", action.container_id, type(action).__name__, error.message)
    report.failures[action.container_id] = error.message
    entry = ctx.table.get(action.container_id)
    if entry is not None and entry.run is None:
        ctx.record(entry, transitions.unknown(entry.container, error.failure))


async def _apply(ctx: Context, action: decided.Action, processes: dict[str, Process], report: Report) -> None:
    if isinstance(action, decided.RemoveOrphan):
        await _remove_orphan(ctx, action.container_id, processes.pop(action.container_id, None))
        report.orphan_count += 1
        return
    entry = ctx.table.get(action.container_id)
    if entry is None:
        return
    match action:
        case decided.Adopt():
            if entry.container.state is not State.PAUSED:
                await _thaw(ctx, entry.container.id)
            await _adopt(ctx, entry, processes.pop(entry.container.id))
            report.adopted_count += 1
        case decided.MarkExited(ending=ending):
            ended = transitions.exited(
                entry.container,
                ending.status,
                oom_killed=ending.oom_kill_count > 0,
                exit_time_unix_nanos=ending.exit_time_unix_nanos,
            )
            # A start whose record had not reached the store was not told either.
            untold = facts.started_with_volumes(entry.container) if entry.container.state is State.STARTING else []
            told = facts.ended(ended, was_stop_requested=entry.container.state is State.STOPPING)
            ctx.on_found_ended(entry)
            entry.exit_count, entry.last_exit = 1, ended
            await ctx.record(entry, ended, (*untold, *told))
            if ended.spec.auto_remove:
                ctx.table.remember(ended)
            report.exited_count += 1
        case decided.MarkLost(failure=failure):
            await ctx.workers.run(ctx.runtime.kill_group, entry.container.id)
            lost = transitions.lost(entry.container, failure, exit_time_unix_nanos=ctx.clock.now_unix_nanos())
            told = facts.ended(lost, was_stop_requested=entry.container.state is State.STOPPING)
            ctx.on_found_ended(entry)
            entry.exit_count, entry.last_exit = 1, lost
            await ctx.record(entry, lost, told)
            report.lost_count += 1
        case decided.UndoStart(failure=failure):
            await ctx.workers.run(ctx.runtime.kill_group, entry.container.id)
            undone = transitions.start_undone(entry.container, failure)
            await ctx.record(entry, undone, (facts.start_failed(undone, failure),))
        case decided.RestoreDirectories():
            await ctx.workers.run(make_directories, ctx, entry.container)
        case decided.MarkUnknown(failure=failure):
            unknown = transitions.unknown(entry.container, failure)
            await ctx.record(entry, unknown, (facts.lost(unknown),))
        case decided.Release():
            await ctx.workers.run(ctx.runtime.release, entry.container.id, processes.pop(entry.container.id, None))
            await mounts.detach(ctx, entry.container)
        case decided.UndoCreate() | decided.Remove():
            await ctx.workers.run(ctx.runtime.release, entry.container.id, processes.pop(entry.container.id, None))
            await mounts.detach(ctx, entry.container)
            await delete.destroy(ctx, entry, is_counted=False)
            report.removed_count += 1


async def _thaw(ctx: Context, container_id: str) -> None:
    """A daemon that died while it read the container's files may have left it frozen."""
    try:
        await ctx.workers.run(ctx.runtime.thaw, container_id)
    except EngineError as error:
        # It may be ending right now, with its group; to adopt it is right either way.
        _log.warning("container %s: it could not be thawed: %s", container_id, error)


async def _adopt(ctx: Context, entry: Entry, process: Process) -> None:
    container = entry.container
    if container.state in model.STARTABLE:
        container = transitions.starting(container)
    if container.state in (State.STARTING, State.UNKNOWN):
        container = transitions.adopted(
            container,
            host_pid=process.host_pid,
            start_time_unix_nanos=process.start_time_unix_nanos,
            clamps=tuple(process.clamps),
        )
        ctx.record(entry, container, facts.started_with_volumes(container))
    run = entry.begin_run(process)
    # Should it end before the stop below goes on, its end is that of a stop all the same.
    run.was_stop_requested = container.state is State.STOPPING
    exits.watch(ctx, entry, run)
    ctx.on_started(entry, run)
    if container.is_removed_at_end:
        ctx.spawn(delete.go_on(ctx, entry), f"resumed removal of {container.id}")
    elif container.state is State.STOPPING:
        # Its caller has gone with the last daemon; what it asked for is carried to its end.
        resumed = restart.restart if container.is_restarting else stop.stop
        ctx.spawn(resumed(ctx, entry, timeout_millis=None, signal=None), f"resumed stop of {container.id}")
    await update.give_back(ctx, entry)
    if container.state is State.PAUSED:
        try:
            await ctx.workers.run(ctx.runtime.freeze, container.id)
        except EngineError:
            if entry.container.state is State.PAUSED:  # else it has ended
                ctx.record(entry, transitions.resumed(entry.container))
            raise


async def _remove_orphan(ctx: Context, container_id: str, process: Process | None) -> None:
    if process is not None:
        await ctx.workers.run(process.kill_supervisor)
    await ctx.workers.run(ctx.runtime.release, container_id, process)
    await ctx.workers.run(ctx.directories.discard, container_id)
