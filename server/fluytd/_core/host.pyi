"""What this kernel and host allow."""

from collections.abc import Sequence
from typing import final

@final
class Feature:
    @property
    def name(self) -> str:
        """`overlay`, `new_mount_api`, `openat2`, `user_namespaces`, `idmapped_mounts`, `seccomp`, `cgroup_v2`,
        `clone_into_cgroup`, `cgroup_kill`, `erofs_file_mount`, `pidfd`, `project_quota`, `cap_sys_resource`,
        `landlock`."""
    @property
    def is_available(self) -> bool: ...
    @property
    def detail(self) -> str:
        """Why not, or what limits it; empty if there is nothing to say."""

def probe(data_root: str) -> list[Feature]:
    """Every feature, tried rather than guessed from a version; leaves nothing behind. Blocking (some milliseconds)."""

def idmapped_mounts(data_root: str) -> Feature:
    """The feature of that name alone: whether a container can be in a user namespace. Blocking (a millisecond)."""

def project_quota(directory: str) -> Feature:
    """The feature of that name, for the file system of this directory: bounds of projects are kept. Blocking
    (microseconds)."""

def limit_project(directories: Sequence[str], project_id: int, limit_bytes: int, limit_inodes: int) -> None:
    """The directories, of one file system and empty, and all that comes to stand in them, are counted for the project,
    which takes at most so many bytes and inodes. Raises IO_FAILED, STORAGE_FULL. Blocking."""

def release_project(directory: str, project_id: int) -> None:
    """The project has no bound on the directory's file system. Idempotent. Raises IO_FAILED. Blocking."""

def directory_project(directory: str) -> int:
    """The project that the directory belongs to; 0 for none. Raises IO_FAILED. Blocking (microseconds)."""

def project_usage(directory: str, project_id: int) -> tuple[int, int, int, int]:
    """(bytes, inodes, most bytes, most inodes) of the project on the directory's file system; a bound of 0 is none.
    Raises IO_FAILED. Blocking (microseconds)."""

def idle_projects(directory: str, first: int, last: int) -> list[int]:
    """Projects from `first` to `last` that have a bound on the directory's file system and nothing that it is for.
    Raises IO_FAILED. Blocking."""

def directory_usage(path: str, max_entries: int) -> tuple[int, int, bool]:
    """(bytes, entries, is_complete) of a tree, never following links nor leaving its file system; stops at
    `max_entries`. Raises IO_FAILED. Blocking."""

def remove_tree(path: str) -> None:
    """The tree is gone; links are not followed, other file systems are not entered. Idempotent. Blocking."""

def relabel(path: str, label: str, trusts_root: bool) -> int:
    """All of the tree, or the file, has the SELinux label, `path` itself last; links are labelled and not followed, other
    file systems not entered, those without labels left alone. Answers how many did not have it. With `trusts_root` a tree
    whose root has it is taken to have it; without, no link on the way to it is followed (ELOOP). Idempotent. Raises
    IO_FAILED. Blocking (some microseconds an entry)."""

def make_tree(path: str, mode: int, directories: Sequence[tuple[str, int]], files: Sequence[tuple[str, int]]) -> None:
    """The directory `path`, which was absent, holds `directories` and `files`, empty, with exactly these permission
    bits whatever the umask is. Raises IO_FAILED or STORAGE_FULL; part of it may stand then. Blocking."""

def write_files(directory: str, files: Sequence[tuple[str, bytes]]) -> None:
    """Each of `files`, which are there directly in `directory`, has this content; one that has it already is not
    written. In place: they may be mounted. Links are not followed. Raises IO_FAILED or STORAGE_FULL. Blocking."""

def read_beginnings(paths: Sequence[str], max_bytes: int) -> list[bytes]:
    """The first `max_bytes` of each file; nothing of one that cannot be read. Blocking."""

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
