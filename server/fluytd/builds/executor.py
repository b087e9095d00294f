"""Running a step's command: in a container of its own that no list shows and no record knows.

What a crash of the daemon leaves of it (processes, control groups, directories) belongs to no container, and is removed
by the next start as every such thing is.
"""

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass, field, replace
from typing import Final

from fluytd import failpoints
from fluytd.builds.log import MAX_PIECE_BYTES
from fluytd.builds.model import USERS_FIELD
from fluytd.containers import networking, selinux, user_ids
from fluytd.containers.context import Context
from fluytd.containers.model import Container, ImageFacts, Resolved
from fluytd.containers.process_ports import Ending, Process
from fluytd.containers.root_mounts import mount_points
from fluytd.containers.signals import SIGTERM
from fluytd.containers.spec import (
    BindSpec,
    ContainerSpec,
    NamespacesSpec,
    NetworkMode,
    NetworkSpec,
    Relabel,
    ResourcesSpec,
    RlimitSpec,
    SecuritySpec,
    TmpfsSpec,
    UsersMode,
    UsersSpec,
)
from fluytd.containers.start_facts import StartPaths
from fluytd.errors import Cancelled, ContainerNotFound, EngineError, SupervisorLost
from fluytd.ids import ContainerId
from fluytd.images.commit import Tree
from fluytd.logs.follow import Follower
from fluytd.logs.pieces import joined
from fluytd.logs.ports import OpenLog
from fluytd.operations.service import OperationHandle

_log = logging.getLogger(__name__)

_HOST_USERS: Final = UsersSpec(UsersMode.HOST)
#: The host name that steps see. Source: none needs it; BuildKit's is `buildkitsandbox`.
HOSTNAME: Final = "build"

#: Takes (stream, time, bytes) of output.
Write = Callable[[str, int, bytes], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Command:
    """What is run, and in what."""

    argv: tuple[str, ...]
    #: `NAME=value`.
    env: tuple[str, ...]
    working_dir: str
    user: str
    #: Lowest first.
    layer_ids: tuple[str, ...]
    #: The highest user or group that something in them belongs to, as far as that was recorded.
    max_id: int = 0
    users: UsersSpec = _HOST_USERS
    network: NetworkSpec = field(default_factory=NetworkSpec)
    binds: tuple[BindSpec, ...] = ()
    tmpfs: tuple[TmpfsSpec, ...] = ()
    resources: ResourcesSpec = field(default_factory=ResourcesSpec)
    rlimits: tuple[RlimitSpec, ...] = ()
    shm_size_bytes: int = 0
    cgroup_parent: str = ""
    security: SecuritySpec = field(default_factory=SecuritySpec)
    #: `vendor.com/class=name`, and where they have something mounted.
    cdi_devices: tuple[str, ...] = ()
    device_mounts: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Room:
    """A place in which one command can run: an id and directories, no process yet."""

    id: str
    #: For files that are shown to the command; goes with the room.
    directory: str


class Executor:
    """Runs commands on stacks of layers."""

    def __init__(self, ctx: Context, open_log: OpenLog) -> None:
        """With the backends of containers."""
        self._ctx = ctx
        self._open_log = open_log

    def new_room(self) -> str:
        """An id for a room."""
        return ContainerId.new()

    def check_parent(self, parent: str) -> None:
        """Raises FIELD_INVALID for a `cgroup_parent` that this host cannot have."""
        self._ctx.runtime.check_parent(parent, "cgroup_parent")

    @asynccontextmanager
    async def ran(
        self, room_id: str, command: Command, write: Write, handle: OperationHandle
    ) -> AsyncIterator[tuple[Ending, Tree]]:
        """The command has ended and given back all but its files; yields how, and what it changed.

        Its files, its users and its place on a network go with the block. Raises PROCESS_START_FAILED, USER_INVALID,
        STORAGE_FULL, IO_FAILED, CGROUP_LIMIT_REJECTED, SUPERVISOR_LOST, ADDRESSES_EXHAUSTED, KERNEL_FEATURE_MISSING;
        FIELD_INVALID and LIMIT_EXCEEDED for its users; CDI_DEVICE_UNAVAILABLE; CANCELLED once the operation's end was
        asked for.
        """
        ctx = self._ctx
        if command.network.is_default:
            mode = ctx.default_network_mode
            command = replace(command, network=replace(command.network, mode=mode))
        container = _container(room_id, command, ctx.clock.now_unix_nanos())
        ranges = ctx.table.id_ranges
        # Held in memory alone: nothing on disk has these owners, and a daemon that comes after this one ends the step
        # before it gives anybody a range.
        ids = user_ids.of_step(container.spec, container.image, ctx.id_settings, ranges, USERS_FIELD)
        # As a container's; a step shares nobody's namespaces.
        labels = selinux.chosen(container.spec, _nobody, ctx.host.selinux, ctx.table.levels, ctx.random)
        ranges.hold(ids)
        ctx.table.levels.hold(labels)
        try:
            container = replace(container, ids=ids, selinux=labels)
            lowers = await ctx.workers.run(ctx.images.lower_dirs, container.image)
            paths = ctx.directories.paths(container, lowers)
            handle.check()
            container = networking.joined(ctx, container)
            failpoints.hit("build.run.directories")
            await ctx.workers.run(ctx.directories.create, container, lowers)
            ending = await self._run(container, paths, write, handle)
            yield ending, _tree(container, paths, command.device_mounts)
        finally:
            if networking.is_bridged(container):
                await asyncio.shield(networking.give_back(ctx, container.id))
            try:
                await asyncio.shield(ctx.workers.run(ctx.directories.drop, container.id))
            finally:
                ranges.release(ids)
                ctx.table.levels.release(labels)
            ctx.replenish()

    async def kill(self, room_id: str) -> None:
        """Every process of the room's command is on its way out. Idempotent."""
        try:
            await self._ctx.workers.run(self._ctx.runtime.kill_group, room_id)
        except EngineError as error:
            _log.error("build step %s cannot be killed: %s", room_id, error)

    async def _run(self, container: Container, paths: StartPaths, write: Write, handle: OperationHandle) -> Ending:
        ctx = self._ctx
        reader = await ctx.workers.run(self._open_log, paths.log_dir)
        process: Process | None = None
        try:
            failpoints.hit("build.run.start")
            process = await ctx.workers.run(ctx.runtime.start, container, paths, (), is_held=True)
            ended = asyncio.Event()
            _watch(process, ended)
            killing = asyncio.ensure_future(self._kill_when(handle, container.id, ended))
            try:
                follower = Follower(reader, ctx.workers)
                process.hold_log(follower.segment)
                batches = follower.batches(ended, whole_lines=False, on_progress=process.hold_log)
                async with aclosing(batches):
                    async for records in batches:
                        for piece in joined(records, MAX_PIECE_BYTES):
                            write(piece.stream, piece.time_unix_nanos, piece.data)
                        # What it has written and nobody has read yet may be much.
                        if handle.cancel_token.is_cancelled:
                            break
                # Else its supervisor would wait for a reader of what is left, and tell no end.
                process.hold_log(None)
                await ended.wait()
            finally:
                killing.cancel()
            exit_record = process.exit_record
            if handle.cancel_token.is_cancelled:
                raise Cancelled(subject=f"operation {handle.operation_id}")
            if exit_record is None:
                raise SupervisorLost(id=container.id, detail="the step's supervisor left no exit record")
            return Ending.of(exit_record)
        finally:
            reader.close()
            failpoints.hit("build.run.release")
            await asyncio.shield(self._release(container.id, process))

    async def _kill_when(self, handle: OperationHandle, container_id: str, ended: asyncio.Event) -> None:
        await handle.cancelled.wait()
        while not ended.is_set():
            await self.kill(container_id)
            await asyncio.sleep(0.05)

    async def _release(self, container_id: str, process: Process | None) -> None:
        ctx = self._ctx
        if process is not None:
            await ctx.workers.run(ctx.runtime.kill_group, container_id)
        await ctx.workers.run(ctx.runtime.release, container_id, process)


def _watch(process: Process, ended: asyncio.Event) -> None:
    loop = asyncio.get_running_loop()
    fd = process.fileno()

    def look() -> None:
        try:
            found = process.poll_exit()
        except EngineError as error:
            _log.error("how a build step ended cannot be told: %s", error)
            found = "lost"
        if found != "running":
            loop.remove_reader(fd)
            ended.set()

    loop.add_reader(fd, look)


def _nobody(reference: str) -> Container:
    raise ContainerNotFound(id=reference)


def _container(room_id: str, command: Command, now_unix_nanos: int) -> Container:
    """The record that a container of this command would have."""
    spec = ContainerSpec(
        image="",
        args=command.argv,
        hostname=HOSTNAME,
        resources=command.resources,
        rlimits=command.rlimits,
        shm_size_bytes=command.shm_size_bytes,
        cgroup_parent=command.cgroup_parent,
        network=command.network,
        security=command.security,
        cdi_devices=command.cdi_devices,
        namespaces=NamespacesSpec(user=command.users),
        # The engine's own: caches, copies, secrets.
        binds=tuple(replace(bind, relabel=Relabel.OWN) for bind in command.binds),
        tmpfs=command.tmpfs,
    )
    image = ImageFacts("of the stage", "", "", "", "", "", command.layer_ids, 0, max_id=command.max_id)
    resolved = Resolved(
        args=command.argv,
        env=command.env,
        working_dir=command.working_dir,
        user=command.user,
        hostname=HOSTNAME,
        stop_signal=SIGTERM,
        stop_timeout_millis=0,
        labels={},
    )
    return Container(room_id, f"build-{room_id[:12]}", spec, image, resolved, now_unix_nanos)


def _tree(container: Container, paths: StartPaths, device_mounts: tuple[str, ...]) -> Tree:
    points = (*mount_points(container, paths), *device_mounts)
    return Tree("the step's files", paths.upper_dir, container.image.layer_ids, points)


def network_of(mode: str, extra_hosts: Sequence[str]) -> NetworkSpec:
    """The network of a step that asks for `default` (that of containers whose caller names none), `none` or `host`."""
    if mode == "host":
        return NetworkSpec(NetworkMode.HOST, extra_hosts=tuple(extra_hosts))
    return NetworkSpec(NetworkMode.NONE, is_default=mode == "default", extra_hosts=tuple(extra_hosts))
