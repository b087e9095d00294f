"""Create, start and output in one stream. Its parts are those of `create.py`, `start.py` and the log's follower."""

import asyncio
import logging
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import aclosing
from dataclasses import dataclass

from fluytd.containers import create, delete, mounts, start, transitions
from fluytd.containers.context import Context
from fluytd.containers.model import Container, State
from fluytd.containers.networking import is_bridged
from fluytd.containers.release import given_back
from fluytd.containers.spec import ContainerSpec, PullPolicy
from fluytd.containers.start import Started
from fluytd.containers.table import Entry, Run
from fluytd.errors import EngineError, FieldInvalid, ImageNotFound
from fluytd.logs.follow import Follower
from fluytd.logs.ports import LogReader, LogRecord, OpenLog
from fluytd.operations.model import Operation
from fluytd.registries.model import Credentials

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Pulling:
    """The image is being pulled."""

    operation: Operation


@dataclass(frozen=True, slots=True)
class Created:
    """The container was made."""

    container: Container


@dataclass(frozen=True, slots=True)
class Running:
    """Its process has been executed."""

    container: Container


@dataclass(frozen=True, slots=True)
class Output:
    """It wrote this, in this order."""

    records: Sequence[LogRecord]


@dataclass(frozen=True, slots=True)
class Exited:
    """Its process has ended and all output was sent."""

    container: Container


RunEvent = Pulling | Created | Running | Output | Exited


@dataclass(frozen=True, slots=True)
class Launched:
    """A container that has just been started, with a reader of its output unless the caller wants none."""

    entry: Entry
    created: Container
    running: Container
    started: Started


def check(ctx: Context, spec: ContainerSpec, name: str, *, detach: bool) -> None:
    """Raises FIELD_INVALID or LIMIT_EXCEEDED for what can be told before the image is known."""
    if spec.open_stdin and not detach:
        rule = "needs detach here; for input use CreateContainer, AttachContainer and StartContainer"
        raise FieldInvalid(field="spec.open_stdin", rule=rule)
    create.check(ctx, spec, name)


async def wants_pull(ctx: Context, spec: ContainerSpec) -> bool:
    """Whether the image is to be pulled first, by the pull policy and by what is here."""
    if spec.pull_policy is PullPolicy.MISSING:
        try:
            await ctx.images.find(spec.image, spec.platform)
        except ImageNotFound:
            return True
    return spec.pull_policy is PullPolicy.ALWAYS


async def pull(ctx: Context, spec: ContainerSpec, auth: Credentials | None) -> AsyncGenerator[Pulling, None]:
    """The image is present; yields how the pull goes. Raises what a pull raises.

    The pull is an operation of its own: it goes on when the caller goes.
    """
    async with aclosing(ctx.images.pull(spec.image, spec.platform, auth)) as operations:
        async for operation in operations:
            yield Pulling(operation)


async def launch(
    ctx: Context,
    spec: ContainerSpec,
    name: str,
    open_log: OpenLog | None,
    on_created: Callable[[Container], None] = lambda container: None,
) -> Launched:
    """The container is made and its process executed; carried to its end by the caller's `ctx.complete`.

    Everything is done in one worker call, and one record tells of the creation and of the start under way: no process
    is executed before it is stored, durably unless the container removes itself. A crash before that leaves
    directories of nobody, a crash later a start to undo. `on_created` is called with the record as it was before the
    start, once it is stored, or at once with `auto_remove`. A failure leaves a container that can be started again,
    and with `auto_remove`, or where its directories cannot be made, nothing. Raises as `create` and `start`.
    """
    entry = await create.begin(ctx, spec, name, is_stored=False)
    if spec.auto_remove:
        on_created(transitions.created(entry.container))
    try:
        try:
            await mounts.provide(ctx, entry.container)
            on_stored = None if spec.auto_remove else on_created
            started = await start.start_locked(
                ctx, entry, make_directories=True, open_log=open_log, on_stored=on_stored
            )
        except BaseException:
            await _keep_or_destroy(ctx, entry)
            raise
        return Launched(entry, started.created, entry.container, started)
    finally:
        entry.lock.release()


async def _keep_or_destroy(ctx: Context, entry: Entry) -> None:
    container = entry.container
    if not container.spec.auto_remove and container.state is not State.CREATING:
        try:
            # What was refused early, a port that is taken for example, was refused before they were made.
            await ctx.workers.run(create.keep_directories, ctx, container)
            return
        except EngineError as error:
            _log.error("container %s: its directories cannot be made: %s", container.id, error)
    await delete.destroy(ctx, entry, is_counted=False)


async def stream(ctx: Context, launched: Launched, *, is_created_told: bool = False) -> AsyncGenerator[RunEvent, None]:
    """Yields created (unless it was told), running, all output, exited; a slow caller slows the container. An
    `auto_remove` container is gone when the stream ends; addresses and ports of any are free."""
    run, reader = launched.started.run, launched.started.reader
    try:
        if not is_created_told:
            yield Created(launched.created)
        yield Running(launched.running)
        if reader is None:
            return
        if launched.started.first_records:
            yield Output(launched.started.first_records)
        events = follow_to_end(ctx, run, reader, is_drained=not launched.started.first_records)
        async with aclosing(events):
            async for event in events:
                yield event
        if launched.created.spec.auto_remove:
            await launched.entry.removed.wait()
        elif is_bridged(launched.created):
            await given_back(launched.entry)
    finally:
        drop(launched)


def drop(launched: Launched) -> None:
    """The caller wants no more of it. Idempotent."""
    reader = launched.started.reader
    if reader is not None:
        launched.started.run.leave(reader)
        reader.close()


async def follow_to_end(
    ctx: Context, run: Run, reader: LogReader, *, is_drained: bool
) -> AsyncGenerator[Output | Exited, None]:
    """Yields the output and the end of a run that `reader` has joined; the reader leaves once it has all."""
    follower = Follower(reader, ctx.workers)

    def hold(segment: int) -> None:
        run.hold(reader, segment)

    batches = follower.batches(run.ended, is_drained=is_drained, whole_lines=False, on_progress=hold)
    async with aclosing(batches):
        async for records in batches:
            yield Output(records)
    run.leave(reader)
    yield Exited(await run.final())


async def replay(ctx: Context, container_id: str, open_log: OpenLog | None) -> AsyncGenerator[RunEvent, None]:
    """The stream of a container that an earlier request with the same id started: all output again, then the end.

    Raises CONTAINER_NOT_FOUND if it is gone.
    """
    last = ctx.table.recall(container_id)
    if last is not None and ctx.table.get(container_id) is None:
        yield Created(last)
        yield Running(last)
        if open_log is not None:
            yield Exited(last)
        return
    entry = ctx.table.find(container_id)
    container, run = entry.container, entry.run
    yield Created(container)
    yield Running(container)
    if open_log is None:
        return
    reader = await ctx.workers.run(open_log, ctx.directories.log_dir(container.id))
    ended = run.ended if run is not None else asyncio.Event()
    if run is None:
        ended.set()
    else:
        run.join(reader)
    try:
        batches = Follower(reader, ctx.workers).batches(ended, whole_lines=False)
        async with aclosing(batches):
            async for records in batches:
                yield Output(records)
        if run is not None:
            run.leave(reader)
        yield Exited(await run.final() if run is not None else entry.container)
    finally:
        if run is not None:
            run.leave(reader)
        reader.close()
