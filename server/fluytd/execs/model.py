"""A further process as the engine knows it. It does no I/O."""

from dataclasses import dataclass, replace
from enum import StrEnum, auto
from typing import Any

from fluytd.containers.model import ExitStatus
from fluytd.errors import Failure


class ExecState(StrEnum):
    """Where a session stands."""

    STARTING = auto()
    RUNNING = auto()
    EXITED = auto()


class DisconnectPolicy(StrEnum):
    """What happens to the process when its caller is gone."""

    KEEP = auto()
    SIGNAL = auto()
    KILL = auto()


@dataclass(frozen=True, slots=True)
class ExecSpec:
    """What a caller asks of a further process."""

    args: tuple[str, ...]
    #: `NAME=value`, over the container's; a bare `NAME` removes one.
    env: tuple[str, ...] = ()
    #: Empty: the container's.
    user: str = ""
    additional_groups: tuple[str, ...] = ()
    #: Empty: the container's.
    working_dir: str = ""
    tty: bool = False
    #: (columns, rows) at the first instruction.
    terminal_size: tuple[int, int] = (80, 24)
    open_stdin: bool = False
    privileged: bool = False
    add_capabilities: tuple[str, ...] = ()
    policy: DisconnectPolicy = DisconnectPolicy.SIGNAL
    detach: bool = False
    #: As the caller wrote them; empty: the default.
    detach_keys: str = ""


@dataclass(frozen=True, slots=True)
class ExecSession:
    """One session's record."""

    id: str
    container_id: str
    spec: ExecSpec
    create_time_unix_nanos: int
    state: ExecState = ExecState.STARTING
    version: int = 1
    host_pid: int = 0
    start_time_unix_nanos: int | None = None
    exit: ExitStatus | None = None
    exit_time_unix_nanos: int | None = None
    failure: Failure | None = None
    output_bytes: int = 0

    @property
    def is_unstarted(self) -> bool:
        """It could not be started, and nothing is kept of it."""
        return self.state is ExecState.EXITED and self.start_time_unix_nanos is None


def ended(session: ExecSession, status: ExitStatus | None, exit_time_unix_nanos: int, **changes: Any) -> ExecSession:
    """It has ended; no status: how is not known, and `failure` among the changes says why."""
    return replace(
        session,
        state=ExecState.EXITED,
        version=session.version + 1,
        host_pid=0,
        exit=status,
        exit_time_unix_nanos=exit_time_unix_nanos,
        **changes,
    )
