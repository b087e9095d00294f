"""What this kernel and host allow."""

from collections.abc import Sequence
from typing import final

@final
class Feature:
    @property
    def name(self) -> str:
        """`overlay`, `new_mount_api`, `openat2`, `user_namespaces`, `idmapped_mounts`, `seccomp`, `cgroup_v2`,
        `clone_into_cgroup`, `cgroup_kill`, `erofs_file_mount`, `pidfd`, `project_quota`, `cap_sys_resource`."""
    @property
    def is_available(self) -> bool: ...
    @property
    def detail(self) -> str:
        """Why not, or what limits it; empty if there is nothing to say."""

def probe(data_root: str) -> list[Feature]:
    """Every feature, tried rather than guessed from a version; leaves nothing behind. Blocking (some milliseconds)."""

def idmapped_mounts(data_root: str) -> Feature:
    """The feature of that name alone: whether a container can be in a user namespace. Blocking (a millisecond)."""

def directory_usage(path: str, max_entries: int) -> tuple[int, int, bool]:
    """(bytes, entries, is_complete) of a tree, never following links nor leaving its file system; stops at
    `max_entries`. Raises IO_FAILED. Blocking."""

def remove_tree(path: str) -> None:
    """The tree is gone; links are not followed, other file systems are not entered. Idempotent. Blocking."""

def make_tree(path: str, mode: int, directories: Sequence[tuple[str, int]], files: Sequence[tuple[str, int]]) -> None:
    """The directory `path`, which was absent, holds `directories` and `files`, empty, with exactly these permission
    bits whatever the umask is. Raises IO_FAILED or STORAGE_FULL; part of it may stand then. Blocking."""

def write_files(directory: str, files: Sequence[tuple[str, bytes]]) -> None:
    """Each of `files`, which are there directly in `directory`, has this content; one that has it already is not
    written. In place: they may be mounted. Links are not followed. Raises IO_FAILED or STORAGE_FULL. Blocking."""

def copy_permissions(model: str, path: str) -> None:
    """The directory `path` has owner, group and permissions of the directory `model`. Raises IO_FAILED. Blocking."""

def kernel_release() -> str:
    """`uname -r`."""

@final
class ProcessInfo:
    """One process at one moment."""

    @property
    def host_pid(self) -> int: ...
    @property
    def pid(self) -> int:
        """In its own, innermost pid namespace."""
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
        """At most 4 KiB together; the name in brackets where there are none."""

def processes(host_pids: Sequence[int]) -> list[ProcessInfo]:
    """What is known of these processes, in their order, without those that have ended. Blocking (three reads each)."""
