"""Builds that run and the last ones that ended: their records and their output, kept on disk, bounded in number."""

import asyncio
import logging
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from typing import Final, Protocol

from fluytd.builds.log import BuildLog, BuildLogs, frame
from fluytd.builds.model import BuildEntry
from fluytd.builds.progress import Steps
from fluytd.errors import EngineError, EngineRestarted, FieldInvalid, OperationNotFound
from fluytd.operations.model import BuildResult, BuildStep, OperationState

_log = logging.getLogger(__name__)

#: Ended builds that are kept; the oldest go first.
MAX_BUILDS: Final = 100
#: Output that was written is on disk after so long.
FLUSH_SECONDS: Final = 0.25


class HistoryFiles(Protocol):
    """Where builds are kept. Calls block no event loop."""

    async def load(self) -> list[BuildEntry]:
        """Every build that is kept, also those that a killed daemon left RUNNING. Raises IO_FAILED."""

    async def save(self, entry: BuildEntry) -> None:
        """The record is this one, whole. Raises STORAGE_FULL, IO_FAILED."""

    async def append(self, build_id: str, data: bytes) -> int:
        """The build's output has these frames behind the others; returns its bytes. Raises STORAGE_FULL, IO_FAILED."""

    async def replace_output(self, build_id: str, data: bytes) -> None:
        """The build's output is this. Raises STORAGE_FULL, IO_FAILED."""

    async def read_output(self, build_id: str) -> bytes:
        """The build's output; empty if there is none. Raises IO_FAILED."""

    async def delete(self, build_ids: Iterable[str]) -> None:
        """Nothing of these builds is left. Raises IO_FAILED."""


@dataclass(slots=True)
class _Running:
    """A build that goes on."""

    log: BuildLog
    pending: bytearray = field(default_factory=bytearray)
    steps: Steps | None = None
    is_ended: bool = False
    flusher: "asyncio.Task[None] | None" = None


class BuildHistory:
    """All builds that are kept. Belongs to the event loop."""

    def __init__(self, files: HistoryFiles, now_unix_nanos: Callable[[], int], *, max_log_bytes: int) -> None:
        """`max_log_bytes`: output of one build that is kept; on disk up to twice that while it runs."""
        self._files = files
        self._now = now_unix_nanos
        self._max_log_bytes = max_log_bytes
        self._entries: dict[str, BuildEntry] = {}
        self._running: dict[str, _Running] = {}
        self._logs = BuildLogs()

    async def open(self) -> None:
        """Builds of earlier daemons are known; those that were cut off have failed. Raises IO_FAILED."""
        for entry in sorted(await self._files.load(), key=lambda one: (one.create_time_unix_nanos, one.id)):
            known = entry
            if not entry.is_ended:
                failure = EngineRestarted(id=entry.id).failure
                known = replace(entry, state=OperationState.FAILED, end_time_unix_nanos=self._now(), failure=failure)
                await self._files.save(known)
            self._entries[entry.id] = known
        await self._trim()

    async def begin(self, entry: BuildEntry) -> BuildLog:
        """The build is on record; returns where its output goes. Raises STORAGE_FULL, IO_FAILED."""
        # Before anything is waited for: the caller that began the build may read its output at once.
        running = _Running(self._logs.begin(entry.id))
        running.log.tee = lambda piece: running.pending.extend(frame(piece))
        self._entries[entry.id] = entry
        self._running[entry.id] = running
        try:
            await self._files.save(entry)
        except EngineError:
            running.log.end()
            del self._running[entry.id], self._entries[entry.id]
            raise
        running.flusher = asyncio.ensure_future(self._flush_until_ended(entry.id, running))
        return running.log

    def track(self, build_id: str, steps: Steps) -> None:
        """The build has these steps, as they stand."""
        self._running[build_id].steps = steps

    async def end(
        self,
        build_id: str,
        state: OperationState,
        *,
        result: BuildResult | None = None,
        error: EngineError | None = None,
    ) -> None:
        """The build has ended so, on record with all of its output that is kept. What cannot be written is logged."""
        running = self._running.pop(build_id)
        running.is_ended = True
        running.log.end()
        entry = replace(
            self._sampled(self._entries[build_id], running),
            state=state,
            end_time_unix_nanos=self._now(),
            result=result,
            failure=error.failure if error is not None else None,
        )
        self._entries[build_id] = entry
        if running.flusher is not None:
            running.flusher.cancel()
            await asyncio.gather(running.flusher, return_exceptions=True)
        try:
            await self._files.replace_output(build_id, b"".join(map(frame, running.log.pieces)))
            await self._files.save(entry)
            await self._trim()
        except EngineError as failure:
            _log.error("the history of build %s could not be written: %s", build_id, failure)

    async def leave(self, build_id: str) -> None:
        """The engine stops: the build is left on record as one that runs, for the next start to fail it."""
        running = self._running.pop(build_id)
        running.is_ended = True
        running.log.end()
        if running.flusher is not None:
            running.flusher.cancel()
            await asyncio.gather(running.flusher, return_exceptions=True)
        try:
            await self._files.replace_output(build_id, b"".join(map(frame, running.log.pieces)))
            await self._files.save(self._sampled(self._entries[build_id], running))
        except EngineError as failure:
            _log.error("the history of build %s could not be written: %s", build_id, failure)

    async def _flush_until_ended(self, build_id: str, running: _Running) -> None:
        try:
            while not running.is_ended:
                await asyncio.sleep(FLUSH_SECONDS)
                if not running.pending:
                    continue
                data = bytes(running.pending)
                running.pending.clear()
                if await self._files.append(build_id, data) > 2 * self._max_log_bytes:
                    kept = b"".join(map(frame, running.log.pieces))
                    running.pending.clear()
                    await self._files.replace_output(build_id, kept)
        except EngineError as failure:
            # The build itself goes on, and its output can be followed; it is written once more at its end.
            _log.error("the output of build %s could not be written: %s", build_id, failure)
            running.log.tee = None

    def _sampled(self, entry: BuildEntry, running: _Running | None) -> BuildEntry:
        if running is None:
            return entry
        steps: tuple[BuildStep, ...] = running.steps.snapshot().steps if running.steps is not None else ()
        return replace(entry, steps=steps, log_size_bytes=running.log.end_bytes)

    def entries(self) -> list[BuildEntry]:
        """Every build, begun last first."""
        found = [self._sampled(entry, self._running.get(entry.id)) for entry in self._entries.values()]
        return sorted(found, key=lambda one: (one.create_time_unix_nanos, one.id), reverse=True)

    def get(self, build_id: str) -> BuildEntry:
        """Raises OPERATION_NOT_FOUND."""
        entry = self._entries.get(build_id)
        if entry is None:
            raise OperationNotFound(id=build_id)
        return self._sampled(entry, self._running.get(build_id))

    async def log(self, build_id: str) -> BuildLog | None:
        """The output of a build: as it is written, or from disk; None if the build is not kept. Raises IO_FAILED."""
        found = self._logs.get(build_id)
        if found is None and build_id in self._entries:
            found = BuildLog.read(await self._files.read_output(build_id))
        return found

    async def delete(self, build_ids: Iterable[str]) -> list[str]:
        """Those of them that are known are gone; returns them. Raises FIELD_INVALID for one that runs, IO_FAILED."""
        asked = list(build_ids)
        for index, build_id in enumerate(asked):
            if build_id in self._entries and build_id in self._running:
                raise FieldInvalid(field=f"ids[{index}]", rule=f"must name builds that have ended; {build_id} runs")
        gone = [one for one in dict.fromkeys(asked) if one in self._entries]
        await self._files.delete(gone)
        for build_id in gone:
            self._entries.pop(build_id, None)
            self._logs.forget(build_id)
        return gone

    def ended_ids(self) -> list[str]:
        """Ids of builds that have ended, begun first first."""
        return [one.id for one in reversed(self.entries()) if one.id not in self._running]

    async def _trim(self) -> None:
        ended = self.ended_ids()
        if len(ended) > MAX_BUILDS:
            await self.delete(ended[: len(ended) - MAX_BUILDS])
