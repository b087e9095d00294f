"""Control groups of containers on cgroup v2, v1 and hybrid hosts, read from mountinfo."""

from typing import final

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
