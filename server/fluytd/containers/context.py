"""What all container verbs share: the table, the backends, and the tasks that outlive a call. It holds no rule."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from dataclasses import dataclass, field
from random import Random
from typing import Any, Final, TypeVar

from fluytd.clock import Clock
from fluytd.containers.model import Container
from fluytd.containers.ports import Directories, Images, MountSources, Networking, Records, Volumes
from fluytd.containers.process_ports import Probe, Runtime
from fluytd.containers.spec import ContainerSpec, LogDriver, NetworkMode
from fluytd.containers.start_facts import HostFacts
from fluytd.containers.table import ContainerTable, Entry, Run
from fluytd.containers.user_ids import IdSettings
from fluytd.errors import EngineError
from fluytd.events.model import Fact
from fluytd.host.ports import Quotas
from fluytd.workers import Workers

T = TypeVar("T")

_log = logging.getLogger(__name__)

#: How long after a start what it used up is made again: longer than a short container takes to come and go.
REPLENISH_DELAY_SECONDS: Final = 0.01


@dataclass(slots=True, kw_only=True)
class Context:
    """Made once by the service; belongs to the event loop."""

    runtime: Runtime
    directories: Directories
    images: Images
    records: Records
    workers: Workers
    clock: Clock
    random: Random
    host: HostFacts
    networking: Networking
    #: The network mode of a container whose caller names none.
    default_network_mode: NetworkMode = NetworkMode.BRIDGE
    #: The engine's settings about users and groups of containers.
    id_settings: IdSettings = field(default_factory=IdSettings)
    #: Where the output of a container goes whose caller names no driver.
    default_log_driver: LogDriver = LogDriver.FILE
    #: Specifications as callers gave them and with the engine's defaults, by identity of the first; see `create`.
    completed_specs: dict[int, tuple[ContainerSpec, ContainerSpec]] = field(default_factory=dict)
    #: Those of the second that break no rule that they can break by themselves, by identity.
    checked_specs: dict[int, ContainerSpec] = field(default_factory=dict)
    table: ContainerTable = field(default_factory=ContainerTable)
    tasks: set[asyncio.Task[Any]] = field(default_factory=set)
    replenishing: asyncio.TimerHandle | None = None
    preparing: asyncio.Task[None] | None = None
    is_closing: bool = False
    #: Waits for so many seconds; tests set a clock of their own.
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep
    #: None where this engine cannot run commands in containers: health checks are refused then.
    probe: Probe | None = None
    #: None where this engine has no volumes: who asks for one is refused then, and what an image asks is passed over.
    volumes: Volumes | None = None
    #: None where what is to be mounted is trusted to answer.
    sources: MountSources | None = None
    #: None where this engine bounds no writable layer.
    quotas: Quotas | None = None
    #: Called when a process has been executed, or was found running by a new daemon.
    on_started: Callable[[Entry, Run], None] = lambda entry, run: None
    #: Called when a container is gone, its record included.
    on_removed: Callable[[Entry], None] = lambda entry: None
    #: Called by a new daemon that finds that a run has ended meanwhile, before it records that.
    on_found_ended: Callable[[Entry], None] = lambda entry: None
    #: Called when a run has ended and its record says how.
    on_ended: Callable[[Entry], None] = lambda entry: None

    def spawn(self, work: Coroutine[Any, Any, T], name: str) -> "asyncio.Task[T]":
        """Work that goes on when its caller goes; a failure that nobody awaits is logged."""
        task = asyncio.get_running_loop().create_task(work, name=name)
        self.tasks.add(task)
        task.add_done_callback(self._done)
        return task

    def _done(self, task: "asyncio.Task[Any]") -> None:
        self.tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            _log.debug("%s ended with %s", task.get_name(), error)

    def replenish(self) -> None:
        """What the next starts find ready is made anew, a moment from now: the callers of this one are served first."""
        if self.replenishing is None:
            loop = asyncio.get_running_loop()
            self.replenishing = loop.call_later(REPLENISH_DELAY_SECONDS, self._replenish)

    def _replenish(self) -> None:
        self.replenishing = None
        if self.is_closing:
            return
        if self.preparing is not None and not self.preparing.done():
            self.replenish()  # two at once would make too many
            return
        self.preparing = self.spawn(self.prepare(), "preparation")

    async def prepare(self) -> None:
        """What starts need and belongs to no container stands ready. A failure is logged: starts do without."""
        await self.workers.run(self._prepare)

    def _prepare(self) -> None:
        for work in (self.runtime.prepare, self.directories.prepare):
            try:
                work()
            except EngineError as error:
                _log.warning("nothing could be made ready for the next start: %s", error)

    async def complete(self, work: Coroutine[Any, Any, T], name: str) -> T:
        """The result of work that is carried to its end although the caller may be cancelled."""
        return await asyncio.shield(self.spawn(work, name))

    def record(
        self,
        entry: Entry,
        container: Container,
        facts: Sequence[Fact] = (),
        *,
        durable: bool = False,
        lazy: bool = False,
    ) -> "asyncio.Future[None]":
        """The entry has the new record at once, and it is being stored together with the facts.

        The caller awaits the result where its reply promises that the record is stored. Elsewhere it need not: memory
        is the authority, later writes carry the whole record, and a failure is logged. `lazy`: as in `ports.Records`.
        """
        entry.set(container)
        return self._noted(self.records.save(container, facts, durable=durable, lazy=lazy), container)

    def forget(self, container: Container, facts: Sequence[Fact], *, lazy: bool = False) -> Awaitable[None]:
        """The record is being removed from the store; as `record`."""
        return self._noted(self.records.delete(container, facts, lazy=lazy), container)

    @staticmethod
    def _noted(write: Awaitable[None], container: Container) -> "asyncio.Future[None]":
        future = asyncio.ensure_future(write)

        def note(done: "asyncio.Future[None]") -> None:
            if not done.cancelled() and (error := done.exception()) is not None:
                _log.error("container %s: its record was not stored: %s", container.id, error)

        future.add_done_callback(note)
        return future
