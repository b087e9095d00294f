"""Joining a caller to a container's streams. Output is the log, followed; input goes straight into the pipe."""

import asyncio
import contextlib
from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import dataclass
from typing import Final

from fluytd.containers.context import Context
from fluytd.containers.model import EXECUTED, Container, State
from fluytd.containers.run import Exited, Output
from fluytd.containers.stdin import StdinPipe
from fluytd.containers.stop import kill
from fluytd.containers.table import FIRST_SEGMENT, Entry, Run
from fluytd.containers.terminals import DetachKeys, parse_detach_keys
from fluytd.containers.transitions import check_state
from fluytd.errors import ContainerNotFound, FieldInvalid, IoFailed
from fluytd.logs.follow import Follower
from fluytd.logs.ports import OpenLogRange, ReadRange

#: Where a caller's keys stand in its first message.
DETACH_KEYS_FIELD: Final = "open.detach_keys"
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
    #: Also where it has ended, for its next run.
    await_start: bool = False
    #: As the caller wrote them; empty: the default.
    detach_keys: str = ""
    #: (columns, rows); None: it stays as it is.
    terminal_size: tuple[int, int] | None = None

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
        self.is_detached = False
        has_terminal = entry.container.spec.tty
        self._keys = DetachKeys(parse_detach_keys(options.detach_keys, DETACH_KEYS_FIELD, has_terminal=has_terminal))
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
        yield self._last() if self.is_detached else Exited(await run.final())

    async def _output(self, run: Run) -> AsyncGenerator[Output, None]:
        def hold(segment: int) -> None:
            if self._options.hold:
                run.hold(self, segment)

        async with aclosing(self._follower.batches(self._end, whole_lines=False, on_progress=hold)) as batches:
            async for records in batches:
                if self.is_detached:
                    return
                kept = [record for record in records if record.stream in self._options.streams]
                if kept:
                    yield Output(kept)

    async def _end_with(self, run: Run) -> None:
        await run.ended.wait()
        self._end.set()

    def _last(self) -> Exited | Detached:
        if self.is_detached:
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
            if self.is_detached or entry.removed.is_set() or has_failed:
                return None
            await entry.changed.wait()
        return self._run

    async def write_stdin(self, data: bytes) -> None:
        """The input is in the pipe, or dropped because nobody reads it any more. Waits for the start. At the keys that
        detach the caller has left.

        Raises FIELD_INVALID (`stdin`) unless the session was opened with stdin.
        """
        self._check_stdin()
        data, is_left = self._keys.feed(data)
        await self._write(data)
        if is_left:
            self.detach()

    async def _write(self, data: bytes) -> None:
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
        if rest := self._keys.rest():
            await self._write(rest)
        run = await self._await_run()
        if self._stdin is not None:
            self._stdin.close()
        if run is not None and not run.ended.is_set():
            run.process.close_stdin()

    @property
    def gives_stdin(self) -> bool:
        """Its input is the container's."""
        return self._options.stdin

    @property
    def _closes_stdin(self) -> bool:
        # A terminal stays open for the next caller. Source: moby `daemon/stream/attach.go`, which closes no terminal.
        spec = self._entry.container.spec
        return self._options.stdin and spec.stdin_once and not spec.tty

    def _check_stdin(self) -> None:
        if not self._options.stdin:
            raise FieldInvalid(field="stdin", rule="needs `stdin` in the first message")

    def resize(self, width: int, height: int) -> None:
        """The container's terminal has this size now, or from its start on; nothing without one. Raises IO_FAILED."""
        resize(self._entry, (width, height))

    async def signal(self, number: int) -> None:
        """As KillContainer, with another field's name in errors. Raises CONTAINER_WRONG_STATE."""
        await kill(self._ctx, self._entry, number)

    def detach(self) -> None:
        """`events` ends with `Detached` soon. Idempotent."""
        self.is_detached = True
        self._end.set()
        self._entry.wake()

    def close(self) -> None:
        """The session is over, however it came to that. Idempotent."""
        self.is_detached = True
        self._end.set()
        self._entry.waiting_readers.pop(self, None)
        if self._run is None and self._entry.run is not None:
            self._entry.run.leave(self)
        if self._stdin is not None:
            self._stdin.close()
        run = self._run
        if run is not None:
            run.leave(self)
            if self._closes_stdin and not run.ended.is_set():
                with contextlib.suppress(OSError):
                    run.process.close_stdin()
        self._follower.close()


def resize(entry: Entry, size: tuple[int, int]) -> None:
    """See `Session.resize`."""
    if not entry.container.spec.tty:
        return
    entry.terminal_size = size
    run = entry.run
    if run is not None and not run.ended.is_set():
        run.process.resize(*size)


async def attach(ctx: Context, entry: Entry, options: AttachOptions, open_range: OpenLogRange) -> Session:
    """The caller has joined: nothing written from now on escapes it; the caller closes the session.

    Raises CONTAINER_WRONG_STATE, FIELD_INVALID (stdin of a container without `open_stdin`, cursor with `include_logs`),
    LIMIT_EXCEEDED and FIELD_INVALID (`open.detach_keys`), CURSOR_INVALID.
    """
    container = entry.container
    _check_attachable(entry, options)
    if options.stdin and not container.spec.open_stdin:
        raise FieldInvalid(field="open.stdin", rule="needs a container that was made with open_stdin")
    if options.cursor and options.include_logs:
        raise FieldInvalid(field="open.cursor", rule="excludes include_logs")
    parse_detach_keys(options.detach_keys, DETACH_KEYS_FIELD, has_terminal=container.spec.tty)
    if options.terminal_size is not None:
        resize(entry, options.terminal_size)
    has_old_output = container.state in EXECUTED | {State.EXITED}
    tail = 0 if has_old_output and not options.include_logs and not options.cursor else None
    wanted = ReadRange(cursor=options.cursor or None, tail_lines=tail)
    try:
        reader = await ctx.workers.run(open_range, ctx.directories.log_dir(container.id), wanted)
    except IoFailed:
        _check_attachable(entry, options)  # its log goes with it, if it goes just now
        raise
    return Session(ctx, entry, options, Follower(reader, ctx.workers))


def _check_attachable(entry: Entry, options: AttachOptions) -> None:
    attachable = ATTACHABLE | {State.EXITED} if options.await_start else ATTACHABLE
    container = entry.container
    if entry.removed.is_set():
        raise ContainerNotFound(id=container.id)
    check_state(container, attachable)
