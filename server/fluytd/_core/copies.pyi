"""Files into and out of containers. `subject` is what errors call the container.

Every path is resolved beneath the container's root by descriptor: links are walked inside it, whatever is renamed
meanwhile (case Z03). Everything here blocks.
"""

from collections.abc import Sequence
from typing import final

from fluytd.containers.copy_ports import Cover

from . import CancelToken

@final
class ContainerRoot:
    """A container's tree as its processes see it, or would. Nothing of it is mounted where the host could see it; it goes
    with the last object that uses it."""

    @staticmethod
    def running(root_fd: int, ids: tuple[int, int] | None) -> ContainerRoot:
        """Of a running container: `root_fd`, borrowed, is its root with all mounts. `ids`: first id outside and number of
        the ids of a container in a user namespace; archives have owners as they are inside. Raises IO_FAILED."""
    @staticmethod
    def stopped(
        lower_dirs: Sequence[str],
        upper_dir: str,
        work_dir: str,
        covers: Sequence[Cover],
        is_root_read_only: bool,
        is_written: bool,
    ) -> ContainerRoot:
        """Of one that does not run: layers (top-most first), writable layer, and what a start would mount on them, parents
        first. With `is_written` nobody else may use the writable layer meanwhile, and what the mounts need to stand on is
        made; without, it may be in use. Raises KERNEL_FEATURE_MISSING (Linux before 6.8), PATH_WRONG_KIND, IO_FAILED."""

@final
class CopyArchive:
    """A file or directory as a tar that is made while it is read. Not to be shared between threads at once."""

    def __new__(cls, root: ContainerRoot, path: bytes, follow_link: bool, subject: str) -> CopyArchive:
        """Raises PATH_NOT_FOUND, PATH_WRONG_KIND, FILE_NOT_COPYABLE (sockets, files of proc and its like), IO_FAILED."""
    @property
    def name(self) -> bytes:
        """Last part of the path, `.` where it has none; the first entry's name."""
    @property
    def link_target(self) -> bytes:
        """Of a symbolic link; else empty."""
    @property
    def size_bytes(self) -> int: ...
    @property
    def mode(self) -> int:
        """Type and permission bits, as stat(2) has them."""
    @property
    def modify_time_unix_nanos(self) -> int: ...
    def read(self, max_bytes: int, cancel: CancelToken) -> bytes:
        """The next bytes, fewer than `max_bytes` only at the end, none after it. Raises LIMIT_EXCEEDED, FILE_NOT_COPYABLE,
        IO_FAILED, CANCELLED."""
    def close(self) -> None:
        """Its files are closed; nothing more is read. Idempotent. Waits for a `read` under way."""
    @property
    def entry_count(self) -> int:
        """Entries so far; all of them once `read` has answered nothing."""

@final
class CopyReceiver:
    """Unpacks a tar (plain, gzip or zstd) that is written to it piece by piece, on a thread of its own. Thread-safe."""

    def __new__(
        cls, root: ContainerRoot, path: bytes, user: str | None, replace_kinds: bool, subject: str
    ) -> CopyReceiver:
        """Into the directory `path`. `user`: whose all files are, by the container's own /etc/passwd; None: as the tar says.

        Raises PATH_NOT_FOUND, PATH_WRONG_KIND, FILE_SYSTEM_READ_ONLY, USER_INVALID, IO_FAILED."""
    def write(self, data: bytes) -> None:
        """The bytes are with the unpacker; waits while it is behind. Raises why it has ended, at each further call:
        ENTRY_REJECTED, TAR_CORRUPT, LIMIT_EXCEEDED, PATH_WRONG_KIND, FILE_SYSTEM_READ_ONLY, STORAGE_FULL, IO_FAILED."""
    def finish(self) -> tuple[int, int]:
        """All is unpacked: (entries, bytes of files without holes). Idempotent. Raises as `write`; TAR_CORRUPT for an
        archive without its end marker."""
    def abort(self) -> None:
        """Nothing more is written when this returns; what was unpacked stays, each file whole. Idempotent."""
