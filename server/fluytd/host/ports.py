"""What the host service needs of others."""

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from fluytd.host.model import HostFacts, Storage


class Probe(Protocol):
    """Looks the host up. The functions of `probe.py`."""

    def probe(self, data_root: Path) -> HostFacts:
        """Everything about the host. Blocking."""

    def storage(self, data_root: Path) -> Storage:
        """The file system below the data root. Blocking."""


class Quotas(Protocol):
    """Bounds of what directories take, together with all that is in them. A bound is one of a project, whose number the
    record has of what is bounded: from before its directories are bound to after they are gone and it was released."""

    def check(self) -> None:
        """There can be bounds. Raises PROJECT_QUOTA_UNAVAILABLE, with the file system and the cause. Never blocks for
        long (one call of the kernel)."""

    def take(self) -> int:
        """The number of a project that nobody has; the caller records it before anything is awaited. Raises
        LIMIT_EXCEEDED, IO_FAILED. Never blocks for long (a call of the kernel for each number in use)."""

    def bind(self, directories: Sequence[str], project_id: int, limit_bytes: int) -> None:
        """These directories, empty, and what comes to stand in them take at most so much together. Raises IO_FAILED,
        STORAGE_FULL. Blocking."""

    def usage(self, project_id: int) -> int:
        """Bytes that a project takes. Raises IO_FAILED. Never blocks for long (one call of the kernel)."""

    def usage_of(self, directory: str) -> int | None:
        """Bytes that the project of a directory takes; None if it has none of this engine's. Raises IO_FAILED."""

    def release(self, project_id: int) -> None:
        """Nothing is noted of the bound of what has gone. Idempotent. Raises IO_FAILED. Blocking."""

    def sweep(self, held: frozenset[int]) -> int:
        """No project is bounded that nothing is counted for and that is not `held`; how many were. Raises IO_FAILED.
        Blocking."""
