"""Automatic collection of images: looks at disk and images, has `model.plan` decide, and deletes one after the other.

One collection runs at a time. It may be killed at any instruction: an image is gone whole or not at all, and what it
leaves of content is swept at the next start.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Final, Protocol

from fluytd import failpoints
from fluytd.clock import Clock
from fluytd.errors import EngineError
from fluytd.events.model import ENGINE_ACTOR, Fact, StorageReclaimed, StorageShort
from fluytd.gc.collect import Collector
from fluytd.gc.leases import Leases
from fluytd.gc.model import Cause, DiskFacts, ImageFacts, Plan, Settings, is_above_mark, plan
from fluytd.images.catalogue import Catalogue
from fluytd.images.filters import fits
from fluytd.images.model import Image
from fluytd.images.ports import ContainersUsingImage
from fluytd.images.uses import ImageUses

_log = logging.getLogger(__name__)

#: Most looks at the disk of one collection: what a deletion frees is known only afterwards.
MAX_ROUNDS: Final = 16


class Handle(Protocol):
    """What a collection asks of the operation that it is the work of."""

    def check(self) -> None:
        """Raises CANCELLED once the operation's end was asked for."""


class Nobody:
    """The handle of a collection that no operation shows."""

    def check(self) -> None:
        """Nobody cancels it."""


class ImageCollection:
    """Collects images. Belongs to the event loop."""

    def __init__(
        self,
        catalogue: Catalogue,
        uses: ImageUses,
        collector: Collector,
        containers: ContainersUsingImage,
        leases: Leases,
        settings: Settings,
        pinned_patterns: tuple[str, ...],
        clock: Clock,
        disk: Callable[[], Awaitable[DiskFacts]],
        tell: Callable[[Fact], Awaitable[None]],
    ) -> None:
        """`pinned_patterns`: images with a reference that one of these fits are pinned; `tell` records an event."""
        self._catalogue = catalogue
        self._uses = uses
        self._collector = collector
        self._containers = containers
        self._leases = leases
        self._settings = settings
        self._pinned_patterns = pinned_patterns
        self._clock = clock
        self._disk = disk
        self._tell = tell
        self._lock = asyncio.Lock()
        self._wanted = asyncio.Event()
        self._was_short = False

    def is_pinned(self, image: Image) -> bool:
        """True if no collection and no prune takes it."""
        if self._uses.is_pinned(image.id):
            return True
        names = self._catalogue.table.references(image.id)
        return any(fits(name, pattern) for name in names for pattern in self._pinned_patterns)

    def want(self) -> None:
        """A collection runs soon, if they are enabled. Never waits."""
        self._wanted.set()

    async def run(self, interval_seconds: float) -> None:
        """Collects at once, then after each `want` and each interval, until it is cancelled; nothing if not enabled.

        A collection that fails is logged, and the next one is tried.
        """
        while self._settings.is_enabled:
            self._wanted.clear()
            try:
                await self.collect(Nobody())
            except EngineError as error:
                _log.error("images could not be collected: %s", error)
            try:
                async with asyncio.timeout(interval_seconds):
                    await self._wanted.wait()
            except TimeoutError:
                continue

    async def preview(self) -> Plan:
        """What a collection would do now. Changes nothing. Raises IO_FAILED."""
        return plan(self._facts(), await self._disk(), self._settings, self._clock.now_unix_nanos())

    async def collect(self, handle: Handle) -> tuple[tuple[str, ...], int]:
        """What the settings say has gone is gone; returns the ids of the images and the bytes freed.

        Whether collections are enabled is not asked. Raises CANCELLED, STORAGE_FULL, IO_FAILED; what was deleted till
        then is.
        """
        async with self._lock:
            deleted: list[str] = []
            reclaimed: dict[Cause, int] = {}
            missing = 0
            try:
                is_begun = False
                for _ in range(MAX_ROUNDS):
                    disk, now = await self._disk(), self._clock.now_unix_nanos()
                    is_begun = is_begun or is_above_mark(disk, self._settings)
                    found = plan(self._facts(), disk, self._settings, now, is_begun=is_begun)
                    missing = found.missing_bytes
                    gone = await self._delete(found, handle, reclaimed)
                    deleted += gone
                    if not gone:
                        break
            finally:
                for cause, reclaimed_bytes in reclaimed.items():
                    await self._tell(StorageReclaimed(reclaimed_bytes, str(cause)))
            await self._tell_if_short(missing)
            return tuple(deleted), sum(reclaimed.values())

    async def _delete(self, found: Plan, handle: Handle, reclaimed: dict[Cause, int]) -> list[str]:
        gone: list[str] = []
        last_uses = {image.id: self._uses.last_use_unix_nanos(image) for image in self._catalogue.table}
        for image_id, cause in found.doomed:
            handle.check()
            failpoints.hit("collection.image.delete")

            def is_wanted(image: Image, references: tuple[str, ...]) -> bool:
                is_unused = self._uses.last_use_unix_nanos(image) == last_uses.get(image.id)
                return is_unused and not self._is_kept(image)

            removed = await self._catalogue.remove_unused(image_id, is_wanted, ENGINE_ACTOR, cause=str(cause))
            if removed is None:
                continue
            swept = await self._collector.sweep(removed.blob_sizes, removed.layer_sizes)
            reclaimed[cause] = reclaimed.get(cause, 0) + swept.reclaimed_bytes
            gone.append(image_id)
            _log.info("image %s was collected (%s)", image_id, cause)
        return gone

    async def _tell_if_short(self, missing_bytes: int) -> None:
        """Once each time that it begins to be so."""
        is_short = missing_bytes > 0
        if is_short and not self._was_short:
            _log.warning("images that may go are too few: %d bytes are still too many", missing_bytes)
            await self._tell(StorageShort(missing_bytes))
        self._was_short = is_short

    def _facts(self) -> list[ImageFacts]:
        facts: list[ImageFacts] = []
        for image in self._catalogue.table:
            if self._containers.holders(image.id):
                self._uses.touch(image.id)
            sizes = {str(digest): size for digest, size in image.blob_sizes.items()} | image.layer_sizes
            facts.append(ImageFacts(image.id, sizes, self._uses.last_use_unix_nanos(image), self._is_kept(image)))
        return facts

    def _is_kept(self, image: Image) -> bool:
        is_held = self._leases.is_held(image.id) or self._leases.is_held(image.manifest.digest)
        return is_held or self.is_pinned(image) or bool(self._containers.holders(image.id))
