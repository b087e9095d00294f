"""What the container services need of others: directories, images, volumes, networks, records. Of the core that runs
processes see `process_ports`.

Methods that are not coroutines and are marked Blocking run on a worker thread, never on the event loop.
"""

from collections.abc import AsyncGenerator, Awaitable, Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from fluytd.containers.model import Container, ImageFacts, MountedVolume
from fluytd.containers.process_ports import Process
from fluytd.containers.spec import AttachmentSpec, PlatformChoice, PortSpec, VolumeSpec
from fluytd.containers.start_facts import StartPaths
from fluytd.errors import Failure
from fluytd.events.model import Fact
from fluytd.networks.model import Endpoint, PublishedPort
from fluytd.networks.ports import PortChange
from fluytd.operations.model import Operation
from fluytd.registries.model import Credentials


class MountSources(Protocol):
    """Looks at places before anybody who cannot be given up does."""

    async def check(self, container: Container, sources: Mapping[str, str]) -> None:
        """Every place that is to be mounted in it and lies on a file system which may not answer has answered.
        `sources`: what `Volumes.attach` told. Raises MOUNT_SOURCE_UNRESPONSIVE."""

    async def check_paths(self, paths: Iterable[str]) -> None:
        """As `check`, of these."""

    async def check_inside(self, process: Process, path: bytes) -> None:
        """If the container shows file systems that may not answer, this path of it has answered. Raises
        MOUNT_SOURCE_UNRESPONSIVE, PROCESS_NOT_FOUND, IO_FAILED."""


class Volumes(Protocol):
    """Volumes, as containers need them."""

    def take(self, wish: VolumeSpec, at: str) -> MountedVolume:
        """The volume that is to stand at the wish's target: the one of its name, or one that is still to be made (see
        `provide`). Never blocks. Raises FIELD_INVALID, LIMIT_EXCEEDED, VOLUME_EXISTS, VOLUME_DRIVER_NOT_FOUND,
        OPERATION_IN_PROGRESS."""

    def forget(self, taken: Sequence[MountedVolume]) -> None:
        """Those that were taken for nothing and are still to be made are not there. Never blocks."""

    async def provide(self, container: Container, lower_dirs: Callable[[], Sequence[str]]) -> None:
        """The container's volumes are there, and those that are empty have what its image has at their targets.
        `lower_dirs`: the image's directories, top-most first; blocking. The container's record stands before.

        Raises VOLUME_NOT_FOUND, LIMIT_EXCEEDED, STORAGE_FULL, IO_FAILED."""

    async def attach(self, container: Container) -> dict[str, str]:
        """Volumes of the container that drivers keep are reachable at these host paths, by volume id; those of a server
        at this address. Idempotent. Raises VOLUME_DRIVER_NOT_FOUND, VOLUME_DRIVER_FAILED, VOLUME_SERVER_UNREACHABLE."""

    async def detach(self, container: Container) -> None:
        """Drivers know that the container does not use their volumes any more. Idempotent; a failure is logged."""

    async def release(self, container: Container, *, removes_anonymous: bool) -> None:
        """Volumes that were taken and not made are forgotten, and with `removes_anonymous` its anonymous ones are gone
        that no other container has. Idempotent. Raises STORAGE_FULL, IO_FAILED."""


class Publishing(Protocol):
    """Ports of running containers; implemented by `networks.publishing.Publisher`, where each method is described."""

    def change(self, container: Container, added: Sequence[PortSpec], removed: Sequence[PublishedPort]) -> PortChange:
        """See there."""

    def make(self, container_id: str, change: PortChange) -> None:
        """See there. Blocking."""

    def drop(self, change: PortChange) -> None:
        """See there."""


class Networking(Protocol):
    """Containers on networks; implemented by `networks.attachments.Attachments`, where each method is described."""

    @property
    def publisher(self) -> Publishing:
        """See there."""

    @property
    def default_id(self) -> str:
        """See there."""

    def id_of(self, reference: str) -> str:
        """See there."""

    def check(self, attachments: Sequence[AttachmentSpec]) -> None:
        """See there."""

    def join(self, container: Container) -> tuple[tuple[Endpoint, ...], tuple[PublishedPort, ...]]:
        """See there."""

    def detach(self, container_id: str) -> None:
        """See there. Blocking."""

    def leave(self, container_id: str) -> list[str]:
        """See there."""

    def remove_links(self, names: Sequence[str]) -> None:
        """See there. Blocking."""

    def adopt(self, container: Container) -> None:
        """See there."""

    def rename(self, container: Container) -> None:
        """See there."""

    def settle(self) -> None:
        """See there. Blocking."""

    def serve_again(self) -> None:
        """See there. Blocking."""

    def endpoints(self, container_id: str) -> tuple[Endpoint, ...]:
        """See there."""

    def connect(self, container: Container, attachment: AttachmentSpec) -> Endpoint:
        """See there."""

    def attach_live(self, container: Container, endpoint: Endpoint) -> None:
        """See there. Blocking."""

    def disconnect(self, container_id: str, network_id: str) -> Endpoint | None:
        """See there."""

    def detach_live(self, container: Container, gone: Endpoint, rest: Sequence[Endpoint]) -> None:
        """See there. Blocking."""


class Directories(Protocol):
    """What a container has on disk: writable layer, log, and the files that are bound into it."""

    def paths(
        self, container: Container, lower_dirs: Sequence[str], image_dirs: Mapping[str, Sequence[str]] | None = None
    ) -> StartPaths:
        """Where everything of this container stands. `image_dirs`: of images that it shows, by target. Never blocks."""

    def prepare(self) -> None:
        """The next creations find part of their work done, and what was dropped is gone.

        Raises STORAGE_FULL, IO_FAILED. Blocking.
        """

    def clear(self) -> None:
        """What `prepare` made and what was dropped is gone. Raises IO_FAILED. Blocking."""

    def create(self, container: Container, lower_dirs: Sequence[str]) -> None:
        """Directories and files are there, all of them at once; `/` has the owner and mode of the top-most layer's.

        Raises STORAGE_FULL, IO_FAILED; nothing is left then. Blocking.
        """

    def exists(self, container_id: str) -> bool:
        """Whether they are there. Blocking (one stat)."""

    def write_names(self, container: Container) -> None:
        """The files about names tell of the container's present addresses. Raises STORAGE_FULL, IO_FAILED. Blocking."""

    def remove(self, container_id: str) -> int:
        """All of it is gone; returns the bytes that were counted, bounded. Idempotent. Blocking."""

    def discard(self, container_id: str) -> None:
        """As `remove` without counting. Idempotent. Blocking."""

    def drop(self, container_id: str) -> None:
        """It is no longer there; its files are removed by the next `prepare`. Idempotent. Blocking (one rename)."""

    def writable_usage(self, container_id: str) -> tuple[int, bool]:
        """(bytes in the writable layer, whether that is only a lower bound). Blocking."""

    def log_usage(self, container_id: str) -> int:
        """Bytes of the container's log; 0 if it has gone. Blocking."""

    def log_dir(self, container_id: str) -> str:
        """Absolute path of the log directory. Never blocks."""

    def list(self) -> list[str]:
        """Ids that have a directory. Blocking."""


class Images(Protocol):
    """Images that containers are made of."""

    async def find(self, reference: str, platform: PlatformChoice | None) -> ImageFacts:
        """Facts of a present image.

        Raises IMAGE_NOT_FOUND, IMAGE_AMBIGUOUS, REFERENCE_INVALID, PLATFORM_UNAVAILABLE.
        """

    def pull(
        self, reference: str, platform: PlatformChoice | None, auth: Credentials | None
    ) -> AsyncGenerator[Operation, None]:
        """Pulls as an operation of its own and yields how it goes, its end last. Raises its failure."""

    def ids_of(self, reference: str) -> Collection[str]:
        """Ids of the present images that a reference, a digest or an id stands for; none if it stands for nothing."""

    def lower_dirs(self, image: ImageFacts) -> tuple[str, ...]:
        """Layer directories for overlay, top-most first. Raises LAYER_NOT_FOUND. Thread-safe. Blocking: one
        stat a layer, or one mount at a layer's first use."""

    async def released(self, image: ImageFacts) -> None:
        """A container of the image is gone: layers go that stayed for it alone, its image having been deleted."""


@dataclass(frozen=True, slots=True)
class LoadedRecords:
    """What the store holds."""

    containers: list[Container]
    #: Ids of rows that do not read back, and why.
    unreadable: dict[str, Failure]


class Records(Protocol):
    """Containers in the durable store. Writes are carried out in the order of the calls, whether awaited or not."""

    async def load(self) -> LoadedRecords:
        """All records, no order. Raises DATA_CORRUPT, IO_FAILED if there is no reading at all."""

    def save(
        self, container: Container, facts: Sequence[Fact], *, durable: bool = False, lazy: bool = False
    ) -> Awaitable[None]:
        """Stores the record together with what happened; done when it is stored.

        `durable`: it outlives a loss of power. `lazy`: it may begin some milliseconds later, with what is stored next,
        in the same order; for what nobody waits for. Where a newer record follows, only the facts of a lazy one are
        stored. Raises STORAGE_FULL, IO_FAILED when awaited."""

    def delete(self, container: Container, facts: Sequence[Fact], *, lazy: bool = False) -> Awaitable[None]:
        """Removes the record; idempotent. As `save` otherwise."""
