"""One engine on its roots: made of its parts, started, taken apart.

Start: roots, records, stores, services, sockets (calls are refused still), recovery, then calls are let in. Each step's
undo stands on one stack, so that a start that fails and a stop are the same way back.
"""

from collections.abc import Sequence
from contextlib import AsyncExitStack
from typing import Any

from fluytd import __version__, _core
from fluytd.api.builds_service import BuildServicer
from fluytd.api.containers_service import ContainerServicer
from fluytd.api.engine_service import EngineServicer
from fluytd.api.events_service import EventServicer
from fluytd.api.execs_service import ExecServicer
from fluytd.api.images_service import ImageServicer
from fluytd.api.logs_service import LogServicer
from fluytd.api.networks_service import NetworkServicer
from fluytd.api.operations_service import OperationServicer
from fluytd.api.server import Server
from fluytd.api.volumes_service import VolumeServicer
from fluytd.bootstrap import upkeep as keeping
from fluytd.bootstrap.base import Base, base_of
from fluytd.bootstrap.builds import BuildParts, build_parts_of
from fluytd.bootstrap.containers import ContainerParts, container_parts_of
from fluytd.bootstrap.facts import engine_facts_of
from fluytd.bootstrap.images import ImageParts, image_parts_of, image_service_of
from fluytd.bootstrap.metrics import metrics_of, serve_metrics
from fluytd.bootstrap.quotas import quotas_of, swept_bounds
from fluytd.bootstrap.tracing import begin_tracing
from fluytd.bootstrap.upkeep import Upkeep, upkeep_of
from fluytd.bootstrap.volumes import volumes_of
from fluytd.config import Config
from fluytd.events.model import EngineStarted, EngineStopping
from fluytd.images.remote import Remote
from fluytd.images.spool import Spool
from fluytd.metrics.calls import CallFigures
from fluytd.volumes.service import VolumeService


class Engine:
    """`start` once, then `stop` once."""

    def __init__(self, config: Config) -> None:
        """Touches nothing yet."""
        self._config = config
        self._undo = AsyncExitStack()

    async def start(self) -> None:
        """The engine serves: what the last run left is in order, and calls are let in.

        Raises what a part raises that cannot be had (DATA_ROOT_IN_USE, IO_FAILED, VERSION_MISMATCH, FIELD_INVALID...);
        everything is taken apart again then.
        """
        async with AsyncExitStack() as undo:
            await _start(await base_of(self._config, undo))
            self._undo = undo.pop_all()

    async def stop(self) -> None:
        """Nothing listens or runs here any more and all records are on disk; containers run on. Idempotent."""
        await self._undo.aclose()


async def _start(base: Base) -> None:
    containers: ContainerParts
    images = await image_parts_of(base, lambda: containers.service)
    quotas = quotas_of(base)
    volumes = await volumes_of(base, images, lambda: containers.service, quotas)
    containers = await container_parts_of(base, images, volumes, quotas)
    builds = await build_parts_of(base, images, containers)
    upkeep = await upkeep_of(base, images, containers, volumes)
    begin_tracing(base)
    calls = CallFigures()
    servicers = await _servicers(base, images, containers, volumes, builds, upkeep)
    server = Server(base.config, base.requests, servicers, calls.ended)
    base.undo.push_async_callback(server.stop, base.config.drain_seconds)
    await server.start()
    for part in (images.catalogue, upkeep.uses, base.operations, volumes):
        await part.open()
    adopted_count = await containers.found_again()
    await swept_bounds(base, quotas)
    await builds.found_again()
    await keeping.swept(images, upkeep)
    await base.tell(base.identity, EngineStarted(__version__, adopted_count))
    keeping.begin(base, containers, volumes, upkeep)
    base.undo.callback(base.bus.close)
    # Before the server ends its streams, so that no caller is taken for one that left.
    base.undo.callback(containers.execs.stop)
    base.undo.push_async_callback(base.tell, base.identity, EngineStopping())
    serve_metrics(base, metrics_of(base, images, containers, calls))
    await server.open()


async def _servicers(
    base: Base,
    images: ImageParts,
    containers: ContainerParts,
    volumes: VolumeService,
    builds: BuildParts,
    upkeep: Upkeep,
) -> Sequence[Any]:
    """One of each service that is built."""
    host = await base.host.facts()
    spool = Spool(base.config.data_root, base.workers, max_size_bytes=base.config.load_max_bytes)
    image_service = image_service_of(base, images, containers.service, upkeep.uses, upkeep.collection)
    return (
        EngineServicer(engine_facts_of(base, host, images, containers, volumes), base.host, upkeep.checker),
        OperationServicer(base.operations),
        EventServicer(base.events, base.clock),
        ContainerServicer(containers.service, containers.files, containers.copies, base.requests, host.memory_bytes),
        BuildServicer(builds.service),
        ExecServicer(containers.execs, base.requests),
        LogServicer(containers.logs),
        NetworkServicer(containers.networks.service, containers.service),
        ImageServicer(image_service, Remote(images.registry, _core.CancelToken), spool),
        VolumeServicer(volumes, spool),
    )
