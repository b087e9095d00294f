"""A volume as the engine knows it, every change it can go through, and the rules of what a caller may ask. No I/O.

         data is there           deletion begins
CREATING ─────────────> READY ──────────────────> DELETING ──> (no record)
    │
    └── it failed, or the daemon died: (no record)
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Final

from fluytd.containers.names import NAME_RULE, is_valid_name
from fluytd.errors import FieldInvalid, LimitExceeded
from fluytd.host.projects import MIN_BOUND_BYTES

LOCAL_DRIVER: Final = "local"
MAX_LABELS_BYTES: Final = 256 * 1024
MAX_DRIVER_OPTIONS: Final = 64
MAX_DRIVER_OPTION_BYTES: Final = 4_096
MAX_FILTER_VALUES: Final = 1_000
#: Most volumes that one prune deletes; another one deletes the next.
MAX_PRUNED: Final = 10_000
MAX_INT64: Final = 2**63 - 1
#: Source: docker's go-units, RAMInBytes.
_SIZE: Final = re.compile(r"([0-9]{1,19}(?:\.[0-9]{1,9})?) ?(?:([kmgtp])(?:i?b)?|b)?")


class VolumeState(StrEnum):
    """Where a volume stands."""

    CREATING = "creating"
    READY = "ready"
    DELETING = "deleting"


@dataclass(frozen=True, slots=True)
class Volume:
    """One volume's record. Changed only by the functions below, which return a new one."""

    #: Names its directory; never changes.
    id: str
    name: str
    create_time_unix_nanos: int
    driver: str = LOCAL_DRIVER
    driver_options: Mapping[str, str] = field(default_factory=dict)
    labels: Mapping[str, str] = field(default_factory=dict)
    #: Made without a name, for one container.
    is_anonymous: bool = False
    #: Bound in bytes; 0: none.
    limit_bytes: int = 0
    #: The project that the file system counts it for, from its creation to its deletion; 0 without a bound.
    project_id: int = 0
    state: VolumeState = VolumeState.CREATING
    #: Grows with every change.
    version: int = 1

    @property
    def is_local(self) -> bool:
        """The engine keeps its data itself."""
        return self.driver == LOCAL_DRIVER

    @property
    def is_memory(self) -> bool:
        """Each container has a new and empty one."""
        return self.is_local and self.driver_options.get("type") in {"tmpfs", "ramfs"}

    @property
    def is_read_only(self) -> bool:
        """Nobody writes to it."""
        return self.is_local and "ro" in self.driver_options.get("o", "").split(",")

    @property
    def has_data_here(self) -> bool:
        """Its data is in its directory, and not what its options name or a driver keeps."""
        return self.is_local and not self.driver_options


@dataclass(frozen=True, slots=True)
class VolumeWish:
    """What a caller asks of a new volume; an empty name asks for an anonymous one."""

    name: str = ""
    driver: str = ""
    driver_options: Mapping[str, str] = field(default_factory=dict)
    labels: Mapping[str, str] = field(default_factory=dict)
    limit_bytes: int = 0


def ready(volume: Volume) -> Volume:
    """Its data is there."""
    return replace(volume, state=VolumeState.READY)


def deleting(volume: Volume) -> Volume:
    """Its data is about to go."""
    return replace(volume, state=VolumeState.DELETING, version=volume.version + 1)


def renamed(volume: Volume, name: str) -> Volume:
    """It has another name, and is one that somebody named."""
    return replace(volume, name=name, is_anonymous=False, version=volume.version + 1)


def is_as_asked(volume: Volume, wish: VolumeWish) -> bool:
    """Whether a volume of the wished name is what the wish would have made. Labels make no difference, as in Docker."""
    return (
        volume.driver == (wish.driver or LOCAL_DRIVER)
        and dict(volume.driver_options) == dict(wish.driver_options)
        and volume.limit_bytes == wish.limit_bytes
    )


def normalised(wish: VolumeWish, at: str = "") -> VolumeWish:
    """The wish, with the option `size` of a directory as its bound. Raises FIELD_INVALID for a size that is none."""
    options = dict(wish.driver_options)
    if wish.driver not in ("", LOCAL_DRIVER) or "size" not in options or "type" in options:
        return wish
    found = _SIZE.fullmatch(options.pop("size").strip().lower())
    size = int(float(found[1]) * 1024 ** " kmgtp".index(found[2] or " ")) if found else 0
    if not 0 < size <= MAX_INT64:
        raise FieldInvalid(field=f"{at}driver_options", rule="size must be a number of bytes, or as 512m or 10g")
    if wish.limit_bytes not in (0, size):
        raise FieldInvalid(field=f"{at}limit_bytes", rule="says something else than the option size")
    return replace(wish, driver_options=options, limit_bytes=size)


def check_name(name: str, at: str) -> None:
    """Raises FIELD_INVALID for what is no volume's name."""
    if not is_valid_name(name):
        raise FieldInvalid(field=at, rule=f"must have {NAME_RULE}")


def check_wish(wish: VolumeWish, at: str = "") -> None:
    """Raises FIELD_INVALID, LIMIT_EXCEEDED for what no volume can be, with the field's path below `at`."""
    if wish.name:
        check_name(wish.name, f"{at}name")
    check_labels(wish.labels, f"{at}labels")
    if len(wish.driver_options) > MAX_DRIVER_OPTIONS:
        raise LimitExceeded(
            limit="MAX_DRIVER_OPTIONS",
            limit_value=MAX_DRIVER_OPTIONS,
            actual=len(wish.driver_options),
            subject=f"{at}driver_options",
        )
    for key, value in wish.driver_options.items():
        size = len(key.encode()) + len(value.encode())
        if size > MAX_DRIVER_OPTION_BYTES:
            raise LimitExceeded(
                limit="MAX_DRIVER_OPTION_BYTES",
                limit_value=MAX_DRIVER_OPTION_BYTES,
                actual=size,
                subject=f"{at}driver_options",
            )
        if not key or "\0" in key + value:
            raise FieldInvalid(field=f"{at}driver_options", rule="a key must not be empty, nor anything hold NUL")
    if wish.limit_bytes and not MIN_BOUND_BYTES <= wish.limit_bytes <= MAX_INT64:
        raise FieldInvalid(field=f"{at}limit_bytes", rule=f"must be 0 or {MIN_BOUND_BYTES} to {MAX_INT64}")


def check_labels(labels: Mapping[str, str], at: str) -> None:
    """Raises FIELD_INVALID, LIMIT_EXCEEDED for labels that no volume may have."""
    if "" in labels:
        raise FieldInvalid(field=at, rule="a key must not be empty")
    size = sum(len(key.encode()) + len(value.encode()) for key, value in labels.items())
    if size > MAX_LABELS_BYTES:
        raise LimitExceeded(limit="MAX_LABELS_BYTES", limit_value=MAX_LABELS_BYTES, actual=size, subject=at)


@dataclass(frozen=True, slots=True)
class VolumeFilter:
    """Conditions of different kinds must all hold; of the values of one kind, one must; of labels, all."""

    #: Names or parts of them.
    names: tuple[str, ...] = ()
    #: `name` or `name=value`.
    labels: tuple[str, ...] = ()
    drivers: frozenset[str] = frozenset()
    #: Only those that no container has (True), or one has (False).
    is_dangling: bool | None = None

    def accepts(self, volume: Volume, *, is_held: bool) -> bool:
        """True if the volume, which a container has or has not, fits."""
        return (
            (not self.names or any(part in volume.name for part in self.names))
            and all(_has_label(volume, label) for label in self.labels)
            and (not self.drivers or volume.driver in self.drivers)
            and (self.is_dangling is None or self.is_dangling != is_held)
        )


def _has_label(volume: Volume, label: str) -> bool:
    name, separator, value = label.partition("=")
    return name in volume.labels and (not separator or volume.labels[name] == value)
