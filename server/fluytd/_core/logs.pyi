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
class LogPage:
    """Some records, serialized."""

    @property
    def messages(self) -> list[bytes]:
        """Each a whole `fluyt.v1.ReadLogsResponse` with a `batch`, within the bound of a message; empty where no record was of a
        wanted stream."""
    @property
    def cursor(self) -> str | None:
        """Opaque; reading from it begins right after the last record, of whichever stream. None if there was no record."""

@final
class LogHub:
    """Tells which of many followed logs may have grown, by one descriptor. May be shared between threads."""

    def __new__(cls) -> LogHub:
        """Raises IO_FAILED (EMFILE where the host grants no further inotify instance)."""
    def fileno(self) -> int:
        """Readable when `take` has something to tell; owned by the hub."""
    def take(self) -> list[int]:
        """Tokens of the readers that have news since they were last told, in no order. Never blocks. Raises IO_FAILED."""

@final
class LogReader:
    """A position in one container's log. Not to be shared between threads at once."""

    def __new__(
        cls,
        log_dir: str,
        *,
        hub: LogHub | None = None,
        cursor: str | None = None,
        tail_lines: int | None = None,
        since_unix_nanos: int | None = None,
        until_unix_nanos: int | None = None,
    ) -> LogReader:
        """`hub`: tells from now on when the log may have grown. `tail_lines`: begin so many lines before the present end (0: at the end). `since` is inclusive, `until` exclusive.
        Raises CURSOR_INVALID, IO_FAILED. Blocking."""
    @property
    def token(self) -> int | None:
        """What the hub calls this reader; None without a hub."""
    def has_news(self) -> bool:
        """True if the log may have grown since the last read began, as far as `LogHub.take` was called; always without a hub."""
    def read(self, max_bytes: int) -> list[LogRecord]:
        """Whole records that stand after the position, at most about `max_bytes`, in the order written; empty at the
        present end. Segments that were rotated away unread are skipped. Blocking (disk only)."""
    def read_final(self, max_bytes: int) -> list[LogRecord]:
        """As `read`, and at the end unfinished lines count as records too: after the writer has gone, or at any time by a caller
        that wants bytes at once rather than whole lines."""
    def read_page(self, max_bytes: int, is_final: bool, stdout: bool, stderr: bool) -> LogPage:
        """As `read`, or `read_final` where `is_final`, of the streams that are wanted."""
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
