"""What copying into and out of containers needs of the core. Methods marked Blocking run on a worker thread."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from fluytd.containers.model import IdRange
from fluytd.containers.start_facts import StartPaths
from fluytd.containers.tree_ports import TreeArchive
from fluytd.operations.ports import CancelToken


@dataclass(frozen=True, slots=True)
class Cover:
    """What a start would mount, and copies see though nothing is mounted."""

    #: Absolute, inside.
    target: str
    #: Path on the host.
    source: str
    #: Beneath the source, which it cannot leave; empty: all of it.
    sub_path: str
    is_read_only: bool


class CopyArchive(TreeArchive, Protocol):
    """A file or directory as tar, made while it is read; by one thread at a time."""

    @property
    def name(self) -> bytes:
        """Last part of its path, `.` where it has none."""

    @property
    def link_target(self) -> bytes:
        """Of a symbolic link; else empty."""

    @property
    def size_bytes(self) -> int:
        """Its size."""

    @property
    def mode(self) -> int:
        """Type and permission bits, as stat(2) has them."""

    @property
    def modify_time_unix_nanos(self) -> int:
        """When its content last changed."""


class CopyReceiver(Protocol):
    """Unpacks a tar that comes piece by piece. Thread-safe."""

    def write(self, data: bytes) -> None:
        """The bytes are with the unpacker. Raises why it has ended. Blocking while it is behind."""

    def finish(self) -> tuple[int, int]:
        """All is unpacked: (entries, bytes). Raises as `write`, and TAR_CORRUPT for a cut archive. Blocking."""

    def abort(self) -> None:
        """Nothing more is written; what was unpacked stays. Idempotent. Blocking."""


class CopyRoot(Protocol):
    """A container's tree, for as long as it is held."""

    def open_archive(self, path: bytes, *, follow_link: bool, cancel: CancelToken) -> CopyArchive:
        """Raises PATH_NOT_FOUND, PATH_WRONG_KIND, FILE_NOT_COPYABLE, IO_FAILED. Blocking."""

    def open_receiver(self, path: bytes, *, user: str | None, replace_kinds: bool) -> CopyReceiver:
        """Into the directory `path`; `user`: whose the files are, None: as the tar says.

        Raises PATH_NOT_FOUND, PATH_WRONG_KIND, FILE_SYSTEM_READ_ONLY, USER_INVALID, IO_FAILED. Blocking.
        """


class Copies(Protocol):
    """Trees of containers to copy from and into."""

    def new_cancel_token(self) -> CancelToken:
        """A token that reading looks at."""

    def running(self, root_fd: int, subject: str, ids: IdRange | None) -> CopyRoot:
        """Of a running container, whose root `root_fd` is, closed by this, and whose users `ids` are. Raises
        IO_FAILED. Blocking."""

    def stopped(
        self, paths: StartPaths, covers: Sequence[Cover], subject: str, *, is_root_read_only: bool, is_written: bool
    ) -> CopyRoot:
        """Of one that does not run and, with `is_written`, is not started meanwhile.

        Raises KERNEL_FEATURE_MISSING, IO_FAILED. Blocking.
        """
