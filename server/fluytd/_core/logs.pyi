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

    def __new__(
        cls,
        log_dir: str,
        *,
        cursor: str | None = None,
        tail_lines: int | None = None,
        since_unix_nanos: int | None = None,
        until_unix_nanos: int | None = None,
    ) -> LogReader:
        """`tail_lines`: begin so many lines before the present end (0: at the end). `since` is inclusive, `until` exclusive.
        Raises CURSOR_INVALID, IO_FAILED. Blocking."""
    def fileno(self) -> int:
        """An inotify fd, readable when the log may have grown; owned by the reader, valid until `close`."""
    def read(self, max_bytes: int) -> list[LogRecord]:
        """Whole records that stand after the position, at most about `max_bytes`, in the order written; empty at the
        present end. Drains the inotify fd. Segments that were rotated away unread are skipped. Blocking (disk only)."""
    def read_final(self, max_bytes: int) -> list[LogRecord]:
        """As `read`, and at the end unfinished lines count as records too: after the writer has gone, or at any time by a caller
        that wants bytes at once rather than whole lines."""
    @property
    def is_past_until(self) -> bool:
        """True once a line of `until` or later was met: nothing more will come."""
    @property
    def segment(self) -> int:
        """The lowest segment this reader still needs: what to hold with the supervisor."""
    @property
    def skipped_bytes(self) -> int:
        """Bytes that were no valid log line (torn by a crash, say) and were passed over."""
    @property
    def skipped_segments(self) -> int:
        """Segments that were rotated away before this reader came to them, a count."""
    def close(self) -> None: ...
