"""When each image was last used, and which are pinned: in memory, written through to the records.

A use is written at most once a minute an image and without waiting for the disk, so that a start costs nothing; what a
loss of power takes away is a minute's news. It decides nothing.
"""

import asyncio
import logging
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Final

from fluytd import failpoints
from fluytd.clock import Clock
from fluytd.errors import EngineError
from fluytd.events.model import (
    ContainerCreated,
    Event,
    ImageDeleted,
    ImageImported,
    ImageLoaded,
    ImagePinned,
    ImagePulled,
    NewEvent,
)
from fluytd.images.model import Image
from fluytd.state import image_uses as rows
from fluytd.state.db import Database, Transaction

_log = logging.getLogger(__name__)

#: A later use is written once the one on disk is so much older.
GRAIN_NANOS: Final = 60 * 1_000_000_000
#: What uses an image, by its field `image_id`.
_USES: Final = (ContainerCreated, ImagePulled, ImageLoaded, ImageImported)


@dataclass(frozen=True, slots=True)
class Use:
    """What is known of one image."""

    last_use_unix_nanos: int
    written_unix_nanos: int
    is_pinned: bool = False


class ImageUses:
    """Uses and pins of all images. Belongs to the event loop."""

    def __init__(self, db: Database, clock: Clock) -> None:
        self._db = db
        self._clock = clock
        self._uses: dict[str, Use] = {}

    async def open(self) -> None:
        """What was recorded is known."""
        for image_id, last_use, is_pinned in await self._db.read(rows.load_all):
            self._uses[image_id] = Use(last_use, last_use, is_pinned)

    def last_use_unix_nanos(self, image: Image) -> int:
        """When it was last used; an image that came later than that counts from when it came."""
        use = self._uses.get(image.id)
        return max(use.last_use_unix_nanos if use is not None else 0, image.create_time_unix_nanos)

    def is_pinned(self, image_id: str) -> bool:
        """True if a caller pinned it."""
        use = self._uses.get(image_id)
        return use is not None and use.is_pinned

    def hear(self, events: Iterable[Event]) -> bool:
        """What happened counts as use where it is one; True if an image came. Called with the events of each commit."""
        has_new = False
        for event in events:
            if isinstance(event.fact, ImageDeleted):
                # Its row is gone with it.
                self._uses.pop(event.fact.image_id, None)
            elif isinstance(event.fact, _USES):
                self.touch(event.fact.image_id)
                has_new = has_new or not isinstance(event.fact, ContainerCreated)
        return has_new

    def touch(self, image_id: str) -> None:
        """The image is used now. Never waits."""
        now = self._clock.now_unix_nanos()
        before = self._uses.get(image_id, Use(0, 0))
        is_due = now - before.written_unix_nanos >= GRAIN_NANOS
        use = self._uses[image_id] = replace(
            before, last_use_unix_nanos=now, written_unix_nanos=now if is_due else before.written_unix_nanos
        )
        if is_due:
            written = self._db.submit(lambda txn: rows.save(txn, image_id, now, is_pinned=use.is_pinned))
            written.add_done_callback(_note_failure)

    async def pin(self, image: Image, *, is_pinned: bool, actor: str) -> None:
        """The image is pinned or not, recorded durably. Idempotent. Raises STORAGE_FULL, IO_FAILED."""
        before = self._uses.get(image.id, Use(image.create_time_unix_nanos, 0))
        if before.is_pinned == is_pinned:
            return

        def record(txn: Transaction) -> None:
            rows.save(txn, image.id, before.last_use_unix_nanos, is_pinned=is_pinned)
            txn.emit(NewEvent(ImagePinned(image.id, is_pinned), image.id, image.config.labels, actor))

        failpoints.hit("image.pin.record")
        await self._db.write(record, durable=True)
        self._uses[image.id] = replace(self._uses.get(image.id, before), is_pinned=is_pinned)


def _note_failure(written: "asyncio.Future[None]") -> None:
    if written.cancelled():
        return
    error = written.exception()
    if isinstance(error, EngineError):
        _log.warning("the use of an image could not be recorded: %s", error)
    elif error is not None:
        raise error
