"""Opens logs over `_core.logs`. It follows nothing and decides nothing."""

from fluytd._core import logs
from fluytd.logs.ports import LogReader, ReadRange


def open_log(log_dir: str) -> LogReader:
    """A reader at the oldest record. Raises IO_FAILED. Blocking."""
    return logs.LogReader(log_dir)


def open_range(log_dir: str, wanted: ReadRange) -> LogReader:
    """A reader at the place asked for. Raises CURSOR_INVALID, IO_FAILED. Blocking."""
    return logs.LogReader(
        log_dir,
        cursor=wanted.cursor,
        tail_lines=wanted.tail_lines,
        since_unix_nanos=wanted.since_unix_nanos,
        until_unix_nanos=wanted.until_unix_nanos,
    )
