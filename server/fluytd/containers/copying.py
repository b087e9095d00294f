"""Files into and out of one container: through its own mounts while it runs, else through layers put together for it.

While it runs its own root is used, so that volumes, tmpfs and binds are seen; an end breaks the copy off, since the
next start must find the writable layer in nobody's hands. While it does not run, copying in holds the container's lock
for the same reason; copying out reads a view that needs none.

What is copied may lie on file systems that answer no more. Those that do not answer at first are refused
(`mount_sources.py`); one that falls silent later keeps its copy's threads, which are of no other use.
"""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from dataclasses import dataclass
from functools import partial
from typing import Final, TypeVar

from fluytd import failpoints
from fluytd.containers.commit import check_readable
from fluytd.containers.context import Context
from fluytd.containers.copy_ports import Copies, CopyArchive, CopyReceiver, CopyRoot, Cover
from fluytd.containers.files import CHUNK_BYTES, Exported
from fluytd.containers.model import Container, State
from fluytd.containers.release import released
from fluytd.containers.root_mounts import INIT_PATH, mounts
from fluytd.containers.start_facts import StartPaths
from fluytd.containers.table import Entry, Run
from fluytd.errors import Cancelled, ContainerWrongState, FieldInvalid, IoFailed, LimitExceeded, ProcessNotFound
from fluytd.operations.ports import CancelToken
from fluytd.workers import FOREIGN_WORKERS

T = TypeVar("T")

#: Copies under way at once. Each has a call that reads or writes, and one that ends it.
MAX_COPIES: Final = FOREIGN_WORKERS // 2
#: How long a caller that copies into a container which does not run may send nothing: the container cannot start then.
MAX_IDLE_SECONDS: Final = 120
_ALIVE: Final = frozenset({State.RUNNING, State.PAUSED, State.STOPPING})


@dataclass(frozen=True, slots=True)
class FileInfo:
    """What a path in a container is."""

    name: bytes
    size_bytes: int
    #: Type and permission bits, as stat(2) has them.
    mode: int
    modify_time_unix_nanos: int
    link_target: bytes


@dataclass(frozen=True, slots=True)
class CopyRequest:
    """What a caller says about files before it sends them."""

    reference: str
    path: bytes
    keep_owners: bool
    replace_kinds: bool


@dataclass(frozen=True, slots=True)
class Copied:
    """What was unpacked."""

    entry_count: int
    size_bytes: int


class ContainerCopies:
    """Belongs to the event loop. A reference is an id, a beginning of one, or a name; a path is absolute, inside."""

    def __init__(self, ctx: Context, copies: Copies) -> None:
        """Over the containers of `ctx`."""
        self._ctx = ctx
        self._copies = copies
        self._count = 0

    async def copy_from(
        self, reference: str, path: bytes, *, follow_link: bool
    ) -> AsyncGenerator[FileInfo | bytes | Exported, None]:
        """Yields what the path is, its tar in parts of at most CHUNK_BYTES, then `Exported`. Nothing is read ahead of
        the caller.

        Raises CONTAINER_NOT_FOUND, CONTAINER_AMBIGUOUS, CONTAINER_WRONG_STATE (also if it ends or goes meanwhile),
        FIELD_INVALID, PATH_NOT_FOUND, PATH_WRONG_KIND, FILE_NOT_COPYABLE, LIMIT_EXCEEDED, KERNEL_FEATURE_MISSING,
        IO_FAILED.
        """
        check_path(path)
        entry = self._ctx.table.find(reference)
        cancel = self._copies.new_cancel_token()
        with self._counted():
            held = await self._hold(entry, path, is_written=False)
            try:
                archive = await self._call(
                    partial(held.root.open_archive, path, follow_link=follow_link, cancel=cancel)
                )
            except BaseException:
                held.let_go()
                raise
            watch = None if held.run is None else self._ctx.spawn(_end_with(self._ctx, held, archive, cancel), "copy")
            try:
                yield FileInfo(
                    name=archive.name,
                    size_bytes=archive.size_bytes,
                    mode=archive.mode,
                    modify_time_unix_nanos=archive.modify_time_unix_nanos,
                    link_target=archive.link_target,
                )
                size = 0
                while chunk := await self._call(partial(archive.read, CHUNK_BYTES)):
                    size += len(chunk)
                    yield chunk
                held.check()
                # Of one that is being deleted, files were missing from some moment on.
                check_readable(entry)
                yield Exported(size, archive.entry_count)
            except Cancelled:
                held.check()
                raise
            finally:
                if watch is not None:
                    watch.cancel()
                cancel.cancel()
                try:
                    await self._call(archive.close)
                finally:
                    held.let_go()  # also where the caller goes just now: the next start waits for this

    async def copy_to(self, request: CopyRequest, chunks: AsyncIterator[bytes]) -> Copied:
        """All entries of the tar are in the directory. Whatever goes wrong, what came before stays, each file whole.

        Raises as `copy_from`, and FILE_SYSTEM_READ_ONLY, ENTRY_REJECTED, TAR_CORRUPT, STORAGE_FULL, USER_INVALID, and
        what `chunks` raises. Locks: the container's, if it does not run.
        """
        check_path(request.path)
        entry = self._ctx.table.find(request.reference)
        with self._counted():
            held = await self._hold(entry, request.path, is_written=True)
            try:
                user = None if request.keep_owners else entry.container.resolved.user
                begin = partial(held.root.open_receiver, user=user, replace_kinds=request.replace_kinds)
                receiver = await self._call(partial(begin, request.path))
                try:
                    entries, size = await self._receive(held, receiver, chunks)
                except BaseException:
                    await self._call(receiver.abort)
                    raise
            finally:
                held.let_go()
        return Copied(entries, size)

    async def _receive(self, held: "_Held", receiver: CopyReceiver, chunks: AsyncIterator[bytes]) -> tuple[int, int]:
        iterator = aiter(chunks)
        while (piece := await held.next_of(iterator)) is not None:
            failpoints.hit("container.copy.write")
            await self._call(partial(receiver.write, piece))
        failpoints.hit("container.copy.finish")
        return await self._call(receiver.finish)

    async def _hold(self, entry: Entry, path: bytes, *, is_written: bool) -> "_Held":
        """The container's tree; with the run whose processes see it, if there is one. No start comes before it is let
        go."""
        while True:
            run = await self._running(entry)
            if run is not None:
                root = await self._open_running(entry, run, path)
                if root is not None:
                    return _Held(entry, root, run)
            elif not is_written:
                return _Held(entry, await self._open_stopped(check_readable(entry), is_written=False), None)
            elif (held := await self._hold_stopped(entry)) is not None:
                return held

    async def _hold_stopped(self, entry: Entry) -> "_Held | None":
        """None if it was started meanwhile."""
        await entry.lock.acquire()
        try:
            container = check_readable(entry)
            if container.state in _ALIVE:
                entry.lock.release()
                return None
            if entry.release is not None:
                await released(self._ctx, entry)
            failpoints.hit("container.copy.begin")
            return _Held(entry, await self._open_stopped(container, is_written=True), None, is_locked=True)
        except BaseException:
            entry.lock.release()
            raise

    async def _running(self, entry: Entry) -> Run | None:
        run = entry.run
        if run is not None and run.ended.is_set():
            await run.final()
            run = None
        check_readable(entry)
        return run if entry.container.state in _ALIVE else None

    async def _open_running(self, entry: Entry, run: Run, path: bytes) -> CopyRoot | None:
        """None if it has just ended."""
        subject, ids = f"container {entry.container.id}", entry.container.ids
        failpoints.hit("container.copy.begin")
        try:
            if self._ctx.sources is not None:
                await self._ctx.sources.check_inside(run.process, path)
            return await self._call(lambda: self._copies.running(run.process.open_root_fd(), subject, ids))
        except ProcessNotFound:
            await run.final()
            return None
        except ValueError:
            # What belonged to the run was closed in this moment.
            if not run.ended.is_set():
                raise
            await run.final()
            return None

    async def _open_stopped(self, container: Container, *, is_written: bool) -> CopyRoot:
        ctx = self._ctx
        lower_dirs = await self._call(partial(ctx.images.lower_dirs, container.image))
        paths = ctx.directories.paths(container, lower_dirs)
        covered = covers(container, paths)
        if ctx.sources is not None:
            await ctx.sources.check_paths([cover.source for cover in covered])

        def make() -> CopyRoot:
            return self._copies.stopped(
                paths,
                covered,
                f"container {container.id}",
                is_root_read_only=container.spec.read_only_root,
                is_written=is_written,
            )

        try:
            return await self._call(make)
        except IoFailed:
            # What goes just now has lost a part of its files already.
            check_readable(self._ctx.table.find(container.id))
            raise

    def _counted(self) -> "_Counted":
        if self._count >= MAX_COPIES:
            raise LimitExceeded(
                limit="MAX_COPIES", limit_value=MAX_COPIES, actual=self._count + 1, subject="copies under way"
            )
        return _Counted(self)

    async def _call(self, call: Callable[[], T]) -> T:
        """See `Workers.run_foreign`."""
        return await self._ctx.workers.run_foreign(call)


class _Held:
    """A container's tree in the hands of one copy."""

    def __init__(self, entry: Entry, root: CopyRoot, run: Run | None, *, is_locked: bool = False) -> None:
        self.root = root
        self.run = run
        self._entry = entry
        self._is_locked = is_locked
        self._done: asyncio.Future[None] | None = None
        if run is not None:
            self._done = asyncio.get_running_loop().create_future()
            entry.copying.add(self._done)

    def let_go(self) -> None:
        """The next start may come. Idempotent."""
        if hasattr(self, "root"):
            del self.root
        if self._done is not None and not self._done.done():
            self._entry.copying.discard(self._done)
            self._done.set_result(None)
        if self._is_locked:
            self._is_locked = False
            self._entry.lock.release()

    def check(self) -> None:
        """Raises CONTAINER_WRONG_STATE if its processes have ended since."""
        if self.run is not None and self.run.ended.is_set():
            allowed = sorted(state.value for state in _ALIVE)
            container_id = self._entry.container.id
            raise ContainerWrongState(id=container_id, state=State.EXITED.value, allowed_states=allowed)

    async def next_of(self, iterator: AsyncIterator[bytes]) -> bytes | None:
        """The caller's next piece; None at the end. Raises as `check`, and LIMIT_EXCEEDED (MAX_IDLE_SECONDS)."""
        coming = asyncio.ensure_future(_next(iterator))
        ended = None if self.run is None else asyncio.ensure_future(self.run.ended.wait())
        waited = {coming} if ended is None else {coming, ended}
        try:
            timeout = MAX_IDLE_SECONDS if ended is None else None
            await asyncio.wait(waited, timeout=timeout, return_when=asyncio.FIRST_COMPLETED)
            self.check()
            if not coming.done():
                limit, subject = MAX_IDLE_SECONDS, "seconds without a piece of the archive"
                raise LimitExceeded(limit="MAX_IDLE_SECONDS", limit_value=limit, actual=limit, subject=subject)
            return coming.result()
        finally:
            for task in waited:
                task.cancel()
            # What takes the caller's piece may be at work with its stream: nothing is answered beside it.
            await asyncio.wait(waited)


async def _end_with(ctx: Context, held: _Held, archive: CopyArchive, cancel: CancelToken) -> None:
    """However slow its reader is, the tree is given up once the container has ended."""
    if held.run is not None:
        await held.run.ended.wait()
        cancel.cancel()
        await ctx.workers.run_foreign(archive.close)
        held.let_go()


class _Counted:
    """Counts a copy while it is under way."""

    def __init__(self, copies: ContainerCopies) -> None:
        self._copies = copies

    def __enter__(self) -> None:
        self._copies._count += 1

    def __exit__(self, *_: object) -> None:
        self._copies._count -= 1


def check_path(path: bytes) -> None:
    """Raises FIELD_INVALID unless it is absolute and has no NUL."""
    if not path.startswith(b"/") or b"\0" in path:
        raise FieldInvalid(field="path", rule="must be an absolute path without NUL")


def covers(container: Container, paths: StartPaths) -> list[Cover]:
    """What a start would bind, parents first: files of the host and volumes of the engine's own. File systems in memory
    are empty until then; what drivers, images and file systems of options would show is seen only while it runs."""
    foreign = {volume.target for volume in container.resolved.volumes if volume.driver != "local"}
    return [
        Cover(mount.destination, mount.source, mount.sub_path, mount.is_read_only)
        for mount in mounts(container, paths, INIT_PATH)
        if mount.kind == "bind" and mount.destination != INIT_PATH and mount.destination not in foreign
    ]


async def _next(chunks: AsyncIterator[bytes]) -> bytes | None:
    return await anext(chunks, None)
