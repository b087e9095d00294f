"""Opens logs over `_core.logs`, and tells those who follow one that it may have grown. It decides nothing."""

import asyncio
from collections.abc import Callable, Sequence

from fluytd._core import logs
from fluytd.logs.ports import LogPage, LogRecord, ReadRange


class LogReaders:
    """Where readers come from. Made once; all that follow share one descriptor, watched by the event loop."""

    def __init__(self) -> None:
        """Watches nothing yet. Raises IO_FAILED."""
        self._hub = logs.LogHub()
        self._wakers: dict[int, Callable[[], None]] = {}

    def start(self) -> None:
        """Followers are woken from now on. Called on the event loop."""
        asyncio.get_running_loop().add_reader(self._hub.fileno(), self.look)

    def close(self) -> None:
        """Nobody is woken any more."""
        asyncio.get_running_loop().remove_reader(self._hub.fileno())

    def look(self) -> None:
        """Whoever waits for a log that has grown is woken. Never blocks."""
        for token in self._hub.take():
            waker = self._wakers.get(token)
            if waker is not None:
                waker()

    def follow(self, log_dir: str, wanted: ReadRange) -> "CoreReader":
        """A reader at the place asked for that is told of news. Raises CURSOR_INVALID, IO_FAILED. Blocking."""
        return CoreReader(_open(log_dir, wanted, self._hub), self)

    def set_waker(self, token: int, wake: Callable[[], None] | None) -> None:
        """`wake` is called when this reader has news; None ends that."""
        if wake is None:
            self._wakers.pop(token, None)
        else:
            self._wakers[token] = wake


class CoreReader:
    """Implements `ports.PageReader`."""

    def __init__(self, reader: logs.LogReader, readers: LogReaders) -> None:
        self._reader = reader
        self._readers = readers
        self._token = reader.token
        self.read: Callable[[int], Sequence[LogRecord]] = reader.read
        self.read_final: Callable[[int], Sequence[LogRecord]] = reader.read_final
        self.read_page: Callable[[int, bool, bool, bool], LogPage] = reader.read_page

    def on_news(self, wake: Callable[[], None] | None) -> None:
        """See `ports.LogReader.on_news`."""
        if self._token is not None:
            self._readers.set_waker(self._token, wake)

    def has_news(self) -> bool:
        """See `ports.LogReader.has_news`."""
        self._readers.look()
        return self._reader.has_news()

    @property
    def is_past_until(self) -> bool:
        """See `ports.LogReader.is_past_until`."""
        return self._reader.is_past_until

    @property
    def segment(self) -> int:
        """See `ports.LogReader.segment`."""
        return self._reader.segment

    @property
    def skipped_segments(self) -> int:
        """See `ports.LogReader.skipped_segments`."""
        return self._reader.skipped_segments

    def close(self) -> None:
        """See `ports.LogReader.close`."""
        self.on_news(None)
        self._reader.close()


def _open(log_dir: str, wanted: ReadRange, hub: logs.LogHub) -> logs.LogReader:
    return logs.LogReader(
        log_dir,
        hub=hub,
        cursor=wanted.cursor,
        tail_lines=wanted.tail_lines,
        since_unix_nanos=wanted.since_unix_nanos,
        until_unix_nanos=wanted.until_unix_nanos,
    )
