"""The graph of a build: which stages wait for which, what the steps are in order, and what a step's result depends on.

Pure. A cache key is a digest of parts: the stack of layers that the step stands on, the instruction with every word
expanded, and the exact inputs. Times are no part of it (case B05), nor are build arguments that the stage does not
declare (case B07) or the values of secrets (case B20).
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

from fluytd.builds.dockerfile.origins import (
    BindMount,
    CacheMount,
    Origin,
    SecretMount,
    SshMount,
    StageOutput,
    TmpfsMount,
)
from fluytd.builds.dockerfile.steps import CopyStep, Plan, ResolvedBuild, ResolvedStage, RunStep, Step, WorkdirStep
from fluytd.errors import BuildBaseUnavailable, BuildStepFailed, EngineError

#: Changes when what a key stands for changes.
KEY_VERSION: Final = "fluyt-step-1"
#: Characters of an instruction as progress shows it.
MAX_TITLE_CHARS: Final = 1_000


@dataclass(frozen=True, slots=True)
class StepPlace:
    """Where a step stands in the build."""

    #: From 1, over all needed stages in order; the FROM of a stage is a step too.
    number: int
    stage: int
    #: As progress shows it.
    stage_name: str
    title: str
    line: int


def stages_of_target(build: ResolvedBuild) -> frozenset[int]:
    """The stages that the image consists of: the target, what it is FROM, and so on down."""
    by_index = {stage.index: stage for stage in build.stages}
    found = {build.target}
    base = by_index[build.target].base
    while isinstance(base, StageOutput):
        found.add(base.index)
        base = by_index[base.index].base
    return frozenset(found)


def cache_mounts(build: ResolvedBuild) -> list[CacheMount]:
    """The cache mounts of all steps."""
    steps = (step for stage in build.stages for step in stage.steps if isinstance(step, RunStep))
    return [mount for step in steps for mount in step.mounts if isinstance(mount, CacheMount)]


def places(build: ResolvedBuild, after: int = 0, platform: str = "") -> tuple[tuple[StepPlace, ...], ...]:
    """For each needed stage, in order: its FROM, then its steps.

    Args:
        after: the number of the last step before them.
        platform: which of several the build is for; empty for the only one.
    """
    found: list[tuple[StepPlace, ...]] = []
    number = after
    for stage in build.stages:
        name = " ".join(part for part in (platform, stage.name or str(stage.index)) if part)
        lines = [(f"FROM {base_text(stage)}", _from_line(build, stage))]
        lines += [(step.title, step.source.start.line) for step in stage.steps]
        own: list[StepPlace] = []
        for title, line in lines:
            number += 1
            own.append(StepPlace(number, stage.index, name, one_line(title), line))
        found.append(tuple(own))
    return tuple(found)


def one_line(text: str) -> str:
    """A text as one line of bounded length."""
    line = " ".join(text.split())
    return line if len(line) <= MAX_TITLE_CHARS else line[: MAX_TITLE_CHARS - 1] + "…"


def base_text(stage: ResolvedStage) -> str:
    """What stands behind FROM."""
    return f"stage {stage.base.index}" if isinstance(stage.base, StageOutput) else _origin_text(stage.base)


def _origin_text(origin: Origin) -> str:
    return getattr(origin, "reference", "") or getattr(origin, "name", "") or "scratch"


def _from_line(build: ResolvedBuild, stage: ResolvedStage) -> int:
    return stage.steps[0].source.start.line if stage.steps and stage.steps[0].is_trigger else 0


def depends_on(stage: ResolvedStage) -> frozenset[int]:
    """The stages that must have ended before this one can: its base, and those that its steps read from."""
    origins: Iterable[Origin] = (stage.base, *stage.origins)
    return frozenset(origin.index for origin in origins if isinstance(origin, StageOutput))


def run_parts(
    step: RunStep, chain_id: str, mount_digests: Sequence[str], device_specs: Sequence[str] = ()
) -> list[str]:
    """What the result of a RUN depends on.

    Args:
        mount_digests: the content that its mounts show, in order.
        device_specs: what the host's specs say of its devices.
    """
    mounts: list[str] = []
    for mount, digest in zip(step.mounts, mount_digests, strict=True):
        match mount:
            case BindMount():
                mounts += ["bind", mount.target, str(mount.is_read_only), digest]
            case CacheMount():
                mounts += ["cache", mount.target, mount.id, str(mount.is_read_only)]
                mounts += [f"{mount.mode:o}", f"{mount.uid}:{mount.gid}", digest]
            case TmpfsMount():
                mounts += ["tmpfs", mount.target, str(mount.size_bytes)]
            case SecretMount():
                mounts += ["secret", mount.target or "", mount.env or "", mount.id, str(mount.is_required)]
                mounts += [f"{mount.mode:o}", f"{mount.uid}:{mount.gid}"]
            case SshMount():
                mounts += ["ssh", mount.target or "", mount.id, str(mount.is_required)]
                mounts += [f"{mount.mode:o}", f"{mount.uid}:{mount.gid}"]
    script = [] if step.script is None else [step.script.name, step.script.content]
    devices = [device.name for device in step.devices]
    return [
        KEY_VERSION,
        "run",
        chain_id,
        step.working_dir,
        step.user,
        step.network,
        step.security,
        *_counted(step.argv),
        *_counted(step.env),
        *_counted(mounts),
        *_counted(script),
        # Absent, not empty, so that results of steps without any are found by the keys that they have always had.
        *(["devices", *_counted(devices), *_counted(device_specs)] if devices else ()),
    ]


def copy_parts(step: CopyStep, chain_id: str, source_digests: Sequence[str]) -> list[str]:
    """What the result of a COPY or ADD depends on. A linked one stands on nothing."""
    return [
        KEY_VERSION,
        "copy",
        "" if step.is_linked else chain_id,
        step.destination,
        step.chown,
        step.chmod,
        str(step.unpacks_local),
        str(step.unpacks_remote),
        str(step.keeps_parents),
        *_counted(source_digests),
    ]


def workdir_parts(step: WorkdirStep, chain_id: str) -> list[str]:
    """What the result of a WORKDIR depends on."""
    return [KEY_VERSION, "workdir", chain_id, step.path, step.user]


def _counted(texts: Sequence[str]) -> list[str]:
    return [str(len(texts)), *texts]


def failed(place: StepPlace, error: EngineError, file: str, exit_code: int | None = None) -> BuildStepFailed:
    """The failure of a step: which, where, and why."""
    return BuildStepFailed(
        step=place.number,
        stage=place.stage_name,
        instruction=place.title[:200],
        file=file,
        line=place.line,
        exit_code="" if exit_code is None else exit_code,
        cause=error.failure.reason,
        # What to do next is the step's own to say.
        detail=error.text.format_map(error.metadata),
    )


def base_failed(plan: Plan, base: Origin, error: EngineError) -> BuildBaseUnavailable:
    """The failure of the first stage that is FROM this base: where it stands in the file, and why."""
    stage = next(stage for stage in plan.stages if stage.base == base)
    return BuildBaseUnavailable(
        file=plan.parsed.file,
        line=plan.parsed.stages[stage.index].origin.source.start.line,
        instruction=f"FROM {_origin_text(base)}"[:200],
        cause=error.failure.reason,
        detail=error.text.format_map(error.metadata),
        fix=error.failure.next_step.rstrip("."),
    )


def history_of(step: Step, created_unix_nanos: int | None, *, has_layer: bool) -> Mapping[str, object]:
    """The step's line of history as a config has it, of the time at which the newest layer up to it was made."""
    own = step.config.history[-1]
    line: dict[str, object] = {"created_by": own.created_by}
    if created_unix_nanos is not None:
        line = {"created": rfc3339(created_unix_nanos)} | line
    line |= {name: text for name, text in (("author", own.author), ("comment", own.comment)) if text}
    if not has_layer:
        line["empty_layer"] = True
    return line


def rfc3339(unix_nanos: int) -> str:
    """A time as configs have it."""
    seconds, nanos = divmod(unix_nanos, 1_000_000_000)
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%dT%H:%M:%S}.{nanos:09}Z"


def literal(path: str) -> str:
    """A path as a pattern that means that path and no other."""
    return "".join(f"\\{char}" if char in "*?[\\" else char for char in path)
