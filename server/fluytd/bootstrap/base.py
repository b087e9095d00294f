"""What every part stands on: the roots, the records, the workers, the event log and the operations."""

import logging
from contextlib import AsyncExitStack
from dataclasses import dataclass

from fluytd import __version__, _core, roots
from fluytd.clock import SystemClock
from fluytd.config import Config
from fluytd.errors import EngineError, VersionMismatch
from fluytd.events.bus import EventBus
from fluytd.events.model import Fact, NewEvent
from fluytd.events.service import EventService
from fluytd.host import probe
from fluytd.host.service import HostService
from fluytd.operations.service import OperationService
from fluytd.requests.service import RequestService
from fluytd.state.db import Database
from fluytd.workers import Workers

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Base:
    """Made once, by `base_of`. What is pushed on `undo` is undone in reverse when the engine stops."""

    config: Config
    clock: SystemClock
    undo: AsyncExitStack
    workers: Workers
    database: Database
    #: Id of this engine, kept in the data root.
    identity: str
    bus: EventBus
    events: EventService
    operations: OperationService
    requests: RequestService
    host: HostService

    async def tell(self, subject: str, fact: Fact) -> None:
        """The fact is in the log of events; a failure to write it is logged and hinders neither start nor stop."""
        try:
            await self.database.write(lambda txn: txn.emit(NewEvent(fact, subject)))
        except EngineError as error:
            _log.error("%s could not be recorded: %s", type(fact).__name__, error)


async def base_of(config: Config, undo: AsyncExitStack) -> Base:
    """The roots are there and ours, the records are open.

    Raises DATA_ROOT_IN_USE, IO_FAILED, VERSION_MISMATCH, and what `Database.open` raises.
    """
    check_versions()
    clock = SystemClock()
    roots.make(config.data_root, config.run_root)
    workers = Workers(config.worker_count, config.transfer_worker_count)
    undo.callback(workers.close)
    database = Database(config.data_root / "state.db", clock, max_events=config.event_log_events)
    undo.push_async_callback(database.close)
    await database.open()
    identity, bus = await workers.run(roots.engine_id, config.data_root), EventBus()
    operations = OperationService(database, clock, _core.CancelToken, history=config.operation_history)
    undo.push_async_callback(operations.close)
    return Base(
        config=config,
        clock=clock,
        undo=undo,
        workers=workers,
        database=database,
        identity=identity,
        bus=bus,
        events=EventService(database, bus, clock, heartbeat_seconds=config.heartbeat_seconds),
        operations=operations,
        requests=RequestService(database, clock),
        host=HostService(probe, workers, config.data_root),
    )


def check_versions() -> None:
    """Raises VERSION_MISMATCH unless the core is of this version."""
    actual = _core.build_info().version
    if actual != __version__:
        raise VersionMismatch(expected=__version__, actual=actual)
    if _core.build_info().profile == "debug":
        _log.warning("the core is a debug build: slow")
