"""Events and the typed facts that they tell. It records and delivers nothing.

A fact's class has the fields of its message in proto/fluyt/v1/events.proto, and its name there is the snake_case of the
class's name: `ImagePulled` is `image_pulled`.
"""

import json
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, is_dataclass
from typing import Any, Final

from fluytd.errors import Failure

#: The actor of what the engine does by itself.
ENGINE_ACTOR = "engine"


@dataclass(frozen=True, slots=True)
class EngineStarted:
    """The engine serves."""

    version: str
    adopted_count: int


@dataclass(frozen=True, slots=True)
class EngineStopping:
    """The engine is going to stop; containers run on."""


@dataclass(frozen=True, slots=True)
class ImagePulled:
    """An image was pulled."""

    reference: str
    image_id: str
    manifest_digest: str


@dataclass(frozen=True, slots=True)
class ImageLoaded:
    """An image was loaded from an archive."""

    image_id: str
    references: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class ImageImported:
    """An image was made from a root file system."""

    image_id: str
    reference: str


@dataclass(frozen=True, slots=True)
class ImageCommitted:
    """An image was made of a container."""

    image_id: str
    reference: str
    container_id: str
    container_name: str


@dataclass(frozen=True, slots=True)
class ImageBuilt:
    """An image was built."""

    image_id: str
    references: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class ImagePushed:
    """An image was pushed."""

    reference: str
    digest: str


@dataclass(frozen=True, slots=True)
class ImageTagged:
    """An image got a reference."""

    reference: str
    image_id: str
    previous_image_id: str


@dataclass(frozen=True, slots=True)
class ImageUntagged:
    """An image lost a reference."""

    reference: str
    image_id: str


@dataclass(frozen=True, slots=True)
class ImageDeleted:
    """An image is gone."""

    image_id: str
    reclaimed_bytes: int
    #: Why: `request`, `prune`, or of an automatic collection `age`, `watermark`, `max_bytes`.
    cause: str = "request"


@dataclass(frozen=True, slots=True)
class ImagePinned:
    """An image was pinned, or is pinned no more."""

    image_id: str
    is_pinned: bool


@dataclass(frozen=True, slots=True)
class ContainerCreated:
    """A container was made."""

    container_id: str
    name: str
    image: str
    image_id: str


@dataclass(frozen=True, slots=True)
class ContainerStarted:
    """A container's process was executed."""

    container_id: str
    name: str
    host_pid: int


@dataclass(frozen=True, slots=True)
class ContainerStartFailed:
    """A container's process could not be started."""

    container_id: str
    name: str
    failure: Failure


@dataclass(frozen=True, slots=True)
class ContainerExited:
    """A container's process has ended; at most one of `exit_code` and `signal` is there."""

    container_id: str
    name: str
    exit_code: int | None
    signal: int | None
    oom_killed: bool
    reason: str


@dataclass(frozen=True, slots=True)
class ContainerDeleted:
    """A container is gone and its name free."""

    container_id: str
    name: str


@dataclass(frozen=True, slots=True)
class ContainerSignalled:
    """A signal was sent to a container."""

    container_id: str
    name: str
    signal: int


@dataclass(frozen=True, slots=True)
class ContainerStopping:
    """A container is being stopped."""

    container_id: str
    name: str


@dataclass(frozen=True, slots=True)
class ContainerStopped:
    """A container that was asked to stop has ended."""

    container_id: str
    name: str


@dataclass(frozen=True, slots=True)
class ContainerPaused:
    """A container was frozen."""

    container_id: str
    name: str


@dataclass(frozen=True, slots=True)
class ContainerResumed:
    """A container was thawed."""

    container_id: str
    name: str


@dataclass(frozen=True, slots=True)
class ContainerUpdated:
    """A container got other limits or policies."""

    container_id: str
    name: str


@dataclass(frozen=True, slots=True)
class ContainerRenamed:
    """A container got another name."""

    container_id: str
    name: str
    previous_name: str


@dataclass(frozen=True, slots=True)
class ContainerOutOfMemory:
    """The kernel killed a process of a container for lack of memory."""

    container_id: str
    name: str


@dataclass(frozen=True, slots=True)
class ContainerHealthChanged:
    """A container's health changed; `state` is the name of its health now."""

    container_id: str
    name: str
    state: str


@dataclass(frozen=True, slots=True)
class ContainerLost:
    """The engine lost sight of a container; `state` is the name of its state now."""

    container_id: str
    name: str
    state: str
    reason: str


@dataclass(frozen=True, slots=True)
class ExecCreated:
    """A further process was asked for; `name` is the container's."""

    exec_id: str
    container_id: str
    name: str


@dataclass(frozen=True, slots=True)
class ExecStarted:
    """A further process was executed; `name` is the container's."""

    exec_id: str
    container_id: str
    name: str


@dataclass(frozen=True, slots=True)
class ExecExited:
    """A further process has ended; `name` is the container's. Neither code nor signal: how is not known."""

    exec_id: str
    container_id: str
    name: str
    exit_code: int | None
    signal: int | None


@dataclass(frozen=True, slots=True)
class VolumeCreated:
    """A volume was made."""

    volume: str


@dataclass(frozen=True, slots=True)
class VolumeRenamed:
    """A volume got another name."""

    volume: str
    previous_name: str


@dataclass(frozen=True, slots=True)
class VolumeDeleted:
    """A volume is gone."""

    volume: str


@dataclass(frozen=True, slots=True)
class VolumeMounted:
    """A container began to use a volume."""

    volume: str
    container_id: str
    target: str
    read_only: bool


@dataclass(frozen=True, slots=True)
class VolumeUnmounted:
    """A container's use of a volume ended with it."""

    volume: str
    container_id: str


@dataclass(frozen=True, slots=True)
class OperationStarted:
    """An operation began; `kind` is the name of an `OperationKind`."""

    operation_id: str
    kind: str
    subject: str


@dataclass(frozen=True, slots=True)
class OperationEnded:
    """An operation ended; `kind` and `state` are names."""

    operation_id: str
    kind: str
    subject: str
    state: str
    failure: Failure | None


@dataclass(frozen=True, slots=True)
class StorageReclaimed:
    """Storage was freed."""

    reclaimed_bytes: int
    cause: str


@dataclass(frozen=True, slots=True)
class StorageShort:
    """A collection found too few images that may go."""

    missing_bytes: int


@dataclass(frozen=True, slots=True)
class StorageDamaged:
    """Damaged content was found."""

    subject: str
    is_repaired: bool


@dataclass(frozen=True, slots=True)
class NetworkCreated:
    """A network was made."""

    network_id: str
    name: str


@dataclass(frozen=True, slots=True)
class NetworkDeleted:
    """A network was deleted."""

    network_id: str
    name: str


@dataclass(frozen=True, slots=True)
class NetworkConnected:
    """A container was attached to a network."""

    network_id: str
    container_id: str


@dataclass(frozen=True, slots=True)
class NetworkDisconnected:
    """A container was detached from a network."""

    network_id: str
    container_id: str


Fact = (
    EngineStarted
    | EngineStopping
    | ImagePulled
    | ImageLoaded
    | ImageImported
    | ImageCommitted
    | ImageBuilt
    | ImagePushed
    | ImageTagged
    | ImageUntagged
    | ImageDeleted
    | ImagePinned
    | ContainerCreated
    | ContainerStarted
    | ContainerStartFailed
    | ContainerExited
    | ContainerDeleted
    | ContainerSignalled
    | ContainerStopping
    | ContainerStopped
    | ContainerPaused
    | ContainerResumed
    | ContainerUpdated
    | ContainerRenamed
    | ContainerOutOfMemory
    | ContainerHealthChanged
    | ContainerLost
    | ExecCreated
    | ExecStarted
    | ExecExited
    | VolumeCreated
    | VolumeRenamed
    | VolumeDeleted
    | VolumeMounted
    | VolumeUnmounted
    | OperationStarted
    | OperationEnded
    | StorageReclaimed
    | StorageShort
    | StorageDamaged
    | NetworkCreated
    | NetworkDeleted
    | NetworkConnected
    | NetworkDisconnected
)

#: Fact classes by their name in the API.
FACTS: dict[str, type[Fact]] = {re.sub(r"(?<!^)(?=[A-Z])", "_", cls.__name__).lower(): cls for cls in Fact.__args__}
_NAMES = {cls: name for name, cls in FACTS.items()}


@dataclass(frozen=True, slots=True)
class NewEvent:
    """Something that happened, before it has a number."""

    fact: Fact
    #: Id of what it is about.
    subject: str
    #: Labels of the subject, for filters.
    labels: Mapping[str, str] = field(default_factory=dict)
    actor: str = ENGINE_ACTOR


@dataclass(frozen=True, slots=True)
class Event:
    """Something that happened, as recorded."""

    sequence: int
    time_unix_nanos: int
    fact: Fact
    subject: str
    labels: Mapping[str, str]
    actor: str

    @property
    def fact_name(self) -> str:
        """`image_pulled`, for example."""
        return _NAMES[type(self.fact)]


def _fields(value: object) -> dict[str, Any]:
    if not is_dataclass(value) or isinstance(value, type):
        raise TypeError(f"{type(value).__name__} has no place in a fact")
    return asdict(value)


#: `json.dumps` with options would make one for each fact.
_ENCODER: Final = json.JSONEncoder(default=_fields, separators=(",", ":"))


def fact_to_json(fact: Fact) -> tuple[str, str]:
    """Name and JSON record of a fact."""
    return _NAMES[type(fact)], _ENCODER.encode({name: getattr(fact, name) for name in fact.__dataclass_fields__})


def fact_from_json(name: str, record: str) -> Fact:
    """The fact that `fact_to_json` wrote. Raises KeyError, TypeError or ValueError for anything else."""
    values: dict[str, Any] = json.loads(record)
    if values.get("failure") is not None:
        values["failure"] = Failure(**values["failure"])
    if "references" in values:
        values["references"] = tuple(values["references"])
    return FACTS[name](**values)
