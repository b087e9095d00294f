"""What containers take on disk: counted one container after the other in the background, added up as it is counted.

An answer is a look at the sums: it walks nothing, and no container is counted for it. A container that has ended is
counted once; one that runs, again and again, and what it wrote since then is not in the sums.
"""

import asyncio
import logging
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from typing import Final

from fluytd.containers.context import Context
from fluytd.containers.model import State
from fluytd.errors import EngineError
from fluytd.events.model import (
    ContainerCreated,
    ContainerDeleted,
    ContainerExited,
    ContainerLost,
    ContainerStarted,
    Event,
)
from fluytd.images.usage import Usage

_log = logging.getLogger(__name__)

#: How long the counting rests between two rounds over the containers that run.
REST_SECONDS: Final = 30.0
#: How long an ended one is left alone before it is counted: one that removes itself is gone by then, and what many
#: short runs leave is counted together.
SETTLE_SECONDS: Final = 0.2


@dataclass(slots=True)
class _Counted:
    """One container as it was counted."""

    writable_bytes: int = 0
    log_bytes: int = 0
    is_live: bool = False
    #: Nothing has changed since it was counted, and it was counted whole.
    is_exact: bool = False


@dataclass(slots=True)
class _Sums:
    """Sums over containers, kept up to date one container at a time."""

    count: int = 0
    writable_bytes: int = 0
    log_bytes: int = 0

    def add(self, one: _Counted, sign: int) -> None:
        """One container more or, with -1, less."""
        self.count += sign
        self.writable_bytes += sign * one.writable_bytes
        self.log_bytes += sign * one.log_bytes


@dataclass(frozen=True, slots=True)
class ContainerUsage:
    """What containers take."""

    writable: Usage
    logs: Usage


class Meter:
    """Counts what containers write. Belongs to the event loop."""

    def __init__(self, ctx: Context) -> None:
        """Counts the containers of `ctx`."""
        self._ctx = ctx
        self._counted: dict[str, _Counted] = {}
        self._all, self._live = _Sums(), _Sums()
        self._inexact_count = 0
        #: Ids of containers that have ended and were not counted since.
        self._ended: set[str] = set()
        self._has_ended = asyncio.Event()

    def usage(self) -> ContainerUsage:
        """What is known now, in constant time; a lower bound while a container runs or is not counted yet."""
        everything, live, is_estimate = self._all, self._live, self._inexact_count > 0

        def usage(size_bytes: int, live_bytes: int) -> Usage:
            return Usage(everything.count, live.count, size_bytes, size_bytes - live_bytes, is_estimate)

        return ContainerUsage(
            usage(everything.writable_bytes, live.writable_bytes), usage(everything.log_bytes, live.log_bytes)
        )

    def open(self) -> None:
        """Every container of the table is known, none counted yet. Called once they have been recovered."""
        for entry in self._ctx.table:
            self._put(entry.container.id, _Counted(is_live=entry.container.is_live))

    def hear(self, events: Iterable[Event]) -> None:
        """Takes note of containers that come, go, start and end. Called with the events of each commit."""
        for event in events:
            match event.fact:
                case ContainerCreated(container_id=container_id):
                    # Its directories are empty still.
                    self._put(container_id, _Counted(is_exact=True))
                case ContainerDeleted(container_id=container_id):
                    self._remove(container_id)
                case ContainerStarted(container_id=container_id):
                    self._put(container_id, self._changed_to(container_id, is_live=True))
                case ContainerExited(container_id=container_id) | ContainerLost(container_id=container_id):
                    self._put(container_id, self._changed_to(container_id, is_live=False))
                    self._ended.add(container_id)
                    self._has_ended.set()
                case _:
                    pass

    async def run(self) -> None:
        """Counts what has to be counted, until cancelled. An end has that container counted, not those that run."""
        while True:
            await self._count_each([id_ for id_, counted in self._counted.items() if not counted.is_exact])
            with suppress(TimeoutError):
                async with asyncio.timeout(REST_SECONDS):
                    while True:
                        await self._has_ended.wait()
                        await asyncio.sleep(SETTLE_SECONDS)
                        self._has_ended.clear()
                        ended, self._ended = self._ended, set()
                        await self._count_each(ended)

    async def _count_each(self, container_ids: Iterable[str]) -> None:
        for container_id in container_ids:
            await self._count(container_id)

    async def _count(self, container_id: str) -> None:
        before = self._counted.get(container_id)
        if before is None:
            return
        try:
            (writable_bytes, is_bound), log_bytes = await self._ctx.workers.run(self._look, container_id)
        except EngineError as error:
            entry = self._ctx.table.get(container_id)
            if entry is not None and entry.container.state is not State.DELETING:
                _log.warning("what container %s takes could not be counted: %s", container_id, error)
            return
        # One that started, ended or went meanwhile is counted again, or not at all.
        if self._counted.get(container_id) is before:
            is_exact = not before.is_live and not is_bound
            self._put(container_id, _Counted(writable_bytes, log_bytes, before.is_live, is_exact))

    def _look(self, container_id: str) -> tuple[tuple[int, bool], int]:
        directories = self._ctx.directories
        return directories.writable_usage(container_id), directories.log_usage(container_id)

    def _changed_to(self, container_id: str, *, is_live: bool) -> _Counted:
        before = self._counted.get(container_id, _Counted())
        return _Counted(before.writable_bytes, before.log_bytes, is_live)

    def _put(self, container_id: str, counted: _Counted) -> None:
        self._remove(container_id)
        self._counted[container_id] = counted
        self._account(counted, 1)

    def _remove(self, container_id: str) -> None:
        before = self._counted.pop(container_id, None)
        if before is not None:
            self._account(before, -1)

    def _account(self, counted: _Counted, sign: int) -> None:
        self._all.add(counted, sign)
        if counted.is_live:
            self._live.add(counted, sign)
        self._inexact_count += 0 if counted.is_exact else sign
