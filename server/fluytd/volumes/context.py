"""What all that is done with volumes shares: table, backends, tasks that outlive a call. It holds no rule."""

import asyncio
from collections.abc import Coroutine
from dataclasses import dataclass, field
from typing import Any, TypeVar

from fluytd.clock import Clock
from fluytd.errors import VolumeInUse
from fluytd.host.ports import Quotas
from fluytd.volumes.meter import VolumeMeter
from fluytd.volumes.model import Volume
from fluytd.volumes.ports import Holders, Sources, VolumeDirectories, VolumeDrivers, VolumeHolder, VolumeRecords
from fluytd.volumes.table import VolumeTable
from fluytd.workers import Workers

T = TypeVar("T")
#: Containers that a refusal names.
MAX_NAMED_HOLDERS = 8


@dataclass(slots=True, kw_only=True)
class VolumeContext:
    """Made once; belongs to the event loop."""

    directories: VolumeDirectories
    drivers: VolumeDrivers
    records: VolumeRecords
    holders: Holders
    workers: Workers
    clock: Clock
    meter: VolumeMeter
    quotas: Quotas
    #: None where places of the host are trusted to answer.
    sources: Sources | None = None
    table: VolumeTable = field(default_factory=VolumeTable)
    tasks: set[asyncio.Task[Any]] = field(default_factory=set)

    async def complete(self, work: Coroutine[Any, Any, T], name: str) -> T:
        """The result of work that is carried to its end although the caller may be cancelled."""
        task = asyncio.get_running_loop().create_task(work, name=name)
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)
        return await asyncio.shield(task)

    def held(self, volume: Volume) -> list[VolumeHolder]:
        """The containers that have it."""
        return self.holders.volume_holders(volume.id)

    def check_unheld(self, volume: Volume, *, by_live_only: bool = False, apart_from: str = "") -> None:
        """Raises VOLUME_IN_USE if a container has it; `by_live_only`: one that runs; `apart_from`: another."""
        holders = [one for one in self.held(volume) if one.container_id != apart_from]
        found = [one.container_id for one in holders if one.is_live or not by_live_only]
        if found:
            raise VolumeInUse(volume=volume.name, containers=found[:MAX_NAMED_HOLDERS])
