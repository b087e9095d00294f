"""Executing a container's process. It waits for nothing that the process does."""

import asyncio
import contextlib
import threading
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace
from typing import Final, TypeVar

from fluytd import failpoints, tracing
from fluytd.containers import delete, exits, facts, model, mounts, namespaces, networking, transitions
from fluytd.containers.context import Context
from fluytd.containers.model import Container, State
from fluytd.containers.process_ports import Process
from fluytd.containers.release import released
from fluytd.containers.spec import RestartMode
from fluytd.containers.start_facts import StartPaths
from fluytd.containers.table import Entry, Run
from fluytd.errors import ContainerNotFound, ContainerWrongState, EngineError, OperationInProgress, unexpected
from fluytd.logs.follow import BATCH_BYTES
from fluytd.logs.ports import LogReader, LogRecord, OpenLog

T = TypeVar("T")

#: How long copies that the last run's end has broken off may take to give up its files.
COPY_END_SECONDS: Final = 10.0
#: How long the end of a container may take to be told after it has kept one that shares its namespaces from starting.
JOINED_END_SECONDS: Final = 1.0


@dataclass(frozen=True, slots=True)
class Started:
    """A run, and where one was asked for a reader of its output with what it has read so far.

    The reader has joined the run and holds its log; the caller makes it leave and closes it.
    """

    run: Run
    #: The record as it was before the start.
    created: Container
    reader: LogReader | None
    first_records: Sequence[LogRecord]


async def start(ctx: Context, entry: Entry, *, expected_version: int = 0) -> Container:
    """The process has been executed; a RUNNING container is answered as it is.

    Raises CONTAINER_WRONG_STATE, CONTAINER_NOT_FOUND, VERSION_CONFLICT, OPERATION_IN_PROGRESS (`copy`: one of an
    earlier run waits for a file system that does not answer), and what `ports.Runtime.start` raises; the record then
    tells exit code 125, 126 or 127 and why, and the container is where it was before.
    """
    async with entry.lock:
        entry.check_present(expected_version)
        container = entry.container
        if container.state is State.RUNNING:
            return container
        check_startable(container)
        entry.cancel_restart()
        entry.restart_delay_millis = 0
        try:
            await start_locked(ctx, entry)
        except Exception:
            if container.spec.auto_remove:
                await delete.destroy(ctx, entry, is_counted=False)
            raise
        return entry.container


def check_startable(container: Container) -> None:
    """Raises CONTAINER_WRONG_STATE unless it is CREATED or EXITED."""
    transitions.check_state(container, model.STARTABLE)


async def start_locked(
    ctx: Context,
    entry: Entry,
    *,
    make_directories: bool = False,
    open_log: OpenLog | None = None,
    is_by_policy: bool = False,
    on_stored: Callable[[Container], None] | None = None,
) -> Started:
    """As `start`; the caller holds the lock and has checked the state.

    `make_directories`: they are made in the same worker call, and the container becomes CREATED on the way, which
    `on_stored` is told of with that record once it is stored.
    `open_log`: makes a reader of the log before the process can write to it. `is_by_policy`: the restart policy wants
    it, not a caller.
    """
    with tracing.step("container.start", is_root=is_by_policy, container_id=entry.container.id):
        return await _start_locked(ctx, entry, make_directories, open_log, is_by_policy, on_stored)


async def _last_run_gone(ctx: Context, entry: Entry) -> None:
    """Nothing of the last run is left, and no copy has its files. Raises OPERATION_IN_PROGRESS."""
    if entry.release is not None:
        await released(ctx, entry)
    if entry.copying:
        _, unanswered = await asyncio.wait(entry.copying, timeout=COPY_END_SECONDS)
        if unanswered:
            raise OperationInProgress(id=entry.container.id, operation="copy")


async def _start_locked(
    ctx: Context,
    entry: Entry,
    make_directories: bool,
    open_log: OpenLog | None,
    is_by_policy: bool,
    on_stored: Callable[[Container], None] | None,
) -> Started:
    await _last_run_gone(ctx, entry)
    before = entry.container
    if make_directories:
        before = transitions.created(before)
    created = (facts.created(before),) if make_directories else ()
    is_durable = make_directories and not before.spec.auto_remove  # as any creation of what stays
    starting = transitions.starting(before, is_by_policy=is_by_policy)
    try:
        # What is refused here, a port that is taken for example, is refused before anything is made.
        starting = networking.joined(ctx, starting)
    except EngineError as error:
        failed = transitions.start_failed(
            starting, before, error.failure, transitions.exit_code_of_failure(error.metadata)
        )
        await ctx.record(entry, failed, (*created, facts.start_failed(failed, error.failure)), durable=is_durable)
        raise
    failpoints.hit("container.start.record")
    stored = _Stored(ctx.record(entry, starting, created, durable=is_durable))
    if on_stored is not None:
        stored.tell(on_stored, before)
    try:
        size = entry.terminal_size
        wanted = _of_size(entry.container, size)
        joined = joined_processes(ctx, entry.container)
        with tracing.step("start.volumes"):
            sources = await mounts.attach(ctx, wanted)
        # Told with the start: what a short log rotates away before a hold could follow would be lost.
        is_held = open_log is not None or any(entry.waiting_readers.values())
        with tracing.step("start.work"):
            work = ctx.workers.run(_work, ctx, wanted, make_directories, open_log, sources, joined, is_held, stored)
            process, reader, first_records = await _or_joined_ended(ctx, joined, work)
    except BaseException as error:
        await mounts.detach(ctx, entry.container)
        if networking.is_bridged(before):
            await networking.give_back(ctx, before.id)
        failure = (error if isinstance(error, EngineError) else unexpected()).failure
        failed = transitions.start_failed(
            entry.container, before, failure, transitions.exit_code_of_failure(failure.metadata)
        )
        await ctx.record(entry, failed, (facts.start_failed(failed, failure),))
        raise
    if reader is not None:
        entry.waiting_readers[reader] = True
    run = entry.begin_run(process)
    if is_held and not run.is_held:  # who waited has left meanwhile
        process.hold_log(None)
    if entry.terminal_size is not None and entry.terminal_size != size:
        process.resize(*entry.terminal_size)
    running = transitions.running(
        networking.attached(ctx, entry.container),
        host_pid=process.host_pid,
        start_time_unix_nanos=process.start_time_unix_nanos,
        clamps=tuple(process.clamps),
    )
    failpoints.hit("container.start.running")
    # Not awaited: should the daemon die before it is stored, recovery finds STARTING and a live supervisor.
    # With a policy it is stored at once: one that starts it again must find that it ran, also after a crash right now.
    ctx.record(entry, running, facts.started_with_volumes(running), lazy=not _has_policy(running))
    exits.watch(ctx, entry, run)
    ctx.on_started(entry, run)
    ctx.replenish()
    return Started(run, before, reader, first_records)


def _has_policy(container: Container) -> bool:
    return container.spec.restart_policy.mode is not RestartMode.NO


def _of_size(container: Container, size: tuple[int, int] | None) -> Container:
    """The container with a terminal of this size from the beginning on."""
    if size is None:
        return container
    return replace(container, spec=replace(container.spec, tty_width=size[0], tty_height=size[1]))


def joined_processes(ctx: Context, container: Container) -> list[tuple[Container, Process]]:
    """The containers whose namespaces this one shares, with their processes, in the order of their places.

    Raises CONTAINER_NOT_FOUND, and CONTAINER_WRONG_STATE for one that does not run.
    """
    found = []
    for container_id in namespaces.others(container.spec):
        other = ctx.table.get(container_id)
        if other is None:
            raise ContainerNotFound(id=container_id)
        if other.run is None or other.container.state not in {State.RUNNING, State.PAUSED}:
            allowed = [State.PAUSED.value, State.RUNNING.value]
            state = other.container.state.value
            raise ContainerWrongState(id=container_id, state=state, allowed_states=allowed)
        found.append((other.container, other.run.process))
    return found


async def _or_joined_ended(ctx: Context, joined: Sequence[tuple[Container, Process]], work: Awaitable[T]) -> T:
    """The result of the work. Raises CONTAINER_WRONG_STATE where it failed because a container whose namespaces are
    shared was ending, else what it raised."""
    try:
        return await work
    except Exception as error:
        await _check_joined(ctx, joined, error)
        raise


async def _check_joined(ctx: Context, joined: Sequence[tuple[Container, Process]], error: Exception) -> None:
    if isinstance(error, EngineError) and error.metadata.get("exit_code") in {"126", "127"}:
        return
    for container, process in joined:
        entry = ctx.table.get(container.id)
        run = entry.run if entry is not None else None
        if run is not None and run.process is process:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(run.ended.wait(), JOINED_END_SECONDS)
            if not run.ended.is_set():
                continue
        allowed = [State.PAUSED.value, State.RUNNING.value]
        raise ContainerWrongState(id=container.id, state=State.EXITED.value, allowed_states=allowed) from error


def _with_names_of(ctx: Context, paths: StartPaths, other: Container) -> StartPaths:
    """The paths with the files about names of another container, or of the one whose network that has in turn."""
    owner = other
    while owner.spec.network.container and (entry := ctx.table.get(owner.spec.network.container)) is not None:
        owner = entry.container
    theirs = ctx.directories.paths(owner, ())
    return replace(paths, hosts=theirs.hosts, hostname=theirs.hostname, resolv_conf=theirs.resolv_conf)


class _Stored:
    """A record that is on its way to the store, for a thread that must not act before it stands there."""

    def __init__(self, record: "asyncio.Future[None]") -> None:
        self._record = record
        #: Free once the record is stored, or has failed.
        self._under_way = threading.Lock()
        self._under_way.acquire()
        record.add_done_callback(lambda _: self._under_way.release())

    def tell(self, on_stored: Callable[[Container], None], container: Container) -> None:
        """`on_stored` is called with the container once it is stored, and never if that fails."""

        def told(record: "asyncio.Future[None]") -> None:
            if not record.cancelled() and record.exception() is None:
                on_stored(container)

        self._record.add_done_callback(told)

    def wait(self) -> None:
        """It is stored. Blocking, while the event loop runs. Raises what storing it raised."""
        with self._under_way:
            pass
        if (error := self._record.exception()) is not None:
            raise error


def _work(
    ctx: Context,
    container: Container,
    make_directories: bool,
    open_log: OpenLog | None,
    volume_sources: dict[str, str],
    joined: Sequence[tuple[Container, Process]],
    is_held: bool,
    stored: "_Stored",
) -> tuple[Process, LogReader | None, Sequence[LogRecord]]:
    # One hop to a worker thread for everything that a start does; a layer's first use mounts it.
    with tracing.step("start.layers"):
        image_dirs = {one.target: ctx.images.lower_dirs(one.image) for one in container.resolved.images}
        paths = ctx.directories.paths(container, ctx.images.lower_dirs(container.image), image_dirs)
    if volume_sources:
        paths = replace(paths, volume_sources=volume_sources)
    if make_directories:
        with tracing.step("start.directories"):
            ctx.directories.create(container, paths.lower_dirs)
    elif networking.is_bridged(container):
        ctx.directories.write_names(container)
    for other, _ in joined:
        if other.id == container.spec.network.container:
            paths = _with_names_of(ctx, paths, other)
    reader = open_log(paths.log_dir) if open_log is not None else None
    try:
        # What a policy starts is counted in the record: a process that came before it would run once too often.
        with tracing.step("start.record"):
            stored.wait()
        with tracing.step("start.process"):
            process = ctx.runtime.start(container, paths, [process for _, process in joined], is_held=is_held)
        # The log's first segment was made meanwhile: this takes note of it, so that an empty log is not read again.
        return process, reader, reader.read_final(BATCH_BYTES) if reader is not None else ()
    except BaseException:
        if reader is not None:
            reader.close()
        raise
