"""Following a log on the event loop: batches as they are written, until the writer has gone. It knows no container."""

import asyncio
from collections.abc import AsyncGenerator, Callable, Sequence
from typing import Final, TypeVar

from fluytd.logs.ports import LogPage, LogReader, LogRecord, PageReader
from fluytd.workers import Workers

#: Bytes read from the log at once; what one slow reader costs in memory.
BATCH_BYTES: Final = 256 * 1024

_T = TypeVar("_T")


class Follower:
    """A log reader and the moments at which there may be more. Belongs to one task, which closes it."""

    def __init__(self, reader: LogReader, workers: Workers) -> None:
        """Takes the reader over."""
        self._reader = reader
        self._workers = workers
        self._wake = asyncio.Event()
        self._loop = asyncio.get_running_loop()

    @property
    def segment(self) -> int:
        """The lowest log segment that is still needed."""
        return self._reader.segment

    @property
    def skipped_segments(self) -> int:
        """Segments that were rotated away before they were read, a count."""
        return self._reader.skipped_segments

    @property
    def is_past_until(self) -> bool:
        """The end of the range was reached."""
        return self._reader.is_past_until

    def batches(
        self,
        ended: asyncio.Event,
        *,
        is_drained: bool = False,
        whole_lines: bool = True,
        on_progress: Callable[[int], None] | None = None,
    ) -> AsyncGenerator[Sequence[LogRecord], None]:
        """Yields what is written until `ended` is set and all was read, or the range is over.

        Args:
            ended: set once nothing more will be written.
            is_drained: the reader was read to the log's end a moment ago.
            whole_lines: wait for the end of each line; else pieces come as soon as they are written.
            on_progress: called with the lowest segment still needed after a batch was taken.
        """

        def read(is_final: bool) -> Sequence[LogRecord]:
            return self._reader.read_final(BATCH_BYTES) if is_final else self._reader.read(BATCH_BYTES)

        return self._taken(read, len, ended, is_drained, whole_lines, on_progress)

    async def _taken(
        self,
        read: Callable[[bool], _T],
        count: Callable[[_T], object],
        ended: asyncio.Event,
        is_drained: bool,
        whole_lines: bool,
        on_progress: Callable[[int], None] | None,
    ) -> AsyncGenerator[_T, None]:
        """`read`: what stands after the position, with what is not ended where asked; blocking. `count`: false of
        nothing."""
        end_watch = self._loop.create_task(self._wake_at(ended))
        segment = self._reader.segment
        try:
            while not self._reader.is_past_until:
                is_last = ended.is_set()
                # Without news nothing was written; only a line that was never ended may be left to hand out.
                if not is_drained or self._reader.has_news() or (is_last and whole_lines):
                    found = await self._workers.run(read, is_last or not whole_lines)
                    is_drained = not count(found)
                    if not is_drained:
                        yield found
                        if on_progress is not None and self._reader.segment != segment:
                            segment = self._reader.segment
                            on_progress(segment)
                        continue
                if is_last:
                    return
                await self._wait(ended)
        finally:
            end_watch.cancel()

    async def _wake_at(self, ended: asyncio.Event) -> None:
        await ended.wait()
        self._wake.set()

    async def _wait(self, ended: asyncio.Event) -> None:
        if ended.is_set():
            return
        self._wake.clear()
        self._reader.on_news(self._wake.set)
        try:
            # News that was told before is not told again.
            if not self._reader.has_news():
                await self._wake.wait()
        finally:
            self._reader.on_news(None)

    def close(self) -> None:
        """The reader is closed. Idempotent."""
        self._reader.close()


class PageFollower(Follower):
    """A follower of a log that is handed to callers as it is serialized."""

    def __init__(self, reader: PageReader, workers: Workers) -> None:
        """Takes the reader over."""
        super().__init__(reader, workers)
        self._pages = reader

    def pages(self, ended: asyncio.Event, *, stdout: bool, stderr: bool) -> AsyncGenerator[LogPage, None]:
        """As `batches`, of the wanted streams; also a page without messages where only the other stream was written."""

        def read(is_final: bool) -> LogPage:
            return self._pages.read_page(BATCH_BYTES, is_final, stdout, stderr)

        return self._taken(read, lambda page: page.cursor, ended, False, True, None)
