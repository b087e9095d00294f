"""What an engine is given: stages in order, each a list of steps with every word expanded. It expands nothing itself.

Source: BuildKit frontend/dockerfile/dockerfile2llb for what each step means.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from fluytd.builds.dockerfile.model import Device, Instruction, Network, ParsedFile, Security
from fluytd.builds.dockerfile.origins import Base, BindMount, CacheMount, FileSource, InlineSource, Mount, Origin
from fluytd.builds.dockerfile.source import Finding, Source
from fluytd.images.config import ImageConfig
from fluytd.images.platforms import Platform


@dataclass(frozen=True, slots=True)
class Request:
    """What the caller of a build says beside the Dockerfile."""

    #: Where steps run.
    build_platform: Platform
    #: What the image is for; None: the build platform, or what a base image without that platform has.
    target_platform: Platform | None = None
    build_args: Mapping[str, str] = field(default_factory=dict)
    #: The stage to end with, by name (any case) or number; empty: the last one.
    target: str = ""
    #: The names of `--build-context`; a FROM, COPY --from or mount of such a name takes it before an image.
    named_contexts: frozenset[str] = frozenset()
    #: Put on the final image after its own.
    labels: Mapping[str, str] = field(default_factory=dict)
    #: Resolve the stages that the target does not need too, as `--check` without a target does.
    resolves_every_stage: bool = False
    #: Whether the context's ignore file surely hides a source of COPY, for the check CopyIgnoredFile; must not wait.
    hides_source: Callable[[str], bool] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One instruction, ready. A plain Step changes the config alone and has nothing to run."""

    instruction: Instruction
    #: The instruction on one line for progress, variables that are set put in: `RUN apt-get update`.
    title: str
    #: It came from an ONBUILD of the base.
    is_trigger: bool = False
    #: The config after this step; its last history entry is this step's if `has_history`.
    config: ImageConfig
    has_history: bool = True

    @property
    def source(self) -> Source:
        """Where to point in a message; for a trigger of a base image the FROM that brought it."""
        return self.instruction.source

    @property
    def origins(self) -> tuple[Origin, ...]:
        """What the step reads files from, in its own order."""
        return ()


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkdirStep(Step):
    """Makes a directory (0755, of the USER, case B10) with its parents, unless it is there."""

    path: str
    user: str


@dataclass(frozen=True, slots=True, kw_only=True)
class CopyStep(Step):
    """COPY and ADD."""

    origin: Origin
    #: In the order in which they are copied.
    sources: tuple[FileSource, ...]
    #: Absolute; a `/` at the end means a directory, as does `/.`.
    destination: str
    #: `user[:group]`, names of the stage's own /etc/passwd; empty: 0:0 from a context (cases B02 to B04).
    chown: str
    #: Octal, or symbolic as chmod(1) writes it (`chmod.py` applies it); empty: as the source has it.
    chmod: str
    is_linked: bool
    keeps_parents: bool
    exclude: tuple[str, ...]
    #: Local archives are unpacked by content (cases B11, B12).
    unpacks_local: bool
    unpacks_remote: bool

    @property
    def origins(self) -> tuple[Origin, ...]:
        """See `Step.origins`."""
        return (self.origin,)


@dataclass(frozen=True, slots=True, kw_only=True)
class RunStep(Step):
    """RUN."""

    argv: tuple[str, ...]
    #: The environment, `NAME=value`: the config's, then build arguments in scope. Part of the cache key.
    env: tuple[str, ...]
    #: Proxy variables of the caller, both spellings. Not in the config, the history or the cache key.
    proxy_env: tuple[str, ...]
    working_dir: str
    user: str
    mounts: tuple[Mount, ...]
    network: Network
    security: Security
    devices: tuple[Device, ...] = ()
    #: A here-document that begins with `#!`: a file (name, content), mode 0755, read-only in /dev/pipes (case B18).
    script: InlineSource | None = None

    @property
    def origins(self) -> tuple[Origin, ...]:
        """See `Step.origins`."""
        return tuple(mount.origin for mount in self.mounts if isinstance(mount, BindMount | CacheMount))


@dataclass(frozen=True, slots=True)
class PlannedStage:
    """A stage whose FROM is expanded."""

    index: int
    name: str
    base: Base
    platform: Platform


@dataclass(frozen=True, slots=True)
class Plan:
    """A parsed file with a request: what FROM lines mean, and which stages are needed as far as the file alone says."""

    parsed: ParsedFile
    request: Request
    stages: tuple[PlannedStage, ...]
    target: int
    #: The ARGs above the first FROM and the predefined ones, with their values.
    global_args: Mapping[str, str]
    warnings: tuple[Finding, ...]


@dataclass(frozen=True, slots=True)
class ResolvedStage:
    """A stage, ready to run."""

    index: int
    #: As progress shows it: the name, `stage-2`, or empty where the file has one stage only.
    name: str
    base: Base
    platform: Platform
    steps: tuple[Step, ...]
    #: The config at the end; base history first, then one entry a step that has one.
    config: ImageConfig
    #: SBOM scanning asked for by BUILDKIT_SBOM_SCAN_STAGE and BUILDKIT_SBOM_SCAN_CONTEXT.
    scans_stage: bool = False
    scans_context: bool = False

    @property
    def origins(self) -> frozenset[Origin]:
        """Everything that the stage's steps read files from, its base left out."""
        return frozenset(origin for step in self.steps for origin in step.origins)


@dataclass(frozen=True, slots=True)
class ResolvedBuild:
    """Everything the engine needs."""

    #: The needed stages, lowest index first: what a stage depends on stands before it.
    stages: tuple[ResolvedStage, ...]
    #: The index of the stage that becomes the image; it is among `stages`.
    target: int
    #: Of the whole way: reading, planning, resolving; each once, in the file's order, those skipped left out.
    warnings: tuple[Finding, ...]
    #: Build arguments that no ARG took and that are not predefined.
    unused_build_args: tuple[str, ...] = ()
