"""The mounts of a RUN: what is written out for it, what is kept for the next one, and what goes with it.

<room>/mounts/<n>                 a copy of what a bind shows, for this step alone (case B21)
D/build_mounts/<digest of id>-<n> a cache; its name is made of the id, which is never a path (case Z07)
D/build_mounts/<digest of id>.id  that id, for people; written before the first cache of it
R/builds/<room>-<n>               a secret, below the run root, which is a file system in memory; gone with the step
R/builds/<room>-<n>/agent         the socket of an agent, likewise; see `agent_sockets`
"""

import asyncio
import contextlib
import hashlib
import logging
import os
import shutil
from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from fluytd import failpoints
from fluytd.builds.agent_sockets import AgentSocket, served
from fluytd.builds.agents import AgentSession
from fluytd.builds.dockerfile.origins import BindMount, CacheMount, SecretMount, SshMount, TmpfsMount
from fluytd.builds.dockerfile.steps import RunStep
from fluytd.builds.model import CacheRecord
from fluytd.builds.ports import Selection, Trees
from fluytd.containers.spec import BindSpec, TmpfsSpec
from fluytd.errors import BuildAgentMissing, BuildSecretMissing, EngineError, IoFailed
from fluytd.operations.ports import CancelToken
from fluytd.workers import Workers

_log = logging.getLogger(__name__)

_PRIVATE = 0o700
#: Of a cache's id, as lists show it.
_ID_CHARS: Final = 200
#: Where agents are, with the number among the step's; and the variable that names the first. Source: BuildKit llb.
_AGENT_TARGET: Final = "/run/buildkit/ssh_agent."
_AGENT_VARIABLE: Final = "SSH_AUTH_SOCK"


#: Fills the empty directory of a cache, given the cache's name; False if there is nothing to fill it with.
Restore = Callable[[str, str], Awaitable[bool]]


@dataclass(frozen=True, slots=True)
class MountUse:
    """A cache as a step names it."""

    id: str
    #: `shared`, `private`, `locked`.
    sharing: str

    @property
    def name(self) -> str:
        """What its directories are called, before their numbers."""
        return hashlib.sha256(self.id.encode()).hexdigest()


@dataclass(slots=True)
class Mounted:
    """What a step is started with."""

    binds: list[BindSpec] = field(default_factory=list)
    tmpfs: list[TmpfsSpec] = field(default_factory=list)
    #: `NAME=value` of secrets and agents.
    env: list[str] = field(default_factory=list)
    agents: list[AgentSocket] = field(default_factory=list)

    @property
    def fault(self) -> EngineError | None:
        """Why the step lost an agent that it had; None: it lost none."""
        return next((agent.fault for agent in self.agents if agent.fault is not None), None)


class StepMounts:
    """Makes mounts of steps. Belongs to the event loop."""

    def __init__(
        self, data_root: Path, run_root: Path, trees: Trees, workers: Workers, remove_tree: Callable[[str], None]
    ) -> None:
        """Caches of earlier daemons are there; secrets of theirs are gone. Raises IO_FAILED. Blocking."""
        self._caches = data_root / "build_mounts"
        self._scratch = data_root / "build_scratch"
        self._secrets = run_root / "builds"
        self._trees = trees
        self._workers = workers
        self._remove_tree = remove_tree
        self._locks: dict[str, asyncio.Lock] = defaultdict(asyncio.Lock)
        self._private: set[str] = set()
        self._used: Counter[str] = Counter()
        #: A cache was mounted since the bound was last looked after.
        self._has_grown = False
        for stale in (self._secrets, self._scratch):
            remove_tree(str(stale))
            stale.mkdir(mode=_PRIVATE, parents=True)
        self._caches.mkdir(mode=_PRIVATE, parents=True, exist_ok=True)
        for part in self._caches.glob("*.part"):
            remove_tree(str(part))
        # Of caches that a killed daemon had begun to make.
        for text in self._caches.glob("*.id"):
            _drop_id(self._caches, text.stem)

    @property
    def scratch(self) -> Path:
        """Below the data root: what goes with the step or build that made it."""
        return self._scratch

    @property
    def private(self) -> Path:
        """The same below the run root, for what is secret."""
        return self._secrets

    @asynccontextmanager
    async def made(
        self,
        room_id: str,
        step: RunStep,
        selections: Mapping[int, Selection],
        secrets: Mapping[str, bytes],
        agents: AgentSession | None,
        restore: Restore | None,
        cancel: CancelToken,
    ) -> AsyncIterator[Mounted]:
        """A block in which the mounts of the step are there.

        Args:
            selections: by the mount's place, what a bind shows and what an empty cache begins with.
            secrets: by id.
            agents: of the build's caller; None: it serves none.
            restore: fills caches that are absent or empty.

        Raises BUILD_SECRET_MISSING, BUILD_AGENT_MISSING, BUILD_AGENT_GONE, STORAGE_FULL, IO_FAILED, CANCELLED.
        """
        mounted = Mounted()
        targets = (
            mount.target or f"{_AGENT_TARGET}{number}"
            for number, mount in enumerate(mount for mount in step.mounts if isinstance(mount, SshMount))
        )
        async with AsyncExitStack() as undo:
            for index, mount in enumerate(step.mounts):
                match mount:
                    case BindMount():
                        source = await self._copy(room_id, index, selections[index], cancel, undo)
                        mounted.binds.append(BindSpec(mount.target, source, read_only=mount.is_read_only))
                    case CacheMount():
                        source = await self._cache(mount, selections.get(index), restore, cancel, undo)
                        mounted.binds.append(BindSpec(mount.target, source, read_only=mount.is_read_only))
                    case TmpfsMount():
                        options = {"exec": True, "suid": True, "dev": True}
                        mounted.tmpfs.append(TmpfsSpec(mount.target, size_bytes=mount.size_bytes, **options))
                    case SecretMount():
                        await self._secret(room_id, index, mount, secrets, mounted, undo)
                    case SshMount():
                        await self._agent(f"{room_id}-{index}", mount, next(targets), step.env, agents, mounted, undo)
            if step.script is not None:
                path = self._scratch / f"{room_id}-script"
                await self._workers.run(_write, path, step.script.content.encode(), 0o755, 0, 0)
                undo.push_async_callback(self._workers.run, self._remove_tree, str(path))
                target = f"/dev/pipes/{step.script.name}"
                mounted.binds.append(BindSpec(target, str(path), read_only=True))
            yield mounted

    async def _copy(
        self, room_id: str, index: int, selection: Selection, cancel: CancelToken, undo: AsyncExitStack
    ) -> str:
        path = self._scratch / f"{room_id}-{index}"
        undo.push_async_callback(self._workers.run, self._remove_tree, str(path))
        failpoints.hit("build.mount.write")
        await self._workers.run(_make_directory, path)
        is_directory = await self._trees.write(selection, str(path), cancel)
        return str(path if is_directory else path / "file")

    async def _cache(
        self,
        mount: CacheMount,
        selection: Selection | None,
        restore: Restore | None,
        cancel: CancelToken,
        undo: AsyncExitStack,
    ) -> str:
        name = MountUse(mount.id, mount.sharing).name
        number = 0
        if mount.sharing == "locked":
            await undo.enter_async_context(self._locks[name])
        elif mount.sharing == "private":
            while f"{name}-{number}" in self._private:
                number += 1
            self._private.add(f"{name}-{number}")
            undo.callback(self._private.discard, f"{name}-{number}")
        path = self._caches / f"{name}-{number}"
        self._used[path.name] += 1
        self._has_grown = True
        undo.callback(self._unused, path.name)
        async with self._locks[f"{name}-{number} made"]:
            is_there = await self._workers.run(path.exists)
            # One that is empty may be filled while nobody else has it mounted.
            is_alone = restore is not None and self._used[path.name] == 1
            if not is_there or (is_alone and await self._workers.run(_is_empty, path)):
                await self._make(path, mount, selection, restore, cancel, is_there=is_there)
        await self._workers.run(os.utime, path)
        return str(path)

    async def _make(
        self,
        path: Path,
        mount: CacheMount,
        selection: Selection | None,
        restore: Restore | None,
        cancel: CancelToken,
        *,
        is_there: bool,
    ) -> None:
        """The cache is there with all that it begins with; an empty one that is there stays if nothing fills it."""
        name, part = path.name.partition("-")[0], path.with_suffix(".part")
        failpoints.hit("build.mount.write")
        await self._workers.run(_write_id, self._caches / f"{name}.id", mount.id)
        await self._workers.run(_make_directory, part)
        if restore is None or not await restore(name, str(part)):
            # Some of it may have come before it failed.
            await self._workers.run_transfer(self._remove_tree, str(part))
            if is_there:
                return
            await self._workers.run(_make_directory, part)
            if selection is not None:
                await self._trees.write(selection, str(part), cancel)
        await self._workers.run(_give, part, mount.mode, mount.uid, mount.gid)
        await self._workers.run(part.rename, path)

    async def fill(self, mount: CacheMount, restore: Restore, cancel: CancelToken) -> None:
        """The cache has what `restore` has for it, unless it has something already. Raises as `made`."""
        async with AsyncExitStack() as undo:
            await self._cache(mount, None, restore, cancel, undo)

    @asynccontextmanager
    async def held(self, use: MountUse) -> AsyncIterator[str | None]:
        """A block in which the directory of a cache can be read, by the rules of its sharing: a locked one is nobody
        else's meanwhile, of private ones it is one that nobody has; None if there is none."""
        name = f"{use.name}-0"
        async with AsyncExitStack() as undo:
            if use.sharing == "locked":
                await undo.enter_async_context(self._locks[use.name])
            elif use.sharing == "private":
                if name in self._private:
                    yield None
                    return
                self._private.add(name)
                undo.callback(self._private.discard, name)
            self._used[name] += 1
            undo.callback(self._unused, name)
            path = self._caches / name
            yield str(path) if await self._workers.run(path.is_dir) else None

    async def size_of(self, directory: str) -> int:
        """Bytes of the files of a cache."""
        return await self._workers.run_transfer(_size_of, directory)

    async def _secret(
        self,
        room_id: str,
        index: int,
        mount: SecretMount,
        secrets: Mapping[str, bytes],
        mounted: Mounted,
        undo: AsyncExitStack,
    ) -> None:
        value = secrets.get(mount.id)
        if value is None:
            if mount.is_required:
                raise BuildSecretMissing(id=mount.id)
            return
        if mount.env:
            mounted.env.append(f"{mount.env}={value.decode(errors='surrogateescape')}")
        if mount.target is None:
            return
        path = self._secrets / f"{room_id}-{index}"
        undo.push_async_callback(self._workers.run, self._remove_tree, str(path))
        await self._workers.run(_write, path, value, mount.mode, mount.uid, mount.gid)
        mounted.binds.append(BindSpec(mount.target, str(path), read_only=True))

    async def _agent(
        self,
        name: str,
        mount: SshMount,
        target: str,
        step_env: tuple[str, ...],
        agents: AgentSession | None,
        mounted: Mounted,
        undo: AsyncExitStack,
    ) -> None:
        named = f"{_AGENT_VARIABLE}="
        # The first mount's, unless the stage has a value for it; also where there is no agent (case of BuildKit's llb).
        if not any(one.startswith(named) for one in (*step_env, *mounted.env)):
            mounted.env.append(f"{named}{target}")
        if agents is None or mount.id not in agents.ids:
            if mount.is_required:
                raise BuildAgentMissing(id=mount.id, purpose="the step requires")
            return
        owner = (mount.mode, mount.uid, mount.gid)
        agent = await undo.enter_async_context(
            served(agents, mount.id, self._secrets / name, owner, self._workers, self._remove_tree)
        )
        mounted.agents.append(agent)
        mounted.binds.append(BindSpec(target, str(agent.path), read_only=True))

    def _unused(self, name: str) -> None:
        self._used[name] -= 1
        if not self._used[name]:
            del self._used[name]

    def is_in_use(self, name: str) -> bool:
        """A step has the cache mounted now."""
        return name in self._used

    async def list_caches(self) -> list[CacheRecord]:
        """The caches that are kept, with their sizes. Blocking work runs on a thread."""
        return await self._workers.run_transfer(self._list_caches)

    def _list_caches(self) -> list[CacheRecord]:
        found: list[CacheRecord] = []
        for entry in sorted(os.scandir(self._caches), key=lambda one: one.name):
            name, _, number = entry.name.partition("-")
            if not number.isdecimal() or not entry.is_dir(follow_symlinks=False):
                continue
            status = entry.stat(follow_symlinks=False)
            size_bytes = _size_of(entry.path)
            text = _read_id(self._caches / f"{name}.id")
            made = (status.st_mtime_ns, status.st_mtime_ns)
            record = CacheRecord(
                entry.name, f"cache mount {text}"[:_ID_CHARS], None, *made, is_mount=True, mount_size_bytes=size_bytes
            )
            found.append(record)
        return found

    async def trim(self, max_bytes: int) -> None:
        """Caches of at most so many bytes are kept, those unused longest go; nothing is looked at that nobody used."""
        if not self._has_grown:
            return
        self._has_grown = False
        records = await self.list_caches()
        size_bytes = sum(record.size_bytes for record in records)
        for record in sorted(records, key=lambda one: one.use_time_unix_nanos):
            if size_bytes <= max_bytes:
                return
            if await self.delete_cache(record.key):
                size_bytes -= record.size_bytes
                _log.info("the caches of RUN gave up %s, %d bytes", record.description, record.size_bytes)

    async def delete_cache(self, name: str) -> bool:
        """The cache is gone, unless a step has it mounted, which is answered by False. Raises IO_FAILED."""
        async with self._locks[f"{name} made"]:
            if self.is_in_use(name):
                return False
            failpoints.hit("build.mount.delete")
            # Gone at once: a step that comes meanwhile makes it anew, and the next start removes what is left.
            gone = self._caches / f"{name}.gone.part"
            await self._workers.run(_renamed, self._caches / name, gone)
        await self._workers.run_transfer(self._remove_tree, str(gone))
        prefix = name.partition("-")[0]
        await self._workers.run(_drop_id, self._caches, prefix)
        return True


def _size_of(path: str) -> int:
    """Bytes of the files below; of what goes meanwhile nothing is counted."""
    size_bytes = 0
    for _, _, names, fd in os.fwalk(path):
        for name in names:
            with contextlib.suppress(FileNotFoundError):
                size_bytes += os.lstat(name, dir_fd=fd).st_size
    return size_bytes


def _write_id(path: Path, text: str) -> None:
    try:
        path.write_bytes(os.fsencode(text)[:_ID_CHARS])
    except OSError as error:
        raise IoFailed(operation="write", path=str(path), errno=error.errno) from error


def _read_id(path: Path) -> str:
    """The id of a cache; empty for one that was made before ids were kept."""
    try:
        return path.read_bytes().decode(errors="replace")
    except FileNotFoundError:
        return ""
    except OSError as error:
        raise IoFailed(operation="read", path=str(path), errno=error.errno) from error


def _is_empty(path: Path) -> bool:
    try:
        with os.scandir(path) as entries:
            return next(entries, None) is None
    except OSError as error:
        raise IoFailed(operation="read", path=str(path), errno=error.errno) from error


def _renamed(path: Path, to: Path) -> None:
    try:
        path.rename(to)
    except FileNotFoundError:
        return
    except OSError as error:
        raise IoFailed(operation="rename", path=str(path), errno=error.errno) from error


def _drop_id(caches: Path, prefix: str) -> None:
    if not any(caches.glob(f"{prefix}-*")):
        (caches / f"{prefix}.id").unlink(missing_ok=True)


def _make_directory(path: Path) -> None:
    try:
        if path.exists():
            shutil.rmtree(path)
        path.mkdir(mode=_PRIVATE, parents=True)
    except OSError as error:
        raise IoFailed(operation="mkdir", path=str(path), errno=error.errno) from error


def _give(path: Path, mode: int, uid: int, gid: int) -> None:
    try:
        os.chown(path, uid, gid)
        path.chmod(mode)
    except OSError as error:
        raise IoFailed(operation="chown", path=str(path), errno=error.errno) from error


def _write(path: Path, data: bytes, mode: int, uid: int, gid: int) -> None:
    try:
        fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        try:
            os.write(fd, data)
            os.fchown(fd, uid, gid)
            os.fchmod(fd, mode)
        finally:
            os.close(fd)
    except OSError as error:
        raise IoFailed(operation="write", path=str(path), errno=error.errno) from error
