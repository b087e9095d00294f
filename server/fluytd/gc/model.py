"""Which images an automatic collection takes, and why. Pure: facts and settings in, a plan out."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

_PERCENT = 100


class Cause(StrEnum):
    """Why an image goes; as events tell it."""

    AGE = "age"
    WATER_MARK = "watermark"
    MAX_BYTES = "max_bytes"


@dataclass(frozen=True, slots=True)
class Settings:
    """When images go, and which never do. What is 0 is no bound."""

    is_enabled: bool = False
    #: Per cent of the data root's file system in use from which, and down to which, images go.
    high_water_percent: int = 0
    low_water_percent: int = 0
    #: Most bytes of all images, blobs and layers.
    max_bytes: int = 0
    #: Images used or come later than so long ago stay, whatever is asked for.
    min_age_nanos: int = 0
    #: Images that were not used for longer go, however much space there is.
    max_age_nanos: int = 0


@dataclass(frozen=True, slots=True)
class ImageFacts:
    """One image, as far as a collection asks."""

    id: str
    #: Bytes of its blobs and layers by name.
    sizes: Mapping[str, int]
    last_use_unix_nanos: int
    #: Used by a container, pinned, or held by work in flight.
    is_kept: bool = False


@dataclass(frozen=True, slots=True)
class DiskFacts:
    """The file system of the data root, in bytes."""

    total_bytes: int
    available_bytes: int

    @property
    def used_bytes(self) -> int:
        """Bytes that are not available."""
        return self.total_bytes - self.available_bytes


@dataclass(frozen=True, slots=True)
class Plan:
    """What a collection does."""

    #: (image id, why), in the order in which they go.
    doomed: tuple[tuple[str, Cause], ...]
    #: Bytes of what only these images need.
    reclaimed_bytes: int
    #: Bytes that are still too many after that.
    missing_bytes: int


def plan(
    images: Iterable[ImageFacts], disk: DiskFacts, settings: Settings, now_unix_nanos: int, *, is_begun: bool = False
) -> Plan:
    """The images to delete now.

    Those go that were unused for longer than `max_age_nanos`. If the disk stands above its high mark, or `is_begun`
    says that it did and is on its way down, or the images weigh more than `max_bytes`, further ones go, the least
    recently used first, as long as too much is in use; one whose going would free nothing, with those that go, is
    spared. Never one that is kept or was used within `min_age_nanos`.
    """
    known = list(images)
    ordered = sorted(known, key=lambda image: (image.last_use_unix_nanos, image.id))
    stock = _Stock(known)
    may_go = [
        image
        for image in ordered
        if not image.is_kept and now_unix_nanos - image.last_use_unix_nanos >= settings.min_age_nanos
    ]
    aged = [
        image
        for image in may_go
        if settings.max_age_nanos and now_unix_nanos - image.last_use_unix_nanos > settings.max_age_nanos
    ]
    doomed = [(image, Cause.AGE) for image in aged]
    freed = sum(stock.remove(image) for image in aged)
    disk_goal = _too_much(disk, settings, is_begun=is_begun)
    stock_goal = max(0, stock.total_bytes - settings.max_bytes) if settings.max_bytes else 0
    goal = max(disk_goal, freed + stock_goal)
    cause = Cause.WATER_MARK if disk_goal >= freed + stock_goal else Cause.MAX_BYTES
    chosen: list[ImageFacts] = []
    gone = {image.id for image in aged}
    for image in may_go:
        if freed >= goal:
            break
        if image.id not in gone:
            freed += stock.remove(image)
            chosen.append(image)
    spared, freed = _spare(chosen, stock, freed, goal)
    doomed += [(image, cause) for image in chosen if image.id not in spared]
    return Plan(tuple((image.id, why) for image, why in doomed), freed, max(0, goal - freed))


def is_above_mark(disk: DiskFacts, settings: Settings) -> bool:
    """True if so much is in use that a collection begins."""
    high = disk.total_bytes * settings.high_water_percent // _PERCENT
    return 0 < high <= disk.used_bytes


def _too_much(disk: DiskFacts, settings: Settings, *, is_begun: bool) -> int:
    """Bytes that must go from the disk."""
    if not settings.high_water_percent or not disk.total_bytes:
        return 0
    low = disk.total_bytes * settings.low_water_percent // _PERCENT
    is_above = is_above_mark(disk, settings) or is_begun
    return max(0, disk.used_bytes - low) if is_above else 0


def _spare(chosen: Sequence[ImageFacts], stock: "_Stock", freed: int, goal: int) -> tuple[frozenset[str], int]:
    """Ids of those without which as much is freed as needed, or as can be; and what is freed then."""
    spared: set[str] = set()
    for image in reversed(chosen):
        kept_bytes = stock.add(image)
        if kept_bytes and freed - kept_bytes < goal:
            stock.remove(image)
        else:
            freed -= kept_bytes
            spared.add(image.id)
    return frozenset(spared), freed


class _Stock:
    """How many images need each thing, and what all of them weigh."""

    def __init__(self, images: Iterable[ImageFacts]) -> None:
        self._users: Counter[str] = Counter()
        self.total_bytes = 0
        for image in images:
            self.add(image)

    def add(self, image: ImageFacts) -> int:
        """The image is here; returns the bytes that only it needs."""
        added = 0
        for name, size in image.sizes.items():
            self._users[name] += 1
            added += size if self._users[name] == 1 else 0
        self.total_bytes += added
        return added

    def remove(self, image: ImageFacts) -> int:
        """The image is gone; returns the bytes that nobody needs any more."""
        freed = 0
        for name, size in image.sizes.items():
            self._users[name] -= 1
            freed += size if self._users[name] == 0 else 0
        self.total_bytes -= freed
        return freed
