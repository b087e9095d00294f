"""Joining a caller to a container's streams. Output is the log, followed; input goes straight into the pipe."""

import asyncio
import contextlib
from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import dataclass

from fluytd.containers.context import Context
from fluytd.containers.model import EXECUTED, Container, State
from fluytd.containers.run import Exited, Output
from fluytd.containers.stdin import StdinPipe
from fluytd.containers.stop import kill
from fluytd.containers.table import FIRST_SEGMENT, Entry, Run
from fluytd.errors import ContainerWrongState, FieldInvalid
from fluytd.logs.follow import Follower
from fluytd.logs.ports import OpenLogRange, ReadRange

ATTACHABLE = EXECUTED | {State.CREATED, State.STARTING}


@dataclass(frozen=True, slots=True)
class AttachOptions:
    """How a caller joins."""

    stdin: bool = False
    stdout: bool = False
    stderr: bool = False
    include_logs: bool = False
    cursor: str | None = None
    hold: bool = False

    @property
    def streams(self) -> frozenset[str]:
        """The streams asked for."""
        return frozenset(name for name, wanted in (("stdout", self.stdout), ("stderr", self.stderr)) if wanted)


@dataclass(frozen=True, slots=True)
class Detached:
    """The caller has left; the container goes on."""

    container: Container


class Session:
    """One caller joined to one container. Two tasks use it: one reads `events`, one gives input. `close` ends it."""

    def __init__(self, ctx: Context, entry: Entry, options: AttachOptions, follower: Follower) -> None:
        self._ctx = ctx
        self._entry = entry
        self._options = options
        self._follower = follower
        self._run: Run | None = None
        self._stdin: StdinPipe | None = None
        self._end = asyncio.Event()
        self._is_detached = False
        self.container = entry.container
        self._runs_before = entry.container.run_number
        if entry.run is not None and not entry.run.ended.is_set():
            self._take(entry.run)
        else:
            entry.waiting_readers[self] = options.hold

    def _take(self, run: Run) -> None:
        self._run = run
        run.join(self)
        if self._options.hold and not run.ended.is_set():
            run.hold(self, max(FIRST_SEGMENT, self._follower.segment))

    async def events(self) -> AsyncGenerator[Output | Exited | Detached, None]:
        """Yields output as it is written, then the end: exited (a start that failed included) or detached."""
        run = await self._await_run()
        if run is None:
            yield self._last()
            return
        watch = asyncio.get_running_loop().create_task(self._end_with(run))
        try:
            if self._options.streams:
                async with aclosing(self._output(run)) as outputs:
                    async for output in outputs:
                        yield output
            else:
                await self._end.wait()
        finally:
            watch.cancel()
        run.leave(self)
        yield self._last() if self._is_detached else Exited(await run.final())

    async def _output(self, run: Run) -> AsyncGenerator[Output, None]:
        def hold(segment: int) -> None:
            if self._options.hold:
                run.hold(self, segment)

        async with aclosing(self._follower.batches(self._end, whole_lines=False, on_progress=hold)) as batches:
            async for records in batches:
                if self._is_detached:
                    return
                kept = [record for record in records if record.stream in self._options.streams]
                if kept:
                    yield Output(kept)

    async def _end_with(self, run: Run) -> None:
        await run.ended.wait()
        self._end.set()

    def _last(self) -> Exited | Detached:
        if self._is_detached:
            return Detached(self._entry.container)
        return Exited(self._entry.last_exit or self._entry.last or self._entry.container)

    async def _await_run(self) -> Run | None:
        """The run that this session is joined to; None if it was detached, removed, or the start failed."""
        entry = self._entry
        while self._run is None:
            run = entry.run
            if run is not None and self not in entry.waiting_readers:
                self._run = run
                break
            has_failed = entry.container.run_number > self._runs_before and entry.container.failure is not None
            if self._is_detached or entry.removed.is_set() or has_failed:
                return None
            await entry.changed.wait()
        return self._run

    async def write_stdin(self, data: bytes) -> None:
        """The input is in the pipe, or dropped because nobody reads it any more. Waits for the start.

        Raises FIELD_INVALID (`stdin`) unless the session was opened with stdin.
        """
        self._check_stdin()
        if self._stdin is None:
            run = await self._await_run()
            fd = run.process.stdin_fd() if run is not None and not run.ended.is_set() else None
            if fd is None:
                return
            self._stdin = StdinPipe(fd)
        await self._stdin.write(data)

    async def close_stdin(self) -> None:
        """The process reads the end of its input once no other caller has it open."""
        self._check_stdin()
        run = await self._await_run()
        if self._stdin is not None:
            self._stdin.close()
        if run is not None and not run.ended.is_set():
            run.process.close_stdin()

    def _check_stdin(self) -> None:
        if not self._options.stdin:
            raise FieldInvalid(field="stdin", rule="needs `stdin` in the first message")

    async def signal(self, number: int) -> None:
        """As KillContainer, with another field's name in errors. Raises CONTAINER_WRONG_STATE."""
        await kill(self._ctx, self._entry, number)

    def detach(self) -> None:
        """`events` ends with `Detached` soon. Idempotent."""
        self._is_detached = True
        self._end.set()
        self._entry.wake()

    def close(self) -> None:
        """The session is over, however it came to that. Idempotent."""
        self._is_detached = True
        self._end.set()
        self._entry.waiting_readers.pop(self, None)
        if self._run is None and self._entry.run is not None:
            self._entry.run.leave(self)
        if self._stdin is not None:
            self._stdin.close()
        run = self._run
        if run is not None:
            run.leave(self)
            if self._options.stdin and self._entry.container.spec.stdin_once and not run.ended.is_set():
                with contextlib.suppress(OSError):
                    run.process.close_stdin()
        self._follower.close()


async def attach(ctx: Context, entry: Entry, options: AttachOptions, open_range: OpenLogRange) -> Session:
    """The caller has joined: nothing written from now on escapes it; the caller closes the session.

    Raises CONTAINER_WRONG_STATE, FIELD_INVALID (stdin of a container without `open_stdin`, cursor with `include_logs`),
    CURSOR_INVALID.
    """
    container = entry.container
    if container.state not in ATTACHABLE:
        allowed = sorted(state.value for state in ATTACHABLE)
        raise ContainerWrongState(id=container.id, state=container.state.value, allowed_states=allowed)
    if options.stdin and not container.spec.open_stdin:
        raise FieldInvalid(field="open.stdin", rule="needs a container that was made with open_stdin")
    if options.cursor and options.include_logs:
        raise FieldInvalid(field="open.cursor", rule="excludes include_logs")
    is_live = container.state in EXECUTED
    tail = 0 if is_live and not options.include_logs and not options.cursor else None
    reader = await ctx.workers.run(
        open_range, ctx.directories.log_dir(container.id), ReadRange(cursor=options.cursor or None, tail_lines=tail)
    )
    return Session(ctx, entry, options, Follower(reader, ctx.workers))
