"""What containers need of others to read their files: the tree of one, what it changed, and what is made of it."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from fluytd.images.commit import CommitOptions, Committed, Hold, Tree
from fluytd.operations.ports import CancelToken


@dataclass(frozen=True, slots=True)
class Change:
    """A path that differs from the image's."""

    #: Absolute, inside.
    path: bytes
    #: `added`, `modified` or `deleted`.
    kind: str


class TreeArchive(Protocol):
    """A container's tree as tar, made while it is read; by one thread at a time."""

    def read(self, max_bytes: int) -> bytes:
        """The next bytes, fewer only at the end, none after it.

        Raises LIMIT_EXCEEDED, IO_FAILED, CANCELLED. Blocking.
        """

    def close(self) -> None:
        """Its files are closed. Idempotent. Blocking: waits for a `read` under way."""

    @property
    def entry_count(self) -> int:
        """Entries so far."""


class Trees(Protocol):
    """Writable layers, read in place."""

    def new_cancel_token(self) -> CancelToken:
        """A token that its calls look at."""

    async def list_changes(self, tree: Tree, cancel: CancelToken) -> Sequence[Change]:
        """All changes, a directory before what is in it.

        Raises FILE_UNREPRESENTABLE, LIMIT_EXCEEDED, LAYER_NOT_FOUND, IO_FAILED, CANCELLED.
        """

    def open_archive(self, tree: Tree, cancel: CancelToken) -> TreeArchive:
        """The whole tree. Raises LAYER_NOT_FOUND, IO_FAILED. Blocking."""


class Commits(Protocol):
    """Makes images; implemented by `images.commit.Committer`."""

    async def commit(
        self, tree: Tree, options: CommitOptions, hold: Hold, cancel: CancelToken, actor: str
    ) -> Committed:
        """See `images.commit.Committer.commit`."""
