"""Container logs: CRI's line format in numbered segments below a container's `log/` directory."""

from typing import final

@final
class LogRecord:
    """One line, or a piece of one where the line is longer than a reply may be."""

    @property
    def stream(self) -> str:
        """`stdout` or `stderr`."""
    @property
    def data(self) -> bytes:
        """Exact bytes; ends with a newline unless the process wrote none."""
    @property
    def time_unix_nanos(self) -> int: ...
    @property
    def cursor(self) -> str:
        """Opaque; reading from it begins right after this record."""

@final
class LogReader:
    """A position in one container's log. Not to be shared between threads at once."""

    def __init__(
        self,
        log_dir: str,
        *,
        cursor: str | None = None,
        tail_lines: int | None = None,
        since_unix_nanos: int | None = None,
        until_unix_nanos: int | None = None,
    ) -> None:
        """`tail_lines`: begin so many lines before the present end (0: at the end). `since` is inclusive, `until` exclusive.
        Raises CURSOR_INVALID, IO_FAILED. Blocking."""
    def fileno(self) -> int:
        """An inotify fd, readable when the log may have grown; owned by the reader, valid until `close`."""
    def read(self, max_bytes: int) -> list[LogRecord]:
        """Whole records that stand after the position, at most about `max_bytes`, in the order written; empty at the
        present end. Drains the inotify fd. Segments that were rotated away unread are skipped. Blocking (disk only)."""
    def read_final(self, max_bytes: int) -> list[LogRecord]:
        """As `read`, after the writer has gone: the last, unfinished piece counts as a record too."""
    @property
    def is_past_until(self) -> bool: ...
    def close(self) -> None: ...
