"""Volumes in memory: the authority on which exist and which names are taken."""

import asyncio
from collections.abc import Iterator
from dataclasses import dataclass, field

from fluytd.errors import VolumeExists, VolumeNotFound
from fluytd.volumes.model import Volume


@dataclass(eq=False, slots=True)
class VolumeEntry:
    """One volume: its record, and what goes on around it."""

    volume: Volume
    #: Held while something changes the volume or fills it.
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    #: It is gone: whoever waited for the lock finds nothing.
    is_removed: bool = False


class VolumeTable:
    """Belongs to the event loop."""

    def __init__(self) -> None:
        self._by_id: dict[str, VolumeEntry] = {}
        self._by_name: dict[str, VolumeEntry] = {}

    def add(self, volume: Volume) -> VolumeEntry:
        """The volume is in the table and holds its name. Raises VOLUME_EXISTS."""
        if volume.name in self._by_name:
            raise VolumeExists(volume=volume.name)
        entry = VolumeEntry(volume)
        self._by_id[volume.id] = entry
        self._by_name[volume.name] = entry
        return entry

    def rename(self, entry: VolumeEntry, name: str) -> None:
        """The name is the volume's and the old one is free. Raises VOLUME_EXISTS."""
        holder = self._by_name.get(name)
        if holder is not None and holder is not entry:
            raise VolumeExists(volume=name)
        del self._by_name[entry.volume.name]
        self._by_name[name] = entry

    def remove(self, entry: VolumeEntry) -> None:
        """It is gone and its name is free. Idempotent."""
        entry.is_removed = True
        if self._by_id.get(entry.volume.id) is entry:
            del self._by_id[entry.volume.id]
        if self._by_name.get(entry.volume.name) is entry:
            del self._by_name[entry.volume.name]

    def named(self, name: str) -> VolumeEntry | None:
        """The volume of this name, if there is one."""
        return self._by_name.get(name)

    def find(self, name: str) -> VolumeEntry:
        """The volume of this name. Raises VOLUME_NOT_FOUND."""
        entry = self._by_name.get(name)
        if entry is None:
            raise VolumeNotFound(volume=name)
        return entry

    def get(self, volume_id: str) -> VolumeEntry | None:
        """The volume of this id, if there is one."""
        return self._by_id.get(volume_id)

    def __iter__(self) -> Iterator[VolumeEntry]:
        """All, by name. The table may be changed meanwhile."""
        return iter([self._by_name[name] for name in sorted(self._by_name)])

    def __len__(self) -> int:
        return len(self._by_id)
