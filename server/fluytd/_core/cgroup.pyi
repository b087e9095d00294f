"""Control groups of containers on cgroup v2, v1 and hybrid hosts, read from mountinfo."""

from collections.abc import Sequence
from typing import final

from fluytd.containers.process_spec import ResourceLimits

@final
class CgroupLayout:
    @property
    def mode(self) -> str:
        """`v2`, `v1` or `hybrid`."""
    @property
    def controllers(self) -> list[str]:
        """Controllers that can hold a limit, sorted."""

def layout() -> CgroupLayout:
    """What this host mounts. Raises KERNEL_FEATURE_MISSING if it has no cgroup file system. Blocking (reads mountinfo)."""

def list_groups(parent: str) -> list[str]:
    """Names of the child groups of `parent` in any hierarchy, sorted, each once; empty if `parent` is absent. Blocking."""

def kill(parent: str, name: str) -> None:
    """Every process of the group is killed (cgroup.kill, else freeze, signal, thaw). Idempotent. Blocking."""

def freeze(parent: str, name: str) -> None:
    """No process of the group runs until `thaw`. Idempotent. Raises CGROUP_BUSY if one does not stop in 2 s (the group is
    thawed then), IO_FAILED (ENOENT for an absent group). Blocking."""

def thaw(parent: str, name: str) -> None:
    """The processes of the group run again. Idempotent. Raises IO_FAILED (ENOENT for an absent group). Blocking."""

def remove(parent: str, name: str, timeout_millis: int) -> None:
    """The group is gone from all hierarchies; waits for its last process to leave. Idempotent. Raises CGROUP_BUSY. Blocking."""

def read_file(parent: str, name: str, file: str) -> str | None:
    """Content of a control file of the group (`memory.max`, `memory.limit_in_bytes`...), None if absent. Blocking."""

def update(parent: str, name: str, limits: ResourceLimits) -> list[str]:
    """Limits that are not None hold, or none has changed; returns `field: reason` of what the host did not give.

    Memory without swap is again twice the memory. Raises CGROUP_LIMIT_REJECTED, KERNEL_FEATURE_MISSING, FIELD_INVALID,
    IO_FAILED (errno 2 if the group is absent). Blocking."""

@final
class Stats:
    """Usage of a group at one moment; None where the host does not count it, or for a limit that there is none."""

    @property
    def time_unix_nanos(self) -> int:
        """When it was read."""
    @property
    def cpu_usage_nanos(self) -> int | None:
        """CPU time since the group was made."""
    @property
    def cpu_user_nanos(self) -> int | None: ...
    @property
    def cpu_system_nanos(self) -> int | None: ...
    @property
    def cpu_throttled_periods(self) -> int | None: ...
    @property
    def cpu_throttled_nanos(self) -> int | None: ...
    @property
    def memory_current_bytes(self) -> int | None:
        """Page cache included."""
    @property
    def memory_inactive_file_bytes(self) -> int | None:
        """Page cache that can be dropped at once."""
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
    def cpu_pressure_percent(self) -> float | None:
        """Share of the last 10 s in which some process waited."""
    @property
    def memory_pressure_percent(self) -> float | None: ...
    @property
    def io_pressure_percent(self) -> float | None: ...
    @property
    def network_receive_bytes(self) -> int | None:
        """On all interfaces but the loopback of the namespace that the process is in."""
    @property
    def network_transmit_bytes(self) -> int | None: ...

def stats(parent: str, groups: Sequence[tuple[str, int, tuple[Stats, bool] | None]]) -> list[Stats]:
    """What each group of (name, host pid of a process in its network, 0 for none, before) uses, in this order; nothing
    but None for one that is absent. `before` is what it used when it was read last, and whether the pressure among it
    is younger than the kernel's averages. A group whose processes have not run since, and that has as much memory, is
    taken to be as it was but for its block devices, its network and, where it waited, its pressure. Blocking (some
    small reads a group)."""

def process_ids(parent: str, name: str) -> list[int]:
    """Host pids of every process of the group and those below it, sorted; none if it is absent. Blocking."""
