"""Reading a container's log: from any place, once or following. It decides where a reading ends and why."""

import asyncio
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Final, Protocol

from fluytd.clock import Clock
from fluytd.errors import FieldInvalid, IoFailed
from fluytd.logs.follow import Follower, PageFollower
from fluytd.logs.ports import OpenPages, ReadRange
from fluytd.workers import Workers

#: The loop's timers count whole milliseconds and may fire that much before their time.
TIMER_GRAIN_SECONDS: Final = 0.002


class EndReason(StrEnum):
    """Why a reading ends."""

    REACHED_END = "reached_end"
    EXITED = "exited"
    UNTIL = "until"
    DELETED = "deleted"


@dataclass(frozen=True, slots=True)
class LogBatch:
    """Records in the order written, serialized: whole messages for the caller."""

    messages: Sequence[bytes]


@dataclass(frozen=True, slots=True)
class LogGap:
    """Segments that were rotated away before they were read."""

    skipped_segments: int


@dataclass(frozen=True, slots=True)
class LogEnd:
    """The last message; reading goes on from `cursor`, empty if there was no record."""

    reason: EndReason
    cursor: str


class LogSource(Protocol):
    """One container's log, as the containers' service shows it."""

    @property
    def log_dir(self) -> str:
        """Absolute path of its directory."""

    @property
    def is_live(self) -> bool:
        """A process writes, or may write, to it now."""

    @property
    def is_removed(self) -> bool:
        """The container was deleted, or is being deleted: its log goes, or has gone."""

    def check_there(self) -> None:
        """Raises CONTAINER_NOT_FOUND where it was or is being deleted, CONTAINER_WRONG_STATE where it was still being
        made when this was got."""

    async def wait_end(self) -> None:
        """Returns once the present run has ended and all its output is in the log; for a container that never ran, once
        its first run has; at once for one that has ended, and when it is deleted."""

    def close(self) -> None:
        """The log is not read any more; until then `auto_remove` leaves it in place. Idempotent."""


class LogSources(Protocol):
    """Where logs come from."""

    def log_source(self, reference: str) -> LogSource:
        """Raises CONTAINER_NOT_FOUND, CONTAINER_AMBIGUOUS."""


class LogService:
    """Readings of logs. Made once."""

    def __init__(self, sources: LogSources, open_range: OpenPages, workers: Workers, clock: Clock) -> None:
        """`open_range`: opens a log's directory; blocking, called on a worker thread."""
        self._sources = sources
        self._open_range = open_range
        self._workers = workers
        self._clock = clock

    async def read(
        self, reference: str, wanted: ReadRange, *, follow: bool, streams: frozenset[str]
    ) -> AsyncGenerator[LogBatch | LogGap | LogEnd, None]:
        """Yields batches and gaps, then one end. With `follow` it goes on until the process has ended.

        Raises CONTAINER_NOT_FOUND, CONTAINER_AMBIGUOUS, CONTAINER_WRONG_STATE (it is being made), CURSOR_INVALID,
        FIELD_INVALID (cursor with tail_lines).
        """
        if wanted.cursor is not None and wanted.tail_lines is not None:
            raise FieldInvalid(field="cursor", rule="excludes tail_lines")
        if wanted.tail_lines is not None and wanted.tail_lines < 0:
            raise FieldInvalid(field="tail_lines", rule="must not be negative")
        source = self._sources.log_source(reference)
        asked_until = wanted.until_unix_nanos
        if not follow and source.is_live:
            # What is written from now on is not waited for, however fast it comes.
            now = self._clock.now_unix_nanos()
            wanted = replace(wanted, until_unix_nanos=min(now, asked_until if asked_until is not None else now))
        try:
            reader = await self._workers.run(self._open_range, source.log_dir, wanted)
        except BaseException as error:
            source.close()
            if isinstance(error, IoFailed):
                source.check_there()
            raise
        follower = PageFollower(reader, self._workers)
        end = asyncio.Event()
        waits = self._watch_end(source, end, asked_until, follow)
        cursor = wanted.cursor or ""
        # A reading that names no place begins at the oldest record kept, so nothing before that is missed.
        skipped = 0 if wanted.cursor is not None else None
        try:
            wanted_streams = {name: not streams or name in streams for name in ("stdout", "stderr")}
            async with aclosing(follower.pages(end, **wanted_streams)) as pages:
                async for page in pages:
                    if skipped is not None and follower.skipped_segments > skipped:
                        yield LogGap(follower.skipped_segments - skipped)
                    skipped = follower.skipped_segments
                    cursor = page.cursor or cursor
                    if page.messages:
                        yield LogBatch(page.messages)
            yield LogEnd(self._reason(source, follower, asked_until, follow), cursor)
        except IoFailed:
            if not source.is_removed:
                raise
            # What was not read yet has gone with the container.
            yield LogEnd(EndReason.DELETED, cursor)
        finally:
            waits.close()
            follower.close()
            source.close()

    def _watch_end(self, source: LogSource, end: asyncio.Event, until: int | None, follow: bool) -> "_Waits":
        if not follow:
            end.set()
            return _Waits(None, None)
        loop = asyncio.get_running_loop()

        async def wait() -> None:
            await source.wait_end()
            end.set()

        timer = None
        if until is not None:
            delay = max(0.0, (until - self._clock.now_unix_nanos()) / 1_000_000_000)
            timer = loop.call_later(delay + TIMER_GRAIN_SECONDS, end.set)
        return _Waits(loop.create_task(wait()), timer)

    def _reason(self, source: LogSource, follower: Follower, until: int | None, follow: bool) -> EndReason:
        if until is not None and (follower.is_past_until or (follow and self._clock.now_unix_nanos() >= until)):
            return EndReason.UNTIL
        if not follow:
            return EndReason.REACHED_END
        return EndReason.DELETED if source.is_removed else EndReason.EXITED


@dataclass(frozen=True, slots=True)
class _Waits:
    task: "asyncio.Task[None] | None"
    timer: asyncio.TimerHandle | None

    def close(self) -> None:
        if self.task is not None:
            self.task.cancel()
        if self.timer is not None:
            self.timer.cancel()
