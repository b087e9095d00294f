"""A container as the engine knows it. It does no I/O; its states, and how it goes from one to the next, are drawn in
`transitions.py`.
"""

from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final

from fluytd.containers.health_state import Health
from fluytd.containers.spec import (
    NO_POSITION,
    BindSpec,
    ContainerSpec,
    HealthCheck,
    Relabel,
    ResourcesSpec,
)
from fluytd.errors import Failure
from fluytd.networks.model import Endpoint, PublishedPort


class State(StrEnum):
    """Where a container stands."""

    CREATING = "creating"
    CREATED = "created"
    STARTING = "starting"
    RUNNING = "running"
    PAUSED = "paused"
    STOPPING = "stopping"
    EXITED = "exited"
    DELETING = "deleting"
    UNKNOWN = "unknown"


#: States in which a container has, or may have, a process.
LIVE: Final = frozenset({State.STARTING, State.RUNNING, State.PAUSED, State.STOPPING})
#: States in which its first process has been executed and has not ended.
EXECUTED: Final = frozenset({State.RUNNING, State.PAUSED, State.STOPPING})
STARTABLE: Final = frozenset({State.CREATED, State.EXITED})
#: States that DeleteContainer accepts without force.
DELETABLE: Final = frozenset({State.CREATED, State.EXITED})


@dataclass(frozen=True, slots=True)
class ExitStatus:
    """How a process ended: an exit code or the signal that ended it, never both."""

    exit_code: int | None = None
    signal: int | None = None

    @property
    def shell_code(self) -> int:
        """One number as a shell tells it: the exit code, or 128 and the signal."""
        return 128 + self.signal if self.signal is not None else self.exit_code or 0


@dataclass(frozen=True, slots=True)
class ImageFacts:
    """What a container takes from its image, fixed when it is created."""

    reference: str
    image_id: str
    manifest_digest: str
    os: str
    architecture: str
    variant: str
    layer_ids: tuple[str, ...]  # top-most last, as the image has them
    size_bytes: int
    entrypoint: tuple[str, ...] = ()
    cmd: tuple[str, ...] = ()
    env: tuple[str, ...] = ()
    user: str = ""
    working_dir: str = ""
    stop_signal: str = ""
    labels: dict[str, str] = field(default_factory=dict)
    health_check: HealthCheck | None = None
    exposed_ports: tuple[str, ...] = ()  # `80/tcp`
    #: Paths inside, as the image spells them, that want a volume.
    volumes: tuple[str, ...] = ()
    max_id: int = 0  # the highest user or group that something in it belongs to, as far as that was recorded


@dataclass(frozen=True, slots=True)
class IdRange:
    """Users and groups of the host: 0 to `count - 1` in a container are `first_id` and those after it."""

    first_id: int
    count: int


@dataclass(frozen=True, slots=True)
class Labels:
    """SELinux labels of a container."""

    #: Of its processes.
    process: str
    #: Of its files.
    mount: str


@dataclass(frozen=True, slots=True)
class MountedVolume:
    """A volume that a container has, from its creation to its deletion."""

    target: str
    volume_id: str
    #: What the volume is called now.
    name: str
    driver: str = "local"
    driver_options: dict[str, str] = field(default_factory=dict)
    sub_path: str = ""
    read_only: bool = False
    no_copy: bool = False
    #: Made without a name for a container: it may go with the last one that has it.
    is_anonymous: bool = False
    relabel: Relabel = Relabel.NONE
    #: As `VolumeSpec.position`.
    position: int = field(default=NO_POSITION, compare=False)


@dataclass(frozen=True, slots=True)
class MountedImage:
    """An image whose tree a container shows."""

    target: str
    image: ImageFacts
    sub_path: str = ""


@dataclass(frozen=True, slots=True)
class Resolved:
    """Image and spec put together: what is executed."""

    args: tuple[str, ...]
    #: Complete but for HOME, which is known only inside the root.
    env: tuple[str, ...]
    working_dir: str
    user: str
    hostname: str
    stop_signal: int
    stop_timeout_millis: int
    labels: dict[str, str]
    #: Complete, every default filled in; None: there is none.
    health_check: HealthCheck | None = None
    #: All volumes: of the spec, of other containers, of the image.
    volumes: tuple[MountedVolume, ...] = ()
    #: All binds: of the spec and of other containers.
    binds: tuple[BindSpec, ...] = ()
    images: tuple[MountedImage, ...] = ()


@dataclass(frozen=True, slots=True)
class Container:
    """One container's record. Changed only by the functions below, which return a new one."""

    id: str
    name: str
    spec: ContainerSpec
    image: ImageFacts
    resolved: Resolved
    create_time_unix_nanos: int
    state: State = State.CREATING
    #: Grows with every change.
    version: int = 1
    #: Which execution this is, from 1; 0 before the first.
    run_number: int = 0
    exit: ExitStatus | None = None
    oom_killed: bool = False
    reason: str = ""
    message: str = ""
    failure: Failure | None = None
    host_pid: int = 0
    start_time_unix_nanos: int | None = None
    exit_time_unix_nanos: int | None = None
    #: `field: reason` of what the host did not give in full.
    clamps: tuple[str, ...] = ()
    #: Times that the restart policy started it since a caller last did.
    restart_count: int = 0
    #: A caller ended its last run: the policy leaves it alone, until a caller starts it.
    is_stopped_by_caller: bool = False
    #: It is being stopped in order to be started again; a daemon that finds it so starts it.
    is_restarting: bool = False
    #: Limits that are being given to its processes; `spec` has those that hold until they all have been.
    pending_resources: ResourcesSpec | None = None
    #: None without a health check, and before the first run.
    health: Health | None = None
    #: A forced removal could not wait for its end: it is removed as soon as it has ended.
    is_removed_at_end: bool = False
    #: It is being deleted, or is to be at its end, together with its anonymous volumes.
    removes_volumes: bool = False
    #: The networks that the present run is on, in the order of their interfaces; none of a container without a run.
    endpoints: tuple[Endpoint, ...] = ()
    #: The ports of the host that lead to the present run.
    published_ports: tuple[PublishedPort, ...] = ()
    #: What its users are on the host, from its creation to its deletion; None: who they are inside.
    ids: IdRange | None = None
    #: The file system's project of its writable layer, from its creation to its deletion; 0 without a bound.
    project_id: int = 0
    #: From its creation to its deletion; None: it has none of the engine's.
    selinux: Labels | None = None

    @property
    def all_images(self) -> tuple[ImageFacts, ...]:
        """Its own image and those that it shows."""
        return (self.image, *(one.image for one in self.resolved.images))

    @property
    def is_live(self) -> bool:
        """Whether it has, or may have, a process."""
        return self.state in LIVE
