"""What the log services need of the core. Methods marked Blocking run on a worker thread."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, slots=True)
class ReadRange:
    """Where reading begins and what is passed over."""

    #: Begin right after the record that carried it.
    cursor: str | None = None
    #: Begin so many lines before the present end; 0 at it.
    tail_lines: int | None = None
    #: Inclusive.
    since_unix_nanos: int | None = None
    #: Exclusive.
    until_unix_nanos: int | None = None


class LogRecord(Protocol):
    """One line, or a piece of one."""

    @property
    def stream(self) -> str:
        """`stdout` or `stderr`."""

    @property
    def data(self) -> bytes:
        """Exact bytes."""

    @property
    def time_unix_nanos(self) -> int:
        """When the line began."""

    @property
    def cursor(self) -> str:
        """Reading from it begins right after this record."""


class LogPage(Protocol):
    """Some records as callers of the API get them."""

    @property
    def messages(self) -> Sequence[bytes]:
        """Serialized, whole, each within the bound of a message; none where no record was of a wanted stream."""

    @property
    def cursor(self) -> str | None:
        """Reading from it begins right after the last record; None if there was no record."""


class LogReader(Protocol):
    """A position in one container's log; used by one thread at a time, closed by whoever opened it."""

    def on_news(self, wake: Callable[[], None] | None) -> None:
        """`wake` is called on the event loop when the log may have grown since the last read began; None ends that."""

    def has_news(self) -> bool:
        """True if the log may have grown since the last read began. Never blocks; belongs to the event loop."""

    def read(self, max_bytes: int) -> Sequence[LogRecord]:
        """Whole lines after the position, empty at the present end. Blocking (disk)."""

    def read_final(self, max_bytes: int) -> Sequence[LogRecord]:
        """As `read`, and at the end pieces of lines that are not ended. Blocking (disk)."""

    @property
    def is_past_until(self) -> bool:
        """Nothing more will come within the range."""

    @property
    def segment(self) -> int:
        """The lowest segment that is still needed."""

    @property
    def skipped_segments(self) -> int:
        """Segments that were rotated away before this reader came to them, a count."""

    def close(self) -> None:
        """Idempotent. Never blocks."""


class PageReader(LogReader, Protocol):
    """A reader that also serializes."""

    def read_page(self, max_bytes: int, is_final: bool, stdout: bool, stderr: bool) -> LogPage:
        """As `read`, or `read_final` where `is_final`, of the streams that are wanted. Blocking (disk)."""


#: Opens the log in a directory at its oldest record. Blocking.
OpenLog = Callable[[str], LogReader]
#: Opens the log in a directory at a place. Raises CURSOR_INVALID, IO_FAILED. Blocking.
OpenLogRange = Callable[[str, ReadRange], LogReader]
#: As `OpenLogRange`.
OpenPages = Callable[[str, ReadRange], PageReader]
