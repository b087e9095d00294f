"""The composition root: the only file that names concrete backends. It wires the engine, starts it and takes it apart.

Start: roots, records, stores, services, sockets (calls are refused still), recovery, then calls are let in. Each step's
undo stands on one stack, so that a start that fails and a stop are the same way back.
"""

import asyncio
import logging
from collections import Counter
from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import AsyncExitStack
from pathlib import Path
from random import SystemRandom

from fluytd import __version__, _core, roots
from fluytd._core import process
from fluytd.api.containers_service import ContainerServicer
from fluytd.api.engine_service import EngineFacts, EngineServicer
from fluytd.api.events_service import EventServicer
from fluytd.api.execs_service import ExecServicer
from fluytd.api.images_service import ImageServicer
from fluytd.api.logs_service import LogServicer
from fluytd.api.operations_service import OperationServicer
from fluytd.api.server import Server
from fluytd.checks.repair import Repairer
from fluytd.checks.service import StorageChecker, Stored
from fluytd.checks.store import CoreWorkshop
from fluytd.clock import SystemClock
from fluytd.config import Config
from fluytd.containers.archives import CoreTrees
from fluytd.containers.directories import ContainerDirectories
from fluytd.containers.files import ContainerFiles
from fluytd.containers.images import PresentImages, Pull
from fluytd.containers.meter import Meter
from fluytd.containers.resolve import HostFacts, StartSettings
from fluytd.containers.service import ContainerService
from fluytd.containers.spec import PlatformChoice
from fluytd.containers.supervisor import CoreRuntime
from fluytd.content.store import CoreBlobs
from fluytd.errors import EngineError, VersionMismatch, from_core
from fluytd.events.bus import EventBus
from fluytd.events.model import EngineStarted, EngineStopping, Event, Fact, NewEvent
from fluytd.events.service import EventService
from fluytd.execs.probe import ExecProbe
from fluytd.execs.service import ExecService
from fluytd.gc.collect import Collector
from fluytd.gc.images import ImageCollection
from fluytd.gc.leases import Leases
from fluytd.gc.model import DiskFacts
from fluytd.gc.settings import collection_limits, collection_settings, pinned_patterns
from fluytd.host import probe
from fluytd.host.service import HostService
from fluytd.ids import ImageReference
from fluytd.images.assemble import Assembler
from fluytd.images.catalogue import Catalogue
from fluytd.images.commit import Committer
from fluytd.images.imports import Importer
from fluytd.images.load import Loader
from fluytd.images.lookup import Lookup
from fluytd.images.platforms import Platform, host_platform
from fluytd.images.ports import Holder
from fluytd.images.prune import Collect, Pruner
from fluytd.images.pull import Puller
from fluytd.images.push import Pusher
from fluytd.images.registry import CoreRegistry, RegistrySettings
from fluytd.images.remote import Remote
from fluytd.images.resolve import Resolver
from fluytd.images.save import Saver
from fluytd.images.service import ImageService
from fluytd.images.spool import Spool
from fluytd.images.store import CoreIngester, CoreLayers
from fluytd.images.usage import usage
from fluytd.images.uses import ImageUses
from fluytd.logs.reader import LogReaders
from fluytd.logs.service import LogService
from fluytd.operations.model import Operation, OperationKind
from fluytd.operations.service import OperationHandle, OperationService
from fluytd.recovery.apply import recover
from fluytd.registries.model import Credentials, Proxies
from fluytd.requests.service import RequestService
from fluytd.state.containers import ContainerRecords
from fluytd.state.db import Database
from fluytd.workers import Workers

_log = logging.getLogger(__name__)


class Engine:
    """One engine on its roots. `start` once, then `stop` once."""

    def __init__(self, config: Config) -> None:
        """Touches nothing yet."""
        self._config = config
        self._clock = SystemClock()
        self._undo = AsyncExitStack()

    async def start(self) -> None:
        """The engine serves: what the last run left is in order, and calls are let in.

        Raises what a part raises that cannot be had (DATA_ROOT_IN_USE, IO_FAILED, VERSION_MISMATCH, FIELD_INVALID...);
        everything is taken apart again then.
        """
        async with AsyncExitStack() as undo:
            await self._build(undo)
            self._undo = undo.pop_all()

    async def stop(self) -> None:
        """Nothing listens or runs here any more and all records are on disk; containers run on. Idempotent."""
        await self._undo.aclose()

    async def _build(self, undo: AsyncExitStack) -> None:
        config, clock = self._config, self._clock
        check_versions()
        roots.make(config.data_root, config.run_root)
        workers = Workers(config.worker_count, config.transfer_worker_count)
        undo.callback(workers.close)
        database = Database(config.data_root / "state.db", clock, max_events=config.event_log_events)
        undo.push_async_callback(database.close)
        await database.open()
        identity, bus = await workers.run(roots.engine_id, config.data_root), EventBus()
        events = EventService(database, bus, clock, heartbeat_seconds=config.heartbeat_seconds)
        operations = OperationService(database, clock, _core.CancelToken, history=config.operation_history)
        undo.push_async_callback(operations.close)
        requests = RequestService(database, clock)
        blobs = await workers.run(CoreBlobs, config.data_root, workers)
        layers = await workers.run(open_layers, config, workers)
        containers: ContainerService
        # The two ask each other: images whether a container stands on them, containers what they are made of.
        catalogue = Catalogue(database, blobs, _Late(lambda: containers), host_platform())
        leases = Leases()
        collector = Collector(blobs, layers, leases, catalogue, ingest_max_age_seconds=config.ingest_max_age_seconds)
        registry = CoreRegistry(registry_settings(config), blobs.core, workers)
        ingester = CoreIngester(blobs.core, layers.core, registry.core, workers)
        assembler = Assembler(blobs, layers, ingester, clock)
        resolver = Resolver(registry)
        puller = Puller(
            blobs,
            ingester,
            resolver,
            assembler,
            catalogue,
            collector,
            layers_per_image=config.layers_per_image,
        )
        images = PresentImages(
            catalogue.table,
            layers.lower_path,
            pull_with(operations, puller),
            lambda layer_ids: collector.sweep({}, dict.fromkeys(layer_ids, 0)),
            roots.empty_directory(config.data_root),
        )
        log_readers = started_log_readers(undo)
        containers = await workers.run(self._containers, database, workers, images, log_readers)
        undo.push_async_callback(containers.close, config.stop_containers_seconds * 1000)
        meter = Meter(containers.ctx)
        host = HostService(probe, workers, config.data_root)
        facts = await host.facts()
        engine = EngineFacts(
            engine_id=identity,
            version=__version__,
            core_version=_core.build_info().version,
            build_profile=_core.build_info().profile,
            architecture=facts.architecture,
            kernel_release=facts.kernel_release,
            start_time_unix_nanos=clock.now_unix_nanos(),
            data_root=str(config.data_root),
            run_root=str(config.run_root),
            layer_store=layers.core.kind,
            limits=limits_of(config),
            clamps=(),
            container_counts=lambda: counts_of(containers),
            image_count=lambda: sum(1 for _ in catalogue.table),
            image_usage=lambda: usage(
                catalogue.table, (entry.container.image.image_id for entry in containers.ctx.table)
            ),
            container_usage=meter.usage,
        )
        loader = Loader(
            blobs,
            ingester,
            assembler,
            catalogue,
            collector,
            workers,
            host_platform(),
            max_size_bytes=config.load_max_bytes,
            layers_per_image=config.layers_per_image,
        )
        uses, collection = self._collecting(database, catalogue, collector, containers, leases, host, identity)
        database.deliver_to(hearing(bus, uses, collection, meter))
        image_service = ImageService(
            catalogue,
            operations,
            Lookup(resolver, ingester, blobs, collector),
            puller,
            Pusher(blobs, registry, catalogue, leases, blobs_per_image=config.layers_per_image),
            loader,
            Importer(blobs, ingester, assembler, catalogue, collector, clock),
            Saver(blobs, blobs, catalogue, leases, collector, workers),
            Pruner(catalogue, collector, containers, collection.is_pinned, collect_with(collection)),
            collector,
            containers,
            uses,
            collection.is_pinned,
        )
        repairer = await self._repairer(blobs, layers, registry, workers, catalogue, lambda: containers)
        execs = execs_of(containers)
        server = Server(
            config,
            requests,
            [
                EngineServicer(
                    engine,
                    host,
                    StorageChecker(
                        Stored(blobs, layers, catalogue.table, catalogue, catalogue),
                        leases,
                        collector,
                        repairer,
                        _core.CancelToken,
                        lambda fact: tell(database, fact.subject, fact),
                    ),
                ),
                OperationServicer(operations),
                EventServicer(events, clock),
                ContainerServicer(
                    containers,
                    ContainerFiles(
                        containers.ctx,
                        CoreTrees(layers.core, workers),
                        Committer(blobs, ingester, assembler, catalogue, collector, clock),
                    ),
                    requests,
                    facts.memory_bytes,
                ),
                ExecServicer(execs),
                LogServicer(LogService(containers, log_readers.follow, workers, clock)),
                ImageServicer(
                    image_service,
                    Remote(registry, _core.CancelToken),
                    Spool(config.data_root, workers, max_size_bytes=config.load_max_bytes),
                ),
            ],
        )
        undo.push_async_callback(server.stop, config.drain_seconds)
        await server.start()
        for part in (catalogue, uses, operations):
            await part.open()
        adopted_count = await found_again(containers, execs)
        await swept(collector, repairer)
        await tell(database, identity, EngineStarted(__version__, adopted_count))
        begin_background(undo, meter, collection, config.image_collection_interval_seconds)
        undo.callback(bus.close)
        # Before the server ends its streams, so that no caller is taken for one that left.
        undo.callback(execs.stop)
        undo.push_async_callback(tell, database, identity, EngineStopping())
        await server.open()

    def _collecting(
        self,
        database: Database,
        catalogue: Catalogue,
        collector: Collector,
        containers: ContainerService,
        leases: Leases,
        host: HostService,
        identity: str,
    ) -> tuple[ImageUses, ImageCollection]:
        config, uses = self._config, ImageUses(database, self._clock)
        return uses, ImageCollection(
            catalogue,
            uses,
            collector,
            containers,
            leases,
            collection_settings(config),
            pinned_patterns(config),
            self._clock,
            lambda: disk_of(host),
            lambda fact: tell(database, identity, fact),
        )

    async def _repairer(
        self,
        blobs: CoreBlobs,
        layers: CoreLayers,
        registry: CoreRegistry,
        workers: Workers,
        catalogue: Catalogue,
        containers: Callable[[], ContainerService],
    ) -> Repairer:
        def runs_on(layer_id: str) -> bool:
            entries = (entry.container for entry in containers().ctx.table)
            return any(one.is_live and layer_id in one.image.layer_ids for one in entries)

        root = self._config.data_root
        workshop = await workers.run(CoreWorkshop, root, blobs, layers, registry.core, workers, runs_on)
        return Repairer(workshop, catalogue.table, blobs, catalogue)

    def _containers(
        self, database: Database, workers: Workers, images: PresentImages, log_readers: LogReaders
    ) -> ContainerService:
        config = self._config
        facts = HostFacts(
            tuple(process.default_capabilities()),
            tuple(process.all_capabilities()),
            probe.online("cpu"),
            probe.online("node"),
        )
        settings = StartSettings(
            config.cgroup_parent, config.log_segment_bytes, config.log_segment_count, str(config.supervisor_path)
        )
        return ContainerService(
            runtime=CoreRuntime(config.supervisor_path, config.run_root, settings, facts),
            directories=ContainerDirectories(config.data_root, config.run_root),
            images=images,
            records=ContainerRecords(database),
            open_log=log_readers.follow,
            workers=workers,
            clock=self._clock,
            random=SystemRandom(),
            host=facts,
        )


class _Late:
    """What images ask of containers, for a service that is made later."""

    def __init__(self, get: Callable[[], ContainerService]) -> None:
        self._get = get

    def holders(self, image_id: str) -> list[Holder]:
        """See `ContainersUsingImage.holders`."""
        return self._get().holders(image_id)

    def uses_layer(self, layer_id: str) -> bool:
        """See `ContainersUsingImage.uses_layer`."""
        return self._get().uses_layer(layer_id)


def pull_with(operations: OperationService, puller: Puller) -> Pull:
    """What containers call for an image that is absent: an operation of its own, watched to its end."""

    async def pull(
        reference: str, platform: PlatformChoice | None, auth: Credentials | None
    ) -> AsyncGenerator[Operation, None]:
        named = ImageReference.parse(reference).with_default_tag()
        here = host_platform()
        wanted = here
        if platform is not None:
            wanted = Platform.normalised(
                platform.os or here.os, platform.architecture or here.architecture, platform.variant
            )
        begun = await operations.begin(
            OperationKind.PULL_IMAGE,
            str(named),
            lambda handle: puller.pull(named, wanted, auth or Credentials(), handle),
        )
        async for operation in operations.watch(begun.id):
            yield operation
            if operation.failure is not None:
                raise from_core(operation.failure.reason, dict(operation.failure.metadata))

    return pull


async def disk_of(host: HostService) -> DiskFacts:
    """The file system of the data root now."""
    storage = await host.storage()
    return DiskFacts(storage.total_bytes, storage.available_bytes)


def collect_with(collection: ImageCollection) -> Collect:
    """What a prune by the settings calls."""

    async def collect(handle: OperationHandle, is_dry_run: bool) -> tuple[tuple[str, ...], int]:
        if not is_dry_run:
            return await collection.collect(handle)
        found = await collection.preview()
        return tuple(image_id for image_id, _ in found.doomed), found.reclaimed_bytes

    return collect


def hearing(bus: EventBus, uses: ImageUses, collection: ImageCollection, meter: Meter) -> Callable[[list[Event]], None]:
    """Who hears of the events of each commit: watchers, and those who keep account of images."""

    def deliver(events: list[Event]) -> None:
        bus.publish(events)
        meter.hear(events)
        if uses.hear(events):
            collection.want()

    return deliver


async def swept(collector: Collector, repairer: Repairer) -> None:
    """What an interrupted deletion, pull or repair left is gone."""
    await collector.recover()
    await repairer.recover()


def begin_background(undo: AsyncExitStack, meter: Meter, collection: ImageCollection, interval_seconds: float) -> None:
    """Containers are known and counted, and images collected, until the stack is unwound."""
    meter.open()
    for work in (collection.run(interval_seconds), meter.run()):
        undo.push_async_callback(ended, asyncio.ensure_future(work))


async def ended(task: "asyncio.Task[None]") -> None:
    """The task was told to end, and has; a bug in it is logged."""
    task.cancel()
    try:
        await task
    except asyncio.CancelledError:
        return
    except Exception:  # noqa: BLE001 - a stop goes on to its end
        _log.exception("a task of the engine had failed")


def registry_settings(config: Config) -> RegistrySettings:
    """How registries are reached."""
    has_auth_file = config.registry_auth_file != Path()
    return RegistrySettings(
        user_agent=f"fluytd/{__version__}",
        hosts_dir=config.registry_hosts_dir,
        auth_file=config.registry_auth_file if has_auth_file else None,
        proxies=Proxies(config.http_proxy, config.https_proxy, config.no_proxy),
        upload_chunk_bytes=config.registry_upload_chunk_bytes,
    )


def started_log_readers(undo: AsyncExitStack) -> LogReaders:
    """The readers of logs, until the stack is unwound."""
    readers = LogReaders()
    readers.start()
    undo.callback(readers.close)
    return readers


def open_layers(config: Config, workers: Workers) -> CoreLayers:
    """The layer store of the configured kind; why `auto` did not choose erofs is logged. Blocking."""
    layers = CoreLayers(config.data_root, config.layer_store, workers)
    if layers.core.choice_detail:
        _log.info("layers are kept as directories: %s", layers.core.choice_detail)
    return layers


def check_versions() -> None:
    """Raises VERSION_MISMATCH unless the core is of this version."""
    actual = _core.build_info().version
    if actual != __version__:
        raise VersionMismatch(expected=__version__, actual=actual)
    if _core.build_info().profile == "debug":
        _log.warning("the core is a debug build: slow")


def counts_of(containers: ContainerService) -> Mapping[str, int]:
    """Number of containers by the name of their state."""
    return Counter(entry.container.state.value for entry in containers.ctx.table)


def execs_of(containers: ContainerService) -> ExecService:
    """Further processes in these containers, whose health checks are such."""
    execs = ExecService(containers.ctx)
    containers.ctx.probe = ExecProbe(execs)
    return execs


async def found_again(containers: ContainerService, execs: ExecService) -> int:
    """How many containers of an earlier daemon run on; they and their further processes are known from now on."""
    report = await recover(containers.ctx)
    execs.adopt()
    return report.adopted_count


def limits_of(config: Config) -> list[tuple[str, int, str, str]]:
    """The settings that bound input and use, as GetInfo tells them."""
    return [
        ("load_max_bytes", config.load_max_bytes, "bytes", "largest image archive taken from a client"),
        ("log_segment_bytes", config.log_segment_bytes, "bytes", "size of one segment of a container's log"),
        ("log_segment_count", config.log_segment_count, "count", "segments of a container's log that are kept"),
        ("event_log_events", config.event_log_events, "count", "events that are kept"),
        ("operation_history", config.operation_history, "count", "ended operations that are kept"),
        *collection_limits(config),
    ]


async def tell(database: Database, subject: str, fact: Fact) -> None:
    """The fact stands in the log of events; a failure to write it is logged and hinders neither start nor stop."""
    try:
        await database.write(lambda txn: txn.emit(NewEvent(fact, subject)))
    except EngineError as error:
        _log.error("%s could not be recorded: %s", type(fact).__name__, error)
