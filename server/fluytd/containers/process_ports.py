"""What the container services need of the core that runs processes.

Methods that are not coroutines and are marked Blocking run on a worker thread, never on the event loop.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from fluytd.containers.model import Container, ExitStatus
from fluytd.containers.process_spec import ExecStart, ResourceLimits
from fluytd.containers.start_facts import StartPaths


class ExitRecord(Protocol):
    """What a supervisor wrote down."""

    @property
    def exit_code(self) -> int | None:
        """0 to 255, or None if a signal ended it."""

    @property
    def signal(self) -> int | None:
        """The signal that ended it, or None."""

    @property
    def oom_kill_count(self) -> int:
        """Processes of it that were killed for lack of memory."""

    @property
    def exit_time_unix_nanos(self) -> int:
        """When it ended."""


@dataclass(frozen=True, slots=True)
class Ending:
    """How a run ended, as its supervisor recorded it."""

    status: ExitStatus
    oom_kill_count: int
    exit_time_unix_nanos: int

    @staticmethod
    def of(record: ExitRecord) -> "Ending":
        """The same facts as a value of our own."""
        status = ExitStatus(exit_code=record.exit_code, signal=record.signal)
        return Ending(status, record.oom_kill_count, record.exit_time_unix_nanos)


class ExecOutput(Protocol):
    """A chunk of what a further process wrote."""

    @property
    def stream(self) -> str:
        """`stdout` or `stderr`."""

    @property
    def time_unix_nanos(self) -> int:
        """When it was read from the process."""

    @property
    def offset_bytes(self) -> int:
        """Bytes of both outputs before it."""

    @property
    def data(self) -> bytes:
        """Exact bytes."""


class ExecProcess(Protocol):
    """A further process as its container's supervisor told. No method but `take` and its like leaves memory."""

    @property
    def id(self) -> str:
        """Its id."""

    @property
    def host_pid(self) -> int:
        """As the host sees it; 0 if it has none."""

    @property
    def is_started(self) -> bool:
        """Its program has been executed."""

    @property
    def start_time_unix_nanos(self) -> int:
        """When that was."""

    @property
    def has_failed(self) -> bool:
        """It could not be started; `check` raises why."""

    def check(self) -> None:
        """Raises why it could not be started, if it could not."""

    @property
    def exit_record(self) -> "ExitRecord | None":
        """How it ended; all of its output can be read then."""

    @property
    def oldest(self) -> int:
        """Position of the first chunk that can still be read."""

    @property
    def head(self) -> int:
        """Position after the last chunk."""

    @property
    def content_bytes(self) -> int:
        """Bytes of both outputs so far."""

    def read(self, position: int, max_bytes: int) -> tuple[Sequence[ExecOutput], int]:
        """The chunks from there on and the position after them. Raises DATA_CORRUPT where no chunk begins."""

    def take(self, position: int | None) -> None:
        """Output up to there is had, the rest is kept and told as news; None: nobody reads. Raises IO_FAILED."""

    def signal(self, number: int) -> None:
        """Raises PROCESS_NOT_FOUND."""

    def kill(self) -> None:
        """It and all that it has started is being killed. Idempotent."""

    def resize(self, width: int, height: int) -> None:
        """Columns and rows of its terminal; nothing without one."""

    def stdin_fd(self) -> int | None:
        """An owned, non-blocking write end of its stdin; None if there is none."""

    def close_stdin(self) -> None:
        """The process reads the end of its input. Idempotent."""

    def forget(self) -> None:
        """Nothing of it is kept; one that runs is killed. Idempotent."""


class Process(Protocol):
    """A running container as its supervisor shows it. Thread-safe. Owned by the container's entry, which closes it."""

    def fileno(self) -> int:
        """Readable when `poll_exit` has news; valid until `close`."""

    @property
    def host_pid(self) -> int:
        """The container's first process as the host sees it."""

    @property
    def supervisor_pid(self) -> int:
        """The supervisor."""

    @property
    def start_time_unix_nanos(self) -> int:
        """When the process was executed."""

    @property
    def clamps(self) -> list[str]:
        """`field: reason` of what was not given in full."""

    def poll_exit(self) -> str:
        """`running`, `exited` (an exit record stands) or `lost`. Never blocks. Raises DATA_CORRUPT."""

    def take_exec_news(self) -> list[str]:
        """Ids of further processes that `poll_exit` has had news of since. Never blocks."""

    def execs(self) -> "Sequence[ExecProcess]":
        """All further processes that were not forgotten, those that an earlier daemon began too. Never blocks."""

    @property
    def exit_record(self) -> ExitRecord | None:
        """How the process ended, once `poll_exit` has said `exited`."""

    def signal(self, number: int) -> None:
        """To the first process. Raises PROCESS_NOT_FOUND. Never blocks."""

    def resize(self, width: int, height: int) -> None:
        """Columns and rows of the container's terminal; nothing without one. Raises IO_FAILED."""

    def stdin_fd(self) -> int | None:
        """An owned, non-blocking write end of the container's stdin; None if it has none or it is closed."""

    def close_stdin(self) -> None:
        """The supervisor gives up its write end. Idempotent."""

    def force_servers(self) -> None:
        """What waits in it for servers of mounted file systems is told EIO until it has ended; data that was not
        written yet is lost. Never blocks. Raises IO_FAILED."""

    def hold_log(self, segment: int | None) -> None:
        """Segments from this one on are kept, the process waits at the bound; None ends the hold."""

    def open_root_fd(self) -> int:
        """An owned `O_PATH` descriptor of its root, mounts included. Raises PROCESS_NOT_FOUND, IO_FAILED. Blocking."""

    def wait_gone(self, timeout_millis: int) -> bool:
        """True once the supervisor has ended. Blocking."""

    def kill_supervisor(self) -> None:
        """SIGKILL; idempotent."""

    def close(self) -> None:
        """Gives up the connection; the container goes on. Idempotent."""


class Look(Protocol):
    """A process that looks at a path, and ends once that path's file system answers."""

    def fileno(self) -> int:
        """Readable once it has ended; valid until `close`."""

    def close(self) -> None:
        """It is killed if it has not ended. Idempotent. Never blocks."""


class Stats(Protocol):
    """What one container uses; None where the host does not count it, or for a limit that there is none."""

    @property
    def time_unix_nanos(self) -> int: ...
    @property
    def cpu_usage_nanos(self) -> int | None: ...
    @property
    def cpu_user_nanos(self) -> int | None: ...
    @property
    def cpu_system_nanos(self) -> int | None: ...
    @property
    def cpu_throttled_periods(self) -> int | None: ...
    @property
    def cpu_throttled_nanos(self) -> int | None: ...
    @property
    def memory_current_bytes(self) -> int | None: ...
    @property
    def memory_inactive_file_bytes(self) -> int | None: ...
    @property
    def memory_limit_bytes(self) -> int | None: ...
    @property
    def swap_current_bytes(self) -> int | None: ...
    @property
    def pids_current(self) -> int | None: ...
    @property
    def pids_limit(self) -> int | None: ...
    @property
    def io_read_bytes(self) -> int | None: ...
    @property
    def io_write_bytes(self) -> int | None: ...
    @property
    def oom_kill_count(self) -> int | None: ...
    @property
    def cpu_pressure_percent(self) -> float | None: ...
    @property
    def memory_pressure_percent(self) -> float | None: ...
    @property
    def io_pressure_percent(self) -> float | None: ...
    @property
    def network_receive_bytes(self) -> int | None: ...
    @property
    def network_transmit_bytes(self) -> int | None: ...


class ProcessInfo(Protocol):
    """One process of a container at one moment."""

    @property
    def host_pid(self) -> int: ...
    @property
    def pid(self) -> int:
        """As the container sees it."""

    @property
    def parent_host_pid(self) -> int: ...
    @property
    def uid(self) -> int: ...
    @property
    def state(self) -> str:
        """One letter. Source: proc_pid_stat(5)."""

    @property
    def start_time_unix_nanos(self) -> int: ...
    @property
    def cpu_usage_nanos(self) -> int: ...
    @property
    def resident_bytes(self) -> int: ...
    @property
    def args(self) -> list[str]:
        """At most 4 KiB together."""


class Runtime(Protocol):
    """Processes, control groups and run directories of containers."""

    def prepare(self) -> None:
        """What the next starts need and belongs to no container stands ready. Raises IO_FAILED. Blocking."""

    def check_seccomp(self, profile: str, capabilities: Sequence[str]) -> None:
        """Raises FIELD_INVALID for JSON that is no profile, or one that cannot be carried out. Never blocks."""

    def check_parent(self, parent: str, field: str) -> None:
        """Raises FIELD_INVALID, blaming `field`, for a parent below the engine's own, where it would be a container.

        Never blocks.
        """

    def learn(self, container: Container) -> None:
        """Where its control groups are is known from now on until `release`. Never blocks."""

    def start(self, container: Container, paths: StartPaths, joined: Sequence[Process], *, is_held: bool) -> Process:
        """Its process has been executed; its run directory is there. `joined`: those of `namespaces.others`, in order.
        `is_held`: its output is kept from the first byte on, until `Process.hold_log` moves or ends that. On failure
        nothing is left. Raises PROCESS_START_FAILED, USER_INVALID, CGROUP_LIMIT_REJECTED, FIELD_INVALID,
        KERNEL_FEATURE_MISSING, CDI_DEVICE_UNAVAILABLE, VOLUME_SERVER_UNREACHABLE, STORAGE_FULL, IO_FAILED. Blocking."""

    def look(self, path: bytes, process: Process | None = None) -> Look:
        """A process of its own looks at the path: of the host, or as `process` sees it. Raises PROCESS_NOT_FOUND,
        IO_FAILED. Blocking (half a millisecond)."""

    def exec(self, process: Process, start: ExecStart) -> ExecProcess:
        """A further process is on its way beside `process`; its news tell what comes of it. Raises SUPERVISOR_LOST,
        LIMIT_EXCEEDED, IO_FAILED. Blocking, only while the supervisor's queue is full."""

    def adopt(self, container_id: str) -> Process | None:
        """The process of a container that an earlier daemon started; None if no supervisor listens. Blocking."""

    def read_ending(self, container_id: str) -> Ending | None:
        """The exit record; None if there is none. Raises DATA_CORRUPT. Blocking."""

    def read_exec_ending(self, container_id: str, exec_id: str) -> Ending | None:
        """How a further process ended that ended with its container; None if that is not known. Raises DATA_CORRUPT.
        Blocking."""

    def kill_group(self, container_id: str) -> None:
        """Every process of the container is killed. Idempotent. Blocking."""

    def waiting(self, container_id: str) -> str:
        """Processes of the container and what each waits for in the kernel, as a text; a few of them. Blocking."""

    def freeze(self, container_id: str) -> None:
        """No process of the container runs until `thaw`. Idempotent. Raises CGROUP_BUSY (some process would not stop in
        time; all run then), IO_FAILED (errno 2: it has gone). Blocking."""

    def thaw(self, container_id: str) -> None:
        """Its processes run again. Idempotent. Raises IO_FAILED (errno 2: it has gone). Blocking."""

    def update_limits(self, container_id: str, limits: ResourceLimits, fields: Mapping[str, str]) -> list[str]:
        """All limits that are not None hold, or none has changed; returns `field: reason` of what was not given.
        `fields`: of the request, by the devices that it names, for what is wrong with one.
        Raises CGROUP_LIMIT_REJECTED, KERNEL_FEATURE_MISSING, FIELD_INVALID, IO_FAILED (errno 2: it has gone).
        Blocking."""

    def stats(self, groups: Sequence[tuple[str, int, tuple[Stats, bool] | None]]) -> Sequence[Stats]:
        """Figures of each container of (id, host pid of a process in its network, 0 for none, before), in order.
        `before` is what this method gave, and whether the pressure among it is too young to have changed. Of a
        container that has not run since then, and has as much memory, most figures are those. Blocking."""

    def list_processes(self, container_id: str) -> list[ProcessInfo]:
        """Every process of the container, by host pid; none if it has gone. Blocking."""

    def release(self, container_id: str, process: Process | None) -> None:
        """Supervisor, control groups and run directory of an ended run are gone; `process` is closed. Idempotent.
        Raises CGROUP_BUSY, IO_FAILED. Blocking."""

    def list_groups(self) -> list[str]:
        """Names of the control groups below the engine's parent. Blocking."""

    def list_run_dirs(self) -> list[str]:
        """Names in the directory of run directories. Blocking."""


@dataclass(frozen=True, slots=True)
class ProbeResult:
    """What a command of a health check answered."""

    #: 0 to 255; -1: it was broken off, and `output` says why.
    exit_code: int
    output: bytes
    end_time_unix_nanos: int


class Probe(Protocol):
    """Runs commands of health checks inside containers."""

    async def run(self, container: Container, args: Sequence[str], timeout_millis: int) -> ProbeResult:
        """What the command answered, as the container's user, in its directory and environment. After the time it and
        its children are dead, and the answer is -1 with a text that names the time. Raises what stops it from being
        run at all: PROCESS_START_FAILED, CONTAINER_WRONG_STATE, IO_FAILED."""
