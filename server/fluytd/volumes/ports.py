"""What volumes need of others: their directories, their records, and who has them."""

from collections.abc import Awaitable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from fluytd.errors import Failure
from fluytd.events.model import Fact
from fluytd.operations.ports import CancelToken
from fluytd.volumes.model import Volume


@dataclass(frozen=True, slots=True)
class VolumeHolder:
    """A container that has a volume."""

    container_id: str
    #: It has, or may have, a process.
    is_live: bool


class Sources(Protocol):
    """Looks at places of the host before they are read."""

    async def check_paths(self, paths: Iterable[str]) -> None:
        """Each that lies on a file system which may not answer has answered. Raises MOUNT_SOURCE_UNRESPONSIVE."""


class Holders(Protocol):
    """Containers, as volumes see them. Never blocks."""

    def volume_holders(self, volume_id: str) -> list[VolumeHolder]:
        """Containers in any state that have the volume, oldest first. Looks at every container."""

    def all_volume_holders(self) -> Mapping[str, list[VolumeHolder]]:
        """The same of every volume that a container has, by volume id, for the price of one."""

    def note_volume_name(self, volume_id: str, name: str) -> None:
        """Containers that have the volume show it by this name."""


class Archive(Protocol):
    """A volume's data as tar, made while it is read; by one thread at a time."""

    def read(self, max_bytes: int) -> bytes:
        """The next bytes, fewer only at the end, none after it. Raises IO_FAILED, CANCELLED. Blocking."""

    def close(self) -> None:
        """Its files are closed. Idempotent. Blocking: waits for a `read` under way."""

    @property
    def entry_count(self) -> int:
        """Entries so far."""


class VolumeDirectories(Protocol):
    """What volumes have on disk. Every method blocks; a failed one raises STORAGE_FULL or IO_FAILED."""

    def data_path(self, volume_id: str) -> str:
        """Absolute path of its data, there or not. Never blocks."""

    def create(self, volume: Volume) -> None:
        """Its data is there, empty, root's, and bounded if it is to be. Durable."""

    def remove(self, volume_id: str) -> None:
        """Nothing of it is there. Idempotent."""

    def fill(self, volume_id: str, lower_dirs: Sequence[str], target: str, cancel: CancelToken) -> bool:
        """What the image has at `target` stands beside the data of an empty volume, for `settle`; False if there is
        nothing to do. Raises LIMIT_EXCEEDED, CANCELLED besides."""

    def settle(self, volume_id: str) -> bool:
        """What `fill` made ready is in place, also after a crash; True if there was something."""

    def copy(self, source: Volume, volume_id: str, cancel: CancelToken) -> None:
        """The empty volume, a directory, has the other's data. Raises LIMIT_EXCEEDED, CANCELLED, KERNEL_FEATURE_MISSING
        besides."""

    def archive(self, volume: Volume, cancel: CancelToken) -> Archive:
        """Its data as tar. Raises KERNEL_FEATURE_MISSING besides."""

    def unpack(self, archive_fd: int, volume: Volume, cancel: CancelToken) -> int:
        """The tar in the open file is part of its data; the number of entries. Raises LAYER_CORRUPT, LAYER_REJECTED,
        LIMIT_EXCEEDED, CANCELLED, KERNEL_FEATURE_MISSING besides."""

    def usage(self, volume_id: str) -> tuple[int, bool]:
        """(bytes of its data, whether that is only a lower bound); (0, False) if it is not there."""

    def list(self) -> list[str]:
        """Ids that have a directory."""

    def new_cancel_token(self) -> CancelToken:
        """A token that its calls look at. Never blocks."""


class VolumeDrivers(Protocol):
    """Programs that keep volumes elsewhere, by their names. Every call is idempotent and bounded in time.

    Each raises VOLUME_DRIVER_NOT_FOUND, VOLUME_DRIVER_FAILED."""

    def check(self, driver: str) -> None:
        """The driver is set up. Never blocks for long (one stat)."""

    async def provision(self, volume: Volume) -> None:
        """The volume's storage is there."""

    async def discard(self, driver: str, volume_id: str) -> None:
        """It is gone with its data."""

    async def attach(self, driver: str, volume_id: str, container_id: str) -> str:
        """The volume's data is reachable for the container at the path that is answered."""

    async def detach(self, driver: str, volume_id: str, container_id: str) -> None:
        """The container does not use it any more."""


@dataclass(frozen=True, slots=True)
class LoadedVolumes:
    """What the store holds."""

    volumes: list[Volume]
    #: Ids of rows that do not read back, and why.
    unreadable: dict[str, Failure]


class VolumeRecords(Protocol):
    """Volumes in the durable store. Writes are carried out in the order of the calls, whether awaited or not."""

    async def load(self) -> LoadedVolumes:
        """All records, no order."""

    def save(self, volume: Volume, facts: Sequence[Fact], *, durable: bool = False) -> Awaitable[None]:
        """Stores the record together with what happened; done when it is stored. Raises STORAGE_FULL, IO_FAILED."""

    def delete(self, volume: Volume, facts: Sequence[Fact]) -> Awaitable[None]:
        """Removes the record; idempotent. As `save` otherwise."""
