"""Figures of running containers for any number of watchers, each container read once for all of them."""

import asyncio
import math
from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass
from typing import Final

from fluytd.containers import model
from fluytd.containers.context import Context
from fluytd.containers.model import Container
from fluytd.containers.process_ports import Stats
from fluytd.containers.spec import NetworkMode
from fluytd.containers.table import Entry

#: Shortest time between rounds.
MIN_INTERVAL_MILLIS: Final = 100
DEFAULT_INTERVAL_MILLIS: Final = 1_000
#: Longest time between rounds: a day.
MAX_INTERVAL_MILLIS: Final = 24 * 3600 * 1000
#: How often every figure of a group is read, one whose processes do not run included.
WHOLE_SECONDS: Final = 10.0
#: Pressure younger than this is not read again: the kernel averages it every two seconds; rounds come a little early.
#: Source: kernel/sched/psi.c, PSI_FREQ.
_PRESSURE_SECONDS: Final = 1.9
#: Figures no older than this part of a watcher's interval need not be read again.
_FRESH_PART: Final = 0.1


@dataclass(frozen=True, slots=True)
class Sample:
    """Figures of one container."""

    container_id: str
    stats: Stats


@dataclass(frozen=True, slots=True)
class _Known:
    """The newest figures of one container; times are monotonic, in seconds."""

    read_at: float
    #: When it was read without regard to what was known.
    whole_at: float
    #: When its pressure was read.
    pressure_at: float
    container: Container
    stats: Stats

    def is_of(self, container: Container) -> bool:
        """The run that they are of goes on, under the same limits."""
        known = self.container
        return (known.run_number, known.spec.resources) == (container.run_number, container.spec.resources)


class Sampler:
    """Reads figures and keeps the newest of each container. Made once; belongs to the event loop."""

    def __init__(self, ctx: Context) -> None:
        self._ctx = ctx
        self._reading = asyncio.Lock()
        #: By container id.
        self._newest: dict[str, _Known] = {}

    async def watch(
        self, entries: Sequence[Entry] | None, interval_millis: int, *, once: bool
    ) -> AsyncGenerator[list[Sample], None]:
        """Yields a round at once and then one at each multiple of the interval, so that watchers of one interval share
        what is read; ends after one with `once`, or when all of `entries` have ended.

        Args:
            entries: None: all that run, those that start later included.
            interval_millis: `MIN_INTERVAL_MILLIS` to `MAX_INTERVAL_MILLIS`.
        """
        interval = interval_millis / 1000
        while True:
            running = self._running(entries)
            if entries is not None and not running and not once:
                return
            yield await self.read(running, interval * _FRESH_PART)
            if once:
                return
            now = self._ctx.clock.monotonic()
            await self._ctx.sleep((math.floor(now / interval) + 1) * interval - now)

    async def read_all(self, max_age_seconds: float) -> list[Sample]:
        """As `read`, of all that run."""
        return await self.read(self._running(None), max_age_seconds)

    def _running(self, entries: Sequence[Entry] | None) -> list[Entry]:
        return [
            entry
            for entry in (self._ctx.table if entries is None else entries)
            if entry.container.state in model.EXECUTED and not entry.removed.is_set()
        ]

    async def read(self, entries: Sequence[Entry], max_age_seconds: float) -> list[Sample]:
        """Figures of these containers, none older than that, in their order. Raises IO_FAILED."""
        async with self._reading:  # who waits here finds what was read meanwhile
            now = self._ctx.clock.monotonic()
            stale = [entry.container for entry in entries if not self._is_fresh(entry, now - max_age_seconds)]
            if stale:
                await self._read(stale, now)
                self._forget()
            return [
                Sample(entry.container.id, self._newest[entry.container.id].stats)
                for entry in entries
                if entry.container.id in self._newest
            ]

    async def _read(self, containers: Sequence[Container], now: float) -> None:
        known = [self._before(container, now) for container in containers]
        groups = [
            (container.id, _network_pid(container), (before.stats, _pressure_is_new(before, now)) if before else None)
            for container, before in zip(containers, known, strict=True)
        ]
        found = await self._ctx.workers.run(self._ctx.runtime.stats, groups)
        for container, before, stats in zip(containers, known, found, strict=True):
            whole_at = before.whole_at if before else now
            pressure_at = before.pressure_at if before and _pressure_is_new(before, now) else now
            self._newest[container.id] = _Known(now, whole_at, pressure_at, container, stats)

    def _before(self, container: Container, now: float) -> _Known | None:
        """What need not be read again of a group that is as it was."""
        known = self._newest.get(container.id)
        return known if known and known.is_of(container) and now - known.whole_at < WHOLE_SECONDS else None

    def _is_fresh(self, entry: Entry, since: float) -> bool:
        known = self._newest.get(entry.container.id)
        return known is not None and known.read_at >= since and known.is_of(entry.container)

    def _forget(self) -> None:
        """Figures of containers that are gone go too, once they are many."""
        if len(self._newest) > 2 * len(self._ctx.table) + 64:
            self._newest = {id_: kept for id_, kept in self._newest.items() if self._ctx.table.get(id_) is not None}


def _pressure_is_new(known: _Known, now: float) -> bool:
    return now - known.pressure_at < _PRESSURE_SECONDS


def _network_pid(container: Container) -> int:
    """A process in whose network there is something to count; 0 where that is the host's, or the loopback alone."""
    return 0 if container.spec.network.mode in (NetworkMode.HOST, NetworkMode.NONE) else container.host_pid
