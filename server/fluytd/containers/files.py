"""What callers do with a container's files as a whole: list what was changed, send them, make an image of them."""

import asyncio
from collections.abc import AsyncGenerator, Callable, Sequence
from dataclasses import dataclass
from typing import Final, TypeVar

from fluytd.containers import commit
from fluytd.containers.commit import CommitRequest, check_readable, tree_of
from fluytd.containers.context import Context
from fluytd.containers.tree_ports import Change, Commits, Trees
from fluytd.images.commit import Committed

T = TypeVar("T")

#: Bytes of one part of an export, all but the last; what the API promises as the most.
CHUNK_BYTES: Final = 256 * 1024


@dataclass(frozen=True, slots=True)
class Exported:
    """The end of an export: all of it was sent."""

    size_bytes: int
    entry_count: int


class ContainerFiles:
    """Belongs to the event loop. A reference is an id, a beginning of one, or a name."""

    def __init__(self, ctx: Context, trees: Trees, commits: Commits) -> None:
        """Over the containers of `ctx`."""
        self._ctx = ctx
        self._trees = trees
        self._commits = commits

    async def list_changes(self, reference: str) -> Sequence[Change]:
        """All that differs from the image, a directory before what is in it.

        Raises CONTAINER_NOT_FOUND, CONTAINER_AMBIGUOUS, CONTAINER_WRONG_STATE, FILE_UNREPRESENTABLE, LIMIT_EXCEEDED.
        """
        tree = tree_of(self._ctx, check_readable(self._ctx.table.find(reference)))
        cancel = self._trees.new_cancel_token()
        try:
            return await self._trees.list_changes(tree, cancel)
        finally:
            cancel.cancel()

    async def export(self, reference: str) -> AsyncGenerator[bytes | Exported, None]:
        """Yields the tar of the whole tree in parts of at most CHUNK_BYTES, then `Exported`.

        Nothing is read ahead of the caller, however slow, and nothing is locked: a container that runs goes on, and
        changes what is not read yet.

        Raises as `list_changes`; CONTAINER_NOT_FOUND or CONTAINER_WRONG_STATE also if it is deleted meanwhile, without
        `Exported` then.
        """
        entry = self._ctx.table.find(reference)
        tree = tree_of(self._ctx, check_readable(entry))
        cancel = self._trees.new_cancel_token()
        archive = await self._ctx.workers.run(self._trees.open_archive, tree, cancel)
        size = 0
        try:
            while chunk := await self._call(lambda: archive.read(CHUNK_BYTES)):
                size += len(chunk)
                yield chunk
        finally:
            await self._call(archive.close)
        # Of one that is being deleted, files were missing from some moment on.
        check_readable(entry)
        yield Exported(size, archive.entry_count)

    async def commit(self, reference: str, request: CommitRequest, actor: str) -> Committed:
        """See `commit.commit`. Cancelled before the image is visible, it leaves nothing, and has ended on return."""
        entry = self._ctx.table.find(reference)
        cancel = self._trees.new_cancel_token()
        work = commit.commit(self._ctx, entry, request, self._commits, cancel, actor)
        task = self._ctx.spawn(work, "commit")
        try:
            return await asyncio.shield(task)
        except asyncio.CancelledError:
            cancel.cancel()
            await asyncio.wait({task})
            raise

    async def _call(self, call: Callable[[], T]) -> T:
        return await self._ctx.workers.run_to_end(call)
