"""A container as the engine knows it, and every change of state it can go through. It does no I/O.

The states, which are Docker's, and what leads from one to the next:

    create          start           executed
    ──────> CREATING ──> CREATED ──> STARTING ──────> RUNNING ──stop──> STOPPING
               │            │  ^        │                │                 │
          fails│            │  └────────┘                └──────┬──────────┘
               v            │   start failed: CREATED with      │ process ended, or supervisor lost
           (no record)      │   failure and exit code           v
                            │                  start <──────  EXITED
                            │                                   │
                            └──────────── delete ───────────────┤
                                                                v
                                            DELETING ──> (no record)

A RUNNING container can be PAUSED and resumed; a PAUSED one can be stopped, and can end, as a RUNNING one.
UNKNOWN is where recovery puts a container that it could not bring into any of these; it can only be deleted by force.
A start that fails leaves it where it was (CREATED, EXITED), with `failure` and `exit_code` 125, 126 or 127 (T02).
"""

import operator
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Any, Final

from fluytd.containers.health_state import Health
from fluytd.containers.spec import (
    NO_POSITION,
    AttachmentSpec,
    BindSpec,
    ContainerSpec,
    HealthCheck,
    PortSpec,
    Relabel,
    ResourcesSpec,
    RestartPolicy,
)
from fluytd.errors import ContainerWrongState, Failure
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


_values_of: Final = operator.attrgetter(*Container.__dataclass_fields__)


class IllegalTransitionError(AssertionError):
    """A change of state that the drawing above does not have: a bug of the caller, which checks first."""


def _change(container: Container, allowed: frozenset[State], **changes: Any) -> Container:
    if container.state not in allowed:
        raise IllegalTransitionError(f"{container.id}: {container.state} has no change to {changes.get('state')}")
    # As `replace`, which looks at each field first.
    values = dict(zip(Container.__dataclass_fields__, _values_of(container), strict=True)) | changes
    return Container(**values | {"version": container.version + 1})


def created(container: Container) -> Container:
    """Its files are there; it can be started."""
    return _change(container, frozenset({State.CREATING}), state=State.CREATED)


def starting(container: Container, *, is_by_policy: bool = False) -> Container:
    """A start began. What the last run left (exit, failure, OOM) is forgotten, so that each run stands for itself.

    `is_by_policy`: the restart policy starts it, which counts; a caller's start begins the count anew.
    """
    return _change(
        container,
        STARTABLE,
        state=State.STARTING,
        run_number=container.run_number + 1,
        exit=None,
        oom_killed=False,
        reason="",
        message="",
        failure=None,
        clamps=(),
        start_time_unix_nanos=None,
        exit_time_unix_nanos=None,
        restart_count=container.restart_count + 1 if is_by_policy else 0,
        is_stopped_by_caller=False,
        is_restarting=False,
        is_removed_at_end=False,
        removes_volumes=False,
        pending_resources=None,
        health=None,
    )


def joined(
    container: Container, endpoints: tuple[Endpoint, ...], published_ports: tuple[PublishedPort, ...]
) -> Container:
    """Its run has these addresses and ports."""
    return replace(container, endpoints=endpoints, published_ports=published_ports)


def connected(
    container: Container, attachments: tuple[AttachmentSpec, ...], endpoints: tuple[Endpoint, ...]
) -> Container:
    """It is to be on these networks, and its run, if it has one, is."""
    network = replace(container.spec.network, attachments=attachments, is_detached=not attachments)
    spec = replace(container.spec, network=network)
    return replace(container, version=container.version + 1, spec=spec, endpoints=endpoints)


def publishing(
    container: Container, asked: tuple[PortSpec, ...], published_ports: tuple[PublishedPort, ...]
) -> Container:
    """It is to publish these ports, and its run, if it has one, publishes those."""
    spec = replace(container.spec, network=replace(container.spec.network, published_ports=asked))
    return replace(container, version=container.version + 1, spec=spec, published_ports=published_ports)


def running(container: Container, *, host_pid: int, start_time_unix_nanos: int, clamps: tuple[str, ...]) -> Container:
    """The process has been executed."""
    return _change(
        container,
        frozenset({State.STARTING}),
        state=State.RUNNING,
        host_pid=host_pid,
        start_time_unix_nanos=start_time_unix_nanos,
        clamps=clamps,
    )


def start_failed(container: Container, before: Container, failure: Failure, exit_code: int) -> Container:
    """The process was not executed: it stands where it stood `before`, and says why. Source: case T02."""
    return _change(
        container,
        frozenset({State.STARTING}),
        state=before.state if before.state in STARTABLE else State.CREATED,
        exit=ExitStatus(exit_code=exit_code),
        reason=failure.reason,
        message=failure.message,
        failure=failure,
        endpoints=(),
        published_ports=(),
    )


def start_undone(container: Container, failure: Failure) -> Container:
    """A start that a dead daemon left, without a process: a first one goes back to CREATED, a later one to EXITED.

    One that the policy began does not count: it did not come to be.
    """
    return _change(
        container,
        frozenset({State.STARTING}),
        state=State.CREATED if container.run_number <= 1 else State.EXITED,
        restart_count=max(0, container.restart_count - 1),
        exit=ExitStatus(exit_code=125),
        reason=failure.reason,
        message=failure.message,
        failure=failure,
        endpoints=(),
        published_ports=(),
    )


def adopted(container: Container, *, host_pid: int, start_time_unix_nanos: int, clamps: tuple[str, ...]) -> Container:
    """A live supervisor was found for a record that does not say RUNNING."""
    return _change(
        container,
        frozenset({State.STARTING, State.UNKNOWN}),
        state=State.RUNNING,
        host_pid=host_pid,
        start_time_unix_nanos=start_time_unix_nanos,
        clamps=clamps,
        reason="",
        message="",
        failure=None,
    )


def paused(container: Container) -> Container:
    """It is being frozen, or it is."""
    return _change(container, frozenset({State.RUNNING}), state=State.PAUSED)


def resumed(container: Container) -> Container:
    """It runs again, or could not be frozen."""
    return _change(container, frozenset({State.PAUSED}), state=State.RUNNING)


def stopping(container: Container, *, is_restarting: bool = False, is_by_caller: bool = True) -> Container:
    """It was asked to end; `is_restarting`: in order to be started again. `is_by_caller`: not by the engine itself."""
    return _change(
        container,
        EXECUTED,
        state=State.STOPPING,
        is_stopped_by_caller=container.is_stopped_by_caller or is_by_caller,
        is_restarting=is_restarting,
    )


def stopped_by_caller(container: Container) -> Container:
    """A caller wants it to be ended, whatever its policy says."""
    if container.is_stopped_by_caller and not container.is_restarting:
        return container
    return replace(container, version=container.version + 1, is_stopped_by_caller=True, is_restarting=False)


def removed_at_end(container: Container, *, removes_volumes: bool) -> Container:
    """A caller wants it to be gone, with `removes_volumes` its anonymous volumes too, and it has not ended yet."""
    removes_volumes = removes_volumes or container.removes_volumes
    if container.is_removed_at_end and container.removes_volumes == removes_volumes:
        return container
    return replace(
        container,
        version=container.version + 1,
        is_stopped_by_caller=True,
        is_restarting=False,
        is_removed_at_end=True,
        removes_volumes=removes_volumes,
    )


def checked(container: Container, health: Health) -> Container:
    """A check of its health has changed what is known of it."""
    return replace(container, version=container.version + 1, health=health)


def updating(container: Container, resources: ResourcesSpec) -> Container:
    """Its processes are about to get these limits."""
    return replace(container, version=container.version + 1, pending_resources=resources)


def updated(container: Container, resources: ResourcesSpec, policy: RestartPolicy) -> Container:
    """These limits hold, and this policy; with those it has, an update was undone."""
    spec = replace(container.spec, resources=resources, restart_policy=policy)
    return replace(container, version=container.version + 1, spec=spec, pending_resources=None)


def exited(container: Container, status: ExitStatus, *, oom_killed: bool, exit_time_unix_nanos: int) -> Container:
    """Its first process has ended, as an exit record tells."""
    return _change(
        container,
        LIVE,
        state=State.EXITED,
        exit=status,
        oom_killed=oom_killed,
        exit_time_unix_nanos=exit_time_unix_nanos,
        host_pid=0,
        endpoints=(),
        published_ports=(),
    )


def lost(container: Container, failure: Failure, *, exit_time_unix_nanos: int) -> Container:
    """Its supervisor has gone without an exit record; its processes were killed. The signal stands for that kill."""
    return _change(
        container,
        LIVE | {State.UNKNOWN},
        state=State.EXITED,
        exit=ExitStatus(signal=9),
        reason=failure.reason,
        message=failure.message,
        failure=failure,
        exit_time_unix_nanos=exit_time_unix_nanos,
        host_pid=0,
        endpoints=(),
        published_ports=(),
    )


def unknown(container: Container, failure: Failure) -> Container:
    """Recovery could not find out, or not do, what it should; `reason` says why."""
    return replace(
        container,
        version=container.version + 1,
        state=State.UNKNOWN,
        reason=failure.reason,
        message=failure.message,
        failure=failure,
    )


def deleting(container: Container, *, removes_volumes: bool = False) -> Container:
    """Its files are about to go, with `removes_volumes` its anonymous volumes too. From here on it is only removed."""
    allowed = frozenset(set(State) - LIVE)
    return _change(container, allowed, state=State.DELETING, host_pid=0, removes_volumes=removes_volumes)


def with_mounts(
    container: Container, volumes: tuple[MountedVolume, ...], images: tuple[MountedImage, ...]
) -> Container:
    """One that is being created has these volumes and images."""
    return replace(container, resolved=replace(container.resolved, volumes=volumes, images=images))


def with_volume_name(container: Container, volume_id: str, name: str) -> Container:
    """A volume of it has another name."""
    volumes = tuple(
        replace(one, name=name) if one.volume_id == volume_id else one for one in container.resolved.volumes
    )
    resolved = replace(container.resolved, volumes=volumes)
    return replace(container, version=container.version + 1, resolved=resolved)


def check_state(container: Container, allowed: Collection[State]) -> None:
    """Raises CONTAINER_WRONG_STATE unless the container is in one of these states."""
    if container.state not in allowed:
        states = sorted(state.value for state in allowed)
        raise ContainerWrongState(id=container.id, state=container.state.value, allowed_states=states)


def renamed(container: Container, name: str) -> Container:
    """It has another name."""
    return replace(container, version=container.version + 1, name=name)


def exit_code_of_failure(metadata: Mapping[str, str]) -> int:
    """125 for a failure of the engine; 126 or 127 where the core found the command at fault."""
    code = metadata.get("exit_code", "")
    return int(code) if code in {"126", "127"} else 125
