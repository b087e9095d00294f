"""What goes on by itself: collection of images, repair of what is stored, accounts kept from events."""

import asyncio
import logging
from collections.abc import Callable, Coroutine
from contextlib import AsyncExitStack
from dataclasses import dataclass

from fluytd import _core
from fluytd.bootstrap.base import Base
from fluytd.bootstrap.containers import ContainerParts
from fluytd.bootstrap.images import ImageParts
from fluytd.bootstrap.networks import keep_telling
from fluytd.checks.records import RecordRepairer
from fluytd.checks.repair import Repairer
from fluytd.checks.service import StorageChecker, Stored
from fluytd.checks.store import CoreWorkshop
from fluytd.containers.service import ContainerService
from fluytd.events.model import Event
from fluytd.gc.images import ImageCollection
from fluytd.gc.model import DiskFacts
from fluytd.gc.settings import collection_settings, pinned_patterns
from fluytd.host.service import HostService
from fluytd.images.uses import ImageUses
from fluytd.volumes.service import VolumeService

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Upkeep:
    """Who keeps the house in order."""

    uses: ImageUses
    collection: ImageCollection
    repairer: Repairer
    checker: StorageChecker


async def upkeep_of(base: Base, images: ImageParts, containers: ContainerParts, volumes: VolumeService) -> Upkeep:
    """Nothing goes on yet (see `begin`), but what is committed from now on is heard."""
    uses = ImageUses(base.database, base.clock)
    collection = ImageCollection(
        images.catalogue,
        uses,
        images.collector,
        containers.service,
        images.leases,
        collection_settings(base.config),
        pinned_patterns(base.config),
        base.clock,
        lambda: _disk_of(base.host),
        lambda fact: base.tell(base.identity, fact),
    )
    repairer = await _repairer(base, images, containers.service)
    checker = StorageChecker(
        Stored(images.blobs, images.layers, images.catalogue.table, images.catalogue, images.catalogue),
        images.leases,
        images.collector,
        repairer,
        RecordRepairer(images.blobs, images.layers, images.catalogue, base.clock),
        _core.CancelToken,
        lambda fact: base.tell(fact.subject, fact),
    )
    upkeep = Upkeep(uses, collection, repairer, checker)
    base.database.deliver_to(_hearing(base, upkeep, containers, volumes))
    return upkeep


async def swept(images: ImageParts, upkeep: Upkeep) -> None:
    """What an interrupted deletion, pull or repair left is gone."""
    await images.collector.recover()
    await upkeep.repairer.recover()


def begin(base: Base, containers: ContainerParts, volumes: VolumeService, upkeep: Upkeep) -> None:
    """Containers are known and counted, and images collected, until the engine stops."""
    containers.meter.open()
    volumes.measure()
    background(base.undo, volumes.ctx.meter.run())
    background(base.undo, upkeep.collection.run(base.config.image_collection_interval_seconds))
    background(base.undo, containers.meter.run())
    background(base.undo, keep_telling(containers.networks.plugins, base.workers))


def background(undo: AsyncExitStack, work: Coroutine[None, None, None]) -> None:
    """The work goes on until the stack is unwound."""
    undo.push_async_callback(_ended, asyncio.ensure_future(work))


def _hearing(
    base: Base, upkeep: Upkeep, containers: ContainerParts, volumes: VolumeService
) -> Callable[[list[Event]], None]:
    """Who hears of the events of each commit: watchers, and those who keep account of images."""

    def deliver(events: list[Event]) -> None:
        base.bus.publish(events)
        containers.meter.hear(events)
        volumes.ctx.meter.hear(events)
        if upkeep.uses.hear(events):
            upkeep.collection.want()

    return deliver


async def _repairer(base: Base, images: ImageParts, containers: ContainerService) -> Repairer:
    def runs_on(layer_id: str) -> bool:
        live = (entry.container for entry in containers.ctx.table if entry.container.is_live)
        shown = (image for one in live for image in one.all_images)
        return any(layer_id in image.layer_ids for image in shown)

    workshop = await base.workers.run(
        CoreWorkshop, base.config.data_root, images.blobs, images.layers, images.registry.core, base.workers, runs_on
    )
    return Repairer(workshop, images.catalogue.table, images.blobs, images.catalogue)


async def _disk_of(host: HostService) -> DiskFacts:
    """The file system of the data root now."""
    storage = await host.storage()
    return DiskFacts(storage.total_bytes, storage.available_bytes)


async def _ended(task: "asyncio.Task[None]") -> None:
    """The task was told to end, and has; a bug in it is logged."""
    task.cancel()
    try:
        await task
    except asyncio.CancelledError:
        return
    except Exception:  # noqa: BLE001 - a stop goes on to its end
        _log.exception("a task of the engine had failed")
