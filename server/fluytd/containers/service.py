"""The containers of this engine: one method a verb. It knows no transport; each verb's rules stand in its own file."""

import asyncio
import logging
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import aclosing
from random import Random
from typing import Any, Final

from fluytd.clock import Clock
from fluytd.containers import (
    attach,
    create,
    delete,
    health,
    networking,
    pause,
    processes,
    prune,
    restart,
    run,
    sizes,
    start,
    stats,
    stop,
    update,
    wait,
)
from fluytd.containers.attach import AttachOptions, Session
from fluytd.containers.context import Context
from fluytd.containers.model import EXECUTED, Container, State
from fluytd.containers.names import NAME_RULE, is_valid_name
from fluytd.containers.ports import Directories, Images, Networking, Records, Volumes
from fluytd.containers.process_ports import Probe, ProcessInfo, Runtime
from fluytd.containers.publishing import NO_CHANGES, PortChanges
from fluytd.containers.query import ContainerFilter, newest_first, of_images
from fluytd.containers.run import Launched, Pulling, RunEvent
from fluytd.containers.signals import SIGKILL
from fluytd.containers.spec import AttachmentSpec, ContainerSpec, LogDriver, NetworkMode, ResourcesSpec, RestartPolicy
from fluytd.containers.start_facts import HostFacts
from fluytd.containers.table import ContainerTable, Entry
from fluytd.containers.transitions import renamed, with_volume_name
from fluytd.containers.user_ids import IdRanges, IdSettings
from fluytd.errors import ContainerNotFound, ContainerWrongState, EngineError, FieldInvalid, LogNotKept
from fluytd.events.model import ContainerRenamed
from fluytd.host.ports import Quotas
from fluytd.images.ports import Holder
from fluytd.logs.ports import OpenLogRange, ReadRange
from fluytd.networks.model import Endpoint
from fluytd.registries.model import Credentials
from fluytd.volumes.ports import VolumeHolder
from fluytd.workers import Workers

_log = logging.getLogger(__name__)

#: How long the news that a container was created may wait for the news that it runs.
CREATED_TOLD_SECONDS: Final = 0.1


class ContainerService:
    """Made once. All methods belong to the event loop. A reference is an id, a beginning of one, or a name.

    Verbs that change something are carried to their end although the caller may be cancelled.
    """

    def __init__(
        self,
        *,
        runtime: Runtime,
        directories: Directories,
        images: Images,
        records: Records,
        open_log: OpenLogRange,
        workers: Workers,
        clock: Clock,
        random: Random,
        host: HostFacts,
        networking: Networking,
        default_network_mode: NetworkMode = NetworkMode.BRIDGE,
        id_settings: IdSettings = IdSettings(),  # noqa: B008 - it is frozen
        default_log_driver: LogDriver = LogDriver.FILE,
        probe: Probe | None = None,
        volumes: Volumes | None = None,
        quotas: Quotas | None = None,
    ) -> None:
        self.ctx = Context(
            runtime=runtime,
            directories=directories,
            images=images,
            records=records,
            workers=workers,
            clock=clock,
            random=random,
            host=host,
            networking=networking,
            default_network_mode=default_network_mode,
            id_settings=id_settings,
            table=ContainerTable(IdRanges(id_settings)),
            default_log_driver=default_log_driver,
            probe=probe,
            volumes=volumes,
            quotas=quotas,
        )
        self._sampler = stats.Sampler(self.ctx)
        self.ctx.on_started = lambda entry, run: health.watch(self.ctx, entry, run)
        self.ctx.on_ended = lambda entry: restart.after_end(self.ctx, entry)
        self._open_range = open_log

    def _open_log(self, log_dir: str) -> Any:
        return self._open_range(log_dir, ReadRange())

    async def create(self, spec: ContainerSpec, name: str) -> Container:
        """See `create.create`."""
        spec = create.with_defaults(self.ctx, spec)
        return await self.ctx.complete(create.create(self.ctx, spec, name), "create")

    async def start(self, reference: str, *, expected_version: int = 0) -> Container:
        """See `start.start`."""
        entry = self.ctx.table.find(reference)
        return await self.ctx.complete(start.start(self.ctx, entry, expected_version=expected_version), "start")

    async def run(
        self, spec: ContainerSpec, name: str, *, detach: bool, auth: Credentials | None = None
    ) -> AsyncGenerator[Pulling | RunEvent, None]:
        """Pulls if the policy asks for it, creates, starts, and yields output and end; see `run.py`.

        Closed before `Created`, nothing is made (a pull goes on); closed later, the container runs on.
        """
        spec = create.with_defaults(self.ctx, spec)
        run.check(self.ctx, spec, name, detach=detach)
        if await run.wants_pull(self.ctx, spec):
            async with aclosing(run.pull(self.ctx, spec, auth)) as pullings:
                async for pulling in pullings:
                    yield pulling
        created: asyncio.Future[Container] = asyncio.get_running_loop().create_future()
        launching = self._spawn_launch(spec, name, detach=detach, on_created=created.set_result)
        try:
            await _launched_or_due(launching, created)
            if created.done():
                yield run.Created(created.result())
            launched = await asyncio.shield(launching)
        except (asyncio.CancelledError, GeneratorExit):
            launching.add_done_callback(_drop)
            raise
        if launched.started.reader is None:
            yield run.Running(launched.running)
            return
        async with aclosing(run.stream(self.ctx, launched, is_created_told=True)) as events:
            async for event in events:
                yield event

    async def prepare_run(
        self, spec: ContainerSpec, name: str, *, detach: bool, auth: Credentials | None
    ) -> AsyncGenerator[Pulling, None]:
        """The first half of `run`: all checks, and the pull."""
        run.check(self.ctx, create.with_defaults(self.ctx, spec), name, detach=detach)
        if await run.wants_pull(self.ctx, spec):
            async with aclosing(run.pull(self.ctx, spec, auth)) as pullings:
                async for pulling in pullings:
                    yield pulling

    async def launch(self, spec: ContainerSpec, name: str, *, detach: bool) -> Launched:
        """The second half of `run`: the container is made and started; give the result to `stream`."""
        task = self._spawn_launch(create.with_defaults(self.ctx, spec), name, detach=detach)
        try:
            return await asyncio.shield(task)
        except asyncio.CancelledError:
            task.add_done_callback(_drop)
            raise

    def _spawn_launch(
        self,
        spec: ContainerSpec,
        name: str,
        *,
        detach: bool,
        on_created: Callable[[Container], None] = lambda container: None,
    ) -> "asyncio.Task[Launched]":
        open_log = None if detach else self._open_log
        return self.ctx.spawn(run.launch(self.ctx, spec, name, open_log, on_created), "run")

    def stream(self, launched: Launched) -> AsyncGenerator[RunEvent, None]:
        """See `run.stream`."""
        return run.stream(self.ctx, launched)

    def replay(self, container_id: str, *, detach: bool) -> AsyncGenerator[RunEvent, None]:
        """See `run.replay`."""
        return run.replay(self.ctx, container_id, None if detach else self._open_log)

    async def stop(
        self, reference: str, *, timeout_millis: int | None, signal: int | None, expected_version: int = 0
    ) -> Container:
        """See `stop.stop`."""
        entry = self.ctx.table.find(reference)
        work = stop.stop(
            self.ctx, entry, timeout_millis=timeout_millis, signal=signal, expected_version=expected_version
        )
        return await self.ctx.complete(work, "stop")

    async def kill(self, reference: str, signal: int | None, *, expected_version: int = 0) -> Container:
        """See `stop.kill`. None is SIGKILL."""
        entry = self.ctx.table.find(reference)
        number = SIGKILL if signal is None else signal
        return await self.ctx.complete(stop.kill(self.ctx, entry, number, expected_version=expected_version), "kill")

    async def restart(
        self, reference: str, *, timeout_millis: int | None, signal: int | None, expected_version: int = 0
    ) -> Container:
        """See `restart.restart`."""
        entry = self.ctx.table.find(reference)
        work = restart.restart(
            self.ctx, entry, timeout_millis=timeout_millis, signal=signal, expected_version=expected_version
        )
        return await self.ctx.complete(work, "restart")

    async def pause(self, reference: str, *, expected_version: int = 0) -> Container:
        """See `pause.pause`."""
        entry = self.ctx.table.find(reference)
        return await self.ctx.complete(pause.pause(self.ctx, entry, expected_version=expected_version), "pause")

    async def resume(self, reference: str, *, expected_version: int = 0) -> Container:
        """See `pause.resume`."""
        entry = self.ctx.table.find(reference)
        return await self.ctx.complete(pause.resume(self.ctx, entry, expected_version=expected_version), "resume")

    async def update(
        self,
        reference: str,
        changes: ResourcesSpec | None,
        policy: RestartPolicy | None,
        ports: PortChanges = NO_CHANGES,
        *,
        expected_version: int = 0,
    ) -> Container:
        """See `update.update`."""
        entry = self.ctx.table.find(reference)
        work = update.update(self.ctx, entry, changes, policy, ports, expected_version=expected_version)
        return await self.ctx.complete(work, "update")

    async def connect(
        self, reference: str, attachment: AttachmentSpec, *, expected_version: int = 0
    ) -> Endpoint | None:
        """See `networking.connect`."""
        entry = self.ctx.table.find(reference)
        return await self.ctx.complete(
            networking.connect(self.ctx, entry, attachment, expected_version=expected_version), "connect"
        )

    async def disconnect(self, reference: str, network: str, *, expected_version: int = 0) -> Sequence[str]:
        """See `networking.disconnect`."""
        entry = self.ctx.table.find(reference)
        return await self.ctx.complete(
            networking.disconnect(self.ctx, entry, network, expected_version=expected_version), "disconnect"
        )

    def users_of_network(self, network_id: str) -> Sequence[str]:
        """Containers whose specification names the network, in any state; networks ask before they are deleted."""
        return [entry.container.id for entry in self.ctx.table if self._is_for(entry.container, network_id)]

    def _is_for(self, container: Container, network_id: str) -> bool:
        if not networking.is_bridged(container):
            return False
        references = {attachment.network for attachment in container.spec.network.attachments}
        return any(self._names(reference, network_id) for reference in references)

    def _names(self, reference: str, network_id: str) -> bool:
        try:
            return self.ctx.networking.id_of(reference) == network_id
        except EngineError:
            return False

    async def delete(
        self, reference: str, *, force: bool, removes_volumes: bool = False, expected_version: int = 0
    ) -> tuple[str, int]:
        """(id, bytes freed); see `delete.delete`."""
        entry = self.ctx.table.find(reference)
        work = delete.delete(
            self.ctx, entry, force=force, removes_volumes=removes_volumes, expected_version=expected_version
        )
        return entry.container.id, await self.ctx.complete(work, "delete")

    async def rename(self, reference: str, name: str, *, expected_version: int = 0) -> Container:
        """It has the new name, durably, and the old one is free. Raises NAME_IN_USE, FIELD_INVALID (`name`),
        CONTAINER_NOT_FOUND, VERSION_CONFLICT."""
        entry = self.ctx.table.find(reference)
        if not is_valid_name(name):
            raise FieldInvalid(field="name", rule=f"must have {NAME_RULE}")

        async def work() -> Container:
            async with entry.lock:
                entry.check_present(expected_version)
                previous = entry.container.name
                if name != previous:
                    self.ctx.table.rename(entry, name)
                    changed = renamed(entry.container, name)
                    await self.ctx.record(entry, changed, (ContainerRenamed(changed.id, name, previous),), durable=True)
                    self.ctx.networking.rename(changed)
                return entry.container

        return await self.ctx.complete(work(), "rename")

    async def wait(self, reference: str, condition: wait.Condition) -> Container:
        """See `wait.wait`."""
        return await wait.wait(self.ctx, reference, condition)

    async def attach(self, reference: str, options: AttachOptions) -> Session:
        """See `attach.attach`."""
        return await attach.attach(self.ctx, self.ctx.table.find(reference), options, self._open_range)

    def get(self, reference: str) -> Container:
        """The record, from memory. Raises CONTAINER_NOT_FOUND, CONTAINER_AMBIGUOUS."""
        return self.ctx.table.find(reference).container

    async def writable_usage(self, container: Container) -> tuple[int, bool] | None:
        """See `sizes.writable_usage`."""
        return await sizes.writable_usage(self.ctx, container.id)

    def waits_for_restart(self, container: Container) -> bool:
        """Whether its policy starts it again in a moment."""
        entry = self.ctx.table.get(container.id)
        return entry is not None and entry.restarting is not None

    def holders(self, image_id: str) -> list[Holder]:
        """Containers that are made of an image, in any state; images ask before they are deleted."""
        return [Holder(entry.container.id, entry.container.is_live) for entry in self.ctx.table.of_image(image_id)]

    def uses_layer(self, layer_id: str) -> bool:
        """True if a container, in any state, stands on the layer."""
        return self.ctx.table.uses_layer(layer_id)

    def volume_holders(self, volume_id: str) -> list[VolumeHolder]:
        """See `volumes.ports.Holders.volume_holders`."""
        return [
            VolumeHolder(entry.container.id, entry.container.is_live)
            for entry in self.ctx.table
            if any(one.volume_id == volume_id for one in entry.container.resolved.volumes)
        ]

    def all_volume_holders(self) -> dict[str, list[VolumeHolder]]:
        """See `volumes.ports.Holders.all_volume_holders`."""
        found: dict[str, list[VolumeHolder]] = {}
        for entry in self.ctx.table:
            for volume_id in {one.volume_id for one in entry.container.resolved.volumes}:
                holder = VolumeHolder(entry.container.id, entry.container.is_live)
                found.setdefault(volume_id, []).append(holder)
        return found

    def volumes_dir(self, container: Container) -> str:
        """Where volumes are on the host."""
        return self.ctx.directories.paths(container, ()).volumes_dir

    def note_volume_name(self, volume_id: str, name: str) -> None:
        """Containers that have the volume show it by this name; being stored on return."""
        for entry in self.ctx.table:
            if any(one.volume_id == volume_id for one in entry.container.resolved.volumes):
                self.ctx.record(entry, with_volume_name(entry.container, volume_id, name))

    def log_source(self, reference: str) -> "ContainerLog":
        """The container's log, for `logs.service`. Raises CONTAINER_NOT_FOUND, CONTAINER_AMBIGUOUS, LOG_NOT_KEPT."""
        entry = self.ctx.table.find(reference)
        driver = entry.container.spec.log.driver
        if driver is LogDriver.NONE:
            raise LogNotKept(id=entry.container.id, driver=driver.value)
        return ContainerLog(entry, self.ctx.directories.log_dir(entry.container.id))

    def list(self, wanted: ContainerFilter) -> list[Container]:
        """All that fit, newest first, from memory."""
        wanted = of_images(wanted, self.ctx.images.ids_of)
        found = [
            entry.container
            for entry in self.ctx.table
            if wanted.accepts(entry.container, waits_for_restart=entry.restarting is not None)
        ]
        return sorted(found, key=newest_first)

    def all(self) -> Sequence[Container]:
        """Every container's record, oldest first."""
        return [entry.container for entry in self.ctx.table]

    async def prune(self, wanted: ContainerFilter, *, dry_run: bool) -> prune.Pruned:
        """See `prune.prune`."""
        return await self.ctx.complete(prune.prune(self.ctx, wanted, dry_run=dry_run), "prune")

    def watch_stats(
        self, references: Sequence[str], interval_millis: int, *, once: bool
    ) -> AsyncGenerator[Sequence[stats.Sample], None]:
        """See `stats.Sampler.watch`; without references all. Raises CONTAINER_NOT_FOUND, CONTAINER_AMBIGUOUS."""
        entries = [self.ctx.table.find(reference) for reference in references] if references else None
        return self._sampler.watch(entries, interval_millis, once=once)

    async def figures(self, max_age_seconds: float) -> Sequence[stats.Sample]:
        """Figures of all that run, none older than that. Raises IO_FAILED."""
        return await self._sampler.read_all(max_age_seconds)

    async def list_processes(self, reference: str) -> Sequence[tuple[ProcessInfo, int]]:
        """See `processes.list_processes`."""
        return await processes.list_processes(self.ctx, self.ctx.table.find(reference))

    async def close(self, stop_within_millis: int = 0) -> None:
        """Verbs under way have ended and no container is watched any more; the containers go on, unless all are to be
        stopped within this time."""
        loop = asyncio.get_running_loop()
        self.ctx.is_closing = True
        for entry in self.ctx.table:
            entry.cancel_restart()
        await health.end_all(self.ctx)
        if stop_within_millis:
            await stop.stop_all(self.ctx, stop_within_millis)
        while self.ctx.tasks:
            await asyncio.wait(self.ctx.tasks)
        try:
            await self.ctx.workers.run(self.ctx.directories.clear)
        except EngineError as error:
            _log.warning("directories that were made ready could not be removed: %s", error)
        for entry in self.ctx.table:
            if entry.run is not None and not entry.run.ended.is_set():
                loop.remove_reader(entry.run.process.fileno())
                entry.run.process.close()


class ContainerLog:
    """Implements `logs.service.LogSource`."""

    def __init__(self, entry: Entry, log_dir: str) -> None:
        self._entry = entry
        self._run = entry.run
        self._was_being_made = entry.container.state in {State.CREATING, State.STARTING}
        self.log_dir = log_dir
        if self._run is not None:
            self._run.join(self)

    @property
    def is_live(self) -> bool:
        """See `LogSource.is_live`."""
        return self._entry.container.is_live

    @property
    def is_removed(self) -> bool:
        """See `LogSource.is_removed`."""
        return self._entry.removed.is_set() or self._entry.container.state is State.DELETING

    def check_there(self) -> None:
        """See `LogSource.check_there`."""
        container = self._entry.container
        if self.is_removed:
            raise ContainerNotFound(id=container.id)
        if self._was_being_made:
            allowed = sorted(state.value for state in {*EXECUTED, State.CREATED, State.EXITED})
            raise ContainerWrongState(id=container.id, state=State.CREATING.value, allowed_states=allowed)

    async def wait_end(self) -> None:
        """See `LogSource.wait_end`."""
        entry = self._entry
        if self._run is not None:
            await self._run.ended.wait()
            return
        if entry.container.state is State.EXITED:
            return
        exits = entry.exit_count
        while not entry.removed.is_set() and entry.exit_count == exits:
            if entry.run is not None:
                await entry.run.ended.wait()
                return
            await entry.changed.wait()

    def close(self) -> None:
        """See `LogSource.close`."""
        if self._run is not None:
            self._run.leave(self)


async def _launched_or_due(launching: "asyncio.Task[Launched]", created: "asyncio.Future[Container]") -> None:
    """Returns once the container runs, or could not be started, or once its creation, which is told together with that
    so that the telling does not hold the start up, is to be told in any case."""
    loop = asyncio.get_running_loop()
    is_due: asyncio.Future[None] = loop.create_future()

    def wake(_: object) -> None:
        if not is_due.done():
            is_due.set_result(None)

    launching.add_done_callback(wake)
    timer = loop.call_later(CREATED_TOLD_SECONDS, created.add_done_callback, wake)
    try:
        await is_due
    finally:
        timer.cancel()


def _drop(task: "asyncio.Task[Launched]") -> None:
    if not task.cancelled() and task.exception() is None:
        run.drop(task.result())
