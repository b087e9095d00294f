"""Operations: what they do, where they stand, how far they have come and what came out. It runs nothing.

RUNNING ──> SUCCEEDED   the work returned its result
   │──────> FAILED      it raised; or the engine was restarted (ENGINE_RESTARTED)
   └──────> CANCELLED   a caller asked for its end, and it ended for that reason
"""

from dataclasses import dataclass
from enum import StrEnum

from fluytd.errors import Failure
from fluytd.ids import OperationId


class OperationKind(StrEnum):
    """What an operation does."""

    PULL_IMAGE = "PULL_IMAGE"
    PUSH_IMAGE = "PUSH_IMAGE"
    LOAD_IMAGES = "LOAD_IMAGES"
    IMPORT_IMAGE = "IMPORT_IMAGE"
    PRUNE_IMAGES = "PRUNE_IMAGES"
    BUILD_IMAGE = "BUILD_IMAGE"
    PRUNE_BUILD_CACHE = "PRUNE_BUILD_CACHE"


class OperationState(StrEnum):
    """Where an operation stands."""

    RUNNING = "RUNNING"
    SUCCEEDED = "SUCCEEDED"
    FAILED = "FAILED"
    CANCELLED = "CANCELLED"


class LayerPhase(StrEnum):
    """What is being done with a layer; the lower-case names are the core's."""

    WAITING = "WAITING"
    DOWNLOADING = "DOWNLOADING"
    VERIFYING = "VERIFYING"
    EXTRACTING = "EXTRACTING"
    DONE = "DONE"
    PRESENT = "PRESENT"
    UPLOADING = "UPLOADING"
    MOUNTED = "MOUNTED"


class PullPhase(StrEnum):
    """What a pull is doing."""

    RESOLVING = "RESOLVING"
    FETCHING = "FETCHING"
    PUBLISHING = "PUBLISHING"
    DONE = "DONE"


@dataclass(frozen=True, slots=True)
class LayerProgress:
    """How far one layer has come."""

    digest: str
    diff_id: str
    size_bytes: int
    phase: LayerPhase
    transferred_bytes: int
    extracted_bytes: int


@dataclass(frozen=True, slots=True)
class PullProgress:
    """How far a pull has come; layers lowest first."""

    phase: PullPhase = PullPhase.RESOLVING
    manifest_digest: str = ""
    #: `os/architecture[/variant]`; empty while resolving.
    platform: str = ""
    layers: tuple[LayerProgress, ...] = ()


@dataclass(frozen=True, slots=True)
class LoadProgress:
    """How far a load or an import has come."""

    received_bytes: int = 0
    layers: tuple[LayerProgress, ...] = ()
    references: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class PushProgress:
    """How far a push has come: the layers of all manifests of the reference being written, each once."""

    reference: str = ""
    layers: tuple[LayerProgress, ...] = ()


@dataclass(frozen=True, slots=True)
class PruneProgress:
    """How far a prune has come."""

    examined_count: int
    reclaimed_bytes: int


class BuildStepState(StrEnum):
    """Where a step of a build stands."""

    PENDING = "PENDING"
    RUNNING = "RUNNING"
    DONE = "DONE"
    CACHED = "CACHED"
    FAILED = "FAILED"
    SKIPPED = "SKIPPED"


@dataclass(frozen=True, slots=True)
class BuildStep:
    """One step of a build."""

    #: From 1, over the whole build.
    number: int
    #: The name of its stage, else its number.
    stage: str
    #: On one line.
    instruction: str
    #: Of the Dockerfile; 0 for none.
    line: int
    state: BuildStepState = BuildStepState.PENDING
    start_time_unix_nanos: int | None = None
    end_time_unix_nanos: int | None = None


@dataclass(frozen=True, slots=True)
class BuildProgress:
    """How far a build has come: its steps, in the order of the Dockerfile."""

    steps: tuple[BuildStep, ...] = ()


Progress = PullProgress | PushProgress | LoadProgress | PruneProgress | BuildProgress


@dataclass(frozen=True, slots=True)
class PullResult:
    """What a pull brought."""

    reference: str
    image_id: str
    manifest_digest: str
    target_digest: str
    was_present: bool
    fetched_bytes: int
    references: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class LoadedImage:
    """One image that a load or an import brought."""

    image_id: str
    manifest_digest: str
    references: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class LoadResult:
    """What a load or an import brought, in the order of the archive."""

    images: tuple[LoadedImage, ...]


@dataclass(frozen=True, slots=True)
class PushResult:
    """What a push wrote."""

    references: tuple[str, ...]
    #: Of the manifest or index that they name now.
    digest: str
    sent_bytes: int


@dataclass(frozen=True, slots=True)
class PruneResult:
    """What a prune removed, or would remove."""

    #: Names or ids, cut short where they are too many.
    deleted: tuple[str, ...]
    reclaimed_bytes: int
    deleted_count: int


@dataclass(frozen=True, slots=True)
class BuildResult:
    """What a build brought."""

    #: Empty where no image was asked for.
    image_id: str
    manifest_digest: str
    references: tuple[str, ...]
    #: Remarks on the Dockerfile.
    warnings: tuple[str, ...]


Result = PullResult | PushResult | LoadResult | PruneResult | BuildResult


@dataclass(frozen=True, slots=True)
class Operation:
    """One operation as it stands."""

    id: OperationId
    kind: OperationKind
    #: What it does it to: a reference, for example.
    subject: str
    state: OperationState
    #: Number of its last change, from 1.
    sequence: int
    create_time_unix_nanos: int
    update_time_unix_nanos: int
    end_time_unix_nanos: int | None = None
    is_cancel_requested: bool = False
    failure: Failure | None = None
    progress: Progress | None = None
    result: Result | None = None
    actor: str = ""
    request_id: str = ""

    @property
    def is_ended(self) -> bool:
        """True in each state but RUNNING."""
        return self.state is not OperationState.RUNNING
