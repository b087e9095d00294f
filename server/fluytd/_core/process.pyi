"""Starting, watching and signalling containers through their supervisor."""

from typing import final

from fluytd._core.network import Namespace
from fluytd.containers.process_spec import ContainerStart, ExecStart

@final
class ExitRecord:
    """How a container's process ended, as its supervisor wrote it."""

    @property
    def exit_code(self) -> int | None:
        """0 to 255, or None if a signal ended it."""
    @property
    def signal(self) -> int | None: ...
    @property
    def oom_kill_count(self) -> int: ...
    @property
    def exit_time_unix_nanos(self) -> int: ...
    @property
    def dropped_log_bytes(self) -> int:
        """Output that the log could not take, because the disk was full."""

@final
class ExecOutput:
    """A chunk of what a further process wrote."""

    @property
    def stream(self) -> str:
        """`stdout` or `stderr`."""
    @property
    def time_unix_nanos(self) -> int: ...
    @property
    def offset_bytes(self) -> int:
        """Bytes of both outputs before this chunk."""
    @property
    def data(self) -> bytes: ...

@final
class Exec:
    """A further process of a container, as its supervisor told in `Supervisor.poll_exit`. Thread-safe."""

    @property
    def id(self) -> str: ...
    @property
    def host_pid(self) -> int:
        """As the host sees it; 0 if it has none."""
    @property
    def is_started(self) -> bool:
        """Its program has been executed."""
    @property
    def start_time_unix_nanos(self) -> int: ...
    @property
    def clamps(self) -> list[str]:
        """As `Supervisor.clamps`."""
    @property
    def has_failed(self) -> bool:
        """It could not be started; `check` raises why."""
    def check(self) -> None:
        """Raises PROCESS_START_FAILED, USER_INVALID, KERNEL_FEATURE_MISSING, STORAGE_FULL if it could not be started."""
    @property
    def exit_record(self) -> ExitRecord | None:
        """How it ended; all of its output can be read then. `dropped_log_bytes`: output that was lost with the container."""
    @property
    def oldest(self) -> int:
        """Position of the first chunk that can still be read."""
    @property
    def head(self) -> int:
        """Position after the last chunk."""
    @property
    def content_bytes(self) -> int:
        """Bytes of both outputs so far."""
    def read(self, position: int, max_bytes: int) -> tuple[list[ExecOutput], int]:
        """The chunks from `position` on, at most about `max_bytes`, and the position after them; empty at the present
        end. Reads memory only. Raises DATA_CORRUPT where no chunk begins."""
    def take(self, position: int | None) -> None:
        """Output up to `position` is had; what comes after it is kept and told as news. None: it is read no longer, and
        the process does not wait. Raises IO_FAILED."""
    def signal(self, number: int) -> None:
        """Raises PROCESS_NOT_FOUND once it has ended."""
    def kill(self) -> None:
        """It and all that it has started is being killed. Idempotent."""
    def resize(self, width: int, height: int) -> None:
        """Columns and rows of its terminal; nothing without one. Raises IO_FAILED."""
    def stdin_fd(self) -> int | None:
        """An owned, non-blocking write end of its stdin; None if it was not asked for or is closed."""
    def close_stdin(self) -> None:
        """The supervisor gives up its end; idempotent. A terminal is sent the character that ends its input, and stays."""
    def forget(self) -> None:
        """Nothing of it is kept; one that runs is killed. Idempotent."""

@final
class Supervisor:
    """A connection to one container's supervisor. Thread-safe; works only in the process that made it."""

    def fileno(self) -> int:
        """Readable when `poll_exit` has news; owned by this object, valid until `close`."""
    @property
    def host_pid(self) -> int:
        """The container's first process as the host sees it."""
    @property
    def supervisor_pid(self) -> int: ...
    @property
    def start_time_unix_nanos(self) -> int: ...
    @property
    def clamps(self) -> list[str]:
        """What was asked and could not be given in full, as `field: reason`."""
    def poll_exit(self) -> str:
        """`running`, `exited` (an exit record stands in the run directory) or `lost` (the supervisor has gone without
        one; the container's processes may live). Never blocks."""
    def take_exec_news(self) -> list[str]:
        """Ids of further processes that `poll_exit` has had news of since this was last called."""
    def execs(self) -> list[Exec]:
        """All further processes that were not forgotten."""
    def resize(self, width: int, height: int) -> None:
        """Columns and rows of the container's terminal; nothing without one. Raises IO_FAILED."""
    @property
    def exit_record(self) -> ExitRecord | None:
        """How the process ended, once `poll_exit` has said `exited`."""
    def signal(self, number: int) -> None:
        """Sends a signal to the container's first process. Raises PROCESS_NOT_FOUND once it has ended."""
    def stdin_fd(self) -> int | None:
        """An owned, non-blocking write end of the container's stdin; None if it was not asked for or is closed."""
    def close_stdin(self) -> None:
        """The supervisor gives up its end, so that the process reads EOF once no client holds one; idempotent. A terminal
        is sent the character that ends its input, and stays."""
    def force_servers(self) -> None:
        """Whatever in the container waits for a server whose file system the engine has mounted there is told EIO, for some
        seconds, until its process has ended; data that was not written yet is lost. Never blocks. Raises IO_FAILED."""
    def hold_log(self, segment: int | None) -> None:
        """Log segments from `segment` on are kept until the hold moves or ends (None, `close`, or this process's death);
        when the log is at its bound, the container's writes wait."""
    def open_root_fd(self) -> int:
        """An owned `O_PATH` descriptor of the root that the container's first process has, its mounts included. Raises
        PROCESS_NOT_FOUND, IO_FAILED. Blocking (one open)."""
    def wait_gone(self, timeout_millis: int) -> bool:
        """True once the supervisor process itself has ended (and is reaped if it was our child). Blocking."""
    def kill_supervisor(self) -> None:
        """SIGKILL to the supervisor; idempotent."""
    def close(self) -> None: ...

@final
class ReadySupervisor:
    """A supervisor that has no container yet."""

    def namespace(self, timeout_millis: int, serves_names: bool) -> Namespace:
        """The network namespace that the container will have, with sockets in it for names if it `serves_names`. To be
        called once, before the start. Raises SUPERVISOR_LOST, IO_FAILED. Blocking (until it is made)."""
    def pid(self) -> int | None:
        """Its process id; None once it was given its container or closed."""
    def is_alive(self) -> bool:
        """True if it has not ended, and has neither a container nor been closed."""
    def close(self) -> None:
        """It ends, unless it was given its container. Idempotent. Blocking (until it has ended)."""

@final
class Look:
    """A process that looks at a path, which ends once the path's file system answers."""

    def fileno(self) -> int:
        """Readable once it has ended; owned by this object, valid until `close`."""
    def close(self) -> None:
        """It is killed if it has not ended, and reaped as soon as it has. Idempotent. Never blocks."""

@final
class SupervisorHost:
    """Starts supervisors from one opened program. One per daemon."""

    def __new__(cls, supervisor_path: str) -> SupervisorHost:
        """Opens and keeps the program, so that an upgrade cannot mix versions. Raises IO_FAILED, VERSION_MISMATCH."""
    def prepare(self, count: int, has_users: bool) -> None:
        """`count` supervisors (8 at most) wait for the next starts, which then need not execute any; `has_users`: of
        containers that are in a user namespace. They end with this object or its process. Raises IO_FAILED. Blocking (half a millisecond each)."""
    def take_ready(self, container_id: str, has_users: bool) -> ReadySupervisor:
        """One that waits, for a container (empty: not known yet) whose network is made before its start; `has_users` as
        `prepare`. Raises IO_FAILED. Blocking."""
    def open_namespace(self, host_pid: int, timeout_millis: int) -> Namespace:
        """The network namespace of a process. Raises IO_FAILED (errno 2: it has ended), SUPERVISOR_LOST. Blocking."""
    def start(
        self,
        spec: ContainerStart,
        joined: list[Supervisor],
        timeout_millis: int,
        ready: ReadySupervisor | None = None,
    ) -> Supervisor:
        """`joined`: the containers whose namespaces the spec shares, 5 at most, in the order of their places there.
        `ready`: the supervisor that is to start it; else any is taken.
        The container's process has been executed. Before that: run directory, cgroups with limits and supervisor are made;
        on failure all of these are gone again except the run and log directories. Raises PROCESS_START_FAILED (step, errno,
        path, exit_code 126 or 127 where the command is at fault), USER_INVALID, CGROUP_LIMIT_REJECTED,
        KERNEL_FEATURE_MISSING, STORAGE_FULL, IO_FAILED. Blocking."""
    def look(self, path: bytes, root_fd: int | None = None) -> Look:
        """A process of its own looks at the path: of the host, or below the directory `root_fd`, which no link leads out
        of. Raises IO_FAILED if it cannot be executed. Blocking (half a millisecond)."""
    def exec(self, supervisor: Supervisor, spec: ExecStart) -> Exec:
        """A further process is on its way; `take_exec_news` tells what comes of it. Raises FIELD_INVALID, LIMIT_EXCEEDED,
        SUPERVISOR_LOST, IO_FAILED. Never waits for the process."""
    def adopt(self, run_dir: str) -> Supervisor | None:
        """Connects to a supervisor started earlier; None if none listens there. Blocking (one connect)."""

def read_exit_record(run_dir: str) -> ExitRecord | None:
    """The record in a run directory, None if there is none. Raises DATA_CORRUPT. Blocking."""

def read_exec_record(run_dir: str, id: str) -> ExitRecord | None:
    """How a further process ended that ended at the latest with its container; None if it is not known. Raises
    DATA_CORRUPT. Blocking."""

def check_seccomp(profile: str, capabilities: list[str]) -> None:
    """Raises FIELD_INVALID (`spec.security.seccomp.json`) for JSON that is no profile, or one that cannot be carried
    out. Blocking (a millisecond at most)."""

def default_capabilities() -> list[str]:
    """The 14 of an unprivileged container, without `CAP_`, sorted."""

def all_capabilities() -> list[str]:
    """Those this kernel knows, without `CAP_`, sorted."""
