"""A further process of which only the record is left: its supervisor, and what that kept of its output, is gone."""

from collections.abc import Sequence

from fluytd.containers.process_ports import ExecOutput, ExitRecord
from fluytd.errors import ProcessNotFound


class GoneProcess:
    """Implements `containers.ports.ExecProcess` for a session that has ended."""

    host_pid = 0
    is_started = True
    start_time_unix_nanos = 0
    has_failed = False
    exit_record: ExitRecord | None = None
    oldest = 0
    head = 0

    def __init__(self, exec_id: str, content_bytes: int) -> None:
        """`content_bytes`: what it wrote."""
        self.id = exec_id
        self.content_bytes = content_bytes

    def check(self) -> None:
        """See `ExecProcess.check`."""

    def read(self, position: int, max_bytes: int) -> tuple[Sequence[ExecOutput], int]:
        """See `ExecProcess.read`; nothing is left."""
        return (), position

    def take(self, position: int | None) -> None:
        """See `ExecProcess.take`."""

    def signal(self, number: int) -> None:
        """See `ExecProcess.signal`."""
        raise ProcessNotFound(host_pid=0)

    def kill(self) -> None:
        """See `ExecProcess.kill`."""

    def resize(self, width: int, height: int) -> None:
        """See `ExecProcess.resize`."""

    def stdin_fd(self) -> int | None:
        """See `ExecProcess.stdin_fd`."""
        return None

    def close_stdin(self) -> None:
        """See `ExecProcess.close_stdin`."""

    def forget(self) -> None:
        """See `ExecProcess.forget`."""
