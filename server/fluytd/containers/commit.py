"""Making an image of a container: what is read, while the container holds still, and what the image is to be.

How the image itself is made stands in `images/commit.py`.
"""

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Final

from fluytd import failpoints
from fluytd.containers.context import Context
from fluytd.containers.model import Container, State
from fluytd.containers.root_mounts import mount_points
from fluytd.containers.spec import ContainerSpec
from fluytd.containers.table import Entry
from fluytd.containers.transitions import check_state
from fluytd.containers.tree_ports import Commits
from fluytd.errors import ContainerNotFound, EngineError, FieldInvalid, IoFailed, LimitExceeded
from fluytd.ids import ImageReference
from fluytd.images.commit import CommitOptions, Committed, Tree
from fluytd.operations.ports import CancelToken

_log = logging.getLogger(__name__)

#: Bytes of a remark or an author's name: they stand in the config, which has a bound of its own.
MAX_REMARK_BYTES: Final = 64 * 1024
#: States in which a container has a tree that is its own.
READABLE: Final = frozenset({State.CREATED, State.EXITED, State.RUNNING, State.PAUSED, State.STOPPING, State.UNKNOWN})
_RUNNING: Final = frozenset({State.RUNNING, State.STOPPING})


@dataclass(frozen=True, slots=True)
class CommitRequest:
    """What a caller asks of a commit."""

    reference: ImageReference | None
    changes: tuple[str, ...]
    message: str
    author: str
    no_pause: bool


def tree_of(ctx: Context, container: Container) -> Tree:
    """Where the container's files are."""
    paths = ctx.directories.paths(container, ())
    return Tree(
        subject=f"container {container.id}",
        upper_dir=paths.upper_dir,
        layer_ids=container.image.layer_ids,
        mount_points=mount_points(container, paths),
    )


def check_readable(entry: Entry) -> Container:
    """The container as it is. Raises CONTAINER_NOT_FOUND, CONTAINER_WRONG_STATE if it has no tree."""
    container = entry.container
    if entry.removed.is_set():
        raise ContainerNotFound(id=container.id)
    check_state(container, READABLE)
    return container


def check(request: CommitRequest) -> None:
    """Raises FIELD_INVALID (`reference`), LIMIT_EXCEEDED (MAX_REMARK_BYTES)."""
    if request.reference is not None and request.reference.digest:
        raise FieldInvalid(field="reference", rule="must have no digest: the image's is not known before")
    for field, text in (("message", request.message), ("author", request.author)):
        size = len(text.encode())
        if size > MAX_REMARK_BYTES:
            raise LimitExceeded(limit="MAX_REMARK_BYTES", limit_value=MAX_REMARK_BYTES, actual=size, subject=field)


async def commit(
    ctx: Context, entry: Entry, request: CommitRequest, commits: Commits, cancel: CancelToken, actor: str
) -> Committed:
    """The container's present tree is an image, visible whole; the container goes on as it was.

    Raises CONTAINER_NOT_FOUND, CONTAINER_WRONG_STATE, CGROUP_BUSY if it cannot be frozen, and what
    `images.commit.Committer.commit` raises. Locks: the container's, while its files are read, unless it runs on.
    """
    check(request)
    container = check_readable(entry)
    options = CommitOptions(
        base_image_id=container.image.image_id,
        reference=request.reference,
        run=run_of(container.spec),
        env=container.spec.env,
        labels=container.spec.labels,
        changes=request.changes,
        comment=request.message,
        author=request.author,
        container_id=container.id,
        container_name=container.name,
    )

    @asynccontextmanager
    async def hold() -> AsyncIterator[None]:
        if request.no_pause and entry.container.state in _RUNNING:
            check_readable(entry)
            yield
            # Files of a container that is being deleted vanish one by one; what was read of it is no tree of its own.
            check_readable(entry)
            return
        async with entry.lock:
            check_readable(entry)
            async with _frozen(ctx, entry):
                yield

    return await commits.commit(tree_of(ctx, container), options, hold, cancel, actor)


@asynccontextmanager
async def _frozen(ctx: Context, entry: Entry) -> AsyncIterator[None]:
    """None of its processes runs. The caller holds the lock. If the daemon dies within, recovery thaws it."""
    run = entry.run
    if entry.container.state not in _RUNNING or run is None or run.ended.is_set():
        yield
        return
    failpoints.hit("container.commit.freeze")
    try:
        try:
            await ctx.workers.run(ctx.runtime.freeze, entry.container.id)
        except IoFailed:
            # Its group goes with its last process.
            await asyncio.sleep(0)
            if not run.ended.is_set():
                raise
        yield
    finally:
        failpoints.hit("container.commit.thaw")
        await asyncio.shield(ctx.spawn(_thaw(ctx, entry), f"thaw of {entry.container.id}"))


async def _thaw(ctx: Context, entry: Entry) -> None:
    run = entry.run
    try:
        await ctx.workers.run(ctx.runtime.thaw, entry.container.id)
    except EngineError as error:
        if run is not None and not run.ended.is_set():
            _log.error("container %s: it could not be thawed: %s", entry.container.id, error)
            raise


def run_of(spec: ContainerSpec) -> dict[str, object]:
    """What the container was asked to run with, in the names of an image's config; its image's own is left out.

    Source: moby `daemon/commit.go`, where a container's config stands over its image's.
    """
    run: dict[str, object] = {}
    if spec.entrypoint is not None:
        run |= {"Entrypoint": list(spec.entrypoint) or None, "Cmd": list(spec.args) or None}
    elif spec.args:
        run["Cmd"] = list(spec.args)
    texts = {"User": spec.user, "WorkingDir": spec.working_dir, "StopSignal": spec.stop_signal}
    return run | {name: text for name, text in texts.items() if text}
