"""What volumes take on disk: counted one after the other in the background, so that an answer walks nothing.

A volume is counted when something has changed it by way of the engine, when a container that had it ends, and again and
again while one runs with it; what is written meanwhile is not in the figures, which are marked as estimates then.
"""

import asyncio
import logging
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from typing import Final

from fluytd.errors import EngineError
from fluytd.events.model import Event, VolumeCreated, VolumeDeleted, VolumeMounted, VolumeRenamed, VolumeUnmounted
from fluytd.images.usage import Usage
from fluytd.volumes.model import Volume
from fluytd.volumes.ports import Holders, VolumeDirectories
from fluytd.volumes.table import VolumeTable
from fluytd.workers import Workers

_log = logging.getLogger(__name__)

#: How long the counting rests between two rounds over volumes that containers run with.
REST_SECONDS: Final = 30.0
#: How long after a change it begins, so that what comes together is counted together.
SETTLE_SECONDS: Final = 0.2


@dataclass(frozen=True, slots=True)
class VolumeSize:
    """What a volume takes."""

    bytes: int
    #: Something may have changed it since, or it was too large to be counted whole.
    is_estimate: bool


class VolumeMeter:
    """Belongs to the event loop."""

    def __init__(self, directories: VolumeDirectories, workers: Workers) -> None:
        self._directories = directories
        self._workers = workers
        self._table: VolumeTable | None = None
        self._holders: Holders | None = None
        self._sizes: dict[str, VolumeSize] = {}
        self._changed: set[str] = set()
        self._has_changed = asyncio.Event()

    def open(self, table: VolumeTable, holders: Holders) -> None:
        """Every volume of the table is known, none counted yet."""
        self._table, self._holders = table, holders
        for entry in table:
            self.note_change(entry.volume.id)

    def note_change(self, volume_id: str) -> None:
        """It is counted again soon."""
        self._changed.add(volume_id)
        self._has_changed.set()

    def hear(self, events: Iterable[Event]) -> None:
        """Takes note of what happens to volumes. Called with the events of each commit."""
        if self._table is None:
            return
        for event in events:
            match event.fact:
                case (
                    VolumeCreated(volume=name)
                    | VolumeRenamed(volume=name)
                    | VolumeMounted(volume=name)
                    | VolumeUnmounted(volume=name)
                ):
                    entry = self._table.named(name)
                    if entry is not None:
                        self.note_change(entry.volume.id)
                case VolumeDeleted():
                    self._sizes = {id_: size for id_, size in self._sizes.items() if self._table.get(id_) is not None}
                case _:
                    pass

    def size(self, volume: Volume, *, is_live: bool) -> VolumeSize | None:
        """What is known of it now, with which a container runs or none; None before it was counted. Never blocks."""
        known = self._sizes.get(volume.id)
        if known is None or not volume.has_data_here:
            return None
        return VolumeSize(known.bytes, known.is_estimate or volume.id in self._changed or is_live)

    def usage(self) -> Usage:
        """All volumes, from what was counted; no file is looked at."""
        count = active = size = reclaimable = 0
        is_estimate = False
        all_holders = self._holders.all_volume_holders() if self._holders is not None else {}
        for entry in self._table or ():
            holders = all_holders.get(entry.volume.id, [])
            known = self.size(entry.volume, is_live=any(one.is_live for one in holders))
            count += 1
            active += bool(holders)
            size += known.bytes if known is not None else 0
            reclaimable += known.bytes if known is not None and not holders else 0
            is_estimate = is_estimate or known is None or known.is_estimate
        return Usage(count, active, size, reclaimable, is_estimate)

    async def run(self) -> None:
        """Counts what has to be counted, until cancelled."""
        while True:
            all_holders = self._holders.all_volume_holders() if self._holders is not None else {}
            for volume_id, holders in all_holders.items():
                if any(one.is_live for one in holders):
                    self.note_change(volume_id)
            with suppress(TimeoutError):
                async with asyncio.timeout(REST_SECONDS):
                    while True:
                        await self._has_changed.wait()
                        await asyncio.sleep(SETTLE_SECONDS)
                        self._has_changed.clear()
                        while self._changed:
                            await self.count(self._changed.pop())

    async def count(self, volume_id: str) -> VolumeSize:
        """What it takes now. A failure is logged, and leaves what was known."""
        try:
            size = VolumeSize(*await self._workers.run(self._directories.usage, volume_id))
        except EngineError as error:
            _log.warning("what volume %s takes could not be counted: %s", volume_id, error)
            return self._sizes.get(volume_id, VolumeSize(0, is_estimate=True))
        if self._table is not None and self._table.get(volume_id) is not None:
            self._sizes[volume_id] = size
        return size
